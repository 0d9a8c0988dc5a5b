// A gateway's own look at `session:{userId}`: who calls, without asking Aevon (docs/gateway.md).
//
// `decide` is the algorithm and pure; `openReader` verifies the token with jose, reads with ioredis
// (`npm install jose ioredis`), and hands over. On "ask" the gateway asks `validate/`, which reads
// PostgreSQL and fills the key: the reader itself writes nothing, and remembers nothing.
//
// `session_reader.py` is the same in Python; `vectors.json` holds what both must decide.

import { createHash } from "node:crypto";

const CLASSES = ["INITIATE", "SOVEREIGN", "ARCHITECT"];
// How long a connection is believed to lead to the same server, and to a primary.
const LEARN_MILLISECONDS = 1000;
const ASK = { verdict: "ask" };
const REFUSE = { verdict: "refuse" };
const FORBID = { verdict: "forbid" };

/**
 * What the value of `session:${claims.sub}` says of the bearer of a verified token.
 *
 * `raw` is a Buffer or null, `incarnation` that of the server which it comes from, `now` in Unix
 * seconds, `require` what a route wants besides a live session: `{class, permissions}`.
 * "allow": 2xx, with who it is. "refuse": 401. "forbid": 403. "ask": `validate/` decides.
 */
export function decide(claims, raw, incarnation, now, require = {}) {
  const { class: least = "INITIATE", permissions: wanted = [] } = require;
  if (!CLASSES.includes(least) || wanted.some((name) => !name)) {
    throw new RangeError(`This requirement makes no sense: ${JSON.stringify(require)}`);
  }
  const { sub, sid } = claims;
  if (claims.typ !== "access" || !isLater(claims.exp, now)) return REFUSE;
  if (!isId(sub) || typeof sid !== "string") return REFUSE;
  const document = stateIn(raw, incarnation);
  if (document === null || document.userId !== Number(sub)) return ASK;
  if (document.status !== "active" || !isLater(document.sessions[sid], now)) return REFUSE;
  const { userId, sovereigntyClass, permissions } = document;
  const enough = CLASSES.indexOf(sovereigntyClass) >= CLASSES.indexOf(least);
  if (!enough || !wanted.every((name) => permissions.includes(name))) return FORBID;
  return { verdict: "allow", userId, sid, sovereigntyClass, permissions };
}

/** What the service is told, as `validate/` writes it: nothing unless allowed. */
export function headers(decision) {
  if (decision.verdict !== "allow") return {};
  return {
    "X-User-Id": String(decision.userId),
    "X-Session-Id": decision.sid,
    "X-Sovereignty-Class": decision.sovereigntyClass,
    "X-Permissions": [...decision.permissions].sort(byCodePoint).map(encode).join(","),
  };
}

/**
 * The state in `raw`; null for a fence, a lease, a tombstone, another life's, or damage. The stamp is
 * compared as bytes at the end: a value that somebody rewrote is not believed.
 */
function stateIn(raw, incarnation) {
  if (raw === null || !raw.toString("latin1").endsWith(stampOf(incarnation))) return null;
  try {
    const document = JSON.parse(UTF8.decode(raw));
    return isState(document) ? document : null;
  } catch {
    return null;
  }
}

function isState(document) {
  return (
    isObject(document) &&
    ["userId", "version", "expiresAt"].every((name) => Number.isSafeInteger(document[name])) &&
    document.version >= 1 &&
    typeof document.username === "string" &&
    ["active", "disabled"].includes(document.status) &&
    CLASSES.includes(document.sovereigntyClass) &&
    Array.isArray(document.permissions) &&
    document.permissions.every(isText) &&
    isObject(document.sessions) &&
    Object.values(document.sessions).every(Number.isSafeInteger)
  );
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const stampOf = (incarnation) => `,"_incarnation":"${incarnation}"}`;
const isObject = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isLater = (moment, now) => typeof moment === "number" && moment > now;
const isId = (text) =>
  typeof text === "string" && /^[1-9][0-9]{0,15}$/.test(text) && Number.isSafeInteger(Number(text));
// Text that UTF-8 can hold: no half of a surrogate pair.
const isText = (value) => typeof value === "string" && value.isWellFormed();
const byCodePoint = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));
const percent = (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`;
const encode = (name) => encodeURIComponent(name).replace(/[!'()*]/g, percent);

/**
 * `check(token, require)`: what to do with a request that carries this bearer token, by one GET.
 *
 * `keys` is a Map by `kid`: `{key, alg}`, where `key` is what jose verifies with (`importJWK`, or the
 * bytes of the shared secret). `url` is Dragonfly's, with a user who may GET and INFO. Where Dragonfly
 * does not answer in time the verdict is "ask".
 */
export async function openReader({ url, keys, issuer = "aevon", audience = "aevon" }) {
  const { jwtVerify, decodeProtectedHeader } = await import("jose");
  const { Redis } = await import("ioredis");
  const redis = new Redis(url, {
    connectTimeout: 200,
    commandTimeout: 300,
    maxRetriesPerRequest: 0,
  });
  // A restart breaks the connection, so what comes over one is of one life of the server.
  let connections = 0;
  let learned = { connection: -1 };
  redis.on("connect", () => (connections += 1));
  redis.on("error", () => {}); // "ask" until it is back
  await new Promise((opened) => redis.once("ready", opened).once("error", opened));

  async function verified(token) {
    const { kid = "" } = decodeProtectedHeader(token);
    if (typeof kid !== "string") throw new TypeError("kid");
    const known = keys.get(kid);
    if (known === undefined) return null; // signed with a key that is new: validate/ knows
    const options = { algorithms: [known.alg], issuer, audience, requiredClaims: ["exp"] };
    const { payload } = await jwtVerify(token, known.key, options);
    if (!isId(payload.sub)) throw new RangeError("sub");
    return payload;
  }

  /** The value, and the incarnation of the server that it comes from. */
  async function read(key) {
    const stale = performance.now() - learned.at > LEARN_MILLISECONDS;
    if (learned.connection !== connections || stale) learned = await learn(redis, connections);
    const { connection, incarnation } = learned;
    const raw = await redis.getBuffer(key);
    // Another life may have begun in between.
    if (connection !== connections) throw new Error("The connection broke.");
    return { raw, incarnation };
  }

  return {
    async check(token, require) {
      let claims;
      try {
        claims = await verified(token);
      } catch {
        return REFUSE;
      }
      if (claims === null) return ASK;
      let found;
      try {
        found = await read(`session:${claims.sub}`);
      } catch {
        return ASK;
      }
      return decide(claims, found.raw, found.incarnation, Date.now() / 1000, require);
    },
    close: () => redis.disconnect(),
  };
}

/** Which life of the server this connection leads to. A replica may be behind, and is not read. */
async function learn(redis, connection) {
  const told = `${await redis.info("server")}\n${await redis.info("replication")}`;
  const facts = Object.fromEntries(
    [...told.matchAll(/^(\w+):([^\r\n]*)/gm)].map((found) => found.slice(1)),
  );
  if ((facts.role ?? "master") !== "master") throw new Error("The server is a replica.");
  const name = facts.run_id || facts.master_replid; // Dragonfly has the second alone
  const incarnation = createHash("sha1").update(name).digest("hex").slice(0, 12);
  return { connection, incarnation, at: performance.now() };
}
