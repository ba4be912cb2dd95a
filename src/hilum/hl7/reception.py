"""From the bytes of one frame to what the journal's verb needs: whose it is, what it asks for, how it is answered.

Nothing is decided here about the state: a message that can't be read, whose sender is not admitted or whose content is
wrong becomes a command that refuses, so that the journal keeps it with its answer.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, replace
from datetime import datetime

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Defect, HilumError
from hilum.hl7.ack import acknowledge, header_of
from hilum.hl7.adapted import adapted
from hilum.hl7.answers import Answer, answer_to, control_id
from hilum.hl7.er7 import Message
from hilum.hl7.messages_in import MOST_GROUPS, prepare
from hilum.hl7.prepared import Apply, Prepared
from hilum.hl7.profiles import Incoming, Profile, profile_of, require_admission
from hilum.hl7.translate_order import OrderGroup, order_groups
from hilum.hl7.xml_encoding import er7_from_xml, is_xml
from hilum.security.certificates import PeerCertificate
from hilum.settings import Settings
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.inbound import Applied, ReceiveMessage

log = logging.getLogger(__name__)

# Longest sender and control ID that the journal's keys take; longer ones are no configured peer's.
LONGEST_SENDER = 455
LONGEST_CONTROL_ID = 199
# Of a message from a sender that is not admitted, so much is kept for whoever looks at the list.
KEPT_OF_UNKNOWN = 64 * 1024
_KIND = re.compile(r"[A-Z][A-Z0-9]{2}\^(?:[A-Z][A-Z0-9]{2})?")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What can be told of a message before it is read: its header, if there is one, and who says to have sent it."""

    raw: bytes
    host: str
    header: Message | None
    readable: bool
    error: HilumError | None
    profile: Profile
    certificate: PeerCertificate | None = None


@dataclass(frozen=True, slots=True)
class Reception:
    """One message as the door hands it on; `refusal` is why its sender may not send at all."""

    command: ReceiveMessage
    actor: Actor
    envelope: Envelope
    refusal: HilumError | None = None

    @property
    def admitted(self) -> bool:
        """Tell whether its sender may send."""
        return self.refusal is None

    @property
    def header(self) -> Message | None:
        """The message as far as it could be read."""
        return self.envelope.header

    @property
    def profile(self) -> Profile:
        """How its sender is read and answered."""
        return self.envelope.profile

    def plain_answer(self, now: datetime) -> Answer:
        """An answer that looks at nothing but the header."""
        return _plain_answer(self.envelope, now)

    def refusing(self, error: HilumError, now: datetime) -> ReceiveMessage:
        """The same message, to be journaled as refused with this error."""
        return replace(self.command, apply=_refuse_with(error), answer=self.plain_answer(now))


def open_envelope(raw: bytes, host: str, settings: Settings, certificate: PeerCertificate | None = None) -> Envelope:
    """Read a message, or what is left of its header, and find its sender's profile; never raises for its content."""
    try:
        message: Message | None = Message(er7_from_xml(raw) if is_xml(raw) else raw)
        error = None
    except HilumError as unreadable:
        message, error = header_of(raw), unreadable
    name = message.sender if message is not None else ""
    # A sender that does not say who it is goes by its host.
    profile = profile_of(settings, name if len(name) > 1 and _is_key(name, LONGEST_SENDER) else host)
    if message is not None and error is None and profile.charset and not message.reading.declared:
        message = Message(message.raw, assumed_charset=profile.charset)
    if is_xml(raw):
        # The answers to orders have groups, which an ACK has not.
        profile = replace(profile, answer="ack")
    return Envelope(raw, host, message, error is None, error, profile, certificate)


def receive(envelope: Envelope, settings: Settings, allowed_hosts: frozenset[str] | None, now: datetime) -> Reception:
    """Make the command that journals a message and applies it, or refuses it."""
    profile, header = envelope.profile, envelope.header
    actor = Actor(profile.name, Role.SERVICE, ActorKind.PEER, Door.HL7, address=envelope.host)
    refusal: HilumError | None = None
    try:
        require_admission(settings, profile, envelope.host, allowed_hosts, envelope.certificate)
        apply, answer = _understood(envelope, now)
    except HilumError as error:
        refusal = error
        apply, answer = _refuse_with(error), _plain_answer(envelope, now)
    said = header.control_id.strip() if header is not None else ""
    command = ReceiveMessage(
        sender=profile.name,
        control_id=said if _is_key(said, LONGEST_CONTROL_ID) else "",
        digest=hashlib.sha256(envelope.raw).hexdigest(),
        kind=kind_of(header),
        raw=envelope.raw if refusal is None else envelope.raw[:KEPT_OF_UNKNOWN],
        apply=apply,
        answer=answer,
        barred=refusal,
        is_query=header is not None and header.type == "QBP",
    )
    return Reception(command, actor, envelope, refusal)


def _is_key(text: str, limit: int) -> bool:
    return len(text) <= limit and text.isprintable()


def kind_of(header: Message | None) -> str:
    """MSH-9 as `ADT^A04`, for the journal, metrics and routes; empty where it is no type of message."""
    kind = f"{header.type}^{header.trigger}" if header is not None else ""
    return kind.rstrip("^") if _KIND.fullmatch(kind) else ""


def _understood(envelope: Envelope, now: datetime) -> tuple[Apply, Answer]:
    if envelope.error is not None or envelope.header is None:
        return _refuse_with(envelope.error or Defect()), _plain_answer(envelope, now)
    incoming = Incoming(adapted(envelope.header, envelope.profile.peer), envelope.profile, now)
    try:
        prepared = prepare(incoming)
    except HilumError as refusal:
        prepared = Prepared(_refuse_with(refusal), _orders_to_answer(incoming))
    except Exception as error:  # a defect in one message must not stop its sender's next ones
        log.error(
            "a message was not understood", exc_info=error, extra={"door": "hl7", "kind": kind_of(envelope.header)}
        )
        prepared = Prepared(_refuse_with(Defect()))
    return prepared.apply, answer_to(incoming, prepared.orders, now, prepared.respond)


def _orders_to_answer(incoming: Incoming) -> tuple[OrderGroup, ...]:
    """The orders of a message that was refused, to be named in its answer; none where they can't be told apart."""
    try:
        return tuple(order_groups(incoming)[:MOST_GROUPS]) if incoming.message.type in ("ORM", "OMG", "OMI") else ()
    except HilumError:
        return ()


def _plain_answer(envelope: Envelope, now: datetime) -> Answer:
    """The plain answer to a message whose content is not looked at."""
    own_id = control_id()

    def answer(applied: Applied | None, error: HilumError | None) -> bytes:
        return acknowledge(
            envelope.header if envelope.readable else None,
            [error] if error else [],
            control_id=own_id,
            now=now,
            zone=envelope.profile.zone,
            # What could not be read is rejected, unless the error is one of the moment.
            code="AE" if error is not None and error.retryable else None,
            raw=envelope.raw,
        )

    return answer


def _refuse_with(error: HilumError) -> Apply:
    def refuse(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        raise error

    return refuse
