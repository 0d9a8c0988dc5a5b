// BEEP's line in the top bar: send a command, see the last turns, recall earlier ones.

import { announce } from "./announce.js";
import { detailOf, newKey, Unreachable } from "./api.js";
import { byId, h, icon } from "./dom.js";
import { Recall } from "./recall.js";
import { meanings, named, offered, parted } from "./turns.js";

const SHOWN = 5;
const ATTEMPTS = 4;
const RETRY_MS = 800;
const DEEDS = ["click", "input", "keydown", "pointercancel"]; // a swipe takes the pointer away
const TRIES = ["what is open", "open SpinForge", "move Notes right 80", "help"];

/** `done` is called after each command: it may have changed the canvas and the psyche. */
export class Beep {
  #api;
  #done;
  #form = byId("beep");
  #line = byId("beep-line");
  #panel = byId("turns");
  #turns = [];
  #recall = new Recall();
  #waiting = false;
  #deeds = new AbortController(); // ends the listening for them

  constructor(api, done) {
    this.#api = api;
    this.#done = done;
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#line.addEventListener("keydown", (event) => this.#key(event));
    this.#line.addEventListener("focus", () => this.#open());
    this.#form.addEventListener("focusout", (event) => this.#leave(event));
    document.addEventListener("keydown", (event) => this.#shortcut(event));
    document.addEventListener("pointerdown", (event) => {
      if (!this.#form.contains(event.target)) this.#close();
    });
  }

  /** Read the last turns. */
  async start() {
    try {
      const answer = await this.#api.request("GET", "/beep/history/");
      // Somebody may have spoken already, while this was on its way.
      if (answer.status === 200 && !this.#turns.length) this.#remember(answer.body.turns);
    } catch {
      return; // they come with the next command; the status tells that nobody answers
    }
    this.#draw();
  }

  #remember(turns) {
    this.#turns = turns;
    this.#recall.learn(turns.map(({ command }) => command));
  }

  /**
   * A sentence that nobody asked for, under the bar, until it is waved away, or, `untilDeed`,
   * something is done; with a command to try, or an action {label, run} of its own.
   */
  say(text, { tone = "calm", suggestion = null, action = null, untilDeed = false } = {}) {
    const saying = byId("saying");
    const hide = () => this.#hush();
    const close = h("button", { type: "button", class: "window-button", "aria-label": "Wave away", onclick: hide }, icon("close"));
    const offer = suggestion ? [this.#suggestion(suggestion)] : [];
    if (action) offer.push(button(action.label, action.run));
    saying.replaceChildren(h("p", {}, h("span", { class: "speaker" }, "BEEP"), text), ...offer, close);
    saying.dataset.tone = tone;
    saying.hidden = false;
    this.#deeds.abort();
    if (untilDeed) this.#hushAtDeed();
    announce(text);
  }

  #hush() {
    this.#deeds.abort();
    byId("saying").hidden = true;
  }

  #hushAtDeed() {
    this.#deeds = new AbortController();
    const { signal } = this.#deeds;
    const heard = (event) => this.#isDeed(event) && this.#hush();
    for (const name of DEEDS) document.addEventListener(name, heard, { signal });
  }

  /** Whether something was done elsewhere; to walk there with Tab is not yet doing. */
  #isDeed({ target, type, key }) {
    if (this.#form.contains(target) || byId("saying").contains(target)) return false;
    return type !== "keydown" || (target.closest(".window") !== null && key !== "Tab");
  }

  #suggestion(text) {
    return button(text, () => this.#offer(text));
  }

  /** Written into the line, not sent: the person decides. */
  #offer(text) {
    this.#line.value = text;
    this.#line.focus();
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#line.value.trim();
    if (!text || this.#waiting) return;
    this.#line.value = "";
    this.#tell(text);
  }

  /** The answer to a question; what is being written stays in the line. */
  #choose(name) {
    this.#line.focus();
    if (!this.#waiting) this.#tell(named(name));
  }

  async #tell(text) {
    this.#hush();
    this.#waiting = true;
    this.#recall.add(text);
    const turn = { command: text, response: "…" };
    this.#turns = [...this.#turns, turn].slice(-SHOWN);
    this.#open();
    await this.#answer(turn, text);
    this.#waiting = false;
    this.#draw();
    announce(parted(turn.response).answer);
    this.#done();
  }

  async #answer(turn, text) {
    try {
      const answer = await this.#ask(text);
      if (answer.status === 200) this.#heard(turn, answer.body);
      else turn.response = detailOf(answer, "That was refused.");
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      turn.response = "I cannot be reached. Your command is in the line again: send it later.";
      if (!this.#line.value) this.#line.value = text;
    }
  }

  #heard(turn, { response, resolved }) {
    turn.response = response;
    turn.references = resolved.references;
    // The windows show what was done to them (windows.js, sheets.js).
    const told = { bubbles: true, detail: resolved.intent };
    this.#form.dispatchEvent(new CustomEvent("answered", told));
  }

  /** The same key for every attempt: a command that was carried out is not carried out again. */
  async #ask(text, key = newKey(), left = ATTEMPTS) {
    try {
      const headers = { "Idempotency-Key": key };
      const answer = await this.#api.request("POST", "/beep/commands/", { body: { text }, headers });
      if (answer.status >= 500) throw new Unreachable();
      return answer;
    } catch (error) {
      if (!(error instanceof Unreachable) || left <= 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      return this.#ask(text, key, left - 1);
    }
  }

  #key(event) {
    const isPlain = !(event.altKey || event.ctrlKey || event.metaKey || event.isComposing);
    if (isPlain && ["ArrowUp", "ArrowDown"].includes(event.key)) {
      event.preventDefault();
      this.#line.value = this.#recall.step(event.key === "ArrowUp" ? 1 : -1, this.#line.value);
    } else if (event.key === "Escape") {
      this.#close();
    }
  }

  #shortcut(event) {
    const isSlash = event.key === "/" && !isTyping(event.target);
    const isCtrlK = event.key === "k" && (event.ctrlKey || event.metaKey);
    if ((!isSlash && !isCtrlK) || this.#form.hidden) return;
    event.preventDefault();
    this.#line.focus();
    this.#line.select();
  }

  #leave(event) {
    if (event.relatedTarget && !this.#form.contains(event.relatedTarget)) this.#close();
  }

  #open() {
    this.#panel.hidden = false; // first: what is hidden cannot be scrolled to its end
    this.#draw();
  }

  #close() {
    this.#panel.hidden = true;
  }

  #draw() {
    const turns = this.#turns.map((turn, place) => this.#turn(turn, place === this.#turns.length - 1));
    const tries = TRIES.map((text) => this.#suggestion(text));
    this.#panel.replaceChildren(
      turns.length ? h("ol", {}, ...turns) : h("p", { class: "quiet" }, "Nothing said yet."),
      h("div", { class: "tries" }, h("span", { class: "quiet" }, "Try"), ...tries),
    );
    this.#panel.scrollTop = this.#panel.scrollHeight;
  }

  #turn({ command, response, references = [] }, isNewest) {
    const { understood, answer } = parted(response);
    const quiet = [...meanings(references), understood].filter(Boolean);
    const names = isNewest ? offered(answer) : [];
    return h(
      "li",
      {},
      h("p", { class: "said" }, command),
      ...(quiet.length ? [h("p", { class: "understood" }, ...quiet.map((each) => h("span", {}, each)))] : []),
      h("p", { class: "answer" }, answer),
      ...(names.length ? [this.#choice(names)] : []),
    );
  }

  /** Each candidate of the question that was just put. */
  #choice(names) {
    const choices = names.map((name) => button(name, () => this.#choose(name)));
    return h("div", { class: "choice", role: "group", "aria-label": "Which one" }, ...choices);
  }
}

function button(label, run) {
  return h("button", { type: "button", class: "try", onclick: () => run() }, label);
}

function isTyping({ tagName, isContentEditable }) {
  return isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(tagName);
}
