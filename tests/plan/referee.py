"""State the whole planning problem once more, from its arrays alone, in the plainest way there is: names and loops.

A second opinion on the planner: every scenario has its own copy of every decision, and what must be decided on the
same knowledge is made equal by rows of its own. It shares no line with the planner but the problem's arrays; rows are
dictionaries of names, and SciPy's ``milp`` solves them whole.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from offtake.plan.problem import Problem

S_PER_HOUR = 3600
Name = tuple[Any, ...]
Terms = dict[Name, float]


@dataclass
class Sheet:
    """Hold a program by name: columns with bounds, whether whole, and cost; rows of terms between bounds."""

    columns: dict[Name, tuple[float, float, bool]] = field(default_factory=dict)
    cost: dict[Name, float] = field(default_factory=lambda: defaultdict(float))
    rows: list[tuple[float, Terms, float]] = field(default_factory=list)

    def column(self, *name: object, low: float = 0.0, high: float = np.inf, whole: bool = False) -> Name:
        self.columns[name] = (low, high, whole)
        return name

    def row(self, terms: Terms, low: float = -np.inf, high: float = np.inf) -> None:
        kept = {name: value for name, value in terms.items() if name in self.columns and value}
        if kept or low > 0 or high < 0:
            self.rows.append((low, kept, high))

    def least(self) -> float:
        """Solve it and give the least cost."""
        place = {name: index for index, name in enumerate(self.columns)}
        entries = [(r, place[name], v) for r, (_, terms, _) in enumerate(self.rows) for name, v in terms.items()]
        r, c, v = (np.array(one) for one in zip(*entries, strict=True))
        matrix = csr_matrix((v, (r.astype(int), c.astype(int))), shape=(len(self.rows), len(place)))
        low, high, whole = (np.array(one, dtype=float) for one in zip(*self.columns.values(), strict=True))
        limits = LinearConstraint(matrix, [one[0] for one in self.rows], [one[2] for one in self.rows])
        cost = np.array([self.cost[name] for name in place])
        found = milp(
            cost, integrality=whole, bounds=Bounds(low, high), constraints=limits, options={"mip_rel_gap": 1e-9}
        )
        assert found.status == 0, found.message
        return float(found.fun)


def objective_usd(problem: Problem) -> float:
    """Give the risk-adjusted value of the best plan."""
    referee = Referee(problem)
    for state in (
        referee.contracts,
        referee.knowledge,
        referee.demand,
        referee.chips,
        referee.training,
        referee.places,
        referee.policy,
        referee.money,
    ):
        state()
    return -referee.sheet.least()


class Referee:
    """Write a problem's sheet, part by part."""

    def __init__(self, problem: Problem) -> None:
        self.p = problem
        self.sheet = Sheet()
        S, T, B, K = problem.demand_rps.shape
        self.S, self.T, self.B, self.K = range(S), range(T), range(B), range(K)
        self.V, self.N = range(problem.vintages.offer.size), range(problem.cells.site.size)
        self.I, self.L = range(problem.link_bytes_per_s.size), range(problem.lanes.cell.size)
        self.J, self.E = range(problem.jobs.chip_hours.size), range(problem.deliveries.chips.size)
        self.entries = defaultdict(list)
        for e in self.E:
            d = problem.deliveries
            self.entries[int(d.scenario[e]), int(d.period[e]), int(d.cell[e])].append(e)

    def hours(self, t: int, b: int) -> float:
        return float(self.p.period_hours[t] * self.p.block_share[b])

    def keep(self, v: int, s: int, t: int) -> Name:
        """Name what is kept of a vintage; nothing is before its signing or after its term."""
        return ("keep", v, s, t)

    def lives(self, v: int) -> range:
        vintages = self.p.vintages
        return range(int(vintages.sign_period[v]), min(int(vintages.term_until[v]), len(self.T)))

    # ── contracts ────────────────────────────────────────────────────────────────────────────────────────────────────
    def contracts(self) -> None:
        for s in self.S:
            for v in self.V:
                self.vintage(s, v)
            for o in range(len(self.p.axes.offers)):
                mine = [v for v in self.V if self.p.vintages.offer[v] == o]
                most = max((float(self.p.vintages.units_max[v]) for v in mine), default=0.0)
                self.sheet.row({("sign", v, s): 1.0 for v in mine}, high=most)
            for some in self.p.exclusive:
                self.exclude(s, some)

    def vintage(self, s: int, v: int) -> None:
        """State the size of one vintage, and how long what is signed is kept."""
        vintages, sheet = self.p.vintages, self.sheet
        most, least = float(vintages.units_max[v]), float(vintages.units_min[v])
        lots = bool(vintages.all_or_nothing[v]) and most > 0
        whole = bool(vintages.whole_units[v]) or lots
        low = most if vintages.signed[v] else 0.0
        sign = sheet.column("sign", v, s, low=low, high=most)
        if whole and not vintages.signed[v]:
            self.in_lots(sign, most if lots else 1.0)
        if least > 0 and not lots and not vintages.signed[v]:
            chosen = sheet.column("chosen", v, s, high=1.0, whole=True)
            sheet.row({sign: 1.0, chosen: -least}, low=0.0)
            sheet.row({sign: 1.0, chosen: -most}, high=0.0)
        before = sign
        for t in self.lives(v):
            kept = sheet.column("keep", v, s, t, high=most)
            if t < vintages.lock_until[v]:
                sheet.row({kept: 1.0, sign: -1.0}, 0.0, 0.0)
            else:
                sheet.row({kept: 1.0, before: -1.0}, low=0.0 if vintages.renewed[v, t] else -np.inf, high=0.0)
                if lots or (whole and most <= 1):
                    self.in_lots(kept, most if lots else 1.0)
            before = kept

    def in_lots(self, name: Name, lot: float) -> None:
        """Let a column be a whole number of lots only."""
        self.sheet.row({name: 1.0, self.sheet.column("lots", *name, whole=True): -lot}, 0.0, 0.0)

    def exclude(self, s: int, some: list[int]) -> None:
        """Sign at most one of some offers."""
        taken = {o: self.sheet.column("taken", tuple(some), o, s, high=1.0, whole=True) for o in some}
        self.sheet.row(dict.fromkeys(taken.values(), 1.0), high=1.0)
        for v in self.V:
            offer = int(self.p.vintages.offer[v])
            if offer in taken:
                self.sheet.row({("sign", v, s): 1.0, taken[offer]: -float(self.p.vintages.units_max[v])}, high=0.0)

    def decided_with(self, v: int, s: int, t: int) -> int:
        """Give the first scenario that decides alike on what is kept."""
        nodes = self.p.decided
        return int(nodes.sign_as[v, s] if t < self.p.vintages.lock_until[v] else nodes.keep_as[v, s, t])

    def knowledge(self) -> None:
        """Decide alike on what looks alike."""
        for s in self.S:
            for v in self.V:
                other = int(self.p.decided.sign_as[v, s])
                if other != s:
                    self.sheet.row({("sign", v, s): 1.0, ("sign", v, other): -1.0}, 0.0, 0.0)
                for t in self.lives(v):
                    other = self.decided_with(v, s, t)
                    if other != s:
                        self.sheet.row({self.keep(v, s, t): 1.0, self.keep(v, other, t): -1.0}, 0.0, 0.0)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def demand(self) -> None:
        p, sheet = self.p, self.sheet
        for s in self.S:
            for t in self.T:
                for k in self.K:
                    moved: Terms = {}
                    for b in self.B:
                        asked = float(p.demand_rps[s, t, b, k])
                        terms: Terms = {}
                        for lane in self.L:
                            if p.lanes.workload[lane] == k and self.entries[s, t, int(p.lanes.cell[lane])]:
                                terms[sheet.column("serve", s, t, b, lane)] = 1.0
                        terms[sheet.column("refuse", s, t, b, k, high=np.inf if p.deferrable[k] else asked)] = 1.0
                        if p.deferrable[k]:
                            terms[sheet.column("defer", s, t, b, k, low=-np.inf, high=asked)] = 1.0
                            moved["defer", s, t, b, k] = float(p.block_share[b])
                        sheet.row(terms, asked, asked)
                    sheet.row(moved, 0.0, 0.0)

    def busy(self, s: int, t: int, b: int, n: int) -> Terms:
        """Give the chips that work in a cell."""
        terms: Terms = {
            ("serve", s, t, b, lane): 1.0 / float(self.p.lanes.goodput_rps_per_chip[lane, s])
            for lane in self.L
            if self.p.lanes.cell[lane] == n
        }
        terms |= {("train", s, t, b, j, n): 1.0 for j in self.J}
        return terms | {("research", s, t, n): 1.0}

    def there(self, s: int, t: int, b: int, n: int) -> Terms:
        """Give the chips that are there to work, or to idle: those of kept units, and elastic ones in use."""
        terms: Terms = defaultdict(float)
        for e in self.entries[s, t, n]:
            if self.p.deliveries.elastic[e]:
                terms["use", e, b] += 1.0
            else:
                terms[self.keep(int(self.p.deliveries.vintage[e]), s, t)] += float(self.p.deliveries.chips[e])
        return terms

    def chips(self) -> None:
        d = self.p.deliveries
        for e in np.flatnonzero(d.elastic).tolist():
            for b in self.B:
                kept = self.keep(int(d.vintage[e]), int(d.scenario[e]), int(d.period[e]))
                self.sheet.row({self.sheet.column("use", e, b): 1.0, kept: -float(d.chips[e])}, high=0.0)
        for s, t, n in product(self.S, self.T, self.N):
            if self.entries[s, t, n] and not self.p.cells.is_api[n]:
                self.working(s, t, n)
            for b in self.B:
                terms: Terms = defaultdict(float, self.busy(s, t, b, n))
                for name, chips in self.there(s, t, b, n).items():
                    terms[name] -= chips
                self.sheet.row(terms, high=0.0)

    def working(self, s: int, t: int, n: int) -> None:
        """Make the columns of research and training in a cell."""
        jobs = self.p.jobs
        if jobs.floor_chips[t] > 0 and self.research_speed(n) > 0:
            self.sheet.column("research", s, t, n)
        for j, b in product(self.J, self.B):
            if jobs.first_period[j] <= t <= jobs.last_period[j] and jobs.speed[j, n] > 0:
                self.sheet.column("train", s, t, b, j, n)

    def research_speed(self, n: int) -> float:
        if len(self.J) == 0:
            return 1.0
        return max(float(self.p.jobs.speed[j, n]) for j in self.J)

    def training(self) -> None:
        p, sheet, jobs = self.p, self.sheet, self.p.jobs
        for j in self.J:
            single, gang = bool(jobs.single_site[j]), float(jobs.gang_chips[j])
            cells = [n for n in self.N if jobs.speed[j, n] > 0 and not p.cells.is_api[n]]
            sites = sorted({int(p.cells.site[n]) for n in cells})
            if single:
                hosts = [sheet.column("host", j, i, high=1.0, whole=True) for i in sites]
                sheet.row(dict.fromkeys(hosts, 1.0), high=1.0)
            for s in self.S:
                done: Terms = {sheet.column("missed", s, j, high=float(jobs.chip_hours[j])): 1.0}
                for t in range(int(jobs.first_period[j]), int(jobs.last_period[j]) + 1):
                    for n in cells:
                        for b in self.B:
                            done["train", s, t, b, j, n] = self.hours(t, b) * float(jobs.speed[j, n])
                    if gang > 0:
                        self.gang(s, t, j, sites if single else [])
                    for i in sites if single else []:
                        for b in self.B:
                            chips: Terms = {("train", s, t, b, j, n): 1.0 for n in cells if p.cells.site[n] == i}
                            sheet.row({**chips, ("host", j, i): -1e5}, high=0.0)
                sheet.row(done, low=float(jobs.chip_hours[j]))
                if jobs.steady[j]:
                    self.steady(s, j)

    def steady(self, s: int, j: int) -> None:
        """Let a job that may not pause train alike in all blocks, in periods that follow each other, no less each time.

        Of what it trains only what counts is held, so that a job may use more chips than it needs.
        """
        p, row = self.p, self.sheet.row
        most = 1e5
        window = range(int(p.jobs.first_period[j]), int(p.jobs.last_period[j]) + 1)
        goes = {t: self.sheet.column("goes", s, t, j, high=1.0, whole=True) for t in window}
        begins = {t: self.sheet.column("begins", s, t, j, high=1.0) for t in window}
        done = {t: self.sheet.column("done", s, t, j) for t in window}
        speed = p.jobs.speed[j]
        row(dict.fromkeys(begins.values(), 1.0), high=1.0)
        row(
            {("missed", s, j): 1.0, **{done[t]: float(p.period_hours[t]) for t in window}},
            low=float(p.jobs.chip_hours[j]),
        )
        for t in window:
            work: Terms = {
                ("train", s, t, b, j, n): -float(p.block_share[b] * speed[n]) for b in self.B for n in self.N
            }
            row({**work, done[t]: 1.0}, high=0.0)
            for b in self.B:
                row({**{("train", s, t, b, j, n): 1.0 for n in self.N}, goes[t]: -most}, high=0.0)
                alike: Terms = defaultdict(float)
                for n in self.N:
                    alike["train", s, t, b, j, n] += 1.0
                    alike["train", s, t, 0, j, n] -= 1.0
                row(alike, 0.0, 0.0)
            row({goes[t]: 1.0, begins[t]: -1.0} | ({goes[t - 1]: -1.0} if t > window[0] else {}), high=0.0)
        whole = float(p.jobs.gang_chips[j]) * float(min(speed[speed > 0], default=0.0))
        for t in window[1:-1]:
            row({done[t]: 1.0, done[t - 1]: -1.0, goes[t + 1]: -most}, low=-most)
            row({done[t]: 1.0, goes[t - 1]: -whole, goes[t]: -whole, goes[t + 1]: -whole}, low=-2 * whole)

    def gang(self, s: int, t: int, j: int, sites: list[int]) -> None:
        """Run a gang whole or not at all, on chips that are there: at its host, or anywhere that it may be."""
        p, gang = self.p, float(self.p.jobs.gang_chips[j])
        runs = self.sheet.column("runs", s, t, j, high=1.0, whole=True)
        for b in self.B:
            chips: Terms = {("train", s, t, b, j, n): 1.0 for n in self.N}
            self.sheet.row({**chips, runs: -gang}, high=0.0)
        anywhere = -1
        for i in sites or [anywhere]:
            terms: Terms = defaultdict(float)
            for n in self.N:
                if i in {anywhere, int(p.cells.site[n])} and p.jobs.speed[j, n] > 0 and not p.cells.is_api[n]:
                    for e in self.entries[s, t, n]:
                        kept = self.keep(int(p.deliveries.vintage[e]), s, t)
                        terms[kept] += float(p.deliveries.chips[e])
            terms[runs] -= gang
            low = 0.0
            if i != anywhere:
                terms["host", j, i] -= gang
                low = -gang
            self.sheet.row(terms, low=low)

    # ── places and policy ────────────────────────────────────────────────────────────────────────────────────────────
    def places(self) -> None:
        for i, t in product(self.I, self.T):
            most = float(self.p.power_kw[:, t, :, i].max())
            for s, b in product(self.S, self.B):
                self.place(i, (s, t, b), most)

    def place(self, i: int, at: tuple[int, int, int], most: float) -> None:
        """Fit load, busy chips and traffic of a site into its power and its link."""
        p = self.p
        load: Terms = defaultdict(float)
        work: Terms = defaultdict(float)
        traffic: Terms = {}
        for n in [n for n in self.N if p.cells.site[n] == i]:
            kw, idle = float(p.cells.kw_per_chip[n]), float(p.cells.idle_share[n])
            for name, chips in self.busy(*at, n).items():
                load[name] += kw * (1.0 - idle) * chips
                work[name] += kw * chips
            for name, chips in self.there(*at, n).items():
                load[name] += kw * idle * chips
            lanes = [lane for lane in self.L if p.lanes.cell[lane] == n]
            traffic |= {("serve", *at, lane): float(p.lanes.bytes_per_request[lane]) for lane in lanes}
        left = float(p.power_kw[(*at, i)])
        if np.isfinite(most):
            self.sheet.row(load, high=most)
        if left < most:
            self.sheet.row(work, high=left)
        if np.isfinite(p.link_bytes_per_s[i]):
            self.sheet.row(traffic, high=float(p.link_bytes_per_s[i]))

    def alike(self, t: int) -> list[list[int]]:
        """Group the scenarios that keep the same by decision."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        alive = [v for v in self.V if t in self.lives(v)]
        for s in self.S:
            groups[tuple(self.decided_with(v, s, t) for v in alive)].append(s)
        return list(groups.values())

    def policy(self) -> None:
        p, limits = self.p, self.p.limits
        for t, s, b in product(self.T, self.S, self.B):
            floor: Terms = {("research", s, t, n): self.research_speed(n) for n in self.N}
            floor |= {("train", s, t, b, j, n): float(p.jobs.speed[j, n]) for j in self.J for n in self.N}
            if p.jobs.floor_chips[t] > 0:
                self.sheet.row(floor, low=float(p.jobs.floor_chips[t]))
        for t, g in product(self.T, range(limits.group_cap.size)):
            if t >= limits.group_cap_from[g]:
                self.group(t, g)
        if np.isfinite(limits.prepay_usd_max):
            for s in self.S:
                paid: Terms = {("sign", v, s): float(p.vintages.prepay_usd[v]) for v in self.V}
                self.sheet.row(paid, high=float(limits.prepay_usd_max))

    def group(self, t: int, g: int) -> None:
        """Limit what a group holds, and survive its loss."""
        vintages, cap = self.p.vintages, float(self.p.limits.group_cap[g])
        for s in self.S if cap < 1 else []:
            kw = {v: float(vintages.group_kw[v, t, g] - cap * vintages.firm_kw[v, t]) for v in self.V}
            self.sheet.row({self.keep(v, s, t): amount for v, amount in kw.items()}, high=0.0)
        if self.p.limits.survive_group[g]:
            for together in self.alike(t):
                self.survive(g, t, together)

    def survive(self, g: int, t: int, together: list[int]) -> None:
        """Serve critical work without a group, in the mean of scenarios that are alike, at its highest block."""
        p, sheet, d = self.p, self.sheet, self.p.deliveries
        weight = p.probability[together] / p.probability[together].sum()
        mean = np.einsum("s,sbk->bk", weight, p.demand_rps[together, t]) * p.limits.critical
        peak = mean[mean.sum(axis=1).argmax()]
        first = together[0]
        goodput = p.lanes.goodput_rps_per_chip @ p.probability
        for k in self.K:
            lanes = [
                lane
                for lane in self.L
                if p.lanes.workload[lane] == k
                and p.limits.critical[k]
                and any(self.entries[s, t, int(p.lanes.cell[lane])] for s in self.S)
            ]
            for lane in lanes:
                sheet.column("fallback", g, t, first, lane)
            if peak[k] > 0:
                need: Terms = {("fallback", g, t, first, lane): 1.0 for lane in lanes}
                sheet.row(need, low=float(p.limits.survive_share * peak[k]))
        for n in self.N:
            terms: Terms = defaultdict(float)
            for lane in self.L:
                if p.lanes.cell[lane] == n:
                    terms["fallback", g, t, first, lane] += 1.0 / float(goodput[lane])
            for s, share in zip(together, weight, strict=True):
                for e in self.entries[s, t, n]:
                    if not d.group_member[e, g]:
                        terms[self.keep(int(d.vintage[e]), first, t)] -= float(share * d.chips[e])
            sheet.row(terms, high=0.0)

    # ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def money(self) -> None:
        p, sheet = self.p, self.sheet
        years = p.limits.budget_usd.size
        eta = sheet.column("eta", low=-np.inf)
        sheet.cost[eta] = p.risk_weight
        for s in self.S:
            loss: Terms = defaultdict(float)
            spend: list[Terms] = [defaultdict(float) for _ in range(years)]
            for t in self.T:
                paid, worth = self.spent(s, t), self.gained(s, t)
                for name, usd in paid.items():
                    loss[name] += float(p.discount[t]) * usd
                    spend[int(p.limits.period_year[t])][name] += usd
                for name, usd in worth.items():
                    loss[name] -= float(p.discount[t]) * usd
            for v in self.V:
                loss[self.keep(v, s, self.T[-1])] -= float(p.end_discount * p.vintages.terminal_usd[v, s])
            for j in self.J:
                last = min(int(p.jobs.last_period[j]), len(self.T) - 1)
                loss["missed", s, j] += float(p.jobs.missed_usd[j] * p.discount[last])
            for year, terms in enumerate(spend):
                if np.isfinite(p.limits.budget_usd[year]):
                    sheet.row(terms, high=float(p.limits.budget_usd[year]))
            for name, usd in loss.items():
                sheet.cost[name] += float(p.probability[s]) * usd
            if p.risk_weight > 0:
                beyond = sheet.column("beyond", s)
                sheet.cost[beyond] = p.risk_weight * float(p.probability[s]) / (1.0 - p.risk_alpha)
                tail: Terms = {name: -usd for name, usd in loss.items()}
                sheet.row({**tail, beyond: 1.0, eta: 1.0}, low=0.0)

    def spent(self, s: int, t: int) -> Terms:
        """Give what is paid in a period: fees, prepayments, use, energy, and what requests cost."""
        p = self.p
        terms: Terms = defaultdict(float)
        for v in self.V:
            terms[self.keep(v, s, t)] += float(p.vintages.paid_usd[v, s, t])
            if p.vintages.sign_period[v] == t:
                terms["sign", v, s] += float(p.vintages.prepay_usd[v])
            if t in self.lives(v) and t >= p.vintages.lock_until[v] and not p.vintages.renewed[v, t]:
                before = ("sign", v, s) if t == self.lives(v)[0] else self.keep(v, s, t - 1)
                terms[before] += float(p.vintages.cancel_usd[v, s, t])
                terms[self.keep(v, s, t)] -= float(p.vintages.cancel_usd[v, s, t])
        for b in self.B:
            hours = self.hours(t, b)
            for n in self.N:
                kwh = float(p.cells.usd_per_kwh[n]) * hours
                kw, idle = float(p.cells.kw_per_chip[n]), float(p.cells.idle_share[n])
                for name, chips in self.busy(s, t, b, n).items():
                    terms[name] += kwh * kw * (1.0 - idle) * chips
                for name, chips in self.there(s, t, b, n).items():
                    terms[name] += kwh * kw * idle * chips
                for e in self.entries[s, t, n]:
                    if p.deliveries.elastic[e]:
                        terms["use", e, b] += float(p.deliveries.used_usd_per_chip_hour[e]) * hours
            for lane in self.L:
                terms["serve", s, t, b, lane] += float(p.lanes.usd_per_request[lane]) * hours * S_PER_HOUR
        return terms

    def gained(self, s: int, t: int) -> Terms:
        """Give the value of what is served, less the cost of what is refused."""
        terms: Terms = defaultdict(float)
        for b in self.B:
            seconds = self.hours(t, b) * S_PER_HOUR
            for lane in self.L:
                terms["serve", s, t, b, lane] += float(self.p.value_usd[self.p.lanes.workload[lane]]) * seconds
            for k in self.K:
                terms["refuse", s, t, b, k] -= float(self.p.refusal_usd[k]) * seconds
        return terms
