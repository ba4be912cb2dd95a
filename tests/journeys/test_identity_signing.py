"""Where the settings ask for it, a signature takes the password again, or a fresh sign-in at the provider."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

import pytest

from fixtures.browser import Browser
from fixtures.department import Department, Patient, new_department, next_numbers
from fixtures.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, openid_provider
from fixtures.ports import free_ports
from hilum.app import Application
from hilum.core.actor import Actor, system_actor
from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork

pytestmark = pytest.mark.xdist_group("oidc")

PASSWORD = "correct horse staple 9"
SETTINGS = """
[security]
password_again = true
[[security.oidc]]
name = "campus"
issuer = "{issuer}"
client_id = "{client_id}"
client_secret_file = "oidc-secret"
create = true
[security.oidc.roles]
readers = "radiologist"
"""
PEOPLE = {"s-ada": {"preferred_username": "ada", "name": "Lovelace, Ada", "groups": ["readers"]}}


@dataclass
class Strict:
    """A department that asks again before each signature."""

    department: Department
    provider: OpenIdProvider

    def draft(self, browser: Browser) -> tuple[str, str]:
        """Begin a report on a new exam; the accession and the address of the editor."""
        patient = Patient(next_numbers(1)[0])
        self.department.register(patient)
        placed = self.department.place(patient)
        self.department.perform(placed, images=1)
        (found,) = self.department.search("ServiceRequest", identifier=placed.placer)
        token = browser.form_token("/auth/sessions")
        begun = browser.post(f"/orders/{found['id']}/report/start", data={"csrf_token": token, "kind": "report"})
        return placed.accession, begun.headers["location"]

    def sign(self, browser: Browser, editor: str, **more: str) -> int:
        page = browser.get(editor).text
        said = {name: re.search(rf'name="{name}" value="([^"]*)"', page)[1] for name in ("revision", "trust")}
        text = {"section.findings": "Clear.", "section.impression": "Normal.", "state": "final"}
        return browser.submit(editor, editor.replace("/edit", "/sign"), **said, **text, **more).status_code

    def status(self, accession: str) -> list[str]:
        return [each["status"] for each in self.department.search("DiagnosticReport", identifier=accession)]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    own = new_department(tmp_path_factory.mktemp("strict"))
    issuer = f"http://127.0.0.1:{free_ports(1)[0]}"
    with openid_provider(issuer, own.http, PEOPLE, "campus") as provider:
        with (own.home / "hilum.toml").open("a") as file:
            file.write(SETTINGS.format(issuer=issuer, client_id=CLIENT_ID))
        (own.home / "oidc-secret").write_text(CLIENT_SECRET)
        own.start()
        yield Strict(own, provider)
        own.stop()
        own.ehr.close()


def radiologist(strict: Strict) -> Browser:
    name = f"user-{uuid.uuid4().hex[:8]}"
    strict.department.add_user(name, "radiologist", password=PASSWORD)
    browser = Browser(strict.department.http)
    assert browser.sign_in(name, PASSWORD).status_code == 303
    return browser


def test_a_report_is_signed_with_the_password_and_not_without_it(strict: Strict) -> None:
    browser = radiologist(strict)
    accession, editor = strict.draft(browser)
    assert 'name="password"' in browser.get(editor).text
    assert strict.sign(browser, editor) == 400
    assert strict.sign(browser, editor, password="wrong password 1") == 400
    assert "final" not in strict.status(accession)
    assert strict.sign(browser, editor, password=PASSWORD) == 303
    assert strict.status(accession) == ["final"]


def test_a_report_is_withdrawn_with_the_password_and_not_without_it(strict: Strict) -> None:
    browser = radiologist(strict)
    accession, editor = strict.draft(browser)
    assert strict.sign(browser, editor, password=PASSWORD) == 303
    retract = editor.replace("/edit", "/retract")
    assert browser.submit("/auth/sessions", retract, reason="Wrong patient").status_code == 400
    assert strict.status(accession) == ["final"]
    assert browser.submit("/auth/sessions", retract, reason="Wrong patient", password=PASSWORD).status_code == 303
    assert strict.status(accession) == ["entered-in-error"]


def test_guessing_the_password_of_a_signature_becomes_slow(strict: Strict) -> None:
    browser = radiologist(strict)
    accession, editor = strict.draft(browser)
    for number in range(5):
        assert strict.sign(browser, editor, password=f"wrong password {number}") == 400
    assert strict.sign(browser, editor, password=PASSWORD) == 400
    assert "final" not in strict.status(accession)


def enter(strict: Strict, browser: Browser, query: str = "") -> None:
    address = f"{strict.department.http}/auth/oidc/campus{query}"
    back = strict.provider.log_in(browser, address, "s-ada").headers["location"]
    assert browser.get(back).status_code == 303


def test_who_came_by_a_provider_signs_after_a_fresh_sign_in_there(strict: Strict) -> None:
    browser = Browser(strict.department.http)
    enter(strict, browser)
    accession, editor = strict.draft(browser)
    page = browser.get(editor).text
    assert 'name="password"' not in page and "/auth/oidc/campus?again=1" in page
    assert strict.sign(browser, editor) == 303
    assert strict.status(accession) == ["final"]


def forget_proofs(uow: UnitOfWork, command: None, actor: Actor) -> None:
    """As if everybody had proved who they are long ago."""
    uow.connection.execute(tables.session.update().values(proved_at=uow.now - timedelta(hours=1)))


def test_an_old_sign_in_at_the_provider_signs_nothing_until_it_is_fresh(strict: Strict) -> None:
    browser = Browser(strict.department.http)
    enter(strict, browser)
    accession, editor = strict.draft(browser)
    with closing(Application(strict.department.home)) as inside:
        inside.store.run(forget_proofs, None, system_actor("tests"))
    assert strict.sign(browser, editor) == 400
    assert "final" not in strict.status(accession)
    enter(strict, browser, f"?again=1&next={editor}")
    assert strict.sign(browser, editor) == 303
    assert strict.status(accession) == ["final"]
