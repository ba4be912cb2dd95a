"""The pages' own paths, in one place: templates link with them and routes are declared from the same names."""

from __future__ import annotations

from urllib.parse import quote, urlencode

LOGIN = "/auth/login"
LOGOUT = "/auth/logout"
PASSWORD = "/auth/password"  # noqa: S105 - a path
SESSIONS = "/auth/sessions"
WORKLIST = "/"
WORKLIST_ROWS = "/worklist/rows"
EXCEPTIONS = "/exceptions"
REASSIGN = "/reassign"
BREAK_GLASS = "/access/break-glass"
ACCESS_REVIEWS = "/access/reviews"
AUDIT = "/audit"
LAUNCH = "/viewer/launch"
VIEWER = "/viewer/"
VIEWER_CONFIG = "/viewer/app-config.js"


def with_query(path: str, **parameters: str) -> str:
    """`path` with those parameters that are not empty."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path


def provider(name: str) -> str:
    """Where signing in at an OpenID provider begins."""
    return f"/auth/oidc/{quote(name, safe='')}"


def sign_in_again(name: str, then: str) -> str:
    """Where someone proves anew to their provider who they are, and comes back to a page."""
    return with_query(provider(name), again="1", next=then)


def order(order_id: str) -> str:
    return f"/orders/{quote(order_id, safe='')}"


def study(study_instance_uid: str) -> str:
    """A study without an order."""
    return f"/studies/{quote(study_instance_uid, safe='')}"


def ohif(*study_instance_uids: str) -> str:
    """Studies in OHIF."""
    return with_query(VIEWER + "viewer", StudyInstanceUIDs=",".join(study_instance_uids))


def launch_ohif(accession_number: str) -> str:
    """Whatever images an order has, in OHIF."""
    return with_query(LAUNCH, requestType="STUDY", accessionNumber=accession_number, viewer="ohif")


def chain(href: str) -> str:
    """The chain of the order or study page at `href`, as a fragment."""
    return f"{href}/chain"


def report_panel(href: str) -> str:
    """The report of the order or study page at `href`, as a fragment."""
    return f"{href}/report"


def reject(href: str) -> str:
    """Takes `series` (empty for all), `code` and `reason`, and rejects images of the order or study page at `href`."""
    return f"{href}/reject"


def start_report(href: str) -> str:
    """Takes `kind` (report, addendum, correction), opens or resumes the draft, answers with its editor."""
    return f"{href}/report/start"


def _report(report_id: str, verb: str) -> str:
    return f"/reports/{quote(report_id, safe='')}/{verb}"


def edit_report(report_id: str) -> str:
    return _report(report_id, "edit")


def save_draft(report_id: str) -> str:
    return _report(report_id, "draft")


def sign_report(report_id: str) -> str:
    return _report(report_id, "sign")


def discard_draft(report_id: str) -> str:
    return _report(report_id, "discard")


def retract_report(report_id: str) -> str:
    return _report(report_id, "retract")


def review_access(grant_id: str) -> str:
    return f"{ACCESS_REVIEWS}/{quote(grant_id, safe='')}"


def exception(exception_id: str) -> str:
    """One entry alone, wherever in the list it stands."""
    return with_query(EXCEPTIONS, item=exception_id)


def reassign(study_id: str) -> str:
    """Where a person says whose the images of a study are, by Hilum's own key."""
    return f"{REASSIGN}/{quote(study_id, safe='')}"


def records(patient_id: str) -> str:
    """The merged records of one person, by Hilum's own key."""
    return f"/patients/{quote(patient_id, safe='')}/records"


def unmerge(patient_id: str) -> str:
    """Takes `record` and `reason`, and takes that record out of the person."""
    return f"/patients/{quote(patient_id, safe='')}/unmerge"


def patient_studies(patient_id: str) -> str:
    """All studies of one person, by Hilum's own key: an identifier of the patient never stands in an address."""
    return with_query(WORKLIST, status="all", patient=patient_id)


def exception_verb(exception_id: str, verb: str) -> str:
    """`verb` is candidates, link, dismiss, replay, release, reject or keep."""
    return f"{EXCEPTIONS}/{quote(exception_id, safe='')}/{verb}"


def access_report(patient_id: str) -> str:
    """Who opened a patient's record, by Hilum's own key."""
    return f"{AUDIT}/patient/{quote(patient_id, safe='')}"


def access_report_csv(patient_id: str) -> str:
    return f"{access_report(patient_id)}/report.csv"
