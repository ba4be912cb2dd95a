"""Tokens for programs: client credentials by private_key_jwt, introspection, revocation (RFC 6749, 7523, 7662, 7009).

A program proves at each request who it is with a fresh statement under its own key; there is no client secret that
could be stored or stolen here. Tokens are short, and of the role that the client was registered with: scopes are not
asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import HilumError, NotAuthenticated, Unavailable
from hilum.security.client_assertions import check_assertion, claimed_client
from hilum.security.live_keys import Keys
from hilum.security.tokens import Claims, issue, verify
from hilum.serve.identity import Identified
from hilum.settings import Configuration
from hilum.storage.clients import find_client
from hilum.storage.store import Store
from hilum.workflow.clients import RevokeToken, UseAssertion, refuse_client, revoke_token, use_client_assertion
from hilum.workflow.credentials import standing_of

TOKEN, INTROSPECT, REVOKE = "/auth/token", "/auth/introspect", "/auth/revoke"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Who may ask about, and take back, tokens that are not their own.
OVERSEERS = frozenset({Role.ADMIN})
HEADERS = {"cache-control": "no-store", "pragma": "no-cache"}

Form = dict[str, str]


class OAuthRefusal(Exception):
    """RFC 6749 5.2: a code of the standard's, and a sentence."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.description, self.status = error, description, status


class TokenEndpoint:
    """The OAuth 2 endpoints of one process."""

    def __init__(self, store: Store, configuration: Configuration, keys: Keys) -> None:
        self._store = store
        self._configuration = configuration
        self._keys = keys

    def routes(self) -> list[Route]:
        """Return the routes; each is asked by POST with a form, and proves by itself who asks."""
        handlers = {TOKEN: self._token, INTROSPECT: self._introspect, REVOKE: self._revoke}
        return [Route(path, _answering(handler), methods=["POST"]) for path, handler in handlers.items()]

    def _token(self, request: Request, form: Form) -> dict[str, object]:
        if form.get("grant_type") != "client_credentials":
            raise OAuthRefusal("unsupported_grant_type", "Only client_credentials is granted here.")
        if form.get("scope", "").strip():
            raise OAuthRefusal("invalid_scope", "The role of the client decides; ask without a scope.")
        client = self._client(request, form, "issue-token")
        minutes = self._configuration.current.security.token_minutes
        token = issue(
            self._keys, subject=client.name, role=client.role.value, kind="client", minutes=minutes,
            now=self._store.clock(),
        )  # fmt: skip
        return {"access_token": token, "token_type": "Bearer", "expires_in": minutes * 60}

    def _introspect(self, request: Request, form: Form) -> dict[str, object]:
        asker = self._asker(request, form, "introspect-token")
        claims = self._claims_of(form.get("token", ""))
        found = standing_of(self._store, claims, Door.PAGE, "") if claims is not None else None
        if claims is None or found is None or not _may_ask(asker, claims):
            return {"active": False}
        said: dict[str, object] = {
            "active": True,
            "sub": claims.subject,
            "token_type": "Bearer",
            "role": found.role.value,
            "exp": int(claims.expires_at.timestamp()),
            "nbf": int(claims.not_before.timestamp()),
            "jti": claims.token_id,
        }
        return {**said, "client_id": claims.subject} if claims.kind == "client" else said

    def _revoke(self, request: Request, form: Form) -> dict[str, object]:
        asker = self._asker(request, form, "revoke-token")
        claims = self._claims_of(form.get("token", ""))
        # RFC 7009 2.2: what is no token (any more) needs no revoking, and the client is not told
        if claims is None:
            return {}
        if not _may_ask(asker, claims):
            raise OAuthRefusal("unauthorized_client", "The token is not yours.")
        self._store.run(revoke_token, RevokeToken(claims.token_id, claims.expires_at), asker)
        return {}

    def _claims_of(self, token: str) -> Claims | None:
        try:
            return verify(self._keys, token, self._store.clock())
        except NotAuthenticated:
            return None

    def _asker(self, request: Request, form: Form, purpose: str) -> Actor:
        """Who asks: by a bearer token, never by a cookie, or by a statement as at the token endpoint."""
        identified: Identified | None = request.state.identified
        if identified is not None and not identified.session_id:
            return identified.actor
        return self._client(request, form, purpose)

    def _client(self, request: Request, form: Form, purpose: str) -> Actor:
        address = str(request.state.address)
        named = "nobody"
        try:
            if form.get("client_assertion_type") != JWT_BEARER:
                raise NotAuthenticated("A client proves itself by private_key_jwt.")
            assertion = form.get("client_assertion", "")
            named = claimed_client(assertion)
            if form.get("client_id", named) != named:
                raise NotAuthenticated("The assertion is of another client.")
            return self._proven(named, assertion, address, purpose)
        except Unavailable:
            raise
        except HilumError as error:
            stranger = Actor(named[:128], Role.AUDITOR, ActorKind.SERVICE, Door.PAGE, address=address)
            self._store.run(refuse_client, "client", stranger)
            raise OAuthRefusal("invalid_client", error.message, 401) from error

    def _proven(self, name: str, assertion: str, address: str, purpose: str) -> Actor:
        with self._store.read() as db:
            client = find_client(db, name)
        if client is None or client.disabled:
            raise NotAuthenticated("The client is not known here.")
        root = self._configuration.current.http.base_url
        proven = check_assertion(assertion, client.jwks, {root, root + TOKEN}, self._store.clock())
        actor = Actor(client.name, client.role, ActorKind.SERVICE, Door.PAGE, address=address)
        use = UseAssertion(client.name, proven.token_id, proven.expires_at, purpose)
        self._store.run(use_client_assertion, use, actor)
        return actor


def _may_ask(asker: Actor, claims: Claims) -> bool:
    kind = {"user": ActorKind.PERSON}.get(claims.kind, ActorKind.SERVICE)
    return asker.role in OVERSEERS or (asker.name == claims.subject and asker.kind is kind)


def _answering(handler: Callable[[Request, Form], dict[str, object]]) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=20)
        fields = {name: str(value) for name, value in form.items()}
        try:
            if len(form.multi_items()) != len(fields):
                raise OAuthRefusal("invalid_request", "A parameter is there twice.")
            answer = await run_in_threadpool(handler, request, fields)
        except OAuthRefusal as refusal:
            said = {"error": refusal.error, "error_description": refusal.description}
            return Response(orjson.dumps(said), refusal.status, HEADERS, "application/json")
        return Response(orjson.dumps(answer), 200, HEADERS, "application/json")

    return endpoint
