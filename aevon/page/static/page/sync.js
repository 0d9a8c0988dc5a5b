// Between this tab and the server: sends what waits, asks what is new, and keeps trying.

import { canOutlive, detailOf, retryAfterSeconds, SignedOut, Unreachable } from "./api.js";

const PATH = "/canvas/";
const PATCH_TYPE = "application/merge-patch+json";
// Between the beginnings of two patches: 50, and what may lie between this clock and the request.
const GAP_MS = 55;
const POLL_MS = 2000;
const HIDDEN_POLL_MS = 30_000;
const RETRY_MS = { first: 250, most: 2000 };
const RETRY_AFTER_MOST_MS = 60_000; // a change is not kept here for longer because a proxy says so

/**
 * Emits "status" when `reach` or `cacheAway` may have changed, "refused" with a sentence, and
 * "signedout". `reach` is "live", "offline" (nobody answers) or "troubled" (an error answers).
 */
export class Sync extends EventTarget {
  #api;
  #canvas;
  #running = false;
  #exchange = 0; // the number of the newest; older ones no longer decide anything
  #flight = new AbortController(); // of the patch on its way
  #busy = false;
  #beganAt = -Infinity;
  #notBefore = -Infinity; // what the server has asked for
  #failures = 0;
  #sendTimer = null;
  #pollTimer = null;

  reach = "live";
  cacheAway = false;

  constructor(api, canvas) {
    super();
    this.#api = api;
    this.#canvas = canvas;
    canvas.addEventListener("edit", () => this.#sendSoon());
    window.addEventListener("online", () => this.#again());
    window.addEventListener("pagehide", () => this.leave());
    window.addEventListener("pageshow", (event) => event.persisted && this.#again());
    document.addEventListener("visibilitychange", () => this.#seenOrHidden());
  }

  /** Begin, or go on after a new sign-in; resolves when the server's layout is known. */
  async start() {
    this.#running = true;
    this.#failures = 0;
    await this.poll();
    if (this.#canvas.hasPending) this.#sendSoon();
  }

  /** Stop asking and sending; what waits stays where it is. */
  stop() {
    this.#running = false;
    this.#exchange += 1;
    this.#flight.abort();
    this.#busy = false;
    this.#canvas.putBack();
    this.#forgetTimer();
    clearTimeout(this.#pollTimer);
  }

  /** Ask for the newest layout now, and then again and again. */
  async poll() {
    clearTimeout(this.#pollTimer);
    if (!this.#running) return;
    await this.#ask().catch((error) => this.#failed(error));
    clearTimeout(this.#pollTimer);
    if (!this.#running) return;
    this.#pollTimer = setTimeout(() => this.poll(), document.hidden ? HIDDEN_POLL_MS : POLL_MS);
  }

  /** Send all that is not acknowledged, in a request that outlives the page. */
  leave() {
    if (!this.#running || !(this.#canvas.hasPending || this.#busy)) return;
    this.#forgetTimer();
    this.#flight.abort(); // what it carries goes along now; arriving later it would undo the rest
    const patch = this.#canvas.takeAll();
    if (patch) this.#send(patch, canOutlive(patch));
  }

  /** Resolves when nothing waits here any more; throws `Unreachable` when that takes too long. */
  async drained(patience = 5000) {
    const deadline = performance.now() + patience;
    while (this.#busy || this.#canvas.hasPending) {
      if (performance.now() > deadline) throw new Unreachable();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #seenOrHidden() {
    if (!document.hidden) this.#again();
    else if (!this.#busy) this.leave(); // else the answer comes first, and then what waits is sent
  }

  /** Something has changed for the better: try what was put off, as soon as the server wants it. */
  #again() {
    if (!this.#running) return;
    this.#failures = 0;
    this.#forgetTimer();
    this.#sendSoon();
    this.poll();
  }

  #forgetTimer() {
    clearTimeout(this.#sendTimer);
    this.#sendTimer = null;
  }

  #sendSoon(delay = 0) {
    if (!this.#running || this.#busy || this.#sendTimer !== null) return;
    if (!this.#canvas.hasPending) return;
    // Whole milliseconds, rounded up: a timer drops the fraction, and would be early.
    const soonest = Math.max(this.#beganAt + GAP_MS, this.#notBefore) - performance.now();
    const wait = Math.ceil(Math.max(delay, soonest, 0));
    this.#sendTimer = setTimeout(() => {
      this.#sendTimer = null;
      if (performance.now() < this.#notBefore) this.#sendSoon(); // asked for since the timer was set
      else if (this.#canvas.hasPending) this.#send(this.#canvas.take());
    }, wait);
  }

  async #send(patch, keepalive = false) {
    this.#exchange += 1;
    const exchange = this.#exchange;
    this.#flight = new AbortController();
    this.#busy = true;
    const askedAt = performance.now();
    try {
      const answer = this.#patch(patch, keepalive);
      this.#beganAt = performance.now();
      await this.#settle(exchange, askedAt, await answer);
    } catch (error) {
      if (exchange !== this.#exchange) return;
      this.#busy = false;
      this.#canvas.putBack();
      this.#failed(error);
    }
  }

  #patch(patch, keepalive) {
    const { signal } = this.#flight;
    return this.#api.request("PATCH", PATH, { body: patch, type: PATCH_TYPE, keepalive, signal });
  }

  async #settle(exchange, askedAt, answer) {
    if (exchange !== this.#exchange) return;
    if (isTrouble(answer)) throw troubled(answer);
    this.#hear(answer);
    if (answer.status === 200) this.#canvas.acknowledge(answer.body, askedAt);
    else await this.#refused(exchange, answer);
    if (exchange !== this.#exchange) return;
    this.#busy = false;
    this.#answered();
  }

  /** The server will never take this patch: show its own layout again, and say why. */
  async #refused(exchange, answer) {
    const newest = await this.#api.request("GET", PATH);
    if (newest.status !== 200 || isTrouble(newest)) throw troubled(newest);
    if (exchange !== this.#exchange) return;
    this.#hear(newest);
    if (!this.#canvas.refuse(newest.body)) return;
    const reason = detailOf(answer, "The server gave no reason.");
    this.dispatchEvent(new CustomEvent("refused", { detail: reason }));
  }

  async #ask() {
    const askedAt = performance.now();
    const { revision } = this.#canvas;
    const headers = revision === null ? {} : { "If-None-Match": `"${revision}"` };
    const answer = await this.#api.request("GET", PATH, { headers });
    if (!this.#running) return;
    if (isTrouble(answer)) throw troubled(answer);
    this.#hear(answer);
    if (answer.status === 200) this.#canvas.learn(answer.body, askedAt);
    else if (answer.status === 304) this.#canvas.confirm(persistedIn(answer.headers));
    else throw troubled(answer);
    this.#answered();
  }

  /** A refusal does not say where it comes from. */
  #hear(answer) {
    const source = answer.headers.get("Cache-Status");
    if (source === null) return;
    this.cacheAway = source.includes("detail=away");
    this.#canvas.isAway = this.cacheAway;
  }

  #answered() {
    const wasDown = this.reach !== "live";
    this.#failures = 0;
    this.reach = "live";
    this.dispatchEvent(new Event("status"));
    if (wasDown) this.#forgetTimer(); // it was set for a server that did not answer
    this.#sendSoon();
  }

  #failed(error) {
    if (error instanceof SignedOut) {
      if (!this.#running) return; // the other request was refused first
      this.stop();
      this.dispatchEvent(new Event("signedout"));
      return;
    }
    if (!(error instanceof Unreachable)) reportError(error); // a fault of ours: told, and tried again
    this.reach = error.answer ? "troubled" : "offline";
    this.dispatchEvent(new Event("status"));
    const asked = Math.min(retryAfterSeconds(error.answer) * 1000, RETRY_AFTER_MOST_MS);
    this.#notBefore = Math.max(this.#notBefore, performance.now() + asked);
    this.#sendSoon(this.#backOff());
  }

  /** Twice as long after each failure, and never in step with other tabs. */
  #backOff() {
    const longest = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** this.#failures);
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2);
  }
}

/** Nothing that the server has decided: its own trouble, or something else that answers for it. */
function isTrouble({ status, body }) {
  if (status === 200) return !Number.isInteger(body?.revision);
  return status >= 500 || status === 429 || status === 408;
}

function troubled(answer) {
  return Object.assign(new Unreachable(), { answer });
}

function persistedIn(headers) {
  const revision = headers.get("Aevon-Persisted-Revision");
  if (revision === null) return {};
  return {
    persistedRevision: Number(revision),
    persistedAt: headers.get("Aevon-Persisted-At") ?? undefined,
  };
}
