/** Masks as small bitmaps of their bounding box at screen resolution, cached by size and colour. */

import { raster, tinted } from "./rle.js";

/** Most pixels of one mask's bitmap, so that it can be drawn within a frame. */
const MOST = 3e6;

/** @typedef {import("./live.js").Mask} Mask */
/** @typedef {import("./rle.js").Region} Region */

export class MaskPictures {
  constructor() {
    /** @type {WeakMap<Mask, {name: string, canvas: OffscreenCanvas, region: Region}>} */
    this.made = new WeakMap();
  }

  /**
   * @param {Mask} mask
   * @param {number} scale  device pixels for one of the original
   * @param {[number, number, number]} color
   * @param {boolean} strong
   * @param {boolean} [hollow]  only its edge
   * @returns {{canvas: OffscreenCanvas | null, region: Region}} no canvas if nothing is in the mask
   */
  tinted(mask, scale, color, strong, hollow = false) {
    const region = withBorder(regionOf(mask), mask.size);
    if (!region.width || !region.height) return { canvas: null, region };
    const fine = fineness(region, scale);
    const name = `${fine} ${color} ${strong} ${hollow}`;
    const known = this.made.get(mask);
    if (known?.name === name) return known;
    const { fill, edge } = alphas(strong, hollow);
    const made = { name, canvas: draw(mask, region, fine, color, fill, edge), region };
    this.made.set(mask, made);
    return made;
  }
}

/**
 * A mask as an opaque shape for cutting out.
 * @param {Mask} mask
 * @param {number} scale
 */
export function shape(mask, scale) {
  const region = regionOf(mask);
  if (!region.width || !region.height) return null;
  return { canvas: draw(mask, region, fineness(region, scale), [0, 0, 0], 255, 255), region };
}

/** @param {Mask} mask @returns {Region} whole pixels around the mask */
function regionOf({ box, area }) {
  if (!box || area === 0) return { x: 0, y: 0, width: 0, height: 0 };
  const x = Math.floor(box[0]);
  const y = Math.floor(box[1]);
  return { x, y, width: Math.ceil(box[2]) - x, height: Math.ceil(box[3]) - y };
}

/** One pixel more on each side, within the image: else what lies on the border would not be drawn as an edge. */
function withBorder({ x, y, width, height }, [rows, columns]) {
  if (!width || !height) return { x, y, width, height };
  const [left, top] = [Math.max(0, x - 1), Math.max(0, y - 1)];
  return { x: left, y: top, width: Math.min(columns, x + width + 1) - left, height: Math.min(rows, y + height + 1) - top };
}

/** How opaque the area and the edge of a mask are, 0..255. */
export function alphas(strong, hollow = false) {
  return { fill: strong ? 105 : hollow ? 0 : 70, edge: strong ? 255 : 190 };
}

/** Powers of two, so that zooming rarely makes a new bitmap. */
export function fineness(region, scale) {
  let fine = Math.min(1, 2 ** Math.ceil(Math.log2(scale)));
  while (region.width * region.height * fine * fine > MOST) fine /= 2;
  return fine;
}

function draw(mask, region, fine, color, fill, edge) {
  const width = Math.max(1, Math.round(region.width * fine));
  const height = Math.max(1, Math.round(region.height * fine));
  const pixels = tinted(raster(mask, region, width, height), width, height, color, fill, edge);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}
