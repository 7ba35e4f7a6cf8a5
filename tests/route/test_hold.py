from __future__ import annotations

from offtake.route.hold import Queues
from offtake.route.seams import Case, Head


def waiting(queues: Queues, last_ns: int, woken: list[int]) -> Case:
    case = Case(f"r{last_ns}", Head(b"POST", b"/", b"", ()), b"", 0)
    case.workload, case.last_ns = 0, last_ns
    case.wake = lambda: woken.append(last_ns)
    queues.put(case)
    return case


def test_who_must_go_first_is_woken_first() -> None:
    queues, woken = Queues(1, 10), list[int]()
    cases = [waiting(queues, last, woken) for last in (30, 10, 20)]
    assert queues.wake(0)
    queues.take(cases[1])
    assert queues.wake(0)
    assert woken == [10, 20]


def test_a_full_queue_takes_nobody_but_keeps_whom_it_has() -> None:
    queues, woken = Queues(1, 2), list[int]()
    first, second = (waiting(queues, last, woken) for last in (1, 2))
    late = Case("late", Head(b"POST", b"/", b"", ()), b"", 0)
    late.workload = 0
    assert not queues.has_room(late)
    assert queues.has_room(first)
    queues.put(first)
    assert queues.waiting == [2]
    queues.take(second)
    queues.take(second)
    assert queues.waiting == [1]
    assert queues.has_room(late)


def test_nobody_is_woken_twice_or_after_he_left() -> None:
    queues, woken = Queues(1, 5), list[int]()
    case = waiting(queues, 5, woken)
    queues.take(case)
    assert not queues.wake(0)
    assert woken == []
