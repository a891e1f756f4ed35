/** The buttons of the tools below the image, and what the tools and the model have to say. */

import { byId } from "./dom.js";
import { t } from "./strings.js";

/** Tools that ask the model. */
const ASKING = new Set(["add", "off", "box"]);

/** @param {any} page */
export function connectTools(page) {
  const { clicks, picture, tools } = page;
  const buttons = [...byId("tools").querySelectorAll("button")];
  const draw = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === tools.tool));
    byId("brush-size").hidden = tools.tool !== "brush" && tools.tool !== "erase";
    byId("brush-width").textContent = t("brushWidth", { n: tools.width });
  };
  for (const button of buttons) button.onclick = () => tools.take(button.dataset.tool);
  byId("smaller").onclick = () => tools.resize(-1);
  byId("larger").onclick = () => tools.resize(1);
  byId("fit").onclick = () => picture.fit();
  tools.addEventListener("tool", draw);
  picture.drawn.push(() => (byId("brush-width").textContent = t("brushWidth", { n: tools.width })));
  tools.addEventListener("refused", ({ detail }) => page.toast(t(detail)));
  clicks.addEventListener("failed", ({ detail }) => page.toast(failure(detail)));
  clicks.addEventListener("busy", ({ detail }) => {
    byId("busy").hidden = !detail;
    if (detail) byId("busy-text").textContent = t(detail);
  });
  announceClicks(page);
  draw();
}

/** With a tool that asks the model, each image is prepared before the first click. */
function announceClicks({ api, edits, tools }) {
  let prepared = null;
  const prepare = () => {
    const { image } = edits;
    if (!image || image === prepared || !ASKING.has(tools.tool)) return;
    prepared = image;
    api.prepare(image.item.key).catch(() => {}); // the first click tells
  };
  tools.addEventListener("tool", prepare);
  edits.addEventListener("change", prepare);
}

/** @param {string | null} why  null if the server did not answer, "" if the model found nothing */
function failure(why) {
  if (why === null) return t("lost");
  return why ? t("noModel", { why }) : t("nothingThere");
}
