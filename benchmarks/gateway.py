"""P3: what a gateway asks on every request, beside other ways to let a caller in."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import wrk
from benchmarks.apart import apart
from benchmarks.measure import Figure, Options, Result, Target, in_turns, ratio
from benchmarks.served import FORWARDED, OURS, environment, served
from benchmarks.site import site

CONNECTIONS = 8
PLAIN, REST = "plain view, JWT + GET", "REST view, JWTAuthentication"
VALIDATE, DEFAULT, NONE = "our validate/", "default middleware", "no middleware"
# More than a process remembers: each is read as if it came for the first time.
TOKENS = 4_500
NEW = f"{VALIDATE}, each of {TOKENS:,} tokens in turn"
# Where it is, in which project, and what wrk needs for it.
PEERS = {
    f"{PLAIN}, {DEFAULT}": ("plain/", DEFAULT, ""),
    f"{PLAIN}, {NONE}": ("plain/", NONE, ""),
    f"{REST}, {DEFAULT}": ("rest/", DEFAULT, ""),
    f"{REST}, {NONE}": ("rest/", NONE, ""),
    f"TokenVerifyView, blacklist, {DEFAULT}": ("verify/", DEFAULT, "verify.lua"),
}
ON_REQUESTS = (
    f"wrk with {CONNECTIONS} connections; granian with one worker and otherwise the options of "
    "`make run`, no access log. All sides are sent the same token, signed with the same key "
    "(HS256), but where it says otherwise: ours remembers which it has verified. Ours looks up the "
    "session: one that was ended is refused at once. simplejwt's JWTAuthentication reads the "
    "user's row and would let it in until it expires; TokenVerifyView asks whether the token is on "
    "the blacklist, and reads no user. Ours runs with the product's whole middleware; the default "
    "one is that of `startproject`."
)


def figures(options: Options) -> Iterator[Result]:
    """P3."""
    if not wrk.is_there():
        print(f"P3 is left out: {wrk.WHY_NOT}.")
        return
    with site() as folder:
        yield _figure(options, folder)


def _figure(options: Options, folder: Path) -> Figure:
    from auth_sessions import services
    from auth_sessions.models import User

    _, tokens = services.open_session(User.objects.create_user("gateway"))
    many = folder / "tokens"
    many.write_text("\n".join(_tokens(options.scaled(TOKENS, short=50))))
    headers = {"Authorization": f"Bearer {tokens.access}", **FORWARDED}
    settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings"}
    with apart("benchmarks.peers.checks:ready", tokens.access, times=1, **settings):
        pass  # it has looked
    asked = partial(
        wrk.requests_a_second,
        connections=CONNECTIONS,
        seconds=options.scaled(3, short=1),
        headers=headers,
    )
    with ExitStack() as stack:
        ours = served(OURS, workers=1, **environment(folder))
        url = stack.enter_context(ours)
        validate = f"{url}/api/v1/auth/validate/"
        sides = {
            VALIDATE: partial(asked, validate),
            NEW: partial(asked, validate, script="many.lua", arguments=[str(many)]),
        }
        projects = {}
        for peer in (DEFAULT, NONE):
            other = served("benchmarks.peers.wsgi:application", workers=1, PEER=peer, **settings)
            projects[peer] = stack.enter_context(other)
        for name, (path, peer, script) in PEERS.items():
            sides[name] = partial(asked, f"{projects[peer]}/{path}", script=script)
        taken = in_turns(sides, rounds=options.rounds)
    wanted = {
        f"{REST}, {DEFAULT}": 2.5,
        f"{REST}, {NONE}": None,
        f"{PLAIN}, {DEFAULT}": 0.9,
        f"{PLAIN}, {NONE}": None,
        f"TokenVerifyView, blacklist, {DEFAULT}": None,
    }
    targets = [
        Target(f"requests/s, of the {name}", ratio(taken[VALIDATE], taken[name]), at_least=least)
        for name, least in wanted.items()
    ]
    targets.append(
        Target(
            "requests/s of new tokens, of those of a known one", ratio(taken[NEW], taken[VALIDATE])
        )
    )
    title = "Validate a token over HTTP, one worker"
    return Figure("P3", title, "requests/s", taken, targets, [ON_REQUESTS], [NEW])


def _tokens(count: int) -> list[str]:
    """Of so many users."""
    from auth_sessions import services
    from auth_sessions.models import User

    users = [User(username=f"visitor{n}", password="!") for n in range(count)]
    made = User.objects.bulk_create(users)
    return [services.open_session(user)[1].access for user in made]
