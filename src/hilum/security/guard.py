"""The policy inside a transaction: decide, limit to the actor's patients, and write the audit row, in one call."""

from __future__ import annotations

from dataclasses import replace

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.security.policy import Action, decide, require, scope_for
from hilum.storage.access import patient_of, resource_of
from hilum.storage.unit_of_work import Asked, UnitOfWork


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
    """Let a verb go on, with its audit row; raise `Forbidden`, or `NotFound` for a patient out of the actor's scope.

    What was asked for is noted first, so that the row of a refusal says of whom and what it was, too. What is seen only
    because the glass was broken is audited with that purpose.
    """
    asked = Asked(action.value, patient_id, order_id, study_id, message_id)
    uow.asked = asked
    require(actor, action)
    if (patient_id or order_id or study_id) and not scope_for(actor, action).everything:
        # Whose an order or study is has to be known before someone with a limited view may have it.
        whose = patient_id or patient_of(uow.connection, order_id, study_id)
        decision = decide(actor, action, resource_of(uow.connection, actor, whose))
        if not decision.allowed:
            raise NotFound
        actor = replace(actor, purpose=decision.purpose or actor.purpose)
    uow.audit(actor, **asked._asdict())
