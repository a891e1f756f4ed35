/** The image with its masks, boxes and points, on one canvas. */

import { css, DROPPED, nth } from "./colors.js";
import { drawBox, drawPoint, drawTag } from "./marks.js";
import { MaskPictures } from "./maskpictures.js";
import { nameOf, noteOf } from "./names.js";
import { toScreen } from "./view.js";
import { Viewport } from "./viewport.js";

/** Performance mark: the mouse button was released. */
export const RELEASED = "maskmill-pointer-up";

export class Stage extends Viewport {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./editor.js").Editor} editor
   * @param {import("./live.js").LiveMasks} live
   */
  constructor(canvas, editor, live) {
    super(canvas);
    this.editor = editor;
    this.live = live;
    this.pictures = new MaskPictures();
    /** Whether objects of one label have one colour. */
    this.byLabel = false;
    /** @type {string[]} in the order of their colours */
    this.labels = [];
    /** @type {Map<number, import("./marks.js").Rect>} where the name tags are, by uid */
    this.tags = new Map();
    for (const event of ["change", "drag", "hover"]) editor.addEventListener(event, () => this.redraw());
    live.addEventListener("masks", () => this.redraw());
    this.drawn.push(() => this.#measure());
  }

  get image() {
    return this.editor.image;
  }

  paint(context, ratio) {
    const shown = this.bare ? [] : this.editor.shown.filter((object) => !this.editor.hidden.has(object.uid));
    for (const object of shown) this.#drawMasks(context, object, this.view.scale * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const object of shown) this.#drawPrompt(context, object);
    this.tags.clear();
    for (const object of shown) this.#drawTag(context, object);
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
