"""The software bill of materials is valid by its schema and names all that runs beside patient data."""

from __future__ import annotations

import json
import runpy
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("sbom") / "hilum.cdx.json"
    assert runpy.run_path(str(ROOT / "scripts/sbom.py"))["main"]([str(file)]) == 0
    made: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return made


def test_it_is_valid_cyclonedx(bill: dict[str, Any]) -> None:
    assert bill["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    broken = json.dumps(bill | {"components": [{"type": "nonsense"}]})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


def test_every_runtime_dependency_is_there_as_installed_with_its_licence(bill: dict[str, Any]) -> None:
    named = {part["name"]: part for part in bill["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in project["dependencies"]:
        name = Requirement(text).name.lower().replace("_", "-")
        assert named[name]["version"] == version(name), name
    assert all(part.get("licenses") for part in bill["components"])
    assert named["htmx"]["purl"] == "pkg:npm/htmx.org@2.0.11", "what lies in the package counts too"
    assert "pytest" not in named, "what only developing needs does not run beside patient data"


def test_every_component_is_reached_from_hilum(bill: dict[str, Any]) -> None:
    edges = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    reached, waiting = set(), [bill["metadata"]["component"]["bom-ref"]]
    while waiting:
        reference = waiting.pop()
        if reference not in reached:
            reached.add(reference)
            waiting += edges.get(reference, [])
    assert {part["bom-ref"] for part in bill["components"]} < reached
