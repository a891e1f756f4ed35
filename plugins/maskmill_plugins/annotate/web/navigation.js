/** The wheel and two fingers, which zoom and move the image whatever the tool. */

export class Navigation {
  /** @param {import("./viewport.js").Viewport} viewport */
  constructor(viewport) {
    this.viewport = viewport;
    /** @type {Map<number, [number, number]>} fingers that are down */
    this.fingers = new Map();
    const { canvas } = viewport;
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("auxclick", (event) => event.preventDefault());
  }

  /** @returns {[number, number]} in CSS pixels of the canvas */
  at(event) {
    const { left, top } = this.viewport.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  /** A pointer is pressed. @returns {boolean} whether it is a second finger, which begins a pinch */
  down(event) {
    if (event.pointerType === "touch") this.fingers.set(event.pointerId, this.at(event));
    return this.fingers.size > 1;
  }

  /** A finger of a pinch has moved. */
  pinch(event) {
    const before = [...this.fingers.values()].slice(0, 2);
    this.fingers.set(event.pointerId, this.at(event));
    const after = [...this.fingers.values()].slice(0, 2);
    if (before.length < 2 || after.length < 2) return;
    const middle = ([one, other]) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
    const wide = ([one, other]) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    const [fromX, fromY] = middle(before);
    const [toX, toY] = middle(after);
    this.viewport.zoom(wide(after) / wide(before), fromX, fromY);
    this.viewport.pan(toX - fromX, toY - fromY);
  }

  /** A pointer is released or gone. @returns {boolean} whether no finger is left */
  up(event) {
    this.fingers.delete(event.pointerId);
    return this.fingers.size === 0;
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 18 : 1;
    const step = Math.max(-120, Math.min(120, (event.deltaY || event.deltaX) * lines));
    this.viewport.zoom(Math.exp(-step * (event.ctrlKey ? 0.01 : 0.002)), ...this.at(event));
  }
}
