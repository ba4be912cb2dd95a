"""Puts DIMSE messages together from presentation data values (PS3.7 6.3, PS3.8 Annex E).

The fragments of one message are on one context, command first, and not interleaved with those of another; a peer that
does otherwise is aborted. The data set is received straight into its buffer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hilum.core.errors import HilumError, InvalidInput
from hilum.dicom.dimse.data_set import DataSetBuffer
from hilum.dicom.dimse.messages import CommandSet, MalformedCommand, decode_command
from hilum.dicom.upper_layer.association import Association
from hilum.dicom.upper_layer.limits import Limits
from hilum.dicom.upper_layer.pdu import PresentationDataValue


class BrokenMessage(InvalidInput):
    """The fragments of a message are not in the order of PS3.7 6.3."""

    code = "broken-message"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message; its data set, if it has one, is in the buffer the reader was given."""

    presentation_context_id: int
    command: CommandSet


class MessageReader:
    """Reads the messages of one association, one at a time."""

    def __init__(self, association: Association, limits: Limits) -> None:
        self._association = association
        self._limits = limits
        self._pending: deque[PresentationDataValue] = deque()
        self._scratch = memoryview(bytearray(limits.maximum_length_received))

    def read(
        self, buffer: DataSetBuffer, maximum: Callable[[int], int], on_tick: Callable[[], bool] | None = None
    ) -> Message | None:
        """The next message, its data set in `buffer`; None when the association is over or `on_tick` said to stop.

        `maximum` gives the largest data set taken on a context. Raises BrokenMessage or MalformedCommand.
        """
        first = self._next_value(self._scratch_window, on_tick)
        if first is None:
            return None
        context_id = first.presentation_context_id
        started = time.monotonic()
        raw = self._read_command(first)
        if raw is None:
            return None
        command = decode_command(raw)
        buffer.begin(maximum(context_id))
        if command.has_data_set and not self._read_data_set(context_id, buffer, started):
            return None
        return Message(context_id, command)

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def _scratch_window(self, size: int) -> memoryview:
        return self._scratch

    def _next_value(
        self, window: Callable[[int], memoryview], on_tick: Callable[[], bool] | None = None
    ) -> PresentationDataValue | None:
        if not self._pending:
            values = self._association.receive(window, on_tick)
            if values is None:
                return None
            self._pending.extend(values)
        return self._pending.popleft()

    def _read_command(self, first: PresentationDataValue) -> bytes | None:
        content = bytes(first.fragment)
        value = first
        while True:
            if not value.is_command:
                raise BrokenMessage("A data set fragment comes where a command should.")
            if value.is_last:
                return content
            following = self._next_value(self._scratch_window)
            if following is None:
                return None
            if following.presentation_context_id != first.presentation_context_id:
                raise BrokenMessage("The fragments of a command are on two contexts.")
            if len(content) + len(following.fragment) > self._limits.maximum_command:
                raise MalformedCommand("The command set is too large.")
            content += following.fragment
            value = following

    def _read_data_set(self, context_id: int, buffer: DataSetBuffer, started: float) -> bool:
        while True:
            value = self._next_value(buffer.window)
            if value is None:
                return False
            if value.is_command or value.presentation_context_id != context_id:
                raise BrokenMessage("Another message begins before the data set is complete.")
            if buffer.owns(value.fragment):
                buffer.commit(len(value.fragment))
            else:
                buffer.append(value.fragment)
            if value.is_last:
                return True
            self._check_pace(buffer, started)

    def _check_pace(self, buffer: DataSetBuffer, started: float) -> None:
        elapsed = time.monotonic() - started - self._limits.network_timeout
        if elapsed > 0 and buffer.length < elapsed * self._limits.minimum_rate:
            raise SlowMessage
        if buffer.hopeless:
            raise buffer.failure or BrokenMessage


class SlowMessage(HilumError):
    """The message comes in too slowly to be waited for."""

    code = "slow-message"
    retryable = True
