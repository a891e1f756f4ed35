/** The review page: which image is shown, what keys do, and saving. */

import { Problem, Unreachable, keep, kept } from "./api.js";
import { Picture } from "./canvas.js";
import { Connection } from "./connection.js";
import { askText, choose, help, settle } from "./dialogs.js";
import { byId, drawIcons } from "./dom.js";
import { Edits } from "./edits.js";
import { listenToKeys } from "./shortcuts.js";
import { Panel } from "./panel.js";
import { Queue } from "./queue.js";
import { ReviewApi } from "./reviewapi.js";
import { Sheet } from "./sheet.js";
import { speak, spoken, t, translate } from "./strings.js";
import { startTheme, switchTheme } from "./theme.js";
import { Walk } from "./walk.js";

const NAME = "maskmill.reviewer";

class Page {
  constructor() {
    this.api = new ReviewApi();
    this.edits = new Edits();
    this.picture = new Picture(byId("canvas"), this.edits);
    this.panel = new Panel(this.edits, this.picture);
    this.queue = new Queue(this.api);
    this.sheet = new Sheet(this.api, (error) => this.report(error));
    this.connection = new Connection(this.api);
    this.walk = new Walk(this.api, this.queue);
    this.state = "saved";
    this.trouble = "";
    this.info = /** @type {any} */ (null);
    this.toastTimer = 0;
    this.refined = false;
  }

  async start() {
    startTheme();
    drawIcons();
    this.#wire();
    this.info = await this.#session();
    this.api.reviewer = kept(localStorage, NAME) ?? (this.info.ask ? "" : this.info.reviewer);
    const address = new URLSearchParams(location.hash.slice(1));
    this.queue.offer(this.info.labels, address.get("label"));
    this.panel.offer(this.info.labels);
    this.render();
    if (!this.api.reviewer) await this.#askName();
    this.#banner();
    const key = address.get("image");
    await (key === null ? this.restart() : Promise.all([this.#list(), this.#go(() => this.walk.open(key))]));
    document.body.dataset.ready = "true";
    setInterval(() => this.#follow(), 2000);
  }

  async #session() {
    for (;;) {
      try {
        return await this.api.session();
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 401) throw error;
        this.api.useToken(await askText({ title: "tokenTitle", hint: "tokenText", label: "token", type: "password", go: "continue", must: true }) ?? "");
      }
    }
  }

  async #askName() {
    const value = this.api.reviewer || this.info.reviewer;
    const name = await askText({ title: "nameTitle", hint: "nameText", label: "name", value, go: "continue", must: true });
    this.api.reviewer = (name ?? value).slice(0, 200);
    keep(localStorage, NAME, this.api.reviewer);
    this.render();
  }

  /** The filters have changed, or the page was opened. */
  async restart() {
    this.walk.restart();
    await Promise.all([this.#list(), this.advance()]);
  }

  async #list() {
    try {
      this.#count(await this.queue.load());
    } catch (error) {
      this.report(error);
    }
  }

  /** While results are still being read, the queue grows, and so do the labels. */
  async #follow() {
    if (byId("pending").hidden || this.connection.lost) return;
    await this.#list();
    const { labels } = await this.#session();
    this.info.labels = labels;
    this.queue.offer(labels);
    this.panel.offer([...new Set([...labels, ...this.panel.labels])]);
  }

  /** Show the next image of the queue. */
  async advance() {
    await this.#go(() => this.walk.next());
  }

  async #go(find) {
    try {
      await this.show(await find());
    } catch (error) {
      this.report(error);
    }
  }

  /** @param {any} found  {image, bitmap, trouble}, null if nothing is left */
  async show(found) {
    this.edits.open(found?.image ?? null);
    this.refined = false;
    this.picture.show(null);
    this.#blank(found === null);
    this.render();
    if (!found) return;
    const { image } = found;
    this.queue.mark(image.item.key);
    try {
      const bitmap = await found.bitmap;
      if (this.edits.image !== image) return void bitmap?.close();
      this.picture.show(bitmap);
      byId("hint").hidden = true;
    } catch (error) {
      if (this.edits.image !== image) return;
      byId("hint").textContent = t("noPicture", { why: error instanceof Error ? error.message : String(error) });
      byId("hint").hidden = false;
    }
    this.shown = image.item.key;
    document.body.dataset.shown = image.item.key;
    this.walk.prepare(image.item.key);
    if (image.versions.length) void this.#settle(image);
  }

  /** Two people decided differently: take one of their versions, or decide anew. */
  async #settle(image) {
    const versions = image.versions.map(({ reviewer, verdict, comment, objects }) => {
      const who = reviewer || "?";
      return { who, text: t("version", { who, verdict: t(verdict) }), comment, pieces: objects, size: image.size };
    });
    const chosen = await settle(image.item.key, versions, this.picture.bitmap);
    if (chosen >= 0 && this.edits.image === image) await this.decide("accepted", "", image.versions[chosen].revision);
  }

  /** Save a decision and go on once it is on disk. */
  async decide(verdict, comment = "", take = "") {
    const { image } = this.edits;
    if (!image || this.state === "saving" || this.shown !== image.item.key) return;
    this.#state("saving");
    const seconds = Math.min(1e6, (performance.now() - this.edits.since) / 1000);
    const { revision, result } = image;
    try {
      const reply = await this.api.decide(image.item.key, { revision, result, verdict, objects: this.edits.objects, comment, seconds, take });
      await this.#goOn(reply.item);
    } catch (error) {
      this.#state("unsaved");
      const isConflict = error instanceof Problem && error.kind === "conflict" && error.body.image;
      if (isConflict && take) { // somebody else has settled it
        this.#state("saved");
        await this.#go(() => this.walk.open(image.item.key));
      } else if (isConflict) await this.#conflict(error.body, verdict, comment);
      else this.report(error);
    }
  }

  /** A decision is on disk. @param {any} item  of the queue, as it is now */
  async #goOn(item) {
    this.#state("saved");
    this.trouble = "";
    this.#banner();
    this.queue.update(item);
    await this.advance();
    await this.#list();
  }

  async #conflict({ image, decided }, verdict, comment) {
    const { edits } = this;
    const mine = { pieces: edits.pieces.filter((one) => one.kept), size: image.size, text: t(verdict === "accepted" && edits.isChanged ? "fixed" : verdict) };
    const theirs = { pieces: image.objects.filter((one) => one.kept), size: image.size, text: t("decidedBy", { verdict: t(image.item.state), who: image.item.reviewer || "?" }) };
    const wanted = new Map(mine.pieces.map((one) => [one.counts, one.label]));
    const same = theirs.pieces.length === wanted.size && theirs.pieces.every((one) => wanted.get(one.counts) === one.label);
    const verdicts = verdict === "accepted" ? ["accepted", "fixed"] : [verdict];
    if (same && image.item.reviewer === this.api.reviewer && verdicts.includes(image.item.state)) {
      return this.#goOn(image.item); // it was saved, and the answer got lost
    }
    const isMine = decided && await choose(image.item.key, mine, theirs, this.picture.bitmap);
    edits.open(image);
    this.#state("saved");
    if (!decided) this.toast(t("changedResult"));
    if (!isMine) return;
    if ([...wanted.keys()].some((counts) => !image.objects.some((one) => one.counts === counts))) return this.toast(t("mineGone"));
    edits.pieces = edits.pieces.map((one) => ({ ...one, kept: wanted.has(one.counts), label: wanted.get(one.counts) ?? one.label }));
    await this.decide(verdict, comment);
  }

  async reject() {
    if (!this.edits.image) return;
    const reason = await askText({ title: "rejectTitle", hint: "rejectHint", label: "reject", go: "reject" });
    if (reason !== null) await this.decide("rejected", reason);
  }

  async ask() {
    if (!this.edits.image) return;
    const comment = await askText({ title: "askTitle", hint: "askHint", label: "ask", go: "save" });
    if (comment !== null) await this.decide("question", comment);
  }

  /** Undo the last change of this image, else go back to the last image. */
  async undo() {
    if (!this.edits.undo()) await this.#go(() => this.walk.previous());
  }

  pass() {
    return this.advance();
  }

  previous() {
    return this.#go(() => this.walk.previous());
  }

  focusNext(step) {
    const found = this.edits.selectNext(step);
    if (found) this.picture.focus(found.box);
  }

  openSheet() {
    return this.sheet.open(this.panel.labels, this.queue.filters.label);
  }

  help() {
    help();
  }

  toast(text) {
    byId("toast").textContent = text;
    byId("toast").hidden = false;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => (byId("toast").hidden = true), 4000);
  }

  /** @param {unknown} error */
  report(error) {
    const lost = error instanceof Unreachable;
    if (lost && this.state !== "unsaved") return; // the banner says so
    const why = lost ? t("noAnswer") : error instanceof Error ? error.message : String(error);
    this.trouble = this.state === "unsaved" ? t("notSaved", { why }) : why;
    this.#banner();
    if (!lost && !(error instanceof Problem)) throw error;
  }

  render() {
    translate();
    const { image } = this.edits;
    const item = image?.item;
    byId("run-name").textContent = this.info.name;
    byId("who").textContent = this.api.reviewer;
    byId("name").textContent = item?.key ?? "";
    byId("status").dataset.state = item?.state ?? "unseen";
    byId("status").textContent = item ? t(item.state) : "";
    if (item?.open_by) this.toast(t("openBy", { who: item.open_by }));
    for (const id of ["accept", "reject", "ask"]) byId(id).disabled = !image;
    this.panel.render();
    this.#state(this.state);
  }

  #count({ counts }) {
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const open = counts.unseen + counts.older + counts.disputed;
    byId("place").textContent = t("place", { n: this.queue.total.toLocaleString() });
    byId("progress").textContent = t("progress", { n: (all - open).toLocaleString(), total: all.toLocaleString() });
  }

  #state(state) {
    this.state = state;
    const shown = state === "saved" && this.edits.isChanged ? "edited" : state;
    byId("save-state").dataset.state = shown;
    byId("save-text").textContent = t(shown);
    byId("accept-text").textContent = t(this.edits.isChanged ? "acceptChanged" : "accept");
  }

  #banner() {
    const text = this.connection.lost ? t("lost") : this.trouble || this.info?.notice || "";
    byId("banner").hidden = !text;
    byId("banner-text").textContent = text;
    byId("try-now").hidden = !this.connection.lost;
  }

  #blank(shown) {
    byId("blank").hidden = !shown;
    const passed = this.walk.passed.size;
    byId("blank-title").textContent = t("allDone");
    byId("blank-text").textContent = passed ? t("passedText", { n: passed }) : t("allDoneText");
    byId("blank-go").hidden = !passed;
    if (shown) delete document.body.dataset.shown;
  }

  /** Finer pixels once the preview is enlarged beyond its own. */
  async #refine() {
    const { image } = this.edits;
    if (!image || this.refined || !this.picture.bitmap) return;
    const [height] = image.size;
    if (this.picture.view.scale * devicePixelRatio <= this.picture.bitmap.height / height || this.picture.bitmap.height >= height) return;
    this.refined = true;
    const bitmap = await this.api.picture(image.item.key, 4096).catch(() => null);
    if (bitmap && this.edits.image === image) this.picture.refine(bitmap);
  }

  #wire() {
    const on = (id, action) => (byId(id).onclick = action);
    on("accept", () => this.decide("accepted"));
    on("reject", () => this.reject());
    on("ask", () => this.ask());
    on("undo", () => this.undo());
    on("next", () => this.pass());
    on("previous", () => this.previous());
    on("help", () => help());
    on("theme", switchTheme);
    on("who", () => this.#askName());
    on("open-sheet", () => this.openSheet());
    on("blank-go", () => this.restart());
    on("try-now", () => this.connection.tryNow());
    on("show-list", () => (document.body.dataset.list = "true"));
    on("hide-list", () => delete document.body.dataset.list);
    on("language", () => {
      speak(spoken() === "zh" ? "en" : "zh");
      this.queue.offer(this.info.labels);
      this.render();
      void this.#list();
    });
    this.edits.addEventListener("change", () => this.#state(this.state));
    this.picture.addEventListener("look", () => this.#refine());
    this.queue.addEventListener("filter", () => this.restart());
    this.queue.addEventListener("pick", (event) => {
      delete document.body.dataset.list;
      void this.#go(() => this.walk.open(/** @type {CustomEvent} */ (event).detail));
    });
    this.sheet.addEventListener("done", () => this.restart());
    for (const name of ["lost", "back"]) this.connection.addEventListener(name, () => this.#banner());
    this.connection.addEventListener("back", () => this.toast(t("back")));
    listenToKeys(this);
    addEventListener("pagehide", () => void this.api.release().catch(() => {}));
  }
}

void new Page().start();
