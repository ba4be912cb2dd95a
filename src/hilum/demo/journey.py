"""One order's way through links 1 to 10, each verified by what the players themselves got over their sockets.

A check that fails raises Refused, which the programme turns into the name of the broken link.
"""

from __future__ import annotations

import time
from base64 import b64decode
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hilum.demo.play import Player, Refused, agree, eventually
from hilum.demo.programme import Programme


@dataclass(frozen=True)
class Players:
    """The processes of the play."""

    ehr: Player
    modality: Player
    dictation: Player
    physician: Player

    def leave(self) -> None:
        for player in (self.ehr, self.modality, self.dictation, self.physician):
            player.leave()


@dataclass
class Journey:
    """A patient's order on its way; `prior` is the journey it should be compared with."""

    act: str
    programme: Programme
    players: Players
    patient: dict[str, str]
    order: dict[str, Any]
    anatomy: int
    nodule_mm: float
    prior: Journey | None = None
    step: dict[str, Any] = field(default_factory=dict)
    acquired: dict[str, Any] = field(default_factory=dict)
    request_id: str = ""
    signed_at: float = 0.0

    def travel(self, text: dict[str, str], event: str) -> None:
        """All ten links."""
        self.registration(event)
        self.prior_check()
        self.place()
        self.schedule()
        self.worklist()
        self.exam()
        self.reading()
        self.report(text)
        self.result(text)

    def registration(self, event: str) -> None:
        with self.programme.link(self.act, 1, "EHR → Hilum", f"HL7 ADT^{event}, FHIR Patient") as leg:
            self.players.ehr.ask("register", patient=self.patient, event=event, at=self.order["ordered_at"])
            number, family = self.patient["identifier"], self.patient["family"]

            def known() -> dict[str, Any] | None:
                person = self.players.ehr.ask("find_patient", identifier=number)
                return person if person and person["name"][0]["family"] == family else None

            person = eventually(known, "no FHIR Patient with the registered number and name")
            agree("the given name", [self.patient["given"]], person["name"][0]["given"])
            agree("the birth date", self.patient["born"], person["birthDate"].replace("-", ""))
            leg.seen = f"{number} is one Patient"

    def prior_check(self) -> None:
        """For a new patient no card opens images; for the follow-up one names the prior and its date, and opens it."""
        with self.programme.link(self.act, 2, "EHR ⇄ Hilum", "CDS Hooks order-sign") as leg:
            cards = self.players.ehr.ask("check_priors", patient=self.patient, order=self.order)
            linked = [(card, link["url"]) for card in cards for link in card.get("links") or []]
            opening = [(card, url) for card, url in linked if "/viewer/launch" in url]
            if self.prior is None:
                agree("the number of priors of a new patient", 0, len(opening))
                leg.seen = "no prior, and no card claims one"
                return
            numbers = (self.prior.step["study"], self.prior.step["accession"])
            about = [(card, url) for card, url in opening if any(number in url for number in numbers)]
            if not about:
                raise Refused(f"none of {len(cards)} cards opens the prior")
            card, url = about[0]
            words = f"{card['summary']} {card.get('detail', '')}"
            for needed in (self.prior.order["performed_at"][:10], "CT"):
                if needed not in words:
                    raise Refused(f"the card does not say {needed}")
            opened = self.players.ehr.ask("open_link", address=url)
            leg.seen = f"“{card['summary']}”, opens {opened.split('?')[0].rsplit(':', 1)[-1].partition('/')[2] or 'it'}"

    def place(self) -> None:
        with self.programme.link(self.act, 3, "EHR → Hilum", "HL7 ORM^O01 NW → ORR^O02, FHIR ServiceRequest") as leg:
            placed = self.players.ehr.ask("place", patient=self.patient, order=self.order)
            self.order |= {"filler": placed["filler"], "filler_field": placed["filler_field"]}
            request = eventually(self._request, "no FHIR ServiceRequest with the placer order number")
            self.request_id = request["id"]
            agree("ServiceRequest.status", "active", request["status"])
            codes = {coding["code"] for coding in request["code"]["coding"]}
            if self.order["code"] not in codes:
                raise Refused("the ServiceRequest asks for another procedure")
            leg.seen = f"placer {self.order['placer']}, filler {placed['filler']}"

    def schedule(self) -> None:
        with self.programme.link(self.act, 4, "Hilum → EHR", "HL7 RAD-3 order status SC") as leg:
            self._heard("SC")
            leg.seen = "scheduled, said with both order numbers"

    def worklist(self) -> None:
        modality = self.order["modality"]
        with self.programme.link(self.act, 5, f"{modality} ⇄ Hilum", "DICOM Modality Worklist C-FIND") as leg:
            number = self.patient["identifier"]

            def waiting() -> dict[str, Any] | None:
                known = {other.step["accession"] for other in self._before()}
                items = self.players.modality.ask("worklist", patient_id=number, modality=modality)
                items = [item for item in items if item["accession"] not in known]
                if len(items) > 1:
                    raise Refused(f"{len(items)} worklist steps where one was ordered")
                return items[0] if items else None

            self.step = eventually(waiting, "the step is not on the worklist")
            for what in ("family", "given", "born", "sex"):
                agree(f"{what} on the worklist", self.patient[what], self.step[what])
            for what in ("accession", "study", "procedure", "step"):
                if not self.step[what]:
                    raise Refused(f"the worklist item has no {what} number")
            self.order["accession"] = self.step["accession"]
            if self.step["accession"] not in _identifiers(eventually(self._request, "the ServiceRequest is gone")):
                raise Refused("the ServiceRequest does not carry the accession number of the worklist")
            leg.seen = f"accession {self.step['accession']}, step {self.step['step']}"

    def exam(self) -> None:
        """The performed step begins, images are made and sent, the step ends: links 6 and 7."""
        who, at = f"{self.order['modality']} → Hilum → EHR", self.order["performed_at"]
        with self.programme.link(self.act, 6, who, "DICOM MPPS N-CREATE, HL7 RAD-3 IP") as leg:
            self.players.modality.ask("choose", accession=self.step["accession"], at=at)
            self.players.modality.ask("start")
            self._heard("IP")
            leg.seen = "begun, the EHR knows"
        seed = {"seed": self.anatomy, "nodule_mm": self.nodule_mm, "noise_seed": int(self.nodule_mm * 10)}
        self.acquired = self.players.modality.ask("acquire", within=120, **seed)
        self.images()
        with self.programme.link(self.act, 6, who, "DICOM MPPS N-SET COMPLETED, HL7 RAD-3 CM") as leg:
            self.players.modality.ask("finish")
            self._heard("CM")
            leg.seen = "completed, the EHR knows"

    def images(self) -> None:
        count = self.acquired["images"]
        who = f"{self.order['modality']} → Hilum"
        with self.programme.link(self.act, 7, who, "DICOM C-STORE, FHIR ImagingStudy") as leg:
            self.players.modality.ask("store", within=120)
            study = eventually(self._imaging_study, "no FHIR ImagingStudy is based on the order")
            agree("the study of the order", self.step["study"], study["uid"])
            agree("ImagingStudy.numberOfInstances", count, study["instances"])
            agree("ImagingStudy.subject", eventually(self._patient_reference, "the Patient is gone"), study["subject"])
            leg.seen = f"{count} images in the order's study"

    def reading(self) -> None:
        accession = self.step["accession"]
        with self.programme.link(self.act, 8, "Radiologist ⇄ Hilum", "DICOMweb QIDO-RS, WADO-RS") as leg:

            def there() -> dict[str, Any] | None:
                found: dict[str, Any] | None = self.players.dictation.ask("find_study", accession=accession)
                return found

            study = eventually(there, "QIDO-RS finds no study with the accession number")
            agree("the study found by accession number", self.step["study"], study["study"])
            agree("its patient", self.patient["identifier"], study["patient"])
            for journey in [*self._before(), self]:
                looked = self.players.dictation.ask("look", study=journey.step["study"])
                agree("the number of instances", journey.acquired["images"], looked["instances"])
                sent = journey.acquired["pixels"].get(looked["instance"])
                agree("the digest of the pixels", sent, looked["pixels"])
            leg.seen = "pixels as the scanner sent them" + (", prior beside them" if self.prior else "")

    def report(self, text: dict[str, str]) -> None:
        order = self.order | {"placer_authority": "DEMOEHR"}
        with self.programme.link(self.act, 9, "Radiologist → Hilum", "HL7 ORU^R01 P, F; FHIR DiagnosticReport") as leg:
            for status, stage in (("P", "preliminary"), ("F", "final")):
                said = {"order": order, "patient": self.patient, "text": text, "at": self.order["reported_at"]}
                self.players.dictation.ask("dictate", status=status, **said)
                self.signed_at = time.time()
                report = eventually(partial(self._report, stage), f"no {stage} DiagnosticReport for the order")
                _says(report, text["mark"], f"the {stage} DiagnosticReport")
            leg.seen = "preliminary, then final, with the dictated words"

    def result(self, text: dict[str, str]) -> None:
        """The final report at the EHR's own port, and the ordering physician's way from it to the images."""
        with self.programme.link(self.act, 10, "Hilum → EHR", "HL7 ORU^R01, OBR-25 F") as leg:

            def final() -> dict[str, Any] | None:
                return next((got for got in self._mine("ORU^R01") if got["result_status"] == "F"), None)

            got = eventually(final, "no final ORU^R01 came to the EHR")
            self._same_order(got)
            if self.step["accession"] not in got["numbers"]:
                raise Refused("the ORU^R01 does not carry the accession number")
            if text["mark"] not in got["text"]:
                raise Refused("the ORU^R01 does not carry the dictated words")
            if not got["links"]:
                raise Refused("the ORU^R01 has no link to the images")
            self.players.ehr.ask("open_link", address=got["links"][0])
            leg.seen = f"{max(0.0, got['at'] - self.signed_at) * 1000:,.0f} ms after it was signed, its link opens"
        with self.programme.link(self.act, 10, "Physician ⇄ Hilum", "FHIR DiagnosticReport, DICOMweb rendered") as leg:

            def readable() -> dict[str, Any] | None:
                placer = self.order["placer"]
                found: dict[str, Any] | None = self.players.physician.ask("read_report", placer=placer, status="final")
                return found

            report = eventually(readable, "the ordering physician cannot read the final report")
            _says(report, text["mark"], "the physician's DiagnosticReport")
            seen = self.players.physician.ask("see_images", report=report)
            agree("the study behind the report", self.step["study"], seen["study"])
            leg.seen = "report read, images opened from it"

    def _before(self) -> list[Journey]:
        return [*self.prior._before(), self.prior] if self.prior else []

    def _request(self) -> dict[str, Any] | None:
        found = self.players.ehr.ask("search", resource="ServiceRequest", identifier=self.order["placer"])
        if len(found) > 1:
            raise Refused(f"{len(found)} ServiceRequest resources for one order")
        return found[0] if found else None

    def _patient_reference(self) -> str | None:
        person = self.players.ehr.ask("find_patient", identifier=self.patient["identifier"])
        return f"Patient/{person['id']}" if person else None

    def _imaging_study(self) -> dict[str, Any] | None:
        """The complete study of the order, None while images are still being filed."""
        found = self.players.ehr.ask("search", resource="ImagingStudy", basedon=f"ServiceRequest/{self.request_id}")
        if len(found) > 1:
            raise Refused(f"{len(found)} ImagingStudy resources for one order")
        if not found or found[0].get("numberOfInstances", 0) < self.acquired["images"]:
            return None
        uids = [name["value"] for name in found[0]["identifier"] if name.get("system") == "urn:dicom:uid"]
        return {
            "uid": uids[0].removeprefix("urn:oid:"),
            "instances": found[0]["numberOfInstances"],
            "subject": "/".join(found[0]["subject"]["reference"].split("/")[-2:]),
        }

    def _report(self, stage: str) -> dict[str, Any] | None:
        """The one report of the order as the EHR may read it."""
        based_on = f"ServiceRequest/{self.request_id}"
        found = self.players.ehr.ask("search", resource="DiagnosticReport", based_on=based_on)
        if len(found) > 1:
            raise Refused(f"{len(found)} DiagnosticReport resources for one order")
        return found[0] if found and found[0]["status"] == stage else None

    def _mine(self, *kinds: str) -> list[dict[str, Any]]:
        received = self.players.ehr.ask("received")
        return [got for got in received if got["placer"] == self.order["placer"] and got["kind"] in kinds]

    def _heard(self, status: str) -> None:
        """Wait until the EHR's port got the order status (IHE RAD-3) for this order."""

        def said() -> dict[str, Any] | None:
            mine = self._mine("ORM^O01", "OMG^O19")
            return next((got for got in mine if got["order_status"] == status), None)

        self._same_order(eventually(said, f"no order status {status} came to the EHR"))

    def _same_order(self, got: dict[str, Any]) -> None:
        agree("PID-3 at the EHR", self.patient["identifier"], got["patient"])
        agree("PID-5 at the EHR", self.patient["family"], got["family"])
        agree("the filler order number at the EHR", self.order["filler"], got["filler"])


def _identifiers(resource: dict[str, Any]) -> list[str]:
    return [identifier["value"] for identifier in resource.get("identifier", [])]


def _says(report: dict[str, Any], mark: str, what: str) -> None:
    """The dictated phrase must be in the narrative, the conclusion or the presented form."""
    forms = [form["data"] for form in report.get("presentedForm", []) if "data" in form]
    forms = [b64decode(form).decode("utf-8", "replace") for form in forms]
    words = " ".join([report.get("conclusion", ""), str((report.get("text") or {}).get("div", "")), *forms])
    if mark not in words:
        raise Refused(f"{what} does not carry the dictated words")
