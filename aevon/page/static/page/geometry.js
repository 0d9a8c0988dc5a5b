// Where a rectangle may be: grid, edges of others, the reach of this screen. Pure.
// A rectangle is {x, y, width, height} in pixels from the canvas's upper left corner.

export const GRID = 8;
export const SMALLEST = { width: 224, height: 120 };
export const TITLE_HEIGHT = 36;
const PULL = 8; // how near an edge of another window attracts
const REACHABLE = 96; // so much of a title bar stays on the screen

/** The nearest line of the grid. */
export function onGrid(value) {
  return Math.round(value / GRID) * GRID;
}

/** Stored -> shown: small enough for the area, and with a title bar that can be reached. */
export function reachable(rect, area) {
  const width = between(SMALLEST.width, rect.width, Math.max(SMALLEST.width, area.width));
  const height = between(SMALLEST.height, rect.height, Math.max(SMALLEST.height, area.height));
  return {
    x: between(REACHABLE - width, rect.x, area.width - REACHABLE),
    y: between(0, rect.y, Math.max(0, area.height - TITLE_HEIGHT)),
    width,
    height,
  };
}

/** A moved rectangle, drawn to the edges of `others` and of the area where it comes near one. */
export function drawnToEdges(rect, others, area) {
  return {
    ...rect,
    x: pulled(rect.x, rect.width, lines(others, area, "x", "width")),
    y: pulled(rect.y, rect.height, lines(others, area, "y", "height")),
  };
}

/** A rectangle whose `edges` (of "n", "e", "s", "w") were pulled by dx, dy; never below SMALLEST. */
export function stretched(rect, edges, dx, dy) {
  const across = side(rect.x, rect.width, edges.includes("w"), edges.includes("e"), dx, "width");
  const down = side(rect.y, rect.height, edges.includes("n"), edges.includes("s"), dy, "height");
  return { x: across.start, y: down.start, width: across.length, height: down.length };
}

/** A moved rectangle at rest: each coordinate on the grid, unless it already lies at an edge. */
export function settled(rect, others, area) {
  const x = lines(others, area, "x", "width");
  const y = lines(others, area, "y", "height");
  return {
    ...rect,
    x: touches(rect.x, rect.width, x) ? Math.round(rect.x) : onGrid(rect.x),
    y: touches(rect.y, rect.height, y) ? Math.round(rect.y) : onGrid(rect.y),
  };
}

/** A stretched rectangle at rest: the pulled edges on the grid, the others where they were. */
export function settledEdges(rect, edges) {
  const right = rect.x + rect.width;
  const bottom = rect.y + rect.height;
  const x = edges.includes("w") ? onGrid(rect.x) : rect.x;
  const y = edges.includes("n") ? onGrid(rect.y) : rect.y;
  return {
    x,
    y,
    width: Math.max(SMALLEST.width, (edges.includes("e") ? onGrid(right) : right) - x),
    height: Math.max(SMALLEST.height, (edges.includes("s") ? onGrid(bottom) : bottom) - y),
  };
}

function side(start, length, pullsStart, pullsEnd, by, name) {
  if (pullsStart) {
    const shift = Math.min(by, length - SMALLEST[name]);
    return { start: start + shift, length: length - shift };
  }
  return { start, length: pullsEnd ? Math.max(SMALLEST[name], length + by) : length };
}

function lines(others, area, start, length) {
  return [0, area[length], ...others.flatMap((each) => [each[start], each[start] + each[length]])];
}

function pulled(start, length, candidates) {
  const shifts = candidates.flatMap((line) => [line - start, line - start - length]);
  const nearest = shifts.reduce((a, b) => (Math.abs(b) < Math.abs(a) ? b : a), Infinity);
  return Math.abs(nearest) <= PULL ? start + nearest : start;
}

function touches(start, length, candidates) {
  return candidates.some((line) => line === start || line === start + length);
}

function between(low, value, high) {
  return Math.max(low, Math.min(value, high));
}
