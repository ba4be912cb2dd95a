"""Identifiers made here sort by the time they were made, and UIDs are valid ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from hilum.core import identifiers
from hilum.core.identifiers import is_uid, new_id, new_uid


def test_identifiers_of_one_millisecond_keep_the_order_they_were_made_in() -> None:
    made = [new_id() for _ in range(5000)]
    assert made == sorted(set(made))
    assert {len(identifier) for identifier in made} == {26}


def test_a_clock_that_steps_back_makes_no_identifier_sort_before_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = new_id()
    monkeypatch.setattr(identifiers.time, "time_ns", lambda: 1_000_000_000)
    assert before < new_id() < new_id()


def test_threads_never_make_the_same_identifier() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [
            identifier for part in pool.map(lambda _: [new_id() for _ in range(500)], range(8)) for identifier in part
        ]
    assert len(set(made)) == len(made)


def test_uids_are_valid_and_fresh() -> None:
    uids = {new_uid() for _ in range(100)}
    assert len(uids) == 100
    assert all(is_uid(uid) and len(uid) <= 44 for uid in uids)
