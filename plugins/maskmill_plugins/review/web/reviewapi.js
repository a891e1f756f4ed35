/** The client of the review's HTTP interface. */

import { Api } from "./api.js";

export class ReviewApi extends Api {
  constructor() {
    super();
    /** This page, for leases of images; another tab is another page. */
    this.holder = crypto.getRandomValues(new Uint32Array(3)).join("-");
    /** Who reviews. */
    this.reviewer = "";
  }

  session() {
    return this.json(`review/session?${new URLSearchParams({ reviewer: this.reviewer })}`);
  }

  queue(filters, offset, limit) {
    const query = new URLSearchParams({ offset: String(offset), limit: String(limit), holder: this.holder, reviewer: this.reviewer });
    for (const [name, value] of Object.entries(filters)) if (value !== null && value !== "") query.set(name, String(value));
    return this.json(`review/queue?${query}`);
  }

  /** @param {string[]} held  images that this page goes on to have open */
  next(filters, held, skip) {
    const json = { holder: this.holder, reviewer: this.reviewer, filters, keep: held, skip };
    return this.json("review/next", { method: "POST", json });
  }

  /** The figures of the team. */
  team() {
    return this.json("review/team");
  }

  /** The page is being closed: what it has open is free. The request outlives it. */
  release() {
    return this.send("review/release", { method: "POST", json: { holder: this.holder }, keepalive: true });
  }

  image(key) {
    const query = new URLSearchParams({ key, holder: this.holder, reviewer: this.reviewer });
    return this.json(`review/image?${query}`);
  }

  /** @returns {Promise<ImageBitmap>} */
  async picture(key, most) {
    const answer = await this.send(`review/picture?${new URLSearchParams({ key, max: String(most) })}`);
    return createImageBitmap(await answer.blob());
  }

  decide(key, decision) {
    const json = { ...decision, reviewer: this.reviewer };
    return this.json(`review/decision?${new URLSearchParams({ key })}`, { method: "PUT", json });
  }

  sheet(label) {
    const query = new URLSearchParams({ reviewer: this.reviewer, ...(label === null ? {} : { label }) });
    return this.json(`review/sheet?${query}`);
  }

  /** @returns {Promise<ImageBitmap>} */
  async crop(key, index) {
    const answer = await this.send(`review/crop?${new URLSearchParams({ key, index: String(index) })}`);
    return createImageBitmap(await answer.blob());
  }

  seen(objects) {
    return this.json("review/sheet", { method: "POST", json: { objects, reviewer: this.reviewer } });
  }
}
