"""Passwords: what is taken, what is refused and why, and how guessing is slowed down."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher

from hilum.core.errors import InvalidInput, Unavailable
from hilum.security import passwords
from hilum.security.passwords import (
    check_password,
    hash_password,
    locked_until,
    needs_rehash,
    one_time_password,
    verify_password,
)

GOOD = "green lamp over the quiet river"
FAILED = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def test_a_password_fits_its_own_hash_only() -> None:
    stored = hash_password(GOOD)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert GOOD not in stored
    assert verify_password(stored, GOOD)
    assert not verify_password(stored, GOOD + " ")
    assert not needs_rehash(stored)


def test_two_people_with_one_password_have_different_hashes() -> None:
    assert hash_password(GOOD) != hash_password(GOOD)


def test_an_umlaut_is_the_same_however_the_keyboard_composes_it() -> None:
    assert verify_password(hash_password("über den Dächern"), "u\u0308ber den Da\u0308chern")


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$v=19$broken", "$2b$12$abcdefghijklmnopqrstuv"])
def test_what_is_no_hash_fits_nothing_and_wants_to_be_renewed(stored: str) -> None:
    assert not verify_password(stored, GOOD)
    assert needs_rehash(stored)


def test_a_hash_of_weaker_parameters_still_fits_and_wants_to_be_renewed() -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)
    assert verify_password(weak, GOOD)
    assert needs_rehash(weak)


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    stored = hash_password(GOOD)
    verify_password(None, GOOD)

    def quickest(value: str | None) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            assert not verify_password(value, "something else")
            times.append(time.perf_counter() - started)
        return min(times)

    # an answer without hashing would take microseconds; this is not a bench
    assert quickest(None) > quickest(stored) / 10


def test_no_password_opens_an_account_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = hash_password(GOOD)
    monkeypatch.setattr(passwords, "_nobody", lambda: stored)
    assert not verify_password(None, "")
    assert not verify_password(None, GOOD)


@pytest.mark.parametrize("password", ["x" * 257, "x" * 10_000_000, "\ud800" * 12, "tab\tand\x00nul inside"])
def test_what_could_never_be_a_password_is_refused_quickly(password: str) -> None:
    started = time.process_time()
    assert not verify_password("$argon2id$x", password)
    with pytest.raises(InvalidInput):
        check_password(password, user_name="ann")
    with pytest.raises(InvalidInput):
        hash_password(password)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "correct horse battery staple",
        "Zq7vLr2mXw9k",
        "привет весна на реке",
        "x ray lamps hum tonight",
        "鳥雲に入りて松見る渚かな",
        "übermorgen nie" + "!" * 100,
    ],
)
def test_a_good_password_is_taken_without_rules_about_signs(password: str) -> None:
    check_password(password, user_name="ann")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short one", "at least 12"),
        ("zu\u0308qa\u0308wo\u0308ru\u0308k", "at least 12"),
        ("é" * 300, "at most 256"),
        ("aaaaaaaaaaaaaa", "pattern"),
        ("abcabcabcabcabc", "pattern"),
        ("123456789012", "pattern"),
        ("qwertyuiopasdf", "pattern"),
        ("9876543210987", "pattern"),
        ("aaaabbbbcccc", "pattern"),
        ("ab!" + "1" * 200, "pattern"),
        ("Password2026!", "common"),
        ("P@ssw0rd1234", "common"),
        ("Summer202612", "common"),
        ("hilumhilum2026", "common"),
        ("!!Radiology!!", "common"),
        ("annabelle.meier", "user name"),
        ("Annabelle.Meier1", "user name"),
        ("annabelle.meierannabelle.meier", "user name"),
    ],
)
def test_a_bad_password_is_refused_with_its_reason(password: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        check_password(password, user_name="Annabelle.Meier")
    assert caught.value.field == "password"
    assert password not in caught.value.message


def test_a_setting_can_shorten_the_minimum_to_eight_and_no_further() -> None:
    check_password("mq7!zk2v", user_name="ann", minimum=8)
    with pytest.raises(InvalidInput, match="at least 8"):
        check_password("mq7!zk2", user_name="ann", minimum=1)


def test_a_one_time_password_is_readable_random_and_good_enough() -> None:
    made = {one_time_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        assert len(password) == 19
        assert not set(password) & set("01lIOoaeiu")
        check_password(password, user_name="admin")
    chosen = random.Random(1)
    assert one_time_password(chosen.choice) == one_time_password(random.Random(1).choice)


def test_four_mistakes_are_free() -> None:
    assert [locked_until(n, FAILED) for n in range(5)] == [None] * 5


def test_the_wait_doubles_up_to_a_quarter_of_an_hour_and_always_ends() -> None:
    waits = [(locked_until(n, FAILED) or FAILED) - FAILED for n in (5, 6, 7, 8, 9, 10, 11, 99)]
    assert [wait.total_seconds() for wait in waits] == [30, 60, 120, 240, 480, 900, 900, 900]
    assert locked_until(100, FAILED) == locked_until(10**9, FAILED) == FAILED + timedelta(days=1)


def test_only_so_many_hashes_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()

    class Hasher:
        def hash(self, _password: str) -> str:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)
            with lock:
                running -= 1
            return "hash"

    monkeypatch.setattr(passwords, "_HASHER", Hasher())
    threads = [threading.Thread(target=hash_password, args=(GOOD,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == passwords.CONCURRENT_HASHES


def test_who_waits_too_long_to_be_hashed_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "HASH_WAIT_SECONDS", 0.01)
    release, held = threading.Event(), threading.Barrier(passwords.CONCURRENT_HASHES + 1)

    class Hasher:
        def hash(self, _password: str) -> str:
            held.wait(30)
            release.wait(30)
            return "hash"

    monkeypatch.setattr(passwords, "_HASHER", Hasher())
    threads: list[Any] = [threading.Thread(target=hash_password, args=(GOOD,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    held.wait(30)
    with pytest.raises(Unavailable):
        hash_password(GOOD)
    release.set()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert hash_password(GOOD).startswith("$argon2id$"), "the places are free again"
