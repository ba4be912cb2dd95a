"""The documentation says what is: links resolve, generated pages are current, and named tests exist."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from hilum.core.event import EventName
from hilum.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
TEST_FILE = re.compile(r"tests/[\w/]+\.py")
# Hosts of package registries and of repositories: files name packages, never where they come from.
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|golang|rubygems|crates)\.(?:org|com|io)\b", re.IGNORECASE)
TEXTS = [
    *PAGES,
    *(ROOT / name for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", ".gitignore")),
    *sorted((ROOT / "scripts").iterdir()),
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are commonly made: lower case, spaces as dashes."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        aim = (page.parent / file).resolve() if file else page
        if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in anchors(aim)):
            broken.append(target)
    assert not broken, f"{named(page)} links to nothing: {broken}"


@pytest.mark.parametrize("file", [text for text in TEXTS if text.is_file()], ids=named)
def test_no_file_names_a_package_registry(file: Path) -> None:
    assert not REGISTRY.findall(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    absent = sorted(
        {name for name in TEST_FILE.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()}
    )
    assert not absent, f"{named(page)} names tests that do not exist: {', '.join(absent)}"


def test_every_hazard_names_its_control_and_its_test() -> None:
    rows = re.findall(r"^\| (\d+) \|(.+)\|$", (ROOT / "docs/hazards.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(int(number) for number, _ in rows) == list(range(1, len(rows) + 1))
    for number, row in rows:
        hazard, cause, severity, control, test = (cell.strip() for cell in row.split(" | "))
        assert hazard and cause and control, f"hazard {number} is incomplete"
        assert severity in ("S1", "S2", "S3"), f"hazard {number} has no severity"
        assert TEST_FILE.fullmatch(test), f"hazard {number} names no test"


def declared() -> tuple[set[str], set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [project["dependencies"], project["optional-dependencies"]["dev"]]
    runtime, development = ({re.split(r"[\[<>=~! ]", need)[0] for need in part} for part in needs)
    return runtime, development


def explained(heading: str) -> dict[str, str]:
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    part = re.split(r"^## ", page.split(f"\n## {heading}")[1], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", part, re.MULTILINE))


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    runtime, development = declared()
    assert set(explained("Runtime")) == runtime
    assert set(explained("Development")) == development
    assert all(len(reason) > 10 for reason in (explained("Runtime") | explained("Development")).values())


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    names = {re.split(r"[=<>]", line)[0] for line in pins.splitlines() if line and not line.startswith("#")}
    runtime, development = declared()
    assert {name.lower().replace("_", "-") for name in runtime | development} <= names


def configuration_page() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/configuration_page.py"))


def test_the_configuration_page_is_current() -> None:
    page = configuration_page()["page"]()
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == page, "run: make docs"


@pytest.mark.parametrize("name", ["conformance-dicom.md", "conformance-dicomweb.md"])
def test_the_conformance_statements_are_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    pages = runpy.run_path(str(ROOT / "scripts/conformance_page.py"))["pages"]()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages[name], "run: make docs"


def test_every_event_is_explained() -> None:
    assert set(configuration_page()["EVENTS"]) == set(EventName)


def settings_without_a_word(model: Any, path: str = "") -> list[str]:
    found = []
    for name, info in model.model_fields.items():
        if path and not info.description:
            found.append(f"{path}.{name}")
        inner = [info.annotation, *getattr(info.annotation, "__args__", ())]
        for part in inner:
            if hasattr(part, "model_fields"):
                found += settings_without_a_word(part, f"{path}.{name}".lstrip("."))
    return found


def test_every_setting_is_explained() -> None:
    assert settings_without_a_word(Settings) == []


def keys_of(model: Any) -> set[str]:
    found = set()
    for name, info in model.model_fields.items():
        parts = [part for part in [info.annotation, *get_args(info.annotation)] if hasattr(part, "model_fields")]
        found |= {key for part in parts for key in keys_of(part)} or {name}
    return found


def test_every_setting_is_read_by_the_program() -> None:
    sources = [file for file in (ROOT / "src/hilum").rglob("*.py") if "settings" not in file.parts]
    code = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    # What the sections themselves turn into something else.
    derived = {
        "bind": "listen",
        "public_url": "base_url",
        "quiet_seconds": "least_quiet",
        "quiet_seconds_of": "quiet_of",
    }
    derived |= dict.fromkeys(("access_key", "access_key_file", "secret_key", "secret_key_file"), "credentials")
    unread = [
        key for key in sorted(keys_of(Settings) - {"home"}) if not re.search(rf"\.{derived.get(key, key)}\b", code)
    ]
    assert not unread, f"nothing reads these settings: {', '.join(unread)}"
