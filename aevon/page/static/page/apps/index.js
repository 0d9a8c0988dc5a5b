// Which Micro-Apps there are. A type is the name in the letters an id may have, as BEEP writes it.

import { clock } from "./clock.js";
import { instruments } from "./instrument.js";
import { notes } from "./notes.js";
import { psyche } from "./psyche.js";
import { sessions } from "./sessions.js";
import { unknown } from "./unknown.js";

/**
 * Each: {type, aliases?, title, icon, size, isMany?, mount(body, tools)}. `mount` fills the
 * element and returns {unmount} for what has to end with the window.
 */
export const APPS = [notes, psyche, clock, ...instruments, sessions];

/** The app of a type; undefined, or the one that says so, when there is none. */
export function appOf(type, { orUnknown = false } = {}) {
  const found = APPS.find((app) => app.type === type || app.aliases?.includes(type));
  return found ?? (orUnknown ? unknown : undefined);
}
