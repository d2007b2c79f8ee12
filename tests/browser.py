"""A real browser for the pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install it: apt-get install chromium")
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds. The pages allow no evaluation of strings, so Playwright's own waiting cannot be used."""
    end = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(20)


@contextmanager
def opened(file: Path, dark: bool = False, width: int = 1200) -> Iterator[Any]:
    """A page from disk; what it complains of in the console fails the test when the block ends."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(_OPTIONS))
        page = browser.new_page(color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900})
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(file.resolve().as_uri())
        yield page
        browser.close()
    assert complaints == []
