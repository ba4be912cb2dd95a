"""From sample messages to the profile of their sender: what they show is proposed, what they don't is asked for.

The proposal is a file for `profiles/`, with comments where a person has to decide. It holds codes and names of
authorities, and no data of patients.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hilum.hl7.conformance import LONGEST_CODE, read_error, unknown_codes, unread_fields
from hilum.hl7.er7 import Message
from hilum.hl7.reception import kind_of, open_envelope
from hilum.hl7.translate import plain
from hilum.settings import Settings

ORDERS: Final = ("ORM", "OMG", "OMI")
# At least two parts below the root of an organisation: shorter ones are versions and addresses.
_UID: Final = re.compile(r"[0-2](?:\.[0-9]+){4,}")
_SHAPES: Final = (
    ("a UID", _UID),
    ("dates or times", re.compile(r"(?:19|20)\d{6}(?:\d{2,6})?")),
    ("numbers", re.compile(r"\d+")),
    ("codes", re.compile(r"[A-Z0-9_-]{1,16}")),
)
_VERSIONS: Final = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1")


@dataclass(slots=True)
class Samples:
    """What the messages of one sender show, counted."""

    sender: str
    kinds: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    charsets: Counter[str] = field(default_factory=Counter)
    authorities: Counter[str] = field(default_factory=Counter)
    codes: dict[str, set[str]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    shapes: dict[str, Counter[str]] = field(default_factory=dict)
    uids: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    with_accession: int = 0
    with_uid: int = 0
    unreadable: int = 0


def learn(messages: Iterable[bytes], settings: Settings) -> list[Samples]:
    """Look at sample messages; return what each sender shows, the most frequent first."""
    found: dict[str, Samples] = {}
    for raw in messages:
        envelope = open_envelope(raw, "127.0.0.1", settings)
        message = envelope.header
        samples = found.setdefault(message.sender if message else "", Samples(message.sender if message else ""))
        if message is None or envelope.error is not None:
            samples.unreadable += 1
        else:
            _look(samples, message, settings)
    return sorted(found.values(), key=lambda each: -each.kinds.total())


def _look(samples: Samples, message: Message, settings: Settings) -> None:
    samples.kinds[kind_of(message)] += 1
    samples.versions[message.version] += 1
    if message.reading.note:
        samples.charsets[message.reading.codec] += 1
    for pid in message.segments("PID"):
        for each in pid.repetitions(3)[:1]:
            samples.authorities[plain(each.get(4)) or plain(each.get(4, 2))] += 1
    for place, codes in unknown_codes(message).items():
        samples.codes.setdefault(place, set()).update(code for code in codes if len(code) <= LONGEST_CODE)
    looked_at: set[tuple[str, int]] = set()
    error = read_error(message, settings, looked_at)
    if error is not None:
        samples.errors[f"{error.field or 'the message'}: {error.message}"] += 1
    for path in unread_fields(message, looked_at):
        samples.unread[path] += 1
        name, _, number = path.partition("-")
        for segment in message.segments(name):
            samples.shapes.setdefault(path, Counter())[_shape(segment.get(int(number)))] += 1
    if message.type in ORDERS:
        _look_at_order(samples, message)


def _look_at_order(samples: Samples, message: Message) -> None:
    samples.orders += 1
    samples.with_accession += bool(plain(message.get("OBR-18")) or plain(message.get("IPC-1")))
    samples.with_uid += bool(plain(message.get("ZDS-1")) or plain(message.get("IPC-3")))
    for segment in message:
        if segment.name in ("MSH", "OBX", "IPC", "ZDS"):
            continue
        for number in range(1, len(segment) + 1):
            for repetition in segment.repetitions(number)[:1]:
                for component in range(1, repetition.encoded.count(message.separators.component) + 2):
                    if _UID.fullmatch(plain(repetition.get(component))):
                        samples.uids[f"{segment.name}-{number}" + (f".{component}" if component > 1 else "")] += 1


def _shape(text: str) -> str:
    return next((name for name, pattern in _SHAPES if pattern.fullmatch(text)), "text")


def proposal(samples: Samples) -> str:
    """Write the profile that samples show, as the content of a file in `profiles/`."""
    kinds = ", ".join(f"{count} {kind or 'of no type'}" for kind, count in samples.kinds.most_common())
    lines = [f"# Proposed from {samples.kinds.total()} messages: {kinds}."]
    if samples.unreadable:
        lines.append(f"# {samples.unreadable} more could not be read.")
    lines += [f"name = {_quoted(samples.sender)}", *_basics(samples), *_places(samples)]
    for place, codes in sorted(samples.codes.items()):
        lines += [
            "",
            f'# What do these mean in the table of {place}? Write it and take the "#" away.',
            f'[codes."{place}"]',
        ]
        lines += [f'# {_quoted(code)} = ""' for code in sorted(codes)]
    return "\n".join([*lines, *_remarks(samples), ""])


def _basics(samples: Samples) -> list[str]:
    lines = []
    version = _most(samples.versions)
    if version in _VERSIONS:
        lines.append(f"version = {_quoted(version)}")
    authority = _most(samples.authorities)
    if authority:
        others = ", ".join(sorted(name for name in samples.authorities if name and name != authority))
        lines.append(f"authority = {_quoted(authority)}" + (f"  # also: {others}" if others else ""))
    elif samples.authorities:
        lines.append('# authority = ""  # who assigns its patient numbers? They come without one.')
    codec = _most(samples.charsets)
    if codec.startswith("iso8859-"):
        lines.append(
            f'charset = "8859/{codec.removeprefix("iso8859-")}"  # not declared; 8859/1 unless you know better'
        )
    lines.append('# zone = ""  # time zone of its times, unless they have an offset or are the facility\'s')
    if samples.orders:
        numbered = f"{samples.with_accession} of {samples.orders} orders bring an accession, {samples.with_uid} a UID"
        lines.append(f'# filler = "auto"  # {numbered}; "external": it numbers its orders, "hilum": we do')
    return lines


def _places(samples: Samples) -> list[str]:
    lines: list[str] = []
    candidates = [path for path, count in samples.uids.most_common() if count * 2 > samples.orders]
    if samples.orders and not samples.with_uid and candidates:
        others = f"  # or {', '.join(candidates[1:])}" if candidates[1:] else ""
        lines.append(f'"ZDS-1" = {_quoted(candidates[0])}{others}')
    if samples.orders and not samples.with_accession:
        fits = _fitting(samples)
        if fits:
            lines.append(
                f'# "OBR-18" = {_quoted(fits[0])}  # is the accession there? Or in: {", ".join(fits[1:]) or "–"}'
            )
    return ["", "[places]", *lines] if lines else []


def _fitting(samples: Samples) -> list[str]:
    """Unread fields of orders that could hold an accession number (SH, 16 characters)."""
    return [
        path
        for path, count in samples.unread.most_common()
        if path[:3] in ("ORC", "OBR") or path[:1] == "Z"
        if count >= samples.orders and samples.shapes[path].keys() <= {"numbers", "codes"}
    ]


def _remarks(samples: Samples) -> list[str]:
    lines: list[str] = []
    if samples.errors:
        lines += ["", "# As they are, these would be refused:"]
        lines += [f"#   {count} ×  {error}" for error, count in samples.errors.most_common(20)]
    if samples.unread:
        total = samples.kinds.total()
        lines += ["", "# Valued, and read by nothing (give it a place above if something is missing):"]
        lines += [
            f"#   {path}: in {count} of {total}, {' or '.join(sorted(samples.shapes[path]))}"
            for path, count in sorted(samples.unread.items(), key=lambda each: (each[0][:3], int(each[0][4:])))[:100]
        ]
    return lines


def _most(counted: Counter[str]) -> str:
    return next((value for value, _ in counted.most_common() if value), "")


def _quoted(text: str) -> str:
    """A basic string of TOML; what no name holds is left out."""
    kept = "".join(letter for letter in text if letter.isprintable())[:455]
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'


def file_name(sender: str, taken: Sequence[str] = ()) -> str:
    """Return a name for the file of a sender's profile that is not taken."""
    stem = re.sub(r"[^a-z0-9]+", "-", sender.lower()).strip("-")[:60] or "sender"
    number = 1
    while (name := f"{stem}{f'-{number}' if number > 1 else ''}.toml") in taken:
        number += 1
    return name
