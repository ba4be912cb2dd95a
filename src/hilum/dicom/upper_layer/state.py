"""The upper layer state machine as data (PS3.8 9.2, table 9-10).

`TRANSITIONS[event, state]` is the action to take and the state that follows. Pairs that are missing cannot happen
and are refused with KeyError. The requestor's states are kept so that the table can be read beside the standard's.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class State(IntEnum):
    """PS3.8 tables 9-1 to 9-5."""

    STA1 = 1  # idle
    STA2 = 2  # transport open, awaiting A-ASSOCIATE-RQ
    STA3 = 3  # awaiting the local A-ASSOCIATE response
    STA4 = 4  # requestor: awaiting the transport
    STA5 = 5  # requestor: awaiting A-ASSOCIATE-AC or -RJ
    STA6 = 6  # established, data transfer
    STA7 = 7  # awaiting A-RELEASE-RP
    STA8 = 8  # awaiting the local A-RELEASE response
    STA9 = 9  # release collision, requestor: awaiting the local A-RELEASE response
    STA10 = 10  # release collision, acceptor: awaiting A-RELEASE-RP
    STA11 = 11  # release collision, requestor: awaiting A-RELEASE-RP
    STA12 = 12  # release collision, acceptor: awaiting the local A-RELEASE response
    STA13 = 13  # awaiting the transport's close


class Event(IntEnum):
    """PS3.8 table 9-10, first column."""

    A_ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRMED = 2
    A_ASSOCIATE_AC_RECEIVED = 3
    A_ASSOCIATE_RJ_RECEIVED = 4
    TRANSPORT_INDICATION = 5
    A_ASSOCIATE_RQ_RECEIVED = 6
    A_ASSOCIATE_ACCEPT = 7
    A_ASSOCIATE_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_TF_RECEIVED = 10
    A_RELEASE_REQUEST = 11
    A_RELEASE_RQ_RECEIVED = 12
    A_RELEASE_RP_RECEIVED = 13
    A_RELEASE_RESPONSE = 14
    A_ABORT_REQUEST = 15
    A_ABORT_RECEIVED = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU_RECEIVED = 19


class Action(Enum):
    """PS3.8 tables 9-6 to 9-9."""

    AE_1 = "issue TRANSPORT CONNECT request"
    AE_2 = "send A-ASSOCIATE-RQ"
    AE_3 = "issue A-ASSOCIATE confirmation (accept)"
    AE_4 = "issue A-ASSOCIATE confirmation (reject) and close transport"
    AE_5 = "issue TRANSPORT response, start ARTIM"
    AE_6 = "stop ARTIM; if acceptable issue A-ASSOCIATE indication, else send A-ASSOCIATE-RJ and start ARTIM"
    AE_7 = "send A-ASSOCIATE-AC"
    AE_8 = "send A-ASSOCIATE-RJ, start ARTIM"
    DT_1 = "send P-DATA-TF"
    DT_2 = "issue P-DATA indication"
    AR_1 = "send A-RELEASE-RQ"
    AR_2 = "issue A-RELEASE indication"
    AR_3 = "issue A-RELEASE confirmation, close transport"
    AR_4 = "send A-RELEASE-RP, start ARTIM"
    AR_5 = "stop ARTIM"
    AR_6 = "issue P-DATA indication while a release is pending"
    AR_7 = "send P-DATA-TF before the release is answered"
    AR_8 = "issue A-RELEASE indication (release collision)"
    AR_9 = "send A-RELEASE-RP"
    AR_10 = "issue A-RELEASE confirmation"
    AA_1 = "send A-ABORT (service user), start ARTIM"
    AA_2 = "stop ARTIM, close transport"
    AA_3 = "issue A-ABORT or A-P-ABORT indication, close transport"
    AA_4 = "issue A-P-ABORT indication"
    AA_5 = "stop ARTIM, there never was an association"
    AA_6 = "ignore PDU"
    AA_7 = "send A-ABORT"
    AA_8 = "send A-ABORT (service provider), issue A-P-ABORT indication, start ARTIM"


_OPEN = (State.STA3, State.STA5, State.STA6, State.STA7, State.STA8, State.STA9, State.STA10, State.STA11, State.STA12)
_Cell = tuple[Action, State]


def _everywhere(aborts_first: _Cell, aborts: _Cell, closing: _Cell) -> dict[State, _Cell]:
    """A row for something that no open state expects: what Sta2, the open states and Sta13 do with it."""
    return {State.STA2: aborts_first, **dict.fromkeys(_OPEN, aborts), State.STA13: closing}


def _unexpected(**expected: _Cell) -> dict[State, _Cell]:
    """A row for a PDU: AA-1 while awaiting an association, AA-8 where open, ignored while closing, but as given."""
    row = _everywhere((Action.AA_1, State.STA13), (Action.AA_8, State.STA13), (Action.AA_6, State.STA13))
    return row | {State[name.upper()]: cell for name, cell in expected.items()}


# AE-6 may also end in Sta13 (the provider rejects), AR-8 ends in Sta9 on the requestor's side and Sta10 on ours.
_ROWS: dict[Event, dict[State, _Cell]] = {
    Event.A_ASSOCIATE_REQUEST: {State.STA1: (Action.AE_1, State.STA4)},
    Event.TRANSPORT_CONFIRMED: {State.STA4: (Action.AE_2, State.STA5)},
    Event.A_ASSOCIATE_AC_RECEIVED: _unexpected(sta5=(Action.AE_3, State.STA6)),
    Event.A_ASSOCIATE_RJ_RECEIVED: _unexpected(sta5=(Action.AE_4, State.STA1)),
    Event.TRANSPORT_INDICATION: {State.STA1: (Action.AE_5, State.STA2)},
    Event.A_ASSOCIATE_RQ_RECEIVED: _unexpected(sta2=(Action.AE_6, State.STA3), sta13=(Action.AA_7, State.STA13)),
    Event.A_ASSOCIATE_ACCEPT: {State.STA3: (Action.AE_7, State.STA6)},
    Event.A_ASSOCIATE_REJECT: {State.STA3: (Action.AE_8, State.STA13)},
    Event.P_DATA_REQUEST: {State.STA6: (Action.DT_1, State.STA6), State.STA8: (Action.AR_7, State.STA8)},
    Event.P_DATA_TF_RECEIVED: _unexpected(sta6=(Action.DT_2, State.STA6), sta7=(Action.AR_6, State.STA7)),
    Event.A_RELEASE_REQUEST: {State.STA6: (Action.AR_1, State.STA7)},
    Event.A_RELEASE_RQ_RECEIVED: _unexpected(sta6=(Action.AR_2, State.STA8), sta7=(Action.AR_8, State.STA10)),
    Event.A_RELEASE_RP_RECEIVED: _unexpected(
        sta7=(Action.AR_3, State.STA1), sta10=(Action.AR_10, State.STA12), sta11=(Action.AR_3, State.STA1)
    ),
    Event.A_RELEASE_RESPONSE: {
        State.STA8: (Action.AR_4, State.STA13),
        State.STA9: (Action.AR_9, State.STA11),
        State.STA12: (Action.AR_4, State.STA13),
    },
    Event.A_ABORT_REQUEST: {
        State.STA4: (Action.AA_2, State.STA1),
        **dict.fromkeys(_OPEN, (Action.AA_1, State.STA13)),
    },
    Event.A_ABORT_RECEIVED: _everywhere(
        (Action.AA_2, State.STA1), (Action.AA_3, State.STA1), (Action.AA_2, State.STA1)
    ),
    Event.TRANSPORT_CLOSED: {
        State.STA4: (Action.AA_4, State.STA1),
        **_everywhere((Action.AA_5, State.STA1), (Action.AA_4, State.STA1), (Action.AR_5, State.STA1)),
    },
    Event.ARTIM_EXPIRED: {State.STA2: (Action.AA_2, State.STA1), State.STA13: (Action.AA_2, State.STA1)},
    Event.INVALID_PDU_RECEIVED: _everywhere(
        (Action.AA_1, State.STA13), (Action.AA_8, State.STA13), (Action.AA_7, State.STA13)
    ),
}

TRANSITIONS: dict[tuple[Event, State], _Cell] = {
    (event, state): cell for event, row in _ROWS.items() for state, cell in row.items()
}
