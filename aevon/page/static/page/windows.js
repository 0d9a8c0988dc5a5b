// The windows on the screen: keeps their elements in step with the canvas, and turns what people
// do to them into changes of it.

import { announce } from "./announce.js";
import { appOf } from "./apps/index.js";
import { Frame } from "./frame.js";
import { reachable } from "./geometry.js";
import { Keys } from "./keys.js";
import { inReadingOrder, opening, placing, raising, rectOf, stacked } from "./layout.js";
import { closeMenuIn, toggle } from "./menu.js";
import { Pointer } from "./pointer.js";
import { Sheets } from "./sheets.js";
import { Told } from "./told.js";

const SETTLE_MS = 160;

/** All windows. `tools` is what Micro-Apps are given: the API, the clock, BEEP. */
export class Windows {
  #root;
  #canvas;
  #tools;
  #frames = new Map();
  #mounted = new Map(); // id -> {type, app}
  #pointer = new Pointer(this);
  #keys = new Keys(this);
  #sheets;
  #told = new Told();
  #drawing = false;
  #area = null; // while drawing: looked up in between, the page would be laid out each time

  constructor(root, tabs, canvas, tools) {
    this.#root = root;
    this.#canvas = canvas;
    this.#tools = tools;
    this.#sheets = new Sheets(root, tabs, () => this.draw());
    canvas.addEventListener("change", () => this.#drawSoon());
    new ResizeObserver(() => this.#drawSoon()).observe(root);
  }

  /** The room there is, in pixels. */
  get area() {
    return this.#area ?? this.#measured();
  }

  /** Whether this is a phone, where windows are sheets and keep their stored places. */
  get areSheets() {
    return this.#sheets.isOn;
  }

  /** Whether there is such a window: it may have been closed elsewhere. */
  has(id) {
    return Object.hasOwn(this.#canvas.apps, id);
  }

  /** What is stored, as far as it can be reached on this screen. */
  rectOf(id) {
    return reachable(rectOf(this.#canvas.apps[id]), this.area);
  }

  /** The rectangles of all other windows. */
  othersOf(id) {
    const others = Object.keys(this.#canvas.apps).filter((each) => each !== id);
    return others.map((each) => this.rectOf(each));
  }

  /** What a window is called. */
  titleOf(id) {
    return this.#canvas.apps[id]?.title || id;
  }

  /** Move or resize. */
  put(id, rect) {
    if (this.#canvas.apps[id]) this.#canvas.change(placing(id, rect));
  }

  /** Let a window glide the last pixels to where it rests. */
  settle(frame, rect) {
    frame.root.classList.add("settling");
    setTimeout(() => frame.root.classList.remove("settling"), SETTLE_MS);
    this.put(frame.id, rect);
    announce(`${this.titleOf(frame.id)} is at ${rect.x}, ${rect.y}`);
  }

  /** Bring to the front. */
  raise(id) {
    const patch = !this.areSheets && this.#canvas.apps[id] && raising(this.#canvas.apps, id);
    if (patch) this.#canvas.change(patch);
  }

  /** Open a Micro-App: one that needs no second window comes to the front instead. */
  open(app) {
    const isOpen = (id) => appOf(this.#canvas.apps[id].type)?.type === app.type;
    const found = app.isMany ? undefined : stacked(this.#canvas.apps).findLast(isOpen);
    if (found) this.raise(found);
    const { id, patch } = found ? { id: found } : opening(this.#canvas.apps, app, this.area);
    if (patch) this.#canvas.change(patch);
    this.show(id);
    announce(found ? `${this.titleOf(id)} is in front` : `${this.titleOf(id)} is open`);
  }

  /** Let the keyboard, or the phone's screen, arrive at a window. */
  show(id) {
    this.draw();
    this.#sheets.show(this.#frames.get(id)?.root);
    this.#frames.get(id)?.grip.focus({ preventScroll: true });
  }

  /** Close; the keyboard goes on to the window below. */
  close(id) {
    const title = this.titleOf(id);
    this.#canvas.change({ [id]: null });
    const next = stacked(this.#canvas.apps).at(-1);
    if (next) this.show(next);
    else document.getElementById("beep-line").focus();
    announce(`${title} is closed`);
  }

  /**
   * Fill the screen, or go back. Not stored: a size that fills this screen is wrong on the next
   * one, and the place to go back to would be lost.
   */
  maximise(frame) {
    if (this.areSheets) return;
    frame.isMaximised = !frame.isMaximised;
    frame.root.classList.toggle("maximised", frame.isMaximised);
    this.raise(frame.id);
    this.draw();
    announce(`${this.titleOf(frame.id)} ${frame.isMaximised ? "fills the screen" : "is restored"}`);
  }

  /** Bring the screen in step with the canvas, now. */
  draw() {
    const { apps, waiting } = this.#canvas;
    for (const id of this.#frames.keys()) if (!Object.hasOwn(apps, id)) this.#remove(id);
    for (const id of inReadingOrder(apps)) if (!this.#frames.has(id)) this.#add(id);
    this.#area = this.#measured();
    const order = stacked(apps);
    const levels = new Map(order.map((id, level) => [id, level]));
    for (const [id, frame] of this.#frames) {
      frame.describe(this.titleOf(id), waiting.has(id));
      frame.root.classList.toggle("front", order.at(-1) === id);
      this.#told.show(frame.root, id, apps[id], waiting.has(id) || this.#pointer.heldId === id);
      this.#place(frame, levels.get(id));
      this.#mount(frame, apps[id].type);
    }
    this.#area = null;
    this.#sheets.update(inReadingOrder(apps).map((id) => this.#sheet(id)));
  }

  #measured() {
    return { width: this.#root.clientWidth, height: this.#root.clientHeight };
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.draw();
    });
  }

  #sheet(id) {
    return { id, title: this.titleOf(id), root: this.#frames.get(id).root };
  }

  #place(frame, level) {
    if (this.areSheets) frame.unplace();
    else if (frame.isMaximised) frame.place({ x: 0, y: 0, ...this.area }, level);
    else frame.place(this.#pointer.heldRect(frame.id) ?? this.rectOf(frame.id), level);
  }

  #add(id) {
    const frame = new Frame(id, {
      press: (event, held, edges) => !this.areSheets && this.#pointer.press(event, held, edges),
      key: (event, focused) => this.#keys.press(event, focused),
      menu: (owner, button) => this.#openMenu(owner, button),
      close: (closing) => this.close(closing),
      maximise: (owner) => this.maximise(owner),
      touch: (owner) => this.raise(owner.id),
    });
    this.#frames.set(id, frame);
    this.#root.append(frame.root);
  }

  #openMenu(frame, button) {
    toggle(button, `${this.titleOf(frame.id)}: menu`, () => this.#keys.items(frame));
  }

  #remove(id) {
    if (this.#pointer.heldId === id) this.#pointer.letGo();
    this.#unmount(id);
    this.#told.forget(id, this.#frames.get(id).root);
    closeMenuIn(this.#frames.get(id).root);
    this.#frames.get(id).root.remove();
    this.#frames.delete(id);
  }

  #mount(frame, type) {
    if (this.#mounted.get(frame.id)?.type === type) return;
    this.#unmount(frame.id);
    frame.body.replaceChildren();
    const app = appOf(type, { orUnknown: true });
    frame.root.dataset.app = app.icon;
    this.#mounted.set(frame.id, { type, app: app.mount(frame.body, this.#toolsFor(frame.id, type)) });
  }

  #toolsFor(id, type) {
    return { ...this.#tools, id, type, title: () => this.titleOf(id) };
  }

  #unmount(id) {
    this.#mounted.get(id)?.app?.unmount?.();
    this.#mounted.delete(id);
  }
}
