/** Colours of objects: the same as those of the writers (`maskmill_plugins._shared.drawing.colors`). */

/** @type {[number, number, number][]} */
const VIVID = [
  [38, 166, 255], [255, 92, 130], [62, 214, 120], [255, 202, 40], [186, 104, 245], [255, 145, 45],
  [32, 212, 205], [255, 76, 66], [166, 217, 52], [104, 122, 255], [255, 130, 215], [140, 225, 255],
];

/**
 * @param {number} number  of the object, from 0
 * @returns {[number, number, number]}
 */
export function nth(number) {
  return VIVID[number % VIVID.length];
}

/** @param {[number, number, number]} color */
export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}
