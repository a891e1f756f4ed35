/** The contact sheet: many objects of one label; what is clicked is wrong. Event: "done" when it is closed. */

import { byId, make } from "./dom.js";
import { fill } from "./queue.js";
import { t } from "./strings.js";

export class Sheet extends EventTarget {
  /** @param {import("./reviewapi.js").ReviewApi} api @param {(error: unknown) => void} report */
  constructor(api, report) {
    super();
    this.api = api;
    this.report = report;
    /** @type {any[]} */
    this.items = [];
    this.wrong = new Set();
    this.busy = false;
    byId("sheet-label").onchange = () => this.load();
    byId("sheet-go").onclick = () => this.go();
    byId("close-sheet").onclick = () => this.close();
  }

  get isOpen() {
    return !byId("sheet").hidden;
  }

  /** @param {string[]} labels @param {string | null} chosen */
  open(labels, chosen) {
    fill("sheet-label", [...labels.map((name) => [name, name]), ["", t("noLabel")]], chosen ?? labels[0] ?? "");
    byId("sheet-said").textContent = "";
    byId("sheet").hidden = false;
    return this.load();
  }

  close() {
    byId("sheet").hidden = true;
    this.dispatchEvent(new Event("done"));
  }

  async load() {
    try {
      const page = await this.api.sheet(byId("sheet-label").value || null);
      this.items = page.items;
      this.wrong.clear();
      byId("sheet-left").textContent = t("sheetLeft", { n: page.left.toLocaleString() });
      byId("sheet-go").hidden = !page.items.length;
      byId("sheet-go").textContent = t("sheetGo", { n: page.items.length });
      const crops = page.items.map((item, number) => this.#crop(item, number));
      byId("crops").replaceChildren(...(crops.length ? crops : [make("p.faint", { textContent: t("sheetEmpty") })]));
    } catch (error) {
      this.report(error);
    }
  }

  /** Save what was seen, and show the next objects; not before all crops are shown. */
  async go() {
    if (this.busy || !this.items.length || byId("crops").querySelector("[data-waiting]")) return;
    this.busy = true;
    try {
      const objects = this.items.map(({ key, index, result }, number) => ({ key, index, result, wrong: this.wrong.has(number) }));
      const reply = await this.api.seen(objects);
      const lost = reply.not_saved.length ? ` · ${t("sheetNotSaved", { n: reply.not_saved.length })}` : "";
      byId("sheet-said").textContent = t("sheetResult", reply) + lost;
      await this.load();
    } catch (error) {
      this.report(error);
    } finally {
      this.busy = false;
    }
  }

  #crop(item, number) {
    const canvas = make("canvas", { width: 192, height: 192 });
    const score = make("span", { textContent: item.score === null ? "" : item.score.toFixed(2) });
    const button = make(
      "button.crop", { type: "button", title: item.key, "aria-pressed": "false", "aria-label": `${item.key}, ${item.score?.toFixed(2) ?? ""}` },
      canvas, make("span", {}, make("span.name", { textContent: item.key }), score),
    );
    button.dataset.waiting = "true";
    button.onclick = () => {
      if (!this.wrong.delete(number)) this.wrong.add(number);
      const wrong = this.wrong.has(number);
      button.setAttribute("aria-pressed", String(wrong));
      score.textContent = wrong ? t("wrong") : item.score === null ? "" : item.score.toFixed(2);
    };
    this.api.crop(item.key, item.index).then((bitmap) => {
      canvas.getContext("2d").drawImage(bitmap, 0, 0, 192, 192);
      delete button.dataset.waiting;
    }).catch((error) => this.report(error)); // what could not be seen is not accepted: the sheet stays
    return button;
  }
}
