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
from hilum.settings.profile_files import profile_content, profile_states

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
# Of `hilum.toml`, where it is there, and of the profiles.
FileState = tuple[tuple[int, int, int] | None, tuple[object, ...]]


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
        self._current = self._read()
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

    def _swap(self, state: FileState) -> None:
        try:
            self._current = self._read()
        except SettingsError as error:
            self.error = error.message
        else:
            self.error = None
        self._state = state

    def _read(self) -> tuple[Settings, str]:
        content, profiles = file_content(self.home), profile_content(HomePaths(self.home).profiles)
        return read_settings(self.home, content, profiles), revision_of(content, profiles)

    def _file_state(self) -> FileState:
        paths = HomePaths(self.home)
        profiles = profile_states(paths.profiles)
        try:
            found = paths.file.stat()
        except OSError:
            return None, profiles
        return (found.st_mtime_ns, found.st_size, found.st_ino), profiles


def _value(settings: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)
