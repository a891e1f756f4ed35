/**
 * Saves automatically, a moment after the last change.
 *
 * The state is "saved" only after the server has confirmed that the line is on disk. Each image has its own record, so
 * that the next image can be opened while the last one is still being saved. Changes of another tab are never
 * overwritten: the server then answers 409, and the person chooses.
 *
 * Events: "state", "saved" (detail: key, entry), "conflict" (detail: record), "replaced" (detail: key; its file now
 * has another content).
 */

import { Problem, Unreachable } from "./api.js";
import { samePrompts } from "./prompts.js";

/** Milliseconds from the last change to saving. */
const DELAY = 400;
/** Largest body in bytes of a request that outlives its page. */
const OUTLIVES = 60000;

/**
 * @typedef {object} Record
 * @property {string} key
 * @property {string} revision  that the changes were made on
 * @property {{status: string, prompts: any[]} | null} entry  to be saved; null if nothing is
 * @property {number} timer
 * @property {number} tries
 * @property {Promise<void> | null} sending
 * @property {{entry: any, revision: string} | null} conflict  the version on the server
 * @property {string} refused  why the server rejected it
 * @property {string} trouble  why the server could not save it just now; "" if there was no answer
 */

export class Saver extends EventTarget {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./drafts.js").Drafts} drafts
   * @param {string} reviewer
   */
  constructor(api, drafts, reviewer) {
    super();
    this.api = api;
    this.drafts = drafts;
    this.reviewer = reviewer;
    /** @type {Map<string, Record>} */
    this.records = new Map();
    /** Whether this browser cannot store drafts. */
    this.fragile = false;
  }

  /** @returns {"saved" | "saving" | "unsaved" | "conflict" | "refused"} */
  get state() {
    const open = [...this.records.values()].filter((record) => record.entry);
    if (open.some((record) => record.conflict)) return "conflict";
    if (open.some((record) => record.refused)) return "refused";
    if (open.some((record) => record.tries > 0)) return "unsaved";
    return open.length ? "saving" : "saved";
  }

  /** Why the server rejected an entry, or "". */
  get refused() {
    return [...this.records.values()].find((record) => record.refused)?.refused ?? "";
  }

  /** Why the server could not save an entry, or "". */
  get trouble() {
    return [...this.records.values()].find((record) => record.entry && record.trouble)?.trouble ?? "";
  }

  /** Register an opened image with its revision. */
  opened(key, revision) {
    const record = this.records.get(key);
    if (record?.entry) return;
    const clean = { entry: null, timer: 0, tries: 0, sending: null, conflict: null, refused: "", trouble: "" };
    this.records.set(key, { key, revision, ...clean });
  }

  /** Register a change to save. */
  changed(key, entry, delay = DELAY) {
    const record = this.records.get(key);
    record.entry = entry;
    record.refused = "";
    this.fragile = !this.drafts.put(key, record.revision, entry);
    this.#plan(record, delay);
    this.#tell("state");
  }

  /** Save all pending changes now. @returns {Promise<void>} resolved when the server has responded */
  async flush() {
    const waiting = [...this.records.values()].filter((record) => record.entry);
    await Promise.all(waiting.map((record) => this.#send(record)));
  }

  /** Resolve a conflict: overwrite their version with mine, or discard mine. */
  async settle(record, mine) {
    record.revision = record.conflict.revision;
    record.conflict = null;
    if (mine) {
      this.drafts.put(record.key, record.revision, record.entry);
      await this.#send(record);
    } else {
      record.entry = null;
      this.drafts.drop(record.key);
    }
    this.#tell("state");
  }

  #plan(record, delay) {
    clearTimeout(record.timer);
    record.timer = setTimeout(() => this.#send(record), delay);
  }

  /** @param {Record} record */
  async #send(record) {
    clearTimeout(record.timer);
    while (record.sending) await record.sending; // later changes are sent after it
    if (!record.entry || record.conflict) return;
    record.sending = this.#put(record, record.entry);
    await record.sending;
    record.sending = null;
  }

  async #put(record, entry) {
    this.#tell("state");
    const body = { revision: record.revision, ...entry, reviewer: this.reviewer };
    try {
      const outlives = JSON.stringify(body).length < OUTLIVES;
      const answer = await this.api.save(record.key, body, outlives);
      this.#done(record, entry, answer.revision);
      if (answer.changed) this.dispatchEvent(new CustomEvent("replaced", { detail: record.key }));
    } catch (error) {
      this.#failed(record, entry, error);
    }
    this.#tell("state");
  }

  #done(record, entry, revision) {
    record.revision = revision;
    record.tries = 0;
    record.trouble = "";
    if (record.entry === entry) {
      record.entry = null;
      this.drafts.drop(record.key);
    } else if (record.entry) {
      this.drafts.put(record.key, revision, record.entry);
    }
    this.dispatchEvent(new CustomEvent("saved", { detail: { key: record.key, entry } }));
  }

  #failed(record, entry, error) {
    if (error instanceof Problem && error.kind === "conflict") {
      const theirs = { entry: error.body.entry, revision: error.body.revision };
      const same = theirs.entry.status === entry.status && samePrompts(theirs.entry.prompts, entry.prompts);
      if (same) return this.#done(record, entry, theirs.revision);
      record.conflict = theirs;
      this.dispatchEvent(new CustomEvent("conflict", { detail: record }));
      return undefined;
    }
    const passing = error instanceof Unreachable || error.status >= 500 || [401, 408, 429].includes(error.status);
    if (!passing) {
      record.refused = error.message.startsWith(record.key) ? error.message : `${record.key}: ${error.message}`;
      return undefined;
    }
    record.tries += 1;
    record.trouble = error instanceof Problem && error.status >= 500 ? error.message : "";
    this.#plan(record, 1000 * Math.max(error.retryAfter ?? 0, Math.min(15, 2 ** record.tries)));
    return undefined;
  }

  #tell(event) {
    this.dispatchEvent(new Event(event));
  }
}
