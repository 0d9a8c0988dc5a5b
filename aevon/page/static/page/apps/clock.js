// A clock: a dial of glass, and the time in figures.

import { h, svg } from "../dom.js";
import { repeat } from "./repeat.js";

const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** The time where this screen is. */
export const clock = {
  type: "clock",
  title: "Clock",
  icon: "clock",
  size: { width: 320, height: 184 },

  mount(body) {
    const hands = { hour: hand("hour", 26), minute: hand("minute", 37), second: hand("second", 40) };
    const time = h("p", { class: "clock-time" });
    const day = h("p", { class: "quiet" });
    body.append(
      h("div", { class: "clock" }, dial(Object.values(hands)), h("div", {}, time, day)),
    );
    const end = repeat(() => tick(hands, time, day), 1000);
    return { unmount: end };
  },
};

function tick(hands, time, day) {
  const now = new Date();
  const [hours, minutes, seconds] = [now.getHours(), now.getMinutes(), now.getSeconds()];
  turn(hands.hour, hours * 30 + minutes / 2);
  turn(hands.minute, minutes * 6 + seconds / 10);
  turn(hands.second, seconds * 6);
  time.textContent = TIME.format(now);
  day.textContent = DAY.format(now);
}

function dial(hands) {
  const marks = Array.from({ length: 12 }, (_, hour) =>
    svg("line", {
      x1: "50", x2: "50", y1: "7", y2: hour % 3 ? "10" : "14",
      class: "dial-mark", transform: `rotate(${hour * 30} 50 50)`,
    }),
  );
  const rim = svg("circle", { cx: "50", cy: "50", r: "47", class: "dial-rim" });
  const hub = svg("circle", { cx: "50", cy: "50", r: "2.5", class: "dial-hub" });
  return svg(
    "svg",
    { viewBox: "0 0 100 100", class: "dial", "aria-hidden": "true" },
    rim,
    ...marks,
    ...hands,
    hub,
  );
}

function hand(name, length) {
  return svg("line", {
    x1: "50", y1: name === "second" ? "58" : "50", x2: "50", y2: String(50 - length),
    class: `hand hand-${name}`,
  });
}

function turn(element, degrees) {
  element.setAttribute("transform", `rotate(${degrees} 50 50)`);
}
