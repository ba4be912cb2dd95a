"""Writes HL7 v2 messages: values are data, and nothing in them can end a field, a segment or a frame.

A field is text, a tuple of components (each may be a tuple of subcomponents) or a list of repetitions; None and the
empty string are empty, NULL is the HL7 null. A line break in text becomes the escape `.br`. Times are written with
`timestamps.hl7_timestamp` first, so that their zone is somebody's decision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hilum.hl7.charset import codec_for_writing, encode, standard_name
from hilum.hl7.er7 import Value
from hilum.hl7.escapes import DEFAULT_SEPARATORS, Null, Separators, escaper

_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


class Builder:
    """One message under construction, MSH first; `bytes(builder)` is the message, each segment ended by CR."""

    def __init__(
        self,
        charset: str = "UNICODE UTF-8",
        *,
        separators: Separators = DEFAULT_SEPARATORS,
        substitute: str | None = None,
    ) -> None:
        """Takes the name of a set in table 0211 and what stands for characters that it lacks (None refuses them)."""
        self._codec = codec_for_writing(charset)
        self._charset = standard_name(charset)
        self._separators = separators
        self._escape = escaper(separators)
        self._substitute = substitute
        self._segments: list[bytes] = []
        self._counts: dict[str, int] = {}

    def add(self, name: str, fields: Mapping[int, Value]) -> Builder:
        """Adds a segment from its fields by number; raises InvalidInput for a character that the set lacks.

        In MSH the fields 1, 2 and 18 are the builder's own.
        """
        if _NAME.fullmatch(name) is None or (name == "MSH") == bool(self._segments):
            raise ValueError("segments have names of three characters, and the first and only the first is MSH")
        count = self._counts[name] = self._counts.get(name, 0) + 1
        place = name if count == 1 else f"{name}[{count}]"
        if name == "MSH":
            fields = {**fields, 18: "" if self._charset == "ASCII" else self._charset}
        parts: list[bytes] = [b""] * (max(fields, default=0) + 1)
        parts[0] = name.encode("ascii")
        for number, value in fields.items():
            if number < 1 or (name == "MSH" and number < 3):
                raise ValueError(f"{name}-{number} is not a field that can be set")
            parts[number] = encode(
                self._field(value), self._codec, field=f"{place}-{number}", substitute=self._substitute
            )
        if name == "MSH":
            parts[1:3] = [self._separators.msh2.encode("ascii")]
        mark = self._separators.field.encode("ascii")
        while len(parts) > 1 and not parts[-1]:
            parts.pop()
        self._segments.append(mark.join(parts))
        return self

    def __bytes__(self) -> bytes:
        return b"".join(segment + b"\r" for segment in self._segments)

    def _field(self, value: Value) -> str:
        if not isinstance(value, list):
            return self._repetition(value)
        written = [self._repetition(part) for part in value]
        return self._separators.repetition.join(_without_empty_end(written))

    def _repetition(self, value: Value) -> str:
        if not isinstance(value, tuple):
            return self._text(value)
        return self._separators.component.join(_without_empty_end([self._component(part) for part in value]))

    def _component(self, value: Value) -> str:
        if not isinstance(value, tuple):
            return self._text(value)
        return self._separators.subcomponent.join(_without_empty_end([self._text(part) for part in value]))

    def _text(self, value: Value) -> str:
        if value is None:
            return ""
        if isinstance(value, Null):
            return str(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError(f"a field can't hold a {type(value).__name__} here")
        return self._escape(str(value))


def _without_empty_end(parts: list[str]) -> list[str]:
    end = len(parts)
    while end and not parts[end - 1]:
        end -= 1
    return parts[:end]
