/**
 * What the pipeline's filters make of the masks: kept, changed or dropped, as a batch run would have it.
 *
 * Filters such as `nms` compare all masks of the image, so that they are asked once all of them are known.
 */

import { Problem } from "./api.js";
import { nameOf } from "./names.js";
import { askable, shapeOf, toPrompt } from "./prompts.js";
import { t } from "./strings.js";

/** Milliseconds without a change before the filters are asked. */
const CALM = 120;
/** Number of cached answers. */
const MOST = 50;

/** @typedef {import("./live.js").Mask & {dropped?: string | null}} Mask  dropped: why, in words */
/** @typedef {{dropped: string, all: boolean, label: string | null}} Verdict
 * dropped: why the batch drops it, "" if it does not; all: whether all its masks; label: the one that it gets, if it is another */

export class Filtered {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./editor.js").Editor} editor
   * @param {import("./live.js").LiveMasks} live
   * @param {string[]} names  of the filters; none are asked where there are none
   */
  constructor(api, editor, live, names) {
    Object.assign(this, { api, editor, live });
    /** @type {{text: "filterFails" | "filtersUnknown", why: string} | null} why there is no answer for this image */
    this.problem = null;
    /** @type {Map<string, {raw: Mask, shown: Mask, label: string | null}>} by object and number of its mask */
    this.known = new Map();
    /** @type {Map<string, any>} answers of the server */
    this.answers = new Map();
    this.asked = "";
    this.timer = 0;
    this.asking = false;
    if (!names.length) return;
    live.filtered = this;
    for (const event of ["change", "drag"]) editor.addEventListener(event, () => this.#plan());
    for (const event of ["masks", "busy"]) live.addEventListener(event, () => this.#plan());
    editor.addEventListener("open", () => Object.assign(this, { asked: "", problem: null, known: new Map() })); // "change" follows
  }

  /** @param {import("./prompts.js").Thing} object @param {Mask[]} masks @returns {Mask[]} as they are after the filters */
  of(object, masks) {
    return masks.map((mask, number) => this.#found(object, mask, number)?.shown ?? mask);
  }

  /** @param {import("./prompts.js").Thing} object @returns {Verdict | null} null if the filters change nothing that matters */
  verdict(object) {
    const all = this.live.answer(object)?.masks ?? [];
    const total = all.filter((mask) => mask.area).length; // an empty one is not there, with or without filters
    const found = all.map((mask, number) => (mask.area ? this.#found(object, mask, number) : null)).filter(Boolean);
    const dropped = found.filter(({ shown }) => shown.dropped);
    const label = found.find((one) => !one.shown.dropped && one.label !== object.label)?.label ?? null;
    if (!dropped.length && label === null) return null;
    const why = dropped.length === 1 || dropped.length === total ? dropped[0]?.shown.dropped ?? "" : "";
    const some = dropped.length ? t("dropsSome", { n: dropped.length, total }) : "";
    return { dropped: why || some, all: dropped.length > 0 && dropped.length === total, label };
  }

  #found(object, mask, number) {
    const known = this.known.get(`${object.uid} ${number}`);
    return known && known.raw.counts === mask.counts && known.raw.score === mask.score ? known : null;
  }

  /** All masks of the image with their objects; null while some are not known. */
  #all() {
    const { editor: { image, drawing, objects }, live } = this;
    if (!image || drawing || live.since) return null;
    const answers = objects.map((object) => live.answer(object));
    if (objects.some((object, number) => askable(object) && !answers[number])) return null;
    return objects.flatMap((object, prompt) => (answers[prompt]?.masks ?? []).map((mask, number) => ({ object, prompt, mask, number })));
  }

  #plan() {
    clearTimeout(this.timer);
    const all = this.#all();
    if (!all || this.asking) return;
    const name = nameFor(this.editor, all);
    if (name === this.asked) return;
    const known = this.answers.get(name);
    if (known) this.#take(all, known, name);
    else if (all.length) this.timer = setTimeout(() => this.#ask(all, name), CALM);
    else this.#take([], null, name);
  }

  async #ask(all, name) {
    const { image, objects } = this.editor;
    this.asking = true;
    try {
      const masks = all.map(({ prompt, mask: { counts, score, stability } }) => ({ prompt, counts, score, stability }));
      this.#keep(name, await this.api.filters(image, objects.map(toPrompt), masks));
    } catch (error) {
      if (error instanceof Problem && !error.retryAfter && error.status !== 401) {
        if (error.kind === "unknown-image") await this.live.remind(image).catch(() => {});
        else this.#keep(name, { masks: [], refused: error.message }); // for example too much data
      }
    }
    this.asking = false;
    if (this.answers.has(name)) this.#plan(); // after another error, with the next change
  }

  #keep(name, answer) {
    this.answers.set(name, answer);
    if (this.answers.size > MOST) this.answers.delete(this.answers.keys().next().value);
  }

  /** Show an answer. */
  #take(all, answer, name = "") {
    this.asked = name;
    const { problem, refused } = answer ?? {};
    this.problem = problem ? { text: "filterFails", why: problem } : refused ? { text: "filtersUnknown", why: refused } : null;
    this.known = new Map(this.problem ? [] : all.map(({ object, number, mask }, at) => {
      const { mask: changed, dropped_by: by, reason, label } = answer.masks[at];
      const dropped = by ? this.#explain(by, reason ?? "", all) : null;
      return [`${object.uid} ${number}`, { raw: mask, shown: changed || dropped ? { ...mask, ...changed, dropped } : mask, label: label ?? null }];
    }));
    this.live.dispatchEvent(new Event("masks")); // whatever shows masks shows these
  }

  /** The reason in words; filters refer to other masks by their numbers, which the page does not show. */
  #explain(by, reason, all) {
    const text = reason.replace(/\bmask (\d+)\b/g, (words, number) => (all[number] ? nameOf(this.editor, all[number].object) : words));
    return text.startsWith(by) ? text : [by, text].filter(Boolean).join(": ");
  }
}

/** The same for the same masks and labels. */
function nameFor({ image, objects }, all) {
  return JSON.stringify([image.id, objects.map((object) => [shapeOf(object), object.label]), all.map(({ mask }) => [mask.area, mask.score])]);
}
