"""What a FHIR search can ask of patients, orders, studies and reports, compiled to SQL: one table per resource.

The door reads the request; what comes here is typed, bounded and free of FHIR's notation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.study import MatchState
from hilum.core.text import fold
from hilum.storage import tables
from hilum.storage.fhir_values import SERIOUS_REASONS as SERIOUS_REASONS
from hilum.storage.fhir_values import Acts as Acts
from hilum.storage.fhir_values import Constant as Constant
from hilum.storage.fhir_values import Criterion as Criterion
from hilum.storage.fhir_values import Kind as Kind
from hilum.storage.fhir_values import Number as Number
from hilum.storage.fhir_values import OneOf as OneOf
from hilum.storage.fhir_values import Row as Row
from hilum.storage.fhir_values import Span as Span
from hilum.storage.fhir_values import Token as Token
from hilum.storage.fhir_values import Value as Value
from hilum.storage.fhir_values import Words as Words
from hilum.storage.shown import instance_is_shown, series_is_shown

Condition = sa.ColumnElement[bool]

# The rows behind a resource, under the names that conditions, orders of lists and record queries share.
patient = tables.patient
order = tables.imaging_order
study = tables.study
report = tables.report
version = tables.report_version
audit = tables.audit_event
# A row of the trail is named by its writer and its number.
audit_id = audit.c.writer + "." + sa.cast(audit.c.sequence, sa.Text)


def _like(column: sa.ColumnElement[Any], *patterns: str) -> Condition:
    return sa.or_(*(column.like(pattern, escape="\\") for pattern in patterns))


def _folded(text: str) -> str:
    escaped = fold(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    # The stored form keeps the components of a name apart by carets.
    return escaped.replace("^", " ").strip()


def _within(column: sa.ColumnElement[Any], span: Span, read: Callable[[datetime], Any]) -> Condition:
    bounds = [sa.true()]
    if span.low is not None:
        bounds.append(column >= read(span.low))
    if span.high is not None:
        bounds.append(column < read(span.high))
    inside = sa.and_(*bounds)
    return sa.and_(column.is_not(None), sa.not_(inside)) if span.outside else inside


def _moment(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    return lambda span: _within(column, span, lambda moment: moment)


def _day(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    return lambda span: _within(column, span, lambda moment: moment.date())


def _wall_time(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S")


# When a study began as its images say it: fourteen digits of local time, empty where they do not say it.
_digits = sa.func.substr(study.c.study_date + study.c.study_time + "000000", 1, 14, type_=sa.Text)
started = sa.case((study.c.study_date == "", ""), else_=_digits)


def _started(span: Any) -> Condition:
    conditions = [study.c.study_date != "", _within(started, span, _wall_time)]
    # The same bounds by day, which have an index.
    if span.low is not None and not span.outside:
        conditions.append(study.c.study_date >= _wall_time(span.low)[:8])
    if span.high is not None and not span.outside:
        conditions.append(study.c.study_date <= _wall_time(span.high)[:8])
    return sa.and_(*conditions)


def _member(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    return lambda one_of: column.in_(one_of.words) if one_of.words else sa.false()


def _row(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    return lambda value: column.in_(value.words) if isinstance(value, OneOf) else column == value.id


def _constant(constant: Any) -> Condition:
    return sa.true() if constant.holds else sa.false()


def _code(value: sa.ColumnElement[Any], scheme: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    return lambda token: _number(token, value, scheme)


def _number(token: Token, value: sa.ColumnElement[Any], authority: sa.ColumnElement[Any] | None) -> Condition:
    conditions = []
    if token.value is not None:
        conditions.append(value == token.value)
    else:
        conditions.append(value != "")
    if token.authority is not None and authority is not None:
        conditions.append(authority == token.authority)
    return sa.and_(*conditions)


def _order_numbers(token: Any, kinds: frozenset[Number]) -> Condition:
    columns: dict[Number, tuple[sa.ColumnElement[Any], sa.ColumnElement[Any] | None]] = {
        Number.PLACER: (order.c.placer_order_number, order.c.placer_authority),
        Number.FILLER: (order.c.filler_order_number, order.c.filler_authority),
        Number.ACCESSION: (order.c.accession_number, None),
        Number.STUDY_UID: (order.c.study_instance_uid, None),
    }
    wanted = [columns[kind] for kind in sorted(token.numbers & kinds) if kind in columns]
    return sa.or_(sa.false(), *(_number(token, value, authority) for value, authority in wanted))


_ORDER_NUMBERS = frozenset({Number.PLACER, Number.FILLER, Number.ACCESSION, Number.STUDY_UID})
_REPORT_NUMBERS = frozenset({Number.FILLER, Number.ACCESSION})


def _order_identifier(token: Any) -> Condition:
    return _order_numbers(token, _ORDER_NUMBERS)


def _identified_order(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    """An identifier of the order behind a row, looked up among the orders first."""

    def condition(token: Any) -> Condition:
        return column.in_(sa.select(order.c.id).where(_order_identifier(token)).correlate(None))

    return condition


def _report_identifier(token: Any) -> Condition:
    return _order_numbers(token, _REPORT_NUMBERS)


def _study_identifier(token: Any) -> Condition:
    """Only what is shown matches: a verified study's accession number is its order's, an unverified one's its images'.

    Each kind of number is looked up in its own index; one condition over both tables would read all studies.
    """
    named, asked = tables.study.alias(), tables.imaging_order.alias()
    verified = named.c.match_state == MatchState.VERIFIED.value
    found = [sa.select(named.c.id).where(sa.false())]
    if Number.STUDY_UID in token.numbers:
        found.append(sa.select(named.c.id).where(_number(token, named.c.study_instance_uid, None)))
    if Number.ACCESSION in token.numbers:
        ordered = sa.select(named.c.id).join(asked, asked.c.id == named.c.order_id).where(verified)
        found.append(ordered.where(_number(token, asked.c.accession_number, None)))
        claimed = sa.select(named.c.id).where(named.c.match_state == MatchState.UNVERIFIED.value)
        found.append(claimed.where(_number(token, named.c.accession_number, None)))
    return study.c.id.in_(sa.union_all(*found))


def _family(token: Any) -> sa.Select[Any]:
    """The survivors of whom a patient, merged or not, holds an identifier."""
    holder, held = tables.patient.alias(), tables.patient_identifier
    joined = sa.select(holder.c.survivor_id).join(held, held.c.patient_id == holder.c.id)
    if Number.PATIENT not in token.numbers:
        return joined.where(sa.false())
    return joined.where(_number(token, held.c.value, held.c.authority))


def _patient_identifier(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    def condition(token: Any) -> Condition:
        member = tables.patient.alias()
        return column.in_(sa.select(member.c.id).where(member.c.survivor_id.in_(_family(token))))

    return condition


def _patient_row(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    """A patient's rows are those of everyone merged into the same survivor."""

    def condition(row: Any) -> Condition:
        member, named = tables.patient.alias(), tables.patient.alias()
        survivor = sa.select(named.c.survivor_id).where(named.c.id == row.id).scalar_subquery()
        return column.in_(sa.select(member.c.id).where(member.c.survivor_id == survivor))

    return condition


def _name(words: Any) -> Condition:
    """Any part of a name (HumanName): family, given, middle, prefix or suffix."""
    text = _folded(words.text)
    if words.exact:
        parts = (patient.c.family, patient.c.given, patient.c.middle, patient.c.prefix, patient.c.suffix)
        return sa.or_(*(part == words.text for part in parts))
    folded = patient.c.name_folded
    return _like(folded, f"%{text}%") if words.anywhere else _like(folded, f"{text}%", f"%^{text}%", f"% {text}%")


def _family_name(words: Any) -> Condition:
    return patient.c.family == words.text if words.exact else _like(patient.c.name_folded, f"{_folded(words.text)}%")


def _given_name(words: Any) -> Condition:
    if words.exact:
        return sa.or_(patient.c.given == words.text, patient.c.middle == words.text)
    return _like(patient.c.name_folded, f"%^{_folded(words.text)}%")


def _study_modality(one_of: Any) -> Condition:
    listed = "\\" + study.c.modalities + "\\"
    return sa.or_(sa.false(), *(_like(listed, f"%\\\\{_folded_upper(word)}\\\\%") for word in one_of.words))


def _folded_upper(word: str) -> str:
    return word.upper().replace("\\", "").replace("%", "\\%").replace("_", "\\_")


def _study_series(token: Any) -> Condition:
    held = tables.series
    named = sa.select(held.c.study_id).where(held.c.series_instance_uid == token.value, series_is_shown(held))
    return study.c.id.in_(named)


def _study_instance(token: Any) -> Condition:
    held, within = tables.instance, tables.series
    named = sa.select(held.c.study_id).join(within, within.c.id == held.c.series_id)
    shown = named.where(within.c.withheld.is_(False), instance_is_shown(held))
    return study.c.id.in_(shown.where(held.c.sop_instance_uid == token.value))


def _report_date(span: Any) -> Condition:
    return sa.exists().where(study.c.order_id == report.c.order_id, study.c.match_state == "verified", _started(span))


def _begins_with(column: sa.ColumnElement[Any]) -> Callable[[Any], Condition]:
    def condition(words: Any) -> Condition:
        escaped = words.text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        if words.exact:
            return sa.and_(column == words.text)
        return _like(sa.func.lower(column), f"%{escaped}%" if words.anywhere else f"{escaped}%")

    return condition


def _audit_row(value: Any) -> Condition:
    """A row of the trail by its name; what names none is never true."""
    places = [name.rpartition(".") for name in (value.words if isinstance(value, OneOf) else (value.id,))]
    keys = [(writer, int(number)) for writer, _, number in places if number.isascii() and number.isdigit()]
    known = [sa.and_(audit.c.writer == writer, audit.c.sequence == number) for writer, number in keys if number < 2**63]
    return sa.or_(sa.false(), *known)


def _acts(acts: Any) -> Condition:
    somebody = sa.or_(audit.c.patient_id.is_not(None), audit.c.order_id.is_not(None), audit.c.study_id.is_not(None))
    said = audit.c.action.in_(acts.words) if acts.words else sa.false()
    if acts.about_somebody is None:
        return said
    return sa.and_(said, somebody if acts.about_somebody else sa.not_(somebody))


def _audit_outcome(one_of: Any) -> Condition:
    """`allowed` is a success; of the rest the reason says how serious it is."""
    serious = audit.c.reason.in_(SERIOUS_REASONS)
    conditions = {
        "success": audit.c.outcome == "allowed",
        "minor": sa.and_(audit.c.outcome != "allowed", sa.not_(serious)),
        "serious": sa.and_(audit.c.outcome != "allowed", serious),
    }
    return sa.or_(sa.false(), *(conditions[word] for word in one_of.words))


# When the study of a report began; empty where there is none.
report_date = sa.func.coalesce(
    sa.select(sa.func.min(started))
    .where(study.c.order_id == report.c.order_id, study.c.match_state == "verified")
    .correlate(report)
    .scalar_subquery(),
    "",
)
study_updated = sa.func.coalesce(study.c.completed_at, study.c.last_received_at)

CONDITIONS: Mapping[Kind, Mapping[str, Callable[[Any], Condition]]] = {
    Kind.PATIENT: {
        "_id": _row(patient.c.id),
        "_lastUpdated": _moment(patient.c.updated_at),
        "identifier": _patient_identifier(patient.c.id),
        "name": _name,
        "family": _family_name,
        "given": _given_name,
        "birthdate": _day(patient.c.birth_date),
        "gender": _member(patient.c.sex),
        "active": lambda constant: (patient.c.id == patient.c.survivor_id) == constant.holds,
    },
    Kind.ORDER: {
        "_id": _row(order.c.id),
        "_lastUpdated": _moment(order.c.updated_at),
        "identifier": _order_identifier,
        "patient": _patient_row(order.c.patient_id),
        "patient.identifier": _patient_identifier(order.c.patient_id),
        "status": _member(order.c.status),
        "intent": _constant,
        "category": _constant,
        "priority": _member(order.c.priority),
        "code": _code(order.c.procedure_code, order.c.procedure_scheme),
        "authored": _moment(order.c.placed_at),
        "occurrence": _moment(order.c.scheduled_at),
    },
    Kind.STUDY: {
        "_id": _row(study.c.id),
        "_lastUpdated": _moment(study_updated),
        "identifier": _study_identifier,
        "patient": _patient_row(study.c.patient_id),
        "patient.identifier": _patient_identifier(study.c.patient_id),
        "basedon": _row(study.c.order_id),
        "basedon.identifier": _identified_order(study.c.order_id),
        "status": _constant,
        "started": _started,
        "modality": _study_modality,
        "series": _study_series,
        "instance": _study_instance,
    },
    Kind.REPORT: {
        "_id": _row(report.c.id),
        "_lastUpdated": _moment(version.c.recorded_at),
        "identifier": _report_identifier,
        "patient": _patient_row(report.c.patient_id),
        "patient.identifier": _patient_identifier(report.c.patient_id),
        "based-on": _row(report.c.order_id),
        "based-on.identifier": _identified_order(report.c.order_id),
        "status": _member(version.c.status),
        "category": _constant,
        "code": _code(order.c.procedure_code, order.c.procedure_scheme),
        "date": _report_date,
        "issued": _moment(version.c.signed_at),
    },
    Kind.AUDIT: {
        "_id": _audit_row,
        "date": _moment(audit.c.at),
        "agent": _member(audit.c.actor),
        "agent-name": _begins_with(audit.c.actor),
        "agent-role": _member(audit.c.role),
        "address": _begins_with(audit.c.address),
        "patient": _patient_row(audit.c.patient_id),
        "patient.identifier": _patient_identifier(audit.c.patient_id),
        "entity": lambda row: sa.or_(
            audit.c.order_id == row.id, audit.c.study_id == row.id, _patient_row(audit.c.patient_id)(row)
        ),
        "acts": _acts,
        "outcome": _audit_outcome,
    },
}

# What a list may be sorted by; every key is there for every row, and rows of one key follow their ids.
SORT_KEYS: Mapping[Kind, Mapping[str, sa.ColumnElement[Any]]] = {
    Kind.PATIENT: {
        "_lastUpdated": patient.c.updated_at,
        "family": patient.c.name_folded,
        "name": patient.c.name_folded,
    },
    Kind.ORDER: {"_lastUpdated": order.c.updated_at, "authored": order.c.placed_at},
    Kind.STUDY: {"_lastUpdated": study_updated, "started": started},
    Kind.REPORT: {"_lastUpdated": version.c.recorded_at, "issued": version.c.signed_at, "date": report_date},
    Kind.AUDIT: {"date": audit.c.at},
}


def compiled(kind: Kind, criteria: tuple[Criterion, ...]) -> list[Condition]:
    """Return the conditions of a search, all of which have to hold."""
    table = CONDITIONS[kind]
    return [sa.or_(*(table[criterion.name](value) for value in criterion.values)) for criterion in criteria]
