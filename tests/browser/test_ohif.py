"""OHIF under /viewer/: who may see images sees them there, who may not does not, and nothing leaves the origin."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pydicom
import pytest
from chromium import chromium, picture, sign_in, tab
from hospital import AUTHORITY, NADIA, PASSWORD, SLICES, VANCE, Hospital, open_hospital
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydicom.data import get_testdata_file

from fixtures.stores import MODALITY
from hilum.core.order import Order
from hilum.settings import ViewerSettings
from hilum.web.ohif_files import installed
from hilum.workflow.source import Source

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(300),
    # `make test` installs it wherever npm is; there these tests fail without it.
    pytest.mark.skipif(
        shutil.which("npm") is None and installed(ViewerSettings()) is None,
        reason="OHIF comes by npm, which is not here",
    ),
]

# WebGL without a graphics card.
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 60_000
REFUSED = re.compile("Content Security Policy|Cross-Origin|ERR_BLOCKED|status of 404")
VIEWPORT = "[data-cy=viewport-grid]"
ROWS = "table tbody tr"
POSTING = """() => new Promise(done => {
    const request = new XMLHttpRequest();
    request.open("POST", location.origin + "/dicom-web/studies");
    request.setRequestHeader("Content-Type", 'multipart/related; type="application/dicom"; boundary=x');
    request.onload = () => done(request.status);
    request.send("--x--");
})"""
NADJA = {"PatientID": "88120", "PatientName": "Holloway^Nadja", "PatientBirthDate": "19830217"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium that draws in three dimensions."""
    with chromium(FLAGS) as started:
        yield started


@pytest.fixture(scope="module")
def order(hospital: Hospital) -> Order:
    """An order with a CT that lies in space, so that volumes can be made of it."""
    placed = hospital.place("40021873")
    for index in range(SLICES):
        position = [-180, -180, 3.0 * index]
        space = {"ImagePositionPatient": position, "PixelSpacing": [0.7, 0.7], "FrameOfReferenceUID": "1.2.840.99.7"}
        hospital.scan(placed, 1, index, **space, **NADIA)
    return placed


@pytest.fixture(scope="module")
def foreign(hospital: Hospital) -> Order:
    """An order of another physician for another patient, with images."""
    placed = hospital.place("88120", ordering_physician=VANCE)
    hospital.scan(placed, 2, **NADJA)
    return placed


@pytest.fixture
def person(hospital: Hospital, browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Sign someone in; what their tab asks of another origin, breaks or is refused by a policy fails the test."""
    contexts: list[BrowserContext] = []
    asked: list[str] = []
    complaints: list[str] = []

    def enter(name: str) -> Page:
        contexts.append(browser.new_context(base_url=hospital.root, viewport={"width": 1280, "height": 800}))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # OHIF talks much in the console; what counts is what our policies keep from it.
        page.on("console", lambda line: complaints.append(line.text) if REFUSED.search(line.text) else None)
        sign_in(page, name, PASSWORD)
        return page

    yield enter
    for context in contexts:
        context.close()
    own = urlsplit(hospital.root).netloc
    assert [url for url in asked if not url.startswith(("blob:", "data:")) and urlsplit(url).netloc != own] == []
    assert complaints == []


def store(hospital: Hospital, name: str) -> str:
    """Send one of pydicom's sample files as a scanner would; return its study."""
    file = Path(str(get_testdata_file(name, download=False)))
    source = Source("DICOM C-STORE", "US01")
    hospital.application.ingest.store_file(file.read_bytes(), source=source, actor=MODALITY, issuer=AUTHORITY)
    return str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)


def pixels(page: Page) -> np.ndarray:
    """What is on screen in the middle of the viewport, where no text lies."""
    box = page.locator(VIEWPORT).bounding_box()
    assert box
    width, height = box["width"] / 2, box["height"] / 2
    clip = {"x": box["x"] + width / 2, "y": box["y"] + height / 2, "width": width, "height": height}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("L"), float)


def shown(page: Page, before: np.ndarray | None = None) -> np.ndarray:
    """Wait until an image is there, and another one than before."""
    page.wait_for_selector(f"{VIEWPORT} canvas", timeout=SECONDS)
    for _ in range(SECONDS // 500):
        seen = pixels(page)
        if seen.std() > 10 and (before is None or np.abs(seen - before).mean() > 0.5):
            return seen
        page.wait_for_timeout(500)
    picture(page, "ohif-blank")
    raise AssertionError("OHIF shows no image")


def test_ct_is_drawn_and_scrolling_shows_another_slice(person: Callable[[str], Page], order: Order) -> None:
    page = person("feng")
    page.goto(f"/viewer/viewer?StudyInstanceUIDs={order.study_instance_uid}")
    first = shown(page)
    assert page.evaluate("crossOriginIsolated"), "no shared memory without isolation"
    expect(page.get_by_text("Holloway, Nadia Ruth")).to_be_visible()
    expect(page.get_by_text("Not for primary diagnosis")).to_be_visible()
    picture(page, "ohif-ct")
    page.locator(f"{VIEWPORT} canvas").first.hover()
    for _ in range(5):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(100)
    shown(page, before=first)
    picture(page, "ohif-ct-scrolled")


def test_three_planes_are_made_of_a_ct(person: Callable[[str], Page], order: Order) -> None:
    page = person("feng")
    page.goto(f"/viewer/viewer?StudyInstanceUIDs={order.study_instance_uid}&hangingProtocolId=mpr")
    shown(page)
    expect(page.locator(f"{VIEWPORT} canvas")).to_have_count(3, timeout=SECONDS)
    picture(page, "ohif-mpr")


@pytest.mark.full  # half a minute; the requests it makes are those of the others
def test_other_forms_of_images_and_an_ecg_are_drawn(hospital: Hospital, person: Callable[[str], Page]) -> None:
    """Palette colour, a moving ultrasound as JPEG, JPEG 2000, and a waveform, one after the other."""
    page = person("feng")
    for name in ("examples_palette", "examples_ybr_color", "MR_small_jp2klossless", "waveform_ecg"):
        study = store(hospital, f"{name}.dcm")
        page.goto(f"/viewer/viewer?StudyInstanceUIDs={study}")
        shown(page)
        picture(page, f"ohif-{name}")


def test_reader_finds_every_study_in_the_list_and_may_store(
    person: Callable[[str], Page], order: Order, foreign: Order
) -> None:
    page = person("feng")
    page.goto("/viewer/")
    expect(page.locator(ROWS).filter(has_text="Holloway, Nadia Ruth")).to_have_count(1, timeout=SECONDS)
    expect(page.locator(ROWS).filter(has_text="Holloway, Nadja")).to_have_count(1)
    picture(page, "ohif-list")
    # What it stores carries the session's token: an empty body is a mistake of the sender's, while without the token
    # nobody looks at it.
    with_token = page.evaluate(POSTING)
    without = page.request.post("/dicom-web/studies", data=b"--x--")
    assert (with_token, without.status) == (400, 401)


def test_referring_physician_finds_only_their_own(person: Callable[[str], Page], order: Order, foreign: Order) -> None:
    page = person("vance")
    page.goto("/viewer/")
    expect(page.locator(ROWS).filter(has_text="Holloway, Nadja")).to_have_count(1, timeout=SECONDS)
    expect(page.locator(ROWS).filter(has_text="Nadia Ruth")).to_have_count(0)
    answer = page.request.get(f"/dicom-web/studies/{order.study_instance_uid}/metadata")
    assert answer.status in (403, 404)


def test_launch_link_opens_ohif_where_it_is_asked_for(person: Callable[[str], Page], order: Order) -> None:
    page = person("feng")
    link = f"/viewer/launch?requestType=STUDY&accessionNumber={order.accession_number}"
    for wanted, place in (
        ("&viewer=ohif", f"/viewer/viewer?StudyInstanceUIDs={order.study_instance_uid}"),
        ("&viewer=small", f"/orders/{order.id}"),
        ("", f"/orders/{order.id}"),
    ):
        answer = page.request.get(link + wanted, max_redirects=0)
        assert (answer.status, answer.headers["location"]) == (303, place)
    assert page.request.get(link + "&viewer=other").status == 400


def test_order_page_and_worklist_lead_to_ohif(person: Callable[[str], Page], order: Order) -> None:
    page = person("feng")
    page.goto("/?status=all&text=Nadia")
    link = page.get_by_role("link", name="Open in OHIF").first
    assert order.accession_number in (link.get_attribute("href") or "")
    page.goto(f"/orders/{order.id}")
    page.get_by_role("link", name="Open in OHIF").wait_for()
    page.keyboard.press("o")
    page.wait_for_url("**/viewer/viewer?**", wait_until="commit")


def test_parts_are_kept_by_the_browser_and_the_configuration_is_not(person: Callable[[str], Page]) -> None:
    page = person("feng")
    start = page.request.get("/viewer/")
    script = next(word for word in start.text().split('"') if "/app.bundle." in word and word.endswith(".js"))
    bundle = page.request.get(script)
    assert bundle.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert bundle.headers["content-encoding"] == "gzip"
    assert '__webpack_require__.p = "/viewer/"' in bundle.text()
    again = page.request.get("/viewer/", headers={"If-None-Match": start.headers["etag"]})
    assert (start.headers["cache-control"], again.status) == ("private, no-cache", 304)
    assert page.request.get("/viewer/app-config.js").headers["cache-control"] == "no-store"
    assert page.request.get("/viewer/segmentation?StudyInstanceUIDs=1.2").text() == start.text()
    assert page.request.get("/viewer/no-such.js").status == 404
    assert page.request.get("/viewer/..%2f..%2fhilum.toml").status == 404
    assert page.request.get("/viewer/.installed").status == 404


def test_policy_of_the_page_names_this_origin_alone(person: Callable[[str], Page]) -> None:
    policy = person("feng").request.get("/viewer/").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self' blob: data:"
    assert "unsafe" not in rules["script-src"].replace("'wasm-unsafe-eval'", "")
    assert "http" not in policy


def test_stranger_signs_in_first_and_who_may_not_see_images_is_refused(
    hospital: Hospital, browser: Browser, person: Callable[[str], Page]
) -> None:
    with tab(browser, hospital.root) as stranger:
        stranger.goto("/viewer/viewer?StudyInstanceUIDs=1.2")
        assert urlsplit(stranger.url).path == "/auth/login"
        assert stranger.request.get("/viewer/app-config.js", headers={"Accept": "*/*"}).status == 401
    for path in ("/viewer/", "/viewer/app-config.js"):
        assert person("desk").request.get(path).status == 403


def test_without_ohif_everything_else_is_as_it_was(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HILUM_VIEWER__OHIF_FOLDER", str(tmp_path / "nothing"))
    monkeypatch.setenv("HILUM_VIEWER__DEFAULT", "ohif")
    with open_hospital(tmp_path / "home") as bare, tab(browser, bare.root) as page:
        bare.register("40021873", "Holloway", "Nadia Ruth", date(1958, 7, 2))
        placed = bare.place("40021873")
        bare.scan(placed, 1, **NADIA)
        sign_in(page, "feng", PASSWORD)
        assert page.request.get("/viewer/").status == 404
        page.goto(f"/viewer/launch?requestType=STUDY&accessionNumber={placed.accession_number}")
        assert urlsplit(page.url).path == f"/orders/{placed.id}"
        page.wait_for_selector("[data-stage][data-exact=true]")
        expect(page.get_by_role("link", name="Open in OHIF")).to_have_count(0)
