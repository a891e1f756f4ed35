/** The dialog that shows how often each label is used, and renames one in all images. */

import { Problem } from "./api.js";
import { open } from "./dialogs.js";
import { make } from "./dom.js";
import { many, t } from "./strings.js";

/** @param {Record<string, any>} parts */
export async function editLabels(parts) {
  const { api, notices, saver } = parts;
  await saver.flush();
  if (saver.state !== "saved") return notices.toast(t("saveFirst"));
  const found = await api.labels().catch(() => null);
  if (!found) return undefined;
  const rename = (label, renamed, merge) => {
    dialog.close();
    return renameLabel(parts, label, renamed, merge);
  };
  const rows = found.labels.map((each) => row(each, found.labels, rename));
  const hint = t(rows.length ? "renameHint" : "noLabels");
  const dialog = open("labels-dialog", t("labels"), true, make("p.faint", { textContent: hint }), make("ul.label-rows", {}, ...rows));
  return undefined;
}

/** A label with its counts and its new name. */
function row({ label, objects, images }, all, rename) {
  const input = make("input", { value: label, maxLength: 200, autocomplete: "off", required: true, "aria-label": t("renameLabel", { label }) });
  const go = make("button.button.small", { disabled: true, textContent: t("rename") });
  const question = make("p.question", { hidden: true, role: "alert" });
  const form = make("form.label-row", {}, input, make("span.faint", { textContent: `${many("objectsCount", objects)} · ${many("imagesCount", images)}` }), go);
  const renamed = () => input.value.trim();
  input.addEventListener("input", () => {
    question.hidden = true;
    go.disabled = !renamed() || renamed() === label;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (go.disabled) return;
    const other = all.find((each) => each.label === renamed());
    if (!other) return void rename(label, renamed(), false);
    const text = t("mergeQuestion", { label, other: other.label, n: many("objectsCount", other.objects) });
    const merge = make("button.button.small", { type: "button", textContent: t("merge"), onclick: () => rename(label, other.label, true) });
    question.replaceChildren(text, " ", merge);
    question.hidden = false;
    merge.focus();
  });
  return make("li", {}, form, question);
}

async function renameLabel(parts, label, renamed, merge) {
  const { api, labels, notices } = parts;
  const before = [...labels.all];
  try {
    const done = await api.renameLabel(label, renamed, merge);
    await adopt(parts, [...new Set(before.map((each) => (each === label ? renamed : each)))], { [label]: renamed });
    const text = t("renamed", { label, renamed, n: many("objectsCount", done.objects), m: many("imagesCount", done.images) });
    notices.toast(text, t("undo"), () => undo(parts, before, { [renamed]: label }));
  } catch (error) {
    if (error instanceof Problem) notices.toast(error.message);
  }
}

async function undo(parts, before, names) {
  const { api, notices, saver } = parts;
  await saver.flush();
  try {
    const { images, left } = await api.undoRenaming();
    await adopt(parts, before, names);
    const kept = left ? ` ${many("leftRenamed", left)}` : "";
    notices.toast(t("renamingUndone", { n: many("imagesCount", images) }) + kept);
  } catch (error) {
    if (error instanceof Problem) notices.toast(error.message);
  }
}

/** Offer these labels, and show the open image as it is saved now. */
async function adopt({ browser, editor, labels }, list, names) {
  editor.label = names[editor.label] ?? editor.label;
  if (editor.image?.key) await browser.open(editor.image.key);
  labels.replace(list); // only now: what the open image wears is offered
}
