/**
 * Masks in COCO's compressed run-length encoding, decoded directly at the size at which they are shown.
 *
 * The mask of an image of 12,000 x 9,000 pixels is never unpacked: the runs of the visible columns are
 * read once, which takes milliseconds. The format is that of `pycocotools/maskApi.c` (rleFrString):
 * lengths of alternating runs off and on the mask, column by column, as signed numbers in 5-bit digits;
 * from the third number on, the difference to the number two before it.
 */

/** @typedef {{size: [number, number], counts: string}} Rle  size is [height, width] */
/** @typedef {{x: number, y: number, width: number, height: number}} Region  in pixels of the original */

/**
 * The lengths of the runs, the first of them off the mask.
 * @param {string} counts
 * @returns {Uint32Array}
 */
export function runLengths(counts) {
  const lengths = new Uint32Array(counts.length);
  let found = 0;
  for (let at = 0; at < counts.length; found++) {
    let value = 0;
    let shift = 0;
    let digit;
    do {
      digit = counts.charCodeAt(at++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16 && shift < 32) value |= -1 << shift;
    lengths[found] = found > 2 ? value + lengths[found - 2] : value;
  }
  return lengths.subarray(0, found);
}

/**
 * The inverse of `runLengths`: equal masks have equal texts, those that pycocotools writes.
 * @param {number[]} lengths  in turn off and on the mask, none of them 0 but the first
 * @returns {string}
 */
export function encodeRuns(lengths) {
  const letters = [];
  for (let at = 0; at < lengths.length; at++) {
    let value = at > 2 ? lengths[at] - lengths[at - 2] : lengths[at];
    for (let more = true; more;) {
      const digit = value & 31;
      value >>= 5;
      more = digit & 16 ? value !== -1 : value !== 0;
      letters.push(String.fromCharCode(48 + (more ? digit | 32 : digit)));
    }
  }
  return letters.join("");
}

/**
 * A part of a mask, scaled down by taking the nearest pixel.
 * @param {Rle} rle
 * @param {Region} region  inside the image
 * @param {number} width  of the result, at most that of the region
 * @param {number} height
 * @returns {Uint8Array}  row by row, 1 on the object
 */
export function raster(rle, region, width, height) {
  const [rows, columns] = rle.size;
  const lengths = runLengths(rle.counts);
  const out = new Uint8Array(width * height);
  const stepX = region.width / width;
  const stepY = region.height / height;
  let run = 0;
  let start = 0; // index of the first pixel of `run`, column by column
  for (let x = 0; x < width; x++) {
    const top = Math.min(columns - 1, Math.floor(region.x + (x + 0.5) * stepX)) * rows;
    while (run < lengths.length && start + lengths[run] <= top) start += lengths[run++];
    let from = start;
    for (let at = run; at < lengths.length && from < top + rows; from += lengths[at++]) {
      if (!(at & 1)) continue;
      const first = Math.max(from - top, 0);
      const last = Math.min(from + lengths[at] - top, rows);
      const low = Math.max(0, Math.ceil((first - region.y) / stepY - 0.5));
      const high = Math.min(height, Math.ceil((last - region.y) / stepY - 0.5));
      for (let y = low, index = low * width + x; y < high; y++, index += width) out[index] = 1;
    }
  }
  return out;
}

/**
 * @param {Rle} rle
 * @returns {{area: number, box: [number, number, number, number] | null}} number of pixels, and the tight box around them
 */
export function extent({ size: [rows], counts }) {
  let [area, left, top, right, bottom] = [0, Infinity, Infinity, 0, 0];
  let start = 0;
  runLengths(counts).forEach((length, at) => {
    if (at & 1 && length) {
      const [first, last] = [start, start + length - 1];
      const columns = [Math.floor(first / rows), Math.floor(last / rows)];
      const whole = columns[0] !== columns[1]; // it goes through the edge between two columns
      area += length;
      left = Math.min(left, columns[0]);
      right = Math.max(right, columns[1] + 1);
      top = Math.min(top, whole ? 0 : first % rows);
      bottom = Math.max(bottom, whole ? rows : (last % rows) + 1);
    }
    start += length;
  });
  return { area, box: area ? [left, top, right, bottom] : null };
}

/**
 * @param {Rle} rle
 * @param {number} x
 * @param {number} y
 * @returns {boolean} whether the pixel at this place is in the mask
 */
export function covers(rle, x, y) {
  const [rows, columns] = rle.size;
  const [row, column] = [Math.floor(y), Math.floor(x)];
  if (row < 0 || column < 0 || row >= rows || column >= columns) return false;
  const lengths = runLengths(rle.counts);
  let left = column * rows + row;
  let run = 0;
  while (run < lengths.length && left >= lengths[run]) left -= lengths[run++];
  return run < lengths.length && (run & 1) === 1;
}

/**
 * RGBA pixels of a mask: its area lightly tinted, its edge strong.
 * @param {Uint8Array} mask  as `raster` gives it
 * @param {number} width
 * @param {number} height
 * @param {[number, number, number]} color
 * @param {number} fill  alpha of the area, 0..255
 * @param {number} edge  alpha of the edge
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function tinted(mask, width, height, color, fill, edge) {
  const bytes = new Uint8ClampedArray(width * height * 4);
  const pixels = new Uint32Array(bytes.buffer);
  const inside = packed(color, fill);
  const border = packed(color, edge);
  const lastRow = (height - 1) * width;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!mask[at]) continue;
      const whole =
        (x === 0 || mask[at - 1]) &&
        (x === width - 1 || mask[at + 1]) &&
        (at < width || mask[at - width]) &&
        (at >= lastRow || mask[at + width]);
      pixels[at] = whole ? inside : border;
    }
  }
  return bytes;
}

const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

function packed([red, green, blue], alpha) {
  return (littleEndian
    ? (alpha << 24) | (blue << 16) | (green << 8) | red
    : (red << 24) | (green << 16) | (blue << 8) | alpha) >>> 0;
}
