/** What is at a place on the screen: a point, an edge or corner of the box, a name tag, a mask. */

import { covers } from "./rle.js";
import { toScreen } from "./view.js";

/** CSS pixels around a corner or a point, and around an edge, in which it can be grabbed. */
const REACH = { mouse: 8, pen: 11, touch: 22 };
const EDGE = { mouse: 4, pen: 6, touch: 12 };

/** @typedef {import("./stage.js").Stage} Stage */
/** @typedef {import("./prompts.js").Thing} Thing */
/** @typedef {{left: boolean, top: boolean, right: boolean, bottom: boolean}} Sides  that move */

/** @returns {number | null} the number of the active object's point here */
export function pointAt({ editor: { active }, view }, x, y, pointer) {
  if (!active) return null;
  const far = active.points.map(([px, py]) => {
    const [sx, sy] = toScreen(view, px, py);
    return Math.hypot(sx - x, sy - y);
  });
  const least = Math.min(...far);
  return least <= (REACH[pointer] ?? REACH.mouse) ? far.indexOf(least) : null;
}

/** @returns {Sides | null} the sides of the active box that a drag from here moves: two at a corner, one at an edge */
export function sidesAt({ editor: { active }, view }, x, y, pointer) {
  if (!active?.box) return null;
  const [left, top] = toScreen(view, active.box[0], active.box[1]);
  const [right, bottom] = toScreen(view, active.box[2], active.box[3]);
  const corner = REACH[pointer] ?? REACH.mouse;
  const edge = EDGE[pointer] ?? EDGE.mouse;
  const near = (at, side, reach) => Math.abs(at - side) <= reach;
  const nearest = (at, low, high, reach) => {
    const isLow = near(at, low, reach) && Math.abs(at - low) <= Math.abs(at - high);
    return [isLow, !isLow && near(at, high, reach)];
  };
  const [cornerLeft, cornerRight] = nearest(x, left, right, corner);
  const [cornerTop, cornerBottom] = nearest(y, top, bottom, corner);
  if ((cornerLeft || cornerRight) && (cornerTop || cornerBottom)) {
    return { left: cornerLeft, right: cornerRight, top: cornerTop, bottom: cornerBottom };
  }
  const [edgeLeft, edgeRight] = y > top && y < bottom ? nearest(x, left, right, edge) : [false, false];
  const [edgeTop, edgeBottom] = x > left && x < right ? nearest(y, top, bottom, edge) : [false, false];
  if (!(edgeLeft || edgeRight || edgeTop || edgeBottom)) return null;
  return { left: edgeLeft, right: edgeRight, top: edgeTop, bottom: edgeBottom };
}

/** @returns {number | null} uid of the object whose name tag is here */
export function tagAt({ tags }, x, y) {
  const hit = ({ left, top, right, bottom }) => x >= left && x <= right && y >= top && y <= bottom;
  return [...tags].reverse().find(([, rect]) => hit(rect))?.[0] ?? null;
}

/**
 * The visible object with the smallest mask that covers a place; of equal ones the active one.
 * @param {Stage} stage
 * @param {[number, number]} at  in pixels of the original
 * @returns {Thing | null}
 */
export function objectAt({ editor, live, bare }, [x, y]) {
  let found = null;
  let least = Infinity;
  for (const object of bare ? [] : editor.objects) {
    if (editor.hidden.has(object.uid)) continue;
    for (const mask of live.masks(object)) {
      const [left, top, right, bottom] = mask.box ?? [1, 1, 0, 0];
      if (x < left || y < top || x > right || y > bottom || !covers(mask, x, y)) continue;
      if (mask.area < least || (mask.area === least && object.uid === editor.state.active)) {
        found = object;
        least = mask.area;
      }
    }
  }
  return found;
}

/** @param {Sides | null} sides @returns {string} the name of a CSS cursor */
export function resizing(sides) {
  if (!sides) return "";
  const { left, top, right, bottom } = sides;
  if ((left && top) || (right && bottom)) return "nwse-resize";
  if ((right && top) || (left && bottom)) return "nesw-resize";
  return left || right ? "ew-resize" : "ns-resize";
}
