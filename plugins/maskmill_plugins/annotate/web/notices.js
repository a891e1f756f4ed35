/** Notices: whether changes are saved, the connection, running computations, short messages. */

import { byId, make } from "./dom.js";
import { t } from "./strings.js";

/** Milliseconds of computing before a notice appears. */
const PATIENCE = 350;

export class Notices {
  /**
   * @param {import("./editor.js").Editor} editor
   * @param {import("./live.js").LiveMasks} live
   * @param {import("./connection.js").Connection} connection
   */
  constructor(editor, live, connection) {
    this.editor = editor;
    this.live = live;
    this.connection = connection;
    /** @type {import("./saving.js").Saver | null} */
    this.saver = null;
    this.modelState = "loading";
    this.opening = 0;
    this.toastTimer = 0;
    for (const event of ["lost", "waiting", "back"]) connection.addEventListener(event, () => this.banner());
    connection.addEventListener("back", () => this.toast(t("back")));
    live.addEventListener("busy", () => this.busy());
    live.addEventListener("masks", () => this.busy());
    setInterval(() => this.busy(), 100);
  }

  /** @param {import("./saving.js").Saver} saver */
  watch(saver) {
    this.saver = saver;
    for (const event of ["state", "saved", "conflict"]) saver.addEventListener(event, () => this.saving());
    this.saving();
  }

  saving() {
    const quick = this.editor.image && this.editor.image.key === null;
    const state = this.saver?.state ?? "saved";
    const text = { conflict: "conflictState", refused: "refusedState" }[state] ?? state;
    const element = byId("save-state");
    element.dataset.state = quick && state === "saved" ? "quick" : state;
    byId("save-text").textContent = t(quick && state === "saved" ? "quickState" : text);
    this.banner();
  }

  banner() {
    const { connection, saver } = this;
    const lost = connection.left ? t("lost", { n: connection.left }) : t("trying");
    const text = connection.lost ? lost
      : saver?.refused ? t("refused", { why: saver.refused })
        : saver?.trouble ? t("troubled", { why: saver.trouble })
          : this.modelState === "failed" ? t("modelFailed")
            : saver?.fragile && saver.state !== "saved" ? t("fragile") : "";
    byId("banner").hidden = !text;
    byId("banner-text").textContent = text;
    byId("try-now").hidden = !connection.lost;
  }

  /** Show long computations. */
  busy() {
    const now = performance.now();
    const wait = this.live.since ? now - this.live.since : 0;
    const seconds = (wait / 1000).toFixed(0);
    const text = this.opening && now - this.opening > PATIENCE ? t("opening")
      : this.modelState === "loading" ? t("modelLoading")
        : wait > PATIENCE ? (this.live.answered ? `${t("computing")}…` : t("preparing", { n: seconds })) : "";
    const element = byId("busy");
    if (byId("busy-text").textContent !== text) byId("busy-text").textContent = text;
    byId("busy-hint").textContent = wait > 1500 && !this.live.answered ? t("prepareHint") : "";
    element.hidden = !text;
  }

  /** @param {string} text */
  toast(text, action = "", run = () => {}) {
    const toast = byId("toast");
    const button = make("button.link", { type: "button", textContent: action, onclick: run });
    toast.replaceChildren(text, ...(action ? [" ", button] : []));
    toast.hidden = false;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => this.quiet(), action ? 8000 : 3500);
  }

  /** Take the short message away. */
  quiet() {
    byId("toast").hidden = true;
  }
}
