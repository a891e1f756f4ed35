/**
 * A mask that is being painted: for each column of the image, the rows that are on the object.
 *
 * Its memory and the time of a stroke depend on the outline of the mask, not on the size of the image.
 */

import { encodeRuns, runLengths } from "./rle.js";

/** @typedef {import("./rle.js").Region} Region */

export class SpanMask {
  /** @param {[number, number]} size  (height, width) of the image in pixels @param {string | null} [counts] */
  constructor([rows, columns], counts = null) {
    this.rows = rows;
    /** @type {number[][]} for each column the first row of each span and the row after its last, in order */
    this.columns = Array.from({ length: columns }, () => []);
    if (counts !== null) this.#read(counts);
  }

  /**
   * Paint or erase what lies within a radius of a line between two places.
   * @param {[number, number]} from  in pixels of the original
   * @param {[number, number]} to
   * @param {number} radius
   * @param {boolean} on
   * @returns {Region} contains everything that changed
   */
  line(from, to, radius, on) {
    const left = Math.max(0, Math.ceil(Math.min(from[0], to[0]) - radius - 0.5));
    const right = Math.min(this.columns.length - 1, Math.floor(Math.max(from[0], to[0]) + radius - 0.5));
    for (let x = left; x <= right; x++) {
      const [low, high] = extentAt(x + 0.5, from, to, radius);
      const [first, end] = [Math.max(0, Math.ceil(low - 0.5)), Math.min(this.rows, Math.floor(high - 0.5) + 1)];
      if (first < end) this.columns[x] = on ? added(this.columns[x], first, end) : removed(this.columns[x], first, end);
    }
    const top = Math.max(0, Math.floor(Math.min(from[1], to[1]) - radius));
    const bottom = Math.min(this.rows, Math.ceil(Math.max(from[1], to[1]) + radius));
    return { x: left, y: top, width: Math.max(0, right + 1 - left), height: Math.max(0, bottom - top) };
  }

  get area() {
    let sum = 0;
    for (const spans of this.columns) for (let at = 0; at < spans.length; at += 2) sum += spans[at + 1] - spans[at];
    return sum;
  }

  /** @returns {[number, number, number, number] | null} the tight box, right and bottom edge exclusive */
  get box() {
    const used = this.columns.flatMap((spans, x) => (spans.length ? [x] : []));
    if (!used.length) return null;
    let [top, bottom] = [this.rows, 0];
    for (const x of used) {
      top = Math.min(top, this.columns[x][0]);
      bottom = Math.max(bottom, this.columns[x].at(-1));
    }
    return [used[0], top, used.at(-1) + 1, bottom];
  }

  /** @returns {string} COCO's compressed run lengths */
  get counts() {
    const lengths = [];
    let [start, end] = [0, 0]; // of the run on the mask that is not written yet, as indices column by column
    let written = 0;
    const write = () => {
      if (end > start) lengths.push(start - written, end - start);
      written = end;
    };
    this.columns.forEach((spans, x) => {
      for (let at = 0; at < spans.length; at += 2) {
        const [from, to] = [x * this.rows + spans[at], x * this.rows + spans[at + 1]];
        if (from !== end || end === start) {
          write();
          start = from;
        }
        end = to;
      }
    });
    write();
    const total = this.rows * this.columns.length;
    if (written < total || !lengths.length) lengths.push(total - written);
    return encodeRuns(lengths);
  }

  /**
   * Pixels of a region scaled down by taking the nearest one, as `raster` does.
   * @param {Region} region
   * @param {Uint8Array} pixels  row by row, 1 on the object; those of the part are replaced
   * @param {number} width  of all pixels
   * @param {number} height
   * @param {Region} part  of the pixels
   */
  draw(region, pixels, width, height, part) {
    const [stepX, stepY] = [region.width / width, region.height / height];
    const bottom = part.y + part.height;
    for (let x = part.x; x < part.x + part.width; x++) {
      for (let y = part.y; y < bottom; y++) pixels[y * width + x] = 0;
      const spans = this.columns[Math.min(this.columns.length - 1, Math.floor(region.x + (x + 0.5) * stepX))];
      for (let at = 0; at < spans.length; at += 2) {
        const low = Math.max(part.y, Math.ceil((spans[at] - region.y) / stepY - 0.5));
        const high = Math.min(bottom, Math.ceil((spans[at + 1] - region.y) / stepY - 0.5));
        for (let y = low; y < high; y++) pixels[y * width + x] = 1;
      }
    }
  }

  #read(counts) {
    const { rows } = this;
    let start = 0;
    runLengths(counts).forEach((length, number) => {
      const end = start + length;
      for (let at = start; number & 1 && at < end;) {
        const x = Math.floor(at / rows);
        const until = Math.min(end, (x + 1) * rows);
        this.columns[x].push(at - x * rows, until - x * rows);
        at = until;
      }
      start = end;
    });
  }
}

/** Where a vertical line meets what lies within a radius of the line between two places. @returns {[number, number]} */
function extentAt(x, from, to, radius) {
  let [low, high] = [Infinity, -Infinity];
  const take = (y) => {
    low = Math.min(low, y);
    high = Math.max(high, y);
  };
  for (const [centerX, centerY] of [from, to]) {
    const half = radius ** 2 - (x - centerX) ** 2;
    if (half < 0) continue;
    take(centerY - Math.sqrt(half));
    take(centerY + Math.sqrt(half));
  }
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  for (const side of length && dx ? [-radius, radius] : []) { // the two edges beside the line
    const [startX, startY] = [from[0] - (side * dy) / length, from[1] + (side * dx) / length];
    const part = (x - startX) / dx;
    if (part >= 0 && part <= 1) take(startY + part * dy);
  }
  return [low, high];
}

/** @param {number[]} spans */
function added(spans, low, high) {
  const before = [];
  const after = [];
  for (let at = 0; at < spans.length; at += 2) {
    const [start, end] = [spans[at], spans[at + 1]];
    if (end < low) before.push(start, end);
    else if (start > high) after.push(start, end);
    else [low, high] = [Math.min(low, start), Math.max(high, end)];
  }
  return [...before, low, high, ...after];
}

/** @param {number[]} spans */
function removed(spans, low, high) {
  const left = [];
  for (let at = 0; at < spans.length; at += 2) {
    const [start, end] = [spans[at], spans[at + 1]];
    if (start < low) left.push(start, Math.min(end, low));
    if (end > high) left.push(Math.max(start, high), end);
  }
  return left;
}
