"""Answers to received messages: ACK and order responses, in the form of the sender's version (v2.5.1 ch. 2.9, 2.15).

Errors become MSA-1 and ERR by one table. v2.5 and later get a repeating ERR with location, table 0357, severity and
text; v2.3 to v2.4 get ERR-1 and MSA-3. A message that can't be read is answered too, with what is left of its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from hilum.core.errors import HilumError
from hilum.hl7.charset import CODECS, standard_name
from hilum.hl7.compose import Builder
from hilum.hl7.er7 import Message, Value
from hilum.hl7.escapes import DEFAULT_SEPARATORS, Separators
from hilum.hl7.iso2022 import PREFIX
from hilum.hl7.timestamps import hl7_timestamp

# HL7 table 0357, message error condition codes.
CONDITIONS: Final = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}

# HilumError.code -> MSA-1 in original mode (table 0008), table 0357. AR is for what this receiver never takes from this
# sender: sending it again unchanged is useless. AE is for the content of a message, or for a trouble of the moment.
REFUSALS: Final = {
    "error": ("AE", "207"),
    "defect": ("AE", "207"),
    "invalid": ("AE", "102"),
    "missing": ("AE", "101"),
    "too-large": ("AE", "102"),
    "unsupported": ("AR", "200"),
    "not-found": ("AE", "204"),
    "conflict": ("AE", "207"),
    "duplicate": ("AE", "205"),
    "illegal-transition": ("AE", "207"),
    "identity-mismatch": ("AE", "207"),
    "stale": ("AE", "206"),
    "rejected": ("AE", "207"),
    "on-hold": ("AE", "207"),
    "unauthenticated": ("AR", "207"),
    "forbidden": ("AR", "207"),
    "deadline": ("AE", "207"),
    "unavailable": ("AE", "207"),
    "out-of-space": ("AE", "207"),
}

# The same for `unsupported` where it names a place of the header; anywhere else it speaks of a coded value.
UNSUPPORTED: Final = {
    "MSH": ("AR", "200"),
    "MSH-9": ("AR", "201"),
    "MSH-9.1": ("AR", "200"),
    "MSH-9.2": ("AR", "201"),
    "MSH-9.3": ("AR", "200"),
    "MSH-11": ("AR", "202"),
    "MSH-11.1": ("AR", "202"),
    "MSH-12": ("AR", "203"),
    "MSH-12.1": ("AR", "203"),
}
_UNSUPPORTED_VALUE: Final = ("AE", "103")

_VERSION: Final = re.compile(r"2\.([0-9])(?:\.[0-9])?")
_LOCATION: Final = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+)(?:\[(\d+)\])?(?:\.(\d+)(?:\.(\d+))?)?)?")
_WHOLE_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}(?:\[\d+\])?")
_SET_NAMES: Final = {codec: name for name, codec in reversed(CODECS.items())} | {"utf-8": "UNICODE UTF-8"}
# What is echoed from a header is bounded, since the sender of an unreadable message may not be a sender at all.
_LONGEST_ECHO: Final = 250

SegmentFields = tuple[str, Mapping[int, Value]]


def refusal_of(error: HilumError) -> tuple[str, str]:
    """MSA-1 (AE or AR) and the code of table 0357 for an error."""
    if error.code == "unsupported" and error.field:
        return UNSUPPORTED.get(error.field, _UNSUPPORTED_VALUE)
    msa1, condition = REFUSALS.get(error.code, REFUSALS["error"])
    if error.code in ("missing", "invalid") and _WHOLE_SEGMENT.fullmatch(error.field or ""):
        return msa1, "100"
    return msa1, condition


def acknowledgement_code(errors: Iterable[HilumError]) -> str:
    """MSA-1 in original mode: AA without errors, AR if one of them is a rejection, else AE."""
    codes = {refusal_of(error)[0] for error in errors}
    return "AR" if "AR" in codes else "AE" if codes else "AA"


def header_of(raw: bytes) -> Message | None:
    """What can be read of the header of a message that could not be read: only its MSH; None where there is none."""
    start = raw.find(b"MSH", 0, 1024)
    if start < 0:
        return None
    line = re.split(rb"[\r\n\x0b\x1c]", raw[start : start + 4096], maxsplit=1)[0]
    end = line.find(line[3:4], 4)
    repaired = line[:4] + b"^~\\&" + line[end:] if end > 0 else b""
    for candidate in (line, repaired):
        try:
            return Message(candidate)
        except HilumError:
            continue
    return None


def acknowledge(
    message: Message | None,
    errors: Sequence[HilumError] = (),
    *,
    control_id: str,
    now: datetime,
    zone: tzinfo = UTC,
    code: str | None = None,
    raw: bytes = b"",
    response: tuple[str, str, str] | None = None,
    extra: Sequence[SegmentFields] = (),
    charset: str | None = None,
    name: str = "HILUM",
) -> bytes:
    """Writes the answer to a message; `control_id`, `now` are those of the answer.

    `code` is MSA-1, by default what the errors say, or AR for a message that could not be read (None, with its `raw`
    bytes). `response` is MSH-9 where it is not ACK, as in ("ORR", "O02", "ORR_O02"), and `extra` its further segments.
    `name` stands in MSH-3 where the sender named no receiver. Never fails on the content of the message.
    """
    msa1 = code or ("AR" if message is None else acknowledgement_code(errors))
    asked = message if message is not None else header_of(raw)
    minor = _minor_version(asked)
    builder = Builder(charset or _charset_of(asked), separators=_separators_for(asked), substitute="?")
    builder.add("MSH", _header(asked, response, control_id, hl7_timestamp(now, zone), name))
    msa: dict[int, Value] = {1: msa1, 2: _echo(asked, 10)}
    if minor < 5 and errors:
        msa[3] = errors[0].message
    builder.add("MSA", msa)
    for fields in _err_segments(errors) if minor >= 5 else _err_segment_before_v25(errors):
        builder.add("ERR", fields)
    for segment, further in extra:
        builder.add(segment, further)
    return bytes(builder)


def _header(
    asked: Message | None, response: tuple[str, str, str] | None, control_id: str, now: str, name: str
) -> dict[int, Value]:
    trigger = asked.trigger if asked else ""
    kind: tuple[str, ...] = response or (("ACK", trigger, "ACK") if trigger and len(trigger) <= 3 else ("ACK",))
    version = asked.version if asked and _VERSION.fullmatch(asked.version) else "2.5.1"
    enhanced = bool(asked and (asked.get("MSH-15") or asked.get("MSH-16")))
    return {
        3: _echo(asked, 5) or name,
        4: _echo(asked, 6),
        5: _echo(asked, 3),
        6: _echo(asked, 4),
        7: now,
        # The message structure came with v2.3.1.
        9: kind[:2] if version in ("2.1", "2.2", "2.3") else kind,
        10: control_id,
        11: _echo(asked, 11) or "P",
        12: version,
        15: "NE" if enhanced else None,
        16: "NE" if enhanced else None,
    }


def _echo(asked: Message | None, field: int) -> Value:
    if asked is None or len(asked.header.field(field)) > _LONGEST_ECHO:
        return None
    return asked.header.value(field)


def _minor_version(asked: Message | None) -> int:
    found = _VERSION.fullmatch(asked.version) if asked else None
    return int(found[1]) if found else 5


def _charset_of(asked: Message | None) -> str:
    if asked is None:
        return "ASCII"
    if name := standard_name(asked.reading.declared):
        return name
    return "ASCII" if asked.raw.isascii() else _SET_NAMES[asked.reading.codec.removeprefix(PREFIX)]


def _separators_for(asked: Message | None) -> Separators:
    return asked.separators if asked and asked.separators.complete else DEFAULT_SEPARATORS


def _location(field: str | None) -> tuple[str, str, str, str, str, str] | None:
    """Segment, its number, field, repetition, component, subcomponent (ERL) of `PID-3`, `OBX[2]-5[1].2`."""
    found = _LOCATION.fullmatch(field or "")
    if found is None:
        return None
    segment, occurrence, number, repetition, component, subcomponent = (part or "" for part in found.groups())
    return segment, occurrence or "1", number, repetition, component, subcomponent


def _err_segments(errors: Sequence[HilumError]) -> list[dict[int, Value]]:
    segments: list[dict[int, Value]] = []
    for error in errors:
        condition = refusal_of(error)[1]
        segments.append(
            {
                2: _location(error.field),
                3: (condition, CONDITIONS[condition], "HL70357"),
                4: "E",
                7: error.code,
                8: error.message,
            }
        )
    return segments


def _err_segment_before_v25(errors: Sequence[HilumError]) -> list[dict[int, Value]]:
    located: list[Value] = []
    for error in errors:
        condition = refusal_of(error)[1]
        place = (_location(error.field) or ("", "", ""))[:3]
        located.append((*place, (condition, CONDITIONS[condition], "HL70357")))
    return [{1: located}] if located else []


@dataclass(frozen=True, slots=True)
class AcknowledgementsDue:
    """The codes of the answers that the sender waits for, in this order; None is an answer that it does not want."""

    commit: str | None
    application: str | None


def acknowledgements_due(msh15: str, msh16: str, outcome: str, *, journaled: bool = True) -> AcknowledgementsDue:
    """Which answers are due for an `outcome` (AA, AE or AR), by the conditions of table 0155 (v2.5.1 ch. 2.9.3).

    Both fields empty is original mode: one application answer. Else one empty field means NE, and an unknown condition
    AL. The commit answer is CA once the message is journaled, CE if it could not be, CR if it was rejected; a sender
    that got CE or CR is not answered again.
    """
    accept, application = msh15.strip().upper(), msh16.strip().upper()
    if not accept and not application:
        return AcknowledgementsDue(None, outcome)
    commit = "CR" if outcome == "AR" else "CA" if journaled else "CE"
    first = commit if _wanted(accept, good=commit == "CA") else None
    if first in ("CE", "CR"):
        return AcknowledgementsDue(first, None)
    return AcknowledgementsDue(first, outcome if _wanted(application, good=outcome == "AA") else None)


def _wanted(condition: str, *, good: bool) -> bool:
    return {"": False, "NE": False, "SU": good, "ER": not good}.get(condition, True)
