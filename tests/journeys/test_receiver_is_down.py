"""A receiver that is down or refuses loses nothing: results arrive in order once it is back; others do not wait."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.department import Department, Patient, accepted, eventually, fields, next_numbers

NOTHING_TO_REPLAY = 1

pytestmark = pytest.mark.xdist_group("department")


def test_results_wait_for_a_refusing_receiver_and_arrive_in_order(department: Department, tmp_path: Path) -> None:
    numbers = next_numbers(2)
    patient, other = Patient(numbers[0]), Patient(numbers[1])
    for person in (patient, other):
        department.register(person)
    placed, unaffected = department.place(patient), department.place(other)
    eventually(lambda: department.ehr.statuses(placed.placer) == ["SC"], "the first status")
    department.ehr.answer = lambda message: "AE" if patient.number.encode() in message else "AA"
    try:
        department.perform(placed)
        assert accepted(department.dictate(placed, "F", "Held back."))
        department.perform(unaffected)
        assert accepted(department.dictate(unaffected, "F", "Not held back."))
        eventually(lambda: department.ehr.reports(unaffected.accession), "another patient's result does not wait")

        def blocked() -> list[dict[str, object]]:
            return [
                lane for lane in json.loads(department.cli("queue", "list", "--json")) if lane["state"] == "blocked"
            ]

        (lane,) = eventually(blocked, "the dead letter blocks its lane visibly", 30)
        assert lane["destination"] == "ehr"
    finally:
        department.ehr.answer = lambda message: "AA"
    department.ehr.received.clear()
    refused = department.cli("queue", "show", str(lane["head"]))
    mended = tmp_path / "mended.hl7"
    mended.write_text(refused + "NTE|1||Mended by hand\r", newline="")
    department.cli("queue", "resend", str(lane["head"]), str(mended))
    (result,) = eventually(lambda: department.ehr.reports(placed.accession), "the result after the replay")
    assert b"Held back." in result
    mine = [m for m in department.ehr.received if patient.number.encode() in m]
    assert [fields(m, "ORC")[0][5] for m in mine[:2]] == ["IP", "CM"]
    assert mine[-1] == result
    assert b"Mended by hand" in mine[0] and fields(mine[0], "MSH")[0][10] != fields(refused.encode(), "MSH")[0][10]
    assert department.cli("queue", "show", str(lane["head"])) == mine[0].decode()
    assert department.cli("queue", "show", str(lane["head"]), "--before", "1") == refused
    department.cli("queue", "replay", str(lane["head"]), code=NOTHING_TO_REPLAY)
