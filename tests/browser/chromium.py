"""How Chromium is started: without a screen, and without speaking to anybody by itself."""

from typing import Final

ARGUMENTS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
