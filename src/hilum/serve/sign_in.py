"""Signing in and out, and choosing a password; wrong passwords become slow, and tell nothing about accounts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from hilum.core.actor import Actor, Door
from hilum.core.errors import InvalidInput, NotAuthenticated
from hilum.security.live_keys import Keys
from hilum.security.passwords import check_password, hash_password
from hilum.serve.browser import BrowserSessions, local_path
from hilum.serve.identity import Identified, cookie, new_session_secret
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.storage.users import User, find_user
from hilum.web import urls
from hilum.web.headers import PAGE_HEADERS
from hilum.web.landing import home_of
from hilum.web.models import Frame, LoginPage, PasswordPage, ProviderButton
from hilum.web.view import View
from hilum.workflow.accounts import OpenSession, SetPassword, set_password, sign_in, sign_out
from hilum.workflow.credentials import actor_of, check_credentials, confirm_password

LOGIN_COOKIE = "hilum_login"


class SignIn:
    """The sign-in pages of one process."""

    def __init__(self, store: Store, configuration: Configuration, keyring: Keys, view: View) -> None:
        self._store = store
        self._configuration = configuration
        self._keyring = keyring
        self._view = view
        self.sessions = BrowserSessions(store, configuration)

    def routes(self) -> list[Route]:
        """Return the routes under `/auth/`."""
        return [
            Route(urls.LOGIN, self.login_page, methods=["GET"]),
            Route(urls.LOGIN, self.login, methods=["POST"]),
            Route(urls.LOGOUT, self.logout, methods=["POST"]),
            Route(urls.PASSWORD, self.password_page, methods=["GET"]),
            Route(urls.PASSWORD, self.password, methods=["POST"]),
        ]

    async def login_page(self, request: Request) -> Response:
        """Show the form; its token is bound to a cookie of this browser."""
        return self.show_login(request, "", 200)

    def show_login(self, request: Request, problem: str, status: int) -> Response:
        """The login page, with a sentence about what went wrong elsewhere."""
        secret = cookie(dict(request.headers), LOGIN_COOKIE) or new_session_secret()
        next_url = local_path(request.query_params.get("next", "/"))
        page = LoginPage(
            self._frame(self._login_token(secret)),
            next_url=next_url,
            providers=self._buttons(next_url),
            problem=problem,
            end_url=self._end_url(request.query_params.get("ended", "")),
        )
        return self._page(page, secret, status)

    async def login(self, request: Request) -> Response:
        """Check name and password and open a session."""
        form = await request.form()
        secret = cookie(dict(request.headers), LOGIN_COOKIE)
        if not secret or not _same(self._login_token(secret), str(form.get("csrf_token", ""))):
            raise NotAuthenticated("The page is out of date; load it again.")
        name, password = str(form.get("user_name", "")).replace("\x00", "")[:200], str(form.get("password", ""))[:1024]
        next_url = local_path(str(form.get("next", "/")))
        address = str(request.state.address)
        checked = await run_in_threadpool(check_credentials, self._store, name, password, Door.PAGE, address)
        if checked.user is None:
            frame = self._frame(self._login_token(secret))
            page = LoginPage(frame, name, next_url, True, checked.wait_seconds, self._buttons(next_url))
            return self._page(page, secret, 403)
        return await run_in_threadpool(self._open, request, checked.user, next_url)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        identified: Identified = request.state.identified
        await asyncio.wrap_future(self._store.submit(sign_out, identified.session_id, identified.actor))
        return self.sessions.ended(urls.with_query(urls.LOGIN, ended=identified.provider))

    async def password_page(self, request: Request) -> Response:
        """Show the form for a new password."""
        return self._password_page(request, "")

    async def password(self, request: Request) -> Response:
        """Store a new password and open a new session under it."""
        form = await request.form()
        identified: Identified = request.state.identified
        new = str(form.get("new_password", ""))[:1024]
        try:
            if new != str(form.get("repeated_password", "")):
                raise InvalidInput("The two passwords differ.")
            check_password(new, user_name=identified.actor.name)
            user = await run_in_threadpool(self._current, identified, str(form.get("current_password", ""))[:1024])
        except InvalidInput as error:
            return self._password_page(request, error.message)
        hashed = await run_in_threadpool(hash_password, new)
        await asyncio.wrap_future(self._store.submit(set_password, SetPassword(user.name, hashed), identified.actor))
        return await run_in_threadpool(self._open, request, user, "/")

    def _current(self, identified: Identified, current: str) -> User:
        confirm_password(self._store, identified.actor, current)
        with self._store.read() as db:
            user = find_user(db, identified.actor.name)
        if user is None:
            raise NotAuthenticated("The account is shut.")
        return user

    def _open(self, request: Request, user: User, next_url: str) -> Response:
        address, opening = str(request.state.address), self.sessions.opening(request)
        command = OpenSession(user.name, opening.session_id, opening.expires_at, address, opening.replaces)
        actor = actor_of(user, Door.PAGE, address)
        self._store.run(sign_in, command, actor)
        return self.sessions.opened(opening, next_url, actor)

    def _page(self, page: LoginPage, secret: str, status: int = 200) -> Response:
        answer = HTMLResponse(self._view.render("login.html", page), status, PAGE_HEADERS)
        answer.set_cookie(
            LOGIN_COOKIE, secret, path="/auth", httponly=True, samesite="strict", secure=self.sessions.secure
        )
        return answer

    def _password_page(self, request: Request, problem: str) -> Response:
        identified: Identified = request.state.identified
        frame = self._frame(request.state.csrf_token, identified.actor)
        page = PasswordPage(frame, identified.actor.name, identified.must_change_password, problem=problem)
        return HTMLResponse(self._view.render("password.html", page), 422 if problem else 200, PAGE_HEADERS)

    def _frame(self, csrf_token: str, actor: Actor | None = None) -> Frame:
        facility = self._configuration.current.facility.name
        name, home = (actor.display or actor.name, home_of(actor)) if actor else (None, "/")
        return Frame(csrf_token, facility, name, home_url=home)

    def _login_token(self, secret: str) -> str:
        return hmac.new(self._keyring.session_secret, b"login:" + secret.encode(), hashlib.sha256).hexdigest()

    def _buttons(self, next_url: str) -> tuple[ProviderButton, ...]:
        providers = self._configuration.refresh().security.oidc
        return tuple(
            ProviderButton(each.label or each.name, urls.with_query(urls.provider(each.name), next=next_url))
            for each in providers
        )

    def _end_url(self, ended: str) -> str:
        """Where the session that a provider keeps ends; ours has ended already."""
        known = self._configuration.current.security.provider_named(ended)
        return urls.provider(known.name) + "/end" if known else ""


def _same(right: str, given: str) -> bool:
    return hmac.compare_digest(right.encode(), given.encode())
