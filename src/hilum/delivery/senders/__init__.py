"""The kinds of destination that belong to no door: webhook, smtp and file, each an encoder and a sender."""

from __future__ import annotations

from pathlib import Path

from hilum.delivery.ports import Encoder, Sender
from hilum.delivery.senders.file import FileSender
from hilum.delivery.senders.notice import encode_json_notice
from hilum.delivery.senders.smtp import SmtpSender, encode_mail
from hilum.delivery.senders.webhook import WebhookSender

__all__ = ["encoders", "senders"]


def encoders() -> dict[str, Encoder]:
    """What turns an event into bytes, per kind of destination."""
    return {"webhook": encode_json_notice, "file": encode_json_notice, "smtp": encode_mail}


def senders(home: Path) -> dict[str, Sender]:
    """What brings bytes to a receiver, per kind of destination."""
    return {"webhook": WebhookSender(home), "file": FileSender(), "smtp": SmtpSender(home)}
