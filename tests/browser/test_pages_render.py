"""Every page renders, escapes what it is given, and obeys the policy that forbids inline code and style."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from urllib.error import HTTPError
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import pytest
from preview import serving
from sample_orders import FIRST, SECOND, chain_until, order_page
from sample_pages import FRAGMENTS, PAGES
from sample_worklist import FRAME, HREF, NOW, UNVERIFIED, worklist_page

from hilum.web import times
from hilum.web.assets import load_assets
from hilum.web.differences import section_changes, text_changes
from hilum.web.headers import CONTENT_SECURITY_POLICY
from hilum.web.models import ChainUpdate, Patient, ReportUpdate
from hilum.web.timeline import draw
from hilum.web.view import View

VIEW = View(ZoneInfo("America/Chicago"), lambda: NOW)
EVERYTHING = PAGES | FRAGMENTS
HOSTILE = "\"><img src=x onerror=alert(1)>'</script>"


class Policed(HTMLParser):
    """Collects what the content security policy would block."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.blocked: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.blocked += [f"{tag} {name}" for name in names if name == "style" or re.match(r"on|hx-on", name)]
        if tag == "style" or (tag == "script" and "src" not in names and names.get("type") != "application/json"):
            self.blocked.append(tag)
        self.ids += [names["id"]] if names.get("id") else []


@pytest.mark.parametrize("name", EVERYTHING)
def test_page_has_no_inline_code_and_no_id_twice(name: str) -> None:
    page = Policed(VIEW.render(*EVERYTHING[name]))
    assert page.blocked == []
    assert len(page.ids) == len(set(page.ids))
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_hostile_names_stay_text_on_every_page_that_shows_them() -> None:
    patient = Patient(HOSTILE, HOSTILE, HOSTILE, date(1990, 1, 1), HOSTILE)
    model = order_page(patient=patient, identity=replace(UNVERIFIED, reason=HOSTILE))
    viewer = replace(model.viewer, watermark=HOSTILE, series=(replace(model.viewer.series[0], description=HOSTILE),))
    row = replace(worklist_page().rows[0], patient=patient, procedure=HOSTILE)
    for html in (
        VIEW.render("order.html", replace(model, viewer=viewer)),
        VIEW.render("worklist.html", worklist_page(rows=(row,))),
    ):
        assert "<img src=x" not in html
        assert HOSTILE not in html


def test_unverified_images_carry_band_watermark_and_a_box_to_tick_before_signing() -> None:
    order = VIEW.render(*PAGES["order-unverified"])
    assert 'class="band" role="alert"' in order
    assert 'class="watermark"' in order
    assert "data-identity-checked" in VIEW.render(*PAGES["editor-correction"])
    assert "data-identity-checked" not in VIEW.render(*PAGES["editor"])


def test_missing_link_is_red_and_says_what_is_missing() -> None:
    html = VIEW.render(*PAGES["order-unverified"])
    assert 'class="station station-missing"' in html
    assert "No MPPS from CT01, 3 h after images" in html


def test_times_are_shown_in_the_facility_zone() -> None:
    html = VIEW.render(*PAGES["worklist"])
    assert "08:47:20" in html
    assert "13:47:20" not in re.sub(r'datetime="[^"]*"', "", html)


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        times.clock(datetime(2026, 1, 1), ZoneInfo("UTC"))


def test_open_order_page_gets_chain_and_banner_in_one_answer() -> None:
    page = order_page()
    update = ChainUpdate(HREF, page.patient, UNVERIFIED, page.order, page.chain, 162)
    html = VIEW.render("chain_update.html", update)
    assert 'id="banner" hx-swap-oob="true"' in html
    assert 'data-images="162"' in html
    assert 'id="report"' in VIEW.render("report_panel.html", ReportUpdate(FRAME, HREF, page.report))


def test_durations_between_links_and_the_wait_for_the_next() -> None:
    drawing = draw(chain_until(8), NOW)
    texts = [stretch.text for stretch in drawing.stretches]
    assert texts == ["+6 min", "+18 s", "at once", "+31 min", "+7 min", "+18 min", "+2 h 45 min", "waiting 22 min", ""]
    assert drawing.stretches[7].state == "waiting"


def test_link_that_came_too_early_shows_a_negative_duration() -> None:
    chain = chain_until(8)
    early = tuple(replace(link, at=NOW - timedelta(hours=5)) if link.number == 7 else link for link in chain.links)
    stretch = draw(replace(chain, links=early), NOW).stretches[5]
    assert stretch.early
    assert stretch.text.startswith("−")


def test_duration_after_a_missing_link_counts_from_the_last_timed_one() -> None:
    stretches = draw(chain_until(7, {6: "No MPPS"}), NOW).stretches
    assert stretches[4].state == "missing"
    assert stretches[5].text == "+25 min"


@pytest.mark.parametrize(("before", "after"), [("", "new"), ("a b  c\n", "a x  c\n"), ("same", "same"), ("gone", "")])
def test_differences_give_back_both_texts(before: str, after: str) -> None:
    changes = text_changes(before, after)
    assert "".join(change.text for change in changes if change.kind != "added") == before
    assert "".join(change.text for change in changes if change.kind != "removed") == after


def test_correction_shows_exactly_the_changed_word() -> None:
    findings = section_changes(FIRST.sections, SECOND.sections)[0]
    changed = [(change.kind, change.text) for change in findings.changes if change.kind != "same"]
    assert changed == [("removed", "right"), ("added", "left")]


@pytest.mark.parametrize(
    ("born", "age"),
    [
        ("2026-03-01", "11 d"),
        ("2026-01-10", "8 wk"),
        ("2025-08-30", "6 mo"),
        ("1958-07-02", "67 y"),
        ("2026-04-01", ""),
    ],
)
def test_age_is_written_as_radiology_does(born: str, age: str) -> None:
    assert times.age_text(date.fromisoformat(born), date(2026, 3, 12)) == age


@pytest.mark.parametrize(
    ("days", "words"),
    [(1, "1 day ago"), (10, "10 days ago"), (20, "2 weeks ago"), (430, "14 months ago"), (2650, "7 years ago")],
)
def test_priors_are_dated_in_the_largest_fitting_unit(days: int, words: str) -> None:
    assert (
        times.ago_text(datetime(2026, 3, 12, tzinfo=UTC) - timedelta(days=days), datetime(2026, 3, 12, tzinfo=UTC))
        == words
    )


def test_assets_are_kept_for_ever_only_under_their_digest() -> None:
    url = load_assets().url("css/page.css")
    with serving() as root:
        assert "immutable" in urlopen(root + url).headers["cache-control"]
        assert urlopen(root + url.replace(load_assets().digest, "0" * 16)).headers["cache-control"] == "no-store"
        with pytest.raises(HTTPError, match="404"):
            urlopen(root + url.replace("page.css", "..%2f..%2fview.py"))


def test_scripts_import_only_files_that_exist() -> None:
    contents = load_assets().contents
    for path, content in contents.items():
        if not path.startswith("js/"):
            continue
        folder = path.rsplit("/", 1)[0]
        for target in re.findall(rb'from "(\.[^"]+)"', content):
            parts = folder.split("/")
            for step in target.decode().split("/"):
                parts = parts[:-1] if step == ".." else parts if step == "." else [*parts, step]
            assert "/".join(parts) in contents
