"""kill -9 at random moments: what was acknowledged is there byte for byte, what is due arrives in order."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from io import BytesIO

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from fixtures.department import Department, Patient, Placed, accepted, eventually, fields, next_numbers

FULL = os.environ.get("HILUM_SOAK") == "full"
ROUNDS = 20 if FULL else 3
MESSAGES = 500
pytestmark = [pytest.mark.timeout(1800 if FULL else 400), pytest.mark.soak]


@dataclass
class Acknowledged:
    """What the outside world was told is safe."""

    images: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    messages: dict[str, bytes] = field(default_factory=dict)
    placers: list[str] = field(default_factory=list)
    reports: dict[str, list[str]] = field(default_factory=dict)


def test_nothing_acknowledged_is_lost(own_department: Department) -> None:
    own = own_department
    chance = random.Random(20261124)
    told = Acknowledged()
    own.start()
    patient = Patient(next_numbers(1)[0])
    own.register(patient)
    placed = own.place(patient)
    told.placers.append(placed.placer)
    for _ in range(ROUNDS):
        stop = threading.Event()
        workers = [
            threading.Thread(target=send_images, args=(own, placed, told, stop)),
            *(threading.Thread(target=send_messages, args=(own, told, stop)) for _ in range(2)),
        ]
        for worker in workers:
            worker.start()
        time.sleep(chance.uniform(0.8, 3.5 if FULL else 2.0))
        own.kill()
        stop.set()
        for worker in workers:
            worker.join(60)
        own.start()
        check(own, placed, told)
    assert len(told.images) >= 20, "too few images were acknowledged to mean anything"
    assert len(told.messages) >= 20, "too few messages were acknowledged to mean anything"
    check_deliveries(own, told)
    assert own.stop() == 0
    own.cli("audit", "verify")


def send_images(own: Department, placed: Placed, told: Acknowledged, stop: threading.Event) -> None:
    """C-STORE one after another until the server dies; remember what was acknowledged."""
    ae = AE("CT01")
    ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", own.dicom_port, ae_title="HILUM")
    if not association.is_established:
        return
    series = generate_uid()
    for number in range(1, MESSAGES + 1):
        if stop.is_set():
            break
        image = own.image(placed, number, series=series)
        try:
            status = association.send_c_store(image)
        except (RuntimeError, ConnectionError, OSError, ValueError):
            break
        if getattr(status, "Status", None) != 0:
            break
        told.images[image.SOPInstanceUID] = (series, digest(image), placed.study_uid)
    association.abort()


def send_messages(own: Department, told: Acknowledged, stop: threading.Event) -> None:
    """Orders and their reports until the server dies; remember what was accepted."""
    for _ in range(MESSAGES):
        if stop.is_set():
            return
        patient = Patient(next_numbers(1)[0])
        placer, control = f"PL{patient.number}", uuid.uuid4().hex[:18]
        message = own.order_message(patient, placer, message_control=control)
        try:
            answer = own.send(message)
        except (ConnectionError, OSError):
            return
        assert accepted(answer), answer
        told.messages[control] = message.encode()
        told.placers.append(placer)
        order = Placed(patient, placer, fields(answer, "ORC")[0][3].split("^")[0])
        for status in ("P", "F"):
            try:
                answer = own.dictate(order, status, f"{status} of {placer}")
            except (ConnectionError, OSError):
                return
            assert accepted(answer), answer
            told.reports.setdefault(order.accession, []).append(status)


def digest(image: Dataset) -> str:
    """The data set as bytes, without preamble and group 0002."""
    data = BytesIO()
    dcmwrite(data, Dataset(image), implicit_vr=False, little_endian=True, enforce_file_format=False)
    return hashlib.sha256(data.getvalue()).hexdigest()


def check(own: Department, placed: Placed, told: Acknowledged) -> None:
    """Every acknowledged image and message is there, byte for byte."""
    known = (
        {each["00080018"]["Value"][0] for each in own.qido(f"/studies/{placed.study_uid}/instances", limit="5000")}
        if told.images
        else set()
    )
    assert set(told.images) <= known
    sample = random.Random(len(told.images)).sample(sorted(told.images), min(15, len(told.images)))
    for uid in sample:
        series, expected, study = told.images[uid]
        answer = own.get(f"/dicom-web/studies/{study}/series/{series}/instances/{uid}")
        body = answer.content
        start = body.index(b"DICM") - 128
        end = body.rindex(b"\r\n--")
        stored = dcmread(BytesIO(body[start:end]))
        assert digest(stored) == expected
    for control in random.Random(len(told.messages)).sample(sorted(told.messages), min(10, len(told.messages))):
        assert own.raw_message(control) == told.messages[control]


def check_deliveries(own: Department, told: Acknowledged) -> None:
    """Everything that is due arrives, in order within its lane; doubles only of what was in flight."""

    def missing() -> list[str]:
        arrived = {orc[2].split("^")[0] for m in own.ehr.of_type("ORM") for orc in fields(m, "ORC")}
        return [placer for placer in told.placers if placer not in arrived]

    eventually(lambda: not missing(), "a status message of every accepted order", 60)

    def incomplete() -> list[str]:
        # A final that was applied but whose answer the kill swallowed may have superseded the preliminary.
        return [a for a, sent in told.reports.items() if not {sent[-1], "F"} & set(statuses(own, a))]

    eventually(lambda: not incomplete(), "the last version of every accepted report", 60)
    for accession in told.reports:
        assert statuses(own, accession) in (["P", "F"], ["F"], ["P"]), accession


def statuses(own: Department, accession: str) -> list[str]:
    """OBR-25 of an accession's results as they came, repeats of the same message taken together."""
    found: list[tuple[str, str]] = []
    for message in own.ehr.reports(accession):
        key = (fields(message, "MSH")[0][10], fields(message, "OBR")[0][25])
        if key not in found:
            found.append(key)
    return [status for _, status in found]
