"""What an A-ASSOCIATE-RQ is answered with: refused with result, source and reason, or agreed context by context.

Pure functions of the request, the offers of the services and the acceptance policy; the sockets are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hilum.core.actor import Actor
from hilum.dicom.upper_layer.limits import PeerLimits
from hilum.dicom.upper_layer.pdu import (
    APPLICATION_CONTEXT_NAME,
    AAssociateAC,
    AAssociateRJ,
    AAssociateRQ,
    ContextReply,
    ContextResult,
    ProposedContext,
    RejectResult,
    RejectSource,
)
from hilum.dicom.upper_layer.syntaxes import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    AbstractSyntaxRule,
    TransferSyntaxRule,
    explicit_then_implicit,
)
from hilum.dicom.upper_layer.user_information import (
    AsynchronousOperationsWindow,
    ScpScuRoleSelection,
    SopClassExtendedNegotiation,
    UserIdentityRQ,
    UserInformation,
)
from hilum.security.certificates import PeerCertificate

IMPLEMENTATION_CLASS_UID = "2.25.238404372910485621770394846350216539057"
IMPLEMENTATION_VERSION_NAME = "HILUM_0_1"
MAXIMUM_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers between 1 and 255
SMALLEST_MAXIMUM_LENGTH = 128  # below that a response would be cut into dozens of units


def _reject(source: RejectSource, reason: int, *, transient: bool = False) -> AAssociateRJ:
    result = RejectResult.REJECTED_TRANSIENT if transient else RejectResult.REJECTED_PERMANENT
    return AAssociateRJ(result, source, reason)


# PS3.8 table 9-21
NO_REASON_GIVEN = _reject(RejectSource.SERVICE_USER, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED = _reject(RejectSource.SERVICE_USER, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED = _reject(RejectSource.SERVICE_USER, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = _reject(RejectSource.SERVICE_USER, 7)
ACSE_NO_REASON_GIVEN = _reject(RejectSource.SERVICE_PROVIDER_ACSE, 1)
PROTOCOL_VERSION_NOT_SUPPORTED = _reject(RejectSource.SERVICE_PROVIDER_ACSE, 2)
TEMPORARY_CONGESTION = _reject(RejectSource.SERVICE_PROVIDER_PRESENTATION, 1, transient=True)
LOCAL_LIMIT_EXCEEDED = _reject(RejectSource.SERVICE_PROVIDER_PRESENTATION, 2, transient=True)
TOO_MANY_CONTEXTS = _reject(RejectSource.SERVICE_PROVIDER_PRESENTATION, 2)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks for an association, as far as it is known before one is granted."""

    calling_ae_title: str
    called_ae_title: str
    address: tuple[str, int]
    certificate: PeerCertificate | None = None  # proven by its handshake
    user_identity: UserIdentityRQ | None = None
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    person: Actor | None = None  # whom the user identity stands for, once it was checked


@dataclass(frozen=True, slots=True)
class IdentityVerdict:
    """Answer to a user identity (PS3.7 D.3.3.7.2); `server_response` is sent when a positive response was asked for."""

    accepted: bool
    server_response: bytes = field(default=b"", repr=False)
    person: Actor | None = None


def ignore_user_identity(peer: Peer) -> IdentityVerdict:
    """Identities are neither required nor checked (PS3.7 D.3.3.7: an acceptor need not support them)."""
    return IdentityVerdict(accepted=True)


@dataclass(frozen=True, slots=True)
class AcceptancePolicy:
    """Who may open an association.

    `called_ae_titles` empty means every called title is ours. `accepts_calling` has no default: default deny.
    """

    called_ae_titles: frozenset[str]
    accepts_calling: Callable[[Peer], bool]
    check_user_identity: Callable[[Peer], IdentityVerdict] = ignore_user_identity
    limits_of: Callable[[Peer], PeerLimits] = lambda peer: PeerLimits()


@dataclass(frozen=True, slots=True)
class Offer:
    """What one service supports.

    `requestor_may_be_scp` lets the peer take the SCP role (C-GET sub-operations to it, PS3.7 D.3.3.4).
    `extended_negotiation` answers (SOP class, application information) or None to stay silent (PS3.7 D.3.3.5).
    """

    abstract_syntaxes: AbstractSyntaxRule
    transfer_syntaxes: TransferSyntaxRule = explicit_then_implicit
    requestor_may_be_scp: bool = False
    extended_negotiation: Callable[[str, bytes], bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """One agreed presentation context; `offer` is the index of the offer that took it."""

    presentation_context_id: int
    abstract_syntax: str
    transfer_syntax: str
    offer: int
    requestor_is_scp: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """The answer to send and the contexts it agrees on."""

    accept: AAssociateAC
    contexts: dict[int, AcceptedContext]
    peer: Peer


def refusal_of(request: AAssociateRQ, peer: Peer, policy: AcceptancePolicy) -> AAssociateRJ | None:
    """Why the request is refused, or None; in the order provider, application context, called, calling title."""
    ids = [context.presentation_context_id for context in request.presentation_contexts]
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if len(ids) > MAXIMUM_CONTEXTS:
        return TOO_MANY_CONTEXTS
    if len(set(ids)) != len(ids) or not all(number & 1 for number in ids):
        return ACSE_NO_REASON_GIVEN
    if 0 < request.user_information.maximum_length_received < SMALLEST_MAXIMUM_LENGTH:
        return TOO_MANY_CONTEXTS
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    if policy.called_ae_titles and request.called_ae_title not in policy.called_ae_titles:
        return CALLED_AE_TITLE_NOT_RECOGNIZED
    if not policy.accepts_calling(peer):
        return CALLING_AE_TITLE_NOT_RECOGNIZED
    return None


def _answer_context(
    proposed: ProposedContext, offers: Sequence[Offer], roles: dict[str, ScpScuRoleSelection]
) -> tuple[ContextReply, AcceptedContext | None]:
    result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    context_id = proposed.presentation_context_id
    for index, offer in enumerate(offers):
        if not offer.abstract_syntaxes(proposed.abstract_syntax):
            continue
        chosen = offer.transfer_syntaxes(proposed.transfer_syntaxes)
        if chosen is None:
            result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
            continue
        role = roles.get(proposed.abstract_syntax)
        accepted = AcceptedContext(
            context_id, proposed.abstract_syntax, chosen, index, role is not None and role.scp_role
        )
        return ContextReply(context_id, ContextResult.ACCEPTANCE, chosen), accepted
    # PS3.8 table 9-18: the transfer syntax is not significant where the context is refused, but must be there
    return ContextReply(context_id, result, IMPLICIT_VR_LITTLE_ENDIAN), None


def _agreed_roles(request: AAssociateRQ, offers: Sequence[Offer]) -> dict[str, ScpScuRoleSelection]:
    """PS3.7 D.3.3.4: a role may be granted only where it was proposed."""
    granted = {}
    for role in request.user_information.role_selections:
        offer = next((offer for offer in offers if offer.abstract_syntaxes(role.sop_class_uid)), None)
        if offer is not None:
            scp = role.scp_role and offer.requestor_may_be_scp
            granted[role.sop_class_uid] = ScpScuRoleSelection(role.sop_class_uid, role.scu_role, scp)
    return granted


def _agreed_extensions(
    request: AAssociateRQ, offers: Sequence[Offer], contexts: dict[int, AcceptedContext]
) -> tuple[SopClassExtendedNegotiation, ...]:
    by_class = {context.abstract_syntax: offers[context.offer] for context in contexts.values()}
    agreed = []
    for asked in request.user_information.extended_negotiations:
        offer = by_class.get(asked.sop_class_uid)
        if offer is None or offer.extended_negotiation is None:
            continue
        answer = offer.extended_negotiation(asked.sop_class_uid, asked.service_class_application_information)
        if answer is not None:
            agreed.append(SopClassExtendedNegotiation(asked.sop_class_uid, answer))
    return tuple(agreed)


def agree(
    request: AAssociateRQ, peer: Peer, offers: Sequence[Offer], policy: AcceptancePolicy, maximum_length: int
) -> Agreement | AAssociateRJ:
    """Answer a request: a rejection, or an A-ASSOCIATE-AC with the contexts it grants.

    The first offer that knows an abstract syntax and finds a transfer syntax takes the context.
    """
    refusal = refusal_of(request, peer, policy)
    if refusal is not None:
        return refusal
    verdict = policy.check_user_identity(peer)
    if not verdict.accepted:
        return NO_REASON_GIVEN
    roles = _agreed_roles(request, offers)
    replies = []
    contexts: dict[int, AcceptedContext] = {}
    for proposed in request.presentation_contexts:
        reply, accepted = _answer_context(proposed, offers, roles)
        replies.append(reply)
        if accepted is not None:
            contexts[accepted.presentation_context_id] = accepted
    asked = request.user_information
    wants_response = asked.user_identity is not None and asked.user_identity.positive_response_requested
    information = UserInformation(
        maximum_length_received=maximum_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        asynchronous_operations_window=AsynchronousOperationsWindow(1, 1)
        if asked.asynchronous_operations_window
        else None,
        role_selections=tuple(roles.values()),
        extended_negotiations=_agreed_extensions(request, offers, contexts),
        user_identity_server_response=verdict.server_response if wants_response else None,
    )
    accept = AAssociateAC(request.called_ae_title, request.calling_ae_title, tuple(replies), information)
    return Agreement(accept, contexts, peer if verdict.person is None else replace(peer, person=verdict.person))
