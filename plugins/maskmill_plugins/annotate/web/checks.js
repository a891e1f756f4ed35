/** What speaks against accepting the objects of an image. */

import { many } from "./strings.js";

/**
 * @param {import("./editor.js").Editor} editor
 * @param {import("./live.js").LiveMasks} live
 * @param {string[]} labels  in use; where there are none, objects need none
 * @returns {string} a phrase for each finding, "" if there is nothing to say
 */
export function openPoints(editor, live, labels) {
  const pending = editor.objects.filter((object) => !live.answer(object)).length;
  const bare = editor.objects.filter((object) => !live.answer(object)?.masks?.some((mask) => mask.area)).length - pending;
  const unnamed = labels.length ? editor.objects.filter((object) => object.label === null).length : 0;
  const dropped = editor.objects.filter((object) => live.filtered?.verdict(object)?.all).length;
  return [...(pending ? [many("maskPending", pending)] : []), ...(bare ? [many("withoutMask", bare)] : []), ...(dropped ? [many("droppedByBatch", dropped)] : []), ...(unnamed ? [many("withoutLabel", unnamed)] : [])].join(" · ");
}
