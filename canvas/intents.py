"""What BEEP can do with the canvas: the plans (canvas/plans.py) on the newest layout, and reports.

Lists are written as BEEP reads them back ("1. Notes, 2. Ledger"), so that "the second one" means
something afterwards.
"""

from typing import Final

from django.conf import settings

from aevon import intents
from aevon.intents import Deed, Done, IntentRefused, Window, enumerated
from canvas import catalogue, naming, plans, services
from canvas.documents import CanvasDocument
from canvas.layout import Change, inverse
from canvas.plans import Arguments, Planner

RESTORE: Final = "canvas.restore"
PLANNERS: Final[dict[str, Planner]] = {
    "canvas.open": plans.plan_open,
    "canvas.close": plans.plan_close,
    "canvas.move": plans.plan_move,
    "canvas.resize": plans.plan_resize,
    "canvas.front": plans.plan_front,
    "canvas.back": plans.plan_back,
    "canvas.tile": plans.plan_tile,
    "canvas.tidy": plans.plan_tidy,
    RESTORE: plans.plan_restore,
}


def connect() -> None:
    """Register the handlers, and what can be opened."""
    for intent, planner in PLANNERS.items():
        intents.register(intent, _handler(planner))
    intents.register("canvas.list", list_windows)
    intents.register("canvas.unsaved", tell_unsaved)
    intents.offer("microApps", catalogue.APPS)
    intents.show_windows(lambda user_id: services.looking(user_id).then(windows_of))


def _handler(planner: Planner) -> intents.Handler:
    """Carries out what the planner makes of the newest layout; raises `IntentRefused`."""

    def handle(user_id: int, arguments: Arguments) -> Done:
        done = Done("")

        # It may be asked again, of a newer layout: the last time counts.
        def plan(document: CanvasDocument) -> Change:
            nonlocal done
            apps = document.layout["microApps"]
            patch, answer = planner(apps, arguments)
            done = Done(answer, Deed(RESTORE, {"microApps": inverse(apps, patch)}))
            return {"patch": {"microApps": patch}}

        try:
            services.change_by(user_id, plan)
        except services.InvalidLayout:
            raise IntentRefused("That does not fit on the canvas.") from None
        except services.Contended:
            raise IntentRefused("Your canvas is changing too fast. Please try again.") from None
        return done

    return handle


def windows_of(document: CanvasDocument) -> tuple[Window, ...]:
    """What is open, the front one first, each by the name that means it alone."""
    return naming.windows(document.layout["microApps"])


def list_windows(user_id: int, _: Arguments) -> Done:
    """What is open, the front one first."""
    names = naming.labels(services.live(user_id).layout["microApps"])
    return Done(f"Open: {enumerated(names)}." if names else "Nothing is open.")


def tell_unsaved(user_id: int, _: Arguments) -> Done:
    """How far the ledger, which is PostgreSQL, is behind the live layout."""
    document = services.live(user_id)
    if document.incarnation is None:
        return Done(
            "The cache is away. Changes go straight into the ledger meanwhile; what was not yet in "
            "it before follows when the cache is back."
        )
    count = document.revision - document.persisted_revision
    if count <= 0:
        return Done("Everything is in the ledger.")
    changes = "1 change is" if count == 1 else f"{count} changes are"
    return Done(f"{changes} not yet in the ledger; the next flush is within {_period()}.")


def _period() -> str:
    seconds = settings.CANVAS_PERSIST_SECONDS
    number, unit = (seconds // 60, "minute") if seconds % 60 == 0 else (seconds, "second")
    return f"1 {unit}" if number == 1 else f"{number} {unit}s"
