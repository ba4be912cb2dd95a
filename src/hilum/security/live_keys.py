"""The keys of a home while processes run: a changed key file is seen within a second, without a restart.

A keyring that cannot be read changes nothing: the keys before it stay in force, and it is logged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from joserfc.jwk import ECKey

from hilum.core.errors import HilumError
from hilum.security.keys import AuditKey, Keyring

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
FileState = tuple[tuple[str, int, int, int], ...]


class LiveKeyring:
    """Stands in for a `Keyring`; each of its keys is the one in force at that moment. Safe between threads."""

    def __init__(self, home: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the keys of a home, making those that are missing; InvalidInput names the file that cannot be used."""
        self._home = home
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._current = Keyring.open(home)
        self._state = self._file_state()
        self._looked_at = monotonic()

    @property
    def current(self) -> Keyring:
        """The keys in force, after a look at the files at most once a second."""
        if self._monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
            self.look()
        return self._current

    def look(self) -> None:
        """Look at the files now: for a key that is not known yet, because another process has just made it."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._looked_at = self._monotonic()
            state = self._file_state()
            if state != self._state:
                self._current = Keyring.open(self._home)
                self._state = state
        except (HilumError, OSError) as error:
            log.error("the changed keys cannot be read", extra={"code": getattr(error, "code", "unreadable")})
        finally:
            self._lock.release()

    @property
    def signing(self) -> ECKey:
        """The key that signs tokens."""
        return self.current.signing

    @property
    def verification(self) -> Mapping[str, ECKey]:
        """The keys that check tokens, the retired ones among them; a new object whenever they changed."""
        return self.current.verification

    @property
    def audit(self) -> AuditKey:
        """The key that authenticates audit rows and seals."""
        return self.current.audit

    @property
    def audit_keys(self) -> Mapping[str, AuditKey]:
        """The keys that check audit rows and seals."""
        return self.current.audit_keys

    @property
    def session_secret(self) -> bytes:
        """The secret behind forms' tokens."""
        return self.current.session_secret

    def _file_state(self) -> FileState:
        found = []
        for path in sorted((self._home / "keys").glob("*.jwk")):
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(found)


Keys = Keyring | LiveKeyring
