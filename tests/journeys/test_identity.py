"""Who is let in at a running server: by the login form, by a session, as a program, and on an association."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from fixtures.browser import Browser
from fixtures.department import Department, Patient, accepted, eventually, next_numbers
from hilum.app import Application
from hilum.core.actor import Role, system_actor
from hilum.security.passwords import hash_password
from hilum.security.tokens import issue
from hilum.serve.identity import identifier_from_text
from hilum.workflow.accounts import AddUser, add_user
from hilum.workflow.clients import AddClient, add_client

pytestmark = pytest.mark.xdist_group("department")

PASSWORD = "correct horse staple 9"
HASH = hash_password(PASSWORD)
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def someone(department: Department, role: str = "radiologist", identifier: str = "") -> str:
    """A new account with a token; its name. Made by the verb itself, which is quicker than three commands."""
    name = f"user-{uuid.uuid4().hex[:10]}"
    with closing(Application(department.home)) as inside:
        account = AddUser(name, Role(role), HASH, (identifier_from_text(identifier),) if identifier else ())
        inside.store.run(add_user, account, system_actor("tests"))
        department.tokens[name] = issue(
            inside.keyring, subject=name, role=role, kind="user", minutes=60, now=inside.store.clock()
        )
    return name


def trail(department: Department) -> list[dict[str, Any]]:
    return [json.loads(line) for line in department.cli("audit", "export").splitlines()]


# The login form


def test_a_login_gives_a_session_that_scripts_and_other_sites_cannot_use(department: Department) -> None:
    browser = Browser(department.http)
    answer = browser.sign_in(someone(department), PASSWORD)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303 and browser.is_in
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie and "Domain" not in cookie
    foreign = browser.post("/auth/logout", headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 401 and browser.is_in
    assert browser.post("/auth/logout").status_code == 401 and browser.is_in


def test_a_session_planted_before_the_login_is_worth_nothing_after_it(department: Department) -> None:
    name = someone(department)
    attacker, victim = Browser(department.http), Browser(department.http)
    attacker.sign_in(someone(department), PASSWORD)
    for planted in ("f" * 43, attacker.cookies["hilum_session"]):
        victim.cookies.clear()
        victim.cookies.set("hilum_session", planted)
        outside = Browser(department.http)
        token = outside.form_token("/auth/login")
        victim.cookies.set("hilum_login", outside.cookies["hilum_login"])
        form = {"csrf_token": token, "user_name": name, "password": PASSWORD}
        given = {"cookie": f"hilum_session={planted}; hilum_login={outside.cookies['hilum_login']}"}
        answer = requests.post(
            department.http + "/auth/login", data=form, headers=given, allow_redirects=False, timeout=30
        )
        fresh = answer.cookies.get("hilum_session")
        if answer.status_code == 303:
            assert fresh and fresh != planted
        thief = Browser(department.http)
        thief.cookies.set("hilum_session", planted)
        assert name not in thief.get("/auth/sessions").text


def test_sessions_are_listed_and_ended_on_their_page(department: Department) -> None:
    name = someone(department)
    here, there = Browser(department.http), Browser(department.http, "127.0.0.3")
    here.sign_in(name, PASSWORD)
    there.sign_in(name, PASSWORD)
    page = here.get("/auth/sessions").text
    assert "127.0.0.3" in page and "Sign out here" in page
    chosen = next(each for each in re.findall(r'name="session" value="(\w+)">.*?>(.*?)<', page) if each[1] == "End")[0]
    assert here.submit("/auth/sessions", "/auth/sessions", user=name, session=chosen).status_code == 303
    assert here.is_in and not there.is_in
    there.sign_in(name, PASSWORD)
    here.submit("/auth/sessions", "/auth/sessions", user=name)
    assert here.is_in and not there.is_in


def test_sessions_of_others_are_neither_shown_nor_ended(department: Department) -> None:
    victim_name, other_name = someone(department), someone(department)
    victim, other = Browser(department.http), Browser(department.http)
    victim.sign_in(victim_name, PASSWORD)
    other.sign_in(other_name, PASSWORD)
    assert other.get(f"/auth/sessions?user={victim_name}").status_code == 403
    page = victim.get("/auth/sessions").text
    session = re.search(r'name="session" value="(\w+)"', page)[1]
    for fields in ({"user": victim_name, "session": session}, {"user": victim_name}, {"session": session}):
        assert other.submit("/auth/sessions", "/auth/sessions", **fields).status_code in (403, 404)
    assert victim.is_in
    chief = Browser(department.http)
    chief.sign_in(someone(department, "admin"), PASSWORD)
    assert session in chief.get(f"/auth/sessions?user={victim_name}").text
    assert chief.submit("/auth/sessions", "/auth/sessions", user=victim_name).status_code == 303
    assert not victim.is_in


def test_sessions_are_listed_and_ended_on_the_command_line(department: Department) -> None:
    name = someone(department)
    browser, second = Browser(department.http), Browser(department.http)
    browser.sign_in(name, PASSWORD)
    second.sign_in(name, PASSWORD)
    lines = department.cli("user", "sessions", name).splitlines()
    assert len(lines) == 2 and all(line.endswith("127.0.0.1\tpassword") for line in lines)
    department.cli("user", "revoke", name, "--session", lines[0].split("\t")[0])
    assert [browser.is_in, second.is_in].count(True) == 1
    assert department.cli("user", "revoke", name) == "1 session ended\n"
    assert not browser.is_in and not second.is_in
    department.cli("user", "revoke", name, "--session", lines[0].split("\t")[0], code=1)
    department.cli("user", "sessions", "nobody-of-this-name", code=1)


def test_another_role_ends_the_session_and_the_token_has_it_at_once(department: Department) -> None:
    name = someone(department, "admin")
    browser = Browser(department.http)
    browser.sign_in(name, PASSWORD)
    department.cli("user", "role", name, "--role", "auditor")
    assert not browser.is_in
    eventually(lambda: department.get("/fhir/Patient", name, status=None).status_code == 403, "the role is known", 8)


def test_guessing_becomes_slow_and_the_wait_says_nothing_about_accounts(department: Department) -> None:
    known, unknown = someone(department), f"nobody-{uuid.uuid4().hex[:8]}"
    said = {}
    for name in (known, unknown):
        guesser = Browser(department.http, "127.0.0.66")
        answers = [guesser.sign_in(name, f"wrong password {number}") for number in range(6)]
        said[name] = [answer.status_code for answer in answers], ["Wait" in answer.text for answer in answers]
    assert said[known] == said[unknown] == ([403] * 6, [False] * 5 + [True])
    assert "Wait" in Browser(department.http, "127.0.0.66").sign_in(known, PASSWORD).text


def test_a_guesser_keeps_out_neither_the_person_nor_the_ward(department: Department) -> None:
    name, colleague = someone(department), someone(department)
    guesser = Browser(department.http, "127.0.0.67")
    for number in range(6):
        guesser.sign_in(name, f"wrong password {number}")
    at_work, same_desk = Browser(department.http), Browser(department.http, "127.0.0.67")
    assert at_work.sign_in(name, PASSWORD).status_code == 303
    assert same_desk.sign_in(colleague, PASSWORD).status_code == 303
    refused = [row for row in trail(department) if row["actor"] == name and row["outcome"] == "refused"]
    assert len(refused) == 5 and {row["address"] for row in refused} == {"127.0.0.67"}


def test_an_administrator_helps_someone_who_forgot(department: Department) -> None:
    name = someone(department)
    made = department.cli("user", "password", name).split()[-1]
    browser = Browser(department.http)
    assert browser.sign_in(name, PASSWORD).status_code == 403
    assert browser.sign_in(name, made).status_code == 303
    assert browser.get("/").headers["location"] == "/auth/password"


# Programs


class Program:
    """A client with a key of its own."""

    def __init__(self, department: Department, role: str = "service", key: Any = None) -> None:
        self.department = department
        self.name = f"engine-{uuid.uuid4().hex[:8]}"
        self.key = key or ECKey.generate_key("P-384", {"kid": "k1"})
        jwks = {"keys": [self.key.as_dict(private=False)]}
        with closing(Application(department.home)) as inside:
            inside.store.run(add_client, AddClient(self.name, Role(role), jwks), system_actor("tests"))

    def assertion(self, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.name, "sub": self.name, "aud": self.department.http + "/auth/token", "iat": now,
            "exp": now + 120, "jti": uuid.uuid4().hex,
        }  # fmt: skip
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        alg = "RS384" if isinstance(self.key, RSAKey) else "ES384"
        head = {"alg": alg, "kid": "k1"} | (header or {})
        return jwt.encode(head, claims, key or self.key, algorithms=[head["alg"]])

    def ask(self, path: str = "/auth/token", assertion: str | None = None, **fields: str) -> requests.Response:
        form = {"client_assertion_type": JWT_BEARER, "client_assertion": assertion or self.assertion(), **fields}
        if path == "/auth/token":
            form = {"grant_type": "client_credentials"} | form
        return requests.post(self.department.http + path, data=form, timeout=30)

    def token(self) -> str:
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture
def program(department: Department) -> Program:
    return Program(department)


def fhir(department: Department, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{department.http}/fhir/Patient", headers=headers, timeout=30).status_code


def test_a_program_gets_a_short_token_by_its_own_key(department: Department, program: Program) -> None:
    answer = program.ask()
    said = answer.json()
    assert (answer.status_code, said["token_type"], said["expires_in"]) == (200, "Bearer", 300)
    assert answer.headers["cache-control"] == "no-store"
    assert fhir(department, said["access_token"]) == 200
    assert any(row["actor"] == program.name and row["action"] == "issue-token" for row in trail(department))


def test_a_program_is_registered_with_its_public_keys(department: Department, tmp_path: Path) -> None:
    program = Program(department)
    program.name = f"cli-{program.name}"
    assert program.ask().status_code == 401
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [program.key.as_dict(private=False)]}))
    department.cli("client", "add", program.name, "--role", "service", "--jwks", str(file))
    assert fhir(department, program.token()) == 200


def test_a_program_with_an_rsa_key_as_smart_backend_services_has_it(department: Department) -> None:
    program = Program(department, key=RSAKey.generate_key(2048, {"kid": "k1"}))
    assert fhir(department, program.token()) == 200


def test_a_program_may_do_what_its_role_may_and_is_no_person(department: Department) -> None:
    auditor = Program(department, "auditor")
    assert fhir(department, auditor.token()) == 403
    reader = Program(department, "radiologist")
    headers = {"Authorization": f"Bearer {reader.token()}"}
    answer = requests.post(f"{department.http}/orders/x/report/start", headers=headers, data={}, timeout=30)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example/token"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": 2**33},
        {"iat": 2**33},
        {"nbf": 2**33},
        {"jti": None},
        {"jti": ""},
        {"sub": "another"},
        {"iss": "nobody-of-this-name", "sub": "nobody-of-this-name"},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()),
)
def test_a_wrong_statement_gets_no_token(program: Program, changes: dict[str, Any]) -> None:
    answer = program.ask(assertion=program.assertion(**changes))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_a_statement_is_good_once(program: Program) -> None:
    assertion = program.assertion()
    assert program.ask(assertion=assertion).status_code == 200
    answer = program.ask(assertion=assertion)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_statements_under_other_keys_and_algorithms_are_refused(program: Program, department: Department) -> None:
    stranger = ECKey.generate_key("P-384", {"kid": "k1"})
    payload = program.assertion().split(".")[1]
    for assertion in (
        program.assertion(key=stranger),
        program.assertion({"alg": "HS256"}, OctKey.import_key("s" * 64)),
        program.assertion({"kid": "k2"}),
        f"eyJhbGciOiJub25lIn0.{payload}.",
        department.token("service"),
        "x",
        "x" * 100_00,
    ):
        assert program.ask(assertion=assertion).status_code == 401


def test_what_is_no_request_for_a_token_is_said_so(program: Program) -> None:
    assert program.ask(grant_type="password").json()["error"] == "unsupported_grant_type"
    assert program.ask(scope="system/*.rs").json()["error"] == "invalid_scope"
    assert program.ask(client_id="another").json()["error"] == "invalid_client"
    assert program.ask(client_assertion_type="x").json()["error"] == "invalid_client"
    assert requests.get(program.department.http + "/auth/token", timeout=30).status_code == 405
    twice = [("grant_type", "client_credentials"), ("grant_type", "password")]
    answer = requests.post(program.department.http + "/auth/token", data=twice, timeout=30)
    assert answer.json()["error"] == "invalid_request"


def test_a_shut_program_gets_nothing_and_its_token_stops(department: Department, program: Program) -> None:
    token = program.token()
    assert fhir(department, token) == 200
    department.cli("client", "disable", program.name)
    assert program.ask().status_code == 401
    eventually(lambda: fhir(department, token) == 401, "the token stops")
    assert f"{program.name}\tservice\tdisabled\tk1" in department.cli("client", "list")


def test_private_weak_and_shared_keys_are_not_registered(department: Department, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for key in (
        ECKey.generate_key("P-256").as_dict(private=True),
        OctKey.generate_key(256).as_dict(private=True),
        RSAKey.generate_key(1024).as_dict(private=False),
        {"kty": "EC"},
    ):
        file.write_text(json.dumps({"keys": [key]}))
        department.cli("client", "add", "bad", "--role", "service", "--jwks", str(file), code=1)
    file.write_text("x")
    department.cli("client", "add", "bad", "--role", "service", "--jwks", str(file), code=1)


def test_a_program_changes_its_keys(department: Department, program: Program, tmp_path: Path) -> None:
    old, program.key = program.key, ECKey.generate_key("P-384", {"kid": "k1"})
    file = tmp_path / "new.json"
    file.write_text(json.dumps({"keys": [program.key.as_dict(private=False)]}))
    department.cli("client", "add", program.name, "--role", "service", "--jwks", str(file), code=1)
    assert program.ask().status_code == 401
    department.cli("client", "add", program.name, "--role", "service", "--jwks", str(file), "--replace")
    assert program.ask().status_code == 200
    assert program.ask(assertion=program.assertion(key=old)).status_code == 401


def test_a_token_is_asked_about_and_taken_back_by_its_holder(department: Department, program: Program) -> None:
    token = program.token()
    said = program.ask("/auth/introspect", token=token).json()
    assert (said["active"], said["client_id"], said["role"]) == (True, program.name, "service")
    other = Program(department)
    assert other.ask("/auth/introspect", token=token).json() == {"active": False}
    assert other.ask("/auth/revoke", token=token).json()["error"] == "unauthorized_client"
    assert fhir(department, token) == 200
    assert program.ask("/auth/revoke", token=token).status_code == 200
    assert program.ask("/auth/introspect", token=token).json() == {"active": False}
    eventually(lambda: fhir(department, token) == 401, "the token stops")
    assert program.ask("/auth/revoke", token="no token at all").status_code == 200


def test_strangers_and_cookies_ask_about_no_token(department: Department, program: Program) -> None:
    token = program.token()
    for path in ("/auth/introspect", "/auth/revoke"):
        assert requests.post(department.http + path, data={"token": token}, timeout=30).status_code == 401
    browser = Browser(department.http)
    browser.sign_in(someone(department, "admin"), PASSWORD)
    assert browser.submit("/auth/sessions", "/auth/introspect", token=token).status_code == 401
    assert fhir(department, token) == 200


def test_an_administrator_takes_any_token_back(department: Department, program: Program) -> None:
    token, admin = program.token(), someone(department, "admin")
    headers = {"Authorization": f"Bearer {department.token(admin)}"}
    said = requests.post(department.http + "/auth/introspect", data={"token": token}, headers=headers, timeout=30)
    assert said.json()["sub"] == program.name
    requests.post(department.http + "/auth/revoke", data={"token": token}, headers=headers, timeout=30)
    eventually(lambda: fhir(department, token) == 401, "the token stops")


# Associations


def identity(kind: int, primary: str, secondary: str = "", *, response: bool = True) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.positive_response_requested = response
    item.primary_field = primary.encode()
    if kind == 2:
        item.secondary_field = secondary.encode()
    return item


def associate(
    department: Department, item: UserIdentityNegotiation, sop_class: str = Verification, heard: Any = print
) -> Any:
    """Ask for an association; `heard` is handed the name of each PDU that comes."""
    ae = AE("CT01")
    ae.add_requested_context(sop_class)
    handlers = [(evt.EVT_PDU_RECV, lambda event: heard(type(event.pdu).__name__))]
    return ae.associate("127.0.0.1", department.dicom_port, ae_title="HILUM", ext_neg=[item], evt_handlers=handlers)


def lets_in(department: Department, item: UserIdentityNegotiation) -> bool:
    answers: list[str] = []
    association = associate(department, item, heard=answers.append)
    if not association.is_established:
        # Not `is_rejected`: where the answer comes at once, pynetdicom finds its own socket closed and says aborted.
        assert answers == ["A_ASSOCIATE_RJ"], "neither accepted nor rejected"
        return False
    responses = [each for each in association.acceptor.user_information if type(each).__name__.startswith("UserId")]
    assert bool(responses) == item.positive_response_requested
    assert association.send_c_echo().Status == 0
    association.release()
    return True


def test_a_user_is_let_in_by_name_and_passcode(department: Department) -> None:
    name = someone(department)
    assert lets_in(department, identity(2, name, PASSWORD))
    assert lets_in(department, identity(2, name, PASSWORD, response=False))
    assert any(row["actor"] == name and row["door"] == "dimse" for row in trail(department))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda name: identity(2, name, "wrong password 1"),
        lambda name: identity(2, f"not-{name}", PASSWORD),
        lambda name: identity(1, name),
        lambda name: identity(3, "a kerberos ticket"),
        lambda name: identity(4, "<saml/>"),
        lambda name: identity(5, "a.b.c"),
        lambda name: identity(2, "n" * 600, PASSWORD),
    ],
    ids=["wrong passcode", "unknown user", "name alone", "kerberos", "saml", "no token", "endless name"],
)
def test_a_user_who_proves_nothing_is_rejected(
    department: Department, wrong: Callable[[str], UserIdentityNegotiation]
) -> None:
    assert not lets_in(department, wrong(someone(department)))


def test_a_user_is_let_in_by_a_token_while_it_holds(department: Department, program: Program) -> None:
    name = someone(department)
    assert lets_in(department, identity(5, department.token(name)))
    assert lets_in(department, identity(5, program.token()))
    assert not lets_in(department, identity(5, department.token(name)[:-4] + "AAAA"))
    department.cli("user", "disable", name)
    eventually(lambda: not lets_in(department, identity(5, department.token(name))), "the token stops")
    assert not lets_in(department, identity(2, name, PASSWORD))


def test_a_one_time_password_opens_no_association(department: Department) -> None:
    name = someone(department)
    made = department.cli("user", "password", name).split()[-1]
    assert not lets_in(department, identity(2, name, made))


def test_guessing_on_associations_becomes_slow_too(department: Department) -> None:
    name = someone(department)
    for number in range(5):
        assert not lets_in(department, identity(2, name, f"wrong password {number}"))
    assert not lets_in(department, identity(2, name, PASSWORD))


def test_a_user_sees_on_an_association_what_the_same_person_sees_elsewhere(department: Department) -> None:
    numbers = next_numbers(2)
    mine, other = Patient(numbers[0], "Mine"), Patient(numbers[1], "Other")
    identifier = f"DOC{numbers[0]}"
    doctor = someone(department, "referring-physician", f"{identifier}^GENHOSP")
    uids = {}
    for patient in (mine, other):
        department.register(patient)
        placed = department.place(patient)
        department.perform(placed, images=1)
        uids[patient.number] = placed.study_uid
    order = department.order_message(mine, f"PX{mine.number}").replace("D77^House", f"{identifier}^House")
    assert accepted(department.send(order))

    def found(who: UserIdentityNegotiation) -> set[str]:
        from pydicom.dataset import Dataset

        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID, query.PatientID = "STUDY", "", ""
        association = associate(department, who, StudyRootQueryRetrieveInformationModelFind)
        answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        uids = {str(item.StudyInstanceUID) for status, item in answers if item is not None}
        association.release()
        return uids

    assert found(identity(2, doctor, PASSWORD)) == {uids[mine.number]}
    assert set(uids.values()) <= found(identity(2, someone(department), PASSWORD))
    assert found(identity(2, someone(department, "auditor"), PASSWORD)) == set()


def test_storescu_names_its_user(department: Department, tmp_path: Path) -> None:
    technologist, auditor = someone(department, "technologist"), someone(department, "auditor")
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)

    def send(name: str, password: str, number: int) -> int:
        file = tmp_path / f"{number}.dcm"
        department.image(placed, number).save_as(file, enforce_file_format=True)
        command = ["/usr/bin/storescu", "-aet", "CT01", "-aec", "HILUM", "-usr", name, "-pwd", password, "-rsp"]
        done = subprocess.run(
            [*command, "127.0.0.1", str(department.dicom_port), str(file)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode

    assert send(technologist, PASSWORD, 1) == 0
    assert send(technologist, "wrong password 1", 2) != 0
    assert send(auditor, PASSWORD, 3) != 0
    eventually(lambda: department.qido("/instances", StudyInstanceUID=placed.study_uid), "the image is found")
    assert len(department.qido("/instances", StudyInstanceUID=placed.study_uid)) == 1


# Keys


def test_a_new_signing_key_is_taken_at_once_and_old_tokens_hold(department: Department) -> None:
    name = someone(department)
    old = department.token(name)
    before = department.cli("keys", "list")
    department.cli("keys", "rotate", "token-signing")
    fresh = department.cli("token", "--user", name).strip()
    assert fhir(department, fresh) == 200 and fhir(department, old) == 200
    after = department.cli("keys", "list")
    assert after.count("token-signing") == before.count("token-signing") + 1
    assert lets_in(department, identity(5, fresh)) and lets_in(department, identity(5, old))
    browser = Browser(department.http)
    assert browser.sign_in(name, PASSWORD).status_code == 303


def test_a_new_audit_key_seals_what_follows_and_the_trail_stays_whole(department: Department) -> None:
    department.cli("keys", "rotate", "audit")
    current = next(line.split("\t")[1] for line in department.cli("keys", "list").splitlines() if "audit" in line
                   and line.endswith("current"))  # fmt: skip
    name = someone(department)

    def written() -> bool:
        Browser(department.http).sign_in(name, PASSWORD)
        return any(row["key_id"] == current and row["action"] == "sign-in" for row in trail(department))

    def sealed() -> bool:
        return json.loads((department.home / "seals" / "latest.json").read_bytes())["key_id"] == current

    eventually(written, "the server writes under the new key")
    eventually(sealed, "the sealer seals under it")
    assert department.cli("audit", "verify") == "no findings\n"
    rotated = [row for row in trail(department) if row["action"] == "rotate-key"]
    assert rotated and rotated[-1]["reason"] in ("audit", "token-signing")
