"""The refusals of Hilum: each door translates them once, in one table, to its own protocol.

An error says what was wrong in one sentence and never carries patient data. `field` names the place in the
sender's input (`PID-3`, `AccessionNumber`, `Patient.identifier`) so that the answer can be precise.
"""

from __future__ import annotations


class HilumError(Exception):
    """Something was refused; nothing of it was applied."""

    code = "error"
    retryable = False

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "Refused.").splitlines()[0]
        self.field = field
        super().__init__(self.message)


class InvalidInput(HilumError):
    """The input breaks a rule of its standard."""

    code = "invalid"


class MissingField(InvalidInput):
    """A required field is empty."""

    code = "missing"


class TooLarge(InvalidInput):
    """The input is larger than this door takes."""

    code = "too-large"


class Unsupported(HilumError):
    """This kind of input is not handled here."""

    code = "unsupported"


class NotFound(HilumError):
    """There is no such thing, or the actor may not know of it."""

    code = "not-found"


class Conflict(HilumError):
    """The input contradicts what is already known."""

    code = "conflict"


class Duplicate(Conflict):
    """The identifier is already in use for something else."""

    code = "duplicate"


class IllegalTransition(Conflict):
    """The present state does not allow this change."""

    code = "illegal-transition"


class IdentityMismatch(Conflict):
    """The identifier belongs to a person of another name and birth date."""

    code = "identity-mismatch"


class Rejected(HilumError):
    """The instance was rejected before and stays so."""

    code = "rejected"


class OnHold(Conflict):
    """A legal hold forbids that these images are deleted."""

    code = "on-hold"


class Stale(Conflict):
    """Someone else changed this in the meantime."""

    code = "stale"


class NotAuthenticated(HilumError):
    """Who is asking is not known."""

    code = "unauthenticated"


class Forbidden(HilumError):
    """The actor may not do this."""

    code = "forbidden"


class DeadlineExceeded(HilumError):
    """The time for this work is over."""

    code = "deadline"
    retryable = True


class Unavailable(HilumError):
    """A part that this needs does not answer at the moment."""

    code = "unavailable"
    retryable = True


class OutOfSpace(Unavailable):
    """There is no room left to store this safely."""

    code = "out-of-space"


class Defect(HilumError):
    """An error inside Hilum; what was sent is kept and can be processed again."""

    code = "defect"
    retryable = True
