"""TLS contexts that follow their files: a renewed certificate counts from the next connection on, without a restart.

Files that cannot be read or do not fit change nothing but `problem` and the log; connections go on under the context
before them. Connections that are open keep what they were made with.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hilum.core.errors import HilumError
from hilum.security.tls import TlsMode, client_context, server_context
from hilum.settings import Configuration
from hilum.settings.sections import Door

log = logging.getLogger(__name__)

_Stamp = tuple[str, tuple[tuple[str, int, int, int], ...]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a context is made of at the moment: the files that the settings name, how, and `mode` where that varies."""

    files: Sequence[Path | None]
    make: Callable[[], ssl.SSLContext]
    mode: str = ""


class LiveContext(ssl.SSLContext):
    """Stands where a context is wanted and makes each connection with the newest one that works."""

    def __new__(cls, recipe: Callable[[], Recipe], peer: str, *, server: bool) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, recipe: Callable[[], Recipe], peer: str, *, server: bool) -> None:
        """`recipe` says where the files are and how to make a context; `peer` names it in the log.

        Raises InvalidInput when the files do not make a context now.
        """
        self.problem: HilumError | None = None
        self._recipe = recipe
        self._peer = peer
        self._lock_of_context = threading.Lock()
        made_of = recipe()
        self._seen = _stamp(made_of)
        self._made = made_of.make()

    def newest(self) -> ssl.SSLContext:
        """The context for the next connection, after a look at the files."""
        made_of = self._recipe()
        seen = _stamp(made_of)
        if seen == self._seen:
            return self._made
        with self._lock_of_context:
            if seen != self._seen:
                # The stamp is from before the reading: what changes meanwhile is seen at the next connection.
                self._seen = seen
                self._remake(made_of.make)
        return self._made

    def _remake(self, make: Callable[[], ssl.SSLContext]) -> None:
        try:
            self._made = make()
        except HilumError as error:
            self.problem = error
            extra = {"peer": self._peer, "code": error.code, "field": error.field}
            log.error("new certificates do not work, the ones before stay", extra=extra)
        else:
            self.problem = None
            log.info("certificates were read anew", extra={"peer": self._peer})

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """As SSLContext does, for blocking sockets."""
        return self.newest().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """As SSLContext does, for event loops."""
        return self.newest().wrap_bio(*args, **options)


def door_context(configuration: Configuration, name: str) -> LiveContext | None:
    """Make the context of the door of a section, or None where TLS is off; a door that began with TLS keeps it."""
    if _door(configuration, name).tls == "off":
        return None

    def recipe() -> Recipe:
        door, within = _door(configuration, name), configuration.current.paths.within
        crl = within(door.crl) if door.crl else None
        cert, key, ca = within(door.cert), within(door.key), within(door.ca)
        # Set to off, it stays as strict as it can be until the next start opens it without TLS.
        mode: TlsMode = "server" if door.tls == "server" else "mutual"
        return Recipe((cert, key, ca, crl), lambda: server_context(cert, key, ca, mode, crl), mode)

    return LiveContext(recipe, name, server=True)


def caller_context(home: Path, peer: str, ca: str, cert: str, key: str) -> LiveContext:
    """Make the context of a caller of one destination; empty names stand for none, others are in the home."""
    files = [home / name if name else None for name in (ca, cert, key)]
    return LiveContext(lambda: Recipe(files, lambda: client_context(*files)), peer, server=False)


def _door(configuration: Configuration, name: str) -> Door:
    door: Door = getattr(configuration.refresh(), name)
    return door


def _stamp(recipe: Recipe) -> _Stamp:
    return recipe.mode, tuple(_file_stamp(file) for file in recipe.files if file is not None)


def _file_stamp(file: Path) -> tuple[str, int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), found.st_mtime_ns, found.st_size, found.st_ino
