"""Patients as the pages name them: the registered person, or what the images say where none is proven."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Any

from hilum.core import patient as core
from hilum.core.actor import Actor
from hilum.security.policy import Action, decide
from hilum.storage.access import glass_broken_until
from hilum.storage.pages import Person, SentPatient
from hilum.web.models import Patient


def patient_from_registered(patient: core.Patient, other_identifiers: tuple[str, ...] = ()) -> Patient:
    """The registered patient, under the identifier that is shown first."""
    identifier = patient.primary_identifier if patient.identifiers else core.PatientIdentifier("", "")
    return Patient(
        patient.demographics.name.display or "Unnamed",
        identifier.value,
        identifier.authority,
        patient.demographics.birth_date,
        patient.demographics.sex,
        other_identifiers,
    )


def patient_from_person(person: Person, connection: Any, actor: Actor) -> Patient:
    """The person at the end of all merges, with the identifiers of everyone merged into them.

    Says too until when whoever asks sees them by breaking the glass.
    """
    patient = patient_from_registered(person.patient, person.other_identifiers)
    if not decide(actor, Action.BREAK_GLASS).allowed:
        return patient
    return replace(patient, emergency_until=glass_broken_until(connection, actor.name, person.patient.id))


def patient_from_images(sent: SentPatient) -> Patient:
    """The patient as images name them; nothing of it is proven."""
    return Patient(
        core.PersonName.from_dicom(sent.name).display or "Unnamed",
        sent.identifier,
        sent.authority,
        date_from_dicom(sent.birth_date),
        sent.sex,
    )


def date_from_dicom(text: str) -> date | None:
    """A DICOM DA; None where it is empty or no date."""
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()  # a DA has no zone
    except ValueError:
        return None
