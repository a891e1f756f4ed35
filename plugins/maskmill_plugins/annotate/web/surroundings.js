/** The elements around the image: name, status, progress and hints; also the choice of the first image. */

import { byId, make } from "./dom.js";
import { STATUSES } from "./list.js";
import { t } from "./strings.js";

export class Surroundings {
  /** @param {Record<string, any>} parts */
  constructor({ api, browser, editor, list, live, notices, session }) {
    Object.assign(this, { api, browser, editor, list, live, notices, session });
    this.touch = matchMedia("(pointer: coarse)").matches;
    editor.addEventListener("change", () => this.draw());
    editor.addEventListener("open", () => this.#opened());
    browser.addEventListener("failed", () => this.#failed());
    browser.addEventListener("aimed", () => this.draw());
    list.addEventListener("counts", () => this.drawCounts());
    addEventListener("hashchange", () => {
      const named = new URLSearchParams(location.hash.slice(1)).get("image");
      if (named !== null && named !== editor.image?.key) browser.open(named);
    });
    this.drawCounts();
  }

  /** The image in the URL, else the first to do, else the first. @returns {Promise<string | null>} */
  async firstKey() {
    const named = new URLSearchParams(location.hash.slice(1)).get("image");
    if (named !== null) return named;
    for (const status of ["todo", ""]) {
      const found = await this.api.images({ offset: 0, limit: 1, search: "", status }).catch(() => ({ items: [] }));
      if (found.items.length) return found.items[0].key;
    }
    return null;
  }

  #opened() {
    const { image } = this.editor;
    if (image.key !== null) this.list.update(image.key, image.entry.status, image.entry.prompts.length);
    this.list.mark(image.key, image.key === null ? null : image.index);
    if (image.key !== null) history.replaceState(null, "", `#${new URLSearchParams({ image: image.key })}`);
    this.notices.saving();
  }

  #failed() {
    const { failedAt: { index }, failedKey } = this.browser;
    if (index !== null) this.list.update(failedKey, "failed");
    this.list.mark(failedKey, index);
    this.draw();
  }

  draw() {
    const { browser, editor, editor: { image } } = this;
    const failed = browser.failed !== "";
    byId("name").textContent = failed ? browser.failedKey : image ? image.key ?? t("quick", { name: image.name }) : "";
    const at = failed ? browser.failedAt : image;
    const listed = typeof at?.index === "number";
    byId("place").textContent = listed ? t("place", { n: at.index + 1, total: this.session.count }) : "";
    const status = byId("status");
    status.hidden = !listed;
    status.dataset.status = failed ? "failed" : editor.state.status;
    status.textContent = t(status.dataset.status);
    byId("undo").disabled = !editor.history.canUndo;
    byId("redo").disabled = !editor.history.canRedo;
    byId("previous").disabled = !browser.around.previous;
    byId("next").disabled = !browser.around.next;
    byId("copy-previous").disabled = !image?.previous;
    byId("accept").disabled = !image || image.key === null || failed;
    byId("mark-empty").disabled = byId("reject").disabled = byId("accept").disabled;
    byId("reject").setAttribute("aria-pressed", String(editor.state.status === "rejected"));
    byId("mark-empty").setAttribute("aria-pressed", String(editor.state.status === "empty"));
    for (const button of byId("downloads").querySelectorAll("button")) button.disabled = !editor.objects.length;
    this.#drawBlank(failed);
    this.#drawHint();
  }

  #drawBlank(failed) {
    const nothing = !this.editor.image && this.session.count === 0;
    byId("blank").hidden = !failed && !nothing;
    byId("blank-title").textContent = failed ? t("cannotOpen") : nothing ? t("noImages") : "";
    byId("blank-text").textContent = failed ? this.browser.failed : nothing ? t("dropHere") : "";
  }

  #drawHint() {
    const { active, image } = this.editor;
    const name = active ? "hintActive" : "hintStart";
    const touch = active ? "hintTouchActive" : "hintTouch";
    byId("hint").textContent = t(this.touch ? touch : name);
    byId("hint").hidden = !image;
  }

  drawCounts() {
    const { counts } = this.list;
    const total = STATUSES.reduce((sum, status) => sum + counts[status], 0);
    const finished = counts.done + counts.empty + counts.rejected;
    byId("progress-fill").style.inlineSize = `${total ? (100 * finished) / total : 0}%`;
    byId("progress-text").textContent = `${finished} / ${total}`;
    const progress = byId("progress");
    progress.setAttribute("aria-valuenow", finished);
    progress.setAttribute("aria-valuemax", Math.max(1, total));
    progress.setAttribute("aria-label", t("progress", { n: finished, total }));
    progress.title = t("progress", { n: finished, total });
    const shown = STATUSES.filter((status) => counts[status] || status === this.list.status || status === "todo" || status === "done");
    byId("filters").replaceChildren(this.#filter("", total), ...shown.map((status) => this.#filter(status, counts[status])));
  }

  #filter(status, count) {
    const choose = () => {
      this.list.status = status;
      this.list.reload();
    };
    return make(
      "button.filter", { type: "button", "aria-pressed": String(status === this.list.status), onclick: choose, "data-status": status },
      make("span.dot"), t(status || "filterAll"), make("span.count", { textContent: String(count) }),
    );
  }
}
