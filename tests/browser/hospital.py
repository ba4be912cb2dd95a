"""A real Hilum on a real socket for the browser: accounts, patients, orders and a scanned chest."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.stores import HL7_PEER, MODALITY
from hilum.app import Application
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role, system_actor
from hilum.core.order import Code, Order, Physician, Priority
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.demo.phantoms import chest_ct
from hilum.security.passwords import hash_password
from hilum.workflow.accounts import AddUser, add_user
from hilum.workflow.ordering import OrderRequest, place_order
from hilum.workflow.registration import DemographicsSaid, RegisterPatient, register_patient
from hilum.workflow.source import Source

AUTHORITY = "GENHOSP"
LINDQVIST = Physician("D77", "Lindqvist", "Petra", AUTHORITY)
VANCE = Physician("D78", "Vance", "Miles", AUTHORITY)
CT_CHEST = Code("CTCHEST", "LN", "CT chest with contrast")
PASSWORD = "correct horse battery staple"
ONE_TIME = "one-time-7Q9X-2LMK"
SLICES = 12

# How the images of the first registered patient name her.
NADIA = {"PatientID": "40021873", "PatientName": "Holloway^Nadia Ruth", "PatientBirthDate": "19580702"}

# (account, role, display, identifier that messages know the person by)
STAFF = (
    ("okafor", Role.RADIOLOGIST, "Okafor, Ifeoma", "R1"),
    ("feng", Role.RADIOLOGIST, "Feng, Alan", "R2"),
    ("desk", Role.SCHEDULER, "Desk, Dana", "S1"),
    ("tech", Role.TECHNOLOGIST, "Tech, Toni", "T1"),
    ("auditor", Role.AUDITOR, "Auditor, Ada", "A1"),
    ("admin", Role.ADMIN, "Admin, Alex", "X1"),
    ("lindqvist", Role.REFERRING_PHYSICIAN, "Lindqvist, Petra", "D77"),
    ("vance", Role.REFERRING_PHYSICIAN, "Vance, Miles", "D78"),
)


@cache
def chest() -> np.ndarray:
    """A few slices of a chest in Hounsfield units, made once per test process."""
    return chest_ct(5, 7.0, slices=SLICES)


def person(name: str) -> Actor:
    """A member of staff as the pages know them."""
    account, role, display, identifier = next(each for each in STAFF if each[0] == name)
    return Actor(account, role, ActorKind.PERSON, Door.PAGE, (Identifier(identifier, AUTHORITY),), "", display)


@dataclass
class Hospital:
    """The running application and how its people and machines talk to it."""

    application: Application
    root: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def register(self, number: str, family: str, given: str, born: date, sex: str = "F") -> None:
        said = DemographicsSaid(PersonName(family, given), born, sex=sex)
        identifiers = (PatientIdentifier(number, AUTHORITY),)
        source = Source("HL7 ADT^A04", "EPIC|GENHOSP")
        self.application.store.run(register_patient, RegisterPatient(identifiers, said, None, source), HL7_PEER)

    def place(self, patient: str, **details: Any) -> Order:
        number = next(self.numbers)
        asked = OrderRequest(
            placer_order_number=f"PL{number}",
            placer_authority="EPIC",
            procedure=CT_CHEST,
            source=Source("HL7 ORM^O01", "EPIC|GENHOSP"),
            patient_identifiers=(PatientIdentifier(patient, AUTHORITY),),
            section="CT",
            reason="Nodule seen on a radiograph",
            ordering_physician=LINDQVIST,
            priority=Priority.ROUTINE,
        )
        return self.application.store.run(place_order, replace(asked, **details), HL7_PEER)

    def scan(self, order: Order | None, slices: int = SLICES, first: int = 0, **attributes: Any) -> str:
        """Send slices of the chest as a scanner would; return the Study Instance UID."""
        series = f"{attributes.get('StudyInstanceUID') or order.study_instance_uid}.1"
        said = {
            "SeriesInstanceUID": series,
            "SeriesDescription": "Chest 2.0 mm",
            "StationName": "CT01",
            "Rows": 512,
            "Columns": 512,
            "RescaleIntercept": -1024,
            "RescaleSlope": 1,
            "WindowCenter": 40,
            "WindowWidth": 400,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            **attributes,
        }
        if order is not None:
            said = {"StudyInstanceUID": order.study_instance_uid, "AccessionNumber": order.accession_number, **said}
        for index, pixels in enumerate(chest()[first : first + slices], first + 1):
            stored = (pixels.astype(np.int32) + 1024).astype("<u2").tobytes()
            image = ct_image(SOPInstanceUID=f"{series}.{index}", InstanceNumber=index, PixelData=stored, **said)
            self.application.ingest.store_file(
                part10_bytes(image), source=Source("DICOM C-STORE", "CT01"), actor=MODALITY, issuer=AUTHORITY
            )
        return str(said["StudyInstanceUID"])


def hire(application: Application) -> None:
    """Make the accounts: the first radiologist with a one-time password, all others with their own."""
    once, own = hash_password(ONE_TIME), hash_password(PASSWORD)
    for account, role, display, identifier in STAFF:
        first = account == "okafor"
        command = AddUser(
            account,
            role,
            once if first else own,
            (Identifier(identifier, AUTHORITY),),
            display,
            must_change_password=first,
        )
        application.store.run(add_user, command, system_actor("tests"))


@contextmanager
def open_hospital(home: Path) -> Iterator[Hospital]:
    """Run the HTTP role in this process until the block ends."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "hilum.toml").write_text('[facility]\nname = "Northfield General Hospital"\nzone = "America/Chicago"\n')
    application = Application(home, "http")
    application.prepare()
    hire(application)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application.http(), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield Hospital(application, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(30)
        application.close()
