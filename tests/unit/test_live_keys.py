"""Keys that are replaced while processes run: seen within a second, never lost to a file that cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hilum.core.errors import NotAuthenticated
from hilum.security.keys import rotate
from hilum.security.live_keys import LiveKeyring
from hilum.security.tokens import TokenVerifier, issue

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


class Watch:
    """A monotonic clock that goes when it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def keys(tmp_path: Path, watch: Watch) -> LiveKeyring:
    return LiveKeyring(tmp_path, monotonic=watch)


def token(keys: object) -> str:
    return issue(keys, subject="ann", role="radiologist", kind="user", minutes=60, now=NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["token-signing", "audit"])
def test_a_new_key_is_in_force_within_a_second(keys: LiveKeyring, watch: Watch, tmp_path: Path, kind: str) -> None:
    before = keys.signing.kid, keys.audit.key_id
    rotate(tmp_path, kind)  # type: ignore[arg-type]
    assert (keys.signing.kid, keys.audit.key_id) == before
    watch.now += 1.0
    after = keys.signing.kid, keys.audit.key_id
    assert (after[0] != before[0], after[1] != before[1]) == (kind == "token-signing", kind == "audit")
    assert before[0] in keys.verification and before[1] in keys.audit_keys


def test_a_token_under_a_key_made_this_moment_is_taken_at_once(keys: LiveKeyring, tmp_path: Path) -> None:
    verifier = TokenVerifier(keys)
    fresh = token(rotate(tmp_path, "token-signing"))
    assert verifier.verify(fresh, NOW).subject == "ann"


def test_a_token_under_a_key_that_was_taken_away_is_refused_though_it_was_known(
    keys: LiveKeyring, watch: Watch, tmp_path: Path
) -> None:
    verifier, old = TokenVerifier(keys), token(keys)
    assert verifier.verify(old, NOW)
    rotate(tmp_path, "token-signing")
    watch.now += 1.0
    assert verifier.verify(old, NOW)
    (retired,) = (tmp_path / "keys").glob("token-signing-*.jwk")
    retired.unlink()
    watch.now += 1.0
    with pytest.raises(NotAuthenticated):
        verifier.verify(old, NOW)


def test_a_file_that_cannot_be_read_changes_nothing(keys: LiveKeyring, watch: Watch, tmp_path: Path) -> None:
    before, file = keys.audit, tmp_path / "keys" / "audit.jwk"
    content = file.read_bytes()
    file.write_bytes(b"{")
    watch.now += 1.0
    assert keys.audit == before
    file.write_bytes(content)
    rotate(tmp_path, "audit")
    watch.now += 1.0
    assert keys.audit != before


def test_unchanged_files_are_not_read_again(keys: LiveKeyring, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.security.live_keys.Keyring.open", lambda home: pytest.fail("read again"))
    for _ in range(5):
        watch.now += 1.0
        assert keys.audit.key_id
