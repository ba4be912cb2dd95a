"""A structured report as a page for people (PS3.3 C.17.3, C.18; PS3.18 10.4.1.1.3).

Everything of the document is escaped: nothing in it can be a tag, a script or a link. Links are made here alone, to
instances whose study and series the document's evidence names. Items that stand for observations become nested lists,
containers become sections with headings, codes are shown with their meaning and, behind it, value and scheme. What is
too much for a page is said to be left out.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import Any

from hilum.archive.metadata import items, person_name, text
from hilum.archive.walk import Attributes

MAX_ITEMS = 20_000
MAX_HEADING = 6
STYLE = """
body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#111;background:#fff}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.25rem}h3,h4,h5,h6{font-size:1.05rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;margin:.5rem 0 1rem}dt{font-weight:600}dd{margin:0}
ul{padding-left:1.25rem;margin:.25rem 0}.name{font-weight:600}.code,.relation{color:#555;font-size:.85em}
.text{white-space:pre-wrap}.note{border:2px solid #a15c00;padding:.5rem .75rem;background:#fff6e5}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}.code,.relation{color:#bbb}a{color:#8ab4ff}
.note{background:#3a2600}}
""".strip()
# The page needs nothing but its own style sheet, so a browser is told to take nothing else.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)
# PS3.3 C.17.3.2.4; what a container contains needs no word.
RELATIONS = {
    "HAS OBS CONTEXT": "context",
    "HAS ACQ CONTEXT": "acquisition",
    "HAS CONCEPT MOD": "modifier",
    "HAS PROPERTIES": "property",
    "INFERRED FROM": "inferred from",
    "SELECTED FROM": "selected from",
}
_LANGUAGE_OF_CONTENT = "121049"  # CID 5000, concept (121049, DCM)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,2}\Z")
_COMPLETION = {"COMPLETE": "complete", "PARTIAL": "partial"}
_VERIFICATION = {"VERIFIED": "verified", "UNVERIFIED": "not verified"}


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a document refers to; study and series are empty where its evidence does not name them."""

    sop_instance_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    frame: int = 0


# The address where a reference can be looked at; empty for none.
Link = Callable[[Reference], str]


@dataclass(slots=True)
class _Page:
    """What is known while a page is written."""

    link: Link
    base: str
    evidence: dict[str, tuple[str, str]]
    left: int
    omitted: int = 0


def report_page(attributes: Attributes, link: Link, notes: tuple[str, ...] = (), base: str = "") -> str:
    """The page of a document given as DICOM JSON; `notes` stand in front of it, as warnings of ours.

    `base` is the address of the instance, below which its bulk data is: texts too long for the index are linked.
    """
    page = _Page(link, base, dict(_evidence(attributes)), MAX_ITEMS)
    title = _concept(attributes) or "Structured report"
    body = "".join(_content(attributes, page, level=2, path="1"))
    if page.omitted:
        notes = (*notes, f"{page.omitted} more items of this document are not shown here.")
    language = _language(attributes)
    parts = [
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<style>{STYLE}</style></head><body><main>",
        *(f'<p class="note" role="note">{escape(note)}</p>' for note in notes),
        f'<h1 id="item-1">{escape(title)}</h1>',
        _description(attributes),
        body,
        "</main></body></html>\n",
    ]
    return "".join(parts)


def _language(attributes: Attributes) -> str:
    for item in items(attributes, "0040A730"):
        if text(next(items(item, "0040A043"), {}), "00080100") == _LANGUAGE_OF_CONTENT:
            language = text(next(items(item, "0040A168"), {}), "00080100")
            return language if _LANGUAGE.match(language) else "en"
    return "en"


def _evidence(attributes: Attributes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Where each instance of the evidence is (Current Requested Procedure and Pertinent Other Evidence)."""
    for sequence in ("0040A375", "0040A385", "0040A360"):
        for study in items(attributes, sequence):
            for series in items(study, "00081115"):
                for instance in items(series, "00081199"):
                    yield text(instance, "00081155"), (text(study, "0020000D"), text(series, "0020000E"))


def _description(attributes: Attributes) -> str:
    """Whose document it is, from when, and how far it may be relied on."""
    flags = (_COMPLETION.get(text(attributes, "0040A491")), _VERIFICATION.get(text(attributes, "0040A493")))
    known = {
        "Patient": _spoken(person_name(attributes, "00100010")),
        "Patient ID": text(attributes, "00100020"),
        "Born": _date(text(attributes, "00100030")),
        "Accession number": text(attributes, "00080050"),
        "Study": " ".join(part for part in (_date(text(attributes, "00080020")), text(attributes, "00081030")) if part),
        "Document": f"{_date(text(attributes, '00080023'))} {_time(text(attributes, '00080033'))}".strip(),
        "Document state": ", ".join(flag for flag in flags if flag),
        "Verified by": "; ".join(_observers(attributes)),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in known.items() if value)
    return f"<dl>{rows}</dl>"


def _observers(attributes: Attributes) -> Iterator[str]:
    for observer in items(attributes, "0040A073"):
        parts = (_spoken(person_name(observer, "0040A075")), text(observer, "0040A027"),
                 _date_time(text(observer, "0040A030")))  # fmt: skip
        yield ", ".join(part for part in parts if part)


def _content(attributes: Attributes, page: _Page, level: int, path: str) -> Iterator[str]:
    """The items below one, as a list."""
    below = list(items(attributes, "0040A730"))
    if not below:
        return
    yield "<ul>"
    for number, item in enumerate(below, 1):
        if page.left <= 0:
            page.omitted += 1
            continue
        page.left -= 1
        yield from _item(item, page, level, f"{path}.{number}")
    yield "</ul>"


def _item(item: Attributes, page: _Page, level: int, path: str) -> Iterator[str]:
    kind = text(item, "0040A040")
    name = _concept(item)
    yield f'<li id="item-{path}">'
    if kind == "CONTAINER" and name:
        heading = min(level, MAX_HEADING)
        yield f"<h{heading}>{escape(name)}</h{heading}>"
        yield from _content(item, page, level + 1, path)
    else:
        yield _relation(item)
        yield f'<span class="name">{escape(name)}:</span> ' if name else ""
        yield _value(kind, item, page)
        yield from _content(item, page, level, path)
    yield "</li>"


def _relation(item: Attributes) -> str:
    word = RELATIONS.get(text(item, "0040A010"), "")
    return f'<span class="relation">{word}</span> ' if word else ""


def _value(kind: str, item: Attributes, page: _Page) -> str:
    """The value of an item by its type (PS3.3 table C.17.3-7)."""
    if "0040DB73" in item:  # an item given by reference
        target = ".".join(str(number) for number in _numbers(item, "0040DB73"))
        return f'<a href="#item-{target}">item {target}</a>'
    if kind == "TEXT" and "BulkDataURI" in item.get("0040A160", {}):
        return f'<a href="{escape(page.base + "/" + item["0040A160"]["BulkDataURI"])}">a long text, as a file</a>'
    if kind in _WRITTEN:
        return f'<span class="text">{escape(_WRITTEN[kind](item))}</span>'
    if kind == "CODE":
        return _code(next(items(item, "0040A168"), {}))
    if kind == "NUM":
        return _measured(item)
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        return ", ".join(_reference(each, kind, page) for each in items(item, "00081199"))
    if kind in ("SCOORD", "SCOORD3D"):
        points = len(_numbers(item, "00700022")) // (3 if kind == "SCOORD3D" else 2)
        return escape(f"{text(item, '00700023').lower()} of {points} point{'' if points == 1 else 's'}")
    if kind == "TCOORD":
        return escape(text(item, "0040A130").lower())
    return "" if kind == "CONTAINER" else f'<span class="code">{escape(kind)}</span>'


_WRITTEN: dict[str, Callable[[Attributes], str]] = {
    "TEXT": lambda item: text(item, "0040A160"),
    "PNAME": lambda item: _spoken(person_name(item, "0040A123")),
    "DATE": lambda item: _date(text(item, "0040A121")),
    "TIME": lambda item: _time(text(item, "0040A122")),
    "DATETIME": lambda item: _date_time(text(item, "0040A120")),
    "UIDREF": lambda item: text(item, "0040A124"),
}


def _measured(item: Attributes) -> str:
    shown = []
    for value in items(item, "0040A300"):
        unit = next(items(value, "004008EA"), {})
        symbol = text(unit, "00080100")
        amount = ", ".join(str(number) for number in value.get("0040A30A", {}).get("Value", []))
        said = "" if symbol in ("", "1", "{no units}") else f" {escape(symbol)}"
        meaning = text(unit, "00080104")
        shown.append(escape(amount) + said + (f' <span class="code">{escape(meaning)}</span>' if said else ""))
    shown += [_code(qualifier) for qualifier in items(item, "0040A301")]
    return ", ".join(shown) or "no value"


def _code(code: Attributes) -> str:
    meaning, value, scheme = text(code, "00080104"), _code_value(code), text(code, "00080102")
    behind = ", ".join(part for part in (value, scheme) if part)
    return escape(meaning or value) + (f' <span class="code">({escape(behind)})</span>' if behind else "")


def _code_value(code: Attributes) -> str:
    return text(code, "00080100") or text(code, "00080119") or text(code, "00080120")


def _concept(item: Attributes) -> str:
    code = next(items(item, "0040A043"), {})
    return text(code, "00080104") or _code_value(code)


def _reference(reference: Attributes, kind: str, page: _Page) -> str:
    uid = text(reference, "00081155")
    frames = _numbers(reference, "00081160")
    said = kind.lower() + (f", frame {', '.join(map(str, frames))}" if frames else "")
    study, series = page.evidence.get(uid, ("", ""))
    address = page.link(Reference(uid, study, series, int(frames[0]) if len(frames) == 1 else 0))
    named = f'{escape(said)} <span class="code">{escape(uid)}</span>'
    return f'<a href="{escape(address, quote=True)}">{named}</a>' if address else named


def _numbers(item: Attributes, key: str) -> list[Any]:
    return [value for value in item.get(key, {}).get("Value", []) if isinstance(value, int | float)]


def _spoken(name: str) -> str:
    """A person's name as it is written to people: family name first, groups of other scripts behind."""
    groups = []
    for group in name.split("="):
        family, *others = (part.strip() for part in group.split("^"))
        groups.append(", ".join(part for part in (family, " ".join(other for other in others if other)) if part))
    return " / ".join(group for group in groups if group)


def _date(value: str) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if re.fullmatch(r"[0-9]{8}", value) else value


def _time(value: str) -> str:
    match = re.match(r"([0-9]{2})([0-9]{2})?([0-9]{2})?", value)
    return ":".join(part for part in match.groups() if part) if match else value


def _date_time(value: str) -> str:
    zone = re.search(r"[+-][0-9]{4}\Z", value)
    said = f"{_date(value[:8])} {_time(value[8:])}" if len(value) > 8 else _date(value)
    return f"{said.strip()} {zone[0]}" if zone else said.strip()
