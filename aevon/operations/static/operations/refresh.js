// The dashboard anew every ten seconds, while somebody looks. What is open stays open, what is
// scrolled stays there, and the focus stays where it was; a page that cannot be had anew says so.

const EVERY_MS = 10_000;
const PATIENCE_MS = 8_000;

const place = document.getElementById("arc-state");
const stale = document.getElementById("arc-stale");
let since = "";

function keep() {
  const open = [...place.querySelectorAll("details[open]")].map((each) => each.id);
  const regions = [...place.querySelectorAll(".arc-scroll")];
  const scrolled = regions.map((each) => [each.scrollLeft, each.scrollTop]);
  const focused = regions.indexOf(document.activeElement);
  const summary = document.activeElement?.closest("#arc-state summary")?.parentElement.id;
  return { open, scrolled, focused, summary };
}

function restore({ open, scrolled, focused, summary }) {
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  const regions = [...place.querySelectorAll(".arc-scroll")];
  if (regions.length === scrolled.length) {
    regions.forEach((each, number) => each.scrollTo(...scrolled[number]));
    regions[focused]?.focus({ preventScroll: true });
  }
  const again = summary && document.getElementById(summary)?.querySelector("summary");
  if (again) again.focus({ preventScroll: true });
}

function show(text) {
  const found = new DOMParser().parseFromString(text, "text/html");
  const kept = keep();
  const words = document.getElementById("arc-words");
  const fresh = found.getElementById("arc-words");
  // The same element, so that a screen reader hears of a change, and of nothing else.
  if (words && fresh) {
    if (words.textContent !== fresh.textContent) words.textContent = fresh.textContent;
    fresh.replaceWith(words);
  }
  place.replaceChildren(...found.body.childNodes);
  restore(kept);
}

function tell(text) {
  if (stale.textContent !== text) stale.textContent = text;
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(place.dataset.address, {
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.text());
    since = "";
    tell("");
  } catch {
    since ||= new Date().toISOString().slice(11, 19);
    tell(`Not refreshed since ${since} UTC: the site does not answer, or you are logged out.`);
  }
}

async function go() {
  await refresh();
  setTimeout(go, EVERY_MS);
}

setTimeout(go, EVERY_MS);
document.addEventListener("visibilitychange", refresh);
