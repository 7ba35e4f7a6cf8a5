"""Whatever happens to requests, in whatever order: nothing of them stays behind in a count."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from offtake.route.columns import Host
from offtake.route.desk import RequestDesk
from offtake.route.limits import REQUESTS, TOKENS, Allowances
from offtake.route.seams import Case, Failure, Hold, Outcome, Pass, Reply, Sending
from offtake.units import NS_PER_MS
from tests.route.setup import desk_in
from tests.route.test_desk import BODY, USAGE, book, post

STREAM = BODY[:-1] + b',"stream":true}'


class Sea:
    """Requests on their way, to which anything may happen."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = np.random.default_rng([seed, 77])
        self.desk = desk_in(folder)
        tenants = self.desk.parts.config.file.tenant
        rows = [msgspec.structs.replace(row, tokens_per_minute=1e9, requests_per_minute=1e9) for row in tenants]
        self.allowance = Allowances(rows, Host(folder / "state"), self.desk.parts.clock.begun_wall_ns)
        self.desk.parts.allowance = self.allowance
        self.placed: list[Case] = []
        self.began: list[Case] = []
        self.held: list[Case] = []
        self.now_ns = self.came = self.served = 0

    def step(self, case: Case, step: object) -> None:
        """Put a case where a step brings it; a reply ends it."""
        if isinstance(step, Sending):
            self.placed.append(case)
        elif isinstance(step, Hold):
            self.held.append(case)
        elif isinstance(step, Pass):
            self.began.append(case)
        else:
            assert isinstance(step, Reply)
            self.end(case, Outcome.FAILED if case.attempts else Outcome.REFUSED)

    def end(self, case: Case, outcome: Outcome, tail: bytes = b"") -> None:
        self.served += outcome is Outcome.SERVED
        self.desk.ended(case, outcome, tail, 3, self.now_ns)

    def pick(self, cases: list[Case]) -> Case:
        return cases.pop(int(self.chance.integers(len(cases))))

    def go(self) -> None:
        """Let one thing happen."""
        desk, now_ns = self.desk, self.now_ns
        match int(self.chance.integers(9)):
            case 0 | 1 | 2:
                case = desk.arrived(post(), STREAM if self.chance.random() < 0.5 else BODY, now_ns)
                assert isinstance(case, Case)
                self.came += 1
                self.step(case, desk.place(case, now_ns))
            case 3 if self.placed and self.chance.random() < 0.1:
                case = self.pick(self.placed)
                self.step(case, desk.failed(case, Failure(int(self.chance.integers(len(Failure)))), now_ns))
            case 4 | 5 if self.placed:
                case = self.pick(self.placed)
                status = int(self.chance.choice([200] * 40 + [400, 429, 503, 500]))
                self.step(case, desk.heard(case, status, (), now_ns))
            case 6 if self.began:
                case = self.pick(self.began)
                desk.first(case, now_ns)
                outcome = Outcome(int(self.chance.choice([Outcome.SERVED, Outcome.SERVED, Outcome.CUT, Outcome.LEFT])))
                self.end(case, outcome, USAGE if outcome is Outcome.SERVED else b"")
            case 7 if self.placed or self.held:
                self.end(self.pick(self.placed or self.held), Outcome.LEFT)
            case 8 if self.held:
                case = self.pick(self.held)
                self.step(case, desk.place(case, now_ns))
            case _:
                pass
        self.now_ns += int(self.chance.integers(1, 20)) * NS_PER_MS


def counts(desk: RequestDesk) -> list[int]:
    view = desk.parts.decider.view
    kept = [int(view.pools[name].sum()) for name in ("in_flight", "waiting", "queued_tokens")]
    at_upstreams = sum(patient.in_flight for patient in desk.parts.health.by_name.values())
    return [*kept, int(view.running.sum()), at_upstreams, sum(desk.queues.waiting), len(desk.parts.decider.sent)]


@pytest.mark.parametrize("seed", range(8))
def test_no_count_of_load_and_no_budget_is_left_behind_by_requests_that_ended(tmp_path: Path, seed: int) -> None:
    sea = Sea(tmp_path, seed)
    for _ in range(4_000):
        sea.go()
    assert counts(sea.desk)[0] == len(sea.placed) + len(sea.began)
    for case in (*sea.placed, *sea.began, *sea.held):
        sea.end(case, Outcome.LEFT)
    assert counts(sea.desk) == [0] * 7
    assert sea.served > 30
    shut = book(sea.desk).shut
    row = sea.allowance.tenants[0].own
    assert row[REQUESTS] == sea.came == len(shut)
    assert row[TOKENS] == sum(closed.input_tokens + closed.output_tokens for closed in shut)
