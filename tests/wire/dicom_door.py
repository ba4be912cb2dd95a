"""A whole DICOM door over a fresh home, and what stands behind it, for tests that come in by sockets."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pydicom
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE

from fixtures.stores import HL7_PEER, open_store, sign
from hilum.archive.blobs import BlobStore
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.core.order import Code, Order, Physician, Priority
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.dicom.door import DicomDoor
from hilum.dicom.image_rules import ReceiveRules
from hilum.security.live_tls import door_context
from hilum.settings import Configuration
from hilum.storage.database import open_engine
from hilum.storage.store import Store
from hilum.workflow.ordering import OrderRequest, place_order
from hilum.workflow.registration import DemographicsSaid
from hilum.workflow.scheduling import StepRequest
from hilum.workflow.source import Source

SETTINGS = """
[dicom]
bind = "127.0.0.1:0"
accept_unknown = "loopback"
[facility]
default_authority = "GENHOSP"
zone = "Europe/Berlin"
"""
CHEST = Code("CTCHEST", "L", "CT Thorax")


@dataclass
class Department:
    """A door that is open, its database and its archive."""

    door: DicomDoor
    store: Store
    blobs: BlobStore
    home: Path

    @property
    def port(self) -> int:
        return self.door.port

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Any]:
        with self.store.read() as db:
            return list(db.execute(sa.select(table).where(*where)))


def _opened(folder: Path) -> Store:
    """The database of a home, new or as it was left."""
    if not (folder / "hilum.db").exists():
        return open_store("sqlite", folder)
    return Store(open_engine("sqlite", folder / "hilum.db"), sign, lock_path=str(folder / "hilum.lock"))


@contextlib.contextmanager
def department(folder: Path, settings: str = SETTINGS) -> Iterator[Department]:
    (folder / "hilum.toml").write_text(settings, encoding="utf-8")
    store = _opened(folder)
    blobs = FileBlobs(folder / "archive")
    landing = open_landing(blobs, "tester")
    configuration = Configuration(folder)
    ingest = Ingest(store, blobs, landing, admission=ReceiveRules(store, configuration))
    door = DicomDoor(store, configuration, ingest, ssl=door_context(configuration, "dicom"))
    door.start()
    try:
        yield Department(door, store, blobs, folder)
    finally:
        door.drain(1.0)
        landing.close()
        store.close()


def order(
    store: Store,
    number: str,
    *,
    patient: str = "P1",
    family: str = "Doe",
    given: str = "Jane",
    born: date | None = date(1980, 1, 2),
    steps: Sequence[StepRequest] = (),
    procedure: Code = CHEST,
    authority: str = "GENHOSP",
    **fields: Any,
) -> Order:
    """Place an order as the EHR does."""
    defaults: dict[str, Any] = {
        "priority": Priority.ROUTINE,
        "section": "CT",
        "ordering_physician": Physician("D1", "House", "Gregory", "GENHOSP"),
    }
    request = OrderRequest(
        placer_order_number=number,
        placer_authority="EPIC",
        procedure=procedure,
        source=Source("HL7 ORM^O01", "EPIC|GENHOSP"),
        patient_identifiers=(PatientIdentifier(patient, authority),),
        demographics=DemographicsSaid(PersonName(family, given), born, sex="F"),
        steps=tuple(steps),
        **(defaults | fields),
    )
    return store.run(place_order, request, HL7_PEER)


def at(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)  # type: ignore[misc, arg-type]


Completed = subprocess.CompletedProcess[str]


def dcmtk(tool: str, port: int, *arguments: str, ae: str = "CT01", called: str = "HILUM") -> Completed:
    """Run one of DCMTK's tools against the door."""
    command = [f"/usr/bin/{tool}", "-aet", ae, "-aec", called, "127.0.0.1", str(port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")


def found_by_findscu(port: int, folder: Path, *arguments: str, ae: str = "CT01") -> list[Dataset]:
    """Query with DCMTK's findscu and read the answers it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("rsp*.dcm"):
        old.unlink()
    command = ["/usr/bin/findscu", "-X", "-od", str(folder), "-aet", ae, "-aec", "HILUM", "127.0.0.1", str(port)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, errors="replace")
    assert done.returncode == 0, done.stderr
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def find(port: int, sop_class: str, keys: Dataset, ae: str = "CT01") -> tuple[list[Dataset], Dataset, list[int]]:
    """Query with pynetdicom: the matches, the final status and the pending ones."""
    requestor = AE(ae_title=ae)
    requestor.add_requested_context(sop_class)
    association = requestor.associate("127.0.0.1", port, ae_title="HILUM")
    assert association.is_established
    matches, pending, final = [], [], Dataset()
    for status, identifier in association.send_c_find(keys, sop_class):
        if status.Status in (0xFF00, 0xFF01):
            matches.append(identifier)
            pending.append(status.Status)
        else:
            final = status
    association.release()
    return matches, final, pending
