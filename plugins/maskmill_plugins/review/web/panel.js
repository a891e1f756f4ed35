/** The panel beside the image: why it is doubtful, its objects, the labels. */

import { css, nth } from "./colors.js";
import { byId, icon, make } from "./dom.js";
import { makeChip, matching } from "./labelchips.js";
import { t } from "./strings.js";

/** Labels that are shown as buttons at once. */
const SHOWN = 60;

/** The reason of a doubt in words. @param {any} item  of the queue */
export function explain({ doubt, why, figure }) {
  if (doubt === null) return t("why_unknown");
  const n = figure === null ? "" : Number.isInteger(figure) && figure > 1 ? figure : figure.toFixed(2);
  return t(`why_${why}`, { n: why === "doubts" || why.startsWith("dropped") ? Math.round(figure ?? 0) : n });
}

export class Panel {
  /**
   * @param {import("./edits.js").Edits} edits
   * @param {import("./canvas.js").Picture} picture
   */
  constructor(edits, picture) {
    this.edits = edits;
    this.picture = picture;
    /** @type {string[]} */
    this.labels = [];
    edits.addEventListener("change", () => this.render());
    const input = byId("label-input");
    input.addEventListener("input", () => this.#renderLabels());
    byId("label-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const [first] = this.#found();
      const text = input.value.trim();
      if (text) this.#use(this.labels.includes(text) ? text : first ?? text);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#leaveInput();
    });
  }

  /** @param {string[]} labels  to offer */
  offer(labels) {
    this.labels = labels;
    this.#renderLabels();
  }

  /** @param {number} number  of a label, from 0 */
  useNumber(number) {
    if (number < this.labels.length) this.#use(this.labels[number]);
  }

  type() {
    byId("label-input").focus();
  }

  render() {
    const { image, kept, others, selected } = this.edits;
    const item = image?.item;
    byId("why").textContent = item ? [explain(item), image.reason].filter(Boolean).join(" · ") : "";
    const doubts = image?.doubts ?? [];
    byId("doubts").hidden = !doubts.length;
    byId("doubts").replaceChildren(...doubts.map((text) => make("li", { textContent: text })));
    byId("comment").hidden = !image?.comment;
    byId("comment").textContent = image?.comment ? `${item.reviewer || "?"}: ${image.comment}` : "";
    byId("object-count").textContent = image ? String(kept.length) : "";
    byId("no-objects").hidden = kept.length > 0;
    byId("objects").replaceChildren(...kept.map((piece) => this.#row(piece)));
    byId("others-part").hidden = !others.length;
    byId("others").replaceChildren(...others.map((piece) => this.#row(piece)));
    byId("selected").textContent = selected.size ? t("selected", { n: selected.size }) : "";
    this.#renderLabels();
  }

  #row(piece) {
    const active = this.edits.selected.has(piece.id);
    const swatch = make(piece.kept ? "span.swatch" : "span.swatch.off");
    if (piece.kept) swatch.style.backgroundColor = css(nth(piece.color));
    const made = piece.edited && !piece.waiting ? t(piece.prompted && piece.score !== null ? "byModel" : "byHand") : "";
    const reason = piece.kept ? made : piece.removed ? t("removedNow") : piece.reason;
    const name = make("span.name", { textContent: piece.label ?? t("noLabel") });
    if (reason) name.append(make("span.reason", { textContent: reason }));
    const score = make("span.score", { textContent: piece.waiting ? "…" : piece.score === null ? "" : piece.score.toFixed(2) });
    const pick = make("button.pick", {
      type: "button", "aria-pressed": String(active),
      onclick: (event) => {
        this.edits.select(piece.id, event.shiftKey || event.ctrlKey || event.metaKey);
        this.picture.redraw();
      },
      ondblclick: () => this.picture.focus(piece.box),
    }, swatch, name, score);
    const only = new Set([piece.id]);
    const act = piece.kept
      ? make("button.icon.small", { type: "button", title: t("removeOne"), "aria-label": `${t("removeOne")}: ${piece.label ?? t("noLabel")}`, onclick: () => this.edits.remove(only) }, icon("trash"))
      : make("button.text", { type: "button", textContent: t("keepOne"), onclick: () => this.edits.keep(only) });
    const row = make("li.object", {}, pick, act);
    row.dataset.active = String(active);
    row.dataset.id = piece.id;
    return row;
  }

  #found() {
    return matching(this.labels, byId("label-input").value);
  }

  #renderLabels() {
    const { kept, label: next, selected } = this.edits;
    const used = new Set(selected.size ? kept.filter((one) => selected.has(one.id)).map((one) => one.label) : [next]);
    byId("labels").replaceChildren(...this.#found().slice(0, SHOWN).map(
      (label) => makeChip(label, this.labels.indexOf(label) + 1, used.has(label), () => this.#use(label)),
    ));
  }

  #use(label) {
    this.edits.relabel(label);
    if (!this.labels.includes(label)) this.labels = [...this.labels, label];
    this.#leaveInput();
  }

  #leaveInput() {
    const input = byId("label-input");
    input.value = "";
    input.blur();
    this.#renderLabels();
  }
}
