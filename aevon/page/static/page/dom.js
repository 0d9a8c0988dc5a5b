// Building elements. Nothing in this page turns a string into markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: attributes, listeners (`onclick`), and children of text or elements. */
export function h(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

/** The element of this id, which the template promises. */
export function byId(id) {
  return document.getElementById(id);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A drawing of 16 by 16 in the colour of the text around it. */
export function icon(name) {
  const shape = svg("path", { d: ICONS[name] ?? ICONS.unknown });
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, shape);
}

const ICONS = {
  notes: "M3.5 2.5h9v11h-9zM6 6h4M6 8.5h4M6 11h2",
  clock: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 4.8V8l2.3 1.6",
  psyche: "M1.5 8c1.6-5.3 3.6-5.3 6.5 0s4.9 5.3 6.5 0",
  instrument: "M8 1.8 14.2 8 8 14.2 1.8 8zM8 5.6v4.8M5.6 8h4.8",
  sessions: "M2.5 3.500h11v7h-11zM6 13.500h4M8 10.500v3",
  unknown: "M3 3h10v10H3z",
  menu: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  close: "M4 4l8 8M12 4l-8 8",
};
