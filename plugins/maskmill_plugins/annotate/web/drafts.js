/**
 * Unsaved changes, stored in the browser until the server has saved them: they survive a closed tab or a dead server.
 *
 * One draft for each image and tab. Drafts of other folders (several servers may have used this address) are stored
 * separately, under the folder's name.
 */

import { keep, kept } from "./api.js";

/** Milliseconds after which another tab's draft counts as abandoned. */
const LEFT_BEHIND = 5000;
const TAB = "maskmill.tab";

/** @typedef {{key: string, revision: string, entry: {status: string, prompts: any[]}, time: number}} Draft */

export class Drafts {
  /** @param {string} folder  of the images */
  constructor(folder) {
    this.tab = kept(sessionStorage, TAB) ?? Math.random().toString(36).slice(2);
    keep(sessionStorage, TAB, this.tab);
    this.prefix = `maskmill.draft ${folder} `;
  }

  #name(key, tab) {
    return `${this.prefix}${tab} ${key}`;
  }

  /** @returns {boolean} whether the browser has stored it */
  put(key, revision, entry) {
    return keep(localStorage, this.#name(key, this.tab), JSON.stringify({ key, revision, entry, time: Date.now() }));
  }

  /** Delete the draft once the server has saved it. */
  drop(key, tab = this.tab) {
    keep(localStorage, this.#name(key, tab), null);
  }

  /**
   * The drafts of an image, the newest first; those of other tabs are taken over by this tab.
   * @returns {Draft | null}
   */
  take(key) {
    const found = this.all().filter((draft) => draft.key === key);
    const mine = found.find((draft) => draft.tab === this.tab);
    const left = found.filter((draft) => draft.tab !== this.tab && Date.now() - draft.time > LEFT_BEHIND);
    const newest = [mine, ...left].filter(Boolean).sort((one, other) => other.time - one.time)[0];
    if (!newest) return null;
    if (newest.tab !== this.tab) {
      this.put(key, newest.revision, newest.entry);
      this.drop(key, newest.tab);
    }
    return newest;
  }

  /** @returns {(Draft & {tab: string})[]} of all images and tabs */
  all() {
    const names = [];
    try {
      for (let at = 0; at < localStorage.length; at++) names.push(localStorage.key(at));
    } catch {
      return [];
    }
    return names.filter((name) => name.startsWith(this.prefix)).map((name) => {
      try {
        const tab = name.slice(this.prefix.length).split(" ", 1)[0];
        return { ...JSON.parse(kept(localStorage, name)), tab };
      } catch {
        return null;
      }
    }).filter((draft) => draft?.entry && typeof draft.key === "string");
  }
}
