"""Modality and region are read from codes and words, by the tables alone."""

from __future__ import annotations

import pytest

from hilum.core.codes import (
    MODALITIES,
    MODALITY_FAMILIES,
    MODALITY_WORDS,
    SECTION_MODALITY,
    modality_of,
    region_of,
    same_family,
)
from hilum.core.order import Code, same_procedure


@pytest.mark.parametrize(
    ("section", "value", "meaning", "modality", "region"),
    [
        ("CT", "X", "anything", "CT", ""),
        ("ct ", "", "", "CT", ""),
        ("NMR", "", "", "MR", ""),
        ("RAD", "CTCHEST", "CT Chest w/o contrast", "CT", "chest"),
        ("", "XRHAND", "", "DX", "upper-limb"),
        ("", "71020", "X-ray chest, two views", "DX", "chest"),
        ("", "", "MRI of the brain", "MR", "head"),
        ("", "", "Sonography of the LIVER", "US", "abdomen"),
        ("", "", "Mammogram, screening", "MG", "breast"),
        ("", "MRBRAIN", "Schädel", "MR", "head"),
        ("", "", "Consultation", "OT", ""),
        ("", "", "Direct care", "OT", ""),
        ("", "", "", "OT", ""),
    ],
)
def test_a_procedure_tells_its_modality_and_region(
    section: str, value: str, meaning: str, modality: str, region: str
) -> None:
    procedure = Code(value, "L", meaning)
    assert (modality_of(section, procedure), region_of(procedure)) == (modality, region)


def test_tables_name_only_defined_modalities() -> None:
    named = {*SECTION_MODALITY.values(), *MODALITY_WORDS.values(), *frozenset().union(*MODALITY_FAMILIES)}
    assert named <= MODALITIES


def test_a_modality_is_of_one_family() -> None:
    assert sum(map(len, MODALITY_FAMILIES)) == len(frozenset().union(*MODALITY_FAMILIES))


@pytest.mark.parametrize(
    ("one", "other", "same"), [("CR", "DX", True), ("CT", "CT", True), ("CT", "MR", False), ("SM", "SM", True)]
)
def test_families_hold_what_is_read_side_by_side(one: str, other: str, same: bool) -> None:
    assert same_family(one, other) is same_family(other, one) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Code("A", "L", "x"), Code("A", "L", "y"), True),
        (Code("A", "L", "x"), Code("B", "L", "x"), False),
        (Code("A", "L", "CT Chest"), Code("", "", "ct  chest"), True),
        (Code("A", "L", "CT Chest"), Code("", "", "MR"), False),
        (Code("", "", "x"), Code("", "", "y"), False),
    ],
)
def test_procedures_are_told_apart_by_code_and_else_by_words(one: Code, other: Code, same: bool) -> None:
    assert same_procedure(one, other) is same_procedure(other, one) is same
