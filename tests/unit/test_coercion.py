"""Coercion of stored instances: what changes, what is kept of it, and that nothing else does."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset

from fixtures.dicom_files import PACKAGED, ct_image, dataset_bytes, packaged
from hilum.archive.coercion import Coerced, Coercion, Provenance, coerced
from hilum.archive.metadata import Metadata, read_metadata
from hilum.archive.part10 import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Part10, split
from hilum.core.errors import HilumError

AT = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
BY = Provenance(AT, "HILUM", "CORRECT", "CT01")
TAGS = {"00080050": ("SH", "A7"), "00100020": ("LO", "NEW 1"), "00100021": ("LO", "GENHOSP"), "00400275": None}


def made(dataset: bytes, syntax: str, coercion: Coercion) -> tuple[bytes, Coerced]:
    """The data set as it goes out."""
    result = coerced(lambda begin, size: dataset[begin : begin + size], len(dataset), syntax, coercion)
    return b"".join(each if isinstance(each, bytes) else dataset[slice(*each)] for each in result.pieces), result


def to(name: str, **more: tuple[str, str] | None) -> Coercion:
    """Another name, identifier and accession number, and no request any more."""
    values = {**TAGS, "00100010": ("PN", name), **more}
    return Coercion({int(key, 16): value for key, value in values.items()}, BY)


def valid_files() -> Iterator[tuple[str, bytes, Part10, Metadata]]:
    """Every file of pydicom that the archive takes."""
    for path in [*sorted(PACKAGED.rglob("*.dcm")), *map(Path, get_charset_files("*.dcm"))]:
        content = path.read_bytes()
        try:
            parts = split(content)
            yield path.name, content, parts, read_metadata(content[parts.dataset_offset :], parts.transfer_syntax_uid)
        except HilumError:
            continue


def plain(entry: Any) -> str:
    """An attribute without what depends on places and on the character set."""
    said = re.sub(r'"BulkDataURI": "[^"]*"', "", json.dumps(entry))
    return said.replace('"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}', "").replace(", }", "}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Smith^Anna", "Müller^Jörg", "山田^太郎"])
def test_in_every_syntax_and_character_set_only_what_is_asked_changes(name: str) -> None:
    seen = set()
    for file, content, parts, before in valid_files():
        dataset, syntax = content[parts.dataset_offset :], parts.transfer_syntax_uid
        changed, result = made(dataset, syntax, to(name))
        after = read_metadata(changed, syntax)
        assert len(changed) == result.length, file
        assert after.header.patient_name == name and after.header.patient_id == "NEW 1", file
        original = after.attributes["04000561"]["Value"][-1]["04000550"]["Value"][0]
        for key in ("00100010", *TAGS):
            assert original.get(key, {}).get("Value") == before.attributes.get(key, {}).get("Value"), (file, key)
        left = {"00080005", "04000561", "00100010", *TAGS}
        for key in (before.attributes.keys() | after.attributes.keys()) - left:
            assert plain(after.attributes.get(key)) == plain(before.attributes.get(key)), (file, key)
        pixels = [pydicom.dcmread(io.BytesIO(content[: parts.dataset_offset] + each), force=True).get("PixelData")
                  for each in (dataset, changed)]  # fmt: skip
        assert pixels[0] == pixels[1], file
        seen.add(syntax)
    assert len(seen) > 10


def test_original_values_are_kept_with_when_who_and_why() -> None:
    changed, _ = made(dataset_bytes(ct_image()), EXPLICIT_LITTLE, to("Roe^Ann"))
    (item,) = pydicom.dcmread(io.BytesIO(changed), force=True).OriginalAttributesSequence
    assert item.AttributeModificationDateTime == "20261125023000+0000"
    assert (item.ModifyingSystem, item.SourceOfPreviousValues) == ("HILUM", "CT01")
    assert item.ReasonForTheAttributeModification == "CORRECT"
    (before,) = item.ModifiedAttributesSequence
    assert (before.PatientName, before.PatientID, before.IssuerOfPatientID) == ("Doe^Jane", "P1", "")


def test_an_instance_that_was_changed_before_keeps_what_that_said() -> None:
    once, _ = made(dataset_bytes(ct_image(), implicit=True), IMPLICIT_LITTLE, to("Roe^Ann"))
    twice, _ = made(once, IMPLICIT_LITTLE, to("Ünal^Ann"))
    first, second = pydicom.dcmread(io.BytesIO(twice), force=True).OriginalAttributesSequence
    assert first.ModifiedAttributesSequence[0].PatientName == "Doe^Jane"
    assert second.ModifiedAttributesSequence[0].PatientName == "Roe^Ann"


def test_text_that_fits_stays_in_the_character_set_and_other_text_turns_all_to_utf8() -> None:
    image = ct_image(SpecificCharacterSet="ISO_IR 100", StudyDescription="Schädel", PatientName="Groß^Eva")
    item = Dataset()
    item.CodeMeaning = "Schädel"
    image.ProcedureCodeSequence = [item]
    stays, _ = made(dataset_bytes(image), EXPLICIT_LITTLE, to("Weiß^Eva"))
    assert "Weiß".encode("latin-1") in stays and "Schädel".encode("latin-1") in stays
    turned, _ = made(dataset_bytes(image), EXPLICIT_LITTLE, to("Łukasz^Eva"))
    read = pydicom.dcmread(io.BytesIO(turned), force=True)
    assert read.SpecificCharacterSet == "ISO_IR 192" and "Schädel".encode("latin-1") not in turned
    assert (read.PatientName, read.StudyDescription) == ("Łukasz^Eva", "Schädel")
    assert read.ProcedureCodeSequence[0].CodeMeaning == "Schädel"
    assert read.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName == "Groß^Eva"


def test_pixel_data_and_large_values_are_never_read() -> None:
    image = ct_image(PixelData=bytes(4 << 20), Rows=1448, Columns=1448)
    image.add_new(0x00420011, "OB", bytes(4 << 20))
    dataset = dataset_bytes(image)
    reads: list[int] = []

    def reader(begin: int, size: int) -> bytes:
        reads.append(size)
        return dataset[begin : begin + size]

    result = coerced(reader, len(dataset), EXPLICIT_LITTLE, to("Łukasz^Eva"))
    assert (
        sum(reads) < 2 << 20 and sum(each[1] - each[0] for each in result.pieces if isinstance(each, tuple)) > 8 << 20
    )


def test_any_stretch_of_the_result_can_be_asked_for() -> None:
    dataset = packaged("CT_small.dcm").read_bytes()
    offset = split(dataset).dataset_offset
    dataset = dataset[offset:]
    whole, result = made(dataset, EXPLICIT_LITTLE, to("Roe^Ann"))
    for begin, end in ((0, 10), (300, 700), (1000, result.length), (result.length - 1, result.length)):
        pieces = result.between(begin, end)
        assert b"".join(p if isinstance(p, bytes) else dataset[slice(*p)] for p in pieces) == whole[begin:end]


def test_lengths_of_groups_that_change_are_left_out_and_others_stay() -> None:
    def length(group: int) -> bytes:
        return group.to_bytes(2, "little") + b"\0\0UL\4\0\4\0\0\0"

    image = dataset_bytes(ct_image())
    rows = image.index(b"\x28\0\x02\0US")
    changed, _ = made(length(0x0008) + image[:rows] + length(0x0028) + image[rows:], EXPLICIT_LITTLE, to("Roe^Ann"))
    assert length(0x0008) not in changed and length(0x0028) in changed
