"""The one policy: which role may do what, on every door. Pure and table-driven; what is not granted is denied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hilum.core.actor import Actor, ActorKind, Role
from hilum.core.errors import Forbidden
from hilum.core.scope import EVERYTHING, NOTHING, Scope


class Action(StrEnum):
    """What can be asked for, at whichever door."""

    REGISTER_PATIENT = "register-patient"
    MERGE_PATIENTS = "merge-patients"
    READ_PATIENT = "read-patient"
    CHECK_PRIORS = "check-priors"
    PLACE_ORDER = "place-order"
    CHANGE_ORDER = "change-order"
    CANCEL_ORDER = "cancel-order"
    READ_ORDER = "read-order"
    READ_WORKLIST = "read-worklist"
    PERFORM_EXAM = "perform-exam"
    STORE_IMAGES = "store-images"
    READ_IMAGES = "read-images"
    READ_REPORT = "read-report"
    DRAFT_REPORT = "draft-report"
    SIGN_REPORT = "sign-report"
    RELAY_REPORT = "relay-report"
    READ_EXCEPTIONS = "read-exceptions"
    RESOLVE_EXCEPTION = "resolve-exception"
    RECEIVE_MESSAGE = "receive-message"
    READ_MESSAGES = "read-messages"
    READ_QUEUE = "read-queue"
    OPERATE_QUEUE = "operate-queue"
    READ_METRICS = "read-metrics"
    READ_AUDIT = "read-audit"
    MANAGE_USERS = "manage-users"
    ECHO = "echo"


A = Action
_READ = {A.READ_PATIENT, A.READ_ORDER, A.READ_IMAGES, A.READ_REPORT, A.CHECK_PRIORS, A.ECHO}
_FRONT_DESK = {A.REGISTER_PATIENT, A.PLACE_ORDER, A.CHANGE_ORDER, A.CANCEL_ORDER}
_RECONCILE = {A.READ_EXCEPTIONS, A.RESOLVE_EXCEPTION}

# Signing also needs a named person (`PERSONAL`), whatever the role.
GRANTS: dict[Role, frozenset[Action]] = {
    Role.ADMIN: frozenset(
        _READ
        | _FRONT_DESK
        | _RECONCILE
        | {
            A.MERGE_PATIENTS,
            A.READ_WORKLIST,
            A.STORE_IMAGES,
            A.READ_MESSAGES,
            A.READ_QUEUE,
            A.OPERATE_QUEUE,
            A.READ_METRICS,
            A.READ_AUDIT,
            A.MANAGE_USERS,
        }
    ),
    Role.RADIOLOGIST: frozenset(
        _READ | _RECONCILE | {A.READ_WORKLIST, A.DRAFT_REPORT, A.SIGN_REPORT, A.STORE_IMAGES, A.CHANGE_ORDER}
    ),
    Role.TECHNOLOGIST: frozenset(
        (_READ - {A.READ_REPORT})
        | _RECONCILE
        | {A.READ_WORKLIST, A.PERFORM_EXAM, A.STORE_IMAGES, A.REGISTER_PATIENT, A.CHANGE_ORDER}
    ),
    Role.SCHEDULER: frozenset({A.READ_PATIENT, A.READ_ORDER, A.CHECK_PRIORS, A.READ_WORKLIST, A.ECHO} | _FRONT_DESK),
    Role.REFERRING_PHYSICIAN: frozenset(_READ | {A.PLACE_ORDER}),
    Role.AUDITOR: frozenset({A.READ_AUDIT, A.ECHO}),
    Role.SERVICE: frozenset(
        _READ
        | _FRONT_DESK
        | {
            A.MERGE_PATIENTS,
            A.READ_WORKLIST,
            A.PERFORM_EXAM,
            A.STORE_IMAGES,
            A.RELAY_REPORT,
            A.RECEIVE_MESSAGE,
            A.READ_QUEUE,
            A.READ_METRICS,
        }
    ),
    Role.AI_AGENT: frozenset({A.READ_PATIENT, A.READ_ORDER, A.READ_IMAGES, A.STORE_IMAGES, A.ECHO}),
}

# Done by a named person only, never by a role's or a service's token.
PERSONAL = frozenset({A.SIGN_REPORT, A.DRAFT_REPORT, A.RESOLVE_EXCEPTION})

# Roles that see only the patients they are related to.
RELATED_ONLY = frozenset({Role.REFERRING_PHYSICIAN})


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and the reason code when it is not."""

    allowed: bool
    reason: str = ""


def decide(actor: Actor, action: Action) -> Decision:
    """Decide whether an actor may do something at all; whose data is for `scope_for` to limit.

    Hilum's own work needs no grant, but what takes a person it may not do either.
    """
    if actor.kind is not ActorKind.SYSTEM and action not in GRANTS[actor.role]:
        return Decision(False, "role")
    if action in PERSONAL and not actor.is_person:
        return Decision(False, "needs-a-person")
    return Decision(True)


def scope_for(actor: Actor, action: Action) -> Scope:
    """Return which patients a list may show to an actor."""
    if not decide(actor, action).allowed:
        return NOTHING
    if actor.role in RELATED_ONLY and actor.kind is not ActorKind.SYSTEM:
        return Scope(everything=False, physicians=actor.identifiers)
    return EVERYTHING


def require(actor: Actor, action: Action) -> None:
    """Raise `Forbidden` when an actor may not do something at all."""
    decision = decide(actor, action)
    if not decision.allowed:
        raise Forbidden(
            "This needs a named person." if decision.reason == "needs-a-person" else "This role may not do that."
        )
