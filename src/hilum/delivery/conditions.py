"""CEL as conditions are written in it: names checked against a table, compiled once, evaluated over plain values.

An expression that needs a thing which is absent is false. A name that is not in its table is refused, as is an
expression that cannot be true or false. CEL has no loops without end, and the interpreter bounds recursion and
iteration, so no condition can hold anything up.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from cel_expr_python import cel

from hilum.settings import SettingsError

# Which fields a condition may name of each thing; None for a thing whose fields are not listed.
Names = Mapping[str, tuple[str, ...] | None]

_TEXT = re.compile(r"""r?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
_ABSENT = "NOT_FOUND"


class RouteError(SettingsError):
    """The condition of a route cannot be used."""

    code = "route"


class ConditionFailed(Exception):
    """A condition came to no answer."""


def compile_over(names: Names, condition: str, place: str) -> Any | None:
    """Compile one condition; None for an empty one. RouteError says which by `place`, as "condition of route[0]"."""
    if not condition:
        return None
    field_of = re.compile(rf"(?<![\w.])({'|'.join(names)})\s*\.\s*([A-Za-z_]\w*)")
    for thing, field in field_of.findall(_TEXT.sub('""', condition)):
        known = names[thing]
        if known is not None and field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            meant = f", perhaps `{thing}.{close[0]}`" if close else f"; it has {', '.join(known)}"
            raise RouteError(f"The {place} names `{thing}.{field}`, which there is not{meant}.")
    try:
        expression = _environment(names).compile(condition)
    except RuntimeError as error:
        raise RouteError(f"The {place} is not valid CEL: {_reason(error)}.") from None
    if expression.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise RouteError(f"The {place} is neither true nor false.")
    return expression


def is_true(expression: Any | None, values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether a compiled condition holds; None always does. Raises ConditionFailed where there is no answer."""
    if expression is None:
        return True
    try:
        answer = expression.eval(data=values)
    except RuntimeError as error:
        raise ConditionFailed from error
    if answer.type() == cel.Type.BOOL:
        return bool(answer.plain_value())
    if answer.type() == cel.Type.ERROR and str(answer.plain_value()).startswith(_ABSENT):
        return False
    raise ConditionFailed


def _environment(names: Names) -> Any:
    thing = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(variables=dict.fromkeys(names, thing))


def _reason(error: RuntimeError) -> str:
    """The first line of CEL's message without its prefixes."""
    first = str(error).splitlines()[0]
    return re.sub(r"^(INVALID_ARGUMENT|CANCELLED): |^ERROR: |\s*\[\w+\]$|<input>:", "", first).strip(". ")[:200]
