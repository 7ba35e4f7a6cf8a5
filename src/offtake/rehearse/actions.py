"""Let the actions of a timeline happen to an engine.

Comes in: the engine between two events, and one action. Goes out: the engine changed in place. This module must never
choose when something happens.
"""

from __future__ import annotations

from offtake.performance.compiled import entry
from offtake.rehearse.loss import switch_site
from offtake.rehearse.state import Engine
from offtake.rehearse.timeline import Action, Kind


@entry
def apply(engine: Engine, action: Action) -> None:
    """Let ``action`` happen now."""
    if action.kind == Kind.LOST:
        switch_site(engine, action.target, int(action.value == 0.0), action.at_ns)
    elif action.kind == Kind.CONTROL:
        engine.book[0].control = int(action.value == 0.0)
