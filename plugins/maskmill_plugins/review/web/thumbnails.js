/** Small pictures of the rows that are in sight, loaded one after the other and kept. */

import { Unreachable } from "./api.js";
import { make } from "./dom.js";

/** Pixels of the longer side that are loaded. */
const LOADED = 96;
/** Pictures that are kept. */
const MOST = 600;

export class Thumbnails {
  /**
   * @param {import("./reviewapi.js").ReviewApi} api
   * @param {HTMLElement} root  that scrolls
   */
  constructor(api, root) {
    this.api = api;
    /** @type {Map<string, ImageBitmap | null>} by key; null for one that cannot be shown */
    this.kept = new Map();
    /** @type {Map<string, HTMLCanvasElement>} in sight, without a picture */
    this.wanted = new Map();
    this.loading = false;
    this.observer = new IntersectionObserver((entries) => this.#seen(entries), { root, rootMargin: "120px 0px" });
  }

  /** The rows are made anew. */
  restart() {
    this.observer.disconnect();
    this.wanted.clear();
  }

  /** @param {string} key @returns {HTMLCanvasElement} shows the image once it is in sight */
  make(key) {
    const canvas = make("canvas.thumbnail", { width: LOADED, height: LOADED, role: "presentation" });
    canvas.dataset.key = key;
    if (this.kept.has(key)) draw(canvas, this.kept.get(key));
    else this.observer.observe(canvas);
    return canvas;
  }

  #seen(entries) {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) this.wanted.set(target.dataset.key, target);
      else this.wanted.delete(target.dataset.key);
    }
    void this.#load();
  }

  async #load() {
    if (this.loading) return;
    this.loading = true;
    for (let next; (next = this.wanted.keys().next().value) !== undefined;) {
      const bitmap = await this.api.picture(next, LOADED).catch((error) => (error instanceof Unreachable ? undefined : null));
      if (bitmap === undefined) break; // the list is made anew once the server is back
      this.kept.set(next, bitmap);
      if (this.kept.size > MOST) this.#drop();
      draw(this.wanted.get(next), bitmap);
      this.wanted.delete(next);
    }
    this.loading = false;
  }

  #drop() {
    const [oldest] = this.kept.keys();
    this.kept.get(oldest)?.close();
    this.kept.delete(oldest);
  }
}

/** The middle of the image, square. */
function draw(canvas, bitmap) {
  if (!canvas || !bitmap) return;
  const side = Math.min(bitmap.width, bitmap.height);
  const [x, y] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  canvas.getContext("2d").drawImage(bitmap, x, y, side, side, 0, 0, canvas.width, canvas.height);
}
