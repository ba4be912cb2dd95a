"""Brings messages to HL7 destinations over MLLP and says what the receiver's answer means for the lane.

A connection serves one thread and one destination and is kept between messages; a destination whose address changed
gets a new one. Nothing of an answer but its codes is kept as the reason.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import Path
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

from hilum.core.errors import HilumError
from hilum.delivery.ports import SendOutcome, Sent
from hilum.hl7.er7 import Message
from hilum.hl7.mllp_client import BlockingMllpClient, NotSent, Unanswered, answer_of
from hilum.security.live_tls import caller_context
from hilum.settings import Destination
from hilum.storage.deliveries import Delivery

# MSA-1, HL7 table 0008.
MEANING: Final = {
    b"AA": SendOutcome.ACCEPTED,
    b"CA": SendOutcome.ACCEPTED,
    b"AE": SendOutcome.ERROR,
    b"CE": SendOutcome.ERROR,
    b"AR": SendOutcome.REJECTED,
    b"CR": SendOutcome.REJECTED,
}
MOST_CONNECTIONS: Final = 256
_CONDITION: Final = re.compile(r"\d{1,3}")

_Key = tuple[str, str, str, str, str, int]


class MllpSender:
    """Sends deliveries; safe to call from many threads."""

    def __init__(self, home: Path) -> None:
        """Takes the home, to which the paths of certificates are relative."""
        self._home = home
        self._lock = threading.Lock()
        self._clients: OrderedDict[_Key, BlockingMllpClient] = OrderedDict()

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Try once, within the destination's `ack_timeout`."""
        try:
            client = self._client(destination)
            reply = client.send(delivery.body, destination.ack_timeout)
        except NotSent as error:
            return Sent(SendOutcome.TRANSIENT, error.code)
        except Unanswered as error:
            return Sent(SendOutcome.AMBIGUOUS, error.code)
        except HilumError as error:
            # Certificates that are missing or do not fit: a person mends the setting, and the lane goes on.
            return Sent(SendOutcome.TRANSIENT, error.code)
        except ValueError:
            return Sent(SendOutcome.REJECTED, "no-control-id")
        return meaning_of(reply)

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def _client(self, destination: Destination) -> BlockingMllpClient:
        said = destination
        key = (said.name, said.address, said.ca, said.cert, said.key, threading.get_ident())
        with self._lock:
            client = self._clients.get(key)
            if client is not None:
                self._clients.move_to_end(key)
                return client
        made = self._connect_to(destination)
        with self._lock:
            self._clients[key] = made
            oldest = self._clients.popitem(last=False)[1] if len(self._clients) > MOST_CONNECTIONS else None
        if oldest is not None:
            oldest.close()
        return made

    def _connect_to(self, destination: Destination) -> BlockingMllpClient:
        to = urlsplit(destination.address)
        assert to.hostname and to.port  # the settings have checked the address
        context = self._context(destination) if to.scheme == "mllps" else None
        return BlockingMllpClient(to.hostname, to.port, ssl=context, connect_timeout=min(5, destination.ack_timeout))

    def _context(self, destination: Destination) -> SSLContext:
        return caller_context(self._home, destination.name, destination.ca, destination.cert, destination.key)


def meaning_of(reply: bytes) -> Sent:
    """What an answer means, with MSA-1 and the condition of ERR (HL7 table 0357) as the reason."""
    found = answer_of(reply)
    code = found[0] if found else b""
    outcome = MEANING.get(code, SendOutcome.ERROR)
    if outcome is SendOutcome.ACCEPTED:
        return Sent(outcome, reply=reply)
    name = code.decode("ascii", "replace") if code in MEANING else "no answer code"
    return Sent(outcome, f"{name} {_condition(reply)}".rstrip(), reply)


def _condition(reply: bytes) -> str:
    """ERR-3.1, or ERR-1.4.1 of versions before 2.5; empty where the receiver gives none."""
    try:
        message = Message(reply)
    except HilumError:
        return ""
    for path in ("ERR-3", "ERR-1.4"):
        if _CONDITION.fullmatch(said := message.get(path)):
            return said
    return ""
