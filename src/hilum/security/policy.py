"""The one policy: which role may do what, on every door, and with whose data. What is not granted is denied.

Pure and table-driven: `decide` answers for one actor, action, resource and purpose, `scope_for` for lists; the tables
are printed in docs/security-policy.md. What is asked at which door stands in `security.entries`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hilum.core.actor import BREAK_THE_GLASS, Actor, ActorKind, Role
from hilum.core.errors import Forbidden
from hilum.core.scope import EVERY_LABEL, EVERYTHING, NOTHING, Confidentiality, GrantKind, Resource, Scope


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
    EXPORT_ORIGINAL = "export-original"
    REJECT_IMAGES = "reject-images"
    MANAGE_REJECTED = "manage-rejected"
    DELETE_IMAGES = "delete-images"
    HOLD_IMAGES = "hold-images"
    MANAGE_QUARANTINE = "manage-quarantine"
    READ_REPORT = "read-report"
    DRAFT_REPORT = "draft-report"
    SIGN_REPORT = "sign-report"
    RELAY_REPORT = "relay-report"
    READ_EXCEPTIONS = "read-exceptions"
    RESOLVE_EXCEPTION = "resolve-exception"
    REASSIGN_STUDY = "reassign-study"
    RECEIVE_MESSAGE = "receive-message"
    READ_MESSAGES = "read-messages"
    READ_QUEUE = "read-queue"
    OPERATE_QUEUE = "operate-queue"
    READ_METRICS = "read-metrics"
    READ_AUDIT = "read-audit"
    MANAGE_USERS = "manage-users"
    MANAGE_ACCESS = "manage-access"
    BREAK_GLASS = "break-glass"
    READ_ACCESS_REVIEWS = "read-access-reviews"
    REVIEW_ACCESS = "review-access"
    ECHO = "echo"


A = Action
_READ = {A.READ_PATIENT, A.READ_ORDER, A.READ_IMAGES, A.READ_REPORT, A.CHECK_PRIORS, A.ECHO}
_FRONT_DESK = {A.REGISTER_PATIENT, A.PLACE_ORDER, A.CHANGE_ORDER, A.CANCEL_ORDER}
_RECONCILE = {A.READ_EXCEPTIONS, A.RESOLVE_EXCEPTION, A.REASSIGN_STUDY}

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
            A.EXPORT_ORIGINAL,
            A.READ_MESSAGES,
            A.READ_QUEUE,
            A.OPERATE_QUEUE,
            A.READ_METRICS,
            A.READ_AUDIT,
            A.MANAGE_USERS,
            A.MANAGE_ACCESS,
            A.READ_ACCESS_REVIEWS,
            A.REVIEW_ACCESS,
            A.REJECT_IMAGES,
            A.MANAGE_REJECTED,
            A.DELETE_IMAGES,
            A.HOLD_IMAGES,
            A.MANAGE_QUARANTINE,
        }
    ),
    Role.RADIOLOGIST: frozenset(
        _READ
        | _RECONCILE
        | {A.READ_WORKLIST, A.DRAFT_REPORT, A.SIGN_REPORT, A.STORE_IMAGES, A.REJECT_IMAGES, A.CHANGE_ORDER}
        | {A.BREAK_GLASS}
    ),
    Role.TECHNOLOGIST: frozenset(
        (_READ - {A.READ_REPORT})
        | _RECONCILE
        | {A.READ_WORKLIST, A.PERFORM_EXAM, A.STORE_IMAGES, A.REJECT_IMAGES, A.REGISTER_PATIENT, A.CHANGE_ORDER}
        | {A.BREAK_GLASS}
    ),
    Role.SCHEDULER: frozenset({A.READ_PATIENT, A.READ_ORDER, A.CHECK_PRIORS, A.READ_WORKLIST, A.ECHO} | _FRONT_DESK),
    Role.REFERRING_PHYSICIAN: frozenset(_READ | {A.PLACE_ORDER, A.BREAK_GLASS}),
    Role.AUDITOR: frozenset({A.READ_AUDIT, A.ECHO, A.READ_ACCESS_REVIEWS, A.REVIEW_ACCESS}),
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
PERSONAL = frozenset(
    {A.SIGN_REPORT, A.DRAFT_REPORT, A.RESOLVE_EXCEPTION, A.REASSIGN_STUDY, A.BREAK_GLASS, A.REVIEW_ACCESS}
)

# Roles that see only the patients they are related to: ordering, copied, or of the care team of an active visit.
RELATED_ONLY = frozenset({Role.REFERRING_PHYSICIAN})

_N, _V, _E, _S = Confidentiality
# Which labels a role sees without a grant. Who reads exams sees all: an exam that is on nobody's list is a hazard.
# Machines of the department see all too, since whoever is to be examined has to be on the worklist of the scanner.
LABELS: dict[Role, frozenset[Confidentiality]] = {
    Role.ADMIN: frozenset({_N, _V}),
    Role.RADIOLOGIST: EVERY_LABEL,
    Role.TECHNOLOGIST: frozenset({_N, _V, _E}),
    Role.SCHEDULER: frozenset({_N, _V}),
    Role.REFERRING_PHYSICIAN: frozenset({_N, _V, _E}),
    Role.AUDITOR: frozenset({_N}),
    Role.SERVICE: EVERY_LABEL,
    Role.AI_AGENT: frozenset({_N}),
}

# Who sees what belongs to no registered patient yet: those who reconcile it, and the machines that bring it. Someone
# who is limited to facilities does not, since nobody knows yet whose it is.
SEES_UNMATCHED = frozenset({Role.ADMIN, Role.RADIOLOGIST, Role.TECHNOLOGIST, Role.SERVICE})


# What is about the house and not about a patient's care has no limit on patients: the audit trail, accounts, and the
# access that is given, taken and reviewed. Nor has storing images: it shows nothing, and they are matched by what they
# say, whoever brings them.
WITHOUT_LIMITS = frozenset(
    {
        A.READ_AUDIT,
        A.MANAGE_USERS,
        A.MANAGE_ACCESS,
        A.BREAK_GLASS,
        A.READ_ACCESS_REVIEWS,
        A.REVIEW_ACCESS,
        A.READ_METRICS,
        A.STORE_IMAGES,
        A.ECHO,
    }
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, the reason code when it is not, and for which purpose when not as asked."""

    allowed: bool
    reason: str = ""
    purpose: str = ""


_ALLOWED = Decision(True)
_BY_BREAKING_THE_GLASS = Decision(True, purpose=BREAK_THE_GLASS)


def decide(actor: Actor, action: Action, resource: Resource | None = None, purpose: str = "") -> Decision:
    """Decide whether an actor may do something, and with this patient's data where `resource` is given.

    `purpose` is the actor's own unless another is given. Hilum's own work needs no grant and has no limits, but what
    takes a person it may not do either.
    """
    if action in PERSONAL and not actor.is_person:
        return Decision(False, "needs-a-person" if _has(actor, action) else "role")
    if actor.kind is ActorKind.SYSTEM:
        return _ALLOWED
    if action not in GRANTS[actor.role] and action not in actor.entrusted:
        return Decision(False, "role")
    if (purpose or actor.purpose) == BREAK_THE_GLASS and not (actor.is_person and _has(actor, A.BREAK_GLASS)):
        return Decision(False, "purpose")
    return _ALLOWED if resource is None or action in WITHOUT_LIMITS else _about(actor, resource)


def _has(actor: Actor, action: Action) -> bool:
    return actor.kind is ActorKind.SYSTEM or action in GRANTS[actor.role]


def _about(actor: Actor, resource: Resource) -> Decision:
    """Decide about a patient: relation, label and facility together, or a grant instead of all three."""
    if not resource.known:
        return _ALLOWED if _sees_unmatched(actor) else Decision(False, "unmatched")
    granted = resource.granted if actor.is_person else None
    if granted is GrantKind.GIVEN:
        return _ALLOWED
    if actor.role in RELATED_ONLY and not resource.related:
        refusal = "relation"
    elif resource.label not in LABELS[actor.role] and not (resource.label_granted and actor.is_person):
        refusal = "label"
    elif actor.facilities and not resource.in_facility:
        refusal = "facility"
    else:
        return _ALLOWED
    return _BY_BREAKING_THE_GLASS if granted is GrantKind.BREAK_GLASS else Decision(False, refusal)


def _sees_unmatched(actor: Actor) -> bool:
    return actor.role in SEES_UNMATCHED and not actor.facilities


def scope_for(actor: Actor, action: Action) -> Scope:
    """Return which patients a list may show to an actor."""
    if not decide(actor, action).allowed:
        return NOTHING
    related_only = actor.role in RELATED_ONLY
    unlimited = not related_only and not actor.facilities and LABELS[actor.role] == EVERY_LABEL
    if unlimited or action in WITHOUT_LIMITS or actor.kind is ActorKind.SYSTEM:
        return EVERYTHING
    if related_only and not actor.is_person:
        return NOTHING
    return Scope(
        everything=False,
        physicians=actor.identifiers if related_only else (),
        related_only=related_only,
        labels=LABELS[actor.role],
        facilities=actor.facilities,
        unmatched=_sees_unmatched(actor),
        account=actor.name if actor.is_person else "",
    )


def require(actor: Actor, action: Action) -> None:
    """Raise `Forbidden` when an actor may not do something at all."""
    decision = decide(actor, action)
    if not decision.allowed:
        raise Forbidden(
            "This needs a named person." if decision.reason == "needs-a-person" else "This role may not do that."
        )
