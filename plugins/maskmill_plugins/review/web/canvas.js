/** The image with its masks on a canvas, and what is being drawn on it. */

import { css, nth } from "./colors.js";
import { drawBox, drawPoint } from "./marks.js";
import { MaskPictures } from "./maskpictures.js";
import { covers } from "./rle.js";
import { t } from "./strings.js";
import { toScreen } from "./view.js";
import { Viewport } from "./viewport.js";

const GREY = /** @type {[number, number, number]} */ ([150, 150, 150]);

export class Picture extends Viewport {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./edits.js").Edits} edits
   */
  constructor(canvas, edits) {
    super(canvas);
    this.edits = edits;
    this.pictures = new MaskPictures();
    /** @type {import("./stroke.js").Stroke | null} of the brush, drawn in place of its object */
    this.stroke = null;
    /** @type {any} a box that is being drawn */
    this.drawing = null;
    /** @type {{x: number, y: number, size: number, on: boolean} | null} the brush, in CSS pixels */
    this.brush = null;
    /** @type {any} the last image, with its width and height */
    this.known = null;
    edits.addEventListener("change", () => this.redraw());
  }

  get image() {
    const image = this.edits.image;
    if (!image) return null;
    if (this.known?.sent !== image) this.known = { sent: image, key: image.item.key, width: image.size[1], height: image.size[0] };
    return this.known;
  }

  /** The smallest object at a point of the image, kept ones first. @returns {any} */
  at(x, y) {
    const inside = ({ box }) => box && x >= box[0] && y >= box[1] && x < box[2] && y < box[3];
    const hits = this.edits.pieces.filter((one) => inside(one) && covers(one, x, y));
    return hits.sort((a, b) => Number(b.kept) - Number(a.kept) || a.area - b.area)[0] ?? null;
  }

  paint(context, ratio) {
    const pieces = this.bare ? [] : [...this.edits.others, ...this.edits.kept.sort((a, b) => b.area - a.area)];
    for (const piece of pieces) if (piece !== this.stroke?.piece) this.#drawMask(context, piece, this.view.scale * ratio);
    this.stroke?.draw(context);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const piece of pieces) if (piece.kept || this.edits.selected.has(piece.id)) this.#drawTag(context, piece);
    this.#drawPrompt(context);
    if (this.brush) drawBrush(context, this.brush);
    this.canvas.dataset.key = this.image.key;
  }

  #drawMask(context, piece, scale) {
    const color = piece.kept ? nth(piece.color) : GREY;
    const strong = this.edits.selected.has(piece.id);
    const { canvas, region } = this.pictures.tinted(piece, scale, color, strong, !piece.kept);
    if (canvas) context.drawImage(canvas, region.x, region.y, region.width, region.height);
  }

  /** Points and box of the selected object, as far as they were drawn here. */
  #drawPrompt(context) {
    const piece = this.edits.target;
    if (this.drawing) drawBox(context, this.view, this.drawing, css(nth(this.edits.pieces.length)), true, false);
    if (!piece?.prompted || this.bare) return;
    if (piece.drawn && piece.waiting) drawBox(context, this.view, piece.drawn, css(nth(piece.color)), true, false);
    for (const [x, y, on] of piece.points) drawPoint(context, toScreen(this.view, x, y), on);
  }

  #drawTag(context, piece) {
    if (!piece.box) return;
    const [left, top] = toScreen(this.view, piece.box[0], piece.box[1]);
    const text = [piece.label ?? t("noLabel"), piece.score === null ? "" : piece.score.toFixed(2)].filter(Boolean).join(" ");
    const strong = this.edits.selected.has(piece.id);
    context.font = `${strong ? 600 : 400} 12px system-ui, sans-serif`;
    const width = context.measureText(text).width + 10;
    const y = Math.max(2, top - 19);
    context.fillStyle = "rgb(20 22 26 / .8)";
    context.fillRect(left, y, width, 17);
    context.fillStyle = css(piece.kept ? nth(piece.color) : GREY);
    context.fillRect(left, y, 3, 17);
    context.fillStyle = "#fff";
    context.fillText(text, left + 6, y + 12.5);
  }
}

/** The circle that the brush would paint, visible on light and dark; dashed for the eraser. */
function drawBrush(context, { x, y, size, on }) {
  for (const [color, width] of [["rgb(0 0 0 / .6)", 3], ["#fff", 1.25]]) {
    context.beginPath();
    context.arc(x, y, Math.max(1, size / 2), 0, 2 * Math.PI);
    context.strokeStyle = color;
    context.lineWidth = width;
    context.setLineDash(on ? [] : [4, 3]);
    context.stroke();
  }
  context.setLineDash([]);
}
