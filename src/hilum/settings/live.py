"""The configuration while processes run: one frozen snapshot, swapped when the file changes and is valid.

A file that became invalid changes nothing but `error`; whoever asks goes on with the snapshot before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from hilum.settings.errors import SettingsError
from hilum.settings.load import Settings, file_content, home_directory, read_settings, revision_of
from hilum.settings.paths import HomePaths

# These are bound to sockets, stores and processes at the start and take effect at the next one.
NEEDS_RESTART = (
    "http.bind",
    "http.tls",
    "http.trusted_proxies",
    "http.max_connections",
    "http.max_connections_per_address",
    "http.header_timeout",
    "http.body_timeout",
    "http.processes",
    "dicom.bind",
    "dicom.tls",
    "dicom.max_pdu",
    "dicom.max_associations",
    "dicom.max_associations_per_peer",
    "hl7.bind",
    "hl7.tls",
    "hl7.max_connections",
    "hl7.max_connections_per_address",
    "database.url",
    "database.pool",
    "archive.url",
    "archive.endpoint",
    "archive.region",
    "archive.access_key",
    "archive.access_key_file",
    "archive.secret_key",
    "archive.secret_key_file",
    "log.level",
)
LOOK_EVERY_SECONDS = 1.0
FileState = tuple[int, int, int]


class Configuration:
    """Holds the home and its current settings; safe to share between threads."""

    def __init__(self, home: Path | str | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the configuration of a home for the first time. Raises SettingsError."""
        self.home = home_directory(home)
        self.error: str | None = None
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at = monotonic()
        self._state = self._file_state()
        content = file_content(self.home)
        self._current = (read_settings(self.home, content), revision_of(content))
        self._started_with = self._current[0]

    @property
    def current(self) -> Settings:
        """The snapshot in force."""
        return self._current[0]

    @property
    def revision(self) -> str:
        """What names the snapshot in force: SHA-256 of the file and the environment."""
        return self._current[1]

    @property
    def waiting_for_restart(self) -> tuple[str, ...]:
        """The settings that were changed since the start and take effect at the next one."""
        return tuple(key for key in NEEDS_RESTART if _value(self._started_with, key) != _value(self.current, key))

    def refresh(self) -> Settings:
        """The snapshot in force, after a look at the file at most once a second; a cheap call for every message."""
        now = self._monotonic()
        if now - self._looked_at < LOOK_EVERY_SECONDS or not self._lock.acquire(blocking=False):
            return self.current
        try:
            self._looked_at = now
            state = self._file_state()
            if state != self._state:
                self._swap(state)
        finally:
            self._lock.release()
        return self.current

    def _swap(self, state: FileState | None) -> None:
        try:
            content = file_content(self.home)
            settings = read_settings(self.home, content)
        except SettingsError as error:
            self.error = error.message
        else:
            self._current = (settings, revision_of(content))
            self.error = None
        self._state = state

    def _file_state(self) -> FileState | None:
        try:
            found = HomePaths(self.home).file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _value(settings: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)
