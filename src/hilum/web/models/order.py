"""One order: what was asked, its report with versions, its priors, and the draft being written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hilum.web import urls
from hilum.web.models.chain import Chain
from hilum.web.models.frame import Frame, Identity, Patient, Priority, ReportState
from hilum.web.models.images import ViewerModel

EditKind = Literal["report", "addendum", "correction"]


@dataclass(frozen=True, slots=True)
class OrderHead:
    """What was asked for. A study without an order has `order_id` empty and only what its images say."""

    order_id: str
    procedure: str
    modality: str
    priority: Priority
    status: str
    accession_number: str
    study_instance_uid: str
    placer_order_number: str = ""
    filler_order_number: str = ""
    ordered_by: str = ""
    reason: str = ""
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Section:
    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a version went. Accepted is the receiver's word; seen is a person's."""

    destination: str
    state: Literal["waiting", "accepted", "refused", "seen"]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReportVersion:
    number: int
    state: ReportState
    author: str
    signed_at: datetime
    sections: tuple[Section, ...]
    reason: str = ""
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportPanel:
    """The report beside the images, newest version first. `draft_by` names who is writing now.

    `readable` tells whether this role may read reports at all: without it the versions are left out.
    """

    report_id: str
    state: ReportState
    versions: tuple[ReportVersion, ...] = ()
    draft_by: str = ""
    draft_kind: EditKind | None = None
    draft_at: datetime | None = None
    may_write: bool = False
    may_continue: bool = False
    may_addend: bool = False
    may_correct: bool = False
    may_retract: bool = False
    readable: bool = True
    version: str = ""


@dataclass(frozen=True, slots=True)
class Prior:
    study_instance_uid: str
    performed_at: datetime
    modality: str
    description: str
    relevance: Literal["relevant", "other"]
    report_state: ReportState
    images: int
    href: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class OrderPage:
    """One order with everything known of it; `href` is the page's own path, on which `beside` is a parameter."""

    frame: Frame
    href: str
    patient: Patient
    identity: Identity
    order: OrderHead
    chain: Chain
    viewer: ViewerModel | None
    report: ReportPanel
    priors: tuple[Prior, ...] = ()
    beside: ViewerModel | None = None
    exception_href: str = ""
    may_see_images: bool = True
    # Why this person may reject images, with the words for it; empty for those who may not.
    reject_codes: tuple[tuple[str, str], ...] = ()
    move_href: str = ""
    records_href: str = ""

    @property
    def image_count(self) -> int:
        return self.viewer.instance_count if self.viewer else 0

    @property
    def own_href(self) -> str:
        return self.href


@dataclass(frozen=True, slots=True)
class ChainUpdate:
    """What an open order page asks for every few seconds; `chain.version` covers all of it but the clock."""

    href: str
    patient: Patient
    identity: Identity
    order: OrderHead
    chain: Chain
    image_count: int
    exception_href: str = ""


@dataclass(frozen=True, slots=True)
class ReportUpdate:
    """The report panel alone, for an open order page; the frame brings the token of its forms."""

    frame: Frame
    href: str
    report: ReportPanel


@dataclass(frozen=True, slots=True)
class Draft:
    """The text being written; `revision` is what the next save must name, or it is refused as stale."""

    report_id: str
    kind: EditKind
    revision: int
    sections: tuple[Section, ...]
    saved_at: datetime | None
    reason: str = ""
    base: ReportVersion | None = None
    maximum_characters: int = 60_000


@dataclass(frozen=True, slots=True)
class EditorPage:
    """The order's page with its report open for writing; `href` stays the order page's, `beside` is on `own_href`."""

    frame: Frame
    href: str
    patient: Patient
    identity: Identity
    order: OrderHead
    chain: Chain
    viewer: ViewerModel | None
    draft: Draft
    priors: tuple[Prior, ...] = ()
    beside: ViewerModel | None = None
    may_sign: bool = True
    may_sign_preliminary: bool = True
    signer: str = ""
    exception_href: str = ""
    may_see_images: bool = True

    @property
    def image_count(self) -> int:
        return self.viewer.instance_count if self.viewer else 0

    @property
    def own_href(self) -> str:
        return urls.edit_report(self.draft.report_id)


@dataclass(frozen=True, slots=True)
class Saved:
    """The answer to a save that was taken."""

    revision: int
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class DraftConflict:
    """The answer to a stale save (409): the text on the server and the text that was sent, side by side."""

    revision: int
    theirs: tuple[Section, ...]
    mine: tuple[Section, ...]
    by: str
    at: datetime
