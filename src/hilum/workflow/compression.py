"""Link 7, Images: compressed copies of images are noted, and forgotten when their image is gone."""

from __future__ import annotations

from collections.abc import Sequence

from hilum.core.actor import Actor
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.renditions import Rendition, add_rendition, remove_renditions
from hilum.storage.unit_of_work import UnitOfWork


def note_rendition(uow: UnitOfWork, rendition: Rendition, actor: Actor) -> bool:
    """Let a copy be served from now on; its bytes are durable. False where its image is gone or has such a copy."""
    permit(uow, actor, Action.STORE_IMAGES)
    return add_rendition(uow, rendition)


def forget_renditions(uow: UnitOfWork, gone: Sequence[Rendition], actor: Actor) -> None:
    """Forget copies whose bytes have been removed."""
    permit(uow, actor, Action.STORE_IMAGES)
    remove_renditions(uow, gone)
