// The quiet sign in the top bar: what is live, what is saved, what waits, in words.

import { announce } from "./announce.js";
import { ago, counted } from "./words.js";

const REFRESH_MS = 5000;
const PASSING_MS = 250;
// In Dragonfly a change is live, and the ledger may take its time: it waits only when the flush,
// every five minutes, has left it out, or when a lost cache would take more than a few gestures.
const FLUSHED_MS = 6 * 60_000;
const MANY = 50;

/** Shows the state of `canvas`, `sync` and the notes' `drafts`. */
export class Status {
  #element;
  #sources;
  #tone = null;
  #soon = null;
  #unsaved = { persisted: null, since: 0 }; // what the ledger had when it last fell behind

  constructor(element, { canvas, sync, drafts, api }) {
    this.#element = element;
    this.#sources = { canvas, sync, drafts, api };
    sync.addEventListener("status", () => this.draw());
    canvas.addEventListener("change", () => this.draw());
    setInterval(() => this.draw(), REFRESH_MS);
  }

  /** Write it anew. */
  draw() {
    const { tone, words, isPassing } = reading(this.#facts());
    this.#element.dataset.tone = tone;
    const text = this.#element.querySelector(".status-words");
    if (text.textContent !== words) text.textContent = words;
    this.#element.title = words;
    clearTimeout(this.#soon);
    if (isPassing) this.#soon = setTimeout(() => this.draw(), PASSING_MS);
    else this.#speak(tone, words);
  }

  /** To a screen reader only what changes what one can rely on, not every change that is saved. */
  #speak(tone, words) {
    if (this.#tone !== null && tone !== this.#tone) announce(words);
    this.#tone = tone;
  }

  #facts() {
    const { canvas, sync, drafts, api } = this.#sources;
    const { unsaved, persistedAt } = canvas;
    const now = api.now();
    return {
      reach: sync.reach,
      cacheAway: sync.cacheAway,
      kept: canvas.waiting.size + [...drafts].filter((each) => each.isWaiting).length,
      unsaved,
      unsavedMs: this.#unsavedMs(now),
      persistedAt,
      now,
    };
  }

  /** How long the ledger has been behind without catching up a little. */
  #unsavedMs(now) {
    const { unsaved, persistedRevision } = this.#sources.canvas;
    const isBehind = unsaved > 0 && persistedRevision === this.#unsaved.persisted;
    if (!isBehind) this.#unsaved = { persisted: unsaved ? persistedRevision : null, since: now };
    return now - this.#unsaved.since;
  }
}

/** The tone and the words; `isPassing` where the next moment most likely says something else. */
export function reading({ reach, cacheAway, kept, ...ledger }) {
  if (reach === "offline") {
    return { tone: "failed", words: `offline, ${counted(kept, "change")} kept here` };
  }
  if (reach === "troubled") {
    const words = `the server is in trouble, ${counted(kept, "change")} kept here`;
    return { tone: "failed", words };
  }
  if (cacheAway) return { tone: "waits", words: "cache away, everything is kept" };
  if (kept) {
    return { tone: "waits", words: `${counted(kept, "change")} on the way`, isPassing: true };
  }
  const isLate = ledger.unsaved >= MANY || ledger.unsavedMs > FLUSHED_MS;
  return { tone: isLate ? "waits" : "live", words: savedWords(ledger) };
}

function savedWords({ unsaved, persistedAt, now }) {
  const saved = persistedAt ? `saved ${ago(persistedAt, now)}` : null;
  const first = unsaved ? `${counted(unsaved, "change")} not yet in the ledger` : "live";
  return [first, saved].filter(Boolean).join(" · ");
}
