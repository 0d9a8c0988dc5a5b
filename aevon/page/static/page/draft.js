// The text of one note: what the server has, what was typed since, and bringing them together.

import { canOutlive, detailOf, SignedOut, Unreachable } from "./api.js";

const SAVE_AFTER_MS = 300;
const FOLLOW_MS = 4000;
const RETRY_MS = 1500;
const BETWEEN = "\n\n— also written elsewhere —\n\n";

/** Emits "change" when there is something new to show. */
export class Draft extends EventTarget {
  #api;
  #path;
  #stored = "";
  #version = 0;
  #timer = null;
  #follower = null;
  #saving = null;
  #flight = new AbortController(); // of the text on its way

  isClosed = false; // no window shows it
  text = "";
  isKnown = false; // whether the server's text has been read
  isRefused = false; // whether the server will not have this text, however often it is sent
  words = "Reading…";

  constructor(api, id) {
    super();
    this.id = id;
    this.#api = api;
    this.#path = `/canvas/notes/${encodeURIComponent(id)}/`;
  }

  /** Whether something typed here is not stored yet. */
  get isWaiting() {
    return this.isKnown && this.text !== this.#stored;
  }

  /** Read the text, and follow what others write while nothing is typed here. */
  async start() {
    this.isClosed = false;
    await this.#read();
    clearInterval(this.#follower);
    if (!this.isClosed) this.#follower = setInterval(() => this.#follow(), FOLLOW_MS);
  }

  /** The whole new text, stored a moment later. */
  write(text) {
    this.text = text;
    this.isRefused = false;
    this.#tell("Not saved yet");
    this.#saveSoon(SAVE_AFTER_MS);
  }

  /** Store what waits before the page goes. */
  leave() {
    if (!this.isWaiting) return;
    const isSure = !this.#saving;
    this.#flight.abort();
    // A save that was on its way may have given the text a version that nobody here knows yet.
    this.#put({ isLast: true, isSure });
  }

  /** The tab is hidden, perhaps for good. A save on its way is followed by the next by itself. */
  hide() {
    if (this.isWaiting) this.#save({ isLast: true });
  }

  /** No more following; resolves when what was typed is stored or refused. */
  async close() {
    this.isClosed = true;
    clearInterval(this.#follower);
    await this.stored();
  }

  /** Resolves when what was typed is stored or refused; throws `Unreachable` when that takes too long. */
  async stored(patience = Infinity) {
    const deadline = performance.now() + patience;
    while (this.isWaiting && !this.isRefused) {
      await this.#save();
      if (performance.now() > deadline) throw new Unreachable();
      if (this.isWaiting && !this.isRefused) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Somebody has signed in again. */
  resume() {
    if (this.isWaiting) this.#saveSoon(0);
  }

  #follow() {
    if (!document.hidden && !this.isWaiting && !this.#saving) this.#read();
  }

  async #read() {
    try {
      const headers = this.isKnown ? { "If-None-Match": `"${this.#version}"` } : {};
      const answer = await this.#api.request("GET", this.#path, { headers });
      if (answer.status === 200 && !this.isWaiting) this.#take(answer.body);
    } catch (error) {
      if (!this.isKnown) this.#tell("Cannot be read just now; trying again");
      if (!this.isKnown && !(error instanceof SignedOut) && !this.isClosed) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        await this.#read();
      }
    }
  }

  #take({ text, version }) {
    const wasKnown = this.isKnown;
    const isNews = !wasKnown || version !== this.#version;
    this.isKnown = true;
    [this.text, this.#stored, this.#version] = [text, text, version];
    if (isNews) this.#tell(wasKnown ? "Changed elsewhere" : text ? "Saved" : "Saved as you type");
  }

  #saveSoon(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#save(), delay);
  }

  /** One at a time: two versions of a text on their way could arrive in the wrong order. */
  #save(options = {}) {
    this.#saving ??= this.#put(options).finally(() => {
      this.#saving = null;
    });
    return this.#saving;
  }

  async #put({ isLast = false, isSure = true }) {
    const { text } = this;
    this.isRefused = false;
    this.#flight = new AbortController();
    const { signal } = this.#flight;
    try {
      const answer = await this.#api.request("PUT", this.#path, {
        body: { text },
        headers: isSure ? { "If-Match": `"${this.#version}"` } : {},
        keepalive: isLast && canOutlive({ text }),
        signal,
      });
      if (answer.status === 200) this.#storedAs(text, answer.body.version);
      else if (answer.status === 412) await this.#bringTogether();
      else if (isTrouble(answer)) throw new Unreachable();
      else this.#refuse(detailOf(answer, "The server refused it."));
    } catch (error) {
      if (signal.aborted) return; // a later one carries the text
      this.#tell("Not saved yet, kept here; trying again");
      if (!(error instanceof SignedOut)) this.#saveSoon(RETRY_MS);
    }
  }

  /** Nothing more is sent until something else is typed. */
  #refuse(reason) {
    this.isRefused = true;
    this.#tell(`Not saved, kept here only: ${reason}`);
  }

  #storedAs(text, version) {
    this.#stored = text;
    this.#version = version;
    if (this.isWaiting) this.#saveSoon(SAVE_AFTER_MS);
    else this.#tell("Saved");
  }

  /** Somebody wrote in between, or our own last answer was lost: nobody's words are dropped. */
  async #bringTogether() {
    const { body, status } = await this.#api.request("GET", this.#path);
    if (status !== 200) throw new Unreachable();
    const mine = this.text;
    this.#version = body.version;
    this.#stored = body.text;
    const isKept = mine.includes(body.text) || body.text === "";
    this.text = isKept ? mine : `${mine}${BETWEEN}${body.text}`;
    this.#tell(isKept ? "Not saved yet" : "Changed elsewhere: both texts are kept");
    if (this.isWaiting) this.#saveSoon(SAVE_AFTER_MS);
  }

  #tell(words) {
    this.words = words;
    this.dispatchEvent(new Event("change"));
  }
}

function isTrouble({ status }) {
  return status >= 500 || status === 429 || status === 408;
}
