/** Keyboard shortcuts of the review. */

import { byId } from "./dom.js";

/** Elements that handle keys themselves. */
const TYPING = "input, textarea, select, dialog[open]";
/** Holding one of these must not decide about images that nobody has seen. */
const ONCE = new Set(["Enter", "r", "q", "Delete", "Backspace"]);

/** @param {any} page */
export function listenToKeys(page) {
  const { edits, picture, panel, tools } = page;
  const actions = {
    Enter: () => page.decide("accepted"),
    Delete: () => edits.remove(),
    Backspace: () => edits.remove(),
    k: () => edits.keep(),
    r: () => page.reject(),
    q: () => page.ask(),
    z: () => page.undo(),
    n: () => page.pass(),
    p: () => page.previous(),
    a: () => edits.selectAll(),
    l: () => panel.type(),
    c: () => page.openSheet(),
    "+": () => picture.zoom(1.5),
    "=": () => picture.zoom(1.5),
    "-": () => picture.zoom(1 / 1.5),
    0: () => picture.fit(),
    Escape: () => tools.cancel() || (edits.selected.size ? edits.select(null) : tools.take("select")),
    h: () => tools.take("select"),
    b: () => tools.take("brush"),
    x: () => tools.take("erase"),
    f: () => tools.take("add"),
    g: () => tools.take("off"),
    d: () => tools.take("box"),
    "[": () => tools.resize(-1),
    "]": () => tools.resize(1),
    "?": () => page.help(),
  };
  for (let number = 1; number <= 9; number++) actions[number] = () => panel.useNumber(number - 1);

  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    const isBracket = event.key === "[" || event.key === "]"; // typed with AltGr on some keyboards
    if (target.closest(TYPING) || event.isComposing || (modified && !isBracket)) return;
    if (event.repeat && ONCE.has(event.key)) return;
    if (page.sheet.isOpen) return onSheet(page, event, target);
    if (event.key === "Enter" && target.closest("button, a")) return;
    if (event.key === "m" && !event.repeat) hide(page, true);
    if (event.key === " " && !target.closest("button, a")) {
      event.preventDefault();
      tools.grab(true);
    }
    if (event.key === "Tab" && (target === document.body || target === byId("canvas")) && edits.kept.length) {
      event.preventDefault();
      page.focusNext(event.shiftKey ? -1 : 1);
      return;
    }
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  addEventListener("keyup", (event) => {
    if (event.key === "m") hide(page, false);
    if (event.key === " ") tools.grab(false);
  });
  addEventListener("blur", () => {
    hide(page, false);
    tools.grab(false);
  });
  // After a click on a button, Enter means "accept" again, not that button.
  addEventListener("click", (event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest?.("button");
    if (button && event.detail > 0 && !button.closest("dialog")) button.blur();
  });
}

function onSheet(page, event, target) {
  if (event.key === "Escape") page.sheet.close();
  if (event.key === "Enter" && !target.closest("button")) void page.sheet.go();
}

function hide(page, bare) {
  page.picture.bare = bare;
  page.picture.redraw();
}
