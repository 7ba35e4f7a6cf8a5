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
    tokens = request.input_tokens + request.output_tokens_max
    fits = view.allowed[pool, request.workload] and tokens <= view.pools[pool].context_tokens_max
    return fits and view.pools[pool].replicas_up > 0  # type: ignore[no-any-return]


@kernel
def admit(view: View, request: Request, now_ns: int) -> int:  # noqa: ARG001  # the seam gives every decision the time
    """Return ``Reason.NONE`` if some pool can serve ``request`` at ``now_ns``, else why none can.

    Cost: O(pools), no allocation.
    """
    reason = Reason.NO_FIT.value
    for pool in range(view.pools.shape[0]):
        if can_serve(view, request, pool):
            return Reason.NONE.value
        if view.allowed[pool, request.workload]:
            tokens = request.input_tokens + request.output_tokens_max
            long = tokens > view.pools[pool].context_tokens_max
            reason = max(reason, Reason.TOO_LONG.value if long else Reason.NO_CAPACITY.value)
    return reason
