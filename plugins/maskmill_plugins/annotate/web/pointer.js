/**
 * Mouse, pen and touch on the image.
 *
 * Events of `Pointer`: "refused" (a point off an object without an active object), "thin" (a box too thin to be meant),
 * "fixed" (a point for an object that is nothing but a mask).
 */

import { objectAt, pointAt, resizing, sidesAt, tagAt } from "./hits.js";
import { Navigation } from "./navigation.js";
import { boxBetween, inside, isFixed, moved, reshaped, resized } from "./prompts.js";
import { RELEASED } from "./stage.js";
import { toImage } from "./view.js";

/** @typedef {"box" | "add" | "off" | "erase" | "move"} Tool */
/** @typedef {{kind: string, x: number, y: number, moved: boolean, anchor?: [number, number],
 * point?: number, sides?: import("./hits.js").Sides, object?: any, on?: 0 | 1, plain?: boolean}} Gesture */

/** CSS pixels that a click may move, by type of pointer. */
const SLACK = { mouse: 4, pen: 6, touch: 10 };
/** CSS pixels of a new box's longer side, below which a drag is a click. */
const CLICK = 8;
/** CSS pixels of any box's shorter side, at least: thinner ones are slips of the hand. */
const THIN = 3;

export class Pointer extends EventTarget {
  /** @param {import("./stage.js").Stage} stage */
  constructor(stage) {
    super();
    this.stage = stage;
    this.editor = stage.editor;
    /** @type {Tool} */
    this.tool = "box";
    /** Whether space is held, which moves the image. */
    this.grabbing = false;
    this.navigation = new Navigation(stage);
    /** @type {Gesture | null} */
    this.gesture = null;
    this.editor.addEventListener("open", () => this.cancel()); // a drag on the previous image ends
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#gone(event));
    canvas.addEventListener("pointerleave", () => this.editor.hover(null));
  }

  /** @param {Tool} tool */
  take(tool) {
    this.tool = tool;
    this.#cursor();
    this.dispatchEvent(new Event("tool"));
  }

  /** @param {boolean} held */
  grab(held) {
    this.grabbing = held;
    this.#cursor();
  }

  /** Cancel the current drawing. @returns {boolean} whether something was */
  cancel() {
    const drawing = this.gesture !== null;
    this.gesture = null;
    if (this.editor.drawing) this.editor.draw(null);
    return drawing;
  }

  #cursor(over = "") {
    const moving = this.tool === "move" || this.grabbing;
    this.stage.canvas.dataset.cursor = moving ? "grab" : this.tool;
    this.stage.canvas.style.cursor = moving ? "" : over;
  }

  /** Show what a press here would do, without pressing. */
  #hover(event, x, y) {
    if (!this.editor.image || event.pointerType === "touch") return;
    const gesture = this.#begin({ ...plainly(event), button: 0 }, x, y);
    const tagged = tagAt(this.stage, x, y);
    const object = tagged === null ? objectAt(this.stage, toImage(this.stage.view, x, y))?.uid ?? null : tagged;
    this.editor.hover(object);
    const other = gesture.plain && object !== null && object !== this.editor.state.active;
    const over = { sides: resizing(gesture.sides ?? null), shift: "move", point: "move", tag: "pointer" }[gesture.kind];
    this.#cursor(over ?? (other ? "pointer" : ""));
  }

  #down(event) {
    if (!this.editor.image) return;
    this.stage.canvas.focus({ preventScroll: true });
    const [x, y] = this.navigation.at(event);
    this.stage.canvas.setPointerCapture(event.pointerId);
    if (this.navigation.down(event)) {
      this.cancel();
      this.gesture = { kind: "pinch", x, y, moved: true };
    } else {
      this.gesture = this.#begin(event, x, y);
    }
  }

  /** @returns {Gesture} */
  #begin(event, x, y) {
    const plain = { x, y, moved: false };
    if (event.button === 1 || this.grabbing || this.tool === "move") return { kind: "pan", ...plain };
    const off = event.button === 2 || event.altKey || event.ctrlKey || event.metaKey || this.tool === "off";
    const point = this.#pointNear(event, x, y);
    if (this.tool === "erase" || event.shiftKey) {
      return point ? { kind: "erase", ...plain, ...point } : { kind: "pan", ...plain };
    }
    if (point && event.button === 0) return { kind: "point", ...plain, ...point };
    if (off) return { kind: "click", on: 0, ...plain };
    return this.#beginOnActive(event, x, y) ?? {
      kind: this.tool === "box" ? "box" : "click", on: 1, plain: this.tool === "box", anchor: toImage(this.stage.view, x, y), ...plain,
    };
  }

  /** A press on an edge or a corner of the active box, or on a name tag. @returns {Gesture | null} */
  #beginOnActive(event, x, y) {
    const object = this.editor.active;
    const plain = { x, y, moved: false, object };
    const sides = sidesAt(this.stage, x, y, event.pointerType);
    if (sides) return { kind: "sides", sides, ...plain };
    const tagged = tagAt(this.stage, x, y);
    if (tagged === null) return null;
    if (tagged !== object?.uid || isFixed(object)) return { kind: "tag", ...plain, object: this.editor.objects.find(({ uid }) => uid === tagged) };
    return { kind: "shift", anchor: toImage(this.stage.view, x, y), ...plain };
  }

  #pointNear(event, x, y) {
    const point = pointAt(this.stage, x, y, event.pointerType);
    return point === null ? null : { object: this.editor.active, point };
  }

  #move(event) {
    const { gesture } = this;
    const [x, y] = this.navigation.at(event);
    if (!gesture) return this.#hover(event, x, y);
    if (gesture.kind === "pinch") return this.navigation.pinch(event);
    gesture.moved ||= Math.hypot(x - gesture.x, y - gesture.y) > (SLACK[event.pointerType] ?? 4);
    if (!gesture.moved) return;
    if (["pan", "click", "erase", "tag"].includes(gesture.kind)) {
      this.stage.pan(x - gesture.x, y - gesture.y);
      Object.assign(gesture, { x, y });
    } else {
      this.editor.draw(this.#drawn(gesture, x, y));
    }
  }

  /** The object if the pointer were released here. */
  #drawn(gesture, x, y) {
    const at = toImage(this.stage.view, x, y);
    if (gesture.kind === "point") {
      const place = inside(at, this.editor.image);
      if (!place) return this.editor.drawing;
      const points = gesture.object.points.map((point, number) => (number === gesture.point ? [...place, point[2]] : point));
      return reshaped(gesture.object, { points });
    }
    if (gesture.kind === "sides") {
      const least = THIN / this.stage.view.scale;
      const box = resized(gesture.object.box, gesture.sides, at, this.editor.image, least);
      return reshaped(gesture.object, { box });
    }
    if (gesture.kind === "shift") {
      return moved(gesture.object, at[0] - gesture.anchor[0], at[1] - gesture.anchor[1], this.editor.image);
    }
    const box = boxBetween(gesture.anchor, at, this.editor.image);
    if (!box) return null;
    return this.editor.drawing ? { ...this.editor.drawing, box } : this.editor.fresh(box);
  }

  #up(event) {
    const { gesture } = this;
    const [x, y] = this.navigation.at(event);
    const last = this.navigation.up(event);
    if (!gesture || gesture.kind === "pinch") {
      if (last) this.gesture = null;
      return;
    }
    this.gesture = null;
    performance.clearMarks(RELEASED);
    performance.mark(RELEASED, { startTime: event.timeStamp });
    if (gesture.moved && !this.#isClick(gesture, x, y)) this.#finish(gesture, x, y);
    else this.#click(gesture, x, y);
  }

  /** A box so small that a click was meant. */
  #isClick(gesture, x, y) {
    const small = gesture.kind === "box" && Math.max(Math.abs(x - gesture.x), Math.abs(y - gesture.y)) < CLICK;
    if (small) this.editor.draw(null);
    return small;
  }

  #finish(gesture, x, y) {
    if (["pan", "click", "erase", "tag"].includes(gesture.kind)) return;
    const object = this.#drawn(gesture, x, y);
    const thin = gesture.kind === "box" && Math.min(Math.abs(x - gesture.x), Math.abs(y - gesture.y)) < THIN;
    if (thin) this.dispatchEvent(new Event("thin"));
    if (object && !thin) this.editor.put(object);
    else this.editor.draw(null);
  }

  #click(gesture, x, y) {
    const at = inside(toImage(this.stage.view, x, y), this.editor.image);
    const other = gesture.plain && at ? objectAt(this.stage, at) : null;
    if (gesture.kind === "erase") this.editor.erasePoint(gesture.object, gesture.point);
    else if (gesture.kind === "tag") this.editor.select(gesture.object.uid);
    else if (other && other.uid !== this.editor.state.active) this.editor.select(other.uid);
    else if (at && (gesture.kind === "box" || gesture.kind === "click")) {
      if (this.editor.active && isFixed(this.editor.active)) this.dispatchEvent(new Event("fixed"));
      else if (!this.editor.addPoint(at, gesture.on)) this.dispatchEvent(new Event("refused"));
    }
  }

  #gone(event) {
    this.navigation.up(event);
    this.cancel();
  }
}

/** A pointer's event with the keys that are held. */
function plainly({ altKey, ctrlKey, metaKey, shiftKey, pointerType }) {
  return { altKey, ctrlKey, metaKey, shiftKey, pointerType };
}
