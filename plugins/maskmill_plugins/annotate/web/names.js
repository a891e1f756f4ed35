/** The names of objects. */

import { t } from "./strings.js";

/**
 * The label, else the text that found it, else its number.
 * @param {import("./editor.js").Editor} editor
 * @param {import("./prompts.js").Thing} object
 * @returns {string}
 */
export function nameOf(editor, object) {
  const number = editor.objects.findIndex((one) => one.uid === object.uid) + 1 || editor.objects.length + 1;
  return object.label ?? object.rest.text ?? t("object", { n: number });
}
