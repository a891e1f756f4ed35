/** The image under review: its objects as the reviewer leaves them, the selection, and undo. Event: "change". */

/**
 * @typedef {{id: string, label: string | null, score: number | null, kept: boolean, reason: string,
 *   size: [number, number], counts: string, box: number[] | null, area: number, color: number}} Piece
 */

export class Edits extends EventTarget {
  constructor() {
    super();
    /** @type {any} as the server sent it */
    this.image = null;
    /** @type {Piece[]} */
    this.pieces = [];
    /** @type {Set<string>} ids */
    this.selected = new Set();
    /** @type {Piece[][]} */
    this.past = [];
    this.since = 0;
  }

  /** @param {any} image  null for none */
  open(image) {
    this.image = image;
    this.pieces = (image?.objects ?? []).map((one, number) => ({ ...one, color: number }));
    this.selected = new Set();
    this.past = [];
    this.since = performance.now();
    this.#changed();
  }

  /** Kept objects, the lowest score first. */
  get kept() {
    return this.pieces.filter((one) => one.kept).sort((a, b) => (a.score ?? 1) - (b.score ?? 1));
  }

  /** The others, which could be kept. */
  get others() {
    return this.pieces.filter((one) => !one.kept);
  }

  get isChanged() {
    const before = this.image?.objects ?? [];
    return this.pieces.some((one, at) => one.kept !== before[at].kept || one.label !== before[at].label);
  }

  /** What a decision sends. */
  get objects() {
    return this.pieces.filter((one) => one.kept).map(({ id, label }) => ({ id, label }));
  }

  /** @param {string | null} id  null for none @param {boolean} also  keep what is selected */
  select(id, also = false) {
    if (!also) this.selected.clear();
    if (id !== null && !this.selected.delete(id)) this.selected.add(id);
    this.#changed();
  }

  selectAll() {
    this.selected = new Set(this.pieces.filter((one) => one.kept).map((one) => one.id));
    this.#changed();
  }

  /** The next kept object in the order of the list; @returns {Piece | null} */
  selectNext(step) {
    const { kept } = this;
    if (!kept.length) return null;
    const at = kept.findIndex((one) => this.selected.has(one.id));
    const found = kept[at < 0 ? (step > 0 ? 0 : kept.length - 1) : (at + step + kept.length) % kept.length];
    this.selected = new Set([found.id]);
    this.#changed();
    return found;
  }

  /** Remove what is selected; it stays listed among the others. */
  remove(ids = this.selected) {
    this.#edit((one) => (ids.has(one.id) && one.kept ? { ...one, kept: false, removed: true } : one));
  }

  keep(ids = this.selected) {
    this.#edit((one) => (ids.has(one.id) && !one.kept ? { ...one, kept: true } : one));
  }

  /** @param {string | null} label  for what is selected */
  relabel(label) {
    this.#edit((one) => (this.selected.has(one.id) && one.kept ? { ...one, label } : one));
  }

  /** @returns {boolean} whether there was something to undo */
  undo() {
    const before = this.past.pop();
    if (!before) return false;
    this.pieces = before;
    this.#changed();
    return true;
  }

  #edit(change) {
    const after = this.pieces.map(change);
    if (after.every((one, at) => one === this.pieces[at])) return;
    this.past.push(this.pieces);
    this.pieces = after;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
