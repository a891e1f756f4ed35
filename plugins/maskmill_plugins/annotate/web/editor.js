/**
 * The open image, its objects, and all operations on them.
 *
 * Events: "open" (another image), "change" (the objects, the status or the selection), "drag" (the object that
 * is being drawn), "edit" (like "change", but only if there is something new to save), "hover" (another object is
 * under the pointer), "reopened" (a finished image was edited and is to do again).
 */

import { History } from "./history.js";
import { askable, copied, fromPrompt, reshaped, samePrompts, shapeOf, thing, toPrompt } from "./prompts.js";

/** @typedef {import("./prompts.js").Thing} Thing */
/** @typedef {"todo" | "done" | "empty" | "rejected"} Status */
/** @typedef {{status: Status, objects: Thing[], active: number | null}} State */

/** Number of images whose undo history is kept. */
const REMEMBERED = 30;

export class Editor extends EventTarget {
  constructor() {
    super();
    /** @type {any} from the server, with `width` and `height` of the original */
    this.image = null;
    /** @type {History<State>} */
    this.history = new History({ status: "todo", objects: [], active: null });
    /** @type {Map<string, History<State>>} */
    this.histories = new Map();
    /** @type {Thing | null} being drawn; replaces the object with its uid or is added */
    this.drawing = null;
    /** @type {Set<number>} uids of objects that are not shown */
    this.hidden = new Set();
    /** @type {number | null} uid of the object under the pointer */
    this.hovered = null;
    /** @type {string | null} label of the next object */
    this.label = null;
  }

  /** @returns {State} */
  get state() {
    return this.history.state;
  }

  get objects() {
    return this.state.objects;
  }

  /** @returns {Thing | null} */
  get active() {
    return this.objects.find((object) => object.uid === this.state.active) ?? null;
  }

  /** The visible objects, including the one being drawn. */
  get shown() {
    const { drawing } = this;
    if (!drawing) return this.objects;
    const known = this.objects.some((object) => object.uid === drawing.uid);
    return known ? this.objects.map((one) => (one.uid === drawing.uid ? drawing : one)) : [...this.objects, drawing];
  }

  /** The entry to save, with the image's version, since its file may be replaced at any time. */
  get entry() {
    const { sha256, size } = this.image;
    return { status: this.state.status, prompts: this.objects.map(toPrompt), seen: { sha256, size } };
  }

  /** @param {any} image */
  open(image) {
    const [height, width] = image.size;
    this.image = { ...image, width, height };
    this.drawing = null;
    this.hovered = null;
    this.hidden.clear();
    const known = image.key === null ? undefined : this.histories.get(image.key);
    const now = stateOf(image.entry);
    this.history = known && sameState(known.state, now) ? known : new History(now);
    if (image.key !== null) {
      this.histories.delete(image.key);
      this.histories.set(image.key, this.history);
      if (this.histories.size > REMEMBERED) this.histories.delete(this.histories.keys().next().value);
    }
    this.#tell("open");
    this.#tell("change");
  }

  /** Close the image. */
  close() {
    this.image = null;
    this.drawing = null;
    this.hovered = null;
    this.hidden.clear();
    this.history = new History({ status: "todo", objects: [], active: null });
    this.#tell("change");
  }

  /** Replace the entry of the open image, as a step that can be undone. */
  replace(entry, edited) {
    this.drawing = null;
    this.history.push(stateOf(entry));
    this.#tell("change");
    if (edited) this.#tell("edit");
  }

  /** @param {Thing | null} object */
  draw(object) {
    this.drawing = object;
    this.#tell("drag");
  }

  /**
   * Replace the object with the same uid, or add the object.
   * @param {Thing} object
   */
  put(object) {
    this.drawing = null;
    const known = this.objects.some((one) => one.uid === object.uid);
    const objects = known ? this.objects.map((one) => (one.uid === object.uid ? object : one)) : [...this.objects, object];
    this.#step({ objects, active: object.uid });
  }

  /** @param {[number, number, number, number]} box */
  fresh(box) {
    return thing({ box, label: this.label });
  }

  /**
   * Add a point to the active object; without one, a point on an object starts a new object.
   * @param {[number, number]} at
   * @param {0 | 1} on
   * @returns {boolean} false if a point off the object has no object to be off
   */
  addPoint([x, y], on) {
    const object = this.active ?? (on ? thing({ label: this.label }) : null);
    if (!object) return false;
    this.put(reshaped(object, { points: [...object.points, [x, y, on]] }));
    return true;
  }

  /** Remove an object without a box and points. */
  erasePoint(object, number) {
    const rest = reshaped(object, { points: object.points.filter((_, at) => at !== number) });
    if (askable(rest)) this.put(rest);
    else this.remove(object);
  }

  /** @param {Thing | null} object */
  remove(object) {
    if (!object) return;
    const objects = this.objects.filter((one) => one.uid !== object.uid);
    this.#step({ objects, active: objects.at(-1)?.uid ?? null });
  }

  /** @param {string | null} label */
  setLabel(label) {
    this.label = label;
    if (this.active && this.active.label !== label) this.put({ ...this.active, label });
    else this.#tell("change");
  }

  /** @param {number | null} pick */
  setPick(pick) {
    if (this.active && this.active.pick !== pick) this.put({ ...this.active, pick });
  }

  /** @param {number | null} uid */
  hover(uid) {
    if (uid === this.hovered) return;
    this.hovered = uid;
    this.#tell("hover");
  }

  /** @param {number | null} uid */
  select(uid) {
    this.drawing = null;
    this.history.replace({ ...this.state, active: uid });
    this.#tell("change");
  }

  /** Add the objects of another entry that are not here yet. @returns {number} how many were added */
  copy(prompts) {
    const name = (object) => `${shapeOf(object)} ${object.label}`;
    const here = new Set(this.objects.map(name));
    const all = prompts.map((prompt) => copied(fromPrompt(prompt), this.image));
    const found = all.filter((one) => one !== null && !here.has(name(one)));
    if (found.length) this.#step({ objects: [...this.objects, ...found], active: found.at(-1).uid });
    return found.length;
  }

  /** @param {Status} status */
  setStatus(status) {
    const objects = status === "empty" ? [] : this.objects;
    const same = status === this.state.status && objects.length === this.objects.length;
    if (!same) this.#step({ objects, status, active: status === "empty" ? null : this.state.active });
    else if (this.image.changed) this.#tell("edit"); // confirms the prompts for the image's current version
  }

  toggle(uid) {
    if (!this.hidden.delete(uid)) this.hidden.add(uid);
    this.#tell("change");
  }

  undo() {
    this.#jump(this.history.undo());
  }

  redo() {
    this.#jump(this.history.redo());
  }

  /** @param {boolean} moved */
  #jump(moved) {
    this.drawing = null;
    if (!moved) return;
    this.#tell("change");
    this.#tell("edit");
  }

  /** @param {Partial<State>} change */
  #step(change) {
    const { objects = this.objects, active = null } = change;
    const reopened = this.state.status !== "todo" && change.status === undefined;
    this.history.push({ status: change.status ?? "todo", objects, active });
    this.#tell("change");
    this.#tell("edit");
    if (reopened) this.#tell("reopened");
  }

  /** @param {string} event */
  #tell(event) {
    this.dispatchEvent(new Event(event));
  }
}

function stateOf(entry) {
  const objects = entry.prompts.map(fromPrompt);
  return { status: entry.status, objects, active: objects.at(-1)?.uid ?? null };
}

function sameState(one, other) {
  return one.status === other.status && samePrompts(one.objects.map(toPrompt), other.objects.map(toPrompt));
}
