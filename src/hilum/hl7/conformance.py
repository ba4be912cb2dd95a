"""Whether a message is what its sender's profile says: findings with their place, in words, without data of patients.

The message is read as it would be if it came, and nothing is applied. What translation does not look at is named, so
that whoever sets up a feed sees what of it is lost on Hilum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from hilum.core.codes import MODALITIES
from hilum.core.errors import HilumError
from hilum.hl7.adapted import adapted, missing_fields
from hilum.hl7.er7 import Message, Segment
from hilum.hl7.messages_in import prepare
from hilum.hl7.profiles import Incoming, profile_of
from hilum.hl7.reception import kind_of, open_envelope
from hilum.hl7.timestamps import timestamp_from_hl7
from hilum.hl7.translate import plain
from hilum.hl7.translate_order import PRIORITY
from hilum.hl7.translate_patient import SEX
from hilum.settings import Settings

# Coded fields whose table is closed here: segment, field, component, codes.
CODED: Final[tuple[tuple[str, int, int, frozenset[str]], ...]] = (
    ("PID", 8, 1, frozenset(SEX)),
    ("PV1", 2, 1, frozenset("EIOPRBCNU")),  # table 0004
    ("ORC", 7, 6, frozenset(PRIORITY)),
    ("OBR", 27, 6, frozenset(PRIORITY)),
    ("OBR", 24, 1, frozenset(MODALITIES)),
)
LONGEST_CODE: Final = 20


@dataclass(frozen=True, slots=True)
class Nonconformance:
    """What differs, and how much it weighs: a `fault` makes the message be refused, a `note` only goes unread."""

    weight: Literal["fault", "warning", "note"]
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.weight}: {self.place + ': ' if self.place else ''}{self.text}"


class _Watched(Segment):
    """A segment that notes which of its fields are looked at."""

    __slots__ = ("looked_at",)

    looked_at: set[tuple[str, int]]

    def field(self, number: int) -> str:
        self.looked_at.add((self.name, number))
        return super().field(number)

    @classmethod
    def of(cls, segment: Segment, looked_at: set[tuple[str, int]]) -> _Watched:
        watched = cls(segment.name, segment.raw, segment.context)
        watched._fields = list(segment._all())
        watched.looked_at = looked_at
        return watched


def nonconformances(raw: bytes, settings: Settings) -> list[Nonconformance]:
    """Compare a message with the profile of its sender, and return what differs, the gravest first."""
    envelope = open_envelope(raw, "127.0.0.1", settings)
    message, profile = envelope.header, envelope.profile
    if envelope.error is not None or message is None:
        error = envelope.error
        return [Nonconformance("fault", error.field or "" if error else "", error.message if error else "unreadable")]
    found: list[Nonconformance] = []
    if not profile.known:
        found.append(Nonconformance("warning", "MSH-3", "there is no profile of this sender"))
    if message.reading.note:
        found.append(Nonconformance("warning", "MSH-18", message.reading.note))
    if profile.peer.version and message.version != profile.peer.version:
        found.append(Nonconformance("warning", "MSH-12", f"is not {profile.peer.version}, as the profile says"))
    missing = missing_fields(message, kind_of(message), profile.peer.required)
    found += [Nonconformance("fault", path, "is empty, and the profile requires it") for path in missing]
    read = adapted(message, profile.peer)
    found += _codes(read)
    found += _identifiers(read, profile.authority)
    looked_at: set[tuple[str, int]] = set()
    error = read_error(read, settings, looked_at)
    if error is not None and error.field not in missing:
        found.append(Nonconformance("fault", error.field or "", error.message))
    sources = {source.split(".")[0] for source in profile.peer.places.values()}
    unread = [path for path in unread_fields(message, looked_at) if path not in sources]
    if unread and error is None:
        found.append(Nonconformance("note", "", "not read: " + ", ".join(unread)))
    return sorted(found, key=lambda each: ("fault", "warning", "note").index(each.weight))


def read_error(message: Message, settings: Settings, looked_at: set[tuple[str, int]]) -> HilumError | None:
    """Read a message into commands and note what was looked at; return the error that it would be refused with."""
    watched = message.with_segments([_Watched.of(segment, looked_at) for segment in message])
    profile = profile_of(settings, message.sender)
    try:
        prepare(Incoming(watched, profile, datetime.now(UTC)))
        if said := message.get("MSH-7"):
            timestamp_from_hl7(said, profile.zone, field="MSH-7")
    except HilumError as error:
        return error
    return None


def unread_fields(message: Message, looked_at: set[tuple[str, int]]) -> list[str]:
    """Return the valued fields that nothing looked at, each once, as `OBR-21`; set IDs and headers are no data."""
    found: dict[str, None] = {}
    for segment in message:
        if segment.name in ("MSH", "EVN"):
            continue
        for number in range(1, len(segment) + 1):
            valued = segment.field(number).strip("^&~ ")
            is_set_id = number == 1 and valued.isdigit() and len(valued) <= 4
            if valued and not is_set_id and (segment.name, number) not in looked_at:
                found[f"{segment.name}-{number}"] = None
    return list(found)


def unknown_codes(message: Message) -> Mapping[str, frozenset[str]]:
    """Return the codes that no closed table here knows, by their place."""
    found: dict[str, set[str]] = {}
    for name, field, component, known in CODED:
        for segment in message.segments(name):
            code = plain(segment.get(field, component))
            if code and code.upper() not in known and not (component == 6 and code[:1].upper() == "T"):
                place = f"{name}-{field}" + (f".{component}" if component > 1 else "")
                found.setdefault(place, set()).add(code)
    return {place: frozenset(codes) for place, codes in found.items()}


def _codes(message: Message) -> list[Nonconformance]:
    found = []
    for place, codes in unknown_codes(message).items():
        said = ", ".join(code if len(code) <= LONGEST_CODE else "…" for code in sorted(codes))
        found.append(Nonconformance("warning", place, f"codes that are not in its table: {said}"))
    return found


def _identifiers(message: Message, authority: str) -> list[Nonconformance]:
    pid = message.segment("PID")
    if pid is None or authority:
        return []
    bare = any(each.get() and not each.get(4) and not each.get(4, 2) for each in pid.repetitions(3))
    return [Nonconformance("warning", "PID-3.4", "is empty, and the profile names no authority")] if bare else []
