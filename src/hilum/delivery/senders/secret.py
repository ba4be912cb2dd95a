"""The secret of a destination, from a file: it is read at each try, so that it can be changed at any time."""

from __future__ import annotations

from pathlib import Path

from hilum.core.errors import Unavailable
from hilum.settings import Destination

LIMIT = 4096


class NoSecret(Unavailable):
    """The file that holds the secret of a destination cannot be read."""

    code = "no-secret"


def read_secret(home: Path, destination: Destination) -> bytes:
    """Return the secret without white space around it, empty where none is configured. Raises NoSecret."""
    if not destination.password_file:
        return b""
    try:
        with (home / destination.password_file).open("rb") as file:
            return file.read(LIMIT).strip()
    except OSError as error:
        raise NoSecret from error
