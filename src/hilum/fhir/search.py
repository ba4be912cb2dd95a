"""Reading a FHIR search: parameters become typed criteria, and what is not understood is refused by its name.

An unknown parameter is an error unless `Prefer: handling=lenient` is said; then it is left out, and an
OperationOutcome in the answer says so. A filter is never silently dropped: the list would show more than was asked.
Source: http://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import orjson

from hilum.core.errors import HilumError, InvalidInput, TooLarge
from hilum.fhir import systems
from hilum.fhir.endpoint import ENDPOINTS
from hilum.fhir.errors import UnknownParameter
from hilum.fhir.search_parameters import Parameter, Searchable
from hilum.storage.fhir_criteria import Acts, Constant, Criterion, Kind, OneOf, Row, Span, Token, Value, Words
from hilum.storage.fhir_queries import After, Sorting

DEFAULT_COUNT, MAX_COUNT = 20, 200
MAX_PARAMETERS, MAX_VALUES, MAX_LENGTH = 40, 50, 1000
PAGE = "_page"
_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.DOTALL)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,6})?\d*)?(Z|[+ -]\d\d:\d\d)?)?)?)?"
)
_OR = re.compile(r"(?<!\\),")
_PIPE = re.compile(r"(?<!\\)\|")
ID = re.compile(r"[A-Za-z0-9.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Search:
    """A search as it was understood; `used` are the parameters that the `self` link repeats."""

    criteria: tuple[Criterion, ...]
    used: tuple[tuple[str, str], ...]
    warnings: tuple[HilumError, ...]
    sorting: Sorting
    count: int
    after: After | None
    count_only: bool
    total: bool
    includes: frozenset[str]
    revincludes: frozenset[str]


def read_search(
    searchable: Searchable, parameters: Sequence[tuple[str, str]], zone: tzinfo, *, lenient: bool = False
) -> Search:
    """Read the parameters of a search; times without a zone are the facility's.

    Raises `UnknownParameter` or `InvalidInput`, which name the parameter.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise TooLarge(f"A search has at most {MAX_PARAMETERS} parameters.")
    controls: dict[str, list[str]] = {}
    criteria, used, warnings = [], [], []
    for name, value in parameters:
        try:
            if name in _CONTROLS:
                controls.setdefault(name, []).append(value)
            else:
                criteria.append(_criterion(searchable, name, value, zone))
        except UnknownParameter as error:
            if not lenient:
                raise
            warnings.append(error)
            continue
        if name not in _UNREPEATED:
            used.append((name, value))
    sorting = _sorting(searchable, _one(controls, "_sort"))
    count = _count(_one(controls, "_count"))
    summary = _choice(controls, "_summary", ("false", "count"))
    return Search(
        criteria=tuple(criteria) + _default_criteria(searchable, criteria),
        used=tuple(used),
        warnings=tuple(warnings),
        sorting=sorting,
        count=count,
        after=_cursor(_one(controls, PAGE), sorting, _MOMENTS_OF.get(searchable.kind, _MOMENTS)),
        count_only=summary == "count" or count == 0,
        total=_choice(controls, "_total", ("none", "estimate", "accurate")) in ("estimate", "accurate"),
        includes=_includes(searchable, controls.get("_include", [])),
        revincludes=_revincludes(searchable, controls.get("_revinclude", [])),
    )


def find_endpoints(parameters: Sequence[tuple[str, str]], *, lenient: bool) -> tuple[Search, list[str]]:
    """Read a search for endpoints, of which there are a few and no rows, and return the ids that match."""
    ids = list(ENDPOINTS)
    used, warnings = [], []
    for name, value in parameters:
        if name in _CONTROLS:
            continue
        tokens = {part.rpartition("|")[2] for part in _OR.split(value[:MAX_LENGTH])}
        if name == "_id":
            ids = [row_id for row_id in ids if row_id in tokens]
        elif name == "connection-type":
            ids = [row_id for row_id in ids if ENDPOINTS[row_id][0] in tokens]
        elif name == "status":
            ids = ids if "active" in tokens else []
        else:
            warnings.append(UnknownParameter("Endpoint has no such search parameter here.", field=name[:64]))
            if not lenient:
                raise warnings[-1]
            continue
        used.append((name, value))
    nothing = frozenset[str]()
    search = Search(
        (), tuple(used), tuple(warnings), Sorting(), MAX_COUNT, None, count_only=False, total=True,
        includes=nothing, revincludes=nothing,
    )  # fmt: skip
    return search, ids


def cursor_text(after: After) -> str:
    """Return the opaque text of a place in a list."""
    key = after.key.isoformat() if isinstance(after.key, datetime) else after.key
    return urlsafe_b64encode(orjson.dumps([after.id, key, isinstance(after.key, datetime)])).decode().rstrip("=")


_CONTROLS = frozenset({"_count", "_sort", "_total", "_summary", "_include", "_revinclude", "_format", "_pretty", PAGE})
_UNREPEATED = frozenset({PAGE, "_format", "_pretty"})
# The keys of `SORT_KEYS` that are moments; the others are text.
_MOMENTS = frozenset({"_lastUpdated", "authored", "issued"})
_MOMENTS_OF = {Kind.AUDIT: frozenset({"date"})}


def _default_criteria(searchable: Searchable, criteria: list[Criterion]) -> tuple[Criterion, ...]:
    """Whoever looks for a person wants the one who stands, not the records merged into it."""
    asked = {criterion.name for criterion in criteria}
    if "active" in searchable.by_name and not asked & {"active", "_id"}:
        return (Criterion("active", (Constant(True),)),)
    return ()


def _criterion(searchable: Searchable, name: str, value: str, zone: tzinfo) -> Criterion:
    if len(value) > MAX_LENGTH:
        raise TooLarge(f"A value is longer than {MAX_LENGTH} characters.", field=name[:64])
    if "\x00" in value:
        raise InvalidInput("A value holds a character that no text has.", field=name[:64])
    bare, modifier = _without_modifier(name)
    parameter = searchable.by_name.get(bare)
    if parameter is None:
        raise UnknownParameter(f"{searchable.kind.value} has no such search parameter here.", field=name[:64])
    parts = _OR.split(value)
    if len(parts) > MAX_VALUES:
        raise TooLarge(f"A parameter has at most {MAX_VALUES} values.", field=bare)
    values: list[Value] = []
    for part in parts:
        if not part.strip():
            raise InvalidInput("A search parameter has no value.", field=bare)
        values += _values(parameter, modifier, part.strip(), zone)
    return Criterion(parameter.condition, tuple(values))


def _without_modifier(name: str) -> tuple[str, str]:
    """Take `family:exact` and `patient:Patient.identifier` apart; the second is `patient.identifier`."""
    before, colon, after = name.partition(":")
    modifier, dot, chained = after.partition(".")
    return (f"{before}.{chained}" if dot else before), (modifier if colon else "")


def _values(parameter: Parameter, modifier: str, part: str, zone: tzinfo) -> list[Value]:
    chained = "." in parameter.name
    allowed = {"string": ("exact", "contains"), "reference": (parameter.target,)}.get(parameter.type, ())
    if modifier and modifier not in allowed and not (chained and modifier in ("Patient", "ServiceRequest")):
        raise UnknownParameter("This modifier is not offered.", field=f"{parameter.name}:{modifier}"[:64])
    if parameter.type == "date":
        return [_span(parameter.name, part, zone)]
    if parameter.type == "string":
        text = _plain(part)
        return [Words(text, exact=modifier == "exact", anywhere=modifier == "contains")]
    if parameter.type in ("reference", "row"):
        return [Row(_row_id(parameter, part))]
    return list(_tokens(parameter, part))


def _tokens(parameter: Parameter, part: str) -> Sequence[Value]:
    halves = _PIPE.split(part, maxsplit=1)
    system = _plain(halves[0]) if len(halves) == 2 else None
    value = _plain(halves[-1])
    if not value and not system:
        raise InvalidInput("A token is neither a value nor a system.", field=parameter.name)
    if parameter.identifier:
        return systems.identifier_token(system, value or None)
    if parameter.name == "active":
        if value not in ("true", "false"):
            raise InvalidInput("This is true or false.", field=parameter.name)
        return [Constant(value == "true")]
    if parameter.acts is not None:
        return parameter.acts.get(value, (Acts(()),))
    if parameter.codes is not None:
        return [OneOf(parameter.codes.get(value, ()))]
    if parameter.constants:
        matches = (value in ("", code) and (not system or system == known) for known, code in parameter.constants)
        return [Constant(any(matches))]
    if parameter.name == "modality":
        return [OneOf((value,) if system in (None, "", systems.DCM) else ())]
    if parameter.name in ("agent", "agent-role"):
        return [OneOf((value,))]
    if parameter.name in ("series", "instance"):
        return [Token(value.removeprefix("urn:oid:"))]
    if system is None:
        return [Token(value)]
    return [Token(value or None, scheme) for scheme in (systems.schemes_of(system) if system else [""])]


def _row_id(parameter: Parameter, part: str) -> str:
    *before, row_id = part.split("/")
    if before and parameter.target and before[-1] != parameter.target:
        raise InvalidInput("This refers to another type of resource.", field=parameter.name)
    if not ID.fullmatch(row_id):
        raise InvalidInput("This is no id of a resource.", field=parameter.name)
    return row_id


def _plain(text: str) -> str:
    return re.sub(r"\\([\\,|$])", r"\1", text)


def _span(name: str, part: str, zone: tzinfo) -> Span:
    matched = _PREFIX.fullmatch(part)
    assert matched is not None  # the pattern takes any text
    prefix, text = matched[1] or "eq", matched[2]
    low, high = _interval(name, text, zone)
    spans = {
        "eq": Span(low, high),
        "ne": Span(low, high, outside=True),
        "gt": Span(high, None),
        "sa": Span(high, None),
        "ge": Span(low, None),
        "lt": Span(None, low),
        "eb": Span(None, low),
        "le": Span(None, high),
    }
    if prefix not in spans:
        raise InvalidInput("This prefix is not offered.", field=name)
    return spans[prefix]


def _interval(name: str, text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the first moment of what a date says and the first one after it, both in the facility's zone."""
    matched = _DATE.fullmatch(text)
    if matched is None:
        raise InvalidInput("This is no date or time (YYYY-MM-DDThh:mm:ssZ).", field=name)
    year, month, day, hour, minute, second, fraction, offset = matched.groups()
    try:
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0),
            tzinfo=_offset(offset) or zone,
        )  # fmt: skip
        if fraction:
            moment += timedelta(microseconds=int(fraction[1:].ljust(6, "0")))
        end = _next(moment, month, day, hour, second, fraction)
        # Through UTC, in which it is compared: the first and the last day there are have no such moment everywhere.
        return moment.astimezone(UTC).astimezone(zone), end.astimezone(UTC).astimezone(zone)
    except (ValueError, OverflowError):
        raise InvalidInput("There is no such date or time.", field=name) from None


def _next(
    moment: datetime, month: str | None, day: str | None, hour: str | None, second: str | None, fraction: str | None
) -> datetime:
    if fraction:
        return moment + timedelta(milliseconds=1)
    if second:
        return moment + timedelta(seconds=1)
    if hour:
        return moment + timedelta(minutes=1)
    if day:
        return moment + timedelta(days=1)
    if month:
        return (moment.replace(day=1) + timedelta(days=32)).replace(day=1)
    return moment.replace(year=moment.year + 1)


def _offset(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    # A plus sign in a query string that was not escaped arrives as a blank.
    return datetime.fromisoformat("2000-01-01T00:00:00" + text.replace(" ", "+").replace("Z", "+00:00")).tzinfo


def _one(controls: dict[str, list[str]], name: str) -> str | None:
    values = controls.get(name, [])
    if len(values) > 1:
        raise InvalidInput("This is given more than once.", field=name)
    return values[0] if values else None


def _choice(controls: dict[str, list[str]], name: str, choices: tuple[str, ...]) -> str:
    value = _one(controls, name)
    if value is not None and value not in choices:
        raise InvalidInput(f"This is one of: {', '.join(choices)}.", field=name)
    return value or ""


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidInput("This is no whole number.", field="_count")
    return min(int(text), MAX_COUNT)


def _sorting(searchable: Searchable, text: str | None) -> Sorting:
    if text is None:
        return Sorting(searchable.sorted_by or None)
    key = text.removeprefix("-")
    if key not in searchable.sort_keys:
        raise InvalidInput(f"Sorting is by one of: {', '.join(searchable.sort_keys)}.", field="_sort")
    return Sorting(None if key == "_id" else key, descending=text.startswith("-"))


def _cursor(text: str | None, sorting: Sorting, moments: frozenset[str]) -> After | None:
    if text is None:
        return None
    try:
        decoded: Any = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        row_id, key, is_moment = decoded
        if not isinstance(row_id, str) or not ID.fullmatch(row_id) or is_moment != (sorting.key in moments):
            raise ValueError
        if sorting.key is None:
            return After(row_id)
        if not isinstance(key, str) or "\x00" in key:
            raise ValueError
        moment = datetime.fromisoformat(key) if is_moment else None
        if moment is not None and moment.tzinfo is None:
            raise ValueError
        return After(row_id, moment.astimezone(UTC) if moment else key)
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput("This page does not belong to this search.", field=PAGE) from None


def _includes(searchable: Searchable, values: list[str]) -> frozenset[str]:
    offered = {f"{searchable.kind.value}:{name}": name for name in searchable.includes}
    wanted = set()
    for value in values:
        source, _, rest = value.partition(":")
        name, _, target = rest.partition(":")
        known = offered.get(f"{source}:{name}")
        if known is None or (target and target != searchable.includes[known]):
            raise InvalidInput(f"Offered: {', '.join(sorted(offered)) or 'none'}.", field="_include")
        wanted.add(known)
    return frozenset(wanted)


def _revincludes(searchable: Searchable, values: list[str]) -> frozenset[str]:
    unknown = [value for value in values if value not in searchable.revincludes]
    if unknown:
        raise InvalidInput(f"Offered: {', '.join(sorted(searchable.revincludes)) or 'none'}.", field="_revinclude")
    return frozenset(values)
