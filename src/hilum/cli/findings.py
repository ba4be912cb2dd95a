"""What `hilum check` finds, and how much it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault makes `hilum check` fail; a warning will be one; an opening is named and left to the operator."""

    weight: Literal["fault", "warning", "opening"]
    text: str
