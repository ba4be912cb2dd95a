"""Plain notices by mail: what happened, to which accession number, and a link. Never more: mail is read by anyone.

The address is `smtp://[USER@]HOST[:PORT]/RECIPIENT[,RECIPIENT…]`; `smtps` is encrypted from the start, `smtp` as soon
as the server offers it, and a user name is sent over an encrypted connection only.
"""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from hilum.core.errors import HilumError
from hilum.delivery.ports import Encoded, EventContext, SendOutcome, Sent
from hilum.delivery.senders.secret import read_secret
from hilum.security.tls import client_context
from hilum.settings import Destination, Settings
from hilum.storage.deliveries import Delivery

MAX_RECIPIENTS = 50


def encode_mail(context: EventContext, destination: Destination, settings: Settings) -> Encoded:
    """Encode an event as a message of plain text."""
    event, address = context.event, urlsplit(destination.address)
    message = EmailMessage()
    message["Subject"] = f"Hilum: {event.name.value}"
    message["From"] = sender_of(address)
    message["To"] = ", ".join(recipients_of(address))
    message["Date"] = format_datetime(event.at)
    message["Message-ID"] = f"<{event.id}@hilum>"
    lines = [f"{event.name.value} at {event.at:%Y-%m-%d %H:%M} UTC."]
    if context.order is not None:
        number = context.order.accession_number
        link = f"{settings.http.base_url}/viewer/launch?requestType=STUDY&accessionNumber={quote(number, safe='')}"
        lines += [f"Accession number: {number}", link]
    message.set_content("\n".join(lines) + "\n")
    return Encoded(event.name.value, event.id, message.as_bytes())


def recipients_of(address: SplitResult) -> list[str]:
    """Return the recipients in the path of an address; ValueError where there are none, or what is there is not one."""
    found = [unquote(part).strip() for part in address.path.strip("/").split(",") if part.strip()]
    if not found or len(found) > MAX_RECIPIENTS or any("@" not in one or not one.isprintable() for one in found):
        raise ValueError("an smtp destination names its recipients after the host")
    return found


def sender_of(address: SplitResult) -> str:
    """Return who the mail is from: the account where it is an address, else hilum at the mail server's host."""
    user = unquote(address.username or "")
    return user if "@" in user else f"hilum@{address.hostname}"


class SmtpSender:
    """Hands each message to a mail server on a connection of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Hand a message over once; accepted means that the mail server took it for at least one recipient."""
        address = urlsplit(destination.address)
        try:
            server = self._connect(address, destination)
        except smtplib.SMTPAuthenticationError:
            return Sent(SendOutcome.TRANSIENT, "login-refused")
        except (HilumError, OSError, smtplib.SMTPException) as error:
            return Sent(SendOutcome.TRANSIENT, getattr(error, "code", "unreachable"))
        try:
            server.sendmail(sender_of(address), recipients_of(address), delivery.body)
        except smtplib.SMTPRecipientsRefused as error:
            return _refused(min(code for code, _ in error.recipients.values()))
        except smtplib.SMTPResponseException as error:
            return _refused(error.smtp_code)
        except (OSError, smtplib.SMTPException):
            return Sent(SendOutcome.AMBIGUOUS, "no-answer")
        finally:
            server.close()
        return Sent(SendOutcome.ACCEPTED)

    def close(self) -> None:
        """Nothing is held."""

    def _connect(self, address: SplitResult, destination: Destination) -> smtplib.SMTP:
        context = client_context(self._home / destination.ca if destination.ca else None)
        host, timeout = address.hostname or "", destination.ack_timeout
        if address.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, address.port or 465, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(host, address.port or 25, timeout=timeout)
        encrypted = address.scheme == "smtps"
        server.ehlo_or_helo_if_needed()
        if not encrypted and server.has_extn("starttls"):
            server.starttls(context=context)
            encrypted = True
        if address.username and encrypted:
            server.login(unquote(address.username), read_secret(self._home, destination).decode())
        return server


def _refused(code: int) -> Sent:
    """RFC 5321 4.2.1: 4yz may be tried again, 5yz may not."""
    return Sent(SendOutcome.TRANSIENT if 400 <= code < 500 else SendOutcome.REJECTED, f"smtp-{code}")
