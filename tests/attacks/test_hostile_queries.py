"""Searches made to be slow, to break SQL, or to find more than was asked for; on both databases."""

from __future__ import annotations

import base64
import json
import time
from itertools import product
from urllib.parse import quote

import pytest
from besieged import Besieged, full_size

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]

# Overlong UTF-8, halves of pairs, NUL, directions, and what SQL, shells, templates and patterns make of text.
ODD = [
    "%00",
    "%C0%AF",
    "%ED%A0%80",
    "%FF%FE",
    "%E2%80%AE",
    "%F4%90%80%80",
    "%0D%0AX:y",
    "%25",
    "_",
    "%5C",
    "%5C%5C",
    "'",
    "%22",
    "%27%20OR%201=1--",
    "%7B%7B7*7%7D%7D",
    "$%7B7*7%7D",
    ";",
    "%F0%9F%92%A9",
    "%C2%80",
    "a" * 900,
    "1" * 400,
    "-1",
    "1e999",
    "NaN",
    "null",
    "[]",
    "()",
    "(?",
    "[[[",
]
QIDO = [
    "PatientName",
    "PatientID",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
    "ModalitiesInStudy",
    "00100010",
    "limit",
    "offset",
    "includefield",
    "fuzzymatching",
    "00080060",
    "StudyDescription",
    "ReferringPhysicianName",
    "nonsense",
]
FHIR = {
    "Patient": [
        "_id",
        "identifier",
        "family",
        "given",
        "name",
        "birthdate",
        "gender",
        "_lastUpdated",
        "active",
        "_count",
        "_sort",
        "_page",
        "_format",
        "_elements",
    ],
    "ServiceRequest": ["_id", "identifier", "patient", "authored", "status", "code", "patient.identifier", "_include"],
    "ImagingStudy": [
        "_id",
        "identifier",
        "patient",
        "started",
        "modality",
        "series",
        "instance",
        "basedon",
        "status",
        "endpoint",
    ],
    "DiagnosticReport": ["_id", "identifier", "patient", "issued", "status", "code", "category", "based-on", "result"],
    "Endpoint": ["_id", "status", "connection-type"],
}
PAGES = [
    "text",
    "modality",
    "status",
    "cursor",
    "patient",
    "seen",
    "beside",
    "done",
    "item",
    "kind",
    "tab",
    "requestType",
    "studyUID",
    "accessionNumber",
    "patientID",
]


def harmless(
    target: Besieged, path: str, who: str = "service", method: str = "GET", most: float = 25.0, **more: object
) -> bytes:
    started = time.perf_counter()
    answer = target.ask(method, path, who, **more)
    took = time.perf_counter() - started
    assert answer.status_code < 500, (method, path, answer.status_code, answer.text[:300])
    assert took < most, (path, took)
    return answer.content


def test_odd_values_find_nothing_and_break_nothing(either: Besieged) -> None:
    asked = [f"/dicom-web/studies?{name}={value}" for name in QIDO for value in ODD]
    asked += [f"/fhir/{kind}?{name}={value}" for kind, names in FHIR.items() for name in names for value in ODD]
    # Three do not divide the number of odd values, so that each of them and each name has its turn.
    for path in asked if full_size() else asked[::3]:
        harmless(either, path)


def test_odd_values_in_pages_break_nothing(either: Besieged) -> None:
    person = either.person("queries")
    paths = (
        "/",
        "/worklist/rows",
        "/exceptions",
        "/viewer/launch",
        "/studies/1.2.3",
        "/orders/x",
        "/access/reviews",
        "/audit",
    )
    asked = list(enumerate(product(PAGES, ODD)))
    for number, (name, value) in asked if full_size() else asked[::3]:
        for path in paths if full_size() else (paths[number % len(paths)],):
            answer = person.get(f"{path}?requestType=STUDY&{name}={value}", allow_redirects=False)
            assert answer.status_code < 500, (path, name, value, answer.text[:300])


def test_forged_places_in_a_list_are_refused(either: Besieged) -> None:
    def packed(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    moments = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026", "", None, 7, [], "x" * 100]
    numbers = [10**30, -(10**30), 2**63, 1e308, "1e999", "9" * 5000, None, [], {}, True]
    forged = [
        packed([d, n, m, i])
        for d in (("after", "before", "x") if full_size() else ("after",))
        for n in numbers
        for m in moments[:2]
        for i in ("a", "\x00")
    ]
    forged += [packed(["after", 1, m, i]) for m in moments for i in ("a", None, [], "a" * 100)]
    forged += [
        packed(b"[" * 50),
        packed(b"\xff\xfe"),
        packed([]),
        packed(b'["after",1e999,null,"x"]'),
        "=",
        "é",
        "a" * 199,
    ]
    person = either.person("queries")
    for cursor in forged:
        answer = person.get(f"/?cursor={quote(cursor)}")
        assert answer.status_code < 500, (cursor, base64.urlsafe_b64decode(cursor + "==") if cursor.isascii() else "")
        answer = person.get(f"/exceptions?cursor={quote(cursor)}")
        assert answer.status_code < 500, cursor
    for place in [
        *forged,
        *(packed([i, m, b]) for i in ("a", "\x00", "a" * 65, None) for m in moments for b in (True, False)),
    ]:
        harmless(either, f"/fhir/Patient?_page={quote(place)}")
        harmless(either, f"/fhir/ServiceRequest?_sort=authored&_page={quote(place)}")


def test_wildcards_do_not_grow_into_minutes(either: Besieged) -> None:
    stars = quote("*a" * 500)
    marks = quote("?" * 1000)
    for level in ("studies", "series", "instances"):
        for pattern in (
            stars,
            marks,
            quote("*" * 1024),
            quote("*?" * 500),
            "%25" * 300,
            quote("[a-z]*" * 150),
            quote("a^" * 400),
        ):
            for name in ("PatientName", "PatientID", "AccessionNumber", "StudyDescription"):
                harmless(either, f"/dicom-web/{level}?{name}={pattern}")
                harmless(either, f"/dicom-web/{level}?{name}={pattern}&fuzzymatching=true")
    for value in ("%25" * 300, "a" * 1000, quote("\\" * 999), quote("a," * 49), quote("a|" * 400)):
        for name in ("family", "given", "name", "family:contains", "family:exact", "identifier"):
            harmless(either, f"/fhir/Patient?{name}={value}")


def test_many_values_are_a_list_and_no_stack(either: Besieged) -> None:
    for name in ("ModalitiesInStudy", "Modality"):
        for each in ("*a", "?", "CT", "*"):
            values = ",".join(f"{each}{number}" for number in range(1000))
            for level in ("studies", "series", "instances"):
                harmless(either, f"/dicom-web/{level}?{name}={quote(values)}")
    uids = ",".join(f"1.2.{number}" for number in range(1000))
    lists = "&".join(
        f"{name}={uids}" for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    )
    harmless(either, f"/dicom-web/instances?{lists}")
    harmless(either, "/dicom-web/studies?" + "&".join(f"includefield={n:08X}" for n in range(190)))
    harmless(either, "/dicom-web/studies?" + "&".join("PatientName=a" for _ in range(5000)))
    harmless(either, "/dicom-web/studies?" + "a=b&" * 20_000)
    harmless(either, "/fhir/Patient?" + "&".join("family=a" for _ in range(39)))
    harmless(either, "/fhir/Patient?" + "&".join(f"family={','.join('abcdefghij' * 5)}" for _ in range(40)))
    harmless(either, "/fhir/Patient?" + "a=b&" * 20_000)
    harmless(either, "/?" + "text=b&" * 15_000, "radiologist")


def test_sql_in_values_stays_text(either: Besieged) -> None:
    placed = either.placed
    for value in (
        "' OR 1=1 --",
        "' OR '1'='1",
        "x'; DROP TABLE patient; --",
        "_",
        "____",
        "%",
        "%%",
        "\\",
        "\\%",
        "%\\",
        placed.patient.number[:-1] + "_",
        placed.patient.number[:-1] + "%",
        "\\_",
        '" OR ""="',
    ):
        text = quote(value)
        assert either.ask("GET", f"/dicom-web/studies?PatientID={text}").status_code == 204, value
        assert either.ask("GET", f"/dicom-web/studies?PatientName={text}").status_code in (204, 400), value
        assert either.ask("GET", f"/dicom-web/studies?AccessionNumber={text}").status_code == 204, value
        for name in ("identifier", "family", "name:contains"):
            if name == "identifier" and not value.strip("\\"):
                continue
            answer = either.ask("GET", f"/fhir/Patient?{name}={text}")
            assert answer.status_code in (200, 400), value
            assert answer.status_code == 400 or answer.json().get("total", len(answer.json().get("entry", []))) == 0, (
                name,
                value,
            )
        page = either.person("queries").get(f"/worklist/rows?status=all&text={text}")
        assert placed.patient.number not in page.text, value
    assert either.ask("GET", f"/dicom-web/studies?PatientID={placed.patient.number}").status_code == 200


def test_deep_and_wide_json_is_refused(either: Besieged) -> None:
    path = "/cds-services/prior-imaging-order-sign"
    bodies = [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"hook":' + b"1" * 100_000 + b"}",
        b'{"hook":"order-sign","hook":"x"}',
        b"\xff\xfe{}",
        b"",
        b"null",
        b'{"hook":"order-sign","hookInstance":"1","context":' + b"[" * 900 + b"]" * 900 + b"}",
        b'"' + b"\\ud800" * 10 + b'"',
        b"1e999",
        json.dumps(
            {
                "hook": "order-sign",
                "hookInstance": "1",
                "context": {
                    "patientId": "\x00",
                    "draftOrders": {
                        "entry": [
                            {
                                "resource": {
                                    "resourceType": "ServiceRequest",
                                    "code": {"text": "\x00"},
                                    "identifier": [{"value": "\x00", "system": "\x00"}],
                                }
                            }
                        ]
                        * 200
                    },
                },
            }
        ).encode(),
        json.dumps(
            {
                "hook": "order-sign",
                "hookInstance": "x" * 10**6,
                "context": {"patientId": "x" * 10**6, "draftOrders": {}},
            }
        ).encode(),
    ]
    for body in bodies:
        for at in (path, path + "/feedback", "/cds-services/prior-imaging-patient-view"):
            harmless(either, at, method="POST", data=body, headers={"Content-Type": "application/json"})
    feedback = {"feedback": [{"card": "\x00x", "outcome": "accepted", "\x00": "\x00"}]}
    harmless(either, path + "/feedback", method="POST", json=feedback)


def test_the_first_and_the_last_day_there_are_break_nothing(either: Besieged) -> None:
    for day in (
        "0001",
        "0001-01",
        "0001-01-01",
        "0001-01-01T00:00:00%2B14:00",
        "9999",
        "9999-12-31",
        "9999-12-31T23:59:59-14:00",
        "0000",
    ):
        for prefix in ("", "lt", "ge", "ne", "ap"):
            harmless(either, f"/fhir/Patient?birthdate={prefix}{day}")
            harmless(either, f"/fhir/ServiceRequest?authored={prefix}{day}&_lastUpdated={prefix}{day}")
        harmless(either, f"/dicom-web/studies?StudyDate={day.replace('-', '')[:8]}-")
