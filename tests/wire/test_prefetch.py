"""Priors go to a workstation when an order is scheduled: those that bear on it, the best few, once for each order."""

from __future__ import annotations

from pathlib import Path

from dicom_door import CHEST, at, order
from dicom_wire import eventually
from forwarding_house import House, forwarding, to
from image_peers import destination, keep

from fixtures.dicom_files import ct_image
from fixtures.ports import free_ports
from hilum.core.order import Code
from hilum.workflow.scheduling import StepRequest

CT = "1.2.840.10008.5.1.4.1.1.2"
SETTINGS = "[priors]\nlook_back_years = 2\nprefetch_most = 2\n"


def prefetching(port: int, more: str = "") -> str:
    return SETTINGS + to(
        "reader", "dicom", f"dicom://WS1@127.0.0.1:{port}", on="StepScheduled", route=f'send = "priors"\n{more}'
    )


def prior(opened: House, number: int, date: str, *, procedure: Code = CHEST, **attributes: object) -> None:
    """An exam that was done, with an image."""
    placed = order(opened.hilum.store, f"OLD{number}", procedure=procedure)
    image = ct_image(
        StudyInstanceUID=placed.study_instance_uid,
        AccessionNumber=placed.accession_number,
        SOPInstanceUID=f"1.2.79.{number}",
        StudyDate=date,
        **attributes,
    )
    keep(opened.hilum, image)


def schedule(opened: House, number: str, **said: object) -> None:
    order(opened.hilum.store, number, steps=(StepRequest(start_at=at(2027, 1, 1), station_ae_title="CT01"),), **said)


def quiet(opened: House, count: int) -> bool:
    return eventually(lambda: [state for state, _ in opened.states()].count("delivered") == count)


def test_the_best_priors_that_are_not_too_old_arrive_when_an_order_is_scheduled(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with forwarding(tmp_path, prefetching(port)) as opened, destination([CT], port=port) as received:
        for number, date in enumerate(("20261001", "20260901", "20260801", "20100101"), 1):
            prior(opened, number, date)
        prior(opened, 5, "20261010", procedure=Code("MRKNEE", "L", "MR Knie"))
        assert eventually(lambda: {state for state, _ in opened.states()} == {"delivered"})
        before, seen = len(opened.states()), len(received.uids)
        schedule(opened, "NEW1")
        assert quiet(opened, before + 1)
        assert received.uids[seen:] == ["1.2.79.1", "1.2.79.2"], "the newest two of the same region"


def test_each_order_brings_its_priors_once_whatever_was_sent_for_others(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with forwarding(tmp_path, prefetching(port)) as opened, destination([CT], port=port) as received:
        prior(opened, 1, "20261001")
        before = len(opened.states())
        schedule(opened, "NEW1")
        assert quiet(opened, before + 1)
        schedule(opened, "NEW2")
        assert quiet(opened, before + 2)
    assert received.uids == ["1.2.79.1", "1.2.79.1"]


def test_another_patients_exams_and_filtered_images_stay(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    more = "only = \"series.description != 'Scout'\""
    with forwarding(tmp_path, prefetching(port, more)) as opened, destination([CT], port=port) as received:
        prior(opened, 1, "20261001", SeriesDescription="Scout")
        prior(opened, 2, "20261001", SeriesDescription="Lung")
        before = len(opened.states())
        schedule(opened, "OTHER", patient="P2", family="Roe", given="Richard")
        schedule(opened, "NEW1")
        assert eventually(lambda: len(opened.states()) > before and quiet(opened, len(opened.states())))
        assert eventually(lambda: bool(received.uids))
    assert received.uids == ["1.2.79.2"]
