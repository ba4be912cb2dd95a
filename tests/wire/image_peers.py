"""Peers of the retrieve tests: a C-STORE SCP that accepts what it is told to, and the images that are asked for."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pydicom
from dicom_door import SETTINGS, Department
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.ports import free_ports
from hilum.archive.part10 import file_prefix
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.workflow.source import Source

_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False

MODALITY = Actor("CT01", Role.SERVICE, ActorKind.PEER, Door.DIMSE)
STUDY_GET, PATIENT_GET = "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_MOVE, PATIENT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.1.2"
LITTLE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
# pydicom's own files, one for each way of writing an image.
SYNTAXES = {
    "JPEG 2000": "MR_small_jp2klossless.dcm",
    "RLE": "MR_small_RLE.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "colour by RLE": "SC_rgb_rle.dcm",
    "deflated": "image_dfl.dcm",
    "big endian": "MR_small_bigendian.dcm",
    "explicit": "CT_small.dcm",
    "implicit": "MR_small_implicit.dcm",
}
MPEG2 = "1.2.840.10008.1.2.4.100"


def every_syntax(study_instance_uid: str) -> dict[str, FileDataset]:
    """One study with an image in each of `SYNTAXES`, named 1 and on."""
    images = {}
    for number, (syntax, name) in enumerate(SYNTAXES.items(), 1):
        image = pydicom.dcmread(packaged(name))
        image.StudyInstanceUID, image.SeriesInstanceUID = study_instance_uid, f"{study_instance_uid}.1"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{study_instance_uid}.1.{number}"
        image.PatientID, image.PatientName = "P1", "Doe^Jane"
        images[syntax] = image
    return images


def unreadable(study_instance_uid: str) -> FileDataset:
    """A video, which nothing here decodes: it goes out as stored or not at all."""
    video = ct_image(
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID=f"{study_instance_uid}.9",
        SOPInstanceUID=f"{study_instance_uid}.9.1",
        PixelData=encapsulate([bytes(64)]),
    )
    video["PixelData"].is_undefined_length = True
    video.file_meta.TransferSyntaxUID = UID(MPEG2)
    return video


def keep(opened: Department, *images: FileDataset | bytes) -> None:
    """Put images into the archive as a modality's C-STORE would."""
    for image in images:
        content = image if isinstance(image, bytes) else part10_bytes(image)
        opened.door._ingest.store_file(content, source=Source("DICOM C-STORE", "CT01"), actor=MODALITY)


def read_dataset(content: bytes, transfer_syntax: str) -> FileDataset:
    """A data set as it came over an association."""
    return pydicom.dcmread(io.BytesIO(file_prefix("1.2", "1.2", transfer_syntax) + content))


def stored_bytes(content: bytes) -> bytes:
    """The data set of a Part 10 file, byte for byte."""
    file = io.BytesIO(content)
    pydicom.filereader.read_preamble(file, force=False)
    pydicom.filereader._read_file_meta_info(file)
    return file.read()


@dataclass
class Received:
    """What a destination got: (SOP Instance UID, transfer syntax, data set as it came)."""

    port: int = 0
    instances: list[tuple[str, str, bytes]] = field(default_factory=list)
    originators: list[tuple[str | None, int | None]] = field(default_factory=list)
    associations: int = 0

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _, _ in self.instances]


Answer = Callable[[int], int]


@contextlib.contextmanager
def destination(
    sop_classes: Sequence[str],
    syntaxes: Sequence[str] = LITTLE,
    answer: Answer = lambda number: 0,
    *,
    port: int = 0,
    abort_at: int = 0,
) -> Iterator[Received]:
    """A C-STORE SCP that accepts these; `answer` gives the status of the n-th image, from 1."""
    received = Received(port or free_ports(1)[0])

    def on_store(event: evt.Event) -> int:
        request = event.request
        received.instances.append(
            (str(request.AffectedSOPInstanceUID), str(event.context.transfer_syntax), request.DataSet.getvalue())
        )
        received.originators.append((request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID))
        if len(received.instances) == abort_at:
            event.assoc.abort()
        return answer(len(received.instances))

    def on_accepted(event: evt.Event) -> None:
        received.associations += 1

    acceptor = AE(ae_title="WS1")
    for sop_class in sop_classes:
        acceptor.add_supported_context(sop_class, list(syntaxes))
    handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_ACCEPTED, on_accepted)]
    server = acceptor.start_server(("127.0.0.1", received.port), block=False, evt_handlers=handlers)
    try:
        yield received
    finally:
        server.shutdown()


def with_peers(**addresses: int | None) -> str:
    """Settings in which these titles are peers, with an address on this machine where a port is given."""
    peers = ""
    for title, port in addresses.items():
        where = f'address = "127.0.0.1:{port}"\n' if port else ""
        peers += f'[[dicom.peer]]\nae_title = "{title}"\n{where}'
    return SETTINGS.replace("[facility]", peers + "[facility]")


def asked(level: str = "STUDY", **values: object) -> Dataset:
    """An Identifier."""
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(keys, keyword, value)
    return keys


def counts(status: Dataset) -> tuple[int | None, ...]:
    """Completed, failed, warning and remaining of a response."""
    return tuple(status.get(f"NumberOf{name}Suboperations") for name in ("Completed", "Failed", "Warning", "Remaining"))
