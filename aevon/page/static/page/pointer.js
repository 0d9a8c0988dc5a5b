// Dragging and resizing by mouse, pen or finger.

import { drawnToEdges, settled, settledEdges, stretched } from "./geometry.js";

const SLOP = 3; // pixels of a press that is no drag yet

/**
 * One gesture at a time. `windows` tells where windows are (`rectOf`, `othersOf`, `area`) and
 * takes what becomes of them (`put`, `settle`).
 */
export class Pointer {
  #windows;
  #gesture = null;

  constructor(windows) {
    this.#windows = windows;
    window.addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
  }

  /** The id of the window that somebody holds. */
  get heldId() {
    return this.#gesture?.frame.id ?? null;
  }

  /** Where a held window is, whatever the server says meanwhile. */
  heldRect(id) {
    return this.heldId === id ? (this.#gesture.last ?? this.#gesture.before) : null;
  }

  /** A press on a title bar (`edges` is empty) or on a handle. */
  press(event, frame, edges) {
    if (event.button !== 0 || this.#gesture || frame.isMaximised) return;
    const listening = new AbortController();
    const before = this.#windows.rectOf(frame.id);
    const from = { x: event.clientX, y: event.clientY };
    this.#gesture = { frame, edges, before, from, listening, pointerId: event.pointerId };
    const on = (name, listener) =>
      window.addEventListener(name, listener, { signal: listening.signal });
    on("pointermove", (move) => this.#move(move));
    on("pointerup", (end) => this.#end(end));
    on("pointercancel", (end) => this.#end(end));
    on("lostpointercapture", (end) => this.#end(end));
  }

  /** Escape: as if nothing had been done. */
  cancel() {
    const gesture = this.#stop();
    if (gesture?.last) this.#windows.put(gesture.frame.id, gesture.before);
  }

  /** The window is gone: somebody closed it elsewhere. */
  letGo() {
    this.#stop();
  }

  #move(event) {
    const gesture = this.#gesture;
    if (event.pointerId !== gesture.pointerId) return;
    const dx = event.clientX - gesture.from.x;
    const dy = event.clientY - gesture.from.y;
    if (!gesture.last && Math.hypot(dx, dy) < SLOP) return;
    if (!gesture.last) this.#hold(gesture);
    gesture.isFree = event.altKey;
    gesture.last = this.#rect(gesture, dx, dy);
    this.#windows.put(gesture.frame.id, gesture.last);
  }

  /** Captured only now: a captured press would take clicks and double clicks from the title bar. */
  #hold({ frame, pointerId }) {
    frame.root.setPointerCapture(pointerId);
    frame.root.classList.add("held");
  }

  #rect({ frame, edges, before, isFree }, dx, dy) {
    if (edges) return whole(stretched(before, edges, dx, dy));
    const y = Math.max(0, before.y + dy); // a title bar behind the top bar could not be reached
    const rect = whole({ ...before, x: before.x + dx, y });
    const { area } = this.#windows;
    return isFree ? rect : whole(drawnToEdges(rect, this.#windows.othersOf(frame.id), area));
  }

  #end(event) {
    if (event.pointerId !== this.#gesture.pointerId) return; // another finger
    const gesture = this.#stop();
    if (!gesture?.last) return;
    const { frame, edges, last, isFree } = gesture;
    const rest = isFree ? last : this.#atRest(frame.id, edges, last);
    this.#windows.settle(frame, rest);
  }

  #atRest(id, edges, rect) {
    if (edges) return settledEdges(rect, edges);
    return settled(rect, this.#windows.othersOf(id), this.#windows.area);
  }

  #stop() {
    const gesture = this.#gesture;
    this.#gesture = null;
    gesture?.listening.abort();
    gesture?.frame.root.classList.remove("held");
    return gesture;
  }
}

function whole(rect) {
  return Object.fromEntries(Object.entries(rect).map(([name, value]) => [name, Math.round(value)]));
}
