"""Writes docs/configuration.md from the settings themselves, so that the page and the program cannot disagree.

`python scripts/configuration_page.py` writes the page; with `--check` it only says whether the page is current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hilum.core.event import EventName
from hilum.settings import Settings, starter_file
from hilum.settings.live import NEEDS_RESTART

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

EVENTS: dict[EventName, str] = {
    EventName.PATIENT_REGISTERED: "A patient became known, from a message, a page or, provisionally, from images.",
    EventName.PATIENT_UPDATED: "A patient's data changed.",
    EventName.PATIENTS_MERGED: "Two records were linked as one patient.",
    EventName.PATIENTS_UNMERGED: "Such a link was undone; `separated` stands alone again.",
    EventName.PRIORS_CHECKED: "An ordering clinician was told of relevant priors.",
    EventName.ORDER_PLACED: "An order was accepted and numbered.",
    EventName.ORDER_CHANGED: "An order was changed by its placer.",
    EventName.ORDER_CANCELLED: "An order was cancelled before its exam began.",
    EventName.ORDER_DISCONTINUED: "An order was discontinued after its exam began.",
    EventName.ORDER_STATUS_CHANGED: "An order moved to another status; status messages to the placer come from this.",
    EventName.STEP_SCHEDULED: "A procedure step was put on a worklist.",
    EventName.WORKLIST_SERVED: "A scanner was answered with a step.",
    EventName.EXAM_STARTED: "A performed step began.",
    EventName.EXAM_ENDED: "A performed step was completed or discontinued.",
    EventName.IMAGES_ARRIVED: "The first images of a study became durable.",
    EventName.STUDY_MATCHED: "A study was tied to its order.",
    EventName.STUDY_UNMATCHED: "A study could not be tied to an order, or contradicts it, and waits for a person.",
    EventName.STUDY_REASSIGNED: "A person moved images to another patient, order or study, or took that back.",
    EventName.INSTANCES_STORED: "A study has received images; said at most every `study.stored_seconds`.",
    EventName.STUDY_COMPLETED: "The exams of a study say that all is here, or no image has come for the quiet time.",
    EventName.READING_STARTED: "A radiologist opened the study to read it.",
    EventName.REPORT_DRAFTED: "A draft was saved for the first time.",
    EventName.REPORT_SIGNED: "A version was signed: preliminary, final, addendum, correction or retraction.",
    EventName.RESULT_DELIVERED: "A receiver accepted a result.",
    EventName.INSTANCES_REJECTED: "A rejection note acts: images are not to be used any more.",
    EventName.INSTANCES_RESTORED: "Images that were rejected, withheld or marked for deletion are shown again.",
    EventName.INSTANCES_DELETED: "The time of grace of a deletion is over: rows and bytes are removed.",
    EventName.GLASS_BROKEN: "A person took access that the rules do not give, with a reason; auditors review it.",
    EventName.MESSAGE_RECEIVED: 'A message was journaled; with `send = "raw"` it is forwarded byte for byte.',
}

INTRODUCTION = """\
# Configuration

<!-- Written by scripts/configuration_page.py (make docs); a test fails when it is out of date. -->

A home (`--home DIR` or `HILUM_HOME`, else `./hilum-home`) holds `hilum.toml`, the database, the archive and the keys.
Every setting can also come from the environment, which stands above the file: `HILUM_<SECTION>__<KEY>`, for example
`HILUM_HTTP__BIND=127.0.0.1:8080`. Lists come as JSON:
`HILUM_DESTINATION='[{"name": "ehr", "kind": "hl7", "address": "mllp://127.0.0.1:6661"}]'`,
`HILUM_DICOM__PEER='[{"ae_title": "CT01"}]'`.

The file is checked as a whole. An unknown key, an address that does not suit, a route that leads nowhere: each is
refused in one sentence that names the file (or the variable) and the key. While Hilum runs, a changed file takes effect
at the next message, request or association in every process; a file that is not valid changes nothing, and
`hilum check` says why. Settings marked ↻ take effect at the next start.

File names are relative to the home.
"""


def type_words(annotation: Any) -> str:
    """A type as a reader of TOML calls it."""
    if annotation is bool:
        return "`true` or `false`"
    if annotation is int:
        return "whole number"
    if annotation is float:
        return "number"
    if annotation in (str, Path, SecretStr):
        return "text"
    arguments = [argument for argument in get_args(annotation) if argument not in (type(None), Ellipsis)]
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) is tuple:
        return "table" if _is_model(arguments[0]) else "list of texts"
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return ", ".join(f"`{argument}`" for argument in arguments)
    if _is_model(annotation):
        return "table"
    return type_words(_bare(arguments[0])) if arguments else "text"


def _bare(annotation: Any) -> Any:
    """A type without the checks that hang on it."""
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def default_words(info: FieldInfo) -> str:
    """The default, as it would stand in the file."""
    value = info.default
    if info.is_required():
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value in ((), "", {}):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def rows(model: type[BaseModel], section: str) -> Iterator[str]:
    """A line of the table for each key."""
    for name, info in model.model_fields.items():
        restart = " ↻" if f"{section}.{name}" in NEEDS_RESTART else ""
        words = type_words(info.annotation)
        yield f"| `{info.alias or name}`{restart} | {words} | {default_words(info)} | {_cell(info.description or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(model: type[BaseModel], section: str) -> list[str]:
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows(model, section), ""]


def sections() -> Iterator[str]:
    """All sections in the order of the settings, each followed by the tables that repeat in it."""
    for name, info in Settings.model_fields.items():
        if name == "home":
            continue
        model, repeated = _model_of(info)
        title = f"[[{name}]]" if repeated else f"[{name}]"
        yield "\n".join([f"## `{title}`", "", _first_line(model), "", *_table(model, name)])
        for key, inner in model.model_fields.items():
            part, many = _model_of(inner)
            if _is_model(part):
                title = f"[[{name}.{key}]]" if many else f"[{name}.{key}]"
                yield "\n".join([f"### `{title}`", "", _first_line(part), "", *_table(part, f"{name}.{key}")])


def _model_of(info: FieldInfo) -> tuple[Any, bool]:
    if get_origin(info.annotation) is tuple:
        return get_args(info.annotation)[0], True
    return info.annotation, False


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").splitlines()[0]


def events() -> str:
    """The closed list of events."""
    lines = ["## Events", "", "What the `on` of a `[[route]]` can name. The list is closed.", ""]
    lines += ["| event | when |", "|---|---|", *(f"| `{name}` | {EVENTS[name]} |" for name in EventName), ""]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    starter = "\n".join(["## The file of a new home", "", "```toml", starter_file().rstrip(), "```", ""])
    return "\n".join([INTRODUCTION, *sections(), events(), starter])


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it."""
    if "--check" in arguments:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        if not current:
            print("docs/configuration.md is out of date: make docs", file=sys.stderr)
        return 0 if current else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
