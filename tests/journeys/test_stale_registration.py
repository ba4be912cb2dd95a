"""An ADT that is older than what is known changes nothing, whichever comes first."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fixtures.department import Department, Patient, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_an_older_update_changes_nothing(department: Department) -> None:
    (number,) = next_numbers(1)
    now = datetime.now()
    department.register(Patient(number, "Newname", "Nora"), "A08", now)
    department.register(Patient(number, "Oldname", "Nora"), "A04", now - timedelta(hours=1))
    (person,) = department.search("Patient", identifier=number)
    assert person["name"][0]["family"] == "Newname"
    department.register(Patient(number, "Newest", "Nora"), "A08", now + timedelta(seconds=30))
    (person,) = department.search("Patient", identifier=number)
    assert person["name"][0]["family"] == "Newest"
