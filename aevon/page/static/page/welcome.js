// The first visit: three windows placed well, and one line that says what to try.

import { appOf } from "./apps/index.js";
import { isPhone } from "./sheets.js";

const GAP = 24;
const SMALL = 640; // narrower areas are phones: placed for the next larger screen all the same

/** The patch that opens them, side by side in the middle of the area. */
export function firstWindows(area) {
  const width = area.width < SMALL ? 1440 : area.width;
  const [notes, psyche, clock] = ["notes", "psyche", "clock"].map((type) => appOf(type));
  const wide = notes.size.width + GAP + psyche.size.width;
  const left = Math.max(GAP, Math.round((width - wide) / 16) * 8);
  const right = left + notes.size.width + GAP;
  const top = 72;
  const tall = psyche.size.height + GAP + clock.size.height;
  return {
    notes: window(notes, left, top, 1, { width: notes.size.width, height: tall }),
    psyche: window(psyche, right, top, 3),
    clock: window(clock, right, top + psyche.size.height + GAP, 2, { width: psyche.size.width, height: clock.size.height }),
  };
}

/** What BEEP says then. */
export const GREETING = {
  get text() {
    return isPhone()
      ? "Swipe from one to the next, or pick one below. Or tell me:"
      : "Drag these where you like, they stay there on every device. Or tell me:";
  },
  suggestion: "open SpinForge",
  untilDeed: true,
};

function window({ type, title, size }, x, y, zIndex, wanted = size) {
  return { type, title, position: { x, y }, size: wanted, zIndex };
}
