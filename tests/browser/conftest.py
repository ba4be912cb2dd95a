"""What the browser tests share: one hospital and one Chromium per test file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from chromium import chromium, sign_in, tab
from hospital import PASSWORD, Hospital, open_hospital
from playwright.sync_api import Browser, Page, expect

# Waiting costs only where a test fails; the machine may be busy with others.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A running Hilum with two registered patients of one family name."""
    with open_hospital(tmp_path_factory.mktemp("hospital") / "home") as opened:
        opened.register("40021873", "Holloway", "Nadia Ruth", date(1958, 7, 2))
        opened.register("88120", "Holloway", "Nadja", date(1983, 2, 17))
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture
def reader(hospital: Hospital, browser: Browser) -> Iterator[Page]:
    """A tab in which a radiologist is signed in."""
    with tab(browser, hospital.root, color_scheme="dark") as page:
        sign_in(page, "feng", PASSWORD)
        yield page
