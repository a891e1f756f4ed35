/** What is drawn over the masks: boxes, points, and the name tags of objects. In CSS pixels of the canvas. */

import { toScreen } from "./view.js";

/** Half of a corner's handle. */
const HANDLE = 4.5;
const POINT = 5.5;
const TAG = { height: 18, padding: 6, most: 180, mostWithNote: 420, font: "600 12px system-ui, sans-serif" };

/** @typedef {import("./view.js").View} View */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Rect */

/** @param {boolean} handles  at the corners, to be dragged */
export function drawBox(context, view, box, color, active, handles) {
  const [left, top] = toScreen(view, box[0], box[1]);
  const [right, bottom] = toScreen(view, box[2], box[3]);
  context.lineWidth = active ? 3.5 : 2.5;
  context.strokeStyle = "rgb(0 0 0 / .35)";
  context.strokeRect(left, top, right - left, bottom - top);
  context.lineWidth = active ? 2 : 1.25;
  context.strokeStyle = color;
  context.setLineDash(active ? [] : [5, 4]);
  context.strokeRect(left, top, right - left, bottom - top);
  context.setLineDash([]);
  if (!handles) return;
  context.fillStyle = "#fff";
  for (const [x, y] of [[left, top], [right, top], [left, bottom], [right, bottom]]) {
    context.fillRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
    context.strokeRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
  }
}

/** A plus on green, or a minus on red: not distinguished by colour alone. */
export function drawPoint(context, [x, y], on) {
  context.beginPath();
  context.arc(x, y, POINT, 0, 2 * Math.PI);
  context.fillStyle = on ? "#12823f" : "#c62828";
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = "#fff";
  context.stroke();
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (on) {
    context.moveTo(x, y - 3);
    context.lineTo(x, y + 3);
  }
  context.stroke();
}

/**
 * The name of an object above the top left corner of its extent, inside it where there is no room above.
 * @param {number[]} extent  x1, y1, x2, y2 in pixels of the original
 * @param {string} color
 * @param {string} [note]  after the name
 * @returns {Rect} where it is drawn
 */
export function drawTag(context, view, extent, name, color, strong, note = "") {
  const [x, y] = toScreen(view, extent[0], extent[1]);
  context.font = TAG.font;
  const title = shortened(context, name, TAG.most);
  const text = note ? shortened(context, `${title} · ${note}`, TAG.mostWithNote) : title;
  const width = context.measureText(text).width + 2 * TAG.padding;
  const left = Math.max(2, Math.min(x, context.canvas.clientWidth - width - 2));
  const top = y - TAG.height - 3 < 2 ? Math.max(2, y + 3) : y - TAG.height - 3;
  context.globalAlpha = strong ? 1 : 0.8;
  context.beginPath();
  context.roundRect(left, top, width, TAG.height, 4);
  context.fillStyle = "#14161a";
  context.fill();
  context.fillStyle = color;
  context.fillRect(left, top + 3, 3, TAG.height - 6);
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.fillText(text, left + TAG.padding, top + TAG.height / 2 + 0.5);
  context.globalAlpha = 1;
  return { left, top, right: left + width, bottom: top + TAG.height };
}

function shortened(context, name, most) {
  if (context.measureText(name).width <= most) return name;
  const letters = [...name];
  while (letters.length > 1 && context.measureText(`${letters.join("")}…`).width > most) letters.pop();
  return `${letters.join("")}…`;
}
