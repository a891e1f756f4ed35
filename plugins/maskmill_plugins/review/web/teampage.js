/** The team page: the figures of the people who review, as they are now. */

import { Problem } from "./api.js";
import { byId, drawIcons, make } from "./dom.js";
import { ReviewApi } from "./reviewapi.js";
import { speak, spoken, t, translate } from "./strings.js";
import { teamView } from "./team_view.js";
import { startTheme, switchTheme } from "./theme.js";

/** Milliseconds after which the figures are read again. */
const EVERY = 20_000;
const api = new ReviewApi();
let team = /** @type {any} */ (null);

const el = (tag, { class: names = "", ...attributes } = {}, ...children) =>
  make([tag, ...names.split(" ").filter(Boolean)].join("."), attributes, ...children);

function render() {
  translate();
  if (!team) return;
  document.title = `${t("team")} · ${team.name}`;
  byId("run-name").textContent = team.name;
  const link = (key) => `./#${new URLSearchParams({ image: key })}`;
  byId("team").replaceChildren(teamView(team, { el, language: spoken(), link }));
}

async function load() {
  try {
    team = await api.team();
    byId("banner").hidden = true;
    render();
    document.body.dataset.ready = "true";
  } catch (error) {
    const why = error instanceof Problem ? (error.status === 401 ? t("teamToken") : error.message) : t("teamLost");
    byId("banner").textContent = why;
    byId("banner").hidden = false;
  }
}

startTheme();
drawIcons();
byId("language").onclick = () => {
  speak(spoken() === "zh" ? "en" : "zh");
  render();
};
byId("theme").onclick = switchTheme;
render();
await load();
setInterval(() => document.hidden || void load(), EVERY);
