/** The image with its masks on a canvas: zoom, move, select. */

import { css, nth } from "./colors.js";
import { covers, raster, tinted } from "./rle.js";
import { t } from "./strings.js";
import { fitted, held, toImage, toScreen, zoomed } from "./view.js";

const GREY = /** @type {[number, number, number]} */ ([150, 150, 150]);
/** Most pixels of one mask's bitmap, so that it can be drawn within a frame. */
const MOST = 3e6;
/** CSS pixels that the mouse may move during a click. */
const STILL = 4;

export class Picture extends EventTarget {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./edits.js").Edits} edits
   */
  constructor(canvas, edits) {
    super();
    this.canvas = canvas;
    this.edits = edits;
    /** @type {ImageBitmap | null} */
    this.bitmap = null;
    this.view = { scale: 1, x: 0, y: 0 };
    this.isFitted = true;
    this.bare = false;
    this.waiting = 0;
    /** @type {WeakMap<object, {name: string, canvas: OffscreenCanvas}>} */
    this.made = new WeakMap();
    new ResizeObserver(() => this.#resized()).observe(canvas.parentElement);
    edits.addEventListener("change", () => this.redraw());
    this.#listen();
  }

  /** @param {ImageBitmap | null} bitmap  perhaps smaller than the image */
  show(bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.fit();
  }

  /** Replace the bitmap with a finer one. */
  refine(bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.redraw();
  }

  get image() {
    const size = this.edits.image?.size;
    return size ? { width: size[1], height: size[0] } : null;
  }

  get room() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  fit() {
    this.isFitted = true;
    if (this.image) this.view = fitted(this.image, this.room);
    this.redraw();
  }

  /** Show an object large, with its surroundings. @param {number[] | null} box */
  focus(box) {
    if (!box || !this.image) return;
    const [width, height] = [Math.max(8, box[2] - box[0]), Math.max(8, box[3] - box[1])];
    const scale = Math.min(this.room.width / (2.2 * width), this.room.height / (2.2 * height), 16);
    const whole = fitted(this.image, this.room);
    if (scale <= whole.scale) return this.fit();
    this.#look({
      scale,
      x: this.room.width / 2 - scale * (box[0] + box[2]) / 2,
      y: this.room.height / 2 - scale * (box[1] + box[3]) / 2,
    });
  }

  zoom(factor, x = this.room.width / 2, y = this.room.height / 2) {
    if (!this.image) return;
    this.#look(zoomed(this.view, factor, x, y, Math.min(1, fitted(this.image, this.room).scale) / 2));
  }

  redraw() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.#draw();
    });
  }

  /** The smallest object at a point of the image, kept ones first. @returns {any} */
  at(x, y) {
    const inside = ({ box }) => box && x >= box[0] && y >= box[1] && x < box[2] && y < box[3];
    const hits = this.edits.pieces.filter((one) => inside(one) && covers(one, x, y));
    return hits.sort((a, b) => Number(b.kept) - Number(a.kept) || a.area - b.area)[0] ?? null;
  }

  #look(view) {
    this.isFitted = false;
    this.view = held(view, this.image, this.room);
    this.dispatchEvent(new Event("look"));
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
    const { image } = this;
    if (!image) return;
    const { scale, x, y } = this.view;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    if (this.bitmap) context.drawImage(this.bitmap, 0, 0, image.width, image.height);
    const pieces = this.bare ? [] : [...this.edits.others, ...this.edits.kept.sort((a, b) => b.area - a.area)];
    for (const piece of pieces) this.#drawMask(context, piece, scale * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const piece of pieces) if (piece.kept || this.edits.selected.has(piece.id)) this.#drawTag(context, piece);
    Object.assign(this.canvas.dataset, { scale, x, y, key: this.edits.image.item.key });
  }

  #drawMask(context, piece, scale) {
    if (!piece.box) return;
    const [x, y] = [Math.floor(piece.box[0]), Math.floor(piece.box[1])];
    const region = { x, y, width: Math.ceil(piece.box[2]) - x, height: Math.ceil(piece.box[3]) - y };
    const strong = this.edits.selected.has(piece.id);
    const picture = this.#paint(piece, region, scale, strong);
    context.drawImage(picture, region.x, region.y, region.width, region.height);
  }

  #paint(piece, region, scale, strong) {
    let fine = Math.min(1, 2 ** Math.ceil(Math.log2(scale)));
    while (region.width * region.height * fine * fine > MOST) fine /= 2;
    const name = `${fine} ${strong} ${piece.kept}`;
    const known = this.made.get(piece);
    if (known?.name === name) return known.canvas;
    const width = Math.max(1, Math.round(region.width * fine));
    const height = Math.max(1, Math.round(region.height * fine));
    const [fill, edge] = piece.kept ? (strong ? [120, 255] : [64, 200]) : (strong ? [90, 255] : [0, 220]);
    const color = piece.kept ? nth(piece.color) : GREY;
    const pixels = tinted(raster(piece, region, width, height), width, height, color, fill, edge);
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    this.made.set(piece, { name, canvas });
    return canvas;
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

  #listen() {
    const { canvas } = this;
    let from = null;
    const place = (event) => {
      const { left, top } = canvas.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(2 ** (-event.deltaY / 300), ...place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      from = { at: place(event), view: this.view, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || !this.image) return;
      const [x, y] = place(event);
      const [dx, dy] = [x - from.at[0], y - from.at[1]];
      from.moved ||= Math.hypot(dx, dy) > STILL;
      if (from.moved) this.#look({ ...from.view, x: from.view.x + dx, y: from.view.y + dy });
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && !from.moved) {
        const found = this.at(...toImage(this.view, ...place(event)));
        this.edits.select(found?.id ?? null, event.shiftKey || event.ctrlKey || event.metaKey);
      }
      from = null;
    });
    canvas.addEventListener("pointercancel", () => (from = null));
  }
}
