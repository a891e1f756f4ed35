/** The start of the page. */

import { Api, Problem, Unreachable } from "./api.js";
import { Browser } from "./browse.js";
import { Connection } from "./connection.js";
import { Cutout } from "./cutout.js";
import { Detail } from "./detail.js";
import { askToken, choose } from "./dialogs.js";
import { byId, drawIcons } from "./dom.js";
import { Drafts } from "./drafts.js";
import { Editor } from "./editor.js";
import { Filtered } from "./filtered.js";
import { ImageList } from "./list.js";
import { Labels } from "./labels.js";
import { LiveMasks } from "./live.js";
import { Notices } from "./notices.js";
import { ObjectsPanel } from "./objects.js";
import { Pointer } from "./pointer.js";
import { Saver } from "./saving.js";
import { Stage } from "./stage.js";
import { translate } from "./strings.js";
import { connectButtons } from "./buttons.js";
import { Surroundings } from "./surroundings.js";
import { startTheme } from "./theme.js";

startTheme();
drawIcons();
translate();

const api = new Api();
const connection = new Connection(api);
const editor = new Editor();
const live = new LiveMasks(api, editor);
const stage = new Stage(byId("canvas"), editor, live);
const pointer = new Pointer(stage);
const notices = new Notices(editor, live, connection);
new Cutout(stage);
new Detail(stage, loadPart, (text) => notices.toast(text));

/** @returns {Promise<ImageBitmap | null>} null if the file has changed since */
async function loadPart(image, most, crop) {
  const { blob, tag } = await api.preview(image, most, crop);
  return tag.includes(image.id.slice(7, 39)) ? createImageBitmap(blob) : null;
}

/** Request the session until the server responds and the token is right. */
async function session() {
  for (;;) {
    try {
      return await api.session();
    } catch (error) {
      if (error instanceof Problem && error.status === 401) api.useToken(await askToken());
      else if (error instanceof Unreachable) {
        await new Promise((resolve) => connection.addEventListener("back", resolve, { once: true }));
      } else throw error;
    }
  }
}

/** Wait for the model, then request masks. */
async function model(first) {
  let found = first;
  while (found.state === "loading") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    found = await session();
  }
  notices.modelState = found.state;
  notices.banner();
  live.use(found.state === "ready" ? found.model : null);
}

async function start() {
  const first = await session();
  const drafts = new Drafts(`${first.name} ${first.prompts_file}`);
  const saver = new Saver(api, drafts, first.reviewer);
  const list = new ImageList(api, byId("list"));
  const browser = new Browser(api, stage, saver, drafts, notices, list);
  const labels = new Labels(stage, first.labels); // before the panel, which needs their colours
  const objects = new ObjectsPanel(stage);
  new Filtered(api, editor, live, first.filters);
  notices.modelState = first.state;
  notices.watch(saver);
  live.addEventListener("replaced", () => model({ state: "loading" }));
  live.remind = (image) => browser.remind(image);
  byId("dataset").textContent = first.name;

  editor.addEventListener("edit", () => {
    if (editor.image.key !== null) saver.changed(editor.image.key, editor.entry);
  });
  saver.addEventListener("saved", (event) => {
    const { key, entry } = event.detail;
    if (!list.update(key, entry.status, entry.prompts.length)) list.reload(true); // hidden by a search or a filter
  });
  saver.addEventListener("replaced", (event) => event.detail === editor.image?.key && browser.open(event.detail));
  saver.addEventListener("conflict", (event) => settle(saver, event.detail));
  connection.addEventListener("back", () => resume(browser, saver, list));

  const parts = { api, browser, connection, editor, labels, list, live, notices, objects, pointer, saver, session: first, stage };
  const surroundings = new Surroundings(parts);
  connectButtons(parts, surroundings);
  leave(saver);
  model(first);
  await list.reload();
  const key = await surroundings.firstKey();
  if (key === null) surroundings.draw();
  else await browser.open(key);
  await browser.restoreOthers(key);
  document.body.dataset.ready = "true";
}

/** Show the conflicts one after the other. */
let asked = Promise.resolve();

function settle(saver, record) {
  asked = asked.then(async () => {
    const theirs = record.conflict;
    if (!theirs) return;
    const mine = await choose(record.key, record.entry, theirs.entry);
    await saver.settle(record, mine);
    if (!mine && editor.image?.key === record.key) editor.replace(theirs.entry, false);
  });
}

async function resume(browser, saver, list) {
  await saver.flush();
  await list.reload(true);
  if (browser.wanted && browser.wanted !== editor.image?.key) await browser.open(browser.wanted);
  model({ state: "loading" });
  live.resume();
}

function leave(saver) {
  document.addEventListener("visibilitychange", () => document.hidden && saver.flush());
  addEventListener("pagehide", () => saver.flush());
  addEventListener("beforeunload", (event) => {
    saver.flush();
    if (saver.fragile && saver.state !== "saved") event.preventDefault();
  });
}

start();
