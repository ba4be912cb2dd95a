"""The reading worklist: the page, and its rows alone for the open page that refreshes itself."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, NotFound
from hilum.security.audit import Read
from hilum.security.policy import Action, require, scope_for
from hilum.storage.pages import person_in_scope
from hilum.storage.reading_list import Key, Listing, Wanted, reading_counts, reading_page
from hilum.storage.reading_rows import ReadingRow, reading_rows
from hilum.web import urls
from hilum.web.models import StatusCount, WorklistFilter, WorklistPage
from hilum.web.pages import Pages, may, version_of
from hilum.web.people import patient_from_person
from hilum.web.worklist_rows import row_model

PAGE_ROWS = 50
MAXIMUM_TEXT = 64
# Far above the bands of the list, and within what a database takes for a number.
MAXIMUM_BAND = 1000
MODALITIES = ("CR", "CT", "DX", "MG", "MR", "NM", "OT", "PT", "RF", "US", "XA")
# The tabs for those who read, and for those who look after their own patients. The first is shown unasked.
READER_TABS = (
    (Listing.WAITING, "Waiting"),
    (Listing.PRELIMINARY, "Preliminary"),
    (Listing.UNVERIFIED, "Unverified"),
    (Listing.SCHEDULED, "Scheduled"),
    (Listing.REPORTED, "Reported"),
    (Listing.ALL, "All"),
)
PHYSICIAN_TABS = ((Listing.ALL, "All"), (Listing.REPORTED, "Reported"), (Listing.SCHEDULED, "Scheduled"))


@dataclass(frozen=True, slots=True)
class WorklistPages:
    """The handlers of the worklist."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        return [
            Route(urls.WORKLIST, self.show, methods=["GET"]),
            Route(urls.WORKLIST_ROWS, self.rows, methods=["GET"]),
        ]

    def show(self, request: Request) -> Response:
        """The whole page."""
        return self.pages.answer("worklist.html", self._page(request))

    def rows(self, request: Request) -> Response:
        """The list alone, when it changed since `seen`."""
        page = self._page(request)
        if request.query_params.get("seen") == page.version:
            return Response(status_code=204)
        return self.pages.answer("worklist_list.html", page)

    def _page(self, request: Request) -> WorklistPage:
        actor: Actor = request.state.actor
        action = Action.READ_WORKLIST if may(actor, Action.READ_WORKLIST) else Action.READ_ORDER
        require(actor, action)
        tabs = READER_TABS if action is Action.READ_WORKLIST else PHYSICIAN_TABS
        scope = scope_for(actor, action)
        filter = _filter(request)
        now = self.pages.store.clock()
        with self.pages.store.read() as connection:
            patient = person_in_scope(connection, filter.patient, scope) if filter.patient else None
            if filter.patient and patient is None:
                raise NotFound("There is no such patient, or you may not see them.")
            wanted = Wanted(_listing(filter.status, tabs), filter.text, filter.modality, filter.patient)
            direction, key = _key(filter.cursor)
            entries, more = reading_page(connection, scope, wanted, PAGE_ROWS, **{direction: key} if key else {})
            found = reading_rows(connection, entries)
            counts = reading_counts(connection, scope, wanted, [listing for listing, _ in tabs])
            frame = self.pages.frame(request, connection, "worklist")
            shown = patient_from_person(patient, connection, actor) if patient else None
        rows = tuple(row_model(row, now) for row in found)
        statuses = tuple(
            StatusCount(_key_of(listing, tabs), label, count)
            for (listing, label), count in zip(tabs, counts, strict=False)
        )
        current = next(count for (listing, _), count in zip(tabs, counts, strict=False) if listing is wanted.listing)
        forward = direction == "after"
        page = WorklistPage(
            frame=frame,
            filter=replace(filter, status=_key_of(wanted.listing, tabs)),
            statuses=statuses,
            modalities=tuple(sorted({*MODALITIES, *([filter.modality] if filter.modality else [])})),
            rows=rows,
            total=current,
            stat_total=counts[-1],
            refreshed_at=now,
            version="",
            next_cursor=_cursor("after", found, -1) if found and (more or not forward) else "",
            previous_cursor=_cursor("before", found, 0) if found and key and (forward or more) else "",
            patient=shown,
        )
        self.pages.read_log.record(actor, Read(action, filter.patient or None))
        return replace(page, version=version_of(page.filter, page.statuses, page.rows, page.next_cursor))


def _filter(request: Request) -> WorklistFilter:
    query = request.query_params
    return WorklistFilter(
        query.get("text", "").strip()[:MAXIMUM_TEXT],
        query.get("modality", "")[:16],
        query.get("status", "")[:16],
        query.get("cursor", "")[:200],
        query.get("patient", "")[:26],
    )


Tabs = tuple[tuple[Listing, str], ...]


def _listing(status: str, tabs: Tabs) -> Listing:
    """The listing of a tab; a tab that the role has not is the first one."""
    return next((listing for listing, _ in tabs if listing.value == status), tabs[0][0])


def _key_of(listing: Listing, tabs: Tabs) -> str:
    return "" if listing is tabs[0][0] else listing.value


def _cursor(direction: str, rows: list[ReadingRow], place: int) -> str:
    key = rows[place].entry.key
    packed = orjson.dumps([direction, key.band, key.at.isoformat() if key.at else None, key.id])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _key(cursor: str) -> tuple[str, Key | None]:
    """Read a cursor. Raises InvalidInput for one that was not made here."""
    if not cursor:
        return "after", None
    try:
        direction, band, at, row_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        key = Key(int(band), datetime.fromisoformat(at).astimezone(UTC) if at else None, str(row_id))
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise InvalidInput("There is no such page of the list.", field="cursor") from None
    if direction not in ("after", "before") or not 0 <= key.band < MAXIMUM_BAND or "\x00" in key.id:
        raise InvalidInput("There is no such page of the list.", field="cursor")
    return direction, key
