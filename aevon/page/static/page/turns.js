// What a turn's response holds, in the forms that BEEP writes (beep/phrases.py). Pure.

const UNDERSTOOD = /^Understood: (.*)\.(?:\n|$)/;
const CORRECTING = /^instead of turn \d+, /;
const QUESTION = /Which one do you mean: (.*)\?\s*$/s;
const OFFER = /Do you mean ("[^"]*"|[^,;"()?]+)\?$/;
// A name between marks, or one that ends where a list would go on; then a remark, perhaps.
const ITEM = /\d+\. ("[^"]*"|[^,;"()]+)(?: \([^()]*\))?(?:[,;]\s*|$)/gy;

/** `{understood, answer}`: the echo of a response, "" where it has none, and the rest. */
export function parted(response) {
  const echo = UNDERSTOOD.exec(response);
  if (!echo) return { understood: "", answer: response };
  const understood = echo[1].replace(CORRECTING, "instead, ");
  return { understood, answer: response.slice(echo[0].length) };
}

/** The names among which a response asks to choose. */
export function offered(response) {
  const list = QUESTION.exec(response)?.[1] ?? "";
  const names = [...list.matchAll(ITEM), ...[OFFER.exec(response) ?? []]].map(([, name]) => name);
  return names.filter(Boolean).map((name) => (name.startsWith('"') ? unquoted(name) : name));
}

/** A name as an answer that is nothing but a name, whatever it says. */
export function named(name) {
  return `"${JSON.stringify(name).slice(1, -1).replaceAll('\\"', "\\u0022")}"`;
}

/** "it = Notes": what words of a command were taken to mean. */
export function meanings(references) {
  return references.map(({ phrase, value }) => `${phrase} = ${value}`);
}

function unquoted(text) {
  try {
    return String(JSON.parse(text));
  } catch {
    return text.slice(1, -1);
  }
}
