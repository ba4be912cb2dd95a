"""Who sees whom, on the command line: labels of patients, grants for a time, accounts limited to facilities."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from hilum.cli.access import HomeOption
from hilum.cli.context import open_home, operator
from hilum.core.actor import Identifier
from hilum.core.scope import Confidentiality

patients = typer.Typer(help="Patients.", no_args_is_help=True)
grants = typer.Typer(help="Access beyond the rules, for a time; and accounts limited.", no_args_is_help=True)

MOST_LISTED = 1000
PatientNumber = Annotated[str, typer.Argument(metavar="ID[^AUTHORITY]", help="A number of the patient.")]


@patients.command("label")
def label(
    context: typer.Context,
    number: PatientNumber,
    confidentiality: Annotated[Confidentiality, typer.Argument(help="How the patient is kept from now on.")],
    home: HomeOption = None,
) -> None:
    """Label a patient; `normal` takes back a person's decision, not what messages say."""
    from hilum.workflow.access import LabelPatient, label_patient

    application = open_home(context, home)
    try:
        application.store.run(label_patient, LabelPatient(_identifier(number), confidentiality), operator())
    finally:
        application.close()
    print(f"labelled {confidentiality.value}")


@grants.command("grant")
def grant(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="The account's name.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for the auditors.")],
    patient: Annotated[str | None, typer.Option("--patient", help="ID or ID^AUTHORITY of a patient.")] = None,
    confidentiality: Annotated[
        Confidentiality | None, typer.Option("--label", help="All patients of this label.")
    ] = None,
    hours: Annotated[int, typer.Option("--hours", min=1, max=8_784, help="How long it holds.")] = 24,
    home: HomeOption = None,
) -> None:
    """Let an account see a patient, or a label's patients, for a time."""
    from hilum.workflow.access import GrantAccess, grant_access

    application = open_home(context, home)
    try:
        until = application.store.clock() + timedelta(hours=hours)
        identifier = _identifier(patient) if patient else None
        command = GrantAccess(account, until, reason, identifier, confidentiality)
        grant_id = application.store.run(grant_access, command, operator())
    finally:
        application.close()
    print(f"grant {grant_id} until {until.isoformat(timespec='seconds')}")


@grants.command("list")
def list_grants(context: typer.Context, home: HomeOption = None) -> None:
    """Print a line per grant in force: id, account, kind, what it opens, until when."""
    from hilum.storage.access import all_grants

    application = open_home(context, home)
    try:
        with application.store.read() as db:
            found = all_grants(db, MOST_LISTED)
    finally:
        application.close()
    for each in found:
        number = f"{each.identifier.value}^{each.identifier.authority}".rstrip("^") if each.identifier else "nobody"
        opens = f"label {each.label.value}" if each.label else f"patient {number}"
        print(f"{each.id}\t{each.account}\t{each.kind.value}\t{opens}\t{each.expires_at.isoformat(timespec='seconds')}")


@grants.command("revoke")
def revoke(
    context: typer.Context,
    grant_id: Annotated[str, typer.Argument(help="The grant's id, as `list` prints it.")],
    home: HomeOption = None,
) -> None:
    """End a grant now."""
    from hilum.workflow.access import revoke_access

    application = open_home(context, home)
    try:
        application.store.run(revoke_access, grant_id, operator())
    finally:
        application.close()
    print(f"grant {grant_id} ended")


@grants.command("limit")
def limit(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="The account's name.")],
    facility: Annotated[
        list[str] | None,
        typer.Option("--facility", help="An assigning authority, or MSH-4 of a sender; none lifts the limit."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Limit an account to the patients of facilities."""
    from hilum.workflow.access import LimitAccount, limit_account

    application = open_home(context, home)
    try:
        application.store.run(limit_account, LimitAccount(account, tuple(facility or ())), operator())
    finally:
        application.close()
    print(f"user {account} sees the patients of " + (", ".join(facility) if facility else "all facilities"))


def _identifier(text: str) -> Identifier:
    value, _, authority = text.partition("^")
    return Identifier(value, authority)
