// Who is here: the sign-in form, the user's menu, and the end of a session.

import { detailOf, retryAfterSeconds, SignedOut } from "./api.js";
import { byId } from "./dom.js";
import { attachMenu } from "./menu.js";
import { counted, span } from "./words.js";

const RETRY_MS = 1500;

/**
 * Emits "start", "unsaved" when signing out would lose what waits, "stuck" with the reason when the
 * session could not be ended, and "end" when the user has gone, or another one has come: then nothing
 * on the page may stay. `beforeEnd` resolves when nothing waits here any more that the server would
 * take; `kept` is how many changes wait.
 */
export class Session extends EventTarget {
  #api;
  #beforeEnd;
  #kept;
  #panel = byId("sign-in");
  #isOver = false; // the page is being loaded anew: nothing may begin on it any more

  identity = null;

  constructor(api, { beforeEnd, kept, items }) {
    super();
    this.#api = api;
    this.#beforeEnd = beforeEnd;
    this.#kept = kept;
    api.onIdentity = (identity) => this.#know(identity);
    this.#panel.querySelector("form").addEventListener("submit", (event) => this.#submit(event));
    document.addEventListener("visibilitychange", () => this.#comeBack());
    attachMenu(byId("user"), "You", () => [
      { label: `${this.identity.username} · ${this.identity.sovereigntyClass.toLowerCase()}` },
      ...items,
      { label: "API documentation", run: () => window.open("/api/docs/", "_blank", "noopener") },
      { label: "Sign out", run: () => this.signOut() },
    ]);
  }

  /** Go on with the session of the cookie, or ask who is there. */
  async resume() {
    try {
      await this.#api.resume();
      this.#begin();
    } catch (error) {
      if (error instanceof SignedOut) return this.ask();
      this.ask("The server cannot be reached; trying again.");
      setTimeout(() => this.#panel.hidden || this.resume(), RETRY_MS);
    }
  }

  /** Show the sign-in, in place. */
  ask(note = null) {
    const kept = this.#kept();
    const waiting = kept ? `${counted(kept, "change")} kept here, sent when you are back.` : null;
    const ended = this.identity ? "Your session has ended." : null;
    const words = note ?? [ended, waiting].filter(Boolean).join(" ");
    byId("sign-in-note").textContent = words || "Every window is where you left it.";
    this.#reveal(false);
    if (this.identity) byId("username").value = this.identity.username;
    byId(byId("username").value ? "password" : "username").focus();
  }

  /**
   * Send what waits, end the session on the server, and show the sign-in. What the server will not
   * take keeps the user here, unless it `mayBeLost`.
   */
  async signOut({ mayBeLost = false } = {}) {
    try {
      await this.#beforeEnd();
      if (this.#kept() && !mayBeLost) {
        this.dispatchEvent(new Event("unsaved"));
        return;
      }
      await this.#api.signOut();
    } catch (error) {
      if (!(error instanceof SignedOut)) {
        this.#stuck(error);
        return;
      }
    }
    this.#end();
  }

  #stuck({ answer }) {
    const otherwise = "The server cannot be reached to end your session.";
    const detail = answer ? detailOf(answer, "The server did not end your session.") : otherwise;
    this.dispatchEvent(new CustomEvent("stuck", { detail }));
  }

  #end() {
    this.#isOver = true;
    this.dispatchEvent(new Event("end"));
  }

  /** This tab is seen again: perhaps somebody has signed in in another. */
  async #comeBack() {
    if (document.hidden || this.#panel.hidden) return;
    await this.#api.resume().then(() => this.#begin(), () => {});
  }

  async #submit(event) {
    event.preventDefault();
    const { username, password, endOthers } = event.target.elements;
    this.#fail("");
    try {
      const answer = await this.#api.signIn(username.value, password.value, endOthers.checked);
      if (answer.status !== 200) return this.#refused(answer);
    } catch {
      return this.#fail("The server cannot be reached. Nothing is lost; try again.");
    }
    password.value = "";
    this.#offerToEndOthers(false);
    this.#begin();
  }

  #refused(answer) {
    const wait = retryAfterSeconds(answer);
    if (answer.body?.type === "/problems/too-many-sessions") {
      this.#offerToEndOthers(true);
      return this.#fail("You are signed in in too many places.");
    }
    if (answer.status === 429) {
      return this.#fail(`Too many attempts. Try again in ${span(wait || 60)}.`);
    }
    if (answer.status === 401) return this.#fail("No active user has this name and password.");
    return this.#fail(detailOf(answer, "That did not work. Try again."));
  }

  #offerToEndOthers(isOffered) {
    byId("end-others").checked = false;
    byId("end-others-offer").hidden = !isOffered;
  }

  #fail(text) {
    byId("sign-in-error").textContent = text;
  }

  #know(identity) {
    const isOther = this.identity && this.identity.userId !== identity.userId;
    // Somebody else has signed in, here or in another tab: nothing of the last user may stay.
    if (isOther) this.#end();
    this.identity = identity;
    byId("user").textContent = identity.username;
  }

  #begin() {
    if (this.#isOver) return;
    this.#fail("");
    this.#reveal(true);
    this.dispatchEvent(new Event("start"));
  }

  #reveal(isHere) {
    this.#panel.hidden = isHere;
    document.body.classList.toggle("signed-out", !isHere);
    for (const each of document.querySelectorAll("[data-signed-in]")) each.hidden = !isHere;
  }
}
