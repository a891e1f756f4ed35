/** One stroke of the brush or the eraser: it changes pixels of the original, and shows them while it is drawn. */

import { nth } from "./colors.js";
import { clipped } from "./detail.js";
import { alphas, fineness } from "./maskpictures.js";
import { tinted } from "./rle.js";
import { SpanMask } from "./spans.js";
import { toImage } from "./view.js";

/** @typedef {import("./rle.js").Region} Region */

export class Stroke {
  /**
   * @param {import("./canvas.js").Picture} picture
   * @param {import("./edits.js").Piece | null} piece  null for a new object
   * @param {boolean} on  paint, or erase
   * @param {number} size  its width in pixels of the original
   */
  constructor(picture, piece, on, size) {
    const { image, view } = picture;
    Object.assign(this, { piece, on, size });
    this.color = nth(piece?.color ?? picture.edits.pieces.length);
    this.mask = new SpanMask([image.height, image.width], piece?.area ? piece.counts : null);
    /** @type {[number, number] | null} */
    this.last = null;
    const region = clipped(toImage(view, 0, 0), toImage(view, picture.size.width, picture.size.height), image);
    /** @type {Region} the visible part of the image, which is drawn */
    this.region = region ?? { x: 0, y: 0, width: 1, height: 1 };
    const fine = fineness(this.region, view.scale * (devicePixelRatio || 1));
    this.width = Math.max(1, Math.round(this.region.width * fine));
    this.height = Math.max(1, Math.round(this.region.height * fine));
    this.pixels = new Uint8Array(this.width * this.height);
    this.canvas = new OffscreenCanvas(this.width, this.height);
    this.#show(this.region);
  }

  /** @param {[number, number]} at  the pointer is here now, in pixels of the original */
  extend(at) {
    const to = snapped(at, this.size);
    this.#show(this.mask.line(this.last ?? to, to, this.size / 2, this.on));
    this.last = to;
  }

  /** @param {any} context  in pixels of the original */
  draw(context) {
    const { canvas, region } = this;
    context.drawImage(canvas, region.x, region.y, region.width, region.height);
  }

  /** Draw what has changed. @param {Region} changed */
  #show(changed) {
    const { region, width, height } = this;
    const [fineX, fineY] = [width / region.width, height / region.height];
    const from = [(changed.x - region.x) * fineX, (changed.y - region.y) * fineY];
    const part = within(from[0] - 1, from[1] - 1, from[0] + changed.width * fineX + 1, from[1] + changed.height * fineY + 1, this);
    if (!part) return;
    this.mask.draw(region, this.pixels, width, height, part);
    const seen = grown(part, 1, this); // the edge of what lies beside it may have changed, too
    const cut = grown(part, 2, this);
    const pixels = new Uint8Array(cut.width * cut.height);
    for (let y = 0; y < cut.height; y++) {
      const start = (cut.y + y) * width + cut.x;
      pixels.set(this.pixels.subarray(start, start + cut.width), y * cut.width);
    }
    const { fill, edge } = alphas(true);
    const bytes = tinted(pixels, cut.width, cut.height, this.color, fill, edge);
    const data = new ImageData(bytes, cut.width, cut.height);
    this.canvas.getContext("2d").putImageData(data, cut.x, cut.y, seen.x - cut.x, seen.y - cut.y, seen.width, seen.height);
  }
}

/** The middle of a pixel for odd widths, a corner for even ones, so that a stroke has its width everywhere. */
function snapped([x, y], size) {
  const snap = (value) => (size % 2 ? Math.floor(value) + 0.5 : Math.round(value));
  return /** @type {[number, number]} */ ([snap(x), snap(y)]);
}

/** @returns {Region} */
function grown({ x, y, width, height }, by, whole) {
  return /** @type {Region} */ (within(x - by, y - by, x + width + by, y + height + by, whole));
}

/** Whole pixels between two corners, within a picture; null if there are none. @returns {Region | null} */
function within(left, top, right, bottom, whole) {
  return clipped([left, top], [right, bottom], whole);
}
