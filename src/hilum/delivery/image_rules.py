"""Which images of a study a route sends: the `only` of a route, CEL over each image.

`header` has every attribute of the image by its DICOM keyword: a text or a number (`header.KVP`), a list where DICOM
allows several values (`header.ImageType`), a list of headers for a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.delivery.conditions import Names, compile_over, is_true

FIELDS: Names = {
    "study": ("study_instance_uid", "match_state", "accession_number"),
    "series": ("series_instance_uid", "modality", "number", "description", "body_part", "station_name"),
    "instance": (
        "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "number", "rows", "columns", "frames", "bytes",
    ),
    "source": ("peer",),
    "patient": ("identifier", "authority", "sex", "birth_date"),
    "header": None,
}  # fmt: skip


def compile_only(condition: str, place: str = "`only` of a route") -> Any | None:
    """Compile a condition over images. Raises RouteError."""
    return compile_over(FIELDS, condition, place)


@dataclass(frozen=True, slots=True)
class Only:
    """The conditions of the routes that lead to one destination; an image goes there that meets one of them."""

    conditions: tuple[str, ...]
    compiled: tuple[Any, ...]

    @classmethod
    def of(cls, conditions: Sequence[str]) -> Only:
        """Compile conditions; an empty one lets every image through. Raises RouteError."""
        if not conditions or not all(conditions):
            return cls((), ())
        return cls(tuple(conditions), tuple(compile_only(each) for each in conditions))

    @property
    def everything(self) -> bool:
        """Whether every image meets it."""
        return not self.compiled

    @property
    def asks_for_headers(self) -> bool:
        """Whether a condition names attributes that are only in the header."""
        return any("header" in condition for condition in self.conditions)

    def holds(self, values: Mapping[str, Mapping[str, Any]], header: Callable[[], Mapping[str, Any]]) -> bool:
        """Tell whether an image goes; its header is asked for where it is needed. Raises ConditionFailed."""
        if self.everything:
            return True
        known = {**values, "header": header() if self.asks_for_headers else {}}
        return any(is_true(expression, known) for expression in self.compiled)
