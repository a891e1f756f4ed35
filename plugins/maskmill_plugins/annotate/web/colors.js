/** Colours of objects: the same as those of the writers (`maskmill.colors`). */

/** @type {[number, number, number][]} */
const VIVID = [
  [38, 166, 255], [255, 92, 130], [62, 214, 120], [255, 202, 40], [186, 104, 245], [255, 145, 45],
  [32, 212, 205], [255, 76, 66], [166, 217, 52], [104, 122, 255], [255, 130, 215], [140, 225, 255],
];

/** @type {[number, number, number]} of masks that a batch run drops */
export const DROPPED = [150, 150, 150];

const GOLDEN = 0.618034;

/**
 * The first twelve are hand-picked; hues of further ones advance by the golden ratio, which keeps them apart.
 * @param {number} number  of the object, from 0
 * @returns {[number, number, number]}
 */
export function nth(number) {
  return number < VIVID.length ? VIVID[number] : fromHsv((number * GOLDEN) % 1, 0.75, [1, 0.8, 0.65][number % 3]);
}

/** @returns {[number, number, number]} */
function fromHsv(hue, saturation, value) {
  const part = (shift) => {
    const at = (shift + hue * 6) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(at, 4 - at, 1))));
  };
  return [part(5), part(3), part(1)];
}

/** @param {[number, number, number]} color */
export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}
