/** The actions of buttons and keys. */

import { Problem } from "./api.js";
import { colorByLabel } from "./bylabel.js";
import { openPoints } from "./checks.js";
import { help } from "./dialogs.js";
import { byId, make } from "./dom.js";
import { listen } from "./keys.js";
import { editLabels } from "./renaming.js";
import { many, speak, spoken, t, translate } from "./strings.js";
import { switchTheme } from "./theme.js";

/** Milliseconds from the last typed letter to the search. */
const TYPED = 150;

/**
 * @param {Record<string, any>} parts
 * @param {import("./surroundings.js").Surroundings} surroundings
 */
export function connectButtons(parts, surroundings) {
  const { browser, connection, editor, labels, list, notices, objects, pointer, stage } = parts;
  const steps = actions(parts);
  const keys = {
    n: steps.next, p: steps.previous, ArrowRight: steps.next, ArrowLeft: steps.previous, Enter: steps.accept,
    e: steps.markEmpty, r: steps.reject, z: () => editor.undo(), "Shift+z": () => editor.redo(),
    y: () => editor.redo(), Delete: () => editor.remove(editor.active), Backspace: () => editor.remove(editor.active),
    a: () => editor.select(null), Escape: () => pointer.cancel() || editor.select(null), c: steps.copy,
    v: () => objects.cycle(), j: steps.nextObject, Tab: steps.nextObject, s: steps.hide, "?": help,
    b: () => pointer.take("box"), f: () => pointer.take("add"), g: () => pointer.take("off"),
    x: () => pointer.take("erase"), h: () => pointer.take("move"), "+": () => stage.zoom(1.3), "=": () => stage.zoom(1.3),
    "-": () => stage.zoom(1 / 1.3), 0: () => stage.fit(), "/": () => showList(true, true),
    l: () => byId("label-input").focus(), k: () => colorByLabel(stage, objects, !stage.byLabel),
  };
  for (let digit = 1; digit <= 9; digit++) keys[digit] = () => labels.useNumber(digit);
  delete keys.Tab; // only on the image: elsewhere it moves the focus
  stage.canvas.addEventListener("keydown", (event) => tabOnPicture(event, editor, steps.nextObject));
  listen(keys, (held) => pointer.grab(held), (held) => {
    stage.bare = held;
    stage.redraw();
  });

  const clicks = {
    undo: keys.z, redo: keys["Shift+z"], theme: switchTheme, help, previous: steps.previous, next: steps.next,
    "zoom-in": keys["+"], "zoom-out": keys["-"], fit: keys[0], "new-object": keys.a, "copy-previous": steps.copy,
    accept: steps.accept, "mark-empty": steps.markEmpty, reject: steps.reject, "try-now": () => connection.tryNow(),
    "by-label": keys.k, "edit-labels": () => editLabels(parts), "show-list": () => showList(true), "hide-list": () => showList(false),
    language: () => {
      speak(spoken() === "zh" ? "en" : "zh");
      retell(parts, surroundings);
    },
  };
  for (const [id, run] of Object.entries(clicks)) byId(id).addEventListener("click", run);
  for (const button of byId("tools").children) button.addEventListener("click", () => pointer.take(button.dataset.tool));
  pointer.addEventListener("tool", () => {
    for (const button of byId("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === pointer.tool));
  });
  pointer.addEventListener("refused", () => notices.toast(t("firstOn")));
  pointer.addEventListener("fixed", () => notices.toast(t("fixedMask")));
  pointer.addEventListener("thin", () => notices.toast(t("tooThin")));
  editor.addEventListener("reopened", () => notices.toast(t("reopened")));
  colorByLabel(stage, objects, undefined);
  for (const button of byId("downloads").querySelectorAll("button")) button.addEventListener("click", () => download(parts, button.dataset.download));
  list.addEventListener("choose", (event) => {
    showList(false);
    browser.open(event.detail);
    stage.canvas.focus({ preventScroll: true }); // so that Enter means "accept" again, not that row
  });
  search(list);
  dropping(browser);
}

/** The actions that take more than one call. */
function actions({ api, browser, editor, labels, live, notices, saver, session }) {
  const go = (key) => key && browser.open(key);
  const onward = async () => {
    const { next } = await browser.aimed;
    if (next) return go(next);
    await saver.flush();
    const found = await api.images({ offset: 0, limit: 1, search: "", status: "todo" }).catch(() => null);
    if (!found) return undefined;
    const left = found.items[0]?.key;
    if (!left) return notices.toast(t("allDone", { file: session.prompts_file }));
    return notices.toast(t("lastImage", { n: found.total }), t("continue"), () => go(left));
  };
  const finish = (status) => {
    const { image, objects: { length } } = editor;
    if (!image || image.key === null || browser.failed) return;
    const removed = status === "empty" ? length : 0;
    editor.setStatus(status);
    onward();
    if (removed) notices.toast(many("removed", removed), t("undo"), () => takeBack(image.key));
  };
  const takeBack = async (key) => {
    if (editor.image?.key !== key) await browser.open(key);
    if (editor.image?.key === key && editor.state.status === "empty") editor.undo();
  };
  /** The state that one was asked about, and may accept with a second press. */
  let asked = null;
  const accept = () => {
    const open = openPoints(editor, live, labels.all);
    if (asked === editor.state.objects) notices.quiet(); // the question is answered
    if (!open || asked === editor.state.objects) return finish("done");
    asked = editor.state.objects;
    return notices.toast(t("acceptAnyway", { what: open }), t("accept"), () => {
      notices.quiet();
      if (asked === editor.state.objects) finish("done");
    });
  };
  const toggled = (status) => () => (editor.state.status === status ? editor.setStatus("todo") : finish(status));
  return {
    next: async () => {
      const { next } = await browser.aimed;
      if (next) go(next);
      else notices.toast(t("noFurther"));
    },
    previous: async () => go((await browser.aimed).previous),
    accept: () => {
      if (editor.objects.length) accept();
      else if (editor.state.status === "empty" || editor.state.status === "rejected") finish(editor.state.status);
      else notices.toast(t("nothingDrawn"));
    },
    markEmpty: toggled("empty"),
    reject: toggled("rejected"),
    hide: () => editor.active && editor.toggle(editor.active.uid),
    nextObject: () => {
      const at = editor.objects.findIndex((object) => object.uid === editor.state.active);
      if (editor.objects.length) editor.select(editor.objects[(at + 1) % editor.objects.length].uid);
    },
    copy: async () => {
      const { image } = editor;
      if (!image?.previous) return;
      await saver.flush(); // include what was drawn there a moment ago
      const before = await api.image(image.previous).catch(() => null);
      if (!before || editor.image !== image) return;
      const came = editor.copy(before.entry.prompts);
      const known = before.entry.prompts.length > 0;
      notices.toast(came ? many("copied", came) : t(known ? "alreadyCopied" : "nothingToCopy"));
    },
  };
}

/** Tab selects the next object, and leaves the image after the last one. */
function tabOnPicture(event, editor, nextObject) {
  if (event.key !== "Tab" || event.shiftKey) return;
  const last = editor.objects.at(-1);
  if (!last || last.uid === editor.state.active) return;
  event.preventDefault();
  event.stopPropagation();
  nextObject();
}

function showList(shown, find = false) {
  document.body.dataset.list = String(shown);
  byId("show-list").setAttribute("aria-expanded", String(shown));
  if (find) byId("search").focus();
}

function search(list) {
  let timer = 0;
  const input = byId("search");
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      list.search = input.value.trim();
      list.reload();
    }, TYPED);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("canvas").focus();
    if (event.key === "Enter" || event.key === "ArrowDown") byId("list").querySelector(".row")?.focus();
  });
}

/** Switch the language of all texts. */
function retell({ labels, list, notices, objects }, surroundings) {
  translate();
  labels.draw();
  surroundings.drawCounts();
  surroundings.draw();
  objects.draw();
  list.draw();
  notices.saving();
}

/** Download a file of the open image, after saving its changes. */
async function download({ api, editor, notices, saver }, format) {
  const { image } = editor;
  try {
    await saver.flush();
    if (saver.state !== "saved") return notices.toast(t("saveFirst"));
    const answer = image.key === null
      ? await api.quickResult(image, editor.entry.prompts, format) : await api.result(image.key, format);
    const address = URL.createObjectURL(await answer.blob());
    make("a", { href: address, download: nameOf(answer, image, format) }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (error) {
    if (error instanceof Problem) notices.toast(error.message);
  }
  return undefined;
}

function nameOf(answer, image, format) {
  const given = answer.headers.get("Content-Disposition") ?? "";
  const encoded = /filename\*=UTF-8''([^;]+)/i.exec(given)?.[1];
  const plain = /filename="([^"]+)"/i.exec(given)?.[1];
  if (encoded) return decodeURIComponent(encoded);
  return plain ?? `${image.key ?? image.name}.${format === "coco" ? "json" : "png"}`;
}

/** Open an image dropped onto the page. */
function dropping(browser) {
  const over = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const show = (shown) => (byId("drop").hidden = !shown);
  addEventListener("dragenter", (event) => over(event) && ++depth && show(true));
  addEventListener("dragleave", (event) => over(event) && --depth < 1 && show(false));
  addEventListener("dragover", (event) => over(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    const [file] = event.dataTransfer.files;
    if (file) browser.quick(file);
  });
}
