"""OpenAPI 3.1 of everything that answers HTTP, made from the composed routes; `operations` knows what each takes.

A route that no table describes still stands here, with its path and methods: what is served is what is described.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hilum.fhir.rest import KINDS
from hilum.serve import operations
from hilum.serve.gate import is_open

PATH = "/openapi.json"
MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.1"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
# Routes under which nothing is: they answer 404 in the form of their door.
NOTHING = frozenset({"/fhir", "/fhir/{rest}"})
# What routes that take every method, to refuse it in their door's own form, do answer.
ANSWERED = {
    "/fhir/metadata": ("get",),
    "/fhir/{type}": ("get",),
    "/fhir/{type}/{id}": ("get",),
    "/fhir/{type}/_search": ("post",),
    "/cds-services": ("get",),
    "/cds-services/{id}": ("post",),
    "/cds-services/{id}/feedback": ("post",),
}
Node = dict[str, Any]


def route(others: Sequence[BaseRoute]) -> Route:
    """The route of the description itself, for whoever is signed in or holds a token."""
    made: list[bytes] = []

    def describe(request: Request) -> Response:
        if not made:
            made.append(orjson.dumps(description([*others, this])))
        return Response(made[0], media_type=MEDIA_TYPE)

    this = Route(PATH, describe, methods=["GET"])
    return this


def description(routes: Iterable[BaseRoute]) -> Node:
    """Return the OpenAPI document of these routes."""
    paths: Node = {}
    for template, method, names in described(routes):
        concrete = template.format_map({name: f"{{{name}}}" for name in _PARAMETER.findall(template)} | names)
        paths.setdefault(concrete, {})[method] = _operation(template, concrete, method, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hilum", "version": version("hilum"), "license": {"name": "Apache-2.0"}},
        "paths": dict(sorted(paths.items())),
        "security": [{"bearer": []}, {"session": []}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "session": {"type": "apiKey", "in": "cookie", "name": "hilum_session"},
            },
            "schemas": operations.SCHEMAS,
        },
    }


def described(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Give each operation: its path's template, its method, and the values that its parameters are split into."""
    for each in routes:
        if not isinstance(each, Route):
            continue
        template = _PARAMETER.sub(r"{\1}", each.path)
        if template in NOTHING:
            continue
        methods = ANSWERED.get(template) or sorted(m.lower() for m in (each.methods or {"GET"}) - {"HEAD"})
        splits = [{"type": kind} for kind in sorted(KINDS)] if "{type}" in template else [{}]
        for split in splits:
            for method in methods:
                yield template, method, split


def _operation(template: str, concrete: str, method: str, names: dict[str, str]) -> Node:
    door = operations.door_of(template)
    words = re.sub(r"[^A-Za-z0-9]+", "_", concrete).removeprefix("_") or "worklist"
    operation: Node = {
        "operationId": f"{method}_{words}",
        "tags": [door.name],
        "parameters": [
            *(_path_parameter(name) for name in _PARAMETER.findall(template) if name not in names),
            *(_query_parameter(*each) for each in operations.query_of(template, method, names.get("type", ""))),
        ],
        "responses": _responses(template, method, door),
    }
    body = operations.body_of(template, method, names.get("type", ""))
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {body.media_type: {"schema": body.schema}}}
    if is_open(concrete):
        operation["security"] = []
    return operation


def _path_parameter(name: str) -> Node:
    schema = operations.PATH_SCHEMAS.get(name, operations.TEXT)
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameter(name: str, schema: Node, says: str) -> Node:
    parameter: Node = {"name": name, "in": "query", "required": False, "schema": schema}
    return parameter | ({"description": says} if says else {})


def _responses(template: str, method: str, door: operations.Door) -> Node:
    """What is answered: the door's own types, and refusals in its own form."""
    types = operations.TYPES.get(template, door.types)
    good: Node = {"description": "Done, or what was asked for."}
    if types:
        good["content"] = {media_type: {} for media_type in types}
    refusal = {"description": "A refusal.", "content": {media_type: {} for media_type in door.refusals}}
    return {"2XX": good, "3XX": {"description": "Not changed, or elsewhere."}, "4XX": refusal, "5XX": refusal}
