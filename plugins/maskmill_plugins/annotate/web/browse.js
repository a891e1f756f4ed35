/** Opens images, prefetches the next ones, and restores unsaved work. */

import { Problem, Unreachable } from "./api.js";
import { samePrompts } from "./prompts.js";
import { t } from "./strings.js";

/** Longer side of a preview in pixels. */
const PREVIEW = 2048;
/** Previews kept in memory, so that the next image opens at once. */
const READY = 4;

export class Browser extends EventTarget {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./stage.js").Stage} stage
   * @param {import("./saving.js").Saver} saver
   * @param {import("./drafts.js").Drafts} drafts
   * @param {import("./notices.js").Notices} notices
   * @param {import("./list.js").ImageList} list
   */
  constructor(api, stage, saver, drafts, notices, list) {
    super();
    Object.assign(this, { api, stage, saver, drafts, notices, list, editor: stage.editor });
    this.turn = 0;
    /** @type {Map<string, Promise<{blob: Blob, tag: string}>>} */
    this.previews = new Map();
    /** Why the image could not be opened; "" if it could. */
    this.failed = "";
    this.failedKey = "";
    /** @type {{index: number | null, previous: string | null, next: string | null}} */
    this.failedAt = { index: null, previous: null, next: null };
    /** The adjacent images, within the list's filter if a status is selected. */
    this.around = { previous: null, next: null };
    /** A promise of the same. */
    this.aimed = Promise.resolve(this.around);
    list.addEventListener("filtered", () => this.#aim());
  }

  /** @param {string | null} key  null does nothing */
  async open(key) {
    if (key === null) return;
    const turn = ++this.turn;
    this.wanted = key;
    this.notices.opening = performance.now();
    try {
      const saving = this.saver.flush();
      if (this.saver.records.get(key)?.entry) await saving;
      const [image, first] = await Promise.all([this.api.image(key), this.#preview(key)]);
      this.stage.live.meets(image.model);
      const bitmap = await createImageBitmap(await this.#shown(image, first));
      if (turn !== this.turn) return bitmap.close();
      this.failed = "";
      this.#enter(image, bitmap);
    } catch (error) {
      if (turn === this.turn) this.#cannot(key, error);
    } finally {
      if (turn === this.turn) this.notices.opening = 0;
    }
    return undefined;
  }

  /** Open an image from outside the folder. @param {File} file */
  async quick(file) {
    const turn = ++this.turn;
    try {
      const image = await this.api.quick(file);
      const bitmap = await createImageBitmap((await this.api.preview(image, PREVIEW)).blob);
      if (turn !== this.turn) return;
      this.failed = "";
      const next = this.wanted ?? null; // back to the image before
      this.#enter({ ...image, key: null, name: image.name ?? file.name, file, previous: null, next }, bitmap);
    } catch (error) {
      this.notices.toast(error instanceof Problem ? `${t("cannotOpen")}: ${error.message}` : t("notAnImage"));
    }
  }

  /** Load an image that the server no longer has; its file may have changed since. */
  async remind(image) {
    const found = image.key === null ? await this.api.quick(image.file) : await this.api.image(image.key);
    this.stage.live.meets(found.model);
    if (found.id !== image.id && this.editor.image === image) await this.open(image.key);
  }

  /** The preview of exactly this version: a prefetched one may be of a file that has been replaced since. */
  async #shown(image, { blob, tag }) {
    if (tag.includes(image.id.slice(7, 39))) return blob;
    this.previews.delete(image.key);
    return (await this.#preview(image.key)).blob;
  }

  #enter(image, bitmap) {
    if (image.key !== null) this.saver.opened(image.key, image.revision);
    this.editor.open(image);
    this.stage.show(bitmap);
    this.dispatchEvent(new Event("opened"));
    if (image.changed) this.notices.toast(t("changedPicture"));
    if (image.key !== null) this.#restore(image);
    this.#aim();
  }

  #aim() {
    this.aimed = this.#look();
  }

  async #look() {
    const { turn } = this;
    const at = this.failed ? { key: this.failedKey, ...this.failedAt } : this.editor.image;
    if (!at) return this.around;
    const plain = { previous: at.previous, next: at.next };
    const along = at.key !== null && this.list.leads;
    const found = along ? await this.list.around(at.key).catch(() => plain) : plain;
    if (turn !== this.turn) return this.around; // another image is being opened
    this.around = found;
    this.dispatchEvent(new Event("aimed"));
    this.#ahead(this.failed ? null : at.key, found.next);
    return found;
  }

  /** Restore this browser's draft of the image. */
  #restore(image) {
    const record = this.saver.records.get(image.key);
    if (record.entry) { // changed on this page, and not saved yet
      this.editor.replace(record.entry, false);
      return;
    }
    const draft = this.drafts.take(image.key);
    if (!draft) return;
    const { entry } = image;
    if (draft.entry.status === entry.status && samePrompts(draft.entry.prompts, entry.prompts)) {
      this.drafts.drop(image.key);
      return;
    }
    record.revision = draft.revision; // if it is outdated, the server answers 409, and the person chooses
    this.editor.replace(draft.entry, true);
    this.notices.toast(t("restored"));
  }

  /** Save drafts that earlier visits left for other images. */
  async restoreOthers(open) {
    const keys = [...new Set(this.drafts.all().map((draft) => draft.key))].filter((key) => key !== open);
    let found = 0;
    for (const key of keys) {
      const draft = this.drafts.take(key);
      if (!draft || this.saver.records.get(key)?.entry) continue;
      this.saver.opened(key, draft.revision);
      this.saver.records.get(key).revision = draft.revision;
      this.saver.changed(key, draft.entry, 0);
      found += 1;
    }
    if (found) this.notices.toast(t("restoredOthers", { n: found }));
  }

  #preview(key) {
    if (!this.previews.has(key)) this.previews.set(key, this.api.preview({ key }, PREVIEW));
    const blob = this.previews.get(key);
    this.previews.delete(key);
    this.previews.set(key, blob);
    blob.catch(() => this.previews.delete(key));
    if (this.previews.size > READY) this.previews.delete(this.previews.keys().next().value);
    return blob;
  }

  async #ahead(key, next) {
    const keys = [key, next].filter((one) => one !== null);
    await this.api.prefetch(keys).catch(() => {}); // not fatal: the next images open more slowly
    if (next !== null) this.#preview(next).catch(() => {});
  }

  #cannot(key, error) {
    if (error instanceof Unreachable || error instanceof Problem && error.status === 401) return; // shown elsewhere
    if (!(error instanceof Problem) && !(error instanceof DOMException)) throw error;
    this.failed = error.message;
    this.failedKey = key;
    const { index = null, previous = null, next = null } = error.body ?? {};
    this.failedAt = { index, previous, next };
    this.editor.close(); // or keys would still act on the previous image
    this.stage.show(null);
    this.dispatchEvent(new Event("failed"));
    this.#aim();
  }
}
