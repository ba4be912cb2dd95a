"""Who may turn images away or hold them back on their way in: the rules of the configuration, handed over by `app`."""

from __future__ import annotations

from typing import Protocol

from hilum.archive.walk import Attributes
from hilum.core.actor import Actor
from hilum.workflow.source import Source


class Admission(Protocol):
    """Looks at the header of each image before its bytes are kept."""

    def admit(self, attributes: Attributes, transfer_syntax_uid: str, source: Source, actor: Actor) -> None:
        """Let an image in. Raises DroppedByRule, once that is recorded, for one that is not to be stored."""
        ...

    def holds(self, attributes: Attributes, transfer_syntax_uid: str, source: Source) -> bool:
        """Tell whether an image is kept from sight until a person releases it."""
        ...
