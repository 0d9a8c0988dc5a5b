// Puts the parts together.

import { Api } from "./api.js";
import { appOf } from "./apps/index.js";
import { Beep } from "./beep.js";
import { Canvas } from "./canvas.js";
import { byId } from "./dom.js";
import { attachLauncher } from "./launcher.js";
import { Session } from "./session.js";
import { Status } from "./status.js";
import { Sync } from "./sync.js";
import { firstWindows, GREETING } from "./welcome.js";
import { Windows } from "./windows.js";

const PATIENCE_MS = 5000;

const api = new Api();
const canvas = new Canvas();
const sync = new Sync(api, canvas);
const drafts = new Set(); // of notes, those of closed windows too until they are stored
const bus = new EventTarget(); // "psyche": it has changed, or may have
const beep = new Beep(api, afterCommand);
const signOut = () => session.signOut();
const windows = new Windows(byId("canvas"), byId("sheet-tabs"), canvas, { api, bus, drafts, signOut });
const status = new Status(byId("status"), { canvas, sync, drafts, api });
const session = new Session(api, {
  beforeEnd: allSent,
  kept: () => canvas.waiting.size + unsavedDrafts().length,
  items: [{ label: "Sessions", run: () => windows.open(appOf("sessions")) }],
});

attachLauncher(windows);
session.addEventListener("start", begin);
session.addEventListener("end", forget);
session.addEventListener("unsaved", offerToLoseNotes);
session.addEventListener("stuck", ({ detail }) => {
  beep.say(`You are still signed in. ${detail} Try again.`, { tone: "failed" });
});
sync.addEventListener("signedout", () => session.ask());
sync.addEventListener("refused", ({ detail }) => {
  beep.say(`The last change was not taken: ${detail} Your canvas shows what is stored.`, { tone: "failed" });
});
window.addEventListener("pagehide", () => drafts.forEach((draft) => draft.leave()));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) for (const draft of drafts) draft.hide();
});
session.resume();

async function begin() {
  for (const draft of drafts) draft.resume();
  beep.start();
  await sync.start();
  if (canvas.revision === 0 && Object.keys(canvas.apps).length === 0) welcome();
  status.draw();
}

function welcome() {
  canvas.change(firstWindows(windows.area));
  beep.say(GREETING.text, GREETING);
}

/** BEEP may have opened, moved and played: look at once. */
function afterCommand() {
  sync.poll();
  bus.dispatchEvent(new CustomEvent("psyche"));
}

/** Loaded anew, the page knows nothing of who was here; what waits must not go to who comes. */
function forget() {
  sync.stop();
  drafts.clear();
  location.reload();
}

/** The server refuses them, and says why in their windows: only their writer can decide. */
function offerToLoseNotes() {
  const count = unsavedDrafts().length;
  const what = count === 1 ? "A note is not saved, and lost" : `${count} notes are not saved, and lost`;
  const run = () => session.signOut({ mayBeLost: true });
  beep.say(`${what} when you sign out.`, { tone: "failed", action: { label: "Sign out all the same", run } });
}

async function allSent() {
  await Promise.all([...drafts].map((draft) => draft.stored(PATIENCE_MS)));
  await sync.drained(PATIENCE_MS);
}

function unsavedDrafts() {
  return [...drafts].filter((each) => each.isWaiting);
}
