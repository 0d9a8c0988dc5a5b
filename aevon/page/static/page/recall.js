// What was said on this line, to be recalled with the arrow keys as a shell does. Pure.

const MOST = 200;

/** The commands of this session after those of the last turns, the oldest first. */
export class Recall {
  #said = [];
  #written = new Map(); // what stands in the line at a place, where it is not what was said there
  #at = 0; // the place in `#said`; at its end is the line that is being written

  /** The last turns' commands, unless something has been said here already. */
  learn(commands) {
    if (this.#said.length === 0) for (const each of commands) this.add(each);
  }

  /** Something was said; the line begins anew. The same twice in a row is remembered once. */
  add(command) {
    if (this.#said.at(-1) !== command) this.#said = [...this.#said, command].slice(-MOST);
    this.#written.clear();
    this.#at = this.#said.length;
  }

  /** What the line shows one step `back` (or forth, -1), when now it shows `written`. */
  step(back, written) {
    this.#written.set(this.#at, written);
    this.#at = Math.max(0, Math.min(this.#said.length, this.#at - back));
    return this.#written.get(this.#at) ?? this.#said[this.#at] ?? "";
  }
}
