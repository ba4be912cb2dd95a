"""Who and what the demo is about: people, numbers and words drawn afresh for every run. None of them exists."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from random import Random
from typing import Any

FAMILIES = ("Müller", "O'Leary", "Núñez", "Ångström", "Kowalczyk", "de la Cruz", "Nakamura", "Haddad", "Okafor")
GIVEN = {"F": ("Zoë", "Inès", "Amara", "Ruth", "Søren-Marie"), "M": ("José", "Émile", "Tariq", "Björn", "Daniel")}
STREETS = ("Linden Street", "Harbour Road", "Mill Lane", "Rue du Moulin")
CITIES = ("Northport", "Saint-Clair", "Ostby", "Villanova")

CHEST_CT = {"code": "24628-0", "title": "CT Chest W contrast IV", "modality": "CT"}
CHEST_RADIOGRAPH = {"code": "36554-4", "title": "XR Chest Single view", "modality": "CR"}

PRIOR_AGE = timedelta(days=152)
AUTHORITY = "DEMOHOSP"


def patient(chance: Random) -> dict[str, str]:
    """A person with a medical record number of this run."""
    sex = chance.choice("FM")
    born = date(1940, 1, 1) + timedelta(days=chance.randrange(18000))
    return {
        "identifier": f"MR{chance.randrange(10**7):07d}",
        "authority": AUTHORITY,
        "family": chance.choice(FAMILIES),
        "given": chance.choice(GIVEN[sex]),
        "sex": sex,
        "born": born.strftime("%Y%m%d"),
        "street": f"{chance.randrange(1, 90)} {chance.choice(STREETS)}",
        "city": chance.choice(CITIES),
    }


def renamed(person: dict[str, str], chance: Random) -> dict[str, str]:
    """The same person after a marriage: a change that an A08 brings and every later link must carry."""
    other = chance.choice([name for name in FAMILIES if name != person["family"]])
    return person | {"family": f"{person['family']}-{other}"}


def order(chance: Random, procedure: dict[str, str], physician: dict[str, str], at: datetime) -> dict[str, Any]:
    """An order as the EHR knows it: its own number, no accession."""
    return procedure | {
        "placer": f"PL{chance.randrange(10**9):09d}",
        "visit": f"V{chance.randrange(10**6):06d}",
        "priority": "R",
        "reason": "Follow-up of a pulmonary nodule",
        "physician": physician,
        "ordered_at": at.isoformat(timespec="seconds"),
        "performed_at": (at + timedelta(minutes=25)).isoformat(timespec="seconds"),
        "reported_at": (at + timedelta(minutes=55)).isoformat(timespec="seconds"),
    }


def report(chance: Random, nodule_mm: float, prior_mm: float | None = None, prior_date: str = "") -> dict[str, str]:
    """What is dictated; `mark` is a phrase of this run only, by which the text is known again at the far end."""
    mark = f"series 2, table position {chance.randrange(10**5):05d}"
    findings = f"Spiculated nodule in the right upper lobe, {nodule_mm:g} mm ({mark}). Lungs otherwise clear."
    if prior_mm is None:
        impression = f"Nodule of {nodule_mm:g} mm in the right upper lobe. CT in 5 months is recommended."
        return {"mark": mark, "findings": f"{findings} No prior for comparison.", "impression": impression}
    compared = f"Compared with the CT of {prior_date}: {prior_mm:g} mm then."
    impression = f"Nodule in the right upper lobe has grown from {prior_mm:g} to {nodule_mm:g} mm since {prior_date}."
    return {"mark": mark, "findings": f"{compared} {findings}", "impression": impression}


def person(given: dict[str, str]) -> dict[str, str]:
    """identifier, family and given of an account, from `Family^Given` or `Given Family`."""
    name = given.get("name") or given["identifier"]
    if "^" in name:
        family, first = [*name.split("^"), ""][:2]
    else:
        first, _, family = name.rpartition(" ")
    return {"identifier": given["identifier"], "family": family, "given": first}
