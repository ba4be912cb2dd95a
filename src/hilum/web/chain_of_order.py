"""The chain of an order or of a study without one, from what was recorded of it, in the words of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from hilum.core import chain as core
from hilum.core.event import Event
from hilum.core.links import Link
from hilum.storage.pages import ReportDelivery
from hilum.web.models import Chain, ChainLink

# Short enough to stand beside one another.
SHORT_NAMES = {Link.PRIOR_CHECK: "Prior check", Link.RESULT: "Result to EHR"}
# What has not come, once something after it has.
MISSING = {
    Link.REGISTRATION: "No registration",
    Link.PRIOR_CHECK: "Priors not checked",
    Link.ORDER: "No order",
    Link.SCHEDULE: "Not scheduled",
    Link.WORKLIST: "Not shown to a modality",
    Link.EXAM: "No exam was reported",
    Link.IMAGES: "No images",
    Link.READING: "Images not opened here",
    Link.REPORT: "No report",
    Link.RESULT: "Not delivered",
}


def chain_from_events(events: Sequence[Event], deliveries: Sequence[ReportDelivery] = ()) -> Chain:
    """The ten links: a link without a proof is missing once a later one has come, and pending before."""
    links = core.chain_of(events)
    last = max((link.link for link in links if link.events), default=0)
    shown = [_link(link, last) for link in links]
    if any(delivery.state == "dead" for delivery in deliveries):
        shown[-1] = replace(shown[-1], state="missing", at=None, via="", missing="Receiver refused it")
    return Chain(tuple(shown))


def chain_without_order(arrived_at: datetime, peer: str) -> Chain:
    """The chain of images that no order is known for."""
    links = []
    for link in Link:
        name = SHORT_NAMES.get(link, link.title)
        if link is Link.IMAGES:
            links.append(ChainLink(int(link), name, "done", arrived_at, peer, "images arrived"))
        elif link is Link.ORDER:
            links.append(ChainLink(int(link), name, "missing", missing="No order is known"))
        else:
            links.append(ChainLink(int(link), name, "pending"))
    return Chain(tuple(links))


def _link(link: core.ChainLink, last: int) -> ChainLink:
    name = SHORT_NAMES.get(link.link, link.link.title)
    if not link.events:
        missing = link.link < last
        return ChainLink(
            int(link.link),
            name,
            "missing" if missing else "pending",
            missing=MISSING[link.link] if missing else "",
        )
    latest = link.events[-1]
    via = " · ".join(part for part in (latest.event.standard, latest.event.peer) if part)
    what = latest.what if len(link.events) == 1 else f"{latest.what}, {len(link.events)} events"
    return ChainLink(int(link.link), name, "done", link.at, via, what)
