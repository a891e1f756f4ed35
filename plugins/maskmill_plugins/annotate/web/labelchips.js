/** Labels that fit a typed text, and a button for each. */

import { make } from "./dom.js";

/** @param {string[]} labels @param {string} typed @returns {string[]} those that contain the text, those that begin with it first */
export function matching(labels, typed) {
  const text = typed.trim().toLowerCase();
  const begins = (label) => label.toLowerCase().startsWith(text);
  const found = labels.filter((label) => label.toLowerCase().includes(text));
  return [...found.filter(begins), ...found.filter((label) => !begins(label))];
}

/** @param {string} label @param {number} number  of its key, from 1 @param {boolean} pressed @param {() => void} onclick */
export function makeChip(label, number, pressed, onclick) {
  const key = number <= 9 ? [make("kbd", { textContent: String(number) })] : [];
  return make("button.chip", { type: "button", "aria-pressed": String(pressed), onclick }, ...key, label);
}
