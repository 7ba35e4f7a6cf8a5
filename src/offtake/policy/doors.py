"""Call the policy from Python: the same kernels that the rehearsal compiles into its engine, each behind a door.

Comes in: a view, and a request or an event. Goes out: a reason, a choice, or a changed view. Kernels themselves have no
door, because one would be compiled at every level of their calls; calling one from Python crashes.
"""

from __future__ import annotations

from offtake.performance.compiled import entry
from offtake.policy import admit as admitting
from offtake.policy import choose as choosing
from offtake.policy import update as updating
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Answer, Choice, Event, Reason, Request, View

_admit, _can_serve, _choose = admitting.admit, admitting.can_serve, choosing.choose
_late_by_load, _update = updating.late_by_load, updating.update


@entry
def admit(view: View, request: Request, now_ns: int) -> int:
    """Return why no pool may serve ``request``, or ``Reason.NONE``; as ``policy.admit.admit``."""
    return _admit(view, request, now_ns)


@entry
def can_serve(view: View, request: Request, pool: int) -> bool:
    """Tell whether ``pool`` may serve ``request``; as ``policy.admit.can_serve``."""
    return _can_serve(view, request, pool)


@entry
def choose(policy: int, view: View, request: Request, now_ns: int, u: float) -> Choice:
    """Return the pool for ``request`` under ``policy``; as ``policy.choose.choose``."""
    return _choose(policy, view, request, now_ns, u)


@entry
def decide(view: View, policy: int, request: Request, now_ns: int, u: float) -> Choice:
    """Admit ``request`` and choose its pool, as the rehearsal's engine does."""
    reason = _admit(view, request, now_ns)
    if reason != Reason.NONE:
        return Choice(NO_POOL, reason, 0.0, NO_RETRY_NS)
    return _choose(policy, view, request, now_ns, u)


@entry
def late_by_load(view: View, pool: int, answer: Answer) -> int:
    """Return 1 if the load of ``pool`` made an answer late; as ``policy.update.late_by_load``."""
    return _late_by_load(view, pool, answer)


@entry
def update(view: View, event: Event) -> None:
    """Apply ``event`` to ``view``; as ``policy.update.update``."""
    _update(view, event)
