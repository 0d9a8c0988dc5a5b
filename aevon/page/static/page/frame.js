// One window's elements: title bar, body, handles. What happens to them is decided elsewhere.

import { h, icon } from "./dom.js";

const EDGES = ["n", "e", "s", "w", "ne", "se", "sw", "nw"];

/** A window on the screen. `root` is its element, `body` what the Micro-App fills. */
export class Frame {
  constructor(id, handlers) {
    this.id = id;
    this.isMaximised = false;
    this.title = h("span", { class: "window-title", id: `title-${id}` });
    this.dot = h("span", { class: "dot", "aria-hidden": "true" });
    this.grip = h(
      "button",
      {
        type: "button",
        class: "grip",
        "aria-describedby": "window-keys",
        "aria-haspopup": "menu",
        "aria-expanded": "false",
      },
      this.dot,
      this.title,
    );
    this.more = h(
      "button",
      { type: "button", class: "window-button", "aria-haspopup": "menu", "aria-expanded": "false" },
      icon("menu"),
    );
    this.shut = h("button", { type: "button", class: "window-button" }, icon("close"));
    this.bar = h("header", { class: "title-bar" }, this.grip, this.more, this.shut);
    this.body = h("div", { class: "window-body" });
    const handles = EDGES.map((each) =>
      h("div", { class: `handle handle-${each}`, "data-edges": each, "aria-hidden": "true" }),
    );
    this.root = h(
      "section",
      { class: "window glass", role: "group", "data-id": id, "aria-labelledby": `title-${id}` },
      this.bar,
      this.body,
      ...handles,
    );
    this.#listen(handlers);
  }

  /** Show the title, and whether the server has the last change. */
  describe(title, isWaiting) {
    if (this.title.textContent !== title) {
      this.title.textContent = title;
      this.more.setAttribute("aria-label", `${title}: menu`);
      this.shut.setAttribute("aria-label", `Close ${title}`);
    }
    this.root.classList.toggle("waiting", isWaiting);
    this.dot.title = isWaiting ? "On its way" : "Dragonfly has it";
  }

  /** Put it there; `level` is its place in the stack, 0 the lowest. */
  place(rect, level) {
    const { style } = this.root;
    style.translate = `${rect.x}px ${rect.y}px`;
    style.inlineSize = `${rect.width}px`;
    style.blockSize = `${rect.height}px`;
    style.zIndex = String(level + 1);
  }

  /** Let go of place and size: on a phone the style sheet decides. */
  unplace() {
    for (const name of ["translate", "inline-size", "block-size", "z-index"]) {
      this.root.style.removeProperty(name);
    }
  }

  #listen({ press, key, menu, close, maximise, touch }) {
    this.root.addEventListener("pointerdown", (event) => {
      touch(this);
      const edges = event.target.dataset.edges;
      if (edges) press(event, this, edges);
      else if (this.bar.contains(event.target) && !event.target.closest(".window-button")) {
        press(event, this, "");
      }
    });
    this.bar.addEventListener("dblclick", (event) => {
      if (!event.target.closest(".window-button")) maximise(this);
    });
    this.grip.addEventListener("keydown", (event) => key(event, this));
    // A click without a pointer: Enter, Space, or a screen reader.
    this.grip.addEventListener("click", (event) => event.detail === 0 && menu(this, this.grip));
    this.more.addEventListener("click", () => menu(this, this.more));
    this.shut.addEventListener("click", () => close(this.id));
  }
}
