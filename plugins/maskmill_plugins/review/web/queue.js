/** The queue at the left: filters and the list. Events: "filter", "pick" (detail: key). */

import { byId, make } from "./dom.js";
import { explain } from "./panel.js";
import { t } from "./strings.js";
import { Thumbnails } from "./thumbnails.js";

/** Rows that are loaded at once. */
const PAGE = 100;
/** Milliseconds after the last letter of a search. */
const PAUSE = 250;
const STATES = ["open", "", "unseen", "older", "disputed", "question", "accepted", "fixed", "rejected"];
const STATUSES = ["", "done", "empty", "failed", "rejected"];

export class Queue extends EventTarget {
  /** @param {import("./reviewapi.js").ReviewApi} api */
  constructor(api) {
    super();
    this.api = api;
    this.current = "";
    /** @type {any[]} */
    this.items = [];
    this.total = 0;
    this.asked = 0;
    this.thumbnails = new Thumbnails(api, byId("list"));
    const changed = () => this.dispatchEvent(new Event("filter"));
    byId("filters").addEventListener("change", changed);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    let timer = 0;
    byId("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(changed, PAUSE);
    });
  }

  /** @param {string[]} labels @param {string | null} [chosen] */
  offer(labels, chosen = byId("filter-label").value || null) {
    fill("filter-state", STATES.map((name) => [name, t(name || "all")]), byId("filter-state").value || "open");
    fill("filter-status", STATUSES.map((name) => [name, t(name || "all")]), byId("filter-status").value);
    const names = chosen && !labels.includes(chosen) ? [chosen, ...labels] : labels;
    fill("filter-label", [["", t("all")], ...names.map((name) => [name, name])], chosen ?? "");
  }

  get filters() {
    return {
      search: byId("search").value.trim(),
      label: byId("filter-label").value || null,
      status: byId("filter-status").value,
      state: byId("filter-state").value,
      dropped: byId("filter-dropped").checked,
      score: byId("filter-score").value === "" ? null : Math.min(1, Math.max(0, Number(byId("filter-score").value))),
      sample: Math.max(0, Math.trunc(Number(byId("filter-sample").value)) || 0),
    };
  }

  /** Load the list; @returns {Promise<any>} with the counts */
  async load() {
    const asked = ++this.asked;
    const page = await this.api.queue(this.filters, 0, Math.max(PAGE, Math.min(this.items.length, 500)));
    if (asked !== this.asked) return page;
    this.items = page.items;
    this.total = page.total;
    this.#render();
    byId("pending").hidden = !page.pending;
    byId("pending").textContent = t("pending", { n: page.pending.toLocaleString() });
    return page;
  }

  /** An image was decided about: change its row without loading the list. */
  update(item) {
    const at = this.items.findIndex((one) => one.key === item.key);
    if (at >= 0) this.items[at] = item;
    this.#render();
  }

  /** @param {string} key  of the image that is shown */
  mark(key) {
    this.current = key;
    for (const row of byId("list").querySelectorAll(".entry")) {
      row.ariaCurrent = String(row.dataset.key === key);
      if (row.dataset.key === key) row.scrollIntoView({ block: "nearest" });
    }
  }

  async #more() {
    const page = await this.api.queue(this.filters, this.items.length, PAGE);
    this.items.push(...page.items);
    this.#render();
  }

  #render() {
    this.thumbnails.restart();
    const rows = this.items.map((item) => make("li", {}, this.#row(item)));
    if (!rows.length) rows.push(make("li.empty-list", { textContent: t("noMatch") }));
    if (this.items.length < this.total) {
      const more = make("button.button.small", { type: "button", textContent: t("more"), onclick: () => this.#more().catch(() => {}) });
      rows.push(make("li.more", {}, more));
    }
    byId("list").replaceChildren(...rows);
  }

  #row(item) {
    const why = item.open_by ? t("openBy", { who: item.open_by || "?" })
      : item.reviewer ? t("decidedBy", { verdict: t(item.state), who: item.reviewer }) : explain(item);
    const row = make(
      "button.entry", { type: "button", title: item.key, onclick: () => this.dispatchEvent(new CustomEvent("pick", { detail: item.key })) },
      this.thumbnails.make(item.key), make("span.dot"), make("span.name", {}, make("bdi", { textContent: item.key })),
      make("span.rank", { textContent: item.doubt === null ? "…" : String(Math.round(100 * item.doubt)) }),
      make("small", { textContent: why }),
    );
    row.dataset.state = item.state;
    row.dataset.key = item.key;
    row.ariaCurrent = String(item.key === this.current);
    return row;
  }
}

/** @param {string[][]} options  [value, text] */
export function fill(id, options, chosen) {
  const select = byId(id);
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
  select.value = chosen;
}
