"""Signing in at an OpenID provider: there with state, nonce and PKCE, back with a code, in with a session of ours.

What a sign-in began with travels in a signed cookie of the browser that began it, so any process may take it up, and a
code that another browser obtained is worth nothing here.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role
from hilum.core.errors import Forbidden, HilumError, NotAuthenticated, NotFound
from hilum.security.live_keys import Keys
from hilum.serve.browser import BrowserSessions, local_path
from hilum.serve.identity import cookie
from hilum.serve.oidc_provider import LEEWAY_SECONDS, Begun, Provider
from hilum.settings import Configuration
from hilum.settings.identity import OidcProvider
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.web import urls
from hilum.workflow.provided_accounts import ProvidedPerson, SignInByProvider, sign_in_by_provider

log = logging.getLogger(__name__)

BEGUN_COOKIE = "hilum_oidc"
BEGUN_SECONDS = 600
MAX_PARAMETER = 4096
MAX_GROUPS = 1000


@dataclass(frozen=True, slots=True)
class _Journey:
    """A sign-in that is under way in a browser."""

    provider: str
    begun: Begun
    next_url: str
    since: int
    again: bool


def sign_in_refused(uow: UnitOfWork, command: str, actor: Actor) -> None:
    """Audit that a provider's word was not enough."""
    uow.audit(actor, "sign-in", outcome="refused", reason=f"provider {command}")


class OidcSignIn:
    """The routes of sign-in by provider, for one process."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        keys: Keys,
        sessions: BrowserSessions,
        show_login: Callable[[Request, str, int], Response],
    ) -> None:
        """Takes what a refusal is shown with: the login page with a sentence and a status."""
        self._store = store
        self._configuration = configuration
        self._keys = keys
        self._sessions = sessions
        self._show_login = show_login
        self._providers: dict[str, Provider] = {}

    def routes(self) -> list[Route]:
        """Return the routes under `/auth/oidc/`."""
        return [
            Route("/auth/oidc/{provider}", self.begin, methods=["GET"]),
            Route("/auth/oidc/{provider}/callback", self.callback, methods=["GET"]),
            Route("/auth/oidc/{provider}/end", self.end, methods=["GET"]),
        ]

    async def begin(self, request: Request) -> Response:
        """Send the browser to the provider."""
        provider = self._provider(request)
        begun = Begun(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))
        next_url, again = local_path(request.query_params.get("next", "/")), request.query_params.get("again") == "1"
        since = int(self._store.clock().timestamp())
        journey = _Journey(provider.settings.name, begun, next_url, since, again)
        try:
            url = await run_in_threadpool(provider.sign_in_url, begun, self._callback_url(provider), again=again)
        except HilumError as error:
            return self._refused(request, error)
        answer = RedirectResponse(url, 303, {"cache-control": "no-store"})
        answer.set_cookie(
            BEGUN_COOKIE,
            self._sealed(journey),
            max_age=BEGUN_SECONDS,
            path="/auth/oidc",
            httponly=True,
            # The provider's answer is a navigation from another site, with which a strict cookie would not come.
            samesite="lax",
            secure=self._sessions.secure,
        )
        return answer

    async def callback(self, request: Request) -> Response:
        """Take the provider's answer, once, in the browser that asked for it."""
        provider = self._provider(request)
        try:
            answer = await run_in_threadpool(self._finish, request, provider)
        except HilumError as error:
            await run_in_threadpool(self._note_refusal, request, provider)
            answer = self._refused(request, error)
        answer.delete_cookie(BEGUN_COOKIE, path="/auth/oidc")
        return answer

    async def end(self, request: Request) -> Response:
        """Send a browser that is signed out here to where it ends its session at the provider."""
        provider = self._provider(request)
        try:
            url = await run_in_threadpool(provider.sign_out_url, self._configuration.current.http.base_url + urls.LOGIN)
        except HilumError as error:
            return self._refused(request, error)
        return RedirectResponse(url or urls.LOGIN, 303, {"cache-control": "no-store"})

    def _finish(self, request: Request, provider: Provider) -> Response:
        journey = self._opened(cookie(dict(request.headers), BEGUN_COOKIE))
        given = {name: request.query_params.get(name, "")[:MAX_PARAMETER] for name in ("state", "code", "iss", "error")}
        if journey is None or journey.provider != provider.settings.name:
            raise NotAuthenticated("This sign-in was not begun here, or took too long. Begin again.")
        if not hmac.compare_digest(journey.begun.state.encode(), given["state"].encode()):
            raise NotAuthenticated("This sign-in was not begun here, or took too long. Begin again.")
        # RFC 9207: a provider that names itself must be the one that was asked
        says_who = provider.metadata().get("authorization_response_iss_parameter_supported") is True
        if (given["iss"] or says_who) and given["iss"] != provider.settings.issuer:
            raise NotAuthenticated("The answer came from another sign-in service.")
        if given["error"] or not given["code"]:
            raise NotAuthenticated("The sign-in service did not confirm this sign-in.")
        now = self._store.clock()
        claims = provider.claims(given["code"], journey.begun, self._callback_url(provider), now)
        proved_at = proof_time(claims, now)
        if journey.again and (proved_at is None or proved_at.timestamp() < journey.since - LEEWAY_SECONDS):
            raise NotAuthenticated("The sign-in service did not ask again who you are.")
        person = person_of(claims, provider.settings)
        address = str(request.state.address)
        opening = self._sessions.opening(request)
        command = SignInByProvider(person, opening.session_id, opening.expires_at, address, opening.replaces, proved_at)
        signed_in = self._store.run(sign_in_by_provider, command, self._stranger(request))
        return self._sessions.opened(opening, journey.next_url, signed_in)

    def _note_refusal(self, request: Request, provider: Provider) -> None:
        self._store.run(sign_in_refused, provider.settings.name, self._stranger(request))

    def _stranger(self, request: Request) -> Actor:
        return Actor("nobody", Role.AUDITOR, ActorKind.PERSON, Door.PAGE, address=str(request.state.address))

    def _provider(self, request: Request) -> Provider:
        wanted = self._configuration.refresh().security.provider_named(request.path_params["provider"])
        if wanted is None:
            raise NotFound("There is nothing at this address.")
        known = self._providers.get(wanted.name)
        if known is None or known.settings != wanted:
            known = self._providers[wanted.name] = Provider(wanted, self._configuration.home)
        return known

    def _callback_url(self, provider: Provider) -> str:
        return f"{self._configuration.current.http.base_url}/auth/oidc/{provider.settings.name}/callback"

    def _refused(self, request: Request, error: HilumError) -> Response:
        log.info("a sign-in by provider is refused", extra={"door": "page", "code": error.code})
        return self._show_login(request, error.message, 503 if error.retryable else 403)

    def _sealed(self, journey: _Journey) -> str:
        begun = journey.begun
        said = [journey.provider, begun.state, begun.nonce, begun.verifier, journey.next_url, journey.since]
        said.append(journey.again)
        body = urlsafe_b64encode(orjson.dumps(said)).decode()
        return f"{body}.{self._mac(body)}"

    def _opened(self, text: str) -> _Journey | None:
        body, _, mac = text.partition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode("utf-8", "surrogatepass")):
            return None
        provider, state, nonce, verifier, next_url, since, again = orjson.loads(urlsafe_b64decode(body))
        if since + BEGUN_SECONDS < self._store.clock().timestamp():
            return None
        return _Journey(provider, Begun(state, nonce, verifier), next_url, since, again)

    def _mac(self, body: str) -> str:
        message = b"oidc:" + body.encode("utf-8", "surrogatepass")
        return hmac.new(self._keys.session_secret, message, hashlib.sha256).hexdigest()


def person_of(claims: dict[str, Any], settings: OidcProvider) -> ProvidedPerson:
    """Read a person off the claims. Raises Forbidden when none of their groups has a role here."""
    groups = set(_texts(claims.get(settings.groups_claim)))
    role = next((role for group, role in settings.roles.items() if group in groups), None)
    if role is None and settings.roles:
        raise Forbidden("None of your groups has a role here; ask an administrator.")
    identifiers = _texts(claims.get(settings.identifier_claim)) if settings.identifier_claim else ()
    return ProvidedPerson(
        settings.name,
        settings.issuer,
        str(claims["sub"]),
        _text(claims.get(settings.name_claim)),
        _text(claims.get(settings.display_claim)),
        role,
        tuple(_identifier(text, settings.identifier_authority) for text in identifiers[:20]),
        settings.create,
        settings.link_by_name,
    )


def proof_time(claims: dict[str, Any], now: datetime) -> datetime | None:
    """When the person last proved to the provider who they are (Core 2, auth_time), if it says so."""
    said = claims.get("auth_time")
    if not isinstance(said, int) or isinstance(said, bool) or not 0 < said <= now.timestamp() + LEEWAY_SECONDS:
        return None
    return datetime.fromtimestamp(said, UTC)


def _identifier(text: str, authority: str) -> Identifier:
    value, _, named = text.partition("^")
    return Identifier(value, named or authority)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if 0 < len(value) <= 256 else ()
    if isinstance(value, list):
        return tuple(each for each in value[:MAX_GROUPS] if isinstance(each, str) and 0 < len(each) <= 256)
    return ()


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= 128 else ""
