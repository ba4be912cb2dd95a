"""One association from the acceptor's side, driven by the state table (PS3.8 9.2), in the thread that owns it.

`establish` negotiates, `receive` yields presentation data values, `send` writes a message, `release` and `abort` end
it; afterwards `closed` is True and `outcome` says how. Nothing here knows DIMSE. No method is thread-safe.

The caller says where the next fragment should be put (`window`), so that the bytes of a data set go from the kernel
straight to their place: the usual P-DATA-TF holds a single value, and is read with its fragment in the window.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from hilum.dicom.upper_layer.limits import Limits
from hilum.dicom.upper_layer.negotiation import AcceptedContext, Agreement, Peer
from hilum.dicom.upper_layer.pdu import (
    PDU_HEADER,
    PDV_HEADER,
    AAbort,
    AAssociateRJ,
    AAssociateRQ,
    AbortReason,
    AbortSource,
    AReleaseRP,
    AReleaseRQ,
    InvalidPdu,
    Pdu,
    PduType,
    PresentationDataValue,
    decode_pdu,
    encode_pdu,
    fragment_message,
    pdv_of,
    split_pdvs,
)
from hilum.dicom.upper_layer.state import TRANSITIONS, Action, Event, State
from hilum.dicom.upper_layer.transport import Transport, TransportClosed, TransportStalled

log = logging.getLogger("hilum.dicom.association")

Window = Callable[[int], memoryview]
Negotiate = Callable[[AAssociateRQ], Agreement | AAssociateRJ]

_EVENT_OF = {
    PduType.A_ASSOCIATE_RQ: Event.A_ASSOCIATE_RQ_RECEIVED,
    PduType.A_ASSOCIATE_AC: Event.A_ASSOCIATE_AC_RECEIVED,
    PduType.A_ASSOCIATE_RJ: Event.A_ASSOCIATE_RJ_RECEIVED,
    PduType.P_DATA_TF: Event.P_DATA_TF_RECEIVED,
    PduType.A_RELEASE_RQ: Event.A_RELEASE_RQ_RECEIVED,
    PduType.A_RELEASE_RP: Event.A_RELEASE_RP_RECEIVED,
    PduType.A_ABORT: Event.A_ABORT_RECEIVED,
}
_ASSOCIATE = (PduType.A_ASSOCIATE_RQ, PduType.A_ASSOCIATE_AC)
_ARTIM_RUNS = (State.STA2, State.STA13)
_FRAMES = 256 * 1024  # unlimited peers get data sets in units of this size


class Association:
    """The acceptor's end of one association."""

    def __init__(self, transport: Transport, limits: Limits, association_id: str = "-") -> None:
        self.state = State.STA1
        self.outcome = "open"
        self.association_id = association_id
        self.contexts: dict[int, AcceptedContext] = {}
        self.peer: Peer | None = None
        self.maximum_length_sent = _FRAMES
        self._transport = transport
        self._limits = limits
        self._header = memoryview(bytearray(PDU_HEADER.size))
        self._pdv_header = memoryview(bytearray(PDV_HEADER.size))
        self._scratch = memoryview(bytearray(limits.maximum_length_received))
        self._artim = 0.0
        self._framing_lost = False
        self._agreement: Agreement | None = None
        self._rejection: AAssociateRJ | None = None

    @property
    def closed(self) -> bool:
        return self.state is State.STA1

    # The user's side -----------------------------------------------------------------------------------------------

    def establish(self, negotiate: Negotiate) -> bool:
        """Wait for the request and answer it; True when an association stands, else all is closed."""
        self._fire(Event.TRANSPORT_INDICATION)
        event, payload = self._next_event(self._scratch_window)
        if event is Event.A_ASSOCIATE_RQ_RECEIVED and isinstance(payload, AAssociateRQ):
            self._fire(event)
            answer = negotiate(payload)
            if isinstance(answer, Agreement):
                self._agreement = answer
                self.contexts, self.peer = answer.contexts, answer.peer
                self._limit_sending(payload.user_information.maximum_length_received)
                self._fire(Event.A_ASSOCIATE_ACCEPT)
            else:
                self._rejection = answer
                self._fire(Event.A_ASSOCIATE_REJECT)
        else:
            self._fire(event, payload)
        if self._is(State.STA6):
            return True
        self._finish()
        return False

    def limit(self, limits: Limits) -> None:
        """Bound what comes from now on by other times than those that it was made with."""
        self._limits = limits

    @property
    def extended(self) -> dict[str, bytes]:
        """What was agreed on beyond contexts, by SOP class (PS3.7 D.3.3.5)."""
        if self._agreement is None:
            return {}
        agreed = self._agreement.accept.user_information.extended_negotiations
        return {each.sop_class_uid: each.service_class_application_information for each in agreed}

    def receive(
        self, window: Window, on_tick: Callable[[], bool] | None = None
    ) -> Sequence[PresentationDataValue] | None:
        """The values of the next P-DATA-TF, or None once the association is over or `on_tick` said to stop.

        Fragments are valid until the next call. `on_tick` is asked about twice a second while nothing arrives.
        """
        if not self._is(State.STA6):
            return None
        read = self._next_event(window, on_tick)
        if read is _STOPPED:
            return None
        event, payload = read
        self._fire(event, payload)
        if isinstance(payload, tuple) and self._is(State.STA6):
            return payload
        if self._is(State.STA8):
            self.outcome = "released"
            self._fire(Event.A_RELEASE_RESPONSE)
        self._finish()
        return None

    def send(self, context_id: int, command: bytes, data_set: bytes | memoryview | None = None) -> bool:
        """Send one message on a context; False when the association broke under it."""
        if not self._is(State.STA6):
            return False
        self._fire(Event.P_DATA_REQUEST, fragment_message(command, data_set, context_id, self.maximum_length_sent))
        if self._is(State.STA6):
            return True
        self._finish()
        return False

    def readable(self) -> bool:
        """Whether `receive` would find something at once."""
        return self._is(State.STA6) and self._transport.readable()

    def _is(self, *states: State) -> bool:
        return self.state in states

    def release(self, deadline: float) -> None:
        """Ask the peer to release and wait for it until the deadline, then abort."""
        if self._is(State.STA6):
            self.outcome = "released"
            self._fire(Event.A_RELEASE_REQUEST)
        while self._is(State.STA7, State.STA10):
            if time.monotonic() >= deadline:
                self._note("aborted: the peer does not answer the release")
                self._fire(Event.A_ABORT_REQUEST)
                break
            read = self._next_event(self._scratch_window, lambda: time.monotonic() >= deadline)
            if read is not _STOPPED:
                self._fire(*read)
        if self._is(State.STA12):
            self._fire(Event.A_RELEASE_RESPONSE)
        self._finish()

    def abort(self, why: str) -> None:
        """Send an A-ABORT as the service user and close."""
        if not self._is(State.STA1, State.STA2, State.STA13):
            self._note(f"aborted: {why}")
            self._fire(Event.A_ABORT_REQUEST)
        self._finish()

    # Events ----------------------------------------------------------------------------------------------------------

    def _next_event(self, window: Window, on_tick: Callable[[], bool] | None = None) -> tuple[Event, object]:
        """Read one PDU; what goes wrong with the transport, the time or the bytes is an event too."""
        try:
            wait = self._artim if self.state in _ARTIM_RUNS else time.monotonic() + self._limits.idle_timeout
            if not self._transport.read_into(self._header, deadline=wait, on_tick=on_tick):
                return _STOPPED
            pdu_type, length = PDU_HEADER.unpack(self._header)
            return self._read_body(pdu_type, length, window)
        except TransportClosed:
            return Event.TRANSPORT_CLOSED, None
        except TransportStalled:
            self._framing_lost = True
            if self.state in _ARTIM_RUNS:
                return Event.ARTIM_EXPIRED, None
            self._note("aborted: the peer was silent for too long")
            return Event.A_ABORT_REQUEST, None
        except InvalidPdu as error:
            return Event.INVALID_PDU_RECEIVED, error

    def _read_body(self, pdu_type: int, length: int, window: Window) -> tuple[Event, object]:
        kind = self._checked_type(pdu_type, length)
        deadline = self._artim if self.state in _ARTIM_RUNS else time.monotonic() + self._limits.network_timeout
        event = _EVENT_OF[kind]
        if kind is PduType.P_DATA_TF:
            if length < PDV_HEADER.size:
                raise InvalidPdu("A P-DATA-TF holds no presentation data value.")
            fragment = window(length - PDV_HEADER.size)[: length - PDV_HEADER.size]
            self._transport.read_into(self._pdv_header, fragment, deadline=deadline)
            return event, self._values(length, fragment)
        body = memoryview(bytearray(length))
        self._transport.read_into(body, deadline=deadline)
        return event, decode_pdu(kind, body)

    def _checked_type(self, pdu_type: int, length: int) -> PduType:
        """The type, if it is one and its length is within bounds; otherwise where the next PDU begins is lost."""
        self._framing_lost = True
        try:
            kind = PduType(pdu_type)
        except ValueError:
            raise InvalidPdu("The type of the PDU is not known.", AbortReason.UNRECOGNIZED_PDU) from None
        if kind is PduType.P_DATA_TF:
            maximum = self._limits.maximum_length_received
        else:
            maximum = self._limits.maximum_associate_length if kind in _ASSOCIATE else 4
        if length > maximum:
            raise InvalidPdu(f"A PDU of type {pdu_type:02X}H is longer than the {maximum} bytes taken here.")
        self._framing_lost = False
        return kind

    def _values(self, length: int, fragment: memoryview) -> tuple[PresentationDataValue, ...]:
        pdv_length, context_id, control = PDV_HEADER.unpack(self._pdv_header)
        if pdv_length == length - 4:
            values: tuple[PresentationDataValue, ...] = (pdv_of(context_id, control, fragment),)
        else:  # several values in one PDU: rare, so a copy is fine
            values = split_pdvs(memoryview(bytes(self._pdv_header) + bytes(fragment)))
        if self.state is State.STA6 and any(value.presentation_context_id not in self.contexts for value in values):
            raise InvalidPdu("A presentation data value is on a context that was not accepted.")
        return values

    def _scratch_window(self, size: int) -> memoryview:
        return self._scratch

    # Actions ---------------------------------------------------------------------------------------------------------

    def _fire(self, event: Event, payload: object = None) -> None:
        action, self.state = TRANSITIONS[event, self.state]
        perform = _ACTIONS.get(action)
        if perform is not None:
            perform(self, payload)

    def _write(self, buffers: Sequence[bytes | memoryview], deadline: float | None = None) -> None:
        try:
            limit = time.monotonic() + self._limits.network_timeout if deadline is None else deadline
            self._transport.send(buffers, limit)
        except (TransportClosed, TransportStalled):
            self._note("lost: the peer does not take what is sent")
            self.state = State.STA1  # Evt17 in whatever state: AA-4 or AR-5, both end idle

    def _send_pdu(self, pdu: Pdu, *, closing: bool = False) -> None:
        if closing:
            self._artim = time.monotonic() + self._limits.artim_timeout
        self._write((encode_pdu(pdu),), self._artim if closing else None)

    def _start_artim(self, payload: object) -> None:
        self._artim = time.monotonic() + self._limits.artim_timeout

    def _send_accept(self, payload: object) -> None:
        if self._agreement is not None:
            self._send_pdu(self._agreement.accept)

    def _send_reject(self, payload: object) -> None:
        if self._rejection is not None:
            answer = self._rejection
            self._note(f"rejected: result {answer.result}, source {answer.source}, reason {answer.reason}")
            self._send_pdu(answer, closing=True)

    def _send_p_data(self, payload: object) -> None:
        if isinstance(payload, list):
            self._write(payload)

    def _send_release_request(self, payload: object) -> None:
        self._send_pdu(AReleaseRQ())

    def _send_release_response(self, payload: object) -> None:
        self._send_pdu(AReleaseRP(), closing=True)

    def _send_user_abort(self, payload: object) -> None:
        self._note_invalid(payload)
        self._send_pdu(AAbort(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED), closing=True)

    def _send_provider_abort(self, payload: object) -> None:
        reason = payload.reason if isinstance(payload, InvalidPdu) else AbortReason.UNEXPECTED_PDU
        self._note_invalid(payload)
        self._send_pdu(AAbort(AbortSource.SERVICE_PROVIDER, reason), closing=True)

    def _send_abort_again(self, payload: object) -> None:
        self._write((encode_pdu(AAbort(AbortSource.SERVICE_PROVIDER, AbortReason.UNEXPECTED_PDU)),), self._artim)

    def _peer_aborted(self, payload: object) -> None:
        if isinstance(payload, AAbort):
            self._note(f"aborted by the peer: source {payload.source}, reason {payload.reason}")

    def _nothing_asked(self, payload: object) -> None:
        if self.outcome == "open":
            self.outcome = "no association was asked for"

    def _peer_vanished(self, payload: object) -> None:
        self._note("lost: the peer closed the connection without a release")

    def _note_invalid(self, payload: object) -> None:
        self._note(f"aborted: {payload.message}" if isinstance(payload, InvalidPdu) else "aborted: unexpected PDU")

    def _note(self, outcome: str) -> None:
        """The first thing that ends an association is its outcome."""
        if self.outcome in ("open", "released"):
            self.outcome = outcome
            extra = {"door": "dicom", "association": self.association_id, "outcome": outcome}
            log.info("association decided", extra=extra)

    def _limit_sending(self, maximum_length_received: int) -> None:
        self.maximum_length_sent = min(maximum_length_received or _FRAMES, _FRAMES) & ~1

    def _finish(self) -> None:
        """Await the peer's close under ARTIM (Sta13), then close the transport."""
        while self._is(State.STA13):
            if self._framing_lost:
                self._transport.discard_until_closed(self._artim)
                self._fire(Event.TRANSPORT_CLOSED)
            elif time.monotonic() >= self._artim:
                self._fire(Event.ARTIM_EXPIRED)
            else:
                self._fire(*self._next_event(self._scratch_window))
        self._transport.close()


_STOPPED: tuple[Event, object] = (Event.A_RELEASE_REQUEST, None)

# What each action of PS3.8 9.2.2 does here; indications and confirmations are the return values of the methods, and
# closing the transport is `_finish`, which every way to Sta1 ends in.
_ACTIONS: dict[Action, Callable[[Association, object], None]] = {
    Action.AE_5: Association._start_artim,
    Action.AE_7: Association._send_accept,
    Action.AE_8: Association._send_reject,
    Action.DT_1: Association._send_p_data,
    Action.AR_1: Association._send_release_request,
    Action.AR_4: Association._send_release_response,
    Action.AA_1: Association._send_user_abort,
    Action.AA_2: Association._nothing_asked,
    Action.AA_5: Association._nothing_asked,
    Action.AA_3: Association._peer_aborted,
    Action.AA_4: Association._peer_vanished,
    Action.AA_7: Association._send_abort_again,
    Action.AA_8: Association._send_provider_abort,
}
