"""Where someone begins: the first page that their role may see."""

from __future__ import annotations

from hilum.core.actor import Actor
from hilum.security.policy import Action, decide
from hilum.web import urls

# A reader's worklist, a physician's own, and what an auditor is there for; the pages of one's own sessions are all's.
_BEGINNINGS = (
    (Action.READ_WORKLIST, urls.WORKLIST),
    (Action.READ_ORDER, urls.WORKLIST),
    (Action.READ_AUDIT, urls.AUDIT),
)


def home_of(actor: Actor) -> str:
    """Return the page to land on after a sign-in that was not asked for by another page."""
    return next((path for action, path in _BEGINNINGS if decide(actor, action).allowed), urls.SESSIONS)
