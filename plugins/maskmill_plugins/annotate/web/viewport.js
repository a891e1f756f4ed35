/** An image on a canvas that can be zoomed and moved; what is drawn over it is up to its subclasses. */

import { fitted, held, zoomed } from "./view.js";

/** How many times larger than an object the canvas is when the object is shown large. */
const FOCUS = 2.2;
/** CSS pixels for one of the original then, at most. */
const FOCUS_MOST = 16;

export class Viewport {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    /** @type {ImageBitmap | null} the image, perhaps smaller than the original */
    this.bitmap = null;
    /** @type {import("./detail.js").Part | null} real pixels of a part, drawn over the bitmap */
    this.detail = null;
    this.view = { scale: 1, x: 0, y: 0 };
    this.isFitted = true;
    /** Whether only the image is shown. */
    this.bare = false;
    this.waiting = 0;
    /** @type {(() => void)[]} called after each drawing */
    this.drawn = [];
    new ResizeObserver(() => this.#resized()).observe(canvas.parentElement);
  }

  /** @returns {any} the open image, with `width` and `height` of the original; null if there is none */
  get image() {
    return null;
  }

  /** Draw over the image, in pixels of the original. @param {any} context @param {number} ratio  device pixels for a CSS pixel */
  paint(context, ratio) {
    void [context, ratio];
  }

  /** @param {ImageBitmap | null} bitmap  the image, perhaps smaller than the original */
  show(bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.refine(null);
    this.fit();
  }

  /** @param {import("./detail.js").Part | null} detail */
  refine(detail) {
    this.detail?.bitmap.close();
    this.detail = detail;
    this.redraw();
  }

  /** In CSS pixels. */
  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  fit() {
    this.isFitted = true;
    if (this.image) this.view = fitted(this.image, this.size);
    this.redraw();
  }

  /** @param {number} factor */
  zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
    if (!this.image) return;
    const smallest = Math.min(1, fitted(this.image, this.size).scale) / 2;
    this.#look(zoomed(this.view, factor, x, y, smallest));
  }

  pan(x, y) {
    if (this.image) this.#look({ ...this.view, x: this.view.x + x, y: this.view.y + y });
  }

  /** Show a box large, with its surroundings. @param {number[] | null} box  x1, y1, x2, y2 */
  focus(box) {
    if (!box || !this.image) return;
    const { width, height } = this.size;
    const [wide, high] = [Math.max(8, box[2] - box[0]), Math.max(8, box[3] - box[1])];
    const scale = Math.min(width / (FOCUS * wide), height / (FOCUS * high), FOCUS_MOST);
    if (scale <= fitted(this.image, this.size).scale) return this.fit();
    this.#look({ scale, x: width / 2 - scale * (box[0] + box[2]) / 2, y: height / 2 - scale * (box[1] + box[3]) / 2 });
  }

  /** Draw in the next frame. */
  redraw() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.#draw();
    });
  }

  #look(view) {
    this.isFitted = false;
    this.view = held(view, this.image, this.size);
    this.redraw();
  }

  #resized() {
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.isFitted) this.fit();
    this.#draw(); // immediately: a resized canvas is blank
  }

  #draw() {
    const context = this.canvas.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.image) this.#drawImage(context, ratio);
    for (const call of this.drawn) call();
  }

  #drawImage(context, ratio) {
    const { image, view: { scale, x, y } } = this;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    if (this.bitmap) context.drawImage(this.bitmap, 0, 0, image.width, image.height);
    if (this.detail) {
      const { bitmap, region } = this.detail;
      context.drawImage(bitmap, region.x, region.y, region.width, region.height);
    }
    this.paint(context, ratio);
    Object.assign(this.canvas.dataset, { scale, x, y });
  }
}
