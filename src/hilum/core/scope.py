"""What of a list someone may see; the SQL compiles it in, so pages and counts reveal nothing beyond it."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.core.actor import Identifier


@dataclass(frozen=True, slots=True)
class Scope:
    """A limit on patients: everything, or the patients whom one of these physicians ordered for or is copied on.

    Nothing is visible where `everything` is false and `physicians` is empty. There is no default.
    """

    everything: bool
    physicians: tuple[Identifier, ...]


EVERYTHING = Scope(everything=True, physicians=())
NOTHING = Scope(everything=False, physicians=())
