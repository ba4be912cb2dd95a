"""One time limit from the door down."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hilum.core.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock after which work on a request is pointless."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return a deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def check(self) -> None:
        """Raise `DeadlineExceeded` when the time is over."""
        if time.monotonic() >= self.at:
            raise DeadlineExceeded
