// On a phone: windows as full-width sheets, side by side, swiped. The stored layout stays as it is.

import { h } from "./dom.js";

const PHONE = "(max-width: 639.98px)";

/** Watches the width of the screen and keeps one tab per sheet. */
export class Sheets {
  #root;
  #tabs;
  #media = matchMedia(PHONE);
  #sheets = [];

  constructor(root, tabs, changed) {
    this.#root = root;
    this.#tabs = tabs;
    this.#media.addEventListener("change", () => {
      this.#arrange();
      changed();
    });
    root.addEventListener("scroll", () => this.#markCurrent(), { passive: true });
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
  }

  /** Swipe to a sheet. */
  show(root) {
    if (this.isOn) root?.scrollIntoView({ inline: "start", block: "nearest" });
  }

  #arrange() {
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
