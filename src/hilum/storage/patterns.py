"""DICOM keys with wildcards as SQL conditions (PS3.4 C.2.2.2.4): `*` any run of letters, `?` any one letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from hilum.core.text import like_pattern
from hilum.storage import tables


def any_of(column: sa.ColumnElement[Any], texts: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a column is one of `texts`; one with a wildcard is matched without case."""
    plain = [text for text in texts if not _has_wildcard(text)]
    others = (sa.func.lower(column).like(like_pattern(text), escape="\\") for text in texts if _has_wildcard(text))
    return sa.or_(*([column.in_(plain)] if plain else []), *others)


def any_name(column: sa.ColumnElement[Any], names: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a folded PN is one of `names`: by wildcard as a whole, else by its components.

    Components that a name leaves out match anything, so that "Doe" finds "Doe^Jane".
    """
    patterns = []
    for name in names:
        if _has_wildcard(name):
            patterns.append(like_pattern(name))
        else:
            bare = like_pattern("^".join(part.strip() or "*" for part in name.rstrip("^ ").split("^")))
            patterns += [bare, bare + "^%"]
    return sa.or_(*(column.like(pattern, escape="\\") for pattern in patterns))


def held_by_family(survivor: Any, values: Sequence[str], authorities: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a patient, or one merged into it, holds such an identifier of such an authority.

    `survivor` is the table of patients, or an alias of it; empty values or authorities match all.
    """
    member, identifier = tables.patient.alias(), tables.patient_identifier
    held = (
        sa.select(sa.literal(1))
        .join_from(identifier, member, member.c.id == identifier.c.patient_id)
        .where(member.c.survivor_id == survivor.c.id)
    )
    if values:
        held = held.where(any_of(identifier.c.value, values))
    if authorities:
        held = held.where(any_of(identifier.c.authority, authorities))
    return held.correlate(survivor).exists()


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text
