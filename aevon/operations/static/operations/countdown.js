// Lifetimes that count down, by this page's own clock: it need not agree with the server's.

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];

function duration(seconds) {
  let left = Math.floor(seconds);
  const parts = UNITS.map(([size, unit]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return [count, unit];
  });
  const found = parts.findIndex(([count]) => count > 0);
  const first = found < 0 ? UNITS.length - 1 : found;
  return parts.slice(first, first + 2).map((part) => part.join(" ")).join(" ");
}

const began = performance.now();
const lifetimes = [...document.querySelectorAll(".arc-ttl")].map((element) => ({
  element,
  seconds: Number(element.dataset.seconds),
}));

function count() {
  const gone = (performance.now() - began) / 1000;
  for (const { element, seconds } of lifetimes) {
    element.textContent = seconds > gone ? duration(seconds - gone) : "over: load the page anew";
  }
}

if (lifetimes.length) setInterval(count, 1000);
