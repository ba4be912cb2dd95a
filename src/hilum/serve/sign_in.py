"""Signing in and out, and choosing a password; wrong passwords become slow, and tell nothing about accounts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from hilum.core.actor import Actor, Door
from hilum.core.errors import Forbidden, InvalidInput, NotAuthenticated
from hilum.security.live_keys import Keys
from hilum.security.passwords import check_password, hash_password
from hilum.serve.identity import (
    SESSION_COOKIE,
    Identified,
    cookie,
    new_session_secret,
    session_cookie,
    session_id_of,
)
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.storage.users import User, find_user
from hilum.web import urls
from hilum.web.headers import PAGE_HEADERS
from hilum.web.models import Frame, LoginPage, PasswordPage
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
        secret = cookie(dict(request.headers), LOGIN_COOKIE) or new_session_secret()
        page = LoginPage(self._frame(self._login_token(secret)), next_url=_local(request.query_params.get("next", "/")))
        return self._page(page, secret)

    async def login(self, request: Request) -> Response:
        """Check name and password and open a session."""
        form = await request.form()
        secret = cookie(dict(request.headers), LOGIN_COOKIE)
        if not secret or not _same(self._login_token(secret), str(form.get("csrf_token", ""))):
            raise NotAuthenticated("The page is out of date; load it again.")
        name, password = str(form.get("user_name", "")).replace("\x00", "")[:200], str(form.get("password", ""))[:1024]
        next_url = _local(str(form.get("next", "/")))
        address = str(request.state.address)
        checked = await run_in_threadpool(check_credentials, self._store, name, password, Door.PAGE, address)
        if checked.user is None:
            page = LoginPage(self._frame(self._login_token(secret)), name, next_url, True, checked.wait_seconds)
            return self._page(page, secret, 403)
        return await run_in_threadpool(self._open, request, checked.user, next_url)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        identified: Identified = request.state.identified
        await asyncio.wrap_future(self._store.submit(sign_out, identified.session_id, identified.actor))
        answer = RedirectResponse(urls.LOGIN, 303)
        answer.headers["set-cookie"] = session_cookie("", None, secure=self._secure)
        return answer

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
        except (InvalidInput, Forbidden) as error:
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
        address, before = str(request.state.address), cookie(dict(request.headers), SESSION_COOKIE)
        secret = new_session_secret()
        expires = self._store.clock() + timedelta(minutes=self._configuration.current.security.session_minutes)
        replaces = session_id_of(before) if before else ""
        command = OpenSession(user.name, session_id_of(secret), expires, address, replaces)
        self._store.run(sign_in, command, actor_of(user, Door.PAGE, address))
        answer = RedirectResponse(next_url, 303)
        answer.headers["set-cookie"] = session_cookie(secret, expires, secure=self._secure)
        return answer

    def _page(self, page: LoginPage, secret: str, status: int = 200) -> Response:
        answer = HTMLResponse(self._view.render("login.html", page), status, PAGE_HEADERS)
        answer.set_cookie(LOGIN_COOKIE, secret, path="/auth", httponly=True, samesite="strict", secure=self._secure)
        return answer

    def _password_page(self, request: Request, problem: str) -> Response:
        identified: Identified = request.state.identified
        frame = self._frame(request.state.csrf_token, identified.actor)
        page = PasswordPage(frame, identified.actor.name, identified.must_change_password, problem=problem)
        return HTMLResponse(self._view.render("password.html", page), 422 if problem else 200, PAGE_HEADERS)

    def _frame(self, csrf_token: str, actor: Actor | None = None) -> Frame:
        facility = self._configuration.current.facility.name
        return Frame(csrf_token, facility, actor.display or actor.name if actor else None)

    def _login_token(self, secret: str) -> str:
        return hmac.new(self._keyring.session_secret, b"login:" + secret.encode(), hashlib.sha256).hexdigest()

    @property
    def _secure(self) -> bool:
        return self._configuration.current.http.base_url.startswith("https:")


def _same(right: str, given: str) -> bool:
    return hmac.compare_digest(right.encode(), given.encode())


def _local(url: str) -> str:
    """Return a path of this server; anything else would let a link lead a person elsewhere after the login."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or not url.startswith("/") or url.startswith(("//", "/\\")) or len(url) > 2000:
        return "/"
    return url
