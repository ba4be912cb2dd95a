"""The HL7 v2 door: takes messages over MLLP, has each journaled and applied in one commit, and answers after it.

AA is sent only when the message is applied and durable. While the database does not answer, the sender gets AE and
sends again. In enhanced mode (MSH-15/16) the commit answer and the application answer go on the same connection, unless
the peer's setting names an address for the latter.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ssl import SSLContext
from typing import Final
from zoneinfo import ZoneInfo

from hilum.core.actor import Door
from hilum.core.errors import DeadlineExceeded, Defect, HilumError
from hilum.hl7.ack import SegmentFields, acknowledge, acknowledgements_due
from hilum.hl7.answers import control_id
from hilum.hl7.batches import batch_answer, is_batch, read_batch
from hilum.hl7.deferred import DeferredAnswers
from hilum.hl7.er7 import Message
from hilum.hl7.hosts import Hosts
from hilum.hl7.mllp import MllpServer, PeerInfo
from hilum.hl7.mllp_client import answer_of
from hilum.hl7.reception import Reception, open_envelope, receive
from hilum.hl7.xml_encoding import is_xml, xml_from_ack
from hilum.security.connections import ConnectionLog
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.telemetry import count_message
from hilum.workflow.inbound import ReceiveMessage, receive_message

log = logging.getLogger(__name__)

# A message beyond this is read on another thread, so that other connections do not wait for it.
_LARGE: Final = 128 * 1024
# After this the sender is told to try again; what is under way may still be applied, and is then answered as applied.
ANSWER_WITHIN: Final = 30.0
# How many messages of senders that are not admitted are kept in an hour; more are answered and counted only.
UNKNOWN_KEPT_PER_HOUR: Final = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """The application answer to a message, its MSA-1, and whether the journal holds the message."""

    reply: bytes
    code: str
    journaled: bool


class Hl7Door:
    """Listens for HL7 v2 over MLLP."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        *,
        ssl: SSLContext | None = None,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        """Takes the store that journals, the live configuration and, for TLS, the context of the listening side."""
        self.deferred = DeferredAnswers(configuration)
        self._store = store
        self._configuration = configuration
        self._answer_within = answer_within
        self._hosts = Hosts()
        self._unknown = HourlyBudget(UNKNOWN_KEPT_PER_HOUR)
        self._refusals = ConnectionLog(store)
        said = configuration.current.hl7
        self.server = MllpServer(
            said.listen.host,
            said.listen.port,
            self.handle,
            refuse=self.refuse_frame,
            max_frame_bytes=said.max_frame_bytes,
            max_connections=said.max_connections,
            idle_timeout=said.idle_timeout,
            frame_timeout=said.frame_timeout,
            max_connections_per_address=said.max_connections_per_address,
            ssl=ssl,
            refused=self._not_let_in,
        )

    async def start(self, sock: socket.socket | None = None) -> tuple[str, int]:
        """Listen, on `sock` where one is given that is bound already; return host and port."""
        return await self.server.start(sock)

    async def drain(self, grace: float = 10) -> int:
        """Stop accepting, finish what is in hand, close; return how many messages were left unanswered."""
        unfinished = await self.server.drain(grace)
        await self.deferred.close(grace)
        return unfinished

    async def handle(self, raw: bytes, peer: PeerInfo) -> Sequence[bytes]:
        """Take one message, or a batch of them, and return the answers that its sender waits for."""
        if not is_batch(raw):
            return await self._take(raw, peer)
        try:
            batch = await asyncio.to_thread(read_batch, raw)
        except HilumError as error:
            return await self._take(raw, peer, error)
        answers = [answer for message in batch.messages for answer in await self._take(message, peer)]
        zone = ZoneInfo(self._configuration.current.facility.zone)
        now = self._store.clock()
        return [batch_answer(batch, answers, control_id=control_id(), now=now, zone=zone)]

    async def _take(self, raw: bytes, peer: PeerInfo, cut: HilumError | None = None) -> Sequence[bytes]:
        """Take one message; `cut` is why a batch is refused as a whole."""
        # One snapshot of the configuration, one moment, for all of a message.
        settings, now = self._configuration.refresh(), self._store.clock()
        in_thread = len(raw) > _LARGE
        envelope = (
            await asyncio.to_thread(open_envelope, raw, peer.host, settings, peer.certificate)
            if in_thread
            else open_envelope(raw, peer.host, settings, peer.certificate)
        )
        if cut is not None:
            envelope = replace(envelope, error=cut)
        hosts = await self._hosts.of(envelope.profile.address)
        reception = (
            await asyncio.to_thread(receive, envelope, settings, hosts, now)
            if in_thread
            else receive(envelope, settings, hosts, now)
        )
        if reception.admitted or self._unknown.take():
            outcome = await self._journal(reception, now)
        else:
            outcome = _unjournaled(reception, reception.refusal or Defect(), now)
        count_message("hl7", reception.command.kind or "other", outcome.code)
        answers = self._answers(reception, outcome, now)
        return [xml_from_ack(answer) for answer in answers] if is_xml(raw) else answers

    def refuse_frame(self, reason: HilumError, prefix: bytes) -> bytes:
        """The answer to a frame that can't be a message: too large, cut off, without an end."""
        count_message("hl7", "frame", "AR")
        return acknowledge(None, [reason], control_id=control_id(), now=self._store.clock(), raw=prefix)

    def _not_let_in(self, address: str, why: BaseException | str) -> None:
        if isinstance(why, str):
            self._refusals.refused(Door.HL7, address, why)
        else:
            self._refusals.handshake_failed(Door.HL7, address, why)

    async def _journal(self, reception: Reception, now: datetime) -> Outcome:
        """Journal and apply; a message that this can't be done for is journaled as refused, where that can be done."""
        try:
            return await self._run(reception.command, reception)
        except DeadlineExceeded as error:
            return _unjournaled(reception, error, now)
        except HilumError as error:
            refusal = error
        except Exception as error:  # the sender gets an answer, and its next messages are taken
            log.error("a message was not applied", exc_info=error, extra={"door": "hl7"})
            refusal = Defect()
        try:
            return await self._run(reception.refusing(refusal, now), reception)
        except Exception as error:  # as above; the message stays with its sender
            log.error("a message was not journaled", exc_info=error, extra={"door": "hl7"})
            return _unjournaled(reception, refusal, now)

    async def _run(self, command: ReceiveMessage, reception: Reception) -> Outcome:
        future = asyncio.wrap_future(self._store.submit(receive_message, command, reception.actor))
        # Also when nobody waits any longer, since the loop would report an error that was never looked at.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(self._answer_within):
                # Shielded: what was handed to the store can't be called back.
                received = await asyncio.shield(future)
        except TimeoutError:
            raise DeadlineExceeded("The message could not be stored in time.") from None
        return Outcome(received.reply, _code_of(received.reply), journaled=True)

    def _answers(self, reception: Reception, outcome: Outcome, now: datetime) -> Sequence[bytes]:
        header = reception.header
        if header is None:
            return [outcome.reply]
        conditions = header.get("MSH-15"), header.get("MSH-16")
        due = acknowledgements_due(*conditions, outcome.code, journaled=outcome.journaled)
        answers: list[bytes] = []
        if due.commit is not None:
            errors = _errors_of(outcome.reply) if due.commit != "CA" else ()
            answers.append(acknowledge(header, control_id=control_id(), now=now, code=due.commit, extra=errors))
        if due.application is None:
            return answers
        if any(conditions) and reception.profile.address and reception.admitted:
            xml = is_xml(reception.envelope.raw)
            self.deferred.send(reception.profile.address, xml_from_ack(outcome.reply) if xml else outcome.reply)
            return answers
        return [*answers, outcome.reply]


def _unjournaled(reception: Reception, error: HilumError, now: datetime) -> Outcome:
    reply = reception.plain_answer(now)(None, error)
    return Outcome(reply, _code_of(reply), journaled=False)


def _code_of(reply: bytes) -> str:
    found = answer_of(reply)
    return found[0].decode("ascii", "replace") if found else "AE"


def _errors_of(reply: bytes) -> list[SegmentFields]:
    """The ERR segments of an answer, to say in the commit answer what was wrong."""
    errors = Message(reply).segments("ERR")
    return [("ERR", {number: err.value(number) for number in range(1, len(err) + 1)}) for err in errors]


class HourlyBudget:
    """Allows so many in an hour; the hour begins with the first."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._since = clock()
        self._taken = 0

    def take(self) -> bool:
        """Take one, if there is one left."""
        now = self._clock()
        if now - self._since >= 3600:
            self._since, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._limit
