"""Who sits behind an AE title: the user that an association names (PS3.7 D.3.3.7) becomes one of our accounts.

A passcode is checked as at the login page, with the same waits; a token as at the HTTP doors. A name alone proves
nothing and counts only where the settings trust it and the caller showed a certificate. Kerberos and SAML are refused.
"""

from __future__ import annotations

import logging

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import HilumError, NotAuthenticated
from hilum.dicom.upper_layer.negotiation import IdentityVerdict, Peer
from hilum.dicom.upper_layer.user_information import UserIdentityRQ, UserIdentityType
from hilum.security.live_keys import Keys
from hilum.settings import DicomSettings
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.storage.users import find_user
from hilum.workflow.credentials import Bearers, RememberedPasswords, actor_of

log = logging.getLogger(__name__)

MAXIMUM_NAME, MAXIMUM_PASSCODE = 512, 1024  # bytes
REFUSED = IdentityVerdict(accepted=False)


def refuse_identity(uow: UnitOfWork, command: str, actor: Actor) -> None:
    """Audit that a caller's user was not let in, for the reason `command`; wrong passcodes are audited already."""
    uow.audit(actor, "associate", outcome="refused", reason=command)


class UserIdentities:
    """Checks the users that callers name, for one process."""

    def __init__(self, store: Store, keys: Keys) -> None:
        """Takes the accounts, and the keys of the tokens that may stand for them."""
        self._store = store
        self._bearers = Bearers(store, keys)
        self._passwords = RememberedPasswords(store)

    def verdict(self, peer: Peer, settings: DicomSettings) -> IdentityVerdict:
        """Answer the user identity of a request; the response of every type accepted here is empty (D.3.3.7.2)."""
        asked = peer.user_identity
        if settings.user_identity == "ignore" or (asked is None and settings.user_identity == "check"):
            return IdentityVerdict(accepted=True)
        address = peer.address[0]
        try:
            if asked is None:
                raise NotAuthenticated("missing")
            person = self._person(asked, peer, settings, address)
        except HilumError as error:
            reason = error.message if isinstance(error, NotAuthenticated) else error.code
            log.warning("a user identity is refused", extra={"door": "dicom", "host": address, "code": error.code})
            if reason != "passcode":
                caller = Actor(peer.calling_ae_title, Role.SERVICE, ActorKind.PEER, Door.DIMSE, address=address)
                self._store.submit(refuse_identity, f"user-identity: {reason}", caller)
            return REFUSED
        return IdentityVerdict(accepted=True, person=person)

    def _person(self, asked: UserIdentityRQ, peer: Peer, settings: DicomSettings, address: str) -> Actor:
        match asked.user_identity_type:
            case UserIdentityType.USERNAME:
                trusted = settings.trust_user_names == "mutual-tls" and peer.certificate is not None
                return self._named(_text(asked.primary_field, MAXIMUM_NAME), address, trusted=trusted)
            case UserIdentityType.USERNAME_AND_PASSCODE:
                name = _text(asked.primary_field, MAXIMUM_NAME)
                passcode = _text(asked.secondary_field, MAXIMUM_PASSCODE)
                user = self._passwords.check(name, passcode, Door.DIMSE, address).user
                if user is None:
                    raise NotAuthenticated("passcode")
                if user.must_change_password:
                    raise NotAuthenticated("one-time password")
                return actor_of(user, Door.DIMSE, address)
            case UserIdentityType.JWT:
                try:
                    return self._bearers.actor(_text(asked.primary_field, 16 * 1024), Door.DIMSE, address)
                except NotAuthenticated:
                    raise NotAuthenticated("token") from None
        raise NotAuthenticated("type not supported")

    def _named(self, name: str, address: str, *, trusted: bool) -> Actor:
        if not trusted:
            raise NotAuthenticated("name without passcode")
        with self._store.read() as db:
            user = find_user(db, name)
        if user is None or user.disabled:
            raise NotAuthenticated("no such account")
        return actor_of(user, Door.DIMSE, address)


def _text(field: bytes, most: int) -> str:
    """PS3.7 table D.3-14: UTF-8; some callers pad to an even length."""
    if not 0 < len(field) <= most:
        raise NotAuthenticated("length")
    try:
        return field.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        raise NotAuthenticated("not UTF-8") from None
