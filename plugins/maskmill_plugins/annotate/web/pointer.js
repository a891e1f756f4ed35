/** Mouse, pen and touch on the image. Events of `Pointer`: "refused" (a point off an object without an active object). */

import { boxBetween, inside } from "./prompts.js";
import { RELEASED } from "./stage.js";
import { toImage, toScreen } from "./view.js";

/** @typedef {"box" | "add" | "off" | "erase" | "move"} Tool */
/** @typedef {{kind: string, x: number, y: number, moved: boolean, anchor?: [number, number], point?: number, object?: any, on?: 0 | 1}} Gesture */

/** CSS pixels that a click may move, by type of pointer. */
const SLACK = { mouse: 4, pen: 6, touch: 10 };
/** CSS pixels around a corner or a point in which it can be grabbed. */
const REACH = { mouse: 9, pen: 12, touch: 22 };

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
    /** @type {Map<number, [number, number]>} fingers that are down */
    this.fingers = new Map();
    /** @type {Gesture | null} */
    this.gesture = null;
    this.editor.addEventListener("open", () => this.cancel()); // a drag on the previous image ends
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#gone(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("auxclick", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
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

  #cursor() {
    const moving = this.tool === "move" || this.grabbing;
    this.stage.canvas.dataset.cursor = moving ? "grab" : this.tool;
  }

  #at(event) {
    const { left, top } = this.stage.canvas.getBoundingClientRect();
    return /** @type {[number, number]} */ ([event.clientX - left, event.clientY - top]);
  }

  #down(event) {
    if (!this.editor.image) return;
    this.stage.canvas.focus({ preventScroll: true });
    const [x, y] = this.#at(event);
    this.stage.canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") this.fingers.set(event.pointerId, [x, y]);
    if (this.fingers.size > 1) {
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
    const point = this.#pointNear(x, y, REACH[event.pointerType] ?? 9);
    if (this.tool === "erase" || event.shiftKey) {
      return point ? { kind: "erase", ...plain, ...point } : { kind: "pan", ...plain };
    }
    if (point && event.button === 0) return { kind: "point", ...plain, ...point };
    if (off) return { kind: "click", on: 0, ...plain };
    const corner = this.#cornerNear(x, y, REACH[event.pointerType] ?? 9);
    if (corner) return { kind: "corner", ...plain, ...corner };
    return { kind: this.tool === "box" ? "box" : "click", on: 1, anchor: toImage(this.stage.view, x, y), ...plain };
  }

  #near(places, x, y, reach) {
    const far = places.map(([px, py]) => {
      const [sx, sy] = toScreen(this.stage.view, px, py);
      return Math.hypot(sx - x, sy - y);
    });
    const least = Math.min(...far);
    return least <= reach ? far.indexOf(least) : null;
  }

  #pointNear(x, y, reach) {
    const object = this.editor.active;
    const point = object && this.#near(object.points, x, y, reach);
    return object && point !== null ? { object, point } : null;
  }

  /** The grabbed corner of the active box, given by the opposite corner, which is fixed. */
  #cornerNear(x, y, reach) {
    const object = this.editor.active;
    if (!object?.box) return null;
    const [x1, y1, x2, y2] = object.box;
    const corner = this.#near([[x1, y1], [x2, y1], [x1, y2], [x2, y2]], x, y, reach);
    const anchor = corner === null ? null : [[x2, y2], [x1, y2], [x2, y1], [x1, y1]][corner];
    return anchor ? { object, anchor: /** @type {[number, number]} */ (anchor) } : null;
  }

  #move(event) {
    const { gesture } = this;
    const [x, y] = this.#at(event);
    if (!gesture) return;
    if (gesture.kind === "pinch") return this.#pinch(event.pointerId, x, y);
    gesture.moved ||= Math.hypot(x - gesture.x, y - gesture.y) > (SLACK[event.pointerType] ?? 4);
    if (!gesture.moved) return;
    if (["pan", "click", "erase"].includes(gesture.kind)) {
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
      return { ...gesture.object, points, pick: null };
    }
    const box = boxBetween(gesture.anchor, at, this.editor.image);
    if (gesture.kind === "corner") return box ? { ...gesture.object, box, pick: null } : this.editor.drawing;
    if (!box) return null;
    return this.editor.drawing ? { ...this.editor.drawing, box } : this.editor.fresh(box);
  }

  #up(event) {
    const { gesture } = this;
    const [x, y] = this.#at(event);
    this.fingers.delete(event.pointerId);
    if (!gesture || gesture.kind === "pinch") {
      if (!this.fingers.size) this.gesture = null;
      return;
    }
    this.gesture = null;
    performance.clearMarks(RELEASED);
    performance.mark(RELEASED, { startTime: event.timeStamp });
    if (gesture.moved) this.#finish(gesture, x, y);
    else this.#click(gesture, x, y);
  }

  #finish(gesture, x, y) {
    if (["pan", "click", "erase"].includes(gesture.kind)) return;
    const object = this.#drawn(gesture, x, y);
    if (object) this.editor.put(object);
    else this.editor.draw(null);
  }

  #click(gesture, x, y) {
    const at = inside(toImage(this.stage.view, x, y), this.editor.image);
    if (gesture.kind === "erase") this.editor.erasePoint(gesture.object, gesture.point);
    else if (at && (gesture.kind === "box" || gesture.kind === "click")) {
      if (!this.editor.addPoint(at, gesture.on)) this.dispatchEvent(new Event("refused"));
    }
  }

  #gone(event) {
    this.fingers.delete(event.pointerId);
    this.cancel();
  }

  #pinch(id, x, y) {
    const before = [...this.fingers.values()].slice(0, 2);
    this.fingers.set(id, [x, y]);
    const after = [...this.fingers.values()].slice(0, 2);
    if (before.length < 2 || after.length < 2) return;
    const middle = ([one, other]) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
    const wide = ([one, other]) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    const [fromX, fromY] = middle(before);
    const [toX, toY] = middle(after);
    this.stage.zoom(wide(after) / wide(before), fromX, fromY);
    this.stage.pan(toX - fromX, toY - fromY);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 18 : 1;
    const step = Math.max(-120, Math.min(120, (event.deltaY || event.deltaX) * lines));
    this.stage.zoom(Math.exp(-step * (event.ctrlKey ? 0.01 : 0.002)), ...this.#at(event));
  }
}
