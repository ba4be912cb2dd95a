"""Signing in at a real OpenID provider: groups become roles, accounts are found or made, and nothing else gets in."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from fixtures.department import Department, eventually, new_department
from fixtures.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, openid_provider
from fixtures.ports import free_ports

pytestmark = pytest.mark.xdist_group("oidc")

NAME = "campus"
HOME = "/auth/sessions"  # a page of whoever is signed in
PEOPLE: dict[str, dict[str, Any]] = {
    "s-ada": {"preferred_username": "ada", "name": "Lovelace, Ada", "groups": ["staff", "readers"], "staff_id": "R815"},
    "s-guest": {"preferred_username": "guest", "name": "Guest", "groups": ["visitors"]},
    "s-eve": {"preferred_username": "admin", "name": "Eve", "groups": ["readers"]},
    "s-joan": {"preferred_username": "joan", "name": "Clarke, Joan", "groups": ["readers"]},
    "s-max": {"preferred_username": "max", "name": "Max", "groups": ["technicians"]},
}
SETTINGS = """
[[security.oidc]]
name = "{name}"
label = "Campus login"
issuer = "{issuer}"
client_id = "{client_id}"
client_secret_file = "oidc-secret"
create = {create}
link_by_name = {link}
identifier_claim = "staff_id"
identifier_authority = "GENHOSP"
[security.oidc.roles]
readers = "radiologist"
technicians = "technologist"
"""


@dataclass
class Campus:
    """A Hilum and the provider that it trusts."""

    hilum: Department
    provider: OpenIdProvider
    plain: str

    def configure(self, **changes: str) -> None:
        facts = {
            "name": NAME,
            "issuer": self.provider.issuer,
            "client_id": CLIENT_ID,
            "create": "true",
            "link": "false",
        }
        (self.hilum.home / "hilum.toml").write_text(self.plain + SETTINGS.format(**facts | changes))

    def begin(self, browser: requests.Session, query: str = "") -> str:
        return f"{self.hilum.http}/auth/oidc/{NAME}{query}"

    def callback(self, who: str, browser: requests.Session | None = None, query: str = "") -> str:
        """The address at which the provider sends a person back to us."""
        browser = browser or requests.Session()
        return self.provider.log_in(browser, self.begin(browser, query), who).headers["location"]

    def enter(self, who: str, query: str = "") -> tuple[requests.Session, requests.Response]:
        browser = requests.Session()
        return browser, browser.get(self.callback(who, browser, query), allow_redirects=False, timeout=30)


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campus]:
    own = new_department(tmp_path_factory.mktemp("campus"))
    (port,) = free_ports(1)
    with openid_provider(f"http://127.0.0.1:{port}", own.http, PEOPLE, NAME) as provider:
        built = Campus(own, provider, (own.home / "hilum.toml").read_text())
        (own.home / "oidc-secret").write_text(CLIENT_SECRET + "\n")
        built.configure()
        own.start()
        yield built
        own.stop()
        own.ehr.close()


def accounts(campus: Campus) -> dict[str, list[str]]:
    return {line.split("\t")[0]: line.split("\t")[1:] for line in campus.hilum.cli("user", "list").splitlines()}


def audited(campus: Campus) -> str:
    return campus.hilum.cli("audit", "export")


def test_the_login_page_offers_the_provider(campus: Campus) -> None:
    page = requests.get(f"{campus.hilum.http}/auth/login?next=/exceptions", timeout=30).text
    assert f'href="/auth/oidc/{NAME}?next=%2Fexceptions"' in page
    assert "Sign in with Campus login" in page


def test_the_browser_is_sent_with_state_nonce_and_a_hashed_verifier(campus: Campus) -> None:
    answer = requests.get(campus.begin(requests.Session()), allow_redirects=False, timeout=30)
    said = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    assert (answer.status_code, said["response_type"], said["code_challenge_method"]) == (303, "code", "S256")
    assert len(said["state"]) >= 32 and len(said["nonce"]) >= 32 and len(said["code_challenge"]) == 43
    kept = answer.headers["set-cookie"].lower()
    assert "httponly" in kept and "samesite=lax" in kept and "path=/auth/oidc" in kept


def test_someone_of_a_known_group_gets_an_account_of_its_role_and_a_session(campus: Campus) -> None:
    browser, answer = campus.enter("s-ada", "?next=/exceptions")
    assert (answer.status_code, answer.headers["location"]) == (303, "/exceptions")
    page = browser.get(campus.hilum.http + HOME, timeout=30)
    assert page.status_code == 200 and "Lovelace, Ada" in page.text
    assert accounts(campus)["ada"] == ["radiologist", "active", "R815^GENHOSP"]
    assert '"reason":"provider campus"' in audited(campus)
    assert campus.hilum.cli("user", "sessions", "ada").splitlines()[0].endswith(f"\t{NAME}")


def test_someone_without_a_known_group_gets_nothing(campus: Campus) -> None:
    browser, answer = campus.enter("s-guest")
    assert answer.status_code == 403 and "None of your groups has a role here" in answer.text
    assert "guest" not in accounts(campus)
    assert browser.get(campus.hilum.http + HOME, allow_redirects=False, timeout=30).status_code in (303, 401)


def test_a_name_at_the_provider_does_not_take_over_an_account_here(campus: Campus) -> None:
    _, answer = campus.enter("s-eve")
    assert answer.status_code == 403 and "not tied to your sign-in" in answer.text
    assert accounts(campus)["admin"][0] == "admin"


def test_an_administrator_ties_an_account_to_a_subject(campus: Campus) -> None:
    campus.hilum.add_user("clarke", "radiologist")
    campus.hilum.cli("user", "link", "clarke", "--provider", NAME, "--subject", "s-joan")
    browser, answer = campus.enter("s-joan")
    assert answer.status_code == 303
    assert "Clarke, Joan" in browser.get(campus.hilum.http + HOME, timeout=30).text
    assert "joan" not in accounts(campus)
    campus.hilum.cli("user", "link", "clarke", "--provider", NAME, "--subject", "s-joan", code=1)


def test_a_shut_account_stays_shut(campus: Campus) -> None:
    campus.enter("s-max")
    campus.hilum.cli("user", "disable", "max")
    _, answer = campus.enter("s-max")
    assert answer.status_code == 403 and "shut" in answer.text


def test_another_group_is_another_role_and_ends_the_sessions_of_the_old_one(campus: Campus) -> None:
    old, _ = campus.enter("s-ada")
    campus.provider.tell(people={**PEOPLE, "s-ada": {**PEOPLE["s-ada"], "groups": ["technicians"]}})
    try:
        new, _ = campus.enter("s-ada")
        assert accounts(campus)["ada"][0] == "technologist"
        assert old.get(campus.hilum.http + HOME, allow_redirects=False, timeout=30).status_code == 401
        assert new.get(campus.hilum.http + HOME, timeout=30).status_code == 200
    finally:
        campus.provider.tell(people=PEOPLE)


def test_without_creation_only_known_people_get_in(campus: Campus) -> None:
    people = {**PEOPLE, "s-new": {"preferred_username": "newcomer", "name": "New", "groups": ["readers"]}}
    campus.provider.tell(people=people)
    campus.configure(create="false")
    time.sleep(1.2)  # a changed file is seen within a second
    try:
        _, answer = campus.enter("s-new")
        assert answer.status_code == 403 and "no account here for you" in answer.text
        assert "newcomer" not in accounts(campus)
        assert campus.enter("s-ada")[1].status_code == 303
        campus.configure()
        time.sleep(1.2)
        assert campus.enter("s-new")[1].status_code == 303
        assert "newcomer" in accounts(campus)
    finally:
        campus.configure()
        campus.provider.tell(people=PEOPLE)


def test_an_account_is_tied_by_its_name_only_where_the_settings_say_so(campus: Campus) -> None:
    campus.hilum.add_user("hopper", "radiologist")
    campus.provider.tell(
        people={**PEOPLE, "s-grace": {"preferred_username": "hopper", "name": "Hopper, Grace", "groups": ["readers"]}}
    )
    try:
        assert campus.enter("s-grace")[1].status_code == 403
        campus.configure(link="true")
        time.sleep(1.2)
        assert campus.enter("s-grace")[1].status_code == 303
    finally:
        campus.configure()
        campus.provider.tell(people=PEOPLE)


def test_an_answer_in_another_browser_is_worth_nothing(campus: Campus) -> None:
    stolen = campus.callback("s-ada")
    assert requests.get(stolen, allow_redirects=False, timeout=30).status_code == 403
    victim = requests.Session()
    victim.get(campus.begin(victim), allow_redirects=False, timeout=30)
    answer = victim.get(stolen, allow_redirects=False, timeout=30)
    assert answer.status_code == 403 and "was not begun here" in answer.text
    assert "hilum_session" not in victim.cookies


def test_an_answer_is_good_once(campus: Campus) -> None:
    browser = requests.Session()
    address = campus.callback("s-ada", browser)
    kept = browser.cookies.get_dict()["hilum_oidc"]
    assert browser.get(address, allow_redirects=False, timeout=30).status_code == 303
    again = requests.get(address, cookies={"hilum_oidc": kept}, allow_redirects=False, timeout=30)
    assert again.status_code == 403 and "hilum_session" not in again.cookies


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", "x"), ("code", "x"), ("code", ""), ("iss", "http://127.0.0.1:1"), ("error", "access_denied")],
)
def test_a_changed_answer_is_refused(campus: Campus, name: str, value: str) -> None:
    browser = requests.Session()
    parts = urlsplit(campus.callback("s-ada", browser))
    query = {key: values[0] for key, values in parse_qs(parts.query).items()} | {name: value}
    answer = browser.get(parts._replace(query="").geturl(), params=query, allow_redirects=False, timeout=30)
    assert answer.status_code == 403
    assert "hilum_session" not in browser.cookies


def test_a_forged_cookie_is_refused_and_is_no_defect(campus: Campus) -> None:
    address = campus.callback("s-ada")
    for forged in ("x", "x.y", "W10=." + "0" * 64, "ä.ö"):
        answer = requests.get(
            address, headers={"cookie": f"hilum_oidc={forged}".encode()}, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 403, forged


def test_new_keys_of_the_provider_are_fetched_and_the_old_ones_forgotten(campus: Campus) -> None:
    assert campus.enter("s-ada")[1].status_code == 303
    campus.provider.tell(rotate=True)
    eventually(lambda: campus.enter("s-ada")[1].status_code == 303, "a token under the new key is taken", 15)


def test_signing_out_leads_to_the_end_of_the_session_there(campus: Campus) -> None:
    browser, _ = campus.enter("s-ada")
    page = browser.get(campus.hilum.http + "/auth/sessions", timeout=30).text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]
    answer = browser.post(
        campus.hilum.http + "/auth/logout", data={"csrf_token": token}, allow_redirects=False, timeout=10
    )
    assert answer.headers["location"] == f"/auth/login?ended={NAME}"
    assert f"/auth/oidc/{NAME}/end" in browser.get(campus.hilum.http + answer.headers["location"], timeout=30).text
    end = browser.get(f"{campus.hilum.http}/auth/oidc/{NAME}/end", allow_redirects=False, timeout=30)
    target = urlsplit(end.headers["location"])
    assert f"{target.scheme}://{target.netloc}" == campus.provider.issuer
    assert parse_qs(target.query)["post_logout_redirect_uri"] == [campus.hilum.http + "/auth/login"]
    assert browser.get(end.headers["location"], timeout=30).status_code == 200
    assert browser.get(campus.hilum.http + HOME, allow_redirects=False, timeout=30).status_code == 401


def test_an_unknown_provider_is_not_here(campus: Campus) -> None:
    for path in ("other", "other/callback", "other/end"):
        assert requests.get(f"{campus.hilum.http}/auth/oidc/{path}", timeout=30).status_code == 404


def test_a_way_back_leads_nowhere_else(campus: Campus) -> None:
    _, answer = campus.enter("s-ada", "?next=https://elsewhere.example/")
    assert answer.headers["location"] == "/"
