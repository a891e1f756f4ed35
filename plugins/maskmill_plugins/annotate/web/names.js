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

/**
 * What the pipeline's filters make of an object, "" if nothing worth saying.
 * @param {import("./live.js").LiveMasks} live
 * @param {import("./prompts.js").Thing} object
 * @param {boolean} whole  with the reason
 * @returns {string}
 */
export function noteOf(live, object, whole) {
  const verdict = live.filtered?.verdict(object);
  if (!verdict) return "";
  if (verdict.dropped) return whole ? t("batchDrops", { why: verdict.dropped }) : t(verdict.all ? "droppedShort" : "droppedSomeShort");
  return t("batchRenames", { label: verdict.label || t("noLabel") });
}
