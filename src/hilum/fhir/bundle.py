"""Bundle: the answer to a search, with what was asked to come along and links to the pages."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from hilum.fhir.elements import Resource
from hilum.fhir.errors import issue_of, operation_outcome
from hilum.fhir.search import PAGE, Search, cursor_text
from hilum.storage.fhir_queries import After


def searchset(
    root: str,
    kind: str,
    search: Search,
    *,
    matches: Sequence[Resource],
    included: Sequence[Resource],
    total: int | None,
    more: After | None,
) -> Resource:
    """Return the Bundle of one page; `root` is the absolute address of the FHIR door."""
    here = [*search.used, *([(PAGE, cursor_text(search.after))] if search.after else [])]
    links = [{"relation": "self", "url": _address(root, kind, here)}]
    if more is not None:
        links.append({"relation": "next", "url": _address(root, kind, [*search.used, (PAGE, cursor_text(more))])})
    entries = [_entry(root, resource, "match") for resource in matches]
    entries += [_entry(root, resource, "include") for resource in included]
    if search.warnings:
        outcome = operation_outcome(*(issue_of(warning, "warning") for warning in search.warnings))
        entries.append({"resource": outcome, "search": {"mode": "outcome"}})
    bundle: Resource = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        bundle["total"] = total
    bundle["link"] = links
    if entries:
        bundle["entry"] = entries
    return bundle


def _address(root: str, kind: str, parameters: list[tuple[str, str]]) -> str:
    return f"{root}/{kind}?{urlencode(parameters)}" if parameters else f"{root}/{kind}"


def _entry(root: str, resource: Resource, mode: str) -> Resource:
    address = f"{root}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": address, "resource": resource, "search": {"mode": mode}}
