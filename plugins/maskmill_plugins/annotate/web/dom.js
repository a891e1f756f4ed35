/** Small helpers to build elements: text is always text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** Outlines in a box of 24 x 24. */
const ICONS = {
  box: "M4 4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M4 8V4M11 4h2M4 11v2M20 11v2M11 20h2",
  plus: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 8v8M8 12h8",
  minus: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M8 12h8",
  erase: "M5 19h14M7.5 19 4 15.5a1.5 1.5 0 0 1 0-2.1l8.4-8.4a1.5 1.5 0 0 1 2.1 0l4.5 4.5a1.5 1.5 0 0 1 0 2.1L11.600 19M9 8.500 15.500 15",
  brush: "M20 4 10.500 13.500M10.500 13.500a3.500 3.500 0 0 0-3.500 3.500c0 2-1.500 3-3 3 2.500 1.500 8.500 1 9-3a3 3 0 0 0-2.500-3.500",
  hand: "M12 3v18M3 12h18M12 3 9.500 5.500M12 3l2.500 2.500M12 21l-2.500-2.500M12 21l2.500-2.500M3 12l2.500-2.500M3 12l2.500 2.500M21 12l-2.500-2.500M21 12l-2.500 2.500",
  undo: "M8 5 4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "M16 5l4 4-4 4M20 9H10a6 6 0 0 0 0 12h3",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  in: "M12 5v14M5 12h14",
  out: "M5 12h14",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  eye: "M2 12s3.500-7 10-7 10 7 10 7-3.500 7-10 7-10-7-10-7M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
  hidden: "M4 4l16 16M9.900 5.200A10 10 0 0 1 12 5c6.500 0 10 7 10 7a18 18 0 0 1-3 3.900M6.500 6.700A17 17 0 0 0 2 12s3.500 7 10 7a10 10 0 0 0 4.700-1.200",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  check: "M4 12.500 9.500 18 20 6.500",
  none: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M5.700 5.700l12.600 12.600",
  close: "M6 6l12 12M18 6 6 18",
  list: "M4 6h16M4 12h16M4 18h16",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M9.500 9.500a2.500 2.500 0 1 1 3.600 2.200c-.8.4-1.100.9-1.100 1.800M12 16.500v.200",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M16 16l4.500 4.500",
  add: "M12 5v14M5 12h14",
  download: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
};

/**
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Insert the icons into the elements with `data-icon`. */
export function drawIcons(root = document) {
  for (const element of root.querySelectorAll("[data-icon]")) element.prepend(icon(element.dataset.icon));
}

/**
 * @param {string} tag  with classes: "button.icon.small"
 * @param {Record<string, any>} [fields]  properties; `on...` functions; the rest are attributes
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, fields = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  element.classList.add(...classes);
  for (const [field, value] of Object.entries(fields)) {
    if (field in element) element[field] = value;
    else element.setAttribute(field, value);
  }
  element.append(...children);
  return element;
}

/** @param {string} id @returns {any} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element is called ${id}`);
  return element;
}
