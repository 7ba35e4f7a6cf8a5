"""Let requests wait at the router: bounded queues, one for each workload, the one that must go first woken first.

Comes in: cases that may wait, and the news that a pool has room. Goes out: whom to wake. Nobody waits beyond his time,
and a full queue takes nobody, because a queue that is longer than what leaves in time only makes everybody late.
"""

from __future__ import annotations

from heapq import heappop, heappush

from offtake.route.seams import Case


class Queues:
    """Hold the waiting cases of one worker, by workload."""

    def __init__(self, workloads: int, waiting_max: int) -> None:
        self.waiting_max = waiting_max
        self.heaps: list[list[tuple[int, int, Case]]] = [[] for _ in range(workloads)]
        self.waiting = [0] * workloads
        self._inside: set[Case] = set()
        self._serial = 0

    def all(self) -> list[Case]:
        """Return all who wait."""
        return list(self._inside)

    def has_room(self, case: Case) -> bool:
        """Tell whether ``case`` may wait, or waits already."""
        return case in self._inside or self.waiting[case.workload] < self.waiting_max

    def put(self, case: Case) -> None:
        """Let ``case`` wait; one that waits already goes on waiting."""
        if case not in self._inside:
            self._serial += 1
            heappush(self.heaps[case.workload], (case.last_ns, self._serial, case))
            self.waiting[case.workload] += 1
            self._inside.add(case)

    def take(self, case: Case) -> None:
        """Learn that ``case`` no longer waits."""
        if case in self._inside:
            self._inside.remove(case)
            self.waiting[case.workload] -= 1

    def wake(self, workload: int) -> bool:
        """Wake the waiting case of ``workload`` that must go first; False if none waits."""
        heap = self.heaps[workload]
        while heap and heap[0][2] not in self._inside:
            heappop(heap)
        if not heap or heap[0][2].wake is None:
            return False
        heap[0][2].wake()
        return True
