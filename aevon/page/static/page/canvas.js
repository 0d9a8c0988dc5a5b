// What is true about the layout: what the server has, what is on its way there, what waits here.
//
//   shown = the server's layout + the patch in flight + the pending patch
//
// A gesture merges into `pending` and shows at once. Nothing here speaks to the network (sync.js)
// or draws (windows.js).

import { apply, compose } from "./patch.js";
import { isWhole } from "./layout.js";

const EMPTY = { microApps: {} };

/** Emits "change" when what is shown may have changed, "edit" when something waits to be sent. */
export class Canvas extends EventTarget {
  #layout = EMPTY;
  #inFlight = null;
  #pending = null;
  #shown = null;
  #knownSince = 0;
  #lowerAnswers = 0;
  #isAway = false;
  #isAhead = false; // of the row, which answers while the cache is away

  revision = null; // of the server's layout; null before the first answer
  persistedRevision = null;
  persistedAt = null;

  /** The windows to show, by id. */
  get apps() {
    this.#shown ??= this.#overlaid();
    return this.#shown;
  }

  /** The ids whose last change the server has not acknowledged. */
  get waiting() {
    return new Set([...namedIn(this.#inFlight), ...namedIn(this.#pending)]);
  }

  /** Whether there is anything to send. */
  get hasPending() {
    return this.#pending !== null;
  }

  /** Acknowledged changes that PostgreSQL does not have yet. */
  get unsaved() {
    return Math.max(0, (this.revision ?? 0) - (this.persistedRevision ?? this.revision ?? 0));
  }

  /**
   * Whether the last answer came from PostgreSQL because the cache is away. The row may lack changes
   * that the live document has; they come back with it, and what is done meanwhile is repeated on
   * it (canvas/journal.py). Until then what is known here is nearer to the truth than the row.
   */
  set isAway(isAway) {
    if (isAway && !this.#isAway) this.#isAhead = this.unsaved > 0;
    this.#isAway = isAway;
    this.#isAhead &&= isAway;
  }

  /** Change some windows: a merge patch of the micro-apps, null closes one. */
  change(microApps) {
    this.#pending = compose(this.#pending, { microApps });
    this.#redraw();
    this.dispatchEvent(new Event("edit"));
  }

  /** The patch to send next; it is in flight from now on. */
  take() {
    return this.#fly(this.#pending);
  }

  /** Everything that is not acknowledged, in one patch: what was sent may never have arrived. */
  takeAll() {
    return this.#fly(merged(this.#inFlight, this.#pending));
  }

  /** The patch in flight did not get through: it waits again, under whatever was done since. */
  putBack() {
    this.#pending = merged(this.#inFlight, this.#pending);
    this.#inFlight = null;
  }

  /**
   * The patch in flight was refused; `state` is the server's newest. Returns whether that has to be
   * told: where somebody closed a window that was dragged here, its vanishing tells it, and the
   * other windows' changes are sent again.
   */
  refuse(state) {
    if (this.#isAhead) return this.#sendWhole();
    const sent = this.#inFlight?.microApps ?? {};
    const good = sound(sent, state.layout.microApps);
    const isReal = Object.keys(good).length === Object.keys(sent).length;
    const since = sound(this.#pending?.microApps ?? {}, state.layout.microApps);
    this.#inFlight = null;
    this.#pending = unlessEmpty(isReal ? since : compose(good, since));
    this.#replace(state);
    this.#redraw();
    return isReal;
  }

  /** The server has taken the patch in flight. */
  acknowledge(state, askedAt) {
    if (this.#isAhead) this.#layout = apply(this.#layout, this.#inFlight ?? {});
    this.#inFlight = null;
    this.learn(state, askedAt);
    this.#redraw();
  }

  /** The server's state, asked for at `askedAt`: taken unless a newer one is known. */
  learn(state, askedAt) {
    if (this.#isAhead || !this.#isNews(state.revision, askedAt)) return;
    this.#replace(state);
    this.#redraw();
  }

  /** The revision is still the known one; `persisted` may be news. */
  confirm(persisted) {
    this.#lowerAnswers = 0;
    this.#learnPersisted(persisted);
    this.dispatchEvent(new Event("change"));
  }

  /** The row does not know the windows that were to be changed: send all of them that is shown. */
  #sendWhole() {
    const sent = Object.entries(this.#inFlight?.microApps ?? {});
    const isReal = sent.every(([, change]) => change === null || isWhole(change));
    const whole = sent.map(([id, change]) => [id, change && (this.apps[id] ?? null)]);
    const since = this.#pending;
    this.#inFlight = null;
    this.#pending = isReal ? since : merged({ microApps: Object.fromEntries(whole) }, since);
    this.#redraw();
    return isReal;
  }

  #fly(patch) {
    this.#inFlight = patch;
    this.#pending = null;
    return patch;
  }

  #overlaid() {
    const shown = apply(apply(this.#layout, this.#inFlight ?? {}), this.#pending ?? {});
    const whole = Object.entries(shown.microApps ?? {}).filter(([, app]) => isWhole(app));
    return Object.fromEntries(whole);
  }

  #isNews(revision, askedAt) {
    if (this.revision === null || revision >= this.revision) return true;
    if (askedAt < this.#knownSince) return false; // an answer that was overtaken
    // A lower one once may come from a process that lags. Twice: the cache lost its memory.
    this.#lowerAnswers += 1;
    return this.#lowerAnswers >= 2;
  }

  #replace({ layout, revision, ...persisted }) {
    this.#layout = layout;
    this.revision = revision;
    this.#knownSince = performance.now();
    this.#lowerAnswers = 0;
    this.#learnPersisted(persisted);
  }

  #learnPersisted({ persistedRevision, persistedAt }) {
    if (persistedRevision !== undefined) this.persistedRevision = persistedRevision;
    if (persistedAt !== undefined) this.persistedAt = persistedAt && Date.parse(persistedAt);
  }

  #redraw() {
    this.#shown = null;
    this.dispatchEvent(new Event("change"));
  }
}

function merged(first, second) {
  return first && second ? compose(first, second) : (second ?? first);
}

/** The changes that make sense: whole windows, closed ones, and parts of those that are there. */
function sound(changes, apps) {
  const isSound = ([id, change]) => change === null || isWhole(change) || Object.hasOwn(apps, id);
  return Object.fromEntries(Object.entries(changes).filter(isSound));
}

function unlessEmpty(microApps) {
  return Object.keys(microApps).length ? { microApps } : null;
}

function namedIn(patch) {
  return Object.keys(patch?.microApps ?? {});
}
