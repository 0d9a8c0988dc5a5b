"""The story of one user, step by step."""

import time
from typing import Any, Final

import httpx

from aevon.demo.story import CANVAS_ROW, PSYCHE_ROW, NotRunning, Story, manage, window

PATCHES: Final = 200
ROUNDS: Final = 10
COMMANDS: Final = (
    "open Notes",
    "open Ledger",
    "move it right by 40",
    "again",
    "what is open",
    "close the second one",
)


def log_in(story: Story, client: httpx.Client) -> int:
    """Step 1; the user's id."""
    story.step("1. Log in: the session is in Dragonfly, its lifetime is the token's")
    answer = client.post("/api/v1/auth/token/", json=story.run["demo"])
    story.check("the login succeeds", answer.status_code == 200, answer.text)
    if answer.status_code != 200:
        raise NotRunning("The demo user cannot log in; the rest of the story needs that.")
    tokens = answer.json()
    client.headers["Authorization"] = f"Bearer {tokens['access']}"
    query = "SELECT user_id FROM auth_sessions_session WHERE sid = %s AND ended_at IS NULL"
    user_id = int(story.row("session", query, tokens["sid"])["user_id"])
    document = story.held(f"session:{user_id}") or {}
    story.check("the document lists the session", tokens["sid"] in document.get("sessions", {}))
    ends = time.time() + story.cache.pttl(f"session:{user_id}") / 1000
    last = max(document["sessions"].values())
    story.check("the key ends with the last token (±1 s)", abs(ends - last) <= 1, ends - last)
    gateway = client.get("/api/v1/auth/validate/")
    story.check("a gateway gets 204", gateway.status_code == 204, gateway.status_code)
    story.check("and X-User-Id", gateway.headers.get("X-User-Id") == str(user_id))
    return user_id


def play(story: Story, client: httpx.Client, user_id: int) -> None:
    """Step 2."""
    story.step(f"2. Play {ROUNDS} rounds: written to PostgreSQL and Dragonfly at once")
    before = client.get("/api/v1/klepsydra/psyche/").json()["version"]
    instrument = client.get("/api/v1/klepsydra/instruments/").json()["instruments"][0]["slug"]
    for _ in range(ROUNDS):
        body = {"instrument": instrument, "stake": 1}
        answer = client.post("/api/v1/klepsydra/interactions/", json=body)
        if answer.status_code != 200:
            story.check("an interaction succeeds", False, answer.text)
    held = story.held(f"psyche:{user_id}") or {}
    row = story.row("psyche", PSYCHE_ROW, user_id)
    story.check(f"the version rose by exactly {ROUNDS}", row["version"] == before + ROUNDS, row)
    same = (held.get("version"), held.get("lossStreak")) == (row["version"], row["loss_streak"])
    story.check("the cache equals the row", same, (held, row))


# Whoever read or wrote one of these during the drag would wait for the lock, and time out.
LOCK: Final = """
LOCK TABLE canvas_canvas, auth_sessions_user, auth_sessions_session, auth_sessions_sessionanchor
IN ACCESS EXCLUSIVE MODE
"""


def drag(story: Story, client: httpx.Client, user_id: int) -> None:
    """Step 3."""
    story.step(f"3. Drag windows in {PATCHES} patches: Dragonfly takes them, no SQL")
    windows = {f"demo-{n}": window(n) for n in range(4)}
    answer = client.patch("/api/v1/canvas/", json={"microApps": windows})
    story.check("four windows are placed", answer.status_code == 200, answer.text)
    started = time.perf_counter()
    try:
        with story.database.transaction():
            story.database.execute(LOCK)
            for n in range(PATCHES):
                drag_once(story, client, n)
        waited = False
    except httpx.ReadTimeout:
        waited = True
    took = time.perf_counter() - started
    story.console.print(f"    {PATCHES} patches in {took:.2f} s", highlight=False)
    story.check("no SQL: none waited while the tables were locked", not waited)
    held = story.held(f"canvas:{user_id}") or {}
    story.row("canvas", CANVAS_ROW, user_id)
    story.check("Dragonfly has the last position", at_end(held), held)
    unexpiring = story.cache.ttl(f"canvas:{user_id}") == -1
    story.check("the key has no expiry while it is unsaved", unexpiring)


def drag_once(story: Story, client: httpx.Client, number: int) -> None:
    """One small adjustment, as a mouse makes sixty of them a second."""
    position = {"x": 10 + number, "y": 20 + number}
    patch = {"microApps": {f"demo-{number % 4}": {"position": position}}}
    answer = client.patch("/api/v1/canvas/", json=patch, timeout=5)
    if answer.status_code != 200:
        story.check("a patch succeeds", False, answer.text)


def at_end(document: dict[str, Any]) -> bool:
    """Whether the last dragged window is where the last patch put it."""
    window = document.get("layout", {}).get("microApps", {}).get(f"demo-{(PATCHES - 1) % 4}", {})
    return bool(window.get("position") == {"x": 10 + PATCHES - 1, "y": 20 + PATCHES - 1})


def flush(story: Story, user_id: int) -> None:
    """Step 4."""
    story.step("4. Let a flush run: the layout is in PostgreSQL")
    manage(story, "canvas_persist")
    held = story.held(f"canvas:{user_id}") or {}
    row = story.row("canvas", CANVAS_ROW, user_id)
    story.check("PostgreSQL has Dragonfly's revision", row.get("revision") == held.get("revision"))
    story.check("and its layout", row.get("layout") == held.get("layout"))
    story.check("the key now has an idle lifetime", story.cache.ttl(f"canvas:{user_id}") > 0)


def talk(story: Story, client: httpx.Client, user_id: int) -> None:
    """Step 5."""
    story.step(f"5. Tell BEEP {len(COMMANDS)} things: it remembers the last five")
    for text in COMMANDS:
        answer = client.post("/api/v1/beep/commands/", json={"text": text})
        told = answer.json().get("response", answer.text)
        answered = told.replace("\n", "\n      ")
        story.console.print(f"    › {text}\n      {answered}", markup=False, highlight=False)
        if answer.status_code != 200:
            story.check("a command succeeds", False, answer.text)
    held = story.held(f"convo_history:{user_id}") or []
    query = "SELECT max(seq) AS seq, count(*) AS turns FROM beep_turn WHERE user_id = %s"
    row = story.row("turns", query, user_id)
    newest = [row["seq"] - n for n in range(5)]
    story.check("the list holds the last five, newest first", [t["seq"] for t in held] == newest)
    story.check("in the order they were said", [t["command"] for t in held] == [*COMMANDS[:0:-1]])


def log_out(story: Story, client: httpx.Client, user_id: int) -> None:
    """Step 6."""
    story.step("6. Log out: the session is gone, the canvas is in PostgreSQL")
    live = client.get("/api/v1/canvas/").json()
    answer = client.post("/api/v1/auth/logout/", json={"everywhere": True})
    story.check("the logout succeeds", answer.status_code == 204, answer.text)
    held = story.held(f"session:{user_id}")
    row = story.row("canvas", CANVAS_ROW, user_id)
    # A key with nothing but the cache layer's own members says that there is no session.
    story.check("session key gone", not (held or {}).get("sessions"), held)
    story.check("the live layout is the row's", row.get("layout") == live.get("layout"))
    refused = client.get("/api/v1/canvas/").status_code
    story.check("the old token is refused", refused == 401, refused)


def tell(story: Story) -> None:
    """The whole story of one user."""
    with httpx.Client(base_url=story.url, timeout=30) as client:
        user_id = log_in(story, client)
        play(story, client, user_id)
        drag(story, client, user_id)
        flush(story, user_id)
        talk(story, client, user_id)
        log_out(story, client, user_id)
