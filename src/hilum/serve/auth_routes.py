"""Everything under `/auth/`: signing in and out, by password or by a provider, sessions, and tokens of programs."""

from __future__ import annotations

from starlette.routing import Route

from hilum.security.live_keys import Keys
from hilum.serve.oidc import OidcSignIn
from hilum.serve.session_pages import SessionPages
from hilum.serve.sign_in import SignIn
from hilum.serve.token_endpoint import TokenEndpoint
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.web.view import View


def auth_routes(store: Store, configuration: Configuration, keys: Keys, view: View) -> list[Route]:
    """Return the routes under `/auth/`."""
    sign_in = SignIn(store, configuration, keys, view)
    return [
        *sign_in.routes(),
        *OidcSignIn(store, configuration, keys, sign_in.sessions, sign_in.show_login).routes(),
        *SessionPages(store, configuration, view).routes(),
        *TokenEndpoint(store, configuration, keys).routes(),
    ]
