"""Every role restarted between every two links: the chain completes all the same."""

from __future__ import annotations

import pytest

from fixtures.department import Department, Patient, accepted, eventually, next_numbers

pytestmark = [pytest.mark.timeout(300)]


def test_the_chain_survives_a_restart_between_any_two_links(own_department: Department) -> None:
    own = own_department

    def restart() -> None:
        if own.process is not None:
            assert own.stop() == 0
        own.start()

    restart()
    patient = Patient(next_numbers(1)[0])
    department_steps = own
    department_steps.register(patient)
    restart()
    placed = own.place(patient)
    restart()
    item = own.worklist_item(placed.accession)
    restart()
    status, uid = own.start_exam(item)
    assert status == 0
    restart()
    own.store(own.image(placed), own.image(placed, 2))
    restart()
    assert own.end_exam(uid) == 0
    restart()
    assert accepted(own.dictate(placed, "P", "First look."))
    restart()
    assert accepted(own.dictate(placed, "F", "Final look."))
    restart()
    eventually(lambda: any(b"Final look." in m for m in own.ehr.reports(placed.accession)), "the final result")
    assert own.ehr.statuses(placed.placer) == ["SC", "IP", "CM"]
    links = eventually(lambda: (found := own.trace(placed.accession)) and found[10]["at"] and found, "the last link")
    assert [number for number, link in links.items() if link["at"] is None] == [2, 8]
    assert own.stop() == 0
    assert "no findings" in own.cli("audit", "verify").lower() or own.cli("audit", "verify")
