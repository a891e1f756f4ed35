/** Dialogs: help, the token, and the choice between two versions. */

import { byId, make } from "./dom.js";
import { t } from "./strings.js";

/** The keys in the help, by section: [keys, action]; keys found in the table of texts are translated. */
const HELP = /** @type {const} */ ({
  helpDraw: [
    [["keyDrag"], "doBox"], [["keyClick"], "doPoint"], [["keyRight", "Alt + keyClick"], "doOff"],
    [["X", "Shift + keyClick"], "doErase"], [["keyDrag"], "doCorner"], [["keyClick"], "doSelect"], [["A", "Esc"], "doNew"], [["1–9", "L"], "doLabel"],
    [["V"], "doCycle"], [["Delete"], "doDelete"], [["Z", "Shift + Z"], "doUndo"], [["C"], "doCopy"],
  ],
  helpGo: [
    [["Enter"], "doAccept"], [["E"], "doEmpty"], [["R"], "doReject"], [["N", "P"], "doNext"], [["/"], "doSearch"],
  ],
  helpSee: [
    [["keyWheel", "+", "−"], "doZoom"], [["keySpace", "H"], "doPan"], [["0"], "doFit"], [["Tab", "J"], "doTab"],
    [["S"], "doHide"], [["M"], "doMasks"], [["K"], "doByLabel"], [["?"], "doHelp"],
  ],
});

export function help() {
  const parts = Object.entries(HELP).map(([title, rows]) => make(
    "section", {}, make("h3", { textContent: t(title) }), make("dl", {}, ...rows.flatMap(([keys, does]) => [
      make("dt", {}, ...keys.map((key) => make("kbd", { textContent: key.replace(/(key|do)[A-Z]\w*/, (name) => t(name)) }))),
      make("dd", { textContent: t(does) }),
    ])),
  ));
  const intro = make("p", { textContent: t("helpIntro") });
  open("help-dialog", t("helpTitle"), true, intro, make("div.help-parts", {}, ...parts));
}

/**
 * Choose a version of an image that was changed elsewhere in the meantime.
 * @param {string} name
 * @param {{status: string, prompts: any[]}} mine
 * @param {{status: string, prompts: any[], reviewer?: string}} theirs
 * @returns {Promise<boolean>} whether it is mine
 */
export function choose(name, mine, theirs) {
  const side = (title, entry) => make(
    "section.side", {}, make("h3", { textContent: title }), make("p", { textContent: summary(entry) }),
    ...(entry.reviewer ? [make("p.faint", { textContent: t("byWhom", { who: entry.reviewer }) })] : []),
  );
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.close();
      resolve(value);
    };
    const take = make("button.button", { type: "button", textContent: t("takeTheirs"), onclick: answer(false) });
    const keep = make("button.button.main", { type: "button", textContent: t("keepMine"), onclick: answer(true) });
    const dialog = open(
      "conflict-dialog", t("conflictTitle"), false, make("p", { textContent: t("conflictText", { name }) }),
      make("div.sides", {}, side(t("mine"), mine), side(t("theirs"), theirs)), make("div.choices", {}, take, keep),
    );
    dialog.oncancel = (event) => event.preventDefault(); // neither version is discarded by accident
    dialog.focus(); // nor by an Enter meant for "Accept"
  });
}

function summary(entry) {
  const count = entry.prompts.length;
  return `${t(entry.status)} · ${count === 1 ? t("objectsCountOne") : t("objectsCount", { n: count })}`;
}

/** @returns {Promise<string>} the token that was entered */
export function askToken() {
  return new Promise((resolve) => {
    const input = make("input", { type: "password", autocomplete: "off", "aria-label": t("token"), required: true });
    const form = make("form.token", {}, input, make("button.button.main", { textContent: t("continue") }));
    const dialog = open("token-dialog", t("tokenTitle"), false, make("p", { textContent: t("tokenText") }), form);
    dialog.oncancel = (event) => event.preventDefault();
    form.onsubmit = (event) => {
      event.preventDefault();
      dialog.close();
      resolve(input.value.trim());
    };
  });
}

/**
 * @param {boolean} closable  with a button for it
 * @returns {HTMLDialogElement}
 */
export function open(id, title, closable, ...content) {
  const dialog = byId("dialog");
  dialog.oncancel = null;
  dialog.dataset.kind = id;
  const close = make("button.icon", { type: "button", "aria-label": t("close"), onclick: () => dialog.close(), textContent: "✕" });
  dialog.replaceChildren(make("header", {}, make("h2", { textContent: title }), ...(closable ? [close] : [])), ...content);
  dialog.setAttribute("aria-label", title);
  dialog.tabIndex = -1;
  if (!dialog.open) dialog.showModal();
  return dialog;
}
