// Where this user is signed in, each with a button that ends it.

import { announce } from "../announce.js";
import { detailOf } from "../api.js";
import { h } from "../dom.js";
import { ago } from "../words.js";
import { fetched, repeat } from "./repeat.js";

const READ_MS = 5000;
const SEEN_MS = 20 * 60_000;
const BROWSERS = [[/Edg\//, "Edge"], [/Firefox\//, "Firefox"], [/Chrome\//, "Chrome"], [/Safari\//, "Safari"], [/curl\//, "curl"], [/python/i, "Python"]];
const SYSTEMS = [[/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"], [/Linux/, "Linux"]];

/** The live sessions, this one first. */
export const sessions = {
  type: "sessions",
  aliases: ["session"],
  title: "Sessions",
  icon: "sessions",
  size: { width: 400, height: 264 },

  mount(body, { api, signOut }) {
    const list = h("ul", { class: "sessions" });
    const error = h("p", { class: "failed", role: "alert" });
    body.append(list, error);
    let drawn = "";
    const read = async () => {
      const told = await fetched(api, "/auth/sessions/");
      const shown = JSON.stringify(told) + Math.floor(api.now() / 30_000);
      // Drawn anew only when it differs: the focus may be on one of its buttons.
      if (!told || shown === drawn) return;
      drawn = shown;
      const ordered = told.sessions.toSorted((a, b) => b.current - a.current);
      list.replaceChildren(...ordered.map((each) => item(each, api.now(), () => end(each))));
    };
    const end = async (session) => {
      if (session.current) {
        signOut();
        return;
      }
      error.textContent = (await ended(api, session.sid)) ?? "";
      if (!error.textContent) announce("The session is ended");
      await read();
    };
    return { unmount: repeat(read, READ_MS) };
  },
};

/** Null, or why the session could not be ended. */
async function ended(api, sid) {
  try {
    const answer = await api.request("DELETE", `/auth/sessions/${sid}/`);
    const isGone = answer.status === 204 || answer.status === 404;
    return isGone ? null : `Still signed in there: ${detailOf(answer, "the server refused.")}`;
  } catch {
    return "The server cannot be reached: that session is still signed in. Try again.";
  }
}

function item(session, now, end) {
  const device = deviceOf(session.userAgent);
  const here = session.current ? [h("span", { class: "here" }, "this one")] : [];
  const label = session.current ? "Sign out" : "End this session";
  return h(
    "li",
    {},
    h(
      "div",
      {},
      h("p", {}, device, " ", ...here),
      h("p", { class: "quiet" }, whereAndWhen(session, now)),
    ),
    h("button", { type: "button", "aria-label": `${label}: ${device}`, onclick: end }, label),
  );
}

function whereAndWhen({ address, createdAt, lastSeenAt }, now) {
  const opened = `signed in ${ago(Date.parse(createdAt), now)}`;
  const seen = Date.parse(lastSeenAt);
  // One in use is seen as often as its access token ends: of less than that there is nothing to say.
  const idle = now - seen > SEEN_MS ? [`last seen ${ago(seen, now)}`] : [];
  return [address ? `${opened} from ${networkOf(address)}` : opened, ...idle].join(", ");
}

/** "192.0.2.0/24" as "192.0.2.x", "2001:db8:1::/48" as "2001:db8:1:x". */
function networkOf(address) {
  return address.replace(/\.0\/24$/, ".x").replace(/::\/48$/, ":x");
}

function deviceOf(agent) {
  const browser = BROWSERS.find(([pattern]) => pattern.test(agent))?.[1];
  const system = SYSTEMS.find(([pattern]) => pattern.test(agent))?.[1];
  if (browser) return system ? `${browser} on ${system}` : browser;
  return agent.slice(0, 40) || "Unknown program";
}
