"""Several messages in one frame: the batch protocol with FHS, BHS, BTS, FTS (v2.5.1 ch. 2.10.3), in and answered.

The messages of a batch are taken one after the other as if each had come alone, journaled and applied or refused by
itself; the answer is a batch of their answers in the same order. A batch whose counts (BTS-1, FTS-1) contradict what
came, or that lacks an end where it has a beginning, was cut on the way: then nothing of it is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Final

from hilum.core.errors import InvalidInput, TooLarge
from hilum.hl7.escapes import separators_from
from hilum.hl7.timestamps import hl7_timestamp

MOST_MESSAGES: Final = 2_000
_ENVELOPE: Final = ("FHS", "BHS", "BTS", "FTS")
# What a header may be echoed with: an application, a facility, a control ID.
_LONGEST_ECHO: Final = 250


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of a frame in their order, and the header that stands first: its separator and its fields."""

    messages: tuple[bytes, ...]
    mark: bytes
    header: tuple[bytes, ...]

    @property
    def in_file(self) -> bool:
        """Whether it came as a file of batches."""
        return self.header[0] == b"FHS"


def is_batch(raw: bytes) -> bool:
    """Tell whether a frame is a batch rather than a message."""
    return raw[:16].removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n ")[:3] in (b"FHS", b"BHS")


def read_batch(raw: bytes) -> Batch:
    """Take a batch apart, its messages to the byte. Raises InvalidInput or TooLarge that names the segment."""
    body = raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n ")
    mark = body[3:4]
    header = re.split(rb"[\r\n]", body, maxsplit=1)[0].split(mark) if mark else []
    separators_from(mark, header[1] if len(header) > 1 else b"")
    parts = [*_starts(body, mark), (len(body), "")]
    messages = [body[start:end] for (start, name), (end, _) in pairwise(parts) if name == "MSH"]
    if len(messages) > MOST_MESSAGES or len(parts) > MOST_MESSAGES * 4:
        raise TooLarge(f"The batch has more than {MOST_MESSAGES} messages.")
    _require_order(
        [(name, b"" if name == "MSH" else body[start:end].strip()) for (start, name), (end, _) in pairwise(parts)], mark
    )
    return Batch(tuple(messages), mark, tuple(header))


def _require_order(parts: list[tuple[str, bytes]], mark: bytes) -> None:
    """Each beginning has its end, a file stands around its batches, and what the ends count is there."""
    begun: list[str] = []
    messages = batches = 0
    for number, (name, segment) in enumerate(parts):
        if name == "MSH":
            messages += 1
        elif name in ("FHS", "BHS"):
            if name in begun or (name == "FHS" and number):
                raise InvalidInput("The segments of the batch are not in their order.", field=name)
            begun.append(name)
            messages, batches = 0, batches + (name == "BHS")
        elif not begun or begun.pop() != name.replace("TS", "HS"):
            raise InvalidInput("The segments of the batch are not in their order.", field=name)
        else:
            _require_count(segment.split(mark), messages if name == "BTS" else batches, name)
    if begun:
        raise InvalidInput("The batch has no end.", field=begun[-1].replace("HS", "TS"))


def _starts(body: bytes, mark: bytes) -> list[tuple[int, str]]:
    """Where the parts of a batch begin; the segments of a message but its first belong to its part."""
    names = b"|".join(name.encode() for name in (*_ENVELOPE, "MSH"))
    found = re.compile(rb"(?:^|(?<=[\r\n]))(" + names + rb")(?:" + re.escape(mark) + rb"|[\r\n]|$)")
    # MSH has separators of its own, by which a message is read and not the batch.
    own = re.compile(rb"(?<=[\r\n])(MSH)[!-/:-@\[-`{-~]")
    places = {each.start(1): each[1].decode() for pattern in (found, own) for each in pattern.finditer(body)}
    return sorted(places.items())


def _require_count(fields: list[bytes], counted: int, name: str) -> None:
    """BTS-1 and FTS-1 may be left out; one that is there has to be right."""
    said = fields[1].strip() if len(fields) > 1 else b""
    if said and (not said.isdigit() or len(said) > 9 or int(said) != counted):
        raise InvalidInput("The batch does not hold what its end counts.", field=f"{name}-1")


def batch_answer(batch: Batch, answers: Sequence[bytes], *, control_id: str, now: datetime, zone: tzinfo) -> bytes:
    """Write the answers to the messages of a batch as a batch that names it (BHS-12)."""
    kind = b"FHS" if batch.in_file else b"BHS"
    mark, msh2 = batch.mark, batch.header[1]
    said = [_echo(batch, number) for number in range(12)]
    moment = hl7_timestamp(now, zone).encode("ascii")
    # Sender and receiver change places; FHS and BHS have the same fields (v2.5.1 ch. 2.15.2, 2.15.4).
    fields = [kind, msh2, said[4], said[5], said[2], said[3], moment, b"", said[8], b"", control_id.encode(), said[10]]
    head = mark.join(fields).rstrip(mark) + b"\r"
    count = str(len(answers)).encode("ascii")
    inner = b"".join(answers)
    if not batch.in_file:
        return head + inner + mark.join([b"BTS", count]) + b"\r"
    between = mark.join([b"BHS", msh2]) + b"\r"
    return head + between + inner + mark.join([b"BTS", count]) + b"\r" + mark.join([b"FTS", b"1"]) + b"\r"


def _echo(batch: Batch, number: int) -> bytes:
    value = batch.header[number] if number < len(batch.header) else b""
    return value if len(value) <= _LONGEST_ECHO else b""
