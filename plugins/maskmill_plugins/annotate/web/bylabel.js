/** Whether objects of one label have one colour, remembered for the next visit. */

import { keep, kept } from "./api.js";
import { byId } from "./dom.js";

const NAME = "maskmill.bylabel";

/**
 * @param {import("./stage.js").Stage} stage
 * @param {import("./objects.js").ObjectsPanel} objects
 * @param {boolean} [chosen]  as remembered, if left out
 */
export function colorByLabel(stage, objects, chosen = kept(localStorage, NAME) === "true") {
  stage.byLabel = chosen;
  keep(localStorage, NAME, String(chosen));
  byId("by-label").setAttribute("aria-pressed", String(chosen));
  stage.redraw();
  objects.draw();
}
