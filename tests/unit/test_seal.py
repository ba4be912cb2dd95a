"""The audit trail's arithmetic: whatever is done to rows or seals without the key is found, and found in its place."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from hilum.core.errors import Conflict, InvalidInput
from hilum.security.keys import AuditKey
from hilum.security.seal import SEALED_FIELDS, Leaf, Seal, make_seal, ready_to_seal, row_mac, row_signer, seal_mac
from hilum.security.seal_check import Finding, FindingKind, verify

KEY = AuditKey("k1", b"k" * 32)
KEYS = {KEY.key_id: KEY}
START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
Row = dict[str, Any]


def audit_row(writer: str, sequence: int, key: AuditKey = KEY) -> Row:
    row: Row = dict.fromkeys(SEALED_FIELDS)
    row |= {"writer": writer, "sequence": sequence, "at": START + timedelta(milliseconds=sequence), "actor": "ann"}
    row |= {"action": "read", "door": "fhir", "outcome": "allowed", "patient_id": f"p{sequence % 7}"}
    row["key_id"], row["mac"] = row_signer(key)(row)
    return row


def leaf(row: Row) -> Leaf:
    return Leaf(row["writer"], row["sequence"], row["mac"])


class Trail:
    """Writers a and b with 20 rows each, under four seals of five rows of each."""

    def __init__(self, key: AuditKey = KEY) -> None:
        self.rows = {(writer, n): audit_row(writer, n, key) for writer in "ab" for n in range(1, 21)}
        self.seals: list[Seal] = []
        for batch in range(4):
            rows = [self.rows[writer, n] for writer in "ba" for n in range(5 * batch + 1, 5 * batch + 6)]
            previous = self.seals[-1] if self.seals else None
            self.seals.append(make_seal(key, previous, map(leaf, rows), START + timedelta(seconds=batch)))
        self.latest = self.seals[-1]

    def findings(self, **options: Any) -> list[Finding]:
        rows = [self.rows[place] for place in sorted(self.rows)]
        bodies = [seal.as_dict() for seal in self.seals]
        options = {"now": START + timedelta(seconds=30), "latest": self.latest, "keys": KEYS} | options
        return verify(rows, bodies, **options)

    def found(self, **options: Any) -> list[tuple[FindingKind, str | None, int | None, int | None]]:
        return [(f.kind, f.writer, f.sequence, f.through) for f in self.findings(**options)]


@pytest.fixture
def trail() -> Trail:
    return Trail()


def test_an_untouched_trail_has_no_findings(trail: Trail) -> None:
    assert trail.findings() == []


@pytest.mark.parametrize("name", [name for name in SEALED_FIELDS if name not in ("writer", "sequence")])
def test_a_change_of_any_field_of_a_sealed_row_is_found_in_its_place(trail: Trail, name: str) -> None:
    trail.rows["a", 7][name] = START if name == "at" else "changed"
    assert trail.found() == [(FindingKind.CHANGED_ROW, "a", 7, 7)]
    assert trail.findings()[0].seal == 2


def test_a_field_that_is_emptied_is_found(trail: Trail) -> None:
    trail.rows["b", 20]["patient_id"] = None
    assert trail.found() == [(FindingKind.CHANGED_ROW, "b", 20, 20)]


def test_a_row_with_another_mac_is_forged(trail: Trail) -> None:
    trail.rows["a", 7]["mac"] = bytes(32)
    assert trail.found() == [(FindingKind.FORGED_ROW, "a", 7, 7)]


def test_a_row_appended_without_the_key_is_forged(trail: Trail) -> None:
    trail.rows["a", 21] = audit_row("a", 21, AuditKey("k1", b"x" * 32))
    assert trail.found() == [(FindingKind.FORGED_ROW, "a", 21, 21)]


def test_a_row_that_names_a_key_not_held_is_forged(trail: Trail) -> None:
    trail.rows["a", 21] = audit_row("a", 21, AuditKey("k9", b"x" * 32))
    assert trail.found() == [(FindingKind.FORGED_ROW, "a", 21, 21)]


@pytest.mark.parametrize("mac", [None, "text", 7])
def test_a_row_whose_mac_is_not_bytes_is_forged(trail: Trail, mac: object) -> None:
    trail.rows["a", 7]["mac"] = mac
    assert trail.found() == [(FindingKind.FORGED_ROW, "a", 7, 7)]


def test_a_writer_that_nobody_started_is_forged(trail: Trail) -> None:
    trail.rows["c", 1] = {**trail.rows["a", 1], "writer": "c"}
    assert trail.found() == [(FindingKind.FORGED_ROW, "c", 1, 1)]


def test_a_genuine_row_exchanged_for_another_genuine_one_breaks_its_seal(trail: Trail) -> None:
    changed = {**trail.rows["a", 7], "actor": "bob"}
    changed["mac"] = row_mac(KEY, changed)
    trail.rows["a", 7] = changed
    assert trail.found() == [(FindingKind.CHANGED_ROW, "a", 6, 10)]


def test_a_copy_of_a_row_under_the_same_number_is_found(trail: Trail) -> None:
    rows = [trail.rows[place] for place in sorted(trail.rows)]
    rows.insert(7, dict(rows[6]))
    findings = verify(rows, trail.seals, KEYS, now=START)
    assert [(f.kind, f.writer, f.sequence) for f in findings] == [(FindingKind.FORGED_ROW, "a", 7)]


def test_a_row_without_a_number_is_found(trail: Trail) -> None:
    findings = verify([{**audit_row("a", 1), "sequence": None}], [], KEYS, now=START)
    assert [f.kind for f in findings] == [FindingKind.FORGED_ROW]


@pytest.mark.parametrize(("left", "right"), [(("a", 7), ("a", 9)), (("a", 4), ("a", 17)), (("a", 3), ("b", 12))])
@pytest.mark.parametrize("with_mac", [True, False])
def test_two_rows_that_changed_places_are_told_from_changed_ones(
    trail: Trail, left: tuple[str, int], right: tuple[str, int], with_mac: bool
) -> None:
    names = [n for n in SEALED_FIELDS if n not in ("writer", "sequence")] + (["mac"] if with_mac else [])
    one, other = trail.rows[left], trail.rows[right]
    for name in names:
        one[name], other[name] = other[name], one[name]
    swapped = [(FindingKind.SWAPPED_ROW, writer, n, n) for writer, n in (left, right)]
    assert trail.found() == swapped
    assert f"row {right[1]} of writer {right[0]}" in trail.findings()[0].message


def test_deleted_rows_are_found_across_seals(trail: Trail) -> None:
    for n in (4, 5, 6, 7, 8, 9, 10, 11):
        del trail.rows["a", n]
    del trail.rows["b", 1]
    assert trail.found() == [(FindingKind.DELETED_ROW, "a", 4, 11), (FindingKind.DELETED_ROW, "b", 1, 1)]


def test_a_change_beside_a_deleted_row_is_still_found(trail: Trail) -> None:
    del trail.rows["a", 7]
    trail.rows["a", 8]["actor"] = "bob"
    assert set(trail.found()) == {(FindingKind.DELETED_ROW, "a", 7, 7), (FindingKind.FORGED_ROW, "a", 8, 8)}


def test_a_writer_whose_rows_are_all_gone_is_named(trail: Trail) -> None:
    for n in range(1, 21):
        del trail.rows["a", n]
    assert trail.found() == [(FindingKind.DELETED_ROW, "a", 1, 20)]


def test_a_gap_among_unsealed_rows_is_told_from_a_deletion(trail: Trail) -> None:
    trail.rows["a", 21], trail.rows["a", 24] = audit_row("a", 21), audit_row("a", 24)
    assert trail.found() == [(FindingKind.GAP, "a", 22, 23)]


def test_a_gap_that_was_sealed_past_stays_visible() -> None:
    rows = [audit_row("a", n) for n in (1, 2, 4, 5)]
    first = make_seal(KEY, None, map(leaf, rows[:2]), START)
    second = make_seal(KEY, first, map(leaf, rows[2:]), START)
    findings = verify(rows, [first, second], KEYS, now=START, latest=second)
    assert [(f.kind, f.sequence, f.through) for f in findings] == [(FindingKind.GAP, 3, 3)]


def test_rows_cut_off_at_the_end_are_found_from_the_seals(trail: Trail) -> None:
    for n in (19, 20):
        del trail.rows["b", n]
    assert trail.found() == [(FindingKind.CUT_TAIL, "b", 19, 20)]


def test_rows_and_seals_cut_off_together_are_found_from_the_seal_kept_outside(trail: Trail) -> None:
    del trail.seals[3]
    for writer in "ab":
        for n in range(16, 21):
            del trail.rows[writer, n]
    assert trail.findings(latest=None) == [], "without the outside copy this cannot be seen"
    assert trail.found() == [
        (FindingKind.CUT_TAIL, None, None, None),
        (FindingKind.CUT_TAIL, "a", 16, 20),
        (FindingKind.CUT_TAIL, "b", 16, 20),
    ]


def test_an_emptied_database_is_found_from_the_seal_kept_outside(trail: Trail) -> None:
    trail.rows.clear()
    trail.seals.clear()
    assert FindingKind.CUT_TAIL in [f.kind for f in trail.findings()]


def test_a_forged_outside_copy_is_found(trail: Trail) -> None:
    trail.latest = replace(trail.latest, count=11)
    assert [(f.kind, f.seal) for f in trail.findings()] == [(FindingKind.REWRITTEN_SEAL, 4)]


@pytest.mark.parametrize("change", ["at", "count", "ranges", "root", "previous", "mac", "key_id", "number"])
def test_a_seal_changed_in_any_part_is_named(trail: Trail, change: str) -> None:
    seal = trail.seals[1]
    ranges = {"a": seal.ranges["a"]}
    other = {"at": START, "count": 9, "ranges": ranges, "key_id": "k2", "number": 1}.get(change, bytes(32))
    trail.seals[1] = replace(seal, **{change: other})
    named = {(f.kind, f.seal) for f in trail.findings() if f.seal is not None and f.writer is None}
    assert (FindingKind.REWRITTEN_SEAL, 1 if change == "number" else 2) in named


def test_a_seal_made_anew_with_the_key_breaks_the_link_of_the_next(trail: Trail) -> None:
    leaves = [leaf(trail.rows[writer, n]) for writer in "ab" for n in range(6, 11)]
    trail.seals[1] = make_seal(KEY, trail.seals[0], leaves, START + timedelta(hours=1))
    findings = trail.findings()
    assert [(f.kind, f.seal) for f in findings] == [(FindingKind.REWRITTEN_SEAL, 3)]
    assert "does not follow" in findings[0].message


def test_a_seal_signed_with_a_wrong_count_contradicts_itself(trail: Trail) -> None:
    wrong = replace(trail.seals[3], count=9)
    trail.seals[3] = replace(wrong, mac=seal_mac(KEY, wrong))
    assert "contradicts itself" in trail.findings(latest=None)[0].message


def test_an_unreadable_seal_is_named_and_the_rest_still_checked(trail: Trail) -> None:
    trail.rows["b", 12]["actor"] = "bob"
    bodies = [seal.as_dict() for seal in trail.seals]
    bodies[0] = {"number": "one"}
    rows = [trail.rows[place] for place in sorted(trail.rows)]
    findings = verify(rows, bodies, KEYS, now=START)
    assert [(f.kind, f.seal) for f in findings] == [(FindingKind.REWRITTEN_SEAL, 1), (FindingKind.CHANGED_ROW, 3)]


def test_a_seal_taken_out_is_missing(trail: Trail) -> None:
    del trail.seals[1]
    assert [(f.kind, f.seal) for f in trail.findings()] == [(FindingKind.MISSING_SEAL, 2)]


def test_two_seals_in_each_others_place_are_found(trail: Trail) -> None:
    trail.seals[1], trail.seals[2] = trail.seals[2], trail.seals[1]
    assert {f.kind for f in trail.findings()} >= {FindingKind.MISSING_SEAL, FindingKind.REWRITTEN_SEAL}


def test_history_sealed_anew_with_the_key_differs_from_the_outside_copy(trail: Trail) -> None:
    outside = trail.latest
    anew = Trail()
    anew.rows["a", 7] = {**anew.rows["a", 7], "actor": "bob"}
    anew.rows["a", 7]["mac"] = row_mac(KEY, anew.rows["a", 7])
    anew.seals.clear()
    for batch in range(4):
        rows = [anew.rows[w, n] for w in "ab" for n in range(5 * batch + 1, 5 * batch + 6)]
        previous = anew.seals[-1] if anew.seals else None
        anew.seals.append(make_seal(KEY, previous, map(leaf, rows), START))
    assert anew.findings(latest=None) == []
    assert [(f.kind, f.seal) for f in anew.findings(latest=outside)] == [(FindingKind.REWRITTEN_SEAL, 4)]


def test_rows_sealed_twice_are_found(trail: Trail) -> None:
    twice = make_seal(KEY, trail.latest, [leaf(trail.rows["a", 20])], START)
    trail.seals.append(twice)
    assert [(f.kind, f.seal) for f in trail.findings()] == [(FindingKind.REWRITTEN_SEAL, 5)]


def test_unsealed_rows_are_a_finding_only_once_they_are_old(trail: Trail) -> None:
    trail.rows["a", 21], trail.rows["a", 22] = audit_row("a", 21), audit_row("a", 22)
    assert trail.findings(now=START + timedelta(seconds=59)) == []
    late = trail.found(now=START + timedelta(seconds=61))
    assert late == [(FindingKind.OLD_UNSEALED_TAIL, "a", 21, 22)]


def test_rows_of_a_retired_key_hold_while_it_is_kept(trail: Trail) -> None:
    new = AuditKey("k2", b"n" * 32)
    trail.rows["a", 21] = audit_row("a", 21, new)
    trail.seals.append(make_seal(new, trail.latest, [leaf(trail.rows["a", 21])], START))
    assert trail.findings(keys={"k1": KEY, "k2": new}) == []
    assert trail.findings(keys={"k2": new}) != []


def test_reading_stops_after_so_many_findings(trail: Trail) -> None:
    for row in trail.rows.values():
        row["actor"] = "bob"
    assert len(trail.findings(limit=10)) == 10


def test_any_single_tampering_is_found() -> None:
    randomness = random.Random(4)
    whole = Trail()
    for _ in range(300):
        trail = copy.copy(whole)
        trail.rows, trail.seals = {place: dict(row) for place, row in whole.rows.items()}, list(whole.seals)
        place = randomness.choice(list(trail.rows))
        act = randomness.choice(["delete", "change", "mac", "move", "seal"])
        if act == "delete":
            del trail.rows[place]
        elif act == "change":
            trail.rows[place][randomness.choice(["actor", "action", "door", "outcome", "patient_id"])] = "x"
        elif act == "mac":
            trail.rows[place]["mac"] = randomness.randbytes(32)
        elif act == "move":
            trail.rows[place[0], 21] = {**trail.rows.pop(place), "sequence": 21}
        else:
            del trail.seals[randomness.randrange(4)]
        assert trail.findings(), (act, place)


def test_ungrouped_rows_are_a_mistake_of_the_caller() -> None:
    rows = [audit_row("a", 1), audit_row("b", 1), audit_row("a", 2)]
    with pytest.raises(ValueError, match="grouped"):
        verify(rows, [], KEYS, now=START)


def test_a_mac_does_not_depend_on_order_zone_or_absent_columns() -> None:
    row = audit_row("a", 1)
    shuffled = {name: row[name] for name in reversed(list(row)) if row[name] is not None}
    shuffled["at"] = row["at"].astimezone(timezone(timedelta(hours=5)))
    assert row_mac(KEY, shuffled) == row["mac"]


def test_a_column_added_later_leaves_old_macs_valid() -> None:
    row = audit_row("a", 1)
    assert row_mac(KEY, {**row, "node": None}, (*SEALED_FIELDS, "node")) == row["mac"]
    assert row_mac(KEY, {**row, "node": "n1"}, (*SEALED_FIELDS, "node")) != row["mac"]


def test_text_moved_between_neighbouring_fields_gives_another_mac() -> None:
    row = audit_row("a", 1)
    moved = {**row, "actor": "an", "action": "nread"}
    assert row_mac(KEY, moved) != row_mac(KEY, {**row, "actor": "ann", "action": "read"})
    assert row_mac(KEY, {**row, "actor": "1"}) != row_mac(KEY, {**row, "actor": 1})


@pytest.mark.parametrize("value", [1.5, b"x", datetime(2026, 1, 1), {"x": [0.1]}, "\ud800", 2**70])
def test_a_value_without_a_stable_form_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        row_mac(KEY, {**audit_row("a", 1), "reason": value})


def test_a_row_without_its_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sequence"):
        row_mac(KEY, {**audit_row("a", 1), "sequence": None})


def test_a_batch_with_a_gap_or_without_rows_is_not_sealed() -> None:
    with pytest.raises(Conflict, match="leap to 3"):
        make_seal(KEY, None, [leaf(audit_row("a", 1)), leaf(audit_row("a", 3))], START)
    with pytest.raises(Conflict):
        make_seal(KEY, None, [], START)


def test_rows_behind_a_gap_wait() -> None:
    leaves = [leaf(audit_row(w, n)) for w, n in [("a", 4), ("a", 3), ("a", 6), ("b", 1), ("c", 2)]]
    ready, waiting = ready_to_seal(leaves, {"a": 2})
    assert [(x.writer, x.sequence) for x in ready] == [("a", 3), ("a", 4), ("b", 1)]
    assert [(x.writer, x.sequence) for x in waiting] == [("a", 6), ("c", 2)]


def test_a_seal_survives_its_json() -> None:
    seal = make_seal(KEY, None, [leaf(audit_row("a", 1))], START)
    assert Seal.from_json(seal.to_json()) == seal
    assert Seal.from_dict(seal.as_dict()) == seal


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"ranges": 1}', b"\xff", b"[" * 5000])
def test_what_is_not_a_seal_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        Seal.from_json(text)


def test_rows_are_verified_as_they_stream_by() -> None:
    writers, each, batch = 4, 5_000, 50
    seals: list[Seal] = []
    for first in range(1, each + 1, batch):
        rows = (audit_row(f"w{w}", n) for w in range(writers) for n in range(first, first + batch))
        seals.append(make_seal(KEY, seals[-1] if seals else None, map(leaf, rows), START))

    def stream() -> Iterator[Row]:
        for w in range(writers):
            for n in range(1, each + 1):
                row = audit_row(f"w{w}", n)
                if (w, n) == (2, 2_345):
                    row["actor"] = "bob"
                yield row

    started = time.perf_counter()
    making = sum(1 for _ in stream())
    made = time.perf_counter() - started
    started = time.perf_counter()
    findings = verify(stream(), seals, KEYS, now=START)
    taken = time.perf_counter() - started - made
    print(f"\n{making} rows, {len(seals)} seals verified in {taken:.2f} s")
    assert [(f.kind, f.writer, f.sequence) for f in findings] == [(FindingKind.CHANGED_ROW, "w2", 2_345)]
