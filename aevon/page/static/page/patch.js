// JSON Merge Patch (RFC 7396). Pure: the arguments stay as they are.

/** `target` with `patch` merged in. */
export function apply(target, patch) {
  if (!isObject(patch)) return patch;
  const merged = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else merged[name] = apply(merged[name], value);
  }
  return merged;
}

/** One patch that does what two do one after the other: unlike `apply` it keeps their nulls. */
export function compose(first, second) {
  if (!isObject(second)) return second;
  const merged = isObject(first) ? { ...first } : {};
  for (const [name, value] of Object.entries(second)) {
    merged[name] = Object.hasOwn(merged, name) ? compose(merged[name], value) : value;
  }
  return merged;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
