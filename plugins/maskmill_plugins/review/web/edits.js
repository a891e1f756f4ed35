/** The image under review: its objects as the reviewer leaves them, the selection, and undo. Event: "change". */

/**
 * `points` and `drawn`, a box, are the prompt of an object. `edited`: its pixels are no longer those that the server
 * sent; `prompted`: the model made them; `isLoose`: the box is that of its pixels. `waiting`: its prompt has changed, and the model has not answered yet; `before` is the object before that.
 *
 * @typedef {{id: string, label: string | null, score: number | null, stability?: number | null, kept: boolean,
 *   reason: string, size: [number, number], counts: string, box: number[] | null, area: number, color: number,
 *   points: number[][], drawn: number[] | null, edited?: boolean, prompted?: boolean, isLoose?: boolean, removed?: boolean,
 *   waiting?: boolean, before?: Piece | null}} Piece
 */

/** Images whose changes are kept until they are saved. */
const REMEMBERED = 50;

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
    this.isSaved = false;
    /** @type {string | null} of the next new object */
    this.label = null;
    this.made = 0;
    /** @type {Map<string, {image: any, pieces: Piece[], past: Piece[][]}>} by key: changes of images that were left */
    this.drafts = new Map();
  }

  /**
   * @param {any} image  null for none
   * @returns {boolean} false if it has changed since, so that changes which were not saved are gone
   */
  open(image) {
    this.#remember();
    const draft = image && this.drafts.get(image.item.key);
    const isSame = Boolean(draft && draft.image.result === image.result && draft.image.revision === image.revision);
    this.image = image;
    this.pieces = isSame ? draft.pieces : (image?.objects ?? []).map((one, number) => ({ ...one, color: number }));
    this.past = isSame ? draft.past : [];
    this.drafts.delete(image?.item.key);
    this.selected = new Set();
    this.since = performance.now();
    this.isSaved = false;
    this.#changed();
    return isSame || !draft;
  }

  /** Keep what was changed and not saved. */
  #remember() {
    if (!this.isChanged) return;
    const { image, pieces, past } = this;
    this.drafts.set(image.item.key, { image, pieces, past });
    if (this.drafts.size > REMEMBERED) this.drafts.delete(this.drafts.keys().next().value);
  }

  /** What was changed is on disk. */
  settle() {
    this.isSaved = true;
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
    return !this.isSaved && this.pieces.some((one, at) => {
      const old = before[at];
      return old ? one.kept !== old.kept || one.label !== old.label || Boolean(one.edited) : one.kept;
    });
  }

  /** Whether the model has to answer first. */
  get isWaiting() {
    return this.pieces.some((one) => one.waiting);
  }

  /** The only selected object; null if none or several are. @returns {Piece | null} */
  get target() {
    return this.selected.size === 1 ? this.pieces.find((one) => this.selected.has(one.id)) ?? null : null;
  }

  /** What a decision sends. */
  get objects() {
    return this.pieces.filter((one) => one.kept).map(({ id, label, ...piece }) => (
      piece.edited ? { id, label, mask: toMask(piece) } : { id, label }
    ));
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
    this.label = label;
    this.#edit((one) => (this.selected.has(one.id) && one.kept ? { ...one, label } : one));
  }

  /**
   * Give an object other pixels, or add one.
   * @param {Piece | null} piece  null for a new object
   * @param {{counts: string, area: number, box: number[] | null}} shape
   */
  paint(piece, shape) {
    if (piece && shape.counts === piece.counts) return;
    this.#put(piece, { ...shape, score: null, stability: null, waiting: false });
  }

  /**
   * Give an object another prompt, which the model has to answer, or add one.
   * @param {Piece | null} piece  null for a new object
   * @param {{points: number[][], drawn: number[] | null, isLoose: boolean}} prompt
   */
  prompt(piece, prompt) {
    this.#put(piece, { ...prompt, prompted: true, waiting: true, before: piece });
  }

  /** The model's answer to a prompt; no step of its own. @param {Piece} piece */
  answer(piece, { counts, area, box, score, stability }) {
    const after = { ...piece, counts, area, box, score, stability, waiting: false, before: null };
    this.pieces = this.pieces.map((one) => (one === piece ? after : one));
    this.#changed();
  }

  /** The model has no answer: the object is as it was before. @param {Piece} piece */
  withdraw(piece) {
    let before = piece.before ?? null;
    while (before?.waiting) before = before.before ?? null;
    this.pieces = this.pieces.flatMap((one) => (one !== piece ? [one] : before ? [before] : []));
    const last = this.past.at(-1);
    if (last?.length === this.pieces.length && last.every((one, at) => one === this.pieces[at])) this.past.pop();
    this.#changed();
  }

  /**
   * Take over the objects of another version of the image.
   * @param {Piece[]} kept
   * @returns {boolean} false if one of them does not exist here
   */
  adopt(kept) {
    const wanted = new Map(kept.map((one) => [one.counts, one.label]));
    const isHere = (one) => this.pieces.some(({ counts }) => counts === one.counts);
    if (kept.some((one) => !one.edited && !isHere(one))) return false;
    const after = this.pieces.map((one) => ({ ...one, kept: wanted.has(one.counts), label: wanted.get(one.counts) ?? one.label }));
    const added = kept.filter((one) => !isHere(one)).map((one) => ({ ...one, id: `n${++this.made}` }));
    this.pieces = [...after, ...added];
    this.#changed();
    return true;
  }

  /** @returns {boolean} whether there was something to undo */
  undo() {
    const before = this.past.pop();
    if (!before) return false;
    this.pieces = before;
    this.#changed();
    return true;
  }

  /** Change an object or add one, which is then the selected one. */
  #put(piece, change) {
    const old = piece ?? this.#fresh();
    const after = { ...old, ...change, kept: true, edited: true, removed: false };
    this.selected = new Set([old.id]);
    if (piece) return this.#edit((one) => (one.id === old.id ? after : one));
    this.past.push(this.pieces);
    this.pieces = [...this.pieces, after];
    return this.#changed();
  }

  /** @returns {Piece} a new object without pixels */
  #fresh() {
    const color = this.pieces.length;
    const empty = { score: null, counts: "", box: null, area: 0, points: [], drawn: null };
    return { ...empty, id: `n${++this.made}`, label: this.label, kept: true, reason: "", size: this.image.size, color };
  }

  #edit(change) {
    const after = this.pieces.map(change);
    if (after.every((one, at) => one === this.pieces[at])) return;
    this.past.push(this.pieces);
    this.pieces = after;
    this.#changed();
  }

  #changed() {
    for (const id of [...this.selected]) if (!this.pieces.some((one) => one.id === id)) this.selected.delete(id);
    this.dispatchEvent(new Event("change"));
  }
}

/** The pixels of an object as a decision sends them, with the prompt if the model made them. */
function toMask({ size, counts, area, score, stability, points, drawn, prompted }) {
  const prompt = prompted ? { points, ...(drawn ? { box: drawn } : {}) } : {};
  return { size, counts, area, score, stability: stability ?? null, ...prompt };
}
