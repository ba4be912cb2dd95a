"""The ordering physician at the EHR's chart: reads the report over FHIR, follows it to the images, opens them.

Run as a process of its own (`python -m hilum.demo.physician`, see `play`), with the physician's own token.
"""

from __future__ import annotations

from typing import Any

from hilum.demo.bearer import Server, launch_links
from hilum.demo.play import Refused, perform


class Physician:
    """What the physician does: `read_report`, then `see_images`."""

    def begin(self, http: str, token: str) -> dict[str, Any]:
        self.server = Server(http, token)
        return {}

    def read_report(self, placer: str, status: str) -> dict[str, Any] | None:
        """The report of the physician's own order, once it has this status; None until then."""
        orders = self.server.search("ServiceRequest", identifier=placer)
        if not orders:
            return None
        reports = self.server.search("DiagnosticReport", based_on=f"ServiceRequest/{orders[0]['id']}")
        if len(reports) > 1:
            raise Refused(f"{len(reports)} DiagnosticReport resources for one order")
        return reports[0] if reports and reports[0]["status"] == status else None

    def see_images(self, report: dict[str, Any]) -> dict[str, Any]:
        """Follow imagingStudy and Endpoint to a rendered image, and open the link to the viewer."""
        references = report.get("imagingStudy") or []
        if not references:
            raise Refused("the DiagnosticReport names no imagingStudy")
        study = self.server.json(_path(references[0]["reference"]))
        study_uid = _study_uid(study)
        links = launch_links(report) + launch_links(study)
        endpoint = self.server.json(_path(study["endpoint"][0]["reference"]))
        links += launch_links(endpoint)
        if not links:
            raise Refused("neither the DiagnosticReport nor its ImagingStudy links to /viewer/launch")
        series_uid = study["series"][0]["uid"]
        root = endpoint["address"].rstrip("/")
        series = f"{root}/studies/{study_uid}/series/{series_uid}"
        instances = self.server.json(f"{series}/instances", accept="application/dicom+json")
        instance = instances[0]["00080018"]["Value"][0]
        picture = self.server.get(f"{series}/instances/{instance}/rendered", accept="image/jpeg")
        if not picture.media_type.startswith("image/"):
            raise Refused(f"the rendered image is {picture.media_type or 'nothing'}")
        return {"study": study_uid, "link": links[0], "opened": self.server.open_link(links[0])}


def _path(reference: str) -> str:
    return reference if reference.startswith("http") else f"/fhir/{reference}"


def _study_uid(study: dict[str, Any]) -> str:
    """The Study Instance UID among the identifiers (system urn:dicom:uid)."""
    for identifier in study.get("identifier", []):
        if identifier.get("system") == "urn:dicom:uid":
            return str(identifier["value"]).removeprefix("urn:oid:")
    raise Refused("the ImagingStudy has no urn:dicom:uid identifier")


if __name__ == "__main__":
    reader = Physician()
    perform({"begin": reader.begin, "read_report": reader.read_report, "see_images": reader.see_images})
