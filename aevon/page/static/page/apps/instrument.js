// A Folly Instrument: every chance is shown before anybody plays.

import { detailOf, newKey, Unreachable } from "../api.js";
import { h } from "../dom.js";
import { counted, slug, span } from "../words.js";
import { fetched, repeat } from "./repeat.js";

const READ_MS = 10_000;
const RETRY_MS = 1000;
const ATTEMPTS = 5;

function instrument(type, title) {
  return {
    type,
    aliases: [slug(title)], // BEEP makes "sisyphus-s-ascent" of the name
    title,
    icon: "instrument",
    size: { width: 360, height: 464 },
    mount: (body, tools) => new Table(body, type, tools),
  };
}

/** KLEPSYDRA's three; what they are and pay, the API tells. */
export const instruments = [
  instrument("spinforge", "SpinForge"),
  instrument("oracle-of-delphi", "Oracle of Delphi"),
  instrument("sisyphus-ascent", "Sisyphus's Ascent"),
];

/** One instrument on the screen. */
class Table {
  #api;
  #bus;
  #type;
  #end;
  #isPlaying = false;

  constructor(body, type, { api, bus }) {
    this.#api = api;
    this.#bus = bus;
    this.#type = type;
    this.#build(body);
    bus.addEventListener("psyche", this.#read);
    this.#end = repeat(this.#read, READ_MS);
  }

  unmount() {
    this.#bus.removeEventListener("psyche", this.#read);
    this.#end();
  }

  #build(body) {
    this.description = h("p", { class: "quiet" });
    this.rows = h("tbody");
    this.returns = h("p", { class: "quiet returns" });
    this.outcome = h("p", { class: "outcome", role: "status" });
    this.stake = h("input", { type: "number", min: "1", value: "5", step: "1", required: true, inputmode: "numeric" });
    this.button = h("button", { type: "submit", class: "primary", disabled: true }, "Play");
    const label = h("label", { class: "stake" }, h("span", {}, "Stake Ξ"), this.stake);
    body.classList.add("table-app");
    body.append(
      this.description,
      oddsTable(this.rows),
      this.returns,
      this.outcome,
      h("form", { class: "play", onsubmit: (event) => this.#play(event) }, label, this.button),
    );
  }

  #read = async () => {
    const told = await fetched(this.#api, "/klepsydra/instruments/");
    const found = told?.instruments.find((each) => each.slug === this.#type);
    if (found) this.#show(found, told);
  };

  #show(found, { pityNext, lossStreak, pityThreshold }) {
    this.description.textContent = found.description;
    const table = pityNext ? found.odds.pity : found.odds.now;
    this.rows.replaceChildren(...table.tiers.map((tier) => row(tier)));
    const more = pityThreshold - lossStreak;
    const pity = pityNext
      ? "The next play is a sure win."
      : `Sure win after ${counted(more, "more loss", "more losses")} in a row.`;
    const back = Math.round(table.expectedReturn * 100);
    this.returns.textContent = `Pays back ${back} % of the stake on average. ${pity}`;
    this.stake.min = String(found.minStake);
    this.stake.max = String(found.maxStake);
    this.button.disabled = this.#isPlaying;
  }

  async #play(event) {
    event.preventDefault();
    if (this.#isPlaying) return;
    this.#isPlaying = true;
    this.button.disabled = true;
    try {
      this.#tell(await this.#ask({ instrument: this.#type, stake: this.stake.valueAsNumber }));
    } catch {
      this.#say("The server cannot be reached. Whether that play counts, the Psyche will show.", "lost");
    }
    this.#isPlaying = false;
    this.button.disabled = false;
  }

  /** The same key for every attempt: however often it is sent, it is one play. */
  async #ask(body, key = newKey(), left = ATTEMPTS) {
    try {
      const headers = { "Idempotency-Key": key };
      const answer = await this.#api.request("POST", "/klepsydra/interactions/", { body, headers });
      if (answer.status >= 500) throw new Unreachable();
      return answer;
    } catch (error) {
      if (!(error instanceof Unreachable) || left <= 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      return this.#ask(body, key, left - 1);
    }
  }

  #tell(answer) {
    if (answer.status !== 200) {
      this.#say(`Not played: ${detailOf(answer, "the server refused.")}`, "lost");
      return;
    }
    const { outcome, psyche } = answer.body;
    this.#say(wordsOf(outcome), outcome.isWin ? "won" : "lost");
    for (const each of this.rows.children) {
      each.classList.toggle("drawn", each.dataset.tier === outcome.tier);
    }
    this.#bus.dispatchEvent(new CustomEvent("psyche", { detail: psyche }));
  }

  #say(text, kind) {
    this.outcome.textContent = text;
    this.outcome.className = `outcome ${kind}`;
  }
}

function wordsOf(outcome) {
  if (outcome.kind === "rested") {
    return `You are resting, nothing was staked. Play again in ${span(outcome.retryAfterSeconds)}.`;
  }
  const tier = named(outcome.tier);
  if (outcome.isWin) return `${tier}: ${outcome.stake} Ξ brought ${outcome.payout} Ξ.`;
  return `${tier}: the stake of ${outcome.stake} Ξ is gone.`;
}

function oddsTable(rows) {
  const head = ["Tier", "Chance", "Pays"].map((text) => h("th", { scope: "col" }, text));
  return h(
    "table",
    { class: "odds" },
    h("caption", { class: "unseen" }, "The odds of the next play"),
    h("thead", {}, h("tr", {}, ...head)),
    rows,
  );
}

function row({ tier, probability, multiplier }) {
  const share = h("span", { class: "share" });
  // The root, because chances of a per cent and less would not be seen beside one of eighty.
  share.style.inlineSize = `${Math.sqrt(probability) * 100}%`;
  const chance = probability ? `${(probability * 100).toFixed(2)} %` : "in a sure win";
  return h(
    "tr",
    { "data-tier": tier },
    h("th", { scope: "row" }, named(tier)),
    h(
      "td",
      {},
      h("div", { class: "odds-chance" }, h("span", {}, chance), h("span", { class: "track" }, share)),
    ),
    h("td", {}, multiplier ? `× ${multiplier}` : "—"),
  );
}

function named(tier) {
  return tier.charAt(0) + tier.slice(1).toLowerCase();
}
