"""PS3.8 9.2: the state table, against pynetdicom's and against its own enums."""

from __future__ import annotations

from pynetdicom.fsm import TRANSITION_TABLE

from hilum.dicom.upper_layer.association import _ACTIONS, _EVENT_OF
from hilum.dicom.upper_layer.pdu import PduType
from hilum.dicom.upper_layer.state import TRANSITIONS, Action, Event, State

REQUESTOR_ONLY = {State.STA4, State.STA5, State.STA9, State.STA11}
ISSUED_OR_IGNORED = {  # indications and confirmations are return values; these send nothing
    Action.AE_6, Action.DT_2, Action.AR_2,
    Action.AR_3, Action.AR_5, Action.AR_6, Action.AR_8, Action.AR_10, Action.AA_6,
}  # fmt: skip


def test_the_table_has_the_actions_of_pynetdicoms_table() -> None:
    ours = {
        (f"Evt{event.value}", f"Sta{state.value}"): action.name.replace("_", "-")
        for (event, state), (action, _) in TRANSITIONS.items()
    }
    assert ours == TRANSITION_TABLE


def test_every_pdu_has_a_transition_in_every_state_with_a_transport() -> None:
    assert set(_EVENT_OF) == set(PduType)
    wire = {*_EVENT_OF.values(), Event.INVALID_PDU_RECEIVED, Event.TRANSPORT_CLOSED}
    open_states = set(State) - {State.STA1, State.STA4}
    assert {(event, state) for event in wire for state in open_states} <= set(TRANSITIONS)


def test_every_action_the_acceptor_can_reach_is_performed_or_issues_something() -> None:
    reachable = {action for (_, state), (action, _) in TRANSITIONS.items() if state not in REQUESTOR_ONLY}
    requests = {Action.AE_1, Action.AR_7}  # never asked for by an acceptor that answers a release at once
    assert reachable - requests == set(_ACTIONS) | ISSUED_OR_IGNORED
    assert not set(_ACTIONS) & ISSUED_OR_IGNORED


def test_actions_are_distinct_members() -> None:
    assert len(Action.__members__) == len(list(Action)) == 28
