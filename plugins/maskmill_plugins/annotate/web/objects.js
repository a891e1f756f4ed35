/** The list of objects and the three suggestions. */

import { css } from "./colors.js";
import { byId, icon, make } from "./dom.js";
import { shape } from "./maskpictures.js";
import { nameOf, noteOf } from "./names.js";
import { t } from "./strings.js";

/** Longer side of a suggestion's thumbnail in CSS pixels. */
const THUMB = 76;

export class ObjectsPanel {
  /** @param {import("./stage.js").Stage} stage */
  constructor(stage) {
    this.stage = stage;
    this.editor = stage.editor;
    this.live = stage.live;
    this.editor.addEventListener("change", () => this.draw());
    this.editor.addEventListener("hover", () => this.#drawHover());
    this.live.addEventListener("masks", () => this.draw());
    new ResizeObserver(() => scrollToActive(byId("objects"))).observe(byId("objects")); // the parts below come and go
  }

  /** Select the next suggestion; after the last one, the model's own choice. */
  cycle() {
    const { active } = this.editor;
    const three = active ? this.live.candidates(active) : [];
    if (three.length) this.editor.setPick(active.pick === null ? 0 : active.pick + 1 < three.length ? active.pick + 1 : null);
  }

  draw() {
    this.#drawObjects();
    this.#drawSuggestions();
  }

  #drawObjects() {
    const list = byId("objects");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    list.replaceChildren(...this.editor.objects.map((object) => this.#row(object)));
    list.parentElement.style.setProperty("--rows", this.editor.objects.length); // so that some of them are in sight
    this.#showActive(list);
    const problem = this.live.filtered?.problem;
    byId("filter-problem").hidden = !problem;
    byId("filter-problem").textContent = problem ? t(problem.text, problem) : "";
    byId("no-objects").hidden = this.editor.objects.length > 0;
    byId("object-count").textContent = this.editor.objects.length || "";
    if (focused) list.querySelector(`[data-focus="${focused}"]`)?.focus();
  }

  /** Highlight the object under the pointer, here and in the image. */
  #drawHover() {
    const { hovered } = this.editor;
    for (const row of byId("objects").children) row.dataset.hover = String(Number(row.dataset.uid) === hovered);
    const row = byId("objects").querySelector("[data-hover=true]");
    if (row && !row.matches(":hover")) scrollTo(byId("objects"), row);
  }

  /** Scroll a newly selected object's row into view. */
  #showActive(list) {
    const { active } = this.editor.state;
    if (active === this.shownActive) return;
    this.shownActive = active;
    scrollToActive(list);
  }

  #row(object) {
    const { editor } = this;
    const active = object.uid === editor.state.active;
    const hidden = editor.hidden.has(object.uid);
    const swatch = make("span.swatch");
    swatch.style.background = css(this.stage.color(object));
    const name = nameOf(editor, object);
    const note = noteOf(this.live, object, true);
    const title = make("span.name", { textContent: name });
    if (note) title.append(make("span.note", { textContent: note, title: note }));
    const choose = make(
      "button.pick",
      { type: "button", "aria-pressed": String(active), "data-focus": `pick ${object.uid}`, onclick: () => editor.select(object.uid) },
      swatch, title, this.#score(object),
    );
    const eye = make("button.icon.small", {
      type: "button", title: t(hidden ? "show" : "hide"), "aria-label": `${t(hidden ? "show" : "hide")}: ${name}`,
      "data-focus": `eye ${object.uid}`, onclick: () => editor.toggle(object.uid),
    }, icon(hidden ? "hidden" : "eye"));
    const trash = make("button.icon.small", {
      type: "button", title: t("remove"), "aria-label": `${t("remove")}: ${name}`,
      "data-focus": `trash ${object.uid}`, onclick: () => editor.remove(object),
    }, icon("trash"));
    return make("li.object", {
      "data-active": String(active), "data-hidden": String(hidden), "data-hover": String(object.uid === editor.hovered),
      "data-uid": object.uid, onpointerenter: () => editor.hover(object.uid), onpointerleave: () => editor.hover(null),
    }, choose, eye, trash);
  }

  #score(object) {
    const answer = this.live.answer(object);
    if (answer?.problem) return make("span.score.bad", { textContent: t("noMask"), title: answer.problem });
    const scores = (answer?.masks ?? []).map((mask) => mask.score).filter((score) => typeof score === "number");
    if (answer && !answer.masks.some((mask) => mask.area)) return make("span.score.bad", { textContent: t("noMask") });
    if (!answer) return make("span.score.wait", { textContent: "…", title: t("computing") });
    return make("span.score", { textContent: scores.length ? Math.max(...scores).toFixed(2) : "", title: t("score") });
  }

  #drawSuggestions() {
    const { active } = this.editor;
    const three = active ? this.live.candidates(active) : [];
    byId("suggestions-part").hidden = !this.live.canPick || !active;
    const box = byId("suggestions");
    if (!three.length) {
      box.replaceChildren(make("p.faint", { textContent: active ? "…" : "" }));
      return;
    }
    const name = `${this.editor.image.id} ${active.uid} ${active.pick} ${three.map((mask) => mask.counts.length)} ${t("automatic")}`;
    if (box.dataset.name === name && this.shownThree === three) return; // the thumbnails are unchanged
    box.dataset.name = name;
    this.shownThree = three;
    const auto = make("button.suggestion", {
      type: "button", "aria-pressed": String(active.pick === null), onclick: () => this.editor.setPick(null),
    }, make("span.auto", { textContent: t("automatic") }));
    box.replaceChildren(auto, ...three.map((mask, pick) => this.#suggestion(mask, pick, active.pick === pick)));
  }

  #suggestion(mask, pick, pressed) {
    const canvas = make("canvas", { width: THUMB * 2, height: THUMB * 2 });
    const score = typeof mask.score === "number" ? mask.score.toFixed(2) : "";
    this.#thumb(canvas, mask);
    return make("button.suggestion", {
      type: "button", "aria-pressed": String(pressed), title: t("candidate", { n: pick + 1, score }),
      "aria-label": t("candidate", { n: pick + 1, score }), onclick: () => this.editor.setPick(pick),
    }, canvas, make("span", { textContent: score }));
  }

  #thumb(canvas, mask) {
    const { image } = this.editor;
    const context = canvas.getContext("2d");
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    context.setTransform(scale, 0, 0, scale, (canvas.width - image.width * scale) / 2, (canvas.height - image.height * scale) / 2);
    context.globalAlpha = 0.35;
    if (this.stage.bitmap) context.drawImage(this.stage.bitmap, 0, 0, image.width, image.height);
    context.globalAlpha = 1;
    const { canvas: tint, region } = shape(mask, scale) ?? {};
    if (!tint) return;
    const paint = tint.getContext("2d");
    paint.globalCompositeOperation = "source-in";
    paint.fillStyle = css(this.stage.color(this.editor.active));
    paint.fillRect(0, 0, tint.width, tint.height);
    context.globalAlpha = 0.85;
    context.drawImage(tint, region.x, region.y, region.width, region.height);
  }
}

function scrollToActive(list) {
  const row = list.querySelector("[data-active=true]");
  if (row) scrollTo(list, row);
}

/** Scroll a row into view, without scrolling anything but the list. */
function scrollTo(list, row) {
  const above = row.getBoundingClientRect().top - list.getBoundingClientRect().top;
  const below = above + row.offsetHeight - list.clientHeight;
  list.scrollTop += above < 0 ? above : Math.max(0, below);
}
