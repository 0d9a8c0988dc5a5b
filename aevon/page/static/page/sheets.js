// On a phone: windows as full-width sheets, side by side, swiped. The stored layout stays as it is.

import { h } from "./dom.js";

const PHONE = "(max-width: 639.98px)";
const FOLLOW_MS = 3000;
const RAISING = ["canvas.open", "canvas.front"];

/** Whether this screen is a phone's. */
export function isPhone() {
  return matchMedia(PHONE).matches;
}

/** Watches the width of the screen and keeps one tab per sheet. */
export class Sheets {
  #root;
  #tabs;
  #media = matchMedia(PHONE);
  #sheets = [];
  #hasArrived = false; // false: the next sheets are seen for the first time, and the front one first
  #followed = null; // what BEEP raised, while that is looked for
  #followUntil = 0;

  constructor(root, tabs, changed) {
    this.#root = root;
    this.#tabs = tabs;
    this.#media.addEventListener("change", () => {
      this.#arrange();
      changed();
    });
    root.addEventListener("scroll", () => this.#markCurrent(), { passive: true });
    document.addEventListener("answered", ({ detail }) => this.#follow(detail));
    document.addEventListener("pointerdown", () => this.#stopFollowing());
    this.#arrange();
  }

  /** Whether windows are sheets now. */
  get isOn() {
    return this.#media.matches;
  }

  /** The sheets there are, in the order of their stored places. */
  update(sheets) {
    const before = this.#sheets.map((each) => each.id + each.title).join("\n");
    this.#sheets = sheets;
    if (!this.isOn) return;
    this.#sortElements();
    if (before !== sheets.map((each) => each.id + each.title).join("\n")) this.#drawTabs();
    this.#arrive();
    if (performance.now() < this.#followUntil) this.#showFront();
  }

  /** Swipe to a sheet. */
  show(root) {
    if (this.isOn) root?.scrollIntoView({ inline: "start", block: "nearest" });
  }

  /** Begin where the desk has its uppermost window. Hidden, the root forgets where it was. */
  #arrive() {
    const isSeen = this.#root.clientWidth > 0 && this.#sheets.length > 0;
    if (isSeen && !this.#hasArrived) {
      this.#front?.scrollIntoView({ inline: "start", block: "nearest", behavior: "instant" });
    }
    this.#hasArrived = isSeen;
  }

  /** BEEP has raised a sheet, and the layout that says which is on its way here. */
  #follow(intent) {
    if (!this.isOn || !RAISING.includes(intent)) return;
    this.#followed = null;
    this.#followUntil = performance.now() + FOLLOW_MS;
  }

  /** Whoever touches the screen decides where to go. */
  #stopFollowing() {
    this.#followUntil = 0;
  }

  #showFront() {
    const front = this.#front;
    if (front !== this.#followed) this.show(front);
    this.#followed = front;
  }

  get #front() {
    return this.#sheets.find(({ root }) => root.classList.contains("front"))?.root;
  }

  #arrange() {
    this.#hasArrived = false;
    this.#root.classList.toggle("sheets", this.isOn);
    this.#tabs.hidden = !this.isOn || this.#root.hidden;
    if (this.isOn) this.#drawTabs();
  }

  /** Reading order in the document, too: for fingers, Tab and screen readers alike. */
  #sortElements() {
    this.#sheets.forEach(({ root }, index) => {
      const there = this.#root.children[index];
      if (there !== root) this.#root.insertBefore(root, there ?? null);
    });
  }

  #drawTabs() {
    this.#tabs.hidden = this.#sheets.length === 0;
    this.#tabs.replaceChildren(
      ...this.#sheets.map(({ title, root }) =>
        h("button", { type: "button", onclick: () => this.show(root) }, title),
      ),
    );
    this.#markCurrent();
  }

  #markCurrent() {
    if (!this.isOn) return;
    const current = Math.round(this.#root.scrollLeft / Math.max(1, this.#root.clientWidth));
    [...this.#tabs.children].forEach((tab, index) => {
      if (index === current) tab.setAttribute("aria-current", "true");
      else tab.removeAttribute("aria-current");
    });
    this.#tabs.children[current]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}
