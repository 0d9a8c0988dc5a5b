// A menu beside its button: arrow keys walk, Escape and a click elsewhere close. Never modal.

import { h } from "./dom.js";

let open = null; // one at a time

/** Let `button` open a menu of what `items()` returns: {label, icon?, hint?, run}. */
export function attachMenu(button, name, items) {
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => toggle(button, name, items));
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    toggle(button, name, items);
  });
}

/** Open a menu below `button`, or close it if it is open. */
export function toggle(button, name, items) {
  const wasOpen = open?.button === button;
  closeMenu();
  if (!wasOpen) show(button, name, items());
}

/** Close the open menu, if there is one; with `refocus` the keyboard goes back to its button. */
export function closeMenu({ refocus = false } = {}) {
  if (!open) return;
  const { button, menu } = open;
  open = null;
  menu.remove();
  button.setAttribute("aria-expanded", "false");
  if (refocus) button.focus();
}

/** Close the menu of a button in `element`, which goes. */
export function closeMenuIn(element) {
  if (open && element.contains(open.button)) closeMenu();
}

function show(button, name, items) {
  const menu = h("div", { class: "menu glass", role: "menu", "aria-label": name, onkeydown: walk });
  menu.append(...items.map((item) => entry(item)));
  document.body.append(menu);
  place(menu, button.getBoundingClientRect());
  button.setAttribute("aria-expanded", "true");
  open = { button, menu };
  menu.querySelector("[role=menuitem]")?.focus();
}

function entry(item) {
  if (!item.run) return h("p", { class: "menu-note quiet", role: "presentation" }, item.label);
  const choose = () => {
    // Back to the button first: what runs may want the focus for something else.
    closeMenu({ refocus: true });
    item.run();
  };
  const hint = item.hint ? [h("span", { class: "quiet" }, item.hint)] : [];
  const label = h("span", {}, item.label);
  return h(
    "button",
    { type: "button", role: "menuitem", tabindex: "-1", onclick: choose },
    ...(item.icon ? [item.icon] : []),
    label,
    ...hint,
  );
}

/** Below the button, and inside the screen. */
function place(menu, below) {
  const { width, height } = menu.getBoundingClientRect();
  const left = Math.max(8, Math.min(below.left, innerWidth - width - 8));
  const fits = below.bottom + 8 + height < innerHeight;
  const top = fits ? below.bottom + 8 : Math.max(8, below.top - height - 8);
  menu.style.translate = `${Math.round(left)}px ${Math.round(top)}px`;
}

function walk(event) {
  const items = [...event.currentTarget.querySelectorAll("[role=menuitem]")];
  const at = items.indexOf(document.activeElement);
  const target = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (target !== undefined) {
    event.preventDefault();
    items.at(target % items.length)?.focus();
  } else if (event.key === "Escape" || event.key === "Tab") {
    event.stopPropagation();
    if (event.key === "Escape") event.preventDefault();
    closeMenu({ refocus: true });
  }
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.menu.contains(event.target) && !open.button.contains(event.target)) closeMenu();
});
window.addEventListener("resize", () => closeMenu());
