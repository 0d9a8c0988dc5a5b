// Speaking to the server: the access token, its renewal, and what can go wrong on the way.

const BASE = "/api/v1";
const TIMEOUT_MS = 10_000;
const OUTLIVING_MAX_BYTES = 60_000; // browsers refuse 64 KiB, all such requests together
const RENEW_AFTER = 0.7; // of a token's life: what leaves with the page must not find it expired
// Foreign sites can make a browser send a cookie, but not this header (Fetch, CORS preflight).
const FROM_THIS_PAGE = { "X-Aevon-Page": "1" };
const NEVER = new Promise(() => {});

/** The server was not reached, or was not able to answer; nobody knows whether it got anything. */
export class Unreachable extends Error {}

/** There is no session: somebody has to sign in. */
export class SignedOut extends Error {}

/**
 * The API as one person in one tab. The access token lives here and nowhere else. Once somebody
 * else's arrives it is over: nothing is sent any more, and no promise of it settles.
 */
export class Api {
  #access = null;
  #renewAt = 0;
  #renewing = null;
  #skew = 0;
  #userId = null;
  #isSignedOut = false;
  #isOver = false;

  /** Told who it is whenever a token arrives. */
  onIdentity = () => {};

  /** Milliseconds since 1970 by the server's clock. */
  now() {
    return Date.now() + this.#skew;
  }

  /** Open a session. Resolves to the answer, which may be a refusal. */
  async signIn(username, password, endOthers) {
    const body = { username, password, endOthers };
    const answer = await this.#fetch("POST", "/auth/browser/", { body, headers: FROM_THIS_PAGE });
    if (answer.status === 200) await this.#keep(answer.body);
    return answer;
  }

  /** Go on with the session that the cookie names. Throws `SignedOut`, `Unreachable`. */
  resume() {
    // Shared: requests that find the token expired at the same time need one new one.
    this.#renewing ??= this.#resume().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  /** End the session; the server writes the canvas to the ledger first. */
  async signOut() {
    const answer = await this.#fetch("DELETE", "/auth/browser/", {
      headers: { ...FROM_THIS_PAGE, ...this.#bearer() },
    });
    const isEnded = answer.status === 204 || answer.status === 401;
    if (!isEnded) throw Object.assign(new Unreachable(), { answer });
    this.#access = null;
  }

  /**
   * One request, with a new token where the old one has run out. Resolves to
   * {status, headers, body} whatever the status; throws `SignedOut` and `Unreachable`.
   */
  async request(method, path, options = {}) {
    if (this.#isSignedOut) throw new SignedOut();
    // What leaves with the page cannot wait for a token.
    if (!options.keepalive && performance.now() > this.#renewAt) await this.resume();
    const answer = await this.#authorized(method, path, options);
    if (answer.status !== 401) return answer;
    await this.resume();
    const again = await this.#authorized(method, path, options);
    if (again.status === 401) this.#endHere();
    return again;
  }

  #authorized(method, path, options) {
    return this.#fetch(method, path, {
      ...options,
      headers: { ...options.headers, ...this.#bearer() },
    });
  }

  #bearer() {
    return this.#access ? { Authorization: `Bearer ${this.#access}` } : {};
  }

  async #resume() {
    const answer = await this.#fetch("POST", "/auth/browser/access/", { headers: FROM_THIS_PAGE });
    if (answer.status === 401 || answer.status === 403) this.#endHere();
    if (answer.status !== 200) throw new Unreachable();
    await this.#keep(answer.body);
  }

  #keep(identity) {
    const isOther = this.#userId !== null && this.#userId !== identity.userId;
    return isOther ? this.#give(identity) : this.#take(identity);
  }

  /** What the last user did is not for who has come, and until the page is gone its timers run on. */
  #give(identity) {
    this.#isOver = true;
    this.#access = null;
    this.onIdentity(identity);
    return NEVER;
  }

  #take(identity) {
    const lifetime = identity.expiresAt * 1000 - this.now();
    this.#access = identity.access;
    this.#userId = identity.userId;
    this.#isSignedOut = false;
    this.#renewAt = performance.now() + lifetime * RENEW_AFTER;
    this.onIdentity(identity);
  }

  #endHere() {
    this.#access = null;
    this.#isSignedOut = true;
    throw new SignedOut();
  }

  async #fetch(method, path, options) {
    const { body, type = "application/json", headers = {}, keepalive = false, signal } = options;
    if (this.#isOver) return NEVER;
    try {
      const response = await fetch(BASE + path, {
        method,
        headers: body === undefined ? headers : { "Content-Type": type, ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
        keepalive,
        cache: "no-store", // conditions are this program's own: see sync.js
        signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])]),
      });
      return await this.#read(response);
    } catch {
      throw new Unreachable();
    }
  }

  async #read(response) {
    const told = Date.parse(response.headers.get("Date") ?? "");
    if (Number.isFinite(told)) this.#learnTime(told);
    const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
    // Every success of the API is JSON: this one is of a proxy, or the sign-in of a hotel's network.
    if (response.status === 200 && !isJson) throw new Unreachable();
    const body = isJson ? await response.json() : null;
    return { status: response.status, headers: response.headers, body };
  }

  /** The header has whole seconds: only a clock that is really wrong is corrected. */
  #learnTime(told) {
    const skew = told - Date.now();
    this.#skew = Math.abs(skew) > 2000 ? skew : 0;
  }
}

/** What a problem document says, or `otherwise`. */
export function detailOf(answer, otherwise) {
  return answer.body?.detail ?? otherwise;
}

/** Whether a browser sends this body in a request that outlives the page (`keepalive`). */
export function canOutlive(body) {
  return new Blob([JSON.stringify(body)]).size < OUTLIVING_MAX_BYTES;
}

/** Seconds that the server asks to wait, 0 where it does not. */
export function retryAfterSeconds(answer) {
  const seconds = Number(answer?.headers.get("Retry-After"));
  return Number.isFinite(seconds) ? seconds : 0;
}

/** For `Idempotency-Key`: `crypto.randomUUID` is missing where there is no TLS. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
