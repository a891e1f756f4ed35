/** Light or dark theme: the system's, unless one was chosen. */

import { keep, kept } from "./api.js";

const THEME = "maskmill.theme";

export function startTheme() {
  const chosen = kept(localStorage, THEME);
  if (chosen === "light" || chosen === "dark") use(chosen);
}

/** Switch the theme. */
export function switchTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = document.documentElement.dataset.theme ?? system;
  const next = now === "dark" ? "light" : "dark";
  use(next);
  keep(localStorage, THEME, next);
}

function use(theme) {
  document.documentElement.dataset.theme = theme;
  document.documentElement.style.colorScheme = theme;
}
