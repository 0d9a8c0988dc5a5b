// Moving and resizing by the arrow keys, and the menu that says what else there is.

import { announce } from "./announce.js";
import { GRID, stretched } from "./geometry.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The keyboard's side of the windows; `windows` as for the pointer. */
export class Keys {
  #windows;
  #resizing = null; // {id, before} while the arrows change a size

  constructor(windows) {
    this.#windows = windows;
  }

  /** A key on a title bar. */
  press(event, frame) {
    const step = STEPS[event.key];
    if (step && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.#step(frame, step, event.shiftKey ? 1 : GRID);
    } else if (this.#resizing?.id === frame.id && ["Enter", "Escape"].includes(event.key)) {
      event.preventDefault();
      this.#stopResizing(frame, event.key === "Escape");
    }
  }

  /** What the menu of a window offers. */
  items(frame) {
    const { id } = frame;
    if (this.#windows.areSheets) return [{ label: "Close", run: () => this.#windows.close(id) }];
    return [
      { label: "Bring to front", run: () => this.#windows.raise(id) },
      { label: "Move", hint: "arrow keys", run: () => this.#beginMoving(frame) },
      { label: "Resize", hint: "arrow keys", run: () => this.#beginResizing(frame) },
      {
        label: frame.isMaximised ? "Restore" : "Fill the screen",
        hint: "double click",
        run: () => this.#windows.maximise(frame),
      },
      { label: "Close", run: () => this.#windows.close(id) },
    ];
  }

  #beginMoving(frame) {
    this.#resizing = null;
    frame.grip.focus();
    announce(`Arrow keys move ${this.#windows.titleOf(frame.id)}.`);
  }

  #beginResizing(frame) {
    if (!this.#windows.has(frame.id)) return; // closed elsewhere a moment ago
    this.#resizing = { id: frame.id, before: this.#windows.rectOf(frame.id) };
    frame.root.classList.add("resizing");
    frame.grip.focus();
    frame.grip.addEventListener("blur", () => this.#stopResizing(frame, false), { once: true });
    announce(`Arrow keys resize ${this.#windows.titleOf(frame.id)}, Enter ends, Escape undoes.`);
  }

  #stopResizing(frame, isUndone) {
    if (this.#resizing?.id !== frame.id) return;
    if (isUndone) this.#windows.put(frame.id, this.#resizing.before);
    this.#resizing = null;
    frame.root.classList.remove("resizing");
  }

  #step(frame, [across, down], by) {
    if (this.#windows.areSheets || frame.isMaximised) return;
    const rect = this.#windows.rectOf(frame.id);
    const title = this.#windows.titleOf(frame.id);
    if (this.#resizing?.id === frame.id) {
      const wanted = stretched(rect, "se", across * by, down * by);
      this.#windows.put(frame.id, wanted);
      announce(`${title} is ${wanted.width} by ${wanted.height}`);
    } else {
      const wanted = { ...rect, x: rect.x + across * by, y: Math.max(0, rect.y + down * by) };
      this.#windows.put(frame.id, wanted);
      announce(`${title} moved to ${wanted.x}, ${wanted.y}`);
    }
  }
}
