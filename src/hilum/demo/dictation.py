"""The radiologist's dictation system: finds the study over DICOMweb, looks at its images, dictates and signs over HL7.

Run as a process of its own (`python -m hilum.demo.dictation`, see `play`), with the radiologist's token.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from hilum.demo.bearer import Server, first_part
from hilum.demo.mllp import composed, escape, message, segment, send, stamp
from hilum.demo.play import Refused, perform

FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'
FINDINGS, IMPRESSION = composed("59776-5", "Procedure findings", "LN"), composed("19005-8", "Impression", "LN")
SMALLEST_PICTURE = 3000  # bytes; a blank one compresses below this


class Dictation:
    """What the dictation system can be asked to do."""

    def begin(self, http: str, token: str, hl7: dict[str, Any], sender: str, radiologist: dict[str, str]) -> None:
        self.server, self.hl7, self.sender, self.radiologist = Server(http, token), hl7, sender, radiologist

    def find_study(self, accession: str) -> dict[str, Any] | None:
        """QIDO-RS for the accession; None while there is no study, Refused when there are several."""
        fields = "00200010,00201206,00201208"
        found = self.server.dicom("studies", AccessionNumber=accession, includefield=fields)
        if len(found) > 1:
            raise Refused(f"{len(found)} studies answer to one accession number")
        return _study(found[0]) if found else None

    def studies_of(self, patient_id: str) -> list[dict[str, Any]]:
        """Every study of a patient ID (QIDO-RS)."""
        return [_study(match) for match in self.server.dicom("studies", PatientID=patient_id)]

    def study(self, study: str) -> dict[str, Any] | None:
        """One study by its UID (QIDO-RS); None while it is not there."""
        found = self.server.dicom("studies", StudyInstanceUID=study)
        return _study(found[0]) if found else None

    def look(self, study: str) -> dict[str, Any]:
        """Read the middle image of the first series: its pixels (WADO-RS frames) and its picture (rendered)."""
        series = self.server.dicom(f"studies/{study}/series")
        if not series:
            raise Refused("the study has no series (QIDO-RS)")
        series_uid = _value(series[0], "0020000E")
        instances = self.server.dicom(f"studies/{study}/series/{series_uid}/instances")
        instances.sort(key=lambda match: int(_value(match, "00200013") or 0))
        chosen = _value(instances[len(instances) // 2], "00080018")
        path = f"/dicom-web/studies/{study}/series/{series_uid}/instances/{chosen}"
        pixels = first_part(self.server.get(f"{path}/frames/1", accept=FRAME))
        picture = self.server.get(f"{path}/rendered", accept="image/jpeg")
        if not picture.media_type.startswith("image/") or len(picture.body) < SMALLEST_PICTURE:
            raise Refused(f"the rendered image is {len(picture.body)} bytes of {picture.media_type or 'nothing'}")
        return {
            "instances": len(instances),
            "instance": chosen,
            "pixels": hashlib.sha256(pixels).hexdigest(),
            "picture": len(picture.body),
        }

    def dictate(
        self, patient: dict[str, str], order: dict[str, Any], text: dict[str, str], status: str, at: str
    ) -> None:
        """ORU^R01, preliminary (P) or signed (F), in the name of the radiologist (OBR-32)."""
        read, moment = self.radiologist, stamp(datetime.fromisoformat(at))
        reader = "&".join(escape(read[part]) for part in ("identifier", "family", "given"))
        placer = composed(order["placer"], order["placer_authority"])
        obr = {1: "1", 2: placer, 3: order["filler_field"], 4: composed(order["code"], order["title"], "LN")}
        obr |= {7: stamp(datetime.fromisoformat(order["performed_at"])), 18: escape(order["accession"]), 22: moment}
        obr |= {24: order["modality"], 25: status, 32: reader}
        identifier = composed(patient["identifier"], "", "", patient["authority"], "MR")
        name = composed(patient["family"], patient["given"])
        report = message(
            "ORU^R01^ORU_R01",
            self.sender,
            segment("PID", {1: "1", 3: identifier, 5: name, 7: patient["born"], 8: patient["sex"]}),
            segment("ORC", {1: "RE", 2: placer, 3: order["filler_field"]}),
            segment("OBR", obr),
            segment("OBX", {1: "1", 2: "TX", 3: FINDINGS, 5: escape(text["findings"]), 11: status, 14: moment}),
            segment("OBX", {1: "2", 2: "TX", 3: IMPRESSION, 5: escape(text["impression"]), 11: status, 14: moment}),
        )
        send(self.hl7["host"], self.hl7["port"], report)


def _study(match: dict[str, Any]) -> dict[str, Any]:
    return {
        "study": _value(match, "0020000D"),
        "accession": _value(match, "00080050"),
        "patient": _value(match, "00100020"),
        "date": _value(match, "00080020"),
        "instances": int(_value(match, "00201208") or 0),
    }


def _value(match: dict[str, Any], tag: str) -> str:
    """The first value of an attribute in the DICOM JSON model (PS3.18 F), or ''."""
    values = match.get(tag, {}).get("Value") or [""]
    return str(values[0])


if __name__ == "__main__":
    system = Dictation()
    perform(
        {
            "begin": system.begin,
            "find_study": system.find_study,
            "studies_of": system.studies_of,
            "study": system.study,
            "look": system.look,
            "dictate": system.dictate,
        }
    )
