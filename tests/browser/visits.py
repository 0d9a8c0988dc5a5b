"""One browser's visit to the page, and what a person can see and do there."""

from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from .people import Person

# What a browser says by itself about answers that tests ask for: nobody was signed in, a patch was
# refused, the network was switched off.
EXPECTED = (
    *("400 (Bad Request)", "401 (Unauthorized)", "403 (Forbidden)", "412 (Precondition Failed)"),
    *("503 (Service Unavailable)", "429 (Too Many Requests)"),
    *("net::ERR_INTERNET_DISCONNECTED", "net::ERR_CONNECTION_RESET"),
)


def is_expected(text: str) -> bool:
    """Whether a line of the console is no trouble."""
    return text.startswith("Failed to load resource") and any(each in text for each in EXPECTED)


@dataclass
class Visit:
    """A tab. `troubles` collects whatever may not happen: errors, refusals, foreign requests."""

    context: BrowserContext
    page: Page
    person: Person
    troubles: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(f"{error}\n{error.stack}"))
        self.page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not is_expected(message.text):
            self.troubles.append(message.text)

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((f"{self.person.url}/", "data:", "blob:")):
            self.troubles.append(f"asked {request.url}")

    def open(self) -> "Visit":
        """Go to the page."""
        self.page.goto(f"{self.person.url}/")
        return self

    def sign_in(self, password: str = "") -> "Visit":
        """Fill in the form, as a person does."""
        self.page.get_by_label("Name").fill(self.person.username)
        self.page.get_by_label("Password").fill(password or self.person.password)
        self.page.get_by_role("button", name="Sign in").click()
        return self

    def come_back(self) -> "Visit":
        """Arrive with the cookie of an earlier sign-in, as after a reload."""
        login = {"username": self.person.username, "password": self.person.password}
        answer = self.context.request.post(
            f"{self.person.url}/api/v1/auth/browser/", data=login, headers={"X-Aevon-Page": "1"}
        )
        assert answer.ok, answer.text()
        return self.open()

    def window(self, title: str) -> Locator:
        """A window by its title."""
        return self.page.get_by_role("group", name=title, exact=True)

    def grip(self, title: str) -> Locator:
        """What one drags a window by."""
        return self.window(title).locator(".grip")

    @property
    def line(self) -> Locator:
        """BEEP's line."""
        return self.page.get_by_label("Tell BEEP what to do")

    @property
    def status(self) -> Locator:
        """The words beside the dot."""
        return self.page.locator(".status-words")

    def tell(self, text: str) -> None:
        """Give BEEP a command and wait for the answer."""
        self.line.fill(text)
        self.line.press("Enter")
        expect(self.page.locator(".turns .said").last).to_have_text(text)
        expect(self.page.locator(".turns .answer").last).not_to_have_text("…")

    def launch(self, name: str) -> None:
        """Open a Micro-App from the launcher."""
        self.page.get_by_role("button", name="Apps").click()
        self.page.get_by_role("menuitem", name=name, exact=True).click()

    def rect(self, title: str) -> dict[str, int]:
        """Where a window is, counted from the canvas's corner."""
        self.still(title)
        box = self.window(title).bounding_box()
        ground = self.page.locator("#canvas").bounding_box()
        assert box
        assert ground
        return {
            "x": round(box["x"] - ground["x"]),
            "y": round(box["y"] - ground["y"]),
            "width": round(box["width"]),
            "height": round(box["height"]),
        }

    def still(self, title: str) -> None:
        """Wait until a window neither opens nor glides any more."""
        self.window(title).evaluate(
            "element => new Promise(done => requestAnimationFrame(() => Promise.all("
            "element.getAnimations().map(each => each.finished)).then(done, done)))"
        )

    def drag(self, target: Locator, dx: int, dy: int, *, steps: int = 8, drop: bool = True) -> None:
        """Press, move, and let go."""
        box = target.bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + dx, y + dy, steps=steps)
        if drop:
            self.page.mouse.up()

    def look(self) -> None:
        """Come back to the tab, so that it asks at once what is new."""
        self.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")

    def hold_back(self) -> None:
        """A network so slow that nothing sent in the ordinary way arrives before the page goes."""
        self.page.evaluate(
            """() => { const real = fetch; window.fetch = (url, options) =>
            options.method === "GET" || options.keepalive ? real(url, options)
            : new Promise(() => {}); }"""
        )

    def settled(self) -> None:
        """Wait until the server has acknowledged everything; what was just done is drawn first."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        expect(self.page.locator(".window.waiting")).to_have_count(0)

    def sent(self, method: str, path: str) -> list[Request]:
        """The requests of this tab to a path of the API."""
        url = f"{self.person.url}/api/v1{path}"
        return [each for each in self.requests if (each.method, each.url) == (method, url)]


def stored_rect(window: dict[str, Any]) -> dict[str, int]:
    """Position and size as the server has them, in one."""
    return {**window["position"], **window["size"]}
