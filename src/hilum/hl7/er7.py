"""Reads HL7 v2.3-2.5.1 messages in ER7 encoding without losing a byte: the message keeps what came and decodes lazily.

Paths such as `PID-3[2].4.1` count from 1 and what they leave out is 1, the first: `PID-3` is the first subcomponent of
the first component of the first repetition, as the standard reads a field that later grew components. Free text, in
which senders forget to escape, is read whole with `Segment.text`. Refused are messages that do not start with MSH, or
with separators that can't be told apart, several messages in one, and anything beyond the limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from hilum.core.errors import InvalidInput, TooLarge
from hilum.hl7.charset import Reading, reading_of
from hilum.hl7.escapes import NULL, Null, Separators, separators_from, unescaper
from hilum.hl7.iso2022 import follows, sequences

# What a field is made of: text, a tuple of components (of subcomponents), a list of repetitions; None is empty.
Value = str | int | Null | None | tuple["Value", ...] | list["Value"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a message may be; an embedded document makes a long field, a panel of results many segments."""

    message_bytes: int = 32 * 1024 * 1024
    field_bytes: int = 24 * 1024 * 1024
    segments: int = 20_000
    fields: int = 500


DEFAULT_LIMITS: Final = Limits()


class Path(NamedTuple):
    """A place in a message, all numbers from 1."""

    segment: str
    occurrence: int
    field: int
    repetition: int = 1
    component: int = 1
    subcomponent: int = 1


_PATH: Final = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?-(\d+)(?:\[(\d+)\])?(?:\.(\d+))?(?:\.(\d+))?")


@lru_cache(maxsize=4096)
def path_of(text: str) -> Path:
    """Reads `PID-3`, `OBX[2]-5`, `PID-3[2].4.1`; raises ValueError, since paths are written by programmers."""
    found = _PATH.fullmatch(text)
    if found is None:
        raise ValueError(f"not a path into an HL7 message: {text!r}")
    name, *numbers = found.groups()
    path = Path(name, *(int(number or "1") for number in numbers))
    if min(path[1:]) < 1:
        raise ValueError(f"paths into an HL7 message count from 1: {text!r}")
    return path


class _Text:
    """What the fields of one message share: its separators, its codec, its way to undo escapes."""

    __slots__ = ("changes", "codec", "separators", "unescape")

    def __init__(self, separators: Separators, codec: str, *, changes: bool = False) -> None:
        self.separators = separators
        self.codec = codec
        self.changes = changes
        self.unescape: Callable[[str], str] = unescaper(separators, codec)

    def decode(self, raw: bytes) -> str:
        """The text of a segment, which begins in the message's own character set."""
        if self.changes:
            raw = sequences(raw, self.separators.escape.encode())
        return raw.decode(self.codec, "replace")

    def plain(self, encoded: str) -> str:
        return NULL if encoded == '""' else self.unescape(encoded)


class Repetition:
    """One repetition of a field."""

    __slots__ = ("_context", "encoded")

    def __init__(self, encoded: str, context: _Text) -> None:
        self.encoded = encoded
        self._context = context

    def get(self, component: int = 1, subcomponent: int = 1) -> str:
        """The plain text of a subcomponent; empty when absent, NULL for the HL7 null."""
        separators = self._context.separators
        text = _nth(self.encoded, separators.component, component)
        return self._context.plain(_nth(text, separators.subcomponent, subcomponent))

    def component(self, number: int) -> str:
        """The plain text of a whole component, subcomponent separators in it left as sent."""
        return self._context.plain(_nth(self.encoded, self._context.separators.component, number))

    @property
    def text(self) -> str:
        """The plain text of the whole repetition, separators in it left as sent: for free text."""
        return self._context.plain(self.encoded)

    @property
    def value(self) -> Value:
        """Nested tuples as `compose.Builder` takes them, to carry a field from one message into another."""
        separators = self._context.separators
        components: list[Value] = []
        for component in self.encoded.split(separators.component):
            parts = component.split(separators.subcomponent) if separators.subcomponent else [component]
            plain = tuple(self._context.plain(part) for part in parts)
            components.append(plain if len(plain) > 1 else plain[0])
        return tuple(components) if len(components) > 1 else components[0]


def _nth(text: str, separator: str, number: int) -> str:
    if not separator or separator not in text:
        return text if number == 1 else ""
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


class Segment:
    """One segment, decoded when first asked."""

    __slots__ = ("_context", "_fields", "name", "raw")

    def __init__(self, name: str, raw: bytes, context: _Text) -> None:
        self.name = name
        self.raw = raw
        self._context = context
        self._fields: list[str] | None = None

    @property
    def context(self) -> _Text:
        """What it shares with the other segments of its message."""
        return self._context

    @classmethod
    def empty(cls, name: str, beside: Segment) -> Segment:
        """A segment without fields, for the message that another one is of."""
        return cls(name, name.encode("ascii"), beside._context)

    def with_field(self, number: int, encoded: str) -> Segment:
        """This segment with another text in a field, as translation reads it; `raw` stays what came."""
        changed = Segment(self.name, self.raw, self._context)
        fields = list(self._all())
        fields += [""] * (number + 1 - len(fields))
        fields[number] = encoded
        changed._fields = fields
        return changed

    def __len__(self) -> int:
        return len(self._all()) - 1

    def _all(self) -> list[str]:
        fields = self._fields
        if fields is None:
            context = self._context
            # Decoded before it is split: in Big-5 or GB 18030 a separator can be the second byte of a character.
            fields = context.decode(self.raw).split(context.separators.field)
            if self.name == "MSH":
                fields.insert(1, context.separators.field)
            self._fields = fields
        return fields

    def field(self, number: int) -> str:
        """The whole field as sent, escapes and separators included; empty when absent."""
        fields = self._fields or self._all()
        return fields[number] if number < len(fields) else ""

    def get(self, field: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 1) -> str:
        """The plain text of a subcomponent; empty when absent, NULL for the HL7 null."""
        encoded = self.field(field)
        if not encoded or (field <= 2 and self.name == "MSH"):
            return encoded if component == subcomponent == repetition == 1 else ""
        separators = self._context.separators
        encoded = _nth(encoded, separators.repetition, repetition)
        encoded = _nth(encoded, separators.component, component)
        return self._context.plain(_nth(encoded, separators.subcomponent, subcomponent))

    def text(self, field: int) -> str:
        """The plain text of a whole field, separators in it left as sent: for free text."""
        encoded = self.field(field)
        return encoded if self.name == "MSH" and field <= 2 else self._context.plain(encoded)

    def is_null(self, field: int) -> bool:
        """Whether the sender asks to delete the value of this field."""
        return self.field(field) == NULL

    def repetitions(self, field: int) -> list[Repetition]:
        """The repetitions of a field; none when it is empty."""
        encoded = self.field(field)
        if not encoded:
            return []
        return [Repetition(part, self._context) for part in encoded.split(self._context.separators.repetition)]

    def value(self, field: int) -> Value:
        """The field as `compose.Builder` takes it; None when empty."""
        values = [repetition.value for repetition in self.repetitions(field)]
        return values if len(values) > 1 else values[0] if values else None


class Segments:
    """Segments in their order: a message, or a group of one."""

    __slots__ = ("_segments",)

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self._segments = segments

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> Segment:
        return self._segments[index]

    def segment(self, name: str, occurrence: int = 1) -> Segment | None:
        """The first segment of that name, or a later one; None where there is none."""
        for segment in self._segments:
            if segment.name == name:
                if occurrence == 1:
                    return segment
                occurrence -= 1
        return None

    def segments(self, name: str) -> list[Segment]:
        """All segments of that name."""
        return [segment for segment in self._segments if segment.name == name]

    def get(self, path: str) -> str:
        """The plain text at a path such as `PID-3[2].4.1`; empty when absent, NULL for the HL7 null."""
        name, occurrence, field, repetition, component, subcomponent = path_of(path)
        segment = self.segment(name, occurrence)
        return "" if segment is None else segment.get(field, component, subcomponent, repetition=repetition)

    def groups(self, *starts: str) -> list[Segments]:
        """Cuts the segments into groups, each beginning at one of `starts` that are named in their order.

        With ("ORC", "OBR") a group begins at each ORC, and at an OBR whose group already has one or that has no ORC
        before it. Segments before the first group belong to none.
        """
        groups: list[list[Segment]] = []
        reached = len(starts)
        for segment in self._segments:
            if segment.name in starts:
                rank = starts.index(segment.name)
                if rank <= reached or not groups:
                    groups.append([])
                reached = rank
            if groups:
                groups[-1].append(segment)
        return [Segments(tuple(group)) for group in groups]


class Message(Segments):
    """One received message; `bytes(message)` is what came, to the byte."""

    __slots__ = ("raw", "reading", "separators")

    def __init__(self, raw: bytes, *, limits: Limits = DEFAULT_LIMITS, assumed_charset: str = "") -> None:
        """Reads a message; raises InvalidInput or TooLarge whose `field` names the place (`MSH-2`, `OBX[3]-5`)."""
        if len(raw) > limits.message_bytes:
            raise TooLarge(f"The message is larger than {limits.message_bytes} bytes.")
        body = raw[3:] if raw.startswith(b"\xef\xbb\xbf") else raw
        self.raw = raw
        self.separators = _separators(body)
        lines = _lines(body, self.separators.field.encode())
        # A byte order mark, left by an editor, is UTF-8 whatever MSH-18 says.
        declared, *others = ["UNICODE UTF-8"] if body is not raw else _declared_charsets(lines[0], self.separators)
        self.reading: Reading = reading_of(raw, declared, assumed_charset, changes=bool(others))
        names = _names(lines, self.separators.field.encode(), limits)
        context = _Text(self.separators, self.reading.codec, changes=bool(others) and follows(self.reading.codec))
        super().__init__(tuple([Segment(name, line, context) for name, line in zip(names, lines, strict=True)]))

    def __bytes__(self) -> bytes:
        return self.raw

    def with_segments(self, segments: Sequence[Segment]) -> Message:
        """This message with other segments, as translation reads it; `bytes` of it stay what came."""
        changed = object.__new__(Message)
        changed.raw, changed.reading, changed.separators = self.raw, self.reading, self.separators
        changed._segments = tuple(segments)
        return changed

    @property
    def header(self) -> Segment:
        """The MSH segment."""
        return self._segments[0]

    @property
    def type(self) -> str:
        """MSH-9.1, as in `ORU`."""
        return self.header.get(9)

    @property
    def trigger(self) -> str:
        """MSH-9.2, as in `R01`."""
        return self.header.get(9, 2)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.get(10)

    @property
    def version(self) -> str:
        """MSH-12.1, as in `2.5.1`."""
        return self.header.get(12)

    @property
    def sender(self) -> str:
        """MSH-3.1 and MSH-4.1 as one name, `EPIC|GENHOSP`, under which a sender is configured."""
        return f"{self.header.get(3)}|{self.header.get(4)}"


def _separators(body: bytes) -> Separators:
    if body[:3] != b"MSH":
        batch = body[:3] in (b"FHS", b"BHS")
        raise InvalidInput("Batches are not taken." if batch else "The message does not start with MSH.", field="MSH")
    line = re.split(rb"[\r\n]", body[3:200], maxsplit=1)[0]
    end = line.find(line[:1], 1)
    if end < 0:
        raise InvalidInput("The MSH segment ends before MSH-3.", field="MSH-2")
    return separators_from(line[:1], line[1:end])


def _lines(body: bytes, mark: bytes) -> list[bytes]:
    """The segments as bytes. A lone LF before something that can't be a segment is a line break in a field."""
    if b"\n" not in body:
        return [line for line in body.split(b"\r") if line and not line.isspace()]
    return [line for line in _breaks(mark).split(body) if line and not line.isspace()]


@lru_cache(maxsize=64)
def _breaks(mark: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n?|\n(?=[A-Z][A-Z0-9]{2}(?:" + re.escape(mark) + rb"|[\r\n]|$)|[\r\n]|$)")


def _declared_charsets(line: bytes, separators: Separators) -> list[str]:
    """MSH-18: the set that the message is written in, then those that it may go over to."""
    fields = line.split(separators.field.encode(), 18)
    if len(fields) < 18:
        return [""]
    declared = fields[17].decode("ascii", "replace").split(separators.repetition)
    return [each.split(separators.component, 1)[0].strip() for each in declared]


_NAME: Final = re.compile(rb"[A-Z][A-Z0-9]{2}")


@lru_cache(maxsize=1024)
def _name(start: bytes, mark: bytes) -> str:
    """The name of the segment that starts with these four bytes; empty where they can't start one."""
    return start[:3].decode("ascii") if _NAME.match(start) and start[3:] in (mark, b"") else ""


def _names(lines: list[bytes], mark: bytes, limits: Limits) -> list[str]:
    """The names of the segments, all of them checked against the limits."""
    if len(lines) > limits.segments:
        raise TooLarge(f"The message has more than {limits.segments} segments.")
    names = [_name(line[:4], mark) for line in lines]
    if not all(names):
        number = names.index("") + 1
        raise InvalidInput(f"Line {number} of the message does not begin with the name of a segment.")
    if names.count("MSH") > 1:
        raise InvalidInput("A second message begins inside this one.", field="MSH[2]")
    # A segment no longer than either limit is within both, so few are looked at closely.
    short = min(limits.fields, limits.field_bytes)
    for index, line in enumerate(lines):
        if len(line) > short and (line.count(mark) > limits.fields or len(line) > limits.field_bytes):
            _refuse_beyond(lines, index + 1, mark, limits)
    return names


def _refuse_beyond(lines: list[bytes], number: int, mark: bytes, limits: Limits) -> None:
    name = lines[number - 1][:3]
    occurrence = sum(line.startswith(name) for line in lines[:number])
    place = name.decode("ascii") + (f"[{occurrence}]" if occurrence > 1 else "")
    shift = 1 if name == b"MSH" else 0
    for index, field in enumerate(lines[number - 1].split(mark)):
        if index + shift > limits.fields:
            raise TooLarge(f"{place} has more than {limits.fields} fields.", field=place)
        if len(field) > limits.field_bytes:
            where = f"{place}-{index + shift}"
            raise TooLarge(f"{where} is longer than {limits.field_bytes} bytes.", field=where)
