/**
 * The list of images: only visible rows exist and only visible pages are requested, so that a folder of 20,000
 * images is as fast as one of 20. Events: "choose" (detail: key), "counts", "filtered", "error".
 */

import { make } from "./dom.js";
import { t } from "./strings.js";

/** Height of a row in pixels, as in parts.css; larger for touch. */
const ROW = matchMedia("(pointer: coarse)").matches ? 44 : 36;
const PAGE = 100;
/** Extra rows above and below the visible ones. */
const BEYOND = 6;
export const STATUSES = /** @type {const} */ (["todo", "done", "empty", "rejected", "failed"]);

export class ImageList extends EventTarget {
  /**
   * @param {import("./api.js").Api} api
   * @param {HTMLElement} box  that scrolls
   */
  constructor(api, box) {
    super();
    this.api = api;
    this.box = box;
    this.rows = make("div.rows");
    box.replaceChildren(this.rows);
    this.search = "";
    this.status = "";
    this.total = 0;
    /** @type {Record<string, number>} */
    this.counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
    /** @type {Map<number, any>} */
    this.items = new Map();
    /** @type {Set<number>} pages loaded or being loaded */
    this.pages = new Set();
    this.version = 0;
    /** @type {string | null} */
    this.current = null;
    box.addEventListener("scroll", () => this.#fill(), { passive: true });
    box.addEventListener("click", (event) => this.#clicked(event));
    box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#fill()).observe(box);
  }

  /** Reload with the current search and status. */
  async reload(keepPlace = false) {
    this.version += 1;
    this.pages.clear();
    if (!keepPlace) {
      this.items.clear();
      this.box.scrollTop = 0;
    }
    await this.#load(Math.floor((keepPlace ? this.box.scrollTop / ROW : 0) / PAGE));
    this.dispatchEvent(new Event("filtered"));
  }

  /** Whether "next" stays within the filter: with a status it does, with a search alone it does not. */
  get leads() {
    return this.status !== "" && this.total > 0;
  }

  /** The adjacent images in the filtered list; the image itself need not be in it. */
  async around(key) {
    const place = this.#placeOf(key);
    const [before, after] = place === undefined ? [] : [this.items.get(place - 1), this.items.get(place + 1)];
    const known = place !== undefined && (before || place === 0) && (after || place + 1 === this.total);
    if (!known) return this.api.neighbours(key, this.search, this.status);
    return { previous: before?.key ?? null, next: after?.key ?? null };
  }

  /**
   * Update an image's entry without a request.
   * @param {number} [objects]  left as it was, if left out
   * @returns {boolean} whether the image is among those that are here
   */
  update(key, status, objects) {
    const item = this.items.get(this.#placeOf(key));
    if (!item) return false;
    this.counts[item.status] -= 1;
    this.counts[status] += 1;
    Object.assign(item, { status, objects: objects ?? item.objects });
    this.dispatchEvent(new Event("counts"));
    this.#fill();
    return true;
  }

  /** Mark an image and scroll to it, if its position is known. @param {number | null} index without a filter */
  mark(key, index) {
    this.current = key;
    const plain = !this.search && !this.status;
    const place = plain ? index : this.#placeOf(key);
    if (typeof place === "number" && this.box.clientHeight) {
      const top = place * ROW;
      const room = this.box.clientHeight;
      const seen = top >= this.box.scrollTop && top + ROW <= this.box.scrollTop + room;
      if (!seen) this.box.scrollTop = Math.max(0, top - room / 3);
    }
    this.#fill();
  }

  draw() {
    this.#fill();
  }

  /** @returns {number | undefined} the image's position in the list, if that part is loaded */
  #placeOf(key) {
    return [...this.items].find(([, item]) => item.key === key)?.[0];
  }

  async #load(page) {
    if (this.pages.has(page)) return;
    this.pages.add(page);
    const { version } = this;
    const query = { offset: page * PAGE, limit: PAGE, search: this.search, status: this.status };
    try {
      const found = await this.api.images(query);
      if (version !== this.version) return;
      this.total = found.total;
      Object.assign(this.counts, found.counts);
      found.items.forEach((item, number) => this.items.set(page * PAGE + number, item));
      this.dispatchEvent(new Event("counts"));
      this.#fill();
    } catch (error) {
      this.pages.delete(page);
      this.dispatchEvent(new CustomEvent("error", { detail: error }));
    }
  }

  #fill() {
    this.rows.style.height = `${Math.max(1, this.total) * ROW}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - BEYOND);
    const last = Math.min(this.total, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + BEYOND);
    const rows = [];
    for (let at = first; at < last; at++) {
      if (!this.items.has(at) || !this.pages.has(Math.floor(at / PAGE))) this.#load(Math.floor(at / PAGE));
      rows.push(this.#row(at, this.items.get(at)));
    }
    if (!this.total && this.pages.size) rows.push(make("p.faint.pad", { textContent: t("noMatch") }));
    const focused = this.rows.contains(document.activeElement) ? document.activeElement.dataset.at : null;
    this.rows.replaceChildren(...rows);
    if (focused !== null) this.rows.querySelector(`[data-at="${focused}"]`)?.focus({ preventScroll: true });
  }

  #row(at, item) {
    const chosen = Boolean(item) && item.key === this.current;
    const row = make("div.row", {
      role: "option", tabIndex: chosen || (!this.current && at === 0) ? 0 : -1,
      "aria-selected": String(chosen), "aria-setsize": this.total, "aria-posinset": at + 1, "data-at": at,
    });
    row.style.top = `${at * ROW}px`;
    if (!item) return row;
    row.dataset.status = item.status;
    row.title = `${item.key} · ${t(item.status)}`;
    const cut = item.key.lastIndexOf("/") + 1;
    const name = make("span.name", {}, make("span.folder", { textContent: item.key.slice(0, cut) }), item.key.slice(cut));
    const dot = make("span.dot", { role: "img", "aria-label": t(item.status) });
    row.append(dot, name, make("span.count", { textContent: item.objects ? String(item.objects) : "" }));
    return row;
  }

  #clicked(event) {
    const row = event.target.closest(".row");
    const item = row && this.items.get(Number(row.dataset.at));
    if (item) this.dispatchEvent(new CustomEvent("choose", { detail: item.key }));
  }

  #key(event) {
    const row = event.target.closest(".row");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (row && (event.key === "Enter" || event.key === " ")) this.#clicked(event);
    else if (row && step) this.#focus(Number(row.dataset.at) + step);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #focus(at) {
    if (at < 0 || at >= this.total) return;
    const top = at * ROW;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    if (top + ROW > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + ROW - this.box.clientHeight;
    this.#fill();
    this.rows.querySelector(`[data-at="${at}"]`)?.focus({ preventScroll: true });
  }
}
