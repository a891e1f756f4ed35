/** The selected object on a transparent background, updated live. */

import { byId } from "./dom.js";
import { shape } from "./maskpictures.js";

/** Longer side of the cut-out in device pixels. */
const SIDE = 560;

export class Cutout {
  /** @param {import("./stage.js").Stage} stage */
  constructor(stage) {
    this.stage = stage;
    this.canvas = byId("cutout");
    /** @type {unknown[]} what is shown */
    this.shown = [];
    stage.drawn.push(() => this.#draw());
  }

  #draw() {
    const { editor, live, bitmap } = this.stage;
    const object = editor.drawing ?? editor.active;
    const masks = object ? live.masks(object).filter((mask) => mask.area) : [];
    const now = [bitmap, ...masks];
    if (now.length === this.shown.length && now.every((one, at) => one === this.shown[at])) return;
    this.shown = now;
    const mask = masks[0];
    this.canvas.hidden = !mask || !bitmap;
    byId("no-cutout").hidden = !this.canvas.hidden;
    if (!this.canvas.hidden) cutOut(this.canvas, mask, bitmap, editor.image);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./live.js").Mask} mask
 * @param {ImageBitmap} bitmap  the picture, perhaps smaller than the original
 * @param {{width: number, height: number}} image  the original's size
 */
function cutOut(canvas, mask, bitmap, image) {
  const [left, top, right, bottom] = /** @type {number[]} */ (mask.box);
  const scale = Math.min(8, SIDE / Math.max(right - left, bottom - top));
  const { canvas: form, region } = shape(mask, scale);
  canvas.width = Math.max(1, Math.round(region.width * scale));
  canvas.height = Math.max(1, Math.round(region.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(form, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-in";
  context.setTransform(scale, 0, 0, scale, -region.x * scale, -region.y * scale);
  context.drawImage(bitmap, 0, 0, image.width, image.height);
}
