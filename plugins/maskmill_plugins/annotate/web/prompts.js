/**
 * The objects of an image, and their prompts in the prompts file.
 *
 * An object is never changed in place. Fields of a prompt that the page does not use (text, grid, source, score,
 * ref) are kept, so that prompts of other programs are saved unchanged.
 */

/**
 * @typedef {object} Thing
 * @property {number} uid  number of the object while the page is open
 * @property {[number, number, number, number] | null} box  x1, y1, x2, y2 in pixels of the original
 * @property {[number, number, number][]} points  x, y, 1 on the object or 0 off it
 * @property {string | null} label
 * @property {number | null} pick  which of the three candidate masks
 * @property {Record<string, unknown>} rest  other fields of the prompt
 */
/** @typedef {{width: number, height: number}} Size */

let uids = 0;

/**
 * @param {Partial<Thing>} fields
 * @returns {Thing}
 */
export function thing(fields) {
  return { uid: ++uids, box: null, points: [], label: null, pick: null, rest: {}, ...fields };
}

/**
 * @param {Record<string, any>} prompt  as in the prompts file
 * @returns {Thing}
 */
export function fromPrompt(prompt) {
  const { box, points, label, pick, ...rest } = prompt;
  const all = (points ?? []).map(([x, y, on]) => [x, y, on ?? 1]);
  return thing({ box: box ?? null, points: all, label: label ?? null, pick: pick ?? null, rest });
}

/**
 * @param {Thing} object
 * @returns {Record<string, any>}
 */
export function toPrompt(object) {
  const prompt = { ...object.rest };
  if (object.points.length) prompt.points = object.points;
  if (object.box) prompt.box = object.box;
  if (object.label) prompt.label = object.label;
  if (object.pick !== null) prompt.pick = object.pick;
  return prompt;
}

/**
 * The key of an object's mask: equal keys have equal masks.
 * @param {Thing} object
 * @param {boolean} [withPick]
 */
export function shapeOf(object, withPick = true) {
  const { exemplars, grid, mask, text } = object.rest;
  return JSON.stringify([object.box, object.points, withPick ? object.pick : null, text, grid, exemplars, mask]);
}

/**
 * Whether two lists of prompts are equal.
 * @param {Record<string, any>[]} one
 * @param {Record<string, any>[]} other
 */
export function samePrompts(one, other) {
  const plain = (prompts) => JSON.stringify(prompts.map((prompt) => canonical(toPrompt(fromPrompt(prompt)))));
  return plain(one) === plain(other);
}

function canonical(value) {
  if (Array.isArray(value) || value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, canonical(value[key])]));
}

/** Round to hundredths of a pixel, finer than anyone can draw. */
const rounded = (value) => Math.round(value * 100) / 100;
const within = (value, most) => rounded(Math.min(most, Math.max(0, value)));

/**
 * The box between two corners, clipped to the image; null if it lies outside.
 * @param {[number, number]} from
 * @param {[number, number]} to
 * @param {Size} size
 * @returns {[number, number, number, number] | null}
 */
export function boxBetween([x1, y1], [x2, y2], { width, height }) {
  const box = [
    within(Math.min(x1, x2), width), within(Math.min(y1, y2), height),
    within(Math.max(x1, x2), width), within(Math.max(y1, y2), height),
  ];
  return box[2] > box[0] && box[3] > box[1] ? /** @type {any} */ (box) : null;
}

/**
 * A box with some of its sides moved to a place; no side passes the opposite one.
 * @param {[number, number, number, number]} box
 * @param {import("./hits.js").Sides} sides
 * @param {[number, number]} at
 * @param {Size} size
 * @param {number} least  length of a side that remains
 * @returns {[number, number, number, number]}
 */
export function resized([x1, y1, x2, y2], sides, [x, y], { width, height }, least) {
  return [
    sides.left ? within(Math.min(x, Math.max(0, x2 - least)), width) : x1,
    sides.top ? within(Math.min(y, Math.max(0, y2 - least)), height) : y1,
    sides.right ? within(Math.max(x, Math.min(width, x1 + least)), width) : x2,
    sides.bottom ? within(Math.max(y, Math.min(height, y1 + least)), height) : y2,
  ];
}

/**
 * An object with its box and points moved, so far that all of them stay in the image.
 * @param {Thing} object
 * @param {number} dx
 * @param {number} dy
 * @param {Size} size
 * @returns {Thing}
 */
export function moved(object, dx, dy, { width, height }) {
  const { box, points } = object;
  const xs = [...(box ? [box[0], box[2]] : []), ...points.map(([x]) => x)];
  const ys = [...(box ? [box[1], box[3]] : []), ...points.map(([, y]) => y)];
  const stepX = Math.max(-Math.min(...xs), Math.min(width - Math.max(...xs), dx));
  const stepY = Math.max(-Math.min(...ys), Math.min(height - Math.max(...ys), dy));
  const shift = (x, y) => [within(x + stepX, width), within(y + stepY, height)];
  return reshaped(object, {
    box: box && /** @type {any} */ ([...shift(box[0], box[1]), ...shift(box[2], box[3])]),
    points: points.map(([x, y, on]) => /** @type {any} */ ([...shift(x, y), on])),
  });
}

/**
 * A point in the image; null outside of it.
 * @param {[number, number]} at
 * @param {Size} size
 * @returns {[number, number] | null}
 */
export function inside([x, y], { width, height }) {
  return x >= 0 && y >= 0 && x <= width && y <= height ? [within(x, width), within(y, height)] : null;
}

/**
 * Whether a mask can be requested: the object has a box, a point on it, a text or a grid.
 * @param {Thing} object
 */
export function askable(object) {
  return Boolean(object.box || object.points.some((point) => point[2] === 1) || object.rest.text || object.rest.grid || object.rest.exemplars);
}

/**
 * An object with another box or other points: a mask that it brought along no longer holds.
 * @param {Thing} object
 * @param {Partial<Thing>} change
 * @returns {Thing}
 */
export function reshaped(object, change) {
  const { mask, ...rest } = object.rest;
  return { ...object, pick: null, rest, ...change };
}

/**
 * Whether an object is nothing but a mask, as painted or read from a file: there is nothing to edit.
 * @param {Thing} object
 */
export function isFixed(object) {
  return Boolean(object.rest.mask) && !askable(object);
}

/**
 * An object clipped to an image of another size; null if nothing is left.
 * @param {Thing} object
 * @param {Size} size
 * @returns {Thing | null}
 */
export function copied(object, size) {
  const { box } = object;
  const clipped = box && boxBetween([box[0], box[1]], [box[2], box[3]], size);
  const points = object.points.filter(([x, y]) => inside([x, y], size));
  const { mask, ref, score, ...rest } = object.rest; // they belong to that one annotation
  const copy = thing({ ...object, uid: ++uids, box: clipped, points, rest });
  return askable(copy) ? copy : null;
}
