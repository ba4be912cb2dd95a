"""The policy inside a transaction: decide, limit to the actor's patients, and write the audit row, in one call."""

from __future__ import annotations

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.security.policy import Action, require, scope_for
from hilum.storage.scoping import sees_patient
from hilum.storage.unit_of_work import UnitOfWork


def permit(
    uow: UnitOfWork,
    actor: Actor,
    action: Action,
    *,
    patient_id: str | None = None,
    order_id: str | None = None,
    study_id: str | None = None,
    message_id: str | None = None,
) -> None:
    """Let a verb go on, with its audit row; raise `Forbidden`, or `NotFound` for a patient out of the actor's scope."""
    require(actor, action)
    scope = scope_for(actor, action)
    about_somebody = patient_id or order_id or study_id
    # Whose an order or study is has to be known before someone with a limited view may have it.
    if (
        about_somebody
        and not scope.everything
        and (patient_id is None or not sees_patient(uow.connection, scope, patient_id))
    ):
        raise NotFound
    uow.audit(actor, action.value, patient_id=patient_id, order_id=order_id, study_id=study_id, message_id=message_id)
