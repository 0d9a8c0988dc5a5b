// The quiet sign in the top bar: what is live, what is saved, what waits, in words.

import { announce } from "./announce.js";
import { ago, counted } from "./words.js";

const REFRESH_MS = 5000;

/** Shows the state of `canvas`, `sync` and the notes' `drafts`. */
export class Status {
  #element;
  #sources;
  #tone = null;

  constructor(element, { canvas, sync, drafts, api }) {
    this.#element = element;
    this.#sources = { canvas, sync, drafts, api };
    sync.addEventListener("status", () => this.draw());
    canvas.addEventListener("change", () => this.draw());
    setInterval(() => this.draw(), REFRESH_MS);
  }

  /** Write it anew. */
  draw() {
    const { tone, words } = this.#now();
    this.#element.dataset.tone = tone;
    const text = this.#element.querySelector(".status-words");
    if (text.textContent !== words) text.textContent = words;
    this.#element.title = words;
    this.#speak(tone, words);
  }

  /** To a screen reader only what changes what one can rely on, not every change that is saved. */
  #speak(tone, words) {
    if (this.#tone !== null && tone !== this.#tone) announce(words);
    this.#tone = tone;
  }

  #now() {
    const { canvas, sync, drafts, api } = this.#sources;
    const kept = canvas.waiting.size + [...drafts].filter((each) => each.isWaiting).length;
    if (sync.reach === "offline") {
      return { tone: "failed", words: `offline, ${counted(kept, "change")} kept here` };
    }
    if (sync.reach === "troubled") {
      const words = `the server is in trouble, ${counted(kept, "change")} kept here`;
      return { tone: "failed", words };
    }
    if (sync.cacheAway) return { tone: "waits", words: "cache away, everything is kept" };
    return { tone: "live", words: savedWords(canvas, api.now()) };
  }
}

function savedWords({ unsaved, persistedAt }, now) {
  const saved = persistedAt ? `saved ${ago(persistedAt, now)}` : null;
  const first = unsaved ? `${counted(unsaved, "change")} not yet in the ledger` : "live";
  return [first, saved].filter(Boolean).join(" · ");
}
