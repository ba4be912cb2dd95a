"""Deliveries as files: each appears whole or not at all, synced with its folder before it counts as accepted.

A file's name begins with the delivery's position, so that names sort in the order of events and no two deliveries share
one; a repeated try replaces its own file by the same bytes.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hilum.delivery.ports import SendOutcome, Sent
from hilum.security.keys import write_synced
from hilum.settings import Destination
from hilum.storage.deliveries import Delivery

FILE_MODE = 0o640
# What another try may mend: a disk that is full, busy or not mounted.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBUSY, errno.ENOENT, errno.ESTALE, errno.EACCES})


class FileSender:
    """Writes each body into the folder of its destination."""

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Write one file; ACCEPTED means that a power cut now does not lose it."""
        folder = folder_of(destination.address)
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            write_synced(folder / file_name(delivery), delivery.body, mode=FILE_MODE, replace=True)
        except OSError as error:
            passing = error.errno in _PASSING
            return Sent(
                SendOutcome.TRANSIENT if passing else SendOutcome.ERROR, errno.errorcode.get(error.errno or 0, "os")
            )
        return Sent(SendOutcome.ACCEPTED)

    def close(self) -> None:
        """Nothing is held."""


def folder_of(address: str) -> Path:
    """Return the folder that `file:///path` names."""
    return Path(unquote(urlsplit(address).path))


def file_name(delivery: Delivery) -> str:
    """Return `POSITION-CONTROL_ID.EXTENSION`, with only letters that every file system takes."""
    control_id = re.sub(r"[^A-Za-z0-9._-]", "_", delivery.control_id)[:80] or delivery.id
    extension = {b"MSH": "hl7"}.get(delivery.body[:3], "json")
    return f"{delivery.position:015d}-{control_id}.{extension}"
