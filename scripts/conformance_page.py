"""Writes docs/conformance-dicom.md and docs/conformance-dicomweb.md from the tables that the program itself works by.

`python scripts/conformance_page.py` writes the pages; with `--check` it only says whether they are current.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from conformance_dicom import dicom_page
from conformance_dicomweb import dicomweb_page
from hilum.app import Application
from hilum.dicom.door import DicomDoor
from hilum.dicom.web.door import Door

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages() -> dict[str, str]:
    """The pages by their names, of a Hilum as it is before anyone has set anything."""
    with tempfile.TemporaryDirectory(prefix="hilum-docs-") as home:
        application = Application(home)
        try:
            store, configuration, ingest = application.store, application.configuration, application.ingest
            services = DicomDoor(store, configuration, ingest).services
            web = Door(store, configuration, application.read_log, ingest, application.blobs)
            return {
                "conformance-dicom.md": dicom_page(services, configuration.current),
                "conformance-dicomweb.md": dicomweb_page(web),
            }
        finally:
            application.close()


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` compare them."""
    stale = []
    for name, content in pages().items():
        path = DOCS / name
        if "--check" not in arguments:
            path.write_text(content, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
    if stale:
        print(f"{', '.join(stale)}: out of date, make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
