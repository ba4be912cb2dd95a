"""Accounts, sessions, wrong passwords, clients and tokens as the database keeps them, on each backend."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from fixtures.department import eventually
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role
from hilum.core.errors import Duplicate, Forbidden, HilumError, NotAuthenticated, NotFound
from hilum.security.keys import Keyring
from hilum.security.passwords import MANY_FAILURES, hash_password
from hilum.security.tokens import issue
from hilum.serve.browser import BrowserSessions
from hilum.serve.identity import Authenticator, session_id_of
from hilum.settings import Configuration
from hilum.storage.sessions import failures_of, open_sessions
from hilum.storage.store import Store
from hilum.storage.users import find_user
from hilum.workflow.accounts import (
    AddUser,
    ChangeRole,
    EndSessions,
    LinkUser,
    OpenSession,
    SetPassword,
    add_user,
    change_role,
    disable_user,
    end_sessions,
    link_user,
    set_password,
    sign_in,
    sign_in_failed,
)
from hilum.workflow.clients import (
    AddClient,
    RevokeToken,
    UseAssertion,
    add_client,
    disable_client,
    revoke_token,
    use_client_assertion,
)
from hilum.workflow.credentials import Bearers, check_credentials, shut_until
from hilum.workflow.provided_accounts import ProvidedPerson, SignInByProvider, sign_in_by_provider

ADMIN = Actor("admin", Role.ADMIN, ActorKind.PERSON, Door.PAGE)
ANN = Actor("ann", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE, (Identifier("ann"),), address="10.0.0.5")
BOB = Actor("bob", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE)
PASSWORD = "correct horse battery staple"
HASH = hash_password(PASSWORD)
IDLE, LONGEST = timedelta(minutes=30), timedelta(hours=8)


class Clock:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock(store: Store) -> Iterator[Clock]:
    made = Clock()
    store.clock = made
    if store._committer is not None:
        store._committer._clock = made
    store.run(add_user, AddUser("ann", Role.RADIOLOGIST, HASH), ADMIN)
    yield made


def open_session(store: Store, secret: str, *, name: str = "ann", address: str = "10.0.0.5", replaces: str = "") -> str:
    command = OpenSession(name, session_id_of(secret), store.clock() + LONGEST, address, replaces)
    store.run(sign_in, command, replace(ANN, name=name, address=address))
    return command.session_id


@pytest.fixture
def who(store: Store, tmp_path: Path) -> Any:
    authenticator = Authenticator(store, Keyring.open(tmp_path), IDLE)

    def identify(secret: str) -> Any:
        return authenticator.identify({"cookie": f"hilum_session={secret}"}, Door.PAGE, "10.0.0.5")

    return identify


def seen_at(store: Store, clock: Clock) -> datetime:
    with store.read() as db:
        return open_sessions(db, "ann", clock.now, IDLE)[0].seen_at


def test_a_session_in_use_goes_on_until_its_absolute_end_and_no_further(store: Store, clock: Clock, who: Any) -> None:
    open_session(store, "s1")
    for _ in range(23):
        clock.go(minutes=20)
        assert who("s1").actor.name == "ann"
        eventually(lambda: seen_at(store, clock) == clock.now, "its use is noted")
    clock.go(minutes=20)
    assert who("s1") is None


def test_an_idle_session_ends(store: Store, clock: Clock, who: Any) -> None:
    open_session(store, "s1")
    clock.go(minutes=30)
    assert who("s1") is None
    open_session(store, "s2")
    clock.go(minutes=29)
    assert who("s2") is not None


def test_a_session_that_the_browser_chose_is_never_opened(store: Store, clock: Clock, who: Any) -> None:
    assert who("chosen-by-an-attacker") is None
    open_session(store, "s1", replaces=session_id_of("chosen-by-an-attacker"))
    assert who("chosen-by-an-attacker") is None and who("s1") is not None


def test_signing_in_again_ends_the_session_before(store: Store, clock: Clock, who: Any) -> None:
    first = open_session(store, "s1")
    open_session(store, "s2", replaces=first)
    assert who("s1") is None and who("s2") is not None


def test_the_database_does_not_hold_what_opens_a_session(store: Store, clock: Clock, who: Any) -> None:
    kept = open_session(store, "s1")
    assert who(kept) is None


@pytest.mark.parametrize(
    "end",
    [
        lambda store: store.run(change_role, ChangeRole("ann", Role.TECHNOLOGIST), ADMIN),
        lambda store: store.run(set_password, SetPassword("ann", HASH), ANN),
        lambda store: store.run(disable_user, "ann", ADMIN),
        lambda store: store.run(end_sessions, EndSessions("ann"), ADMIN),
    ],
    ids=["another role", "another password", "a shut account", "revoked"],
)
def test_every_change_of_privilege_ends_all_sessions(store: Store, clock: Clock, who: Any, end: Any) -> None:
    open_session(store, "s1")
    open_session(store, "s2")
    end(store)
    assert who("s1") is None and who("s2") is None


def test_the_same_role_again_ends_nothing(store: Store, clock: Clock, who: Any) -> None:
    open_session(store, "s1")
    store.run(change_role, ChangeRole("ann", Role.RADIOLOGIST), ADMIN)
    assert who("s1") is not None


def test_people_end_their_own_sessions_and_nobody_elses(store: Store, clock: Clock, who: Any) -> None:
    store.run(add_user, AddUser("bob", Role.RADIOLOGIST, HASH), ADMIN)
    first, second = open_session(store, "s1"), open_session(store, "s2")
    with pytest.raises(Forbidden):
        store.run(end_sessions, EndSessions("ann", first), BOB)
    with pytest.raises(NotFound):
        store.run(end_sessions, EndSessions("bob", first), BOB)
    with pytest.raises(Forbidden):
        store.run(end_sessions, EndSessions("ann"), replace(ANN, kind=ActorKind.SERVICE))
    assert who("s1") is not None
    store.run(end_sessions, EndSessions("ann", first), ANN)
    assert who("s1") is None and who("s2") is not None
    open_session(store, "s3")
    assert store.run(end_sessions, EndSessions("ann", kept=second), ANN) == 1
    with store.read() as db:
        assert [each.id for each in open_sessions(db, "ann", clock.now, IDLE)] == [second]


def test_cookies_go_over_https_only_where_people_use_https(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, secure in (("https://hilum.example.org", True), ("", False)):
        monkeypatch.setenv("HILUM_HTTP__PUBLIC_URL", root)
        sessions = BrowserSessions(sqlite_store, Configuration(tmp_path))
        opening = sessions.opening(Request({"type": "http", "headers": []}))
        cookie = sessions.opened(opening, "/", ANN).headers["set-cookie"]
        assert ("; Secure" in cookie, "; HttpOnly" in cookie, "; SameSite=Lax" in cookie) == (secure, True, True)


def fail(store: Store, clock: Clock, times: int, *, name: str = "ann", address: str = "10.6.6.6") -> None:
    for _ in range(times):
        store.run(sign_in_failed, name, replace(ANN, name=name, address=address))


def wait(store: Store, clock: Clock, name: str = "ann", address: str = "10.6.6.6") -> timedelta:
    with store.read() as db:
        until = shut_until(failures_of(db, name, address, clock.now))
    return max(until - clock.now, timedelta()) if until else timedelta()


def test_the_wait_begins_at_the_fifth_mistake_and_doubles(store: Store, clock: Clock) -> None:
    fail(store, clock, 4)
    assert wait(store, clock) == timedelta()
    for expected in (30, 60, 120, 240, 480, 900, 900):
        fail(store, clock, 1)
        assert wait(store, clock) == timedelta(seconds=expected)


def test_guesses_from_elsewhere_do_not_keep_a_person_out(store: Store, clock: Clock) -> None:
    fail(store, clock, 20)
    assert wait(store, clock) > timedelta()
    assert wait(store, clock, address="10.0.0.5") == timedelta()
    assert check_credentials(store, "ann", PASSWORD, Door.PAGE, "10.0.0.5").user is not None


def test_one_persons_mistakes_do_not_keep_the_ward_out(store: Store, clock: Clock) -> None:
    store.run(add_user, AddUser("bob", Role.RADIOLOGIST, HASH), ADMIN)
    fail(store, clock, 20)
    assert wait(store, clock, "bob") == timedelta()


def test_a_name_guessed_at_all_day_is_shut_but_where_it_was_used(store: Store, clock: Clock) -> None:
    open_session(store, "s1", address="10.0.0.5")
    for number in range(MANY_FAILURES // 4):
        fail(store, clock, 4, address=f"10.7.0.{number}")
    assert wait(store, clock, address="10.7.1.1") == timedelta(days=1)
    assert wait(store, clock, address="10.0.0.5") == timedelta()
    clock.go(days=1, seconds=1)
    assert wait(store, clock, address="10.7.1.1") == timedelta()


def test_a_name_that_is_no_accounts_waits_as_long(store: Store, clock: Clock) -> None:
    fail(store, clock, 6, name="nobody-of-this-name")
    fail(store, clock, 6)
    assert wait(store, clock, "nobody-of-this-name") == wait(store, clock)


def test_no_password_is_tried_during_the_wait_not_even_the_right_one(store: Store, clock: Clock) -> None:
    fail(store, clock, 5)
    checked = check_credentials(store, "ann", PASSWORD, Door.PAGE, "10.6.6.6")
    assert checked.user is None and 0 < checked.wait_seconds <= 31
    clock.go(seconds=31)
    assert check_credentials(store, "ann", PASSWORD, Door.PAGE, "10.6.6.6").user is not None


def test_the_right_password_forgets_the_mistakes_of_its_address(store: Store, clock: Clock) -> None:
    fail(store, clock, 4, address="10.0.0.5")
    open_session(store, "s1", address="10.0.0.5")
    fail(store, clock, 4, address="10.0.0.5")
    assert wait(store, clock, address="10.0.0.5") == timedelta()


def test_an_administrators_reset_forgets_all_mistakes(store: Store, clock: Clock) -> None:
    fail(store, clock, 20)
    store.run(set_password, SetPassword("ann", HASH, must_change=True), ADMIN)
    assert wait(store, clock) == timedelta()
    with store.read() as db:
        assert find_user(db, "ann").must_change_password


def test_mistakes_at_the_same_moment_all_count(store: Store, clock: Clock) -> None:
    stranger = replace(ANN, address="10.6.6.6")
    waiting: list[Future[None]] = [store.submit(sign_in_failed, "ann", stranger) for _ in range(8)]
    for each in waiting:
        each.result()
    with store.read() as db:
        assert failures_of(db, "ann", "10.6.6.6", clock.now).here == 8


def test_an_account_without_a_password_opens_with_none(store: Store, clock: Clock) -> None:
    store.run(add_user, AddUser("by-provider", Role.RADIOLOGIST, ""), ADMIN)
    for password in ("", " ", PASSWORD):
        assert check_credentials(store, "by-provider", password, Door.PAGE, "10.0.0.5").user is None


PERSON = ProvidedPerson("campus", "https://id.example", "s-1", "carol", "Carol", Role.RADIOLOGIST, (), True, False)
STRANGER = Actor("nobody", Role.AUDITOR, ActorKind.PERSON, Door.PAGE)


def by_provider(store: Store, person: ProvidedPerson, secret: str = "p1") -> Actor:
    command = SignInByProvider(person, session_id_of(secret), store.clock() + LONGEST, "10.0.0.5")
    return store.run(sign_in_by_provider, command, STRANGER)


def test_a_provider_means_the_same_account_whatever_it_calls_the_person(store: Store, clock: Clock) -> None:
    assert by_provider(store, PERSON).name == "carol"
    assert by_provider(store, replace(PERSON, name="married"), "p2").name == "carol"
    with store.read() as db:
        assert find_user(db, "married") is None


def test_another_issuers_same_subject_is_another_person(store: Store, clock: Clock) -> None:
    by_provider(store, PERSON)
    with pytest.raises(Forbidden):
        by_provider(store, replace(PERSON, issuer="https://other.example"), "p2")


def test_a_subject_stands_for_one_account_only(store: Store, clock: Clock) -> None:
    store.run(link_user, LinkUser("ann", PERSON.issuer, "s-1"), ADMIN)
    store.run(add_user, AddUser("bob", Role.RADIOLOGIST, HASH), ADMIN)
    with pytest.raises(Duplicate):
        store.run(link_user, LinkUser("bob", PERSON.issuer, "s-1"), ADMIN)
    with pytest.raises(Forbidden):
        store.run(link_user, LinkUser("ann", PERSON.issuer, "s-9"), BOB)


def test_the_first_sign_in_twice_at_the_same_moment_makes_one_account(store: Store, clock: Clock) -> None:
    commands = [SignInByProvider(PERSON, session_id_of(f"p{n}"), clock.now + LONGEST, "10.0.0.5") for n in range(6)]
    waiting = [store.submit(sign_in_by_provider, each, STRANGER) for each in commands]
    assert {each.result().name for each in waiting} == {"carol"}


JWKS = {"keys": [{"kty": "EC", "kid": "1"}]}


@pytest.fixture
def engine_client(store: Store, clock: Clock) -> Actor:
    store.run(add_client, AddClient("engine", Role.SERVICE, JWKS), ADMIN)
    return Actor("engine", Role.SERVICE, ActorKind.SERVICE, Door.PAGE)


def use(jti: str, clock: Clock) -> UseAssertion:
    return UseAssertion("engine", jti, clock.now + timedelta(minutes=5), "issue-token")


def test_an_assertion_is_good_once(store: Store, clock: Clock, engine_client: Actor) -> None:
    store.run(use_client_assertion, use("a", clock), engine_client)
    with pytest.raises(NotAuthenticated):
        store.run(use_client_assertion, use("a", clock), engine_client)
    store.run(use_client_assertion, use("b", clock), engine_client)


def test_an_assertion_used_at_the_same_moment_is_taken_once(store: Store, clock: Clock, engine_client: Actor) -> None:
    waiting = [store.submit(use_client_assertion, use("a", clock), engine_client) for _ in range(8)]
    refused = [each.exception() for each in waiting]
    assert [type(each) for each in refused if each is not None] == [NotAuthenticated] * 7


def test_a_shut_client_gets_nothing(store: Store, clock: Clock, engine_client: Actor) -> None:
    store.run(disable_client, "engine", ADMIN)
    with pytest.raises(NotAuthenticated):
        store.run(use_client_assertion, use("a", clock), engine_client)


def test_clients_are_managed_by_administrators_only(store: Store, clock: Clock) -> None:
    for verb, command in ((add_client, AddClient("x", Role.ADMIN, JWKS)), (disable_client, "x")):
        with pytest.raises(Forbidden):
            store.run(verb, command, ANN)
    with pytest.raises(NotFound):
        store.run(disable_client, "x", ADMIN)


@pytest.mark.parametrize(("kind", "subject"), [("user", "ann"), ("client", "engine"), ("service", "service:service")])
def test_a_token_taken_back_stops_at_its_next_request(
    store: Store, clock: Clock, engine_client: Actor, tmp_path: Path, kind: Any, subject: str
) -> None:
    ring = Keyring.open(tmp_path)
    token = issue(ring, subject=subject, role="service", kind=kind, minutes=60, now=clock.now, token_id="t1")
    bearers = Bearers(store, ring)
    assert bearers.actor(token, Door.FHIR, "10.0.0.5").name == subject
    store.run(revoke_token, RevokeToken("t1", clock.now + timedelta(hours=1)), ADMIN)
    store.run(revoke_token, RevokeToken("t1", clock.now + timedelta(hours=1)), ADMIN)
    with pytest.raises(NotAuthenticated):
        bearers.actor(token, Door.FHIR, "10.0.0.5")


def test_a_token_has_the_role_that_its_holder_has_now(
    store: Store, clock: Clock, engine_client: Actor, tmp_path: Path
) -> None:
    ring = Keyring.open(tmp_path)
    bearers = Bearers(store, ring)
    token = issue(ring, subject="ann", role="admin", kind="user", minutes=60, now=clock.now)
    assert bearers.actor(token, Door.FHIR, "").role is Role.RADIOLOGIST
    token = issue(ring, subject="engine", role="admin", kind="client", minutes=60, now=clock.now)
    found = bearers.actor(token, Door.FHIR, "")
    assert found.role is Role.SERVICE and not found.is_person
    store.run(disable_client, "engine", ADMIN)
    with pytest.raises(HilumError):
        bearers.actor(token, Door.FHIR, "")
