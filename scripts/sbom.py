"""Writes the software bill of materials of what is installed: CycloneDX 1.6, JSON (`make sbom`).

`python scripts/sbom.py [FILE]` walks the runtime dependencies of Hilum as they are installed in this environment, with
the parts of other people that lie in the package itself. What only developing needs is left out.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
VENDORED = ROOT / "src" / "hilum" / "web" / "static" / "vendor"
# SPDX identifiers of the classifiers and of the free texts that packages use.
LICENCES = {
    "MIT": "MIT", "MIT License": "MIT", "The MIT License (MIT)": "MIT", "Expat": "MIT",
    "BSD License": "BSD-3-Clause", "BSD-3-Clause": "BSD-3-Clause", "BSD": "BSD-3-Clause",
    "BSD-2-Clause": "BSD-2-Clause",
    "Apache Software License": "Apache-2.0", "Apache-2.0": "Apache-2.0", "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0", "Apache License, Version 2.0": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "MPL-2.0": "MPL-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only", "LGPL-3.0-only": "LGPL-3.0-only",
    "Python Software Foundation License": "PSF-2.0", "PSF-2.0": "PSF-2.0", "ISC License (ISCL)": "ISC", "ISC": "ISC",
    "HPND": "HPND", "MIT-CMU": "MIT-CMU", "0BSD": "0BSD", "Unlicense": "Unlicense",
}  # fmt: skip


def normalised(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """The names that an installed package asks for here, each with the extras that it asks of it."""
    from packaging.requirements import Requirement

    asked = distribution.requires or []
    if normalised(distribution.name) == "hilum":
        # As this checkout says it: an editable install remembers what was so when it was made.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = project["dependencies"]
    found = []
    for text in asked:
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            found.append((normalised(need.name), frozenset(need.extras)))
    return found


def installed() -> tuple[dict[str, metadata.Distribution], dict[str, set[str]]]:
    """Every package that Hilum's runtime needs, and which needs which."""
    packages: dict[str, metadata.Distribution] = {}
    needs: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [("hilum", frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        packages[name] = metadata.distribution(name)
        wanted = requirements(packages[name], extras)
        needs.setdefault(name, set()).update(each for each, _ in wanted)
        waiting += wanted
    return packages, needs


def purl(name: str, version: str) -> str:
    """The package's URL (purl-spec)."""
    return f"pkg:pypi/{quote(name)}@{quote(version)}"


def licence_of(distribution: metadata.Distribution) -> list[dict[str, Any]]:
    """The licence: an SPDX expression where the package gives one, else what its fields say."""
    about = distribution.metadata
    expression = about.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    classified = [text for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    classifiers = [text.rpartition(" :: ")[2] for text in classified]
    said = [*classifiers, (about.get("License") or "").strip()]
    known = [LICENCES[text] for text in said if text in LICENCES]
    if known:
        return [{"license": {"id": known[0]}}]
    named = next((text.splitlines()[0][:100] for text in said if text and text != "OSI Approved"), "")
    return [{"license": {"name": named}}] if named else []


def component(name: str, distribution: metadata.Distribution) -> dict[str, Any]:
    """One package as a component."""
    about = distribution.metadata
    version = distribution.version
    made: dict[str, Any] = {
        "type": "application" if name == "hilum" else "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "purl": purl(name, version),
    }
    if summary := (about.get("Summary") or "").strip():
        made["description"] = summary
    if licences := licence_of(distribution):
        made["licenses"] = licences
    return made


def vendored() -> list[dict[str, Any]]:
    """What of others lies in the package itself: a folder each, with the version in a file's name."""
    found = []
    for folder in sorted(path for path in VENDORED.iterdir() if path.is_dir()):
        file = next(path for path in sorted(folder.iterdir()) if path.suffix == ".js")
        version = re.search(r"-(\d+(?:\.\d+)+)", file.name)
        assert version is not None, f"{file} has no version in its name"
        licence = "BSD-3-Clause" if "Redistribution" in (folder / "LICENSE").read_text(encoding="utf-8") else "0BSD"
        # The registry's name is not always the folder's.
        reference = f"pkg:npm/{ {'htmx': 'htmx.org'}.get(folder.name, folder.name) }@{version[1]}"
        found.append(
            {
                "type": "library", "bom-ref": reference, "name": folder.name, "version": version[1], "purl": reference,
                "licenses": [{"license": {"id": licence}}],
            }
        )  # fmt: skip
    return found


def bill() -> dict[str, Any]:
    """The whole bill of materials."""
    packages, needs = installed()
    components = {name: component(name, package) for name, package in packages.items()}
    itself = components.pop("hilum")
    others = vendored()
    references = {name: made["bom-ref"] for name, made in components.items()}
    dependencies = [
        {
            "ref": itself["bom-ref"],
            "dependsOn": sorted([*(references[n] for n in needs["hilum"]), *(made["bom-ref"] for made in others)]),
        }
    ]
    dependencies += [
        {"ref": references[name], "dependsOn": sorted(references[each] for each in needs[name] - {"hilum"})}
        for name in sorted(references)
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "scripts/sbom.py", "version": itself["version"]}]},
            "component": itself,
        },
        "components": [*(components[name] for name in sorted(components)), *others],
        "dependencies": dependencies,
    }


def main(arguments: list[str]) -> int:
    """Write the bill to the file named, or to `dist/hilum.cdx.json`."""
    file = Path(arguments[0]) if arguments else ROOT / "dist" / "hilum.cdx.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    made = bill()
    file.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: {len(made['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
