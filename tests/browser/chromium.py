"""One Chromium per test process, and what every page has to keep: no complaint in the console, no barrier by axe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

EXECUTABLE = os.environ.get("HILUM_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe-4.10.3.min.js"
PICTURES = Path("artefacts/browser")
# What browser and htmx print of a refused request; a page's own complaint never looks like this.
EXPECTED = ("Failed to load resource", "Response Status Error Code 401")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@contextmanager
def chromium(flags: Sequence[str] = FLAGS) -> Iterator[Browser]:
    """A browser without a screen."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=EXECUTABLE, args=list(flags))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, root: str, **options: Any) -> Iterator[Page]:
    """A tab with nothing remembered; what its console complains of fails the test."""
    context = browser.new_context(base_url=root, viewport={"width": 1280, "height": 800}, **options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda line: (
            complaints.append(line.text)
            if line.type in ("error", "warning") and not line.text.startswith(EXPECTED)
            else None
        ),
    )
    try:
        yield page
        assert complaints == [], complaints
    finally:
        context.close()


def sign_in(page: Page, name: str, password: str) -> None:
    """Sign in as a person does."""
    page.goto("/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not url.endswith("/auth/login"))


def barriers(page: Page) -> list[str]:
    """What axe-core holds against a page: rule and place."""
    # The page's own policy forbids foreign scripts, so this one comes in by the debugger.
    page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    result = page.evaluate("rules => axe.run(document, rules)", RULES)
    return [
        f"{found['id']}: {node['target']} {node.get('failureSummary', '')}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


def picture(page: Page, name: str) -> None:
    """Keep what the page looks like."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
