/**
 * Points and boxes for the run's model, which answers with a mask for the object.
 *
 * One request at a time, always for what is on the page now: an answer to a prompt that was changed or undone in the
 * meantime is dropped. Events: "busy" (detail: the name of a text, "" once nothing is computed), "failed" (detail: why).
 */

import { Problem, Unreachable } from "./api.js";

/** Milliseconds between two questions whether the model is loaded. */
const PAUSE = 500;

export class Clicks extends EventTarget {
  /**
   * @param {import("./reviewapi.js").ReviewApi} api
   * @param {import("./edits.js").Edits} edits
   */
  constructor(api, edits) {
    super();
    this.api = api;
    this.edits = edits;
    this.running = false;
    edits.addEventListener("change", () => this.#ask());
  }

  /**
   * @param {import("./edits.js").Piece | null} piece  null for a new object
   * @param {[number, number]} at
   * @param {boolean} on  the object
   */
  point(piece, at, on) {
    const points = [...(piece?.points ?? []), [...at, on ? 1 : 0]];
    const isLoose = Boolean(piece?.box) && (piece.isLoose || !(piece.points.length || piece.drawn));
    this.edits.prompt(piece, { points, drawn: isLoose ? around(piece, on ? at : null) : piece?.drawn ?? null, isLoose });
  }

  /** @param {[number, number, number, number]} box  of a new object */
  box(box) {
    this.edits.prompt(null, { points: [], drawn: box, isLoose: false });
  }

  async #ask() {
    const piece = this.edits.pieces.find((one) => one.waiting);
    if (this.running || !piece) return;
    this.running = true;
    this.#tell("computing");
    const { image } = this.edits;
    try {
      const reply = await this.api.propose(image.item.key, piece.points, piece.drawn);
      if (reply.state === "loading") {
        this.#tell("loadingModel");
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      } else if (this.edits.pieces.includes(piece)) {
        if (reply.mask?.area) this.edits.answer(piece, reply.mask);
        else this.#fail(piece, reply.reason);
      }
    } catch (error) {
      if (error instanceof Problem && error.retryAfter) await new Promise((resolve) => setTimeout(resolve, PAUSE));
      else if (this.edits.pieces.includes(piece)) this.#fail(piece, error instanceof Unreachable ? null : String(error.message));
    }
    this.running = false;
    this.#tell("");
    void this.#ask();
  }

  #tell(text) {
    this.dispatchEvent(new CustomEvent("busy", { detail: text }));
  }

  /** @param {string | null} why  null if the server did not answer, "" if the model found nothing */
  #fail(piece, why) {
    this.edits.withdraw(piece);
    this.dispatchEvent(new CustomEvent("failed", { detail: why }));
  }
}

/** The box around the pixels of an object that was found without points and a box, and around a point on it. */
function around({ box, drawn }, at) {
  const [x1, y1, x2, y2] = drawn ?? box;
  return at ? [Math.min(x1, at[0]), Math.min(y1, at[1]), Math.max(x2, at[0]), Math.max(y2, at[1])] : [x1, y1, x2, y2];
}
