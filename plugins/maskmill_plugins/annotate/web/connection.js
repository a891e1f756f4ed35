/** Watches the connection to the server and retries until it is back. Events: "lost", "waiting" (each second), "back". */

/** Longest pause between retries in seconds. */
const LONGEST = 10;

export class Connection extends EventTarget {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    super();
    this.api = api;
    this.lost = false;
    /** Seconds until the next retry. */
    this.left = 0;
    this.wait = 1;
    this.timer = 0;
    api.reached = (answered) => this.#reached(answered);
  }

  #reached(answered) {
    if (answered === !this.lost) return;
    this.lost = !answered;
    clearTimeout(this.timer);
    this.dispatchEvent(new Event(this.lost ? "lost" : "back"));
    if (this.lost) {
      this.wait = 1;
      this.#count(this.wait);
    }
  }

  #count(seconds) {
    this.left = seconds;
    this.dispatchEvent(new Event("waiting"));
    this.timer = setTimeout(() => (seconds > 1 ? this.#count(seconds - 1) : this.tryNow()), 1000);
  }

  /** Retry now. */
  async tryNow() {
    clearTimeout(this.timer);
    this.left = 0;
    this.dispatchEvent(new Event("waiting"));
    await this.api.session().catch(() => {});
    if (!this.lost) return;
    this.wait = Math.min(LONGEST, this.wait * 2);
    this.#count(this.wait);
  }
}
