from __future__ import annotations

from offtake.route.seams import NOTHING, Case, Head


def test_a_new_request_has_no_pool_no_caller_and_no_answer() -> None:
    case = Case("r1", Head(b"POST", b"/v1/messages", b"", ()), b"{}", arrival_ns=5)
    assert (case.pool, case.tenant, case.workload, case.session, case.first_ns) == (NOTHING,) * 5
    assert (case.arrival_ns, case.last_ns, case.attempts, case.tried) == (5, 5, 0, ())
