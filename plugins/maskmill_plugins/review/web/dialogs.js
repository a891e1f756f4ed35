/** Dialogs: a reason or a comment, the name, the token, a conflict, the keys. */

import { nth } from "./colors.js";
import { byId, make } from "./dom.js";
import { raster, tinted } from "./rle.js";
import { t } from "./strings.js";

const HELP = [
  [["Enter"], "doAccept"], [["keyClick"], "doSelect"], [["Delete"], "doDelete"], [["K"], "doKeep"],
  [["1–9"], "doLabel"], [["L"], "doType"], [["R"], "doReject"], [["Q"], "doAsk"], [["Z"], "doUndo"],
  [["N", "P"], "doNext"], [["Tab"], "doTab"], [["keyWheel", "+", "−"], "doZoom"], [["0"], "doFit"],
  [["M"], "doMasks"], [["C"], "doSheet"], [["?"], "help"],
];

export function help() {
  const rows = HELP.flatMap(([keys, does]) => [
    make("dt", {}, ...keys.map((key) => make("kbd", { textContent: key.startsWith("key") ? t(key) : key }))),
    make("dd", { textContent: t(does) }),
  ]);
  open("help-dialog", t("helpTitle"), true, make("div.help-parts", {}, make("section", {}, make("dl", {}, ...rows))));
}

/**
 * A line of text.
 * @returns {Promise<string | null>} null if it was cancelled
 */
export function askText({ title, hint = "", label, value = "", type = "text", go = "save", must = false }) {
  return new Promise((resolve) => {
    const input = make("input", { type, value, maxLength: 2000, autocomplete: "off", "aria-label": t(label), required: must });
    const finish = (answer) => {
      dialog.close();
      resolve(answer);
    };
    const cancel = must ? [] : [make("button.button", { type: "button", textContent: t("cancel"), onclick: () => finish(null) })];
    const choices = make("div.choices", {}, ...cancel, make("button.button.main", { textContent: t(go) }));
    const form = make("form.ask-form", {}, ...(hint ? [make("p.faint", { textContent: t(hint) })] : []), input, choices);
    form.onsubmit = (event) => {
      event.preventDefault();
      finish(input.value.trim());
    };
    const dialog = open(`${label}-dialog`, t(title), false, form);
    dialog.oncancel = (event) => {
      event.preventDefault();
      if (!must) finish(null);
    };
    input.focus();
    input.select();
  });
}

/**
 * Choose between two versions of an image.
 * @param {{text: string, pieces: any[], size: [number, number]}} mine
 * @param {{text: string, pieces: any[], size: [number, number]}} theirs
 * @returns {Promise<boolean>} whether it is mine
 */
export function choose(name, mine, theirs, bitmap) {
  return new Promise((resolve) => {
    const side = (title, version) => make(
      "section.side", {}, make("h3", { textContent: t(title) }), make("p", { textContent: version.text }), draw(version, bitmap),
    );
    const answer = (value) => () => {
      dialog.close();
      resolve(value);
    };
    const take = make("button.button", { type: "button", textContent: t("takeTheirs"), onclick: answer(false) });
    const keep = make("button.button.main", { type: "button", textContent: t("keepMine"), onclick: answer(true) });
    const dialog = open(
      "conflict-dialog", t("conflictTitle"), false, make("p", { textContent: name }),
      make("div.sides", {}, side("mine", mine), side("theirs", theirs)), make("div.choices", {}, take, keep),
    );
    dialog.oncancel = (event) => event.preventDefault(); // neither version is discarded by accident
    dialog.focus(); // nor by an Enter meant for "Accept"
  });
}

/**
 * Settle a disagreement of two people: both versions as pictures.
 * @param {{text: string, who: string, pieces: any[], size: [number, number]}[]} versions
 * @returns {Promise<number>} the one that counts, -1 for neither
 */
export function settle(name, versions, bitmap) {
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.close();
      resolve(value);
    };
    const sides = versions.map((version) => make("section.side", {}, make("h3", { textContent: version.text }), make("p", { textContent: version.comment }), draw(version, bitmap)));
    const takes = versions.map(({ who }, at) => make("button.button", { type: "button", textContent: t("takeVersion", { who }), onclick: answer(at) }));
    const neither = make("button.button", { type: "button", textContent: t("settleSelf"), onclick: answer(-1) });
    const dialog = open(
      "conflict-dialog", t("settleTitle"), false, make("p", { textContent: t("settleText", { name }) }),
      make("div.sides", {}, ...sides), make("div.choices", {}, neither, ...takes),
    );
    dialog.oncancel = () => resolve(-1);
    dialog.focus();
  });
}

/** A small picture of a version, its masks drawn. */
function draw({ pieces, size: [height, width] }, bitmap) {
  const scale = Math.min(1, 340 / Math.max(width, height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const context = canvas.getContext("2d");
  if (bitmap) context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  pieces.forEach((piece, number) => {
    const mask = raster(piece, { x: 0, y: 0, width, height }, canvas.width, canvas.height);
    const layer = new OffscreenCanvas(canvas.width, canvas.height);
    const pixels = tinted(mask, canvas.width, canvas.height, nth(number), 100, 255);
    layer.getContext("2d").putImageData(new ImageData(pixels, canvas.width, canvas.height), 0, 0);
    context.drawImage(layer, 0, 0);
  });
  return canvas;
}

/** @returns {HTMLDialogElement} */
function open(kind, title, closable, ...content) {
  const dialog = byId("dialog");
  dialog.oncancel = null;
  dialog.dataset.kind = kind;
  const close = make("button.icon", { type: "button", "aria-label": t("close"), onclick: () => dialog.close(), textContent: "✕" });
  dialog.replaceChildren(make("header", {}, make("h2", { textContent: title }), ...(closable ? [close] : [])), ...content);
  dialog.setAttribute("aria-label", title);
  dialog.tabIndex = -1;
  if (!dialog.open) dialog.showModal();
  return dialog;
}
