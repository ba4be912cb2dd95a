"""Requests for storage commitment are kept and found alike on both databases."""

from __future__ import annotations

from datetime import timedelta

from hilum.core.actor import system_actor
from hilum.storage.commitments import due_commitments, find_commitment, has_due_commitments
from hilum.storage.store import Store
from hilum.workflow.commitment import NoteAttempt, RequestCommitment, note_attempt, request_commitment

US = system_actor("test")
REFERENCES = (("1.2.840.10008.5.1.4.1.1.2", "1.2.3"), ("1.2.840.10008.5.1.4.1.1.4", "1.2.4"))


def test_a_request_is_due_until_its_peer_was_told(store: Store) -> None:
    now_due = RequestCommitment("CT01", "1.2.9", REFERENCES, timedelta())
    request_id = store.run(request_commitment, now_due, US)
    store.run(request_commitment, RequestCommitment("CT01", "1.2.10", REFERENCES, timedelta(hours=1)), US)
    assert store.run(request_commitment, now_due, US) == request_id
    with store.read() as connection:
        (due,) = due_commitments(connection, store.clock())
        assert (due.id, due.peer, due.transaction_uid, due.referenced) == (request_id, "CT01", "1.2.9", REFERENCES)
    assert store.run(note_attempt, NoteAttempt(request_id, told=False), US) == "waiting"
    with store.read() as connection:
        assert not has_due_commitments(connection, store.clock())
        assert has_due_commitments(connection, store.clock() + timedelta(seconds=6))
    assert store.run(note_attempt, NoteAttempt(request_id, told=True), US) == "reported"
    with store.read() as connection:
        assert find_commitment(connection, request_id) is None
        assert not has_due_commitments(connection, store.clock() + timedelta(seconds=6))
