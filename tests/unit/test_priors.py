"""The prior check finds what bears on a draft order, and is tied to the order that follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER
from fixtures.ward import CT_CHEST, EHR, Ward, image, on_images
from hilum.core.identifiers import new_uid
from hilum.core.order import Code, Order
from hilum.core.report import ReportStatus
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.workflow.priors import CheckPriors, PriorFindings, check_priors

CT_HEAD = Code("CTHEAD", "L", "CT Head")
XR_CHEST = Code("XRCHEST", "L", "XR Chest")


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def check(ward: Ward, number: str = "1", procedure: Code = CT_CHEST, **said: Any) -> PriorFindings:
    patient = ward.register(number)
    command = CheckPriors(patient.id, procedure, "", "", timedelta(days=3650), EHR)
    return ward.store.run(check_priors, replace(command, **said), HL7_PEER)


def examined(ward: Ward, number: str = "1", procedure: Code = CT_CHEST, days_ago: int = 0) -> Order:
    placed = ward.place(number, procedure=procedure)
    arrived = ward.image_of(placed, number)
    day = f"{datetime.now(UTC) - timedelta(days=days_ago):%Y%m%d}"
    ward.send(replace(arrived, study={**arrived.study, "study_date": day}))
    return placed


def orders(findings: PriorFindings) -> list[str]:
    return [prior.order.id for prior in findings.priors if prior.order]


def tied(ward: Ward) -> list[str | None]:
    check = tables.prior_check
    with ward.store.read() as db:
        return list(db.execute(sa.select(check.c.order_id).order_by(check.c.id)).scalars())


def test_priors_of_the_region_are_found_with_their_family_first_and_the_newest_first(ward: Ward) -> None:
    old_ct, new_ct = examined(ward, days_ago=400), examined(ward, days_ago=40)
    radiograph = examined(ward, procedure=XR_CHEST, days_ago=1)
    examined(ward, procedure=CT_HEAD)
    assert orders(check(ward)) == [new_ct.id, old_ct.id, radiograph.id]


def test_priors_older_than_the_window_are_left_out(ward: Ward) -> None:
    examined(ward, days_ago=400)
    recent = examined(ward, days_ago=40)
    assert orders(check(ward, look_back=timedelta(days=365))) == [recent.id]


def test_without_a_region_the_modality_family_decides(ward: Ward) -> None:
    ct, head = examined(ward), examined(ward, procedure=CT_HEAD)
    examined(ward, procedure=XR_CHEST)
    assert set(orders(check(ward, procedure=Code("CT", "L", "CT")))) == {ct.id, head.id}


def test_priors_under_merged_numbers_are_found(ward: Ward) -> None:
    prior = examined(ward, "OLD")
    ward.register("1")
    ward.merge("1", "OLD")
    assert orders(check(ward)) == [prior.id]


def test_the_other_patient_of_that_name_has_no_priors_of_this_one(ward: Ward) -> None:
    examined(ward, "1")
    found = check(ward, "2")
    assert (found.priors, found.duplicates) == ((), ())


def test_images_of_another_patient_or_withheld_are_no_prior(ward: Ward) -> None:
    placed = ward.place("1")
    ward.send(ward.image_of(placed, patient=on_images("2")))
    wrong = ward.place("1")
    uid = ward.start()
    ward.wrong_entry(uid)
    ward.send(ward.image_of(wrong, performed_uid=uid))
    ward.register("2")
    assert not check(ward, "1").priors
    assert not check(ward, "2").priors


def test_images_without_an_order_are_a_prior_by_their_description(ward: Ward) -> None:
    ward.register("1")
    ward.send(image(on_images("1"), new_uid()))
    [prior] = check(ward).priors
    assert (prior.order, prior.same_region) == (None, True)


def test_a_prior_brings_its_report(ward: Ward) -> None:
    placed = examined(ward)
    ward.relay(placed, ReportStatus.FINAL, "Nodule.")
    report = check(ward).priors[0].report
    assert report is not None
    assert report.current is not None
    assert report.current.findings == "Nodule."


def test_an_open_order_of_the_same_procedure_is_a_duplicate_until_it_ends(ward: Ward) -> None:
    placed = ward.place("1")
    assert [order.id for order in check(ward).duplicates] == [placed.id]
    assert not check(ward, procedure=CT_HEAD).duplicates
    assert not check(ward, placer_order_number=placed.placer_order_number).duplicates
    ward.cancel(placed)
    assert not check(ward).duplicates


def test_two_procedures_without_code_are_no_duplicates(ward: Ward) -> None:
    ward.place("1", procedure=Code("", "", "CT of the chest"))
    assert not check(ward, procedure=Code("", "", "MR of the brain")).duplicates


def test_a_check_is_tied_to_the_order_that_follows(ward: Ward) -> None:
    check(ward)
    check(ward, procedure=CT_HEAD)
    placed = ward.place("1")
    assert tied(ward) == [placed.id, None]


def test_a_check_that_names_the_order_is_tied_to_that_one_alone(ward: Ward) -> None:
    check(ward, placer_order_number="P2")
    ward.place("1", "P1")
    assert tied(ward) == [None]
    placed = ward.place("1", "P2")
    assert tied(ward) == [placed.id]


def test_a_check_of_someone_else_is_not_tied(ward: Ward) -> None:
    check(ward, "2")
    ward.place("1")
    assert tied(ward) == [None]


def test_a_check_that_is_not_to_be_kept_is_not(ward: Ward) -> None:
    check(ward, record=False)
    assert tied(ward) == []
