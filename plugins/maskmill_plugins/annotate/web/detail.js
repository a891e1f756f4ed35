/** Real pixels of the visible part of the image, where the preview is coarser than the screen. */

import { Problem, Unreachable } from "./api.js";
import { t } from "./strings.js";
import { toImage } from "./view.js";

/** Longer side of a part in pixels, at most; the server allows no more. */
const MOST = 4096;
/** Part of the visible region that is loaded beyond each of its edges, so that small movements need nothing new. */
const BEYOND = 0.25;
/** Milliseconds without a movement before a part is requested. */
const CALM = 120;

/** @typedef {import("./rle.js").Region} Region */
/** @typedef {{bitmap: ImageBitmap, region: Region, fine: number}} Part  fine: its pixels for one of the original */

export class Detail {
  /**
   * @param {import("./viewport.js").Viewport} stage
   * @param {(image: any, most: number, crop: string) => Promise<ImageBitmap | null>} load  a part, scaled down to this
   *   longer side; null if the image has changed since
   * @param {(text: string) => void} tell  shows a message
   */
  constructor(stage, load, tell) {
    Object.assign(this, { stage, load, tell });
    this.timer = 0;
    this.loading = false;
    /** The image of which no part can be loaded. */
    this.broken = null;
    stage.drawn.push(() => this.#check());
  }

  /** The region and the fineness that the screen needs; null if the preview is fine enough. */
  get #needed() {
    const { image, bitmap, size, view } = this.stage;
    if (!image || !bitmap || this.broken === image) return null;
    const fine = Math.min(1, view.scale * devicePixelRatio);
    if (bitmap.width / image.width >= fine * 0.98) return null;
    const region = clipped(toImage(view, 0, 0), toImage(view, size.width, size.height), image);
    return region && { region, fine };
  }

  #check() {
    const { detail } = this.stage;
    const needed = this.#needed;
    clearTimeout(this.timer);
    if (!needed || this.loading || (detail && satisfies(detail, needed))) return;
    this.timer = setTimeout(() => this.#load(), CALM);
  }

  async #load() {
    const { image } = this.stage;
    const needed = this.#needed;
    if (!needed) return;
    const { region, fine } = enlarged(needed, image);
    this.loading = true;
    try {
      const crop = [region.x, region.y, region.width, region.height].join();
      const most = Math.max(16, Math.ceil(Math.max(region.width, region.height) * fine));
      const bitmap = await this.load(image, most, crop);
      if (bitmap && this.stage.image === image) this.stage.refine({ bitmap, region, fine });
      else bitmap?.close();
    } catch (error) {
      if (!(error instanceof Unreachable)) this.broken = image; // the page tells when the server does not answer
      if (error instanceof Problem) this.tell(t("noDetail", { why: error.message }));
    }
    this.loading = false;
    this.#check();
  }
}

/** @returns {boolean} whether a part shows the region at this fineness */
function satisfies(part, { region, fine }) {
  const { x, y, width, height } = part.region;
  const within = region.x >= x && region.y >= y && region.x + region.width <= x + width && region.y + region.height <= y + height;
  return within && part.fine >= Math.min(fine, MOST / Math.max(region.width, region.height)) * 0.98;
}

/** A part somewhat larger and finer than needed, within what the server allows. */
function enlarged({ region, fine }, image) {
  const longer = Math.max(region.width, region.height);
  const beyond = Math.max(0, Math.min(BEYOND, (MOST / (longer * fine) - 1) / 2));
  const [right, below] = [region.x + region.width, region.y + region.height];
  const [dx, dy] = [beyond * region.width, beyond * region.height];
  const large = /** @type {Region} */ (clipped([region.x - dx, region.y - dy], [right + dx, below + dy], image));
  const finer = Math.min(1, 2 ** Math.ceil(Math.log2(fine)));
  return { region: large, fine: Math.min(finer, MOST / Math.max(large.width, large.height)) };
}

/** @returns {Region | null} whole pixels between two corners, within the image; null if there are none */
export function clipped([left, top], [right, bottom], image) {
  const x = Math.max(0, Math.floor(left));
  const y = Math.max(0, Math.floor(top));
  const width = Math.min(image.width, Math.ceil(right)) - x;
  const height = Math.min(image.height, Math.ceil(bottom)) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}
