"""What the four patterns cost beside the bare calls they are made of.

Prints a table: medians over rounds in which the sides take turns, and their ratio. The ratio is
the figure; the milliseconds belong to this machine. Starts servers of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.site import medians, seconds, site

ROUNDS = 9
CALLS = 200


def compared(ours: Callable[[], Any], bare: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of both sides."""
    sides = {
        "ours": partial(seconds, ours, times=CALLS),
        "bare": partial(seconds, bare, times=CALLS),
    }
    taken = medians(sides, rounds=ROUNDS)
    return taken["ours"] * 1000, taken["bare"] * 1000


def cases() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Each pattern and what it stands beside."""
    import msgspec
    from django.db import connection

    from aevon.cache import bounded_list
    from aevon.cache.connection import store
    from auth_sessions.models import User
    from beep import services as beep
    from beep.documents import TurnDocument
    from beep.projection import CONVO
    from canvas import services as canvas
    from klepsydra import services as klepsydra
    from klepsydra.documents import PsycheDocument
    from klepsydra.models import PsycheState

    user = User.objects.create_user("bench")
    uid, client = user.pk, store().client
    klepsydra.psyche(uid)
    beep.command(uid, "help")
    app = {
        "type": "note",
        "title": "n",
        "position": {"x": 1, "y": 2},
        "size": {"width": 100, "height": 100},
        "zIndex": 1,
    }
    patch = {"patch": {"microApps": {"a": app}}}
    canvas.change(uid, patch)
    decoder = msgspec.json.Decoder(PsycheDocument)
    turn_decoder = msgspec.json.Decoder(TurnDocument)
    psyche, convo, live = f"psyche:{uid}", f"convo_history:{uid}", f"canvas:{uid}"
    update = "UPDATE klepsydra_psychestate SET loss_streak = loss_streak WHERE user_id = %s"

    def bare_play() -> None:
        raw = client.get(psyche)
        decoder.decode(raw)
        with connection.cursor() as cursor:
            cursor.execute(update, [uid])
        client.set(psyche, raw, px=86_400_000)

    def bare_patch() -> None:
        raw = client.get(live)
        pipeline = client.pipeline(transaction=False)
        pipeline.set(live, raw)
        pipeline.zadd("canvas:dirty:bench", {str(uid): 1}, gt=True)
        pipeline.execute()

    return {
        "load, hit / redis-py GET + decode": (
            lambda: PsycheState.cached.get(uid),
            lambda: decoder.decode(client.get(psyche)),
        ),
        "load, hit / ORM get": (
            lambda: PsycheState.cached.get(uid),
            lambda: PsycheState.objects.get(pk=uid),
        ),
        "read the last five turns / LRANGE + decode": (
            lambda: bounded_list.read(CONVO, uid),
            lambda: [turn_decoder.decode(raw) for raw in client.lrange(convo, 0, -1)],
        ),
        "canvas patch / GET, SET and ZADD": (lambda: canvas.change(uid, patch), bare_patch),
        "interaction / GET, UPDATE, SET": (
            lambda: klepsydra.play(uid, "spinforge", 1),
            bare_play,
        ),
    }


def main() -> None:
    """Run and print."""
    with site():
        table = Table("pattern / bare calls", "ours ms", "bare ms", "ratio")
        for name, (ours, bare) in cases().items():
            a, b = compared(ours, bare)
            table.add_row(name, f"{a:.3f}", f"{b:.3f}", f"{a / b:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
