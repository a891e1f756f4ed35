/** The texts of a page in the language in use. The browser keeps the language, and all pages share it. */

import { keep, kept } from "./api.js";

const LANGUAGE = "maskmill.language";

/** @param {Record<string, [string, string]>} table  each text in English and Chinese, by name */
export function createTexts(table) {
  let language = kept(localStorage, LANGUAGE) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

  /** The language in use: "en" or "zh". */
  const spoken = () => language;

  /** @param {"en" | "zh"} name */
  function speak(name) {
    language = name;
    keep(localStorage, LANGUAGE, name);
  }

  /**
   * A text in the language in use.
   * @param {string} name  in the table
   * @param {Record<string, string | number>} [values]
   * @returns {string}
   */
  function t(name, values = {}) {
    const text = table[name];
    if (!text) throw new Error(`no text named ${name}`);
    return text[language === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (_, key) => String(values[key] ?? ""));
  }

  /**
   * A text with a number, which has a form of its own for one: "copiedOne" beside "copied".
   * @param {string} name
   * @param {number} n
   */
  const many = (name, n) => t(n === 1 ? `${name}One` : name, { n });

  /** Fill in the texts that elements refer to: `data-t` is the content, `data-t-label` the accessible name. */
  function translate(root = document.documentElement) {
    for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
    for (const element of root.querySelectorAll("[data-t-placeholder]")) {
      element.placeholder = t(element.dataset.tPlaceholder);
      element.setAttribute("aria-label", element.placeholder);
    }
    for (const element of root.querySelectorAll("[data-t-label]")) {
      const text = t(element.dataset.tLabel);
      element.setAttribute("aria-label", text);
      element.title = element.dataset.key ? `${text} (${element.dataset.key})` : text;
    }
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    document.title = t("title");
  }

  return { many, speak, spoken, t, translate };
}
