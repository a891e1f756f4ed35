/** The image with its masks, boxes and points, on one canvas. */

import { css, DROPPED, nth } from "./colors.js";
import { drawBox, drawPoint, drawTag } from "./marks.js";
import { MaskPictures } from "./maskpictures.js";
import { nameOf, noteOf } from "./names.js";
import { fitted, held, toScreen, zoomed } from "./view.js";

/** Performance mark: the mouse button was released. */
export const RELEASED = "maskmill-pointer-up";

export class Stage {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./editor.js").Editor} editor
   * @param {import("./live.js").LiveMasks} live
   */
  constructor(canvas, editor, live) {
    this.canvas = canvas;
    this.editor = editor;
    this.live = live;
    this.pictures = new MaskPictures();
    /** @type {ImageBitmap | null} */
    this.bitmap = null;
    /** @type {import("./detail.js").Part | null} real pixels of a part, drawn over the bitmap */
    this.detail = null;
    this.view = { scale: 1, x: 0, y: 0 };
    this.isFitted = true;
    this.bare = false;
    /** Whether objects of one label have one colour. */
    this.byLabel = false;
    /** @type {string[]} in the order of their colours */
    this.labels = [];
    /** @type {Map<number, import("./marks.js").Rect>} where the name tags are, by uid */
    this.tags = new Map();
    this.waiting = 0;
    /** @type {(() => void)[]} called after each drawing */
    this.drawn = [];
    new ResizeObserver(() => this.#resized()).observe(canvas.parentElement);
    for (const event of ["change", "drag", "hover"]) editor.addEventListener(event, () => this.redraw());
    live.addEventListener("masks", () => this.redraw());
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

  fit() {
    this.isFitted = true;
    if (this.editor.image) this.view = fitted(this.editor.image, this.size);
    this.redraw();
  }

  /** @param {number} factor */
  zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
    if (!this.editor.image) return;
    const smallest = Math.min(1, fitted(this.editor.image, this.size).scale) / 2;
    this.#look(zoomed(this.view, factor, x, y, smallest));
  }

  pan(x, y) {
    if (this.editor.image) this.#look({ ...this.view, x: this.view.x + x, y: this.view.y + y });
  }

  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
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
    this.view = held(view, this.editor.image, this.size);
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
    if (this.editor.image) this.#drawImage(context, ratio);
    for (const call of this.drawn) call();
    this.#measure();
  }

  #drawImage(context, ratio) {
    const { image } = this.editor;
    const { scale, x, y } = this.view;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    if (this.bitmap) context.drawImage(this.bitmap, 0, 0, image.width, image.height);
    if (this.detail) {
      const { bitmap, region } = this.detail;
      context.drawImage(bitmap, region.x, region.y, region.width, region.height);
    }
    const shown = this.bare ? [] : this.editor.shown.filter((object) => !this.editor.hidden.has(object.uid));
    for (const object of shown) this.#drawMasks(context, object, scale * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const object of shown) this.#drawPrompt(context, object);
    this.tags.clear();
    for (const object of shown) this.#drawTag(context, object);
    Object.assign(this.canvas.dataset, { scale, x, y });
  }

  /** Performance measure: from releasing the mouse button to the mask of exactly that prompt. */
  #measure() {
    const { active } = this.editor;
    const [mark] = performance.getEntriesByName(RELEASED);
    if (!mark || !active || this.editor.drawing || !this.live.answer(active)?.masks) return;
    performance.measure("maskmill-mask", { start: mark.startTime, end: performance.now() });
    performance.clearMarks(RELEASED);
  }

  #drawMasks(context, object, scale) {
    const strong = this.#isActive(object) || object.uid === this.editor.hovered;
    const color = this.color(object);
    for (const mask of this.live.masks(object)) {
      const { canvas, region } = this.pictures.tinted(mask, scale, mask.dropped ? DROPPED : color, strong);
      if (canvas) context.drawImage(canvas, region.x, region.y, region.width, region.height);
    }
  }

  #isActive(object) {
    return object.uid === (this.editor.drawing?.uid ?? this.editor.state.active);
  }

  /** @returns {[number, number, number]} */
  color(object) {
    if (this.byLabel && object.label !== null) return nth(Math.max(0, this.labels.indexOf(object.label)));
    const number = this.editor.shown.findIndex((one) => one.uid === object.uid);
    return nth(Math.max(0, number));
  }

  #drawPrompt(context, object) {
    const active = this.#isActive(object);
    const color = css(this.color(object));
    if (object.box) drawBox(context, this.view, object.box, color, active, active && !this.editor.drawing);
    if (!active) return;
    for (const [x, y, on] of object.points) drawPoint(context, toScreen(this.view, x, y), on);
  }
  /** The name tag, above the box or the mask. */
  #drawTag(context, object) {
    const extent = object.box ?? this.live.masks(object).find((mask) => mask.area)?.box;
    if (!extent || object.uid === this.editor.drawing?.uid) return;
    const strong = this.#isActive(object) || object.uid === this.editor.hovered;
    const color = css(this.color(object));
    this.tags.set(object.uid, drawTag(context, this.view, extent, nameOf(this.editor, object), color, strong, noteOf(this.live, object, strong)));
  }
}
