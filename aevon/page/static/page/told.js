// Shows what BEEP has done: the windows it acted on glide to where they were told to go, in a ring
// that stays for a moment. What hands do is theirs, and shown by nothing of this.

const FOLLOW_MS = 3000;
const RING_MS = 1200;
const MOVING = /^(canvas\.(open|move|resize|front|back|tile|tidy)|beep\.undo)$/;

/** Compares what is drawn with what was, for as long as a command's doing may be on its way here. */
export class Told {
  #before = new Map(); // id -> the window as it was drawn last, as text
  #until = 0;
  #rings = new Map(); // element -> the timer that ends its ring

  constructor() {
    document.addEventListener("answered", ({ detail }) => this.#follow(detail));
  }

  /** Before it is placed: whether BEEP may have changed this window, not a hand (`isTheirs`). */
  show(root, id, app, isTheirs) {
    const { position, size, zIndex } = app;
    const now = JSON.stringify([position, size, zIndex]);
    const isNews = this.#before.get(id) !== now;
    this.#before.set(id, now);
    if (isNews && !isTheirs && performance.now() < this.#until) this.#ring(root);
  }

  /** The window has gone. */
  forget(id, root) {
    this.#before.delete(id);
    clearTimeout(this.#rings.get(root));
    this.#rings.delete(root);
  }

  /** A command was answered; where it moved anything, the layout that says so is on its way here. */
  #follow(intent) {
    if (MOVING.test(intent ?? "")) this.#until = performance.now() + FOLLOW_MS;
  }

  #ring(root) {
    clearTimeout(this.#rings.get(root));
    root.classList.add("told");
    this.#rings.set(root, setTimeout(() => root.classList.remove("told"), RING_MS));
  }
}
