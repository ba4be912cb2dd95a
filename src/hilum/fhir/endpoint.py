"""Endpoint: where the images are, for programs (DICOMweb) and for people (IHE Invoke Image Display)."""

from __future__ import annotations

from datetime import UTC, datetime

from hilum.fhir.elements import Resource, finished

DICOMWEB = "dicom-web"
IMAGE_DISPLAY = "image-display"
CONNECTION_TYPES = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
# http://hl7.org/fhir/R4/valueset-endpoint-connection-type.html: id → code, display, name, path, media types
ENDPOINTS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    DICOMWEB: (
        "dicom-wado-rs",
        "DICOM WADO-RS",
        "Hilum DICOMweb (QIDO-RS, WADO-RS, STOW-RS)",
        "/dicom-web",
        ("application/dicom", "application/dicom+json", "image/jpeg"),
    ),
    IMAGE_DISPLAY: (
        "ihe-iid",
        "IHE IID",
        "Hilum viewer; add requestType=STUDY and studyUID",
        "/viewer/launch",
        ("text/html",),
    ),
}
# It changes with the configuration only, which the version's digest follows.
_SINCE = datetime(2025, 1, 1, tzinfo=UTC)


def endpoint(endpoint_id: str, base_url: str) -> Resource:
    """Build one of `ENDPOINTS` for a server at `base_url`."""
    code, display, name, path, media_types = ENDPOINTS[endpoint_id]
    resource = {
        "resourceType": "Endpoint",
        "id": endpoint_id,
        "status": "active",
        "connectionType": {"system": CONNECTION_TYPES, "code": code, "display": display},
        "name": name,
        "payloadType": [{"text": "Images"}],
        "payloadMimeType": list(media_types),
        "address": base_url + path,
    }
    return finished(resource, 1, _SINCE)
