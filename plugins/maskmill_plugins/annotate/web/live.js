/**
 * Masks of the drawn prompts, one request at a time.
 *
 * The next request is chosen when the last response has arrived, from what is on the page then: of all boxes drawn in
 * the meantime only the newest is requested, and a response for a removed object is not shown. Masks are cached by
 * their prompts, so that undo shows the old mask at once.
 *
 * Events: "masks" (something new to show), "busy" (a request started or ended), "replaced" (the server was restarted
 * with another model).
 */

import { Problem, Unreachable } from "./api.js";
import { askable, shapeOf, toPrompt } from "./prompts.js";
import { extent } from "./rle.js";
import { t } from "./strings.js";

/** @typedef {import("./prompts.js").Thing} Thing */
/** @typedef {{size: [number, number], counts: string, score: number | null, box: number[] | null, area: number}} Mask */
/** @typedef {{masks?: Mask[], problem?: string}} Answer */

/** Number of cached answers. */
const MOST = 400;
/** Prompts in one request: small, so that the first masks of many appear early. */
const AT_ONCE = 16;
/** Milliseconds without a change before all masks are requested together, as a batch run does. */
const CALM = 700;

export class LiveMasks extends EventTarget {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./editor.js").Editor} editor
   */
  constructor(api, editor) {
    super();
    this.api = api;
    this.editor = editor;
    /** @type {any} of GET /v1/model; null while it loads */
    this.model = null;
    /** Of the model that gave the answers; "" before the first. */
    this.digest = "";
    /** @type {(image: any) => Promise<unknown>} uploads an image that the server no longer has */
    this.remind = async () => {};
    /** @type {import("./filtered.js").Filtered | null} the pipeline's filters, if it has any */
    this.filtered = null;
    /** Start of the current request; 0 if there is none. */
    this.since = 0;
    /** Number of answered requests for the open image. */
    this.answered = 0;
    /** @type {Map<string, Answer>} */
    this.answers = new Map();
    /** @type {WeakMap<object, Answer>} by the mask of a prompt */
    this.given = new WeakMap();
    /** @type {Map<number, Mask[]>} by uid: shown until the new mask arrives */
    this.last = new Map();
    this.oneByOne = false;
    this.pause = 0;
    this.calm = 0;
    this.agreed = "";
    editor.addEventListener("open", () => this.#opened());
    editor.addEventListener("change", () => this.ask());
    editor.addEventListener("drag", () => this.ask());
  }

  /** Compare the model of a response with the current one. @param {string | null | undefined} digest */
  meets(digest) {
    if (digest && this.digest && digest !== this.digest) this.dispatchEvent(new Event("replaced"));
  }

  /** Use this model; cached answers of another one are dropped. @param {any} model  null if there is none */
  use(model) {
    if (model && this.digest !== "" && model.digest !== this.digest) {
      this.answers.clear();
      this.last.clear();
      this.agreed = "";
      this.dispatchEvent(new Event("masks"));
    }
    if (model) this.digest = model.digest;
    this.model = model;
    this.ask();
  }

  get canPick() {
    return Boolean(this.model?.multimask?.includes("all"));
  }

  /** @param {Thing} object @returns {Answer | undefined} for its current prompt */
  answer(object) {
    const { mask } = object.rest;
    if (mask) return this.#given(mask);
    return this.answers.get(this.#name(object));
  }

  /** @param {Thing} object @returns {Mask[]} to show now, perhaps of an earlier prompt */
  masks(object) {
    const answer = this.answer(object);
    const masks = answer?.masks ?? (answer?.problem ? [] : this.last.get(object.uid) ?? []);
    return this.filtered?.of(object, masks) ?? masks;
  }

  /** @param {Thing} object @returns {Mask[]} the three candidates; none if the model has none */
  candidates(object) {
    return this.answers.get(this.#name(object, "all"))?.masks ?? [];
  }

  /** Request missing masks, unless a request is running; its response triggers the next. */
  async ask() {
    clearTimeout(this.calm);
    if (this.since || this.pause || !this.model || !this.editor.image) return;
    const work = this.#next();
    if (!work) {
      this.calm = setTimeout(() => this.#agree(), CALM);
      return;
    }
    await this.#run(work);
  }

  async #run(work) {
    this.since = performance.now();
    this.dispatchEvent(new Event("busy"));
    try {
      const prompts = work.objects.map(toPrompt);
      const reply = await this.api.masks(work.image.id, prompts, work.multimask);
      this.#take(work, reply.masks);
    } catch (error) {
      await this.#failed(work, error);
    }
    this.since = 0;
    this.dispatchEvent(new Event("busy"));
    this.ask();
  }

  /** The answer of a prompt that has its mask. @returns {Answer} */
  #given(mask) {
    const { image: { width, height } } = this.editor;
    if (mask.size[0] !== height || mask.size[1] !== width) return { problem: t("otherSize") };
    if (!this.given.has(mask)) this.given.set(mask, { masks: [{ score: null, ...mask, ...extent(mask) }] });
    return this.given.get(mask);
  }

  #name(object, multimask = "", image = this.editor.image) {
    return `${image.id} ${multimask} ${shapeOf(object, !multimask)}`;
  }

  #next() {
    const { editor, editor: { image, drawing, active } } = this;
    const unknown = (object) => object && askable(object) && !this.answer(object);
    if (drawing) return unknown(drawing) ? { image, objects: [drawing], multimask: null } : null;
    const first = unknown(active) ? [active] : [];
    const missing = first.length ? first : editor.objects.filter(unknown);
    const objects = missing.slice(0, this.oneByOne ? 1 : AT_ONCE);
    if (objects.length) return { image, objects, multimask: null };
    const open = active && this.canPick && askable(active) && !["exemplars", "grid", "mask", "text"].some((kind) => active.rest[kind]);
    if (open && !this.answers.has(this.#name(active, "all"))) {
      return { image, objects: [{ ...active, pick: null }], multimask: "all" };
    }
    return null;
  }

  /** The last digits depend on how many prompts are computed together: request all once more, as a batch run does. */
  #agree() {
    const { editor, editor: { image } } = this;
    const objects = editor.objects.filter((object) => !object.rest.mask);
    const all = objects.map((object) => this.#name(object)).join();
    const most = this.model?.limits?.prompts ?? 256;
    if (this.since || editor.drawing || !this.canPick || objects.length < 2 || objects.length > most) return;
    if (all === this.agreed || !objects.every(askable)) return;
    this.agreed = all;
    this.#run({ image, objects, multimask: null });
  }

  #take(work, masks) {
    const current = this.editor.image === work.image;
    this.answered += current ? 1 : 0;
    work.objects.forEach((object, number) => {
      const found = masks.filter((mask) => mask.prompt === number);
      this.#keep(this.#name(object, work.multimask ?? "", work.image), { masks: found });
      if (work.multimask) found.forEach((mask, pick) => this.#keep(this.#name({ ...object, pick }, "", work.image), { masks: [mask] }));
      else if (current) this.last.set(object.uid, found);
    });
    this.dispatchEvent(new Event("masks"));
  }

  #keep(name, answer) {
    this.answers.delete(name);
    this.answers.set(name, answer);
    if (this.answers.size > MOST) this.answers.delete(this.answers.keys().next().value);
  }

  async #failed(work, error) {
    if (error instanceof Unreachable) return this.#wait(1); // retried when the connection is back
    if (!(error instanceof Problem)) throw error;
    if (error.kind === "unknown-image") {
      await this.remind(work.image).catch(() => this.#wait(2));
    } else if (error.retryAfter || error.status === 401) {
      this.#wait(Math.min(error.retryAfter || 2, 10));
    } else if (work.objects.length > 1) {
      this.oneByOne = true; // one of them cannot be computed: find which one
    } else {
      this.#keep(this.#name(work.objects[0], work.multimask ?? "", work.image), { problem: error.message });
      this.dispatchEvent(new Event("masks"));
    }
  }

  #wait(seconds) {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.resume(), seconds * 1000);
  }

  /** Continue after a lost connection or a full queue. */
  resume() {
    clearTimeout(this.pause);
    this.pause = 0;
    this.ask();
  }

  #opened() {
    this.answered = 0;
    this.oneByOne = false;
    this.agreed = "";
    this.last.clear();
  }
}
