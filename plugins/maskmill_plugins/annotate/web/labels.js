/** The labels that are offered, as buttons and by typing. */

import { byId } from "./dom.js";
import { makeChip, matching } from "./labelchips.js";
import { t } from "./strings.js";

export class Labels {
  /**
   * @param {import("./stage.js").Stage} stage
   * @param {string[]} labels  given with the command, before those that are in use
   */
  constructor(stage, labels) {
    this.editor = stage.editor;
    /** @type {string[]} */
    this.all = [...labels];
    stage.labels = this.all;
    /** Which of the typed text's matches Enter takes. */
    this.choice = 0;
    this.input = byId("label-input");
    this.editor.addEventListener("change", () => this.draw());
    this.input.addEventListener("input", () => this.#choose(0));
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("blur", () => this.draw());
    byId("label-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#use(this.next);
    });
  }

  /** Never takes a label away: the next object has it already, and one presses its key out of habit. @param {number} number  of the key, from 1 */
  useNumber(number) {
    const label = this.all[number - 1];
    if (label !== undefined) this.editor.setLabel(label);
  }

  /** Replace the labels, for example after one was renamed. @param {string[]} labels */
  replace(labels) {
    this.all.splice(0, this.all.length, ...labels);
    this.draw();
  }

  /** The typed text without spaces around it. */
  get typed() {
    return this.input.value.trim();
  }

  /** The label of the selected object, else of the next one. */
  get worn() {
    return this.editor.active ? this.editor.active.label : this.editor.label;
  }

  /** The labels that fit the typed text, those that begin with it first. */
  get matches() {
    return matching(this.all, this.typed);
  }

  /** What Enter takes: the label that is typed or begins so, or that the arrow keys chose; else a new one; "" for none. */
  get next() {
    const { choice, matches, typed } = this;
    const text = typed.toLowerCase();
    if (!text) return "";
    if (choice) return matches[choice % matches.length];
    const same = matches.find((label) => label === typed) ?? matches.find((label) => label.toLowerCase() === text);
    return same ?? (matches[0]?.toLowerCase().startsWith(text) ? matches[0] : typed);
  }

  draw() {
    for (const { label } of this.editor.objects) this.#known(label);
    const { next, typed, worn } = this;
    byId("labels").replaceChildren(...this.matches.map((label) => {
      const chip = makeChip(label, this.all.indexOf(label) + 1, label === worn, () => this.#toggle(label));
      chip.dataset.next = String(label === next);
      return chip;
    }));
    const other = typed && next !== typed ? ` · ${t("shiftEnterTakes", { label: typed })}` : "";
    byId("label-next").textContent = next ? t(this.all.includes(next) ? "enterTakes" : "enterAdds", { label: next }) + other : "";
    byId("labels").querySelector("[data-next=true]")?.scrollIntoView({ block: "nearest" });
  }

  /** Remember new and used labels, to offer them on other images. */
  #known(label) {
    if (label && !this.all.includes(label)) this.all.push(label);
  }

  #toggle(label) {
    this.editor.setLabel(this.worn === label ? null : label);
  }

  #use(label) {
    this.input.value = "";
    this.choice = 0;
    this.input.blur();
    byId("canvas").focus({ preventScroll: true });
    if (!label) return this.draw();
    this.#known(label);
    return this.editor.setLabel(label);
  }

  #choose(number) {
    this.choice = number;
    this.draw();
  }

  #key(event) {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") this.#use("");
    else if (event.key === "Enter" && event.shiftKey) this.#use(this.typed);
    else if (step && this.typed && this.matches.length) this.#choose(this.#after(step));
    else return;
    event.preventDefault();
  }

  /** The number of the match after or before the one that Enter takes. */
  #after(step) {
    const { length } = this.matches;
    const at = this.matches.indexOf(this.next);
    return (at + step + length) % length || length; // not 0, which stands for "as typed"
  }
}
