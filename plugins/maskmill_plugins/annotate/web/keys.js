/** Keyboard shortcuts. */

/** Elements that handle keys themselves. */
const TYPING = "input, textarea, select, dialog[open]";
/** Keys that act once however long they are held: each press is a decision about what is seen. */
const ONCE = new Set(["Enter", "e", "r", "c", "Delete", "Backspace", "k"]);
const PRESSED = "button, a, [role=option]";

/**
 * @param {Record<string, (event: KeyboardEvent) => void>} actions  by key, "Shift+" before it where Shift counts
 * @param {(held: boolean) => void} grab  space is held
 * @param {(held: boolean) => void} bare  masks are hidden while a key is held
 */
export function listen(actions, grab, bare) {
  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest(TYPING) || event.isComposing) return;
    const pressing = event.key === "Enter" || event.key === " ";
    if (pressing && target.closest(PRESSED)) return;
    if (event.key === " ") {
      event.preventDefault();
      grab(true);
    } else if (event.key === "m" && !event.repeat) {
      bare(true);
    } else {
      act(actions, event);
    }
  });
  addEventListener("keyup", (event) => {
    if (event.key === " ") grab(false);
    if (event.key === "m") bare(false);
  });
  addEventListener("blur", () => {
    grab(false);
    bare(false);
  });
  // After a click on a button, Enter means "accept" again, not that button.
  addEventListener("click", (event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest?.("button");
    if (button && event.detail > 0 && !button.closest("dialog")) button.blur();
  });
}

function act(actions, event) {
  const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.altKey) return undefined;
  if (event.ctrlKey || event.metaKey) {
    const undo = { z: event.shiftKey ? "Shift+z" : "z", y: "Shift+z" }[letter];
    if (!undo) return undefined; // handled by the browser
    event.preventDefault();
    actions[undo](event);
    return undefined;
  }
  if (event.repeat && ONCE.has(letter)) return event.preventDefault(); // a key held too long acts once
  const action = (event.shiftKey && actions[`Shift+${letter}`]) || actions[letter];
  if (!action) return undefined;
  event.preventDefault();
  action(event);
  return undefined;
}
