/** The image with its masks, boxes and points, on one canvas. */

import { css, nth } from "./colors.js";
import { MaskPictures } from "./maskpictures.js";
import { fitted, held, toScreen, zoomed } from "./view.js";

/** Performance mark: the mouse button was released. */
export const RELEASED = "maskmill-pointer-up";
/** Half of a corner's handle in CSS pixels. */
const HANDLE = 4.5;
const POINT = 5.5;

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
    this.view = { scale: 1, x: 0, y: 0 };
    this.isFitted = true;
    this.bare = false;
    this.waiting = 0;
    /** @type {(() => void)[]} called after each drawing */
    this.drawn = [];
    new ResizeObserver(() => this.#resized()).observe(canvas.parentElement);
    for (const event of ["change", "drag"]) editor.addEventListener(event, () => this.redraw());
    live.addEventListener("masks", () => this.redraw());
  }

  /** @param {ImageBitmap | null} bitmap  the image, perhaps smaller than the original */
  show(bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.fit();
  }

  /** Replace the bitmap with a finer one of the same image. */
  refine(bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
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
    const shown = this.bare ? [] : this.editor.shown.filter((object) => !this.editor.hidden.has(object.uid));
    for (const object of shown) this.#drawMasks(context, object, scale * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const object of shown) this.#drawPrompt(context, object);
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
    const active = object.uid === (this.editor.drawing?.uid ?? this.editor.state.active);
    const color = this.color(object);
    for (const mask of this.live.masks(object)) {
      const { canvas, region } = this.pictures.tinted(mask, scale, color, active);
      if (canvas) context.drawImage(canvas, region.x, region.y, region.width, region.height);
    }
  }

  /** @returns {[number, number, number]} */
  color(object) {
    const number = this.editor.shown.findIndex((one) => one.uid === object.uid);
    return nth(Math.max(0, number));
  }

  #drawPrompt(context, object) {
    const active = object.uid === (this.editor.drawing?.uid ?? this.editor.state.active);
    const color = css(this.color(object));
    if (object.box) this.#drawBox(context, object.box, color, active);
    if (!active) return;
    for (const [x, y, on] of object.points) this.#drawPoint(context, toScreen(this.view, x, y), on);
  }

  #drawBox(context, box, color, active) {
    const [left, top] = toScreen(this.view, box[0], box[1]);
    const [right, bottom] = toScreen(this.view, box[2], box[3]);
    context.lineWidth = active ? 3.5 : 2.5;
    context.strokeStyle = "rgb(0 0 0 / .35)";
    context.strokeRect(left, top, right - left, bottom - top);
    context.lineWidth = active ? 2 : 1.25;
    context.strokeStyle = color;
    context.setLineDash(active ? [] : [5, 4]);
    context.strokeRect(left, top, right - left, bottom - top);
    context.setLineDash([]);
    if (!active || this.editor.drawing) return;
    context.fillStyle = "#fff";
    for (const [x, y] of [[left, top], [right, top], [left, bottom], [right, bottom]]) {
      context.fillRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
      context.strokeRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
    }
  }

  /** A plus on green, or a minus on red: not distinguished by colour alone. */
  #drawPoint(context, [x, y], on) {
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
}
