"""The architecture page says what is true: nine files tell one order's way, and each can be read in one sitting."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WAY = re.findall(r"^\| (\d) \| \[`([^`]+)`\]\(\.\./(src/hilum/[^)]+)\)", PAGE, re.MULTILINE)
LONGEST = 400


def test_nine_files_tell_one_orders_way_in_order() -> None:
    assert [int(number) for number, _, _ in WAY] == list(range(1, 10))
    for _, shown, path in WAY:
        assert path == f"src/hilum/{shown}"
        assert (ROOT / path).is_file(), path


def test_none_of_the_nine_is_longer_than_can_be_read_in_one_sitting() -> None:
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for _, _, path in WAY}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_every_room_of_the_house_is_named() -> None:
    rooms = {path.name for path in (ROOT / "src" / "hilum").iterdir() if (path / "__init__.py").is_file()}
    named = set(re.findall(r"`([a-z0-9]+)`", PAGE))
    assert rooms - named == set()
