/** Undo and redo over states that are never changed in place. */

/** Steps kept for one image. */
const MOST = 200;

/** @template T */
export class History {
  /** @param {T} state  the first state, which cannot be undone */
  constructor(state) {
    this.states = [state];
    this.at = 0;
  }

  /** @returns {T} */
  get state() {
    return this.states[this.at];
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.states.length - 1;
  }

  /**
   * Add a new state; undone states are discarded.
   * @param {T} state
   */
  push(state) {
    this.states = [...this.states.slice(Math.max(0, this.at + 2 - MOST), this.at + 1), state];
    this.at = this.states.length - 1;
  }

  /**
   * Replace the current state without adding a step: for a selection, or a label's spelling.
   * @param {T} state
   */
  replace(state) {
    this.states[this.at] = state;
  }

  /** @returns {boolean} whether there was a step to undo */
  undo() {
    if (this.canUndo) this.at--;
    else return false;
    return true;
  }

  /** @returns {boolean} */
  redo() {
    if (this.canRedo) this.at++;
    else return false;
    return true;
  }
}
