"""`[[rule]]`: what becomes of images on their way in, and what is written into them on their way out."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hilum.settings.addresses import Name
from hilum.settings.sections import Section

Keyword = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")]
# What identifies an image is never changed on the way out.
UNTOUCHED = frozenset(
    {"SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet", "PixelData"}
)


class ImageRule(Section):
    """What becomes of images that meet a condition, as they come or as they are sent to destinations."""

    on: Literal["receive", "send"] = Field(description="Whether it is about images that come or that are sent.")
    condition: str = Field(
        default="",
        alias="if",
        max_length=4_096,
        description="CEL over study, series, instance, source, patient, header; empty: always.",
    )
    drop: bool = Field(
        default=False, description="On receive: the image is not stored; the sender hears of it, and it is audited."
    )
    answer: Literal["refuse", "success"] = Field(
        default="refuse",
        description="What the sender of a dropped image hears by C-STORE: 0124H, or success. STOW-RS always refuses.",
    )
    hold: bool = Field(
        default=False,
        description="On receive: the image is stored, and its series withheld until a person releases it.",
    )
    set: dict[Keyword, str] = Field(
        default={},
        description="On send: attributes by keyword and their text, where `{PatientID}` stands for what the image "
        "says; empty text empties the attribute.",
    )
    remove: tuple[Keyword, ...] = Field(default=(), description="On send: keywords of attributes to take out.")
    to: tuple[Name, ...] = Field(default=(), description="On send: the destinations it is about; empty: all.")

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        coerces = bool(self.set or self.remove)
        if self.on == "receive" and (coerces or self.to or self.drop == self.hold):
            raise ValueError('on = "receive" takes either drop or hold')
        if self.on == "send" and (self.drop or self.hold or not coerces):
            raise ValueError('on = "send" takes set or remove')
        named = sorted(UNTOUCHED & {*self.set, *self.remove})
        if named:
            raise ValueError(f"changes {named[0]}, which identifies the image or its encoding")
        return self
