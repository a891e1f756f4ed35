/**
 * What the mouse, a pen or a finger does on the image: select, paint, erase, or draw a prompt for the model.
 *
 * Events: "tool" (another one, or another size of the brush), "refused" (detail: the name of a text that says why).
 */

import { Navigation } from "./navigation.js";
import { boxBetween, inside } from "./prompts.js";
import { Stroke } from "./stroke.js";
import { toImage } from "./view.js";

/** @typedef {"select" | "brush" | "erase" | "add" | "off" | "box"} Tool */

/** CSS pixels that a click may move, by type of pointer. */
const SLACK = { mouse: 4, pen: 6, touch: 10 };
/** CSS pixels of a box's longer side, below which a drag is a click. */
const CLICK = 8;
/** CSS pixels of the brush. */
const SIZE = { least: 2, usual: 24, most: 400, step: 1.25 };

export class Tools extends EventTarget {
  /**
   * @param {import("./canvas.js").Picture} picture
   * @param {import("./clicks.js").Clicks} clicks
   */
  constructor(picture, clicks) {
    super();
    this.picture = picture;
    this.edits = picture.edits;
    this.clicks = clicks;
    this.navigation = new Navigation(picture);
    /** @type {Tool} */
    this.tool = "select";
    this.size = SIZE.usual;
    /** Whether space is held, which moves the image. */
    this.grabbing = false;
    /** @type {any} */
    this.gesture = null;
    const { canvas } = picture;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#gone(event));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    this.edits.addEventListener("change", () => this.#isOutdated && this.cancel());
    this.#cursor();
  }

  /** @param {Tool} tool */
  take(tool) {
    this.cancel();
    this.tool = tool;
    this.#cursor();
    this.#hover(null);
    this.dispatchEvent(new Event("tool"));
  }

  /** The brush's width in pixels of the original: it keeps its size on the screen. */
  get width() {
    return Math.max(1, Math.round(this.size / this.picture.view.scale));
  }

  /** @param {number} steps  larger, or smaller if negative */
  resize(steps) {
    this.size = Math.min(SIZE.most, Math.max(SIZE.least, this.size * SIZE.step ** steps));
    if (this.picture.brush) this.picture.brush.size = this.#shownWidth;
    this.picture.redraw();
    this.dispatchEvent(new Event("tool"));
  }

  /** @param {boolean} held */
  grab(held) {
    this.grabbing = held;
    this.#cursor();
  }

  /** End what is being drawn, without a result. @returns {boolean} whether something was */
  cancel() {
    const { gesture } = this;
    this.gesture = null;
    this.picture.stroke = null;
    this.picture.drawing = null;
    this.picture.redraw();
    return Boolean(gesture);
  }

  /** Where the brush is. */
  get #shownWidth() {
    return this.width * this.picture.view.scale;
  }

  /** Whether what is being drawn is for another image, or for an object that was changed or removed meanwhile. */
  get #isOutdated() {
    const piece = this.picture.stroke?.piece;
    return this.gesture && (this.gesture.image !== this.edits.image || (piece && !this.edits.pieces.includes(piece)));
  }

  #cursor() {
    const { canvas } = this.picture;
    canvas.dataset.cursor = this.grabbing || this.tool === "select" ? "grab" : "box";
  }

  /** @param {PointerEvent | null} event  null: the pointer is gone */
  #hover(event) {
    const paints = this.tool === "brush" || this.tool === "erase";
    const shown = event && paints && this.edits.image && !this.grabbing;
    if (!shown && !this.picture.brush) return;
    const [x, y] = event ? this.navigation.at(event) : [0, 0];
    this.picture.brush = shown ? { x, y, size: this.#shownWidth, on: (this.tool === "brush") !== event.shiftKey } : null;
    this.picture.redraw();
  }

  #down(event) {
    if (!this.edits.image) return;
    this.picture.canvas.focus({ preventScroll: true });
    this.picture.canvas.setPointerCapture(event.pointerId);
    const [x, y] = this.navigation.at(event);
    if (this.navigation.down(event)) {
      this.cancel();
      this.gesture = { kind: "pinch", image: this.edits.image };
    } else if (!this.gesture) {
      this.gesture = this.#begin(event, { x, y, moved: false, image: this.edits.image });
    }
  }

  #begin(event, plain) {
    if (event.button === 1 || this.grabbing) return { kind: "pan", ...plain };
    const also = event.ctrlKey || event.metaKey;
    if (this.tool === "select" || also) return { kind: "select", also: also || event.shiftKey, ...plain };
    const opposite = event.button === 2 || event.shiftKey;
    if (this.tool === "box") return { kind: "box", anchor: toImage(this.picture.view, plain.x, plain.y), ...plain };
    if (this.tool === "add" || this.tool === "off") return { kind: "click", on: (this.tool === "add") !== opposite, ...plain };
    return this.#beginStroke((this.tool === "brush") !== opposite, plain);
  }

  #beginStroke(on, plain) {
    const { edits, picture } = this;
    const why = edits.selected.size > 1 ? "selectOne" : !on && !edits.target ? "selectToErase" : "";
    if (why) return this.#refuse(why);
    picture.stroke = new Stroke(picture, edits.target, on, this.width);
    picture.stroke.extend(toImage(picture.view, plain.x, plain.y));
    picture.redraw();
    return { kind: "stroke", ...plain };
  }

  #move(event) {
    const { gesture, picture } = this;
    const [x, y] = this.navigation.at(event);
    this.#hover(event.pointerType === "touch" ? null : event);
    if (!gesture) return;
    if (gesture.kind === "pinch") return this.navigation.pinch(event);
    if (gesture.kind === "stroke") return this.#paint(event);
    gesture.moved ||= Math.hypot(x - gesture.x, y - gesture.y) > (SLACK[event.pointerType] ?? 4);
    if (!gesture.moved) return;
    if (gesture.kind === "box") {
      picture.drawing = boxBetween(gesture.anchor, toImage(picture.view, x, y), picture.image);
      picture.redraw();
    } else {
      picture.pan(x - gesture.x, y - gesture.y);
      Object.assign(gesture, { x, y });
    }
  }

  /** Every place where the pointer was since the last event, so that fast strokes stay round. */
  #paint(event) {
    const { picture } = this;
    for (const each of event.getCoalescedEvents?.() ?? []) picture.stroke?.extend(toImage(picture.view, ...this.navigation.at(each)));
    picture.stroke?.extend(toImage(picture.view, ...this.navigation.at(event)));
    picture.redraw();
  }

  #up(event) {
    const { gesture, picture } = this;
    const last = this.navigation.up(event);
    if (gesture?.kind === "pinch" && !last) return;
    const { drawing, stroke } = picture;
    this.cancel();
    if (!gesture || gesture.kind === "pinch" || gesture.image !== this.edits.image) return;
    const [x, y] = this.navigation.at(event);
    const at = toImage(picture.view, x, y);
    const small = Math.max(Math.abs(x - gesture.x), Math.abs(y - gesture.y)) < CLICK;
    if (gesture.kind === "stroke") this.#finish(stroke);
    else if (gesture.kind === "box" && !small && drawing) this.clicks.box(drawing);
    else if (gesture.kind === "box" && !small) return;
    else if (gesture.kind === "click" && !gesture.moved) this.#click(at, gesture.on);
    else if (gesture.kind === "select" || gesture.kind === "box") this.#select(gesture, at);
  }

  #select(gesture, at) {
    if (!gesture.moved || gesture.kind === "box") this.edits.select(this.picture.at(...at)?.id ?? null, gesture.also);
  }

  #click(at, on) {
    const place = inside(at, this.picture.image);
    if (!place) return;
    const { edits } = this;
    const why = edits.selected.size > 1 ? "selectOne" : !on && !edits.target ? "selectForOff" : "";
    if (why) this.#refuse(why);
    else this.clicks.point(edits.target, place, on);
  }

  #finish(stroke) {
    const { area, box, counts } = stroke.mask;
    if (!area) return void (stroke.piece && this.#refuse("nothingLeft"));
    this.edits.paint(stroke.piece, { area, box, counts });
  }

  #refuse(why) {
    this.dispatchEvent(new CustomEvent("refused", { detail: why }));
    return null;
  }

  #gone(event) {
    this.navigation.up(event);
    this.cancel();
  }
}
