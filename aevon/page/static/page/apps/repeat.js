// Doing something again and again while a window is open and the page is seen.

/** Calls `step` now and then every `milliseconds`; returns what ends it. */
export function repeat(step, milliseconds) {
  const whileSeen = () => document.hidden || step();
  step();
  const timer = setInterval(whileSeen, milliseconds);
  document.addEventListener("visibilitychange", whileSeen);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", whileSeen);
  };
}

/** The body of a GET, or null when there is none just now. */
export async function fetched(api, path) {
  try {
    const answer = await api.request("GET", path);
    return answer.status === 200 ? answer.body : null;
  } catch {
    return null; // the status in the top bar tells why
  }
}
