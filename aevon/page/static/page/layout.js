// Questions to a layout, and the patches that answer wishes. Pure.

const Z_MAX = 2 ** 31;
const CASCADE = { start: 40, step: 32, length: 8 };
const MARGIN = 24;

/** Ids from the lowest to the uppermost window; equal levels in the order of their ids. */
export function stacked(apps) {
  return Object.keys(apps).sort((a, b) => apps[a].zIndex - apps[b].zIndex || (a < b ? -1 : 1));
}

/** The id of the uppermost window, if there is one. */
export function topmost(apps) {
  return stacked(apps).at(-1);
}

/** What brings a window to the front: nothing where it is there already. */
export function raising(apps, id) {
  const order = stacked(apps);
  if (order.at(-1) === id) return null;
  const level = nextLevel(apps);
  if (level <= Z_MAX) return { [id]: { zIndex: level } };
  // The range is used up: everybody gets a new number, in the same order.
  const again = [...order.filter((each) => each !== id), id];
  return Object.fromEntries(again.map((each, index) => [each, { zIndex: index + 1 }]));
}

/** A new window on top, where there is room for it. */
export function opening(apps, { type, title, size }, area) {
  const id = freeId(apps, type);
  const number = /-(\d+)$/.exec(id.slice(type.length))?.[1];
  const window = {
    type,
    title: number ? `${title} ${number}` : title,
    position: freePlace(apps, size, area) ?? nextInCascade(apps, size, area),
    size,
    zIndex: Math.min(nextLevel(apps), Z_MAX),
  };
  return { id, patch: { [id]: window } };
}

/** Position and size as one rectangle. */
export function rectOf(app) {
  return { ...app.position, ...app.size };
}

/** What puts a window there. */
export function placing(id, { x, y, width, height }) {
  return { [id]: { position: { x, y }, size: { width, height } } };
}

/** Whether nothing of a window is missing: a patch of one that was closed elsewhere leaves a torso. */
export function isWhole(app) {
  const numbers = [app?.position?.x, app?.position?.y, app?.size?.width, app?.size?.height];
  return typeof app?.type === "string" && [...numbers, app.zIndex].every(Number.isFinite);
}

/** From the upper left to the lower right: an order that every device sees alike. */
export function inReadingOrder(apps) {
  const key = (id) => apps[id].position;
  return Object.keys(apps).sort(
    (a, b) => key(a).y - key(b).y || key(a).x - key(b).x || (a < b ? -1 : 1),
  );
}

/** The first place, column by column, where it covers nobody and keeps a margin. */
function freePlace(apps, size, area) {
  const taken = Object.values(apps).map(rectOf);
  for (let x = MARGIN; x + size.width + MARGIN <= area.width; x += 8) {
    for (let y = MARGIN; y + size.height + MARGIN <= area.height; y += 8) {
      if (!taken.some((rect) => isNear(rect, { x, y, ...size }))) return { x, y };
    }
  }
  return null;
}

function isNear(a, b) {
  const across = a.x < b.x + b.width + MARGIN && b.x < a.x + a.width + MARGIN;
  return across && a.y < b.y + b.height + MARGIN && b.y < a.y + a.height + MARGIN;
}

/** A step further down for each window that is open, but inside the area. */
function nextInCascade(apps, size, area) {
  const step = CASCADE.start + CASCADE.step * (Object.keys(apps).length % CASCADE.length);
  return {
    x: Math.max(0, Math.min(step, area.width - size.width)),
    y: Math.max(0, Math.min(step, area.height - size.height)),
  };
}

function nextLevel(apps) {
  return Math.max(0, ...Object.values(apps).map((app) => app.zIndex)) + 1;
}

function freeId(apps, type) {
  let id = type;
  for (let number = 2; Object.hasOwn(apps, id); number += 1) id = `${type}-${number}`;
  return id;
}
