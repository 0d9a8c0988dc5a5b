// What a screen reader says.

import { byId } from "./dom.js";

/** Say `text`, politely; the same sentence twice is said twice. */
export function announce(text) {
  const region = byId("announcer");
  region.textContent = region.textContent === text ? `${text}\u00A0` : text;
}
