"""Scripts stored in every field that a person of the outside world can fill, shown by every page in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from besieged import MIB, PASSWORD, SCRIPTS, Besieged, full_size
from playwright.sync_api import Page, sync_playwright

from fixtures.department import AUTHORITY, Patient, accepted, next_numbers

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(400)]


# Attributes through which text could run.
LIVE = """() => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes].filter(a => a.name.startsWith('on')
    || (['src', 'href', 'action', 'formaction'].includes(a.name) && /^\\s*(javascript|data):/i.test(a.value)))
    .map(a => e.tagName + ' ' + a.name))"""


def escaped(text: str) -> str:
    """A text as data of a message."""
    return (
        text.replace("\\", "\\E\\")
        .replace("|", "\\F\\")
        .replace("^", "\\S\\")
        .replace("&", "\\T\\")
        .replace("~", "\\R\\")
    )


_poisoned: set[Path] = set()


@pytest.fixture
def poisoned(target: Besieged) -> Besieged:
    """Orders, images and reports with a script in each field, matched and not; filled in once."""
    department = target.department
    if department.home in _poisoned:
        return target
    _poisoned.add(department.home)
    for script in SCRIPTS:
        bad = escaped(script)
        patient = Patient(next_numbers(1)[0], bad, bad)
        answer = department.send(
            f"{department.header('ADT^A04')}\rEVN|A04|20260101\rPID|1||{patient.number}^^^{AUTHORITY}^MR||{bad}^{bad}^{bad}^{bad}^{bad}||19800101|F||{bad}|{bad}^{bad}|{bad}|{bad}\r"
            f"NK1|1|{bad}\rPV1|1|O|{bad}^{bad}|{bad}|||{bad}^{bad}^{bad}\r"
        )
        assert accepted(answer), answer
        order = (
            department.order_message(patient, f"P{patient.number}", procedure=f"CT^{bad}^L")
            .replace("cough", bad)
            .replace("D77^House^Gregory", f"D77^{bad}^{bad}")
        )
        answer = department.send(order.replace("|CT|||^^^", "|CT|||^^^"))
        assert accepted(answer), answer
        from fixtures.department import Placed, fields

        placed = Placed(patient, f"P{patient.number}", fields(answer, "ORC")[0][3].split("^")[0])
        item = department.worklist_item(placed.accession)
        assert item is not None
        placed.study_uid = str(item.StudyInstanceUID)
        plain = Patient(patient.number, script[:60], script[:60])
        images = [
            department.image(placed, patient=plain),
            department.image(Placed(Patient(next_numbers(1)[0], script[:60], "x"), "", script[:16]), number=2),
        ]
        for image in images:
            for keyword in (
                "StudyDescription",
                "SeriesDescription",
                "InstitutionName",
                "StationName",
                "BodyPartExamined",
                "ProtocolName",
                "ReferringPhysicianName",
                "StudyID",
                "PatientComments",
                "ImageComments",
                "Manufacturer",
                "OperatorsName",
                "ContrastBolusAgent",
            ):
                limit = 16 if keyword in ("StationName", "BodyPartExamined", "StudyID") else 60
                setattr(image, keyword, script[:limit])
        department.store(*images)
        reader = f"R1^{bad}^{bad}"
        assert accepted(department.dictate(placed, "P", bad, reader=reader))
        assert accepted(department.dictate(placed, "F", f"{bad}\\.br\\{bad}", reader=reader))
        assert accepted(department.dictate(placed, "C", f"{bad} {bad}", reader=reader))
        department.send(department.order_message(patient, bad))
        department.send(department.order_message(Patient(bad, bad, bad), f"Q{patient.number}"))
    return target


@pytest.fixture
def watched() -> Iterator[tuple[Page, list[str]]]:
    """A tab and what went wrong in it: dialogs, errors, breaches of the content security policy."""
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=os.environ.get("HILUM_CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        wrong: list[str] = []

        def dialog(opened: Any) -> None:
            wrong.append(f"dialog {opened.message}")
            opened.dismiss()

        page.on("dialog", dialog)
        page.on("pageerror", lambda error: wrong.append(f"error {error}"))
        page.on(
            "console",
            lambda line: (
                wrong.append(line.text) if "Content Security Policy" in line.text or "Refused to" in line.text else None
            ),
        )
        page.add_init_script(
            "window.breaches = []; document.addEventListener('securitypolicyviolation',"
            " e => window.breaches.push(e.violatedDirective + ' ' + e.blockedURI))"
        )
        yield page, wrong
        browser.close()


def visit(page: Page, where: str, wrong: list[str]) -> set[str]:
    """Look at a page, see that it holds no live script of a stranger, and return where it leads."""
    answer = page.goto(where, wait_until="domcontentloaded")
    assert answer is not None
    assert answer.status < 500, where
    assert "script-src 'self'" in answer.headers.get("content-security-policy", ""), where
    page.wait_for_timeout(100)
    assert page.evaluate("window.breaches") == [], where
    assert wrong == [], (where, wrong)
    live = page.evaluate(LIVE)
    assert live == [], where
    assert page.evaluate("document.querySelectorAll('img[src=\"x\"]').length") == 0
    assert page.evaluate("[...document.scripts].filter(s => !s.src && s.type !== 'application/json').length") == 0
    assert "49" not in page.evaluate("document.title")
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))")
    return {link for link in links if link.startswith(("/orders/", "/studies/", "/exceptions", "/?", "/reports/"))}


@pytest.mark.soak
def test_no_page_runs_what_is_stored(poisoned: Besieged, watched: tuple[Page, list[str]]) -> None:
    page, wrong = watched
    poisoned.allowed = 400 * MIB  # two rendering processes start for the thumbnails
    poisoned.person("reader")
    page.goto(f"{poisoned.http}/auth/login")
    page.get_by_label("User name").fill("reader")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/auth/login" not in url)
    links: set[str] = set()
    for start in ("/", "/?status=all", "/exceptions", "/?status=reported", "/?status=unverified"):
        links |= visit(page, poisoned.http + start, wrong)
    seen: set[str] = set()
    opened: dict[str, int] = {}
    for link in sorted(links, key=lambda each: (not each.startswith("/orders/"), each)):
        kind = link.split("/")[1].partition("?")[0]
        if opened.setdefault(kind, 0) < 5:
            opened[kind] += 1
            seen.add(link)
            visit(page, poisoned.http + link, wrong)
    assert any(link.startswith("/orders/") for link in seen)
    assert any(link.startswith("/studies/") for link in seen)
    for where in ("/audit", "/access/reviews", "/access/break-glass", "/auth/password"):
        page.goto(poisoned.http + where)
        assert wrong == [], where
    person = poisoned.person("reader")
    listed = person.get("/worklist/rows?status=all").text
    assert SCRIPTS[0] not in listed
    assert "&lt;img src=x onerror" in listed, "the poison is shown as text"
    order = next(link for link in seen if link.startswith("/orders/")).partition("?")[0]
    for number, script in enumerate(SCRIPTS):
        queries = (
            f"/?text={script}",
            f"/exceptions?kind={script}",
            f"{order}?beside={script}&done={script}",
            f"/viewer/launch?requestType={script}",
            f"/orders/{script.replace('/', '')}",
            f"/auth/login?next=/{script}",
        )
        # The first script, an image that fails to load, at each; the others each at some.
        for query in queries if full_size() or not number else queries[number - 1 :: 3]:
            page.goto(poisoned.http + query)
            page.wait_for_timeout(50)
            assert wrong == [], (query, wrong)
    started = person.post(f"{order}/report/start", {"kind": "correction"})
    if started.status_code == 303:
        visit(page, poisoned.http + started.headers["location"], wrong)
        editor = person.get(started.headers["location"]).text
        revision = editor.split('name="revision" value="')[1].split('"')[0]
        text = "".join(SCRIPTS) + "</textarea><script>alert(4)</script>"
        saved = person.post(
            started.headers["location"].replace("/edit", "/draft"),
            {"revision": revision, "section.findings": text, "section.impression": text, "reason": text[:80]},
        )
        assert saved.status_code == 200
        visit(page, poisoned.http + started.headers["location"], wrong)
        stale = person.post(
            started.headers["location"].replace("/edit", "/draft"),
            {"revision": "0", "section.findings": text + "x", "section.impression": text},
        )
        assert "<script>alert(4)" not in stale.text
    assert wrong == []


def test_json_of_the_doors_is_never_a_page(poisoned: Besieged) -> None:
    for path in (
        "/fhir/Patient",
        "/fhir/DiagnosticReport",
        "/fhir/ServiceRequest",
        "/fhir/ImagingStudy",
        "/dicom-web/studies?includefield=all",
        "/dicom-web/instances?includefield=all",
    ):
        answer = poisoned.ask("GET", path, "service", headers={"Accept": "*/*"})
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in ("application/fhir+json", "application/dicom+json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        asked = poisoned.ask("GET", path, "service", headers={"Accept": "text/html"})
        assert asked.status_code == 406
