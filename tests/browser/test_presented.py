"""A structured report and an ECG as a browser shows them: no barrier that axe-core knows of, kept as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from chromium import PICTURES, barriers, chromium
from playwright.sync_api import Browser, Page

from fixtures.dicom_files import packaged
from fixtures.dicomweb_server import Archive, open_archive, path_of
from hilum.storage.store import Store

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the file."""
    with chromium() as started:
        yield started


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def opened(browser: Browser, archive: Archive, name: str, who: str, colours: str = "light") -> Page:
    """What a browser shows of one of pydicom's files."""
    archive.keep(packaged(name).read_bytes())
    context = browser.new_context(
        extra_http_headers={"X-Asker": who}, color_scheme=colours, viewport={"width": 1150, "height": 900},  # type: ignore[arg-type]
    )  # fmt: skip
    page = context.new_page()
    page.goto(f"{archive.dicomweb}{path_of(pydicom.dcmread(packaged(name)))}/rendered")
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"rendered-{name.removesuffix('.dcm')}-{who}-{colours}.png")
    return page


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_report_is_read_without_a_barrier(browser: Browser, archive: Archive, colours: str) -> None:
    page = opened(browser, archive, "test-SR.dcm", "radiologist", colours)
    assert page.get_by_role("heading", name="Diagnosis").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).fontSize") == "24px", "its own style is let in"
    assert barriers(page) == []


def test_an_ecg_is_drawn_as_wide_as_it_is_on_paper(browser: Browser, archive: Archive) -> None:
    page = opened(browser, archive, "waveform_ecg.dcm", "radiologist")
    box = page.locator("svg").bounding_box()
    assert box is not None and box["width"] == pytest.approx(276 / 25.4 * 96, abs=1), "96 pixels of a page are an inch"
    assert page.get_by_text("aVR", exact=True).is_visible()


@pytest.mark.parametrize("name", ["test-SR.dcm", "waveform_ecg.dcm"])
def test_who_may_not_see_images_sees_neither(browser: Browser, archive: Archive, name: str) -> None:
    page = opened(browser, archive, name, "auditor")
    assert "Diagnosis" not in page.content() and "aVR" not in page.content()
