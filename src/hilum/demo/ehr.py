"""The hospital's EHR: registers and orders over HL7, asks CDS Hooks before it orders, hears results at its MLLP port.

Run as a process of its own (`python -m hilum.demo.ehr`, see `play`): a socket and a token, and nothing of Hilum.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from hilum.demo.bearer import Server, launch_links
from hilum.demo.mllp import Listener, Message, composed, message, segment, send, stamp, value
from hilum.demo.play import Refused, agree, perform

CODE_SYSTEMS = {"LN": "http://loinc.org"}


class Ehr:
    """What the EHR can be asked to do."""

    def begin(self, http: str, token: str, hl7: dict[str, Any], sender: str, listen_port: int) -> dict[str, Any]:
        """Open the listening port; returns it."""
        self.server = Server(http, token)
        self.hl7 = hl7
        self.sender = sender
        self.application = sender.split("|")[0]
        self.listener = Listener(listen_port)
        return {"listening": self.listener.port}

    def register(self, patient: dict[str, str], event: str, at: str) -> dict[str, Any]:
        """ADT A04 (register) or A08 (update)."""
        moment = datetime.fromisoformat(at)
        adt = message(
            f"ADT^{event}^ADT_A01",
            self.sender,
            segment("EVN", {1: event, 2: stamp(moment), 6: stamp(moment)}),
            _pid(patient),
            segment("PV1", {1: "1", 2: "O", 3: "CHEST^^^DEMOHOSP", 44: stamp(moment)}),
        )
        self._send(adt)
        return {}

    def find_patient(self, identifier: str) -> dict[str, Any] | None:
        """The one FHIR Patient with this identifier, None while there is none."""
        return _one(self.server.search("Patient", identifier=identifier), "Patient")

    def check_priors(self, patient: dict[str, str], order: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask CDS Hooks `order-sign` about a draft order, with the prefetch discovery asks for; returns the cards."""
        services = self.server.json("/cds-services", accept="application/json")["services"]
        signing = [service for service in services if service["hook"] == "order-sign"]
        if not signing:
            raise Refused("discovery offers no service for the hook order-sign")
        person = _patient_resource(patient, self.find_patient(patient["identifier"]))
        draft = _draft(person, order)
        wanted = signing[0].get("prefetch") or {}
        prefetch = {name: person for name, template in wanted.items() if template.startswith("Patient/")}
        request = {
            "hook": "order-sign",
            "hookInstance": str(uuid.uuid4()),
            "context": {
                "userId": f"Practitioner/{order['physician']['identifier']}",
                "patientId": person["id"],
                "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": draft}]},
            },
            "prefetch": prefetch,
        }
        answer = self.server.post(f"/cds-services/{signing[0]['id']}", request)
        cards: list[dict[str, Any]] = answer["cards"]
        return cards

    def place(self, patient: dict[str, str], order: dict[str, Any]) -> dict[str, str]:
        """ORM^O01 NW; returns the filler's number from the answer, whole field and first component."""
        answer = self._send(self._order_message("NW", patient, order))
        agree("ORC-2 of the answer", order["placer"], answer.get("ORC", 2))
        filler = answer.raw("ORC", 3)
        if not filler:
            raise Refused(f"{answer.raw('MSH', 9)} accepts the order but gives no filler number (ORC-3)")
        return {"filler": value(filler), "filler_field": filler, "answered": answer.raw("MSH", 9)}

    def cancel(self, patient: dict[str, str], order: dict[str, Any]) -> dict[str, str]:
        """ORM^O01 CA for an order placed before."""
        answer = self._send(self._order_message("CA", patient, order))
        return {"answered": answer.raw("MSH", 9), "control": answer.raw("ORC", 1)}

    def received(self) -> list[dict[str, Any]]:
        """A digest of every message that came to the EHR's port so far."""
        return [_digest(at, got) for at, got in self.listener.messages()]

    def search(self, resource: str, **parameters: str) -> list[dict[str, Any]]:
        """A FHIR search."""
        return self.server.search(resource, **parameters)

    def open_link(self, address: str) -> str:
        """Open a link of a card or a result; returns where it led."""
        return self.server.open_link(address)

    def _order_message(self, control: str, patient: dict[str, str], order: dict[str, Any]) -> str:
        placer = composed(order["placer"], self.application)
        doctor = _person(order["physician"])
        code = composed(order["code"], order["title"], "LN")
        priority = f"^^^^^{order['priority']}"
        placed_at = stamp(datetime.fromisoformat(order["ordered_at"]))
        orc = {1: control, 2: placer, 3: order.get("filler_field", ""), 7: priority, 9: placed_at, 12: doctor}
        orc |= {17: composed("CHEST", "Chest clinic")}
        obr = {1: "1", 2: placer, 3: orc[3], 4: code, 5: order["priority"], 16: doctor, 24: order["modality"]}
        obr |= {27: priority, 31: composed("", order["reason"])}
        visit = segment("PV1", {1: "1", 2: "O", 3: "CHEST^^^DEMOHOSP", 8: doctor, 19: order["visit"]})
        return message("ORM^O01^ORM_O01", self.sender, _pid(patient), visit, segment("ORC", orc), segment("OBR", obr))

    def _send(self, text: str) -> Message:
        return send(self.hl7["host"], self.hl7["port"], text)


def _pid(patient: dict[str, str]) -> str:
    identifier = composed(patient["identifier"], "", "", patient["authority"], "MR")
    name = composed(patient["family"], patient["given"])
    address = composed(patient["street"], "", patient["city"])
    return segment("PID", {1: "1", 3: identifier, 5: name, 7: patient["born"], 8: patient["sex"], 11: address})


def _person(physician: dict[str, str]) -> str:
    """An XCN: number, family, given, and who gave the number."""
    return composed(physician["identifier"], physician["family"], physician["given"], "", "", "Dr", "", "", "DEMOHOSP")


def _patient_resource(patient: dict[str, str], known: dict[str, Any] | None) -> dict[str, Any]:
    """The EHR's own Patient, under the identifier system the two servers share."""
    shared = [i for i in (known or {}).get("identifier", []) if i.get("value") == patient["identifier"]]
    born = patient["born"]
    return {
        "resourceType": "Patient",
        "id": patient["identifier"],
        "identifier": shared or [{"value": patient["identifier"]}],
        "name": [{"family": patient["family"], "given": [patient["given"]]}],
        "birthDate": f"{born[:4]}-{born[4:6]}-{born[6:]}",
        "gender": {"F": "female", "M": "male"}.get(patient["sex"], "unknown"),
    }


def _draft(person: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """The ServiceRequest about to be signed."""
    coding = {"system": CODE_SYSTEMS["LN"], "code": order["code"], "display": order["title"]}
    return {
        "resourceType": "ServiceRequest",
        "id": "draft-1",
        "status": "draft",
        "intent": "order",
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "363679005", "display": "Imaging"}]}],
        "code": {"coding": [coding], "text": order["title"]},
        "subject": {"reference": f"Patient/{person['id']}", "identifier": person["identifier"][0]},
        "authoredOn": datetime.now().astimezone().isoformat(timespec="seconds"),
        "reasonCode": [{"text": order["reason"]}],
    }


def _digest(at: float, got: Message) -> dict[str, Any]:
    """What the EHR files from a message: whose it is, which order, what state, what text, which links."""
    fields = [field for obx in got.all("OBX") if len(obx) > 5 for field in obx[5].split("~")]
    lines = [value(field, part) for field in fields for part in range(1, field.count("^") + 2)]
    words = " ".join(lines).split()
    return {
        "at": at,
        "kind": f"{got.get('MSH', 9)}^{got.get('MSH', 9, 2)}",
        "patient": got.get("PID", 3),
        "family": got.get("PID", 5),
        "placer": got.get("ORC", 2) or got.get("OBR", 2),
        "filler": got.get("ORC", 3) or got.get("OBR", 3),
        "numbers": [got.get("OBR", number) for number in (3, 18, 19, 20)],
        "control": got.get("ORC", 1),
        "order_status": got.get("ORC", 5),
        "result_status": got.get("OBR", 25),
        "reader": got.get("OBR", 32, 1, 2),
        "text": "\n".join(lines),
        "links": launch_links(words),
    }


def _one(found: list[dict[str, Any]], what: str) -> dict[str, Any] | None:
    if len(found) > 1:
        raise Refused(f"{len(found)} {what} resources where there is one")
    return found[0] if found else None


if __name__ == "__main__":
    ehr = Ehr()
    perform(
        {
            "begin": ehr.begin,
            "register": ehr.register,
            "find_patient": ehr.find_patient,
            "check_priors": ehr.check_priors,
            "place": ehr.place,
            "cancel": ehr.cancel,
            "received": ehr.received,
            "search": ehr.search,
            "open_link": ehr.open_link,
        }
    )
