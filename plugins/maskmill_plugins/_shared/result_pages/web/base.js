"use strict";
// What the pages about results share: texts in two languages, numbers, making elements (never from markup).

const $ = (id) => document.getElementById(id);
const read = (id) => JSON.parse($(id).textContent);
const strings = read("strings");
const data = read("summary");
const SVG = "http://www.w3.org/2000/svg";

let language = (() => {
  try {
    const kept = localStorage.getItem("maskmill-language");
    if (kept in strings) return kept;
  } catch { /* a browser may refuse files their storage */ }
  return (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
})();

function t(name, ...values) {
  return strings[language][name].replace(/\{(\d)\}/g, (_, n) => values[n]);
}

function many(count, name, one) {
  return count === 1 ? t(one) : t(name, whole(count));
}

const whole = (number) => number.toLocaleString(language);
const digits = (number, places) => number.toLocaleString(language, {minimumFractionDigits: places, maximumFractionDigits: places});
const percent = (part) => part.toLocaleString(language, {style: "percent", maximumSignificantDigits: part < 0.1 ? 2 : 3});

function figure(number) {
  return number === null || number === undefined ? "–" : digits(number, 2);
}

function duration(seconds) {
  const unit = (value, name, places) => value.toLocaleString(language, {style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: places});
  if (seconds < 100) return unit(seconds, "second", seconds < 1 ? 3 : seconds < 10 ? 2 : 1);
  if (seconds < 3600) return unit(seconds / 60, "minute", 1);
  return unit(seconds / 3600, "hour", 1);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, action] of Object.entries(value)) element.addEventListener(event, action);
    else if (name === "class") element.setAttribute("class", value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Control characters and halves of characters are shown as what they are: something odd.
const plain = (text) => text.toWellFormed ? text.toWellFormed() : text;

function showTip(event, text) {
  const tip = $("tip");
  tip.textContent = text;
  tip.hidden = false;
  const x = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
  tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, event.clientY - tip.offsetHeight - 12)}px)`;
}

const tipped = (text) => ({pointermove: (event) => showTip(event, text), pointerleave: () => { $("tip").hidden = true; }});

/** The heading, links to the sections, and the button of the language, which shows everything again. */
function showHeader(title, name, sections) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = plain(title);
  $("name").textContent = plain(name);
  $("language").textContent = t("language");
  $("language").lang = language === "zh" ? "en" : "zh-CN";
  $("nav").replaceChildren(...sections.map((section) => el("a", {href: `#${section}`}, t(section))));
}

function followLanguage(showAll) {
  $("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    try { localStorage.setItem("maskmill-language", language); } catch { /* not kept, then */ }
    showAll();
  });
}

function tile(name, value, below, kind) {
  return el("div", {class: `tile ${kind || ""}`}, el("dt", {}, t(name)), el("dd", {}, value), el("dd", {class: "below"}, below || ""));
}

function card(title, subtitle, content, wide) {
  return el("article", {class: wide ? "card wide" : "card"},
    el("h3", {}, t(title)), el("p", {class: "sub"}, t(subtitle)), content);
}

/** Values in the address after `#NAME?`; null if it is about something else. */
function addressValues(name) {
  return location.hash.startsWith(`#${name}?`) ? new URLSearchParams(location.hash.slice(name.length + 2)) : null;
}

function writeAddressValues(name, pairs) {
  if (!pairs.length && !location.hash.startsWith(`#${name}?`)) return;
  const query = new URLSearchParams(pairs).toString();
  try { history.replaceState(null, "", query ? `#${name}?${query}` : `#${name}`); } catch { /* too many in a short time */ }
}
