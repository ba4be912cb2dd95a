"""Which viewer opens images: Hilum's small one, or OHIF where it is installed beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hilum.settings.sections import Section

ViewerName = Literal["small", "ohif"]


class ViewerSettings(Section):
    """What opens when images are asked for by a link, and where OHIF is installed."""

    default: ViewerName = Field(
        default="small",
        description="What `/viewer/launch` opens: `small`, the page of the order, or `ohif`, where it is installed. "
        "A link may say `viewer=small` or `viewer=ohif` itself.",
    )
    ohif_folder: str = Field(
        default="",
        description="Where `scripts/ohif.sh` has put OHIF; empty for `share/hilum/ohif` in the Python environment.",
    )
