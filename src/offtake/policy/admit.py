"""Say whether any pool can serve a request at all: it fits, it is short enough, and something is up.

Comes in: a view and a request. Goes out: a ``Reason``, ``NONE`` when the request may go on to ``choose``. No policy can
overrule this: every choice is made among the pools for which ``can_serve`` is true.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.policy.view import Reason, Request, View


@kernel
def can_serve(view: View, request: Request, pool: int) -> bool:
    """Tell whether ``pool`` is fit for ``request`` (model, residency, security, length) and up."""
    return view.allowed[pool, request.workload] and is_open(view, request, pool)


@kernel
def is_open(view: View, request: Request, pool: int) -> bool:
    """Tell whether ``pool``, one of those its workload may use, is up and has the room that ``request`` asks for."""
    row = view.pools[pool]
    return row.replicas_up > 0 and request.context_tokens <= row.context_tokens_max


@kernel
def admit(view: View, request: Request, now_ns: int) -> int:  # noqa: ARG001  # the seam gives every decision the time
    """Return ``Reason.NONE`` if some pool can serve ``request`` at ``now_ns``, else why none can.

    Cost: O(1) while the first of its pools is open, else O(pools); no allocation.
    """
    reason = Reason.NO_FIT.value
    for rank in range(view.workloads[request.workload].fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool):
            return Reason.NONE.value
        long = request.context_tokens > view.pools[pool].context_tokens_max
        reason = max(reason, Reason.TOO_LONG.value if long else Reason.NO_CAPACITY.value)
    return reason
