"""What the viewer says of an image's window and of the patient's directions, from headers as they come."""

from __future__ import annotations

from typing import Any

import pytest

from hilum.web.models import Edges, Window
from hilum.web.windows import edges_of, guessed_window, is_colour, is_negative, own_window, presets_for

WINDOW = {"00281050": {"vr": "DS", "Value": [40, -600]}, "00281051": {"vr": "DS", "Value": [400, 1500]}}


def element(**values: Any) -> dict[str, Any]:
    """A header with elements by tag (`_00280101=12`)."""
    return {
        tag[1:]: {"vr": "UN", "Value": value if isinstance(value, list) else [value]} for tag, value in values.items()
    }


def test_first_of_several_windows_is_the_images_own() -> None:
    assert own_window(WINDOW) == Window("", 40, 400)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {**WINDOW, **element(_00281056="SIGMOID")},
        {"00281050": {"vr": "DS", "Value": [40]}},
        {"00281050": {"vr": "DS", "Value": ["wide"]}, "00281051": {"vr": "DS", "Value": [0]}},
        {"00281050": {"vr": "DS"}, "00281051": "damaged"},
    ],
)
def test_window_that_the_server_would_not_use_is_not_claimed(header: dict[str, Any]) -> None:
    assert own_window(header) is None


def test_window_of_an_enhanced_image_holds_for_all_frames_or_is_not_claimed() -> None:
    def frame(center: float) -> dict[str, Any]:
        return element(_00289132=element(_00281050=center, _00281051=100.0))

    assert own_window(element(_52009229=frame(50))) == Window("", 50, 100)
    assert own_window(element(_52009230=[frame(50), frame(50)])) == Window("", 50, 100)
    assert own_window(element(_52009230=[frame(50), frame(60)])) is None


def test_guess_covers_the_values_that_the_image_has_or_can_have() -> None:
    assert guessed_window(element(_00280101=12, _00281052=-1024, _00281053=1)) == Window("", 1023.5, 4095)
    assert guessed_window(element(_00280101=12, _00280106=100, _00280107=300)) == Window("", 200, 200)
    assert guessed_window(element(_00280101=16, _00280103=1)) == Window("", -0.5, 65535)
    assert guessed_window({}) == Window("", 127.5, 255)


@pytest.mark.parametrize(
    ("header", "edges"),
    [
        (element(_00200037=[1, 0, 0, 0, 1, 0]), Edges("R", "L", "A", "P")),
        (element(_00200037=[0, 1, 0, 0, 0, -1]), Edges("A", "P", "H", "F")),
        (element(_00200037=[0.9, 0.436, 0, 0, 0, -1]), Edges("RA", "LP", "H", "F")),
        (element(_00200020=["L", "F"]), Edges("R", "L", "H", "F")),
        (element(_00200020=["L"]), None),
        (element(_00200020=["<b>", "F"]), None),
        ({}, None),
    ],
)
def test_directions_at_the_edges(header: dict[str, Any], edges: Edges | None) -> None:
    assert edges_of(header) == edges


def test_colour_and_negative_images_are_told_from_others() -> None:
    assert is_colour(element(_00280002=3))
    assert is_colour(element(_00280004="PALETTE COLOR"))
    assert not is_colour(element(_00280002=1, _00280004="MONOCHROME2"))
    assert is_negative(element(_00280004="MONOCHROME1"))


def test_ct_has_six_presets_and_others_vary_their_own_window() -> None:
    assert len(presets_for("CT", None)) == 6
    assert [preset.width for preset in presets_for("MR", Window("", 100, 200))] == [340, 120]
    assert presets_for("MR", None) == ()
