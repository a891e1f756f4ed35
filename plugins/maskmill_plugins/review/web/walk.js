/** The way through the queue: back and forth, with the next image loaded ahead. */

/** Images that are passed over at most before some of them come again. */
const MOST = 9000;

/** @typedef {{image: any, bitmap: Promise<ImageBitmap>}} Found */

export class Walk {
  /**
   * @param {import("./reviewapi.js").ReviewApi} api
   * @param {import("./queue.js").Queue} queue
   */
  constructor(api, queue) {
    this.api = api;
    this.queue = queue;
    /** @type {Set<string>} shown since the filters changed */
    this.passed = new Set();
    /** @type {string[]} */
    this.history = [];
    this.at = -1;
    /** @type {Promise<Found | null> | null} */
    this.ahead = null;
  }

  /** The filters have changed. */
  restart() {
    this.passed.clear();
    this.#drop();
  }

  get current() {
    return this.history[this.at] ?? "";
  }

  /** @returns {Promise<Found | null>} null if nothing is left */
  async next() {
    if (this.at < this.history.length - 1) return this.#load(this.history[++this.at]);
    const ahead = this.ahead;
    this.ahead = null;
    const found = (await ahead) ?? (await this.#take([])); // others may have released images since
    if (found) this.#enter(found.image.item.key);
    return found;
  }

  /** @returns {Promise<Found | null>} */
  async previous() {
    if (this.at > 0) this.at--;
    return this.current ? this.#load(this.current) : null;
  }

  /** @param {string} key @returns {Promise<Found>} */
  async open(key) {
    this.#enter(key);
    this.#drop();
    return this.#load(key);
  }

  /** Load the image after this one. */
  prepare(key) {
    if (this.ahead || this.at < this.history.length - 1) return;
    this.ahead = this.#take([key]);
    this.ahead.catch(() => (this.ahead = null));
  }

  #enter(key) {
    this.passed.add(key);
    this.history.push(key);
    this.at = this.history.length - 1;
  }

  async #take(held) {
    const { image } = await this.api.next(this.queue.filters, held, [...this.passed].slice(-MOST));
    return image ? { image, bitmap: this.#picture(image.item.key) } : null;
  }

  async #load(key) {
    return { image: await this.api.image(key), bitmap: this.#picture(key) };
  }

  #picture(key) {
    const bitmap = this.api.picture(key, 2048);
    bitmap.catch(() => {}); // reported where it is shown
    return bitmap;
  }

  #drop() {
    void this.ahead?.then((found) => found?.bitmap).then((bitmap) => bitmap?.close()).catch(() => {});
    this.ahead = null;
  }
}
