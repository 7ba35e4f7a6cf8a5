"""Ask the performance room for goodputs, each once.

Comes in: the tables and a sample of request lengths for each workload. Goes out: a function from workload, chip and
round trip to :class:`~offtake.performance.goodput.Goodput` of one replica. It must never know a price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from offtake.performance.deployment import Deployment, resolve_all
from offtake.performance.goodput import Case, Goodput, Lengths, Slo, evaluate
from offtake.schema.portfolio import Tables
from offtake.schema.settings import WorkloadRow


class Goodputs:
    """Hold the deployments of a portfolio, and the goodputs found so far.

    Calling it gives the goodput of one replica for a workload on a chip, its time to first token shortened by a
    round trip. ``on_new`` is called before each search, with a name. ``cache``: a folder that outlives the run.
    """

    def __init__(
        self,
        tables: Tables,
        lengths: Mapping[str, Lengths],
        cache: Path | None = None,
        on_new: Callable[[str], None] | None = None,
    ) -> None:
        self.deployments: dict[tuple[str, str], Deployment] = resolve_all(tables)
        self.workloads = tables.workloads
        self.seed = tables.settings.seed
        self.lengths = lengths
        self.cache = cache
        self.on_new = on_new
        self.found: dict[tuple[str, str, int], Goodput] = {}

    def __call__(self, workload: WorkloadRow, chip: str, rtt_ms: int) -> Goodput:
        """Return the goodput of one replica, found once."""
        key = (workload.workload, chip, rtt_ms)
        if key not in self.found:
            if self.on_new is not None:
                self.on_new(f"{workload.workload} on {chip}")
            cases = {workload.workload: self.case(workload, rtt_ms)}
            _, found = evaluate(self.fitted(workload.model, chip), cases, self.cache)
            self.found[key] = found[workload.workload]
        return self.found[key]

    def fitted(self, model: str, chip: str) -> Deployment:
        """Return a deployment, its step times scaled to what the user measured where they did."""
        deployment = self.deployments[model, chip]
        if not deployment.fitted:
            cases = {row.workload: self.case(row, 0) for row in self.workloads if row.model == model}
            deployment, _ = evaluate(deployment, cases, self.cache)
            self.deployments[model, chip] = deployment
        return deployment

    def case(self, workload: WorkloadRow, rtt_ms: int) -> Case:
        """Return a workload as a replica sees it from behind a link."""
        slo = Slo(max(workload.ttft_ms_p95 - rtt_ms, 0.0), workload.tpot_ms_p95)
        return Case(self.lengths[workload.workload], slo, self.seed)
