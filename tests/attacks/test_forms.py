"""Forms and sessions: what another site, an older page or a guesser can do with them."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest
import requests
from besieged import PASSWORD, Besieged, csrf_of, sign_in

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]


def report_start(target: Besieged) -> str:
    person = target.person("forms")
    (found,) = [line for line in person.get("/?status=all").text.split('"') if line.startswith("/orders/")][:1]
    return found.partition("?")[0] + "/report/start"


@pytest.mark.parametrize("token", ["", "0" * 64, "é" * 64, "\x00", "a" * 5000])
def test_a_form_without_the_pages_token_changes_nothing(target: Besieged, token: str) -> None:
    person = target.person("forms")
    path = report_start(target)
    answer = person.post(path, {"csrf_token": token, "kind": "report"})
    assert answer.status_code in (400, 401)
    assert person.session.post(target.http + path, json={"kind": "report"}, timeout=30).status_code == 401
    assert (
        person.session.post(
            target.http + path, data="kind=report", timeout=30, headers={"Content-Type": "text/plain"}
        ).status_code
        == 401
    )
    assert (
        person.session.post(target.http + path, files={"csrf_token": (None, person.csrf)}, timeout=30).status_code
        == 401
    )


def test_the_token_of_another_session_is_refused(target: Besieged) -> None:
    other = target.person("forms-other", "technologist")
    answer = target.person("forms").post(report_start(target), {"csrf_token": other.csrf})
    assert answer.status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site", "evil"])
def test_a_form_from_another_site_is_refused_even_with_the_token(target: Besieged, site: str) -> None:
    answer = target.person("forms").post(report_start(target), {}, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 401


def test_a_form_of_endless_fields_is_refused(target: Besieged) -> None:
    person = target.person("forms")
    path = report_start(target)
    for body in ("a=b&" * 100_000, "&" * 1_000_000, "a=" + "b" * 20_000_000, "%zz" * 1000, "=" * 10_000):
        answer = person.session.post(
            target.http + path, data=body, timeout=30, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code in (400, 401, 413)
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nv\r\n' for n in range(5000))
    answer = person.session.post(
        target.http + path,
        data=parts + "--x--\r\n",
        timeout=30,
        headers={"Content-Type": "multipart/form-data; boundary=x", "X-CSRF-Token": person.csrf},
    )
    assert answer.status_code == 400
    files = b'--x\r\nContent-Disposition: form-data; name="f"; filename="../../x"\r\n\r\nv\r\n--x--\r\n'
    answer = person.session.post(
        target.http + path,
        data=files,
        timeout=30,
        headers={"Content-Type": "multipart/form-data; boundary=x", "X-CSRF-Token": person.csrf},
    )
    assert answer.status_code == 400


def test_a_stranger_sends_a_small_form_only(target: Besieged) -> None:
    for body in ("user_name=" + "a" * 15_000_000, "a=b&" * 1_000_000):
        answer = requests.post(
            f"{target.http}/auth/login",
            data=body,
            timeout=30,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 413
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nv\r\n' for n in range(1100))
    for kind in (
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "multipart/form-data; boundary=" + "y" * 500,
        "application/x-www-form-urlencoded; charset=utf-7",
        "multipart/form-data; boundary=\xe9",
    ):
        answer = requests.post(
            f"{target.http}/auth/login",
            data=parts + "--x--",
            timeout=30,
            headers={"Content-Type": kind.encode("latin-1")},
        )
        assert answer.status_code in (400, 401, 413), kind


def test_signing_in_makes_a_new_session_and_out_ends_it(target: Besieged) -> None:
    target.person("forms")
    session = requests.Session()
    session.cookies.set("hilum_session", "fixed-by-the-attacker")
    session.cookies.set("hilum_login", "known-to-the-attacker")
    page = session.get(f"{target.http}/auth/login", timeout=30)
    answer = session.post(
        f"{target.http}/auth/login",
        timeout=30,
        allow_redirects=False,
        data={"csrf_token": csrf_of(page.text), "user_name": "forms", "password": PASSWORD},
    )
    assert answer.status_code == 303
    given = answer.headers["set-cookie"]
    assert "fixed-by-the-attacker" not in given
    assert "HttpOnly" in given
    assert "SameSite=" in given
    fixed = requests.get(target.http + "/worklist/rows", cookies={"hilum_session": "fixed-by-the-attacker"}, timeout=30)
    assert fixed.status_code == 401
    person = sign_in(target.http, "forms")
    assert person.get("/worklist/rows").status_code in (200, 204)
    held = dict(person.session.cookies)
    assert person.post("/auth/logout", {}).status_code == 303
    again = requests.get(target.http + "/worklist/rows", cookies=held, timeout=30)
    assert again.status_code == 401


def test_a_login_form_without_its_browser_is_refused(target: Besieged) -> None:
    target.person("forms")
    page = requests.get(f"{target.http}/auth/login", timeout=30)
    form = {"csrf_token": csrf_of(page.text), "user_name": "forms", "password": PASSWORD}
    replayed = requests.post(f"{target.http}/auth/login", data=form, timeout=30, allow_redirects=False)
    assert replayed.status_code == 401
    other = requests.get(f"{target.http}/auth/login", timeout=30).cookies
    replayed = requests.post(f"{target.http}/auth/login", data=form, cookies=other, timeout=30, allow_redirects=False)
    assert replayed.status_code == 401
    for odd in ("", "é", "\x00", "a" * 3000):
        answer = requests.post(
            f"{target.http}/auth/login", data={**form, "csrf_token": odd}, cookies=page.cookies, timeout=10
        )
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "///evil.example",
        "javascript:alert(1)",
        "http:evil.example",
        "//[",
        "/%0d%0aSet-Cookie:%20a=b",
        "/\r\nSet-Cookie: a=b",
        "data:text/html,x",
        "/" + "a" * 5000,
        "/@evil.example",
        ".evil.example",
        " //evil.example",
        "/é",
        "/\x00",
    ],
)
def test_after_the_login_one_stays_here(target: Besieged, elsewhere: str) -> None:
    target.person("forms")
    session = requests.Session()
    page = session.get(f"{target.http}/auth/login", params={"next": elsewhere.replace("\x00", "")}, timeout=30)
    assert page.status_code == 200
    answer = session.post(
        f"{target.http}/auth/login",
        timeout=30,
        allow_redirects=False,
        data={"csrf_token": csrf_of(page.text), "user_name": "forms", "password": PASSWORD, "next": elsewhere},
    )
    assert answer.status_code == 303
    where = answer.headers["location"]
    assert where.startswith("/")
    assert not where.startswith(("//", "/\\"))
    assert urlsplit(where).netloc == ""
    assert "\r" not in where
    assert "\n" not in where
    assert "a" not in answer.cookies


def refused(target: Besieged, name: str, password: str = "wrong horse staple 1") -> tuple[float, str]:
    session = requests.Session()
    token = csrf_of(session.get(f"{target.http}/auth/login", timeout=30).text)
    started = time.perf_counter()
    answer = session.post(
        f"{target.http}/auth/login",
        timeout=30,
        data={"csrf_token": token, "user_name": name, "password": password},
    )
    took = time.perf_counter() - started
    assert answer.status_code == 403
    return took, answer.text.replace(name, "").replace(token, "")


def test_unknown_names_and_wrong_passwords_look_and_last_alike(target: Besieged) -> None:
    for number in range(3):
        target.department.add_user(f"guessed-{number}", "radiologist", password=PASSWORD)
    # In turns and by the quickest, so that what else the machine does falls on both alike.
    both = [(refused(target, f"guessed-{number % 3}"), refused(target, f"nobody-{number}")) for number in range(6)]
    known, unknown = zip(*both, strict=True)
    assert {text for _, text in known} == {text for _, text in unknown}
    quick, slow = sorted(min(took for took, _ in group) for group in (known, unknown))
    assert slow < 3 * quick, "an unknown name is told by the time that its refusal takes"


def test_a_lock_out_tells_nothing_about_accounts(target: Besieged) -> None:
    target.department.add_user("locked", "radiologist", password=PASSWORD)
    known = [refused(target, "locked")[1] for _ in range(8)]
    unknown = [refused(target, "never-there")[1] for _ in range(8)]
    assert ["wait" in text.lower() for text in known] == ["wait" in text.lower() for text in unknown]


@pytest.mark.parametrize(
    "name", ["' OR 1=1 --", "%", "_", "\\", "admin'/*", "\x00", "a" * 10_000, "é\u202eadmin", "${7*7}", "*", "\r\nX: y"]
)
def test_no_name_opens_the_door(either: Besieged, name: str) -> None:
    session = requests.Session()
    token = csrf_of(session.get(f"{either.http}/auth/login", timeout=30).text)
    for password in ("' OR '1'='1", "", "\x00", "x" * 20_000):
        answer = session.post(
            f"{either.http}/auth/login",
            timeout=30,
            allow_redirects=False,
            data={"csrf_token": token, "user_name": name, "password": password},
        )
        assert answer.status_code == 403
        assert "hilum_session" not in answer.cookies


def test_no_other_origin_reads_what_is_served(target: Besieged) -> None:
    person = target.person("forms")
    for path in ("/", "/viewer/app-config.js", "/fhir/Patient", "/dicom-web/studies", "/openapi.json", "/auth/login"):
        for origin in ("https://evil.example", "null"):
            answer = person.get(path, headers={"Origin": origin}, allow_redirects=False)
            assert "access-control-allow-origin" not in answer.headers, path
            assert answer.headers["cross-origin-resource-policy"] == "same-origin", path
            asked = person.session.options(
                target.http + path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}, timeout=10
            )
            assert "access-control-allow-origin" not in asked.headers, path
