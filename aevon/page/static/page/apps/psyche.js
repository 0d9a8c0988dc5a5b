// The PsycheState: the personal wave of luck drawn over an hour, and what the last plays did.

import { h, svg } from "../dom.js";
import { signed, span } from "../words.js";
import { fetched, repeat } from "./repeat.js";

const SWING = { share: 0.38, most: 120 }; // up and down: of the height, and in pixels
const NOW_AT = 1 / 3; // of the width
const SHOWN = 1.25; // periods
const PITY = 5;
const READ_MS = 4000;
const HALF_LIFE_SECONDS = 120;

/** As the engine computes it (klepsydra/engine.py), so that the wave moves between two answers. */
function waveAt(state, seconds) {
  const angle = (2 * Math.PI * (seconds % state.periodSeconds)) / state.periodSeconds + state.phase;
  return state.amplitude * Math.sin(angle);
}

/** Reads `psyche:{userId}`, which every play writes through. */
export const psyche = {
  type: "psyche",
  aliases: ["psychestate", "psyche-state", "luck"],
  title: "Psyche",
  icon: "psyche",
  size: { width: 440, height: 304 },

  mount(body, { api, bus }) {
    const parts = built();
    body.append(...parts.elements);
    let state = null;
    const draw = () => state && show(parts, state, api.now() / 1000);
    const read = async () => {
      state = (await fetched(api, "/klepsydra/psyche/")) ?? state;
      draw();
    };
    const heard = (event) => {
      state = event.detail ?? state;
      draw();
      if (!event.detail) read();
    };
    bus.addEventListener("psyche", heard);
    const resized = new ResizeObserver(draw);
    resized.observe(parts.drawing);
    const endings = [repeat(read, READ_MS), repeat(draw, 1000)];
    return {
      unmount() {
        resized.disconnect();
        bus.removeEventListener("psyche", heard);
        endings.forEach((end) => end());
      },
    };
  },
};

function built() {
  const curve = svg("path", { class: "wave-line", fill: "none" });
  const past = svg("path", { class: "wave-past", fill: "none" });
  const fill = svg("path", { class: "wave-fill" });
  const point = svg("circle", { r: "6", class: "wave-now", cx: `${NOW_AT * 100}%` });
  const zero = svg("line", { x1: "0", x2: "100%", y1: "50%", y2: "50%", class: "wave-zero" });
  const drawing = svg("svg", { class: "wave", role: "img" }, zero, fill, past, curve, point);
  const luck = h("p", { class: "figure" }, "…");
  const trend = h("p", { class: "quiet" });
  const streak = h("dd", { class: "beads" });
  const streakWords = h("dd", { class: "quiet" });
  const calm = h("span", { class: "bar-fill" });
  const calmWords = h("dd", { class: "quiet" });
  const facts = h(
    "dl",
    { class: "facts" },
    h("div", {}, h("dt", {}, "Loss streak"), streak, streakWords),
    h("div", {}, h("dt", {}, "Frustration"), h("dd", { class: "track" }, calm), calmWords),
  );
  const head = h("div", { class: "wave-head" }, luck, trend);
  return { elements: [head, drawing, facts], curve, past, fill, point, drawing, luck, trend, streak, streakWords, calm, calmWords };
}

function show(parts, state, now) {
  const wave = waveAt(state, now);
  parts.luck.textContent = signed(wave);
  parts.trend.textContent = trendOf(state, now);
  drawWave(parts, state, now);
  parts.drawing.setAttribute("aria-label", `Your wave of luck, at ${signed(wave)} now`);
  parts.streak.replaceChildren(
    ...Array.from({ length: PITY }, (_, index) =>
      h("span", { class: index < state.lossStreak ? "bead lost" : "bead" }),
    ),
  );
  parts.streakWords.textContent =
    state.lossStreak >= PITY ? "the next play is a sure win" : `${state.lossStreak} of ${PITY} to a sure win`;
  showFrustration(parts, state, now);
}

function showFrustration({ calm, calmWords }, state, now) {
  const elapsed = Math.max(0, now - Date.parse(state.frustrationAt) / 1000);
  const level = state.frustrationLevel * 2 ** (-elapsed / HALF_LIFE_SECONDS);
  calm.style.inlineSize = `${(level * 100).toFixed(1)}%`;
  const until = state.throttledUntil ? Date.parse(state.throttledUntil) / 1000 - now : 0;
  calm.classList.toggle("high", until > 0);
  calmWords.textContent = until > 0 ? `resting for ${span(until)}` : frustrationWords(level);
}

function frustrationWords(level) {
  const percent = Math.round(level * 100);
  return percent ? `${percent} %, halves in 2 min` : "none";
}

function trendOf(state, now) {
  const quarter = state.periodSeconds / 4;
  const turn = (2 * Math.PI * (now % state.periodSeconds)) / state.periodSeconds + state.phase;
  const place = ((turn % (2 * Math.PI)) + 2 * Math.PI) % (2 * Math.PI);
  const seconds = (place / (2 * Math.PI)) * state.periodSeconds;
  if (seconds < quarter) return `rising · crest in ${span(quarter - seconds)}`;
  if (seconds < 3 * quarter) return `falling · trough in ${span(3 * quarter - seconds)}`;
  return `rising · crest in ${span(5 * quarter - seconds)}`;
}

function drawWave({ drawing, curve, past, fill, point }, state, now) {
  const { clientWidth: width, clientHeight: height } = drawing;
  const secondsPerPixel = (state.periodSeconds * SHOWN) / Math.max(1, width);
  const nowAt = width * NOW_AT;
  const swing = Math.min(height * SWING.share, SWING.most);
  const at = (x) => height / 2 - swing * waveAt(state, now + (x - nowAt) * secondsPerPixel);
  const line = (from, to) => {
    const points = [`${from} ${at(from).toFixed(1)}`];
    for (let x = from + 4; x < to; x += 4) points.push(`${x.toFixed(1)} ${at(x).toFixed(1)}`);
    return `M${[...points, `${to} ${at(to).toFixed(1)}`].join("L")}`;
  };
  past.setAttribute("d", line(0, nowAt));
  curve.setAttribute("d", line(nowAt, width));
  fill.setAttribute("d", `${line(0, width)}L${width} ${height}L0 ${height}Z`);
  point.setAttribute("cy", at(nowAt).toFixed(1));
}
