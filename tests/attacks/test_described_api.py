"""What is served is what is described; and that is fuzzed, as several roles, without a defect or a way in."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import requests
import schemathesis
from besieged import Besieged, full_size
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fixtures.department import Department

pytestmark = [
    pytest.mark.xdist_group("attacks"),
    pytest.mark.timeout(900 if os.environ.get("HILUM_SOAK") != "full" else 0),
]

ROLES = ("radiologist", "technologist", "referring-physician", "auditor", "service", "admin")
PATH = "/openapi.json"
EXAMPLES = 2000 if full_size() else 2


@schemathesis.serializer("multipart/related")
def as_one_part(context: Any, value: Any) -> bytes:
    """Whatever was generated as the only part of a STOW-RS body."""
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    return b"--x\r\nContent-Type: application/dicom\r\n\r\n" + raw + b"\r\n--x--\r\n"


def composed(department: Department) -> list[Any]:
    from hilum.app import Application

    application = Application(department.home)
    try:
        app: Any = application.http()
        while not hasattr(app, "routes"):  # the gate, and the wait for the index, stand before them
            app = app._app
        return list(app.routes)
    finally:
        application.close()


def document(target: Besieged) -> dict[str, Any]:
    answer = target.ask("GET", PATH)
    assert answer.status_code == 200
    found = answer.json()
    assert isinstance(found, dict)
    return found


def test_the_description_needs_a_token(target: Besieged) -> None:
    assert requests.get(target.http + PATH, timeout=30).status_code == 401
    assert document(target)["openapi"] == "3.1.0"


def test_every_route_is_described(target: Besieged) -> None:
    paths = document(target)["paths"]
    nothing = {"/fhir", "/fhir/{rest}"}  # answer 404 alone
    missing = []
    for route in composed(target.department):
        template = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        if template in nothing:
            continue
        if "{type}" in template:
            found = [
                p
                for p in paths
                if re.fullmatch(template.replace("{type}", "[A-Z][A-Za-z]+").replace("{id}", r"\{id\}"), p)
            ]
            if not found:
                missing.append(template)
            continue
        if template not in paths:
            missing.append(template)
        elif not template.startswith(("/fhir", "/cds-services")):
            missing += [f"{m} {template}" for m in route.methods - {"HEAD"} if m.lower() not in paths[template]]
    assert missing == []


def test_the_description_is_one_of_openapi(target: Besieged) -> None:
    found = document(target)
    schemathesis.openapi.from_dict(found).validate()
    names = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_only_what_is_meant_to_is_open(target: Besieged) -> None:
    found = document(target)
    opened = {
        path for path, methods in found["paths"].items() if any(each.get("security") == [] for each in methods.values())
    }
    for path in found["paths"]:
        for method in found["paths"][path]:
            answer = requests.request(
                method, target.http + re.sub(r"\{\w+\}", "1", path), timeout=30, allow_redirects=False
            )
            if path in opened:
                assert answer.status_code < 500, path
            else:
                assert answer.status_code == 401, (method, path, answer.status_code)


@pytest.mark.soak
def test_fuzzed_operations_fail_in_no_way(besieged_postgresql: Besieged) -> None:
    """Each operation with generated values, right and wrong ones, as each role in turn.

    On PostgreSQL, which refuses values that SQLite takes.
    """
    either = besieged_postgresql
    before = len(either.log())
    schema = schemathesis.openapi.from_dict(document(either))
    either.department.add_user("fuzzed", "radiologist")
    who = st.sampled_from([*ROLES, "fuzzed"])
    asked: dict[int, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE) | operation.as_strategy(
            generation_mode=schemathesis.GenerationMode.NEGATIVE
        )

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=not full_size(),
            phases=[Phase.generate] if not full_size() else list(Phase),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases, role=who)
        def attack(case: Any, role: str) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {either.department.token(role)}"}
            answer = case.call(base_url=either.http, timeout=30, allow_redirects=False)
            assert answer.status_code < 500, (case.method, case.path, answer.status_code, answer.text[:300])
            asked[answer.status_code // 100] = asked.get(answer.status_code // 100, 0) + 1
            case.headers.pop("Authorization")
            if case.operation.definition.raw.get("security") != []:
                stranger = case.call(base_url=either.http, timeout=30, allow_redirects=False)
                assert stranger.status_code in (400, 401), (case.method, case.path, stranger.status_code)

        attack()
        print(f"{operation.method.upper()} {operation.path}: {sum(asked.values())} answers so far")
    assert either.failures(before) == []
    assert asked.get(2, 0) > 20, asked
    assert asked.get(4, 0) > 20, asked
