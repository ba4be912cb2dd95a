"""What became of a store request: reasons of failure and the response (PS3.18 10.5.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from hilum.archive.ingest import Ingested
from hilum.core.errors import HilumError
from hilum.dicom.web.native_xml import native_xml
from hilum.dicom.web.negotiation import XML
from hilum.workflow.images import Recorded

# PS3.18 table 10.5.3-2 and PS3.4 B.2.3.
OUT_OF_RESOURCES = 0xA700
REJECTED_BEFORE = 0xA771  # named by a rejection note, as dcm4chee answers it
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
# PS3.18 table 10.5.3-3: the instance is kept, but what is served under its UID are the bytes that came first.
KEPT_BESIDE = 0xB000
NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
FAILURE_REASON: dict[str, int] = {
    "error": PROCESSING_FAILURE,
    "invalid": CANNOT_UNDERSTAND,
    "missing": CANNOT_UNDERSTAND,
    "too-large": OUT_OF_RESOURCES,
    "unsupported": NOT_SUPPORTED,
    "conflict": DOES_NOT_MATCH,
    "duplicate": DUPLICATE_INSTANCE,
    "rejected": REJECTED_BEFORE,
    "forbidden": NOT_AUTHORIZED,
    "dropped": NOT_AUTHORIZED,
    "not-found": NOT_AUTHORIZED,
    "deadline": OUT_OF_RESOURCES,
    "unavailable": OUT_OF_RESOURCES,
    "out-of-space": OUT_OF_RESOURCES,
    "defect": PROCESSING_FAILURE,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part: `stored`, or the reason of its failure. The UIDs are empty where they can't be read."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    stored: Ingested | None = None
    reason: int = 0

    @property
    def beside(self) -> bool:
        """Whether it is kept beside another instance of its UID."""
        return self.stored is not None and self.stored.recorded is Recorded.BESIDE


def reason_of(error: HilumError) -> int:
    for kind in type(error).__mro__:
        code = kind.__dict__.get("code")
        if code in FAILURE_REASON:
            return FAILURE_REASON[code]
    return PROCESSING_FAILURE


def stored_answer(outcomes: list[Outcome], root: str, study_uid: str, *, as_xml: bool = False) -> Response:
    """The store instances response (PS3.18 10.5.3): 200 all stored, 202 some or with a warning, 409 none."""
    stored = [outcome for outcome in outcomes if outcome.stored is not None]
    failed = [outcome for outcome in outcomes if outcome.stored is None]
    studies = {outcome.stored.study_instance_uid for outcome in stored if outcome.stored} | {study_uid} - {""}
    body: dict[str, Any] = {}
    if len(studies) == 1:
        body["00081190"] = _element("UR", f"{root}/studies/{next(iter(studies))}")
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": [_failed(outcome) for outcome in failed]}
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": list(_referenced(stored, root))}
    if not stored:
        status = 409
    else:
        status = 202 if failed or any(outcome.beside for outcome in stored) else 200
    if as_xml:
        return Response(native_xml(body), status, media_type=XML)
    return Response(orjson.dumps(body), status, media_type="application/dicom+json")


def _failed(outcome: Outcome) -> dict[str, Any]:
    return _names(outcome) | {"00081197": _element("US", outcome.reason)}


def _referenced(outcomes: Iterable[Outcome], root: str) -> Iterable[dict[str, Any]]:
    for outcome in outcomes:
        if outcome.stored is not None:
            it = outcome.stored
            url = (
                f"{root}/studies/{it.study_instance_uid}/series/{it.series_instance_uid}"
                f"/instances/{it.sop_instance_uid}"
            )
            warning = {"00081196": _element("US", KEPT_BESIDE)} if outcome.beside else {}
            yield _names(outcome) | {"00081190": _element("UR", url)} | warning


def _names(outcome: Outcome) -> dict[str, Any]:
    named = {"00081150": outcome.sop_class_uid, "00081155": outcome.sop_instance_uid}
    return {tag: _element("UI", uid) for tag, uid in named.items() if uid}


def _element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
