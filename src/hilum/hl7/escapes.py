"""Separators and escape sequences of HL7 v2 (v2.5.1 ch. 2.5.4 and 2.7): text that is data can't become structure.

Reading undoes the escapes it knows and leaves others visible, as sent. Writing escapes every separator and control
character, so no value, whoever typed it, can end its field, its segment or its frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from hilum.core.errors import InvalidInput


class Null(str):
    """The HL7 null `""`: the sender says that the value is to be deleted, which is not the same as saying nothing."""

    __slots__ = ()


NULL: Final = Null('""')


@dataclass(frozen=True, slots=True)
class Separators:
    """MSH-1 and MSH-2; an empty string is a separator that the sender left out."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""

    @property
    def msh2(self) -> str:
        """The encoding characters in the order of MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent + self.truncation

    @property
    def complete(self) -> bool:
        """Whether anything can be written with these: escape and subcomponent may be missing in what is read."""
        return bool(self.escape and self.subcomponent)


DEFAULT_SEPARATORS: Final = Separators()


@lru_cache(maxsize=256)
def separators_from(msh1: bytes, msh2: bytes) -> Separators:
    """Checks MSH-1 and MSH-2 of a received message; raises InvalidInput that names the field."""
    if not _is_separator(msh1):
        raise InvalidInput("MSH-1 is not a punctuation character.", field="MSH-1")
    if not 2 <= len(msh2) <= 5:
        raise InvalidInput("MSH-2 does not have two to five encoding characters.", field="MSH-2")
    if not all(_is_separator(msh2[i : i + 1]) for i in range(len(msh2))):
        raise InvalidInput("MSH-2 holds something other than punctuation characters.", field="MSH-2")
    if len(set(msh1 + msh2)) != len(msh1 + msh2):
        raise InvalidInput("MSH-1 and MSH-2 use one character for two purposes.", field="MSH-2")
    return Separators(msh1.decode("ascii"), *[chr(byte) for byte in msh2], *[""] * (5 - len(msh2)))


def _is_separator(char: bytes) -> bool:
    # A quotation mark would make the null value ambiguous; a blank is data in every system seen.
    return len(char) == 1 and 0x21 <= char[0] <= 0x7E and not char.isalnum() and char != b'"'


_HEX_RUN: Final = re.compile("X([0-9A-Fa-f]+)")


def _spaces(count: str) -> str:
    """`.sp n` ends the line and skips n - 1 more; bounded, since n is the sender's."""
    return "\n" * min(int(count or "1") or 1, 20)


@lru_cache(maxsize=256)
def unescaper(separators: Separators, codec: str) -> Callable[[str], str]:
    """A function that undoes the escapes of one message, whose `codec` gives hexadecimal escapes their meaning."""
    if not separators.escape:
        return lambda text: text
    mark = re.escape(separators.escape)
    known = re.compile(
        rf"{mark}(?P<name>[FSTREPHN]){mark}"
        rf"|{mark}\.(?P<command>(?i:br|sp|ce|fi|nf|in|ti|sk))(?P<count>[+-]?[0-9]{{0,3}}){mark}"
        rf"|(?P<hex>(?:{mark}X(?:[0-9A-Fa-f]{{2}})+{mark})+)"
    )
    meaning = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent or "&",
        "R": separators.repetition,
        "E": separators.escape,
        "P": separators.truncation or "#",
        "H": "",
        "N": "",
    }

    def plain(found: re.Match[str]) -> str:
        if name := found["name"]:
            return meaning[name]
        if digits := found["hex"]:
            return _text_of_hex("".join(_HEX_RUN.findall(digits)), codec)
        match found["command"].lower(), found["count"]:
            case "br" | "ce", _:
                return "\n"
            case "sp", count:
                return _spaces(count.lstrip("+-"))
            case "sk", count:
                return " " * min(int(count.lstrip("+-") or "1"), 20)
            case _:
                return ""

    def unescape(text: str) -> str:
        return known.sub(plain, text) if separators.escape in text else text

    return unescape


def _text_of_hex(digits: str, codec: str) -> str:
    raw = bytes.fromhex(digits)
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return raw.decode("iso8859-1")


@lru_cache(maxsize=256)
def escaper(separators: Separators) -> Callable[[str], str]:
    """A function that writes text as data of a message with these separators; every line break becomes `.br`."""
    if not separators.complete:
        raise InvalidInput("A message can't be written without escape and subcomponent characters.", field="MSH-2")
    mark = separators.escape
    # Tab is harmless; the other control characters include the MLLP start and end bytes.
    table = {code: f"{mark}X{code:02X}{mark}" for code in (*range(0x20), 0x7F) if code != 0x09}
    names = {"F": separators.field, "S": separators.component, "T": separators.subcomponent, "R": separators.repetition}
    names |= {"E": mark} | ({"P": separators.truncation} if separators.truncation else {})
    table |= {ord(char): f"{mark}{name}{mark}" for name, char in names.items()}
    if "." not in separators.field + separators.msh2:
        table[0x0D] = table[0x0A] = f"{mark}.br{mark}"
    # A text that is exactly two quotation marks would be read as the null value.
    quoted = f"{mark}X2222{mark}"

    def escape(text: str) -> str:
        return quoted if text == '""' else text.replace("\r\n", "\n").translate(table)

    return escape
