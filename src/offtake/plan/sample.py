"""Test a plan on futures that it was not made from: draw them, follow the plan's tree, and operate each at its best.

Comes in: an assembled problem, its solution, a seed. Goes out: net values of fresh paths. A path goes, date by date,
to the node of the plan's tree whose past is nearest to its own, so that it uses nothing that is not known by then; it
signs and gives notice as that node does, and serves what it can. It must never look at a path's future, and must
never use the draws that the plan was made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from offtake.demand.shock import sample_shocks
from offtake.demand.workload import demand_of
from offtake.errors import InfeasibleError
from offtake.plan.assemble import Assembled, assemble
from offtake.plan.few import some_of
from offtake.plan.highs import Warm
from offtake.plan.load import given_factors, rates_of, surge_words
from offtake.plan.nodes import Moments, nodes_from, seen_before
from offtake.plan.pool import Pool
from offtake.plan.problem import Deliveries, Floats, Held, Ints, Nodes, Problem
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve, solve_stated, state
from offtake.plan.tree import Chance, Strata, Tree, strata_of, tree_from, tree_of
from offtake.plan.variables import research_speed
from offtake.supply.portfolio import Portfolio

SMALL = 20_000  #: rates served and refused, over all paths; measured: twice as quick in one program below it
STREAM = 0x7275  #: added to the seed of a plan for its first fresh draws; further draws count on from there


class Independent(Chance):
    """Give independent draws for each scenario and source, in the place of a Latin hypercube."""

    def uniform(self, source: str) -> Floats:
        """Return one number in (0, 1) for each scenario [S], each on its own."""
        return np.clip(self.generator(source).random(len(self.probability)), 1e-12, 1.0 - 1e-12)


@dataclass(frozen=True, kw_only=True)
class Operated:
    """Hold how a path went: its net value in USD, and whether a floor or a budget had to give way."""

    net_usd: float
    kept_limits: bool


# ── fresh draws ──────────────────────────────────────────────────────────────────────────────────────────────────────
def fresh_seed(seed: int, number: int) -> int:
    """Return the seed of a fresh draw of a plan, never the plan's own.

    >>> fresh_seed(7, 0) != 7, fresh_seed(7, 0) != fresh_seed(7, 1)
    (True, True)
    """
    return seed + STREAM + number


def independent(assembled: Assembled, paths: int, number: int = 0) -> Assembled:
    """Draw paths that are independent of each other, of equal weight, from the portfolio's own chances.

    A plan's strata have the exact weights of what they stand for, so a path draws its stratum by them.
    """
    portfolio = reseeded(assembled, number)
    strata = strata_of(portfolio)
    chance = Independent(portfolio.tables.settings.seed, np.full(paths, 1.0 / paths))
    edges = np.cumsum(strata.probability)[:-1]
    stratum = np.searchsorted(edges, chance.uniform("stratum"), side="right")
    given = Strata(
        probability=chance.probability,
        growth=strata.growth[stratum],
        reading=strata.reading[stratum],
        way=strata.way[stratum],
    )
    return drawn(assembled, portfolio, tree_from(portfolio, given, chance))


def resampled(assembled: Assembled, number: int, scenarios: int | None = None) -> Assembled:
    """Draw the scenarios of a plan anew, in the way that it draws its own: as many, or another number."""
    portfolio = reseeded(assembled, number, scenarios)
    return drawn(assembled, portfolio, tree_of(portfolio))


def reseeded(assembled: Assembled, number: int, scenarios: int | None = None) -> Portfolio:
    """Return the portfolio with a fresh seed."""
    portfolio = assembled.inputs.portfolio
    settings = portfolio.tables.settings
    changed = {"seed": fresh_seed(settings.seed, number), "scenarios": scenarios or settings.scenarios}
    settings = settings.model_copy(update=changed)
    return replace(portfolio, tables=replace(portfolio.tables, settings=settings))


def drawn(assembled: Assembled, portfolio: Portfolio, tree: Tree) -> Assembled:
    """Assemble a problem on other scenarios; request lengths, goodputs and power stay as the plan has them."""
    inputs, tables = assembled.inputs, portfolio.tables
    demand, calendar = demand_of(tables), inputs.calendar
    days = float(calendar.edges[-1] - calendar.edges[0])
    events = sample_shocks(demand.shocks, days, tree.scenarios, tables.settings.seed)
    load = replace(
        inputs.load,
        rate_rps=rates_of(demand, events, calendar, tree) * given_factors(tables, calendar, tree),
        surges=[surge_words(demand.shocks, events, calendar, scenario) for scenario in range(tree.scenarios)],
    )
    made = assemble(replace(inputs, portfolio=portfolio, tree=tree, load=load))
    power = np.repeat(assembled.problem.power_kw[:1], tree.scenarios, axis=0)
    return replace(made, problem=replace(made.problem, power_kw=power))


# ── the plan along a path ────────────────────────────────────────────────────────────────────────────────────────────
def nodes_on(assembled: Assembled, fresh: Assembled) -> Ints:
    """Return the plan's node that each fresh path is in during each period, by its first scenario [N, T].

    On a tree that the user gives, a path knows its way through it; on any other it goes by what it has seen.
    """
    if not assembled.inputs.portfolio.tables.nodes:
        return followed(assembled.problem, fresh.problem)
    own, others = assembled.inputs.tree.way, fresh.inputs.tree.way
    first = np.array([int(np.argmax(own == way)) for way in others], dtype=np.int64)
    return assembled.problem.decided.node_as[first]


def followed(plan: Problem, fresh: Problem) -> Ints:
    """Return the plan's node that each fresh path is in during each period, by its first scenario [N, T].

    At each date at which nodes part, a path goes to the child node with the nearest centroid: the mean of
    :func:`~offtake.plan.nodes.seen_before` over the node's scenarios. The tree was parted by the same figures (Ward
    1963), and they end before the date.
    """
    node, scenarios = plan.decided.node_as, plan.probability.size
    joined = beside(plan, fresh)
    path = np.zeros((fresh.probability.size, node.shape[1]), dtype=np.int64)
    now = np.full(fresh.probability.size, node[0, 0], dtype=np.int64)
    for period in range(node.shape[1]):
        before = node[:, max(period - 1, 0)]
        if np.any(node[:, period] != before):
            points = seen_before(joined, period)
            now = nearest(points[:scenarios], points[scenarios:], (plan, before, node[:, period]), now)
        path[:, period] = now
    return path


def nearest(seen: Floats, points: Floats, parting: tuple[Problem, Ints, Ints], now: Ints) -> Ints:
    """Return the child of its node ``now [N]`` whose mean of ``seen [S, F]`` is nearest to each point [N]."""
    plan, before, after = parting
    then = now.copy()
    for parent in np.unique(now):
        children = np.unique(after[before == parent])
        centres = [np.average(seen[after == one], axis=0, weights=plan.probability[after == one]) for one in children]
        here = np.flatnonzero(now == parent)
        far = ((points[here, np.newaxis] - np.stack(centres)) ** 2).sum(axis=2)
        then[here] = children[np.argmin(far, axis=1)]
    return then


def beside(plan: Problem, fresh: Problem) -> Problem:
    """Return what a plan and fresh paths show, the fresh ones with no weight; only good for looking back."""
    first, second, count = plan.deliveries, fresh.deliveries, plan.probability.size
    both = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in vars(first)}
    both["scenario"] = np.concatenate([first.scenario, second.scenario + count])
    goodput = np.concatenate([plan.lanes.goodput_rps_per_chip, fresh.lanes.goodput_rps_per_chip], axis=1)
    return replace(
        plan,
        probability=np.concatenate([plan.probability, np.zeros(fresh.probability.size)]),
        demand_rps=np.concatenate([plan.demand_rps, fresh.demand_rps]),
        deliveries=Deliveries(**both),
        lanes=replace(plan.lanes, goodput_rps_per_chip=goodput),
        nodes=None,
    )


def along(plan: Problem, moments: Moments, solution: Solution, node: Ints) -> Held:
    """Return what a plan signs, keeps and hosts on paths through nodes ``node [N, T]`` of its tree."""
    nodes = nodes_from(node, moments)
    signed = np.take_along_axis(solution.signed, nodes.sign_as, axis=1)
    kept = np.take_along_axis(solution.kept, nodes.keep_as, axis=1)
    return prolonged(Held(signed=signed, kept=kept, hosts=solution.hosts.astype(np.float64)), plan)


def prolonged(held: Held, plan: Problem) -> Held:
    """Let the last decision hold on where a contract ends later than in any scenario that it was planned on."""
    kept = held.kept.copy()
    for vintage, last in enumerate(plan.vintages.term_until):
        if 0 < last < kept.shape[2]:
            kept[vintage, :, last:] = kept[vintage, :, last - 1 : last]
    return replace(held, kept=kept)


# ── operating a path ─────────────────────────────────────────────────────────────────────────────────────────────────
def alone(problem: Problem, scenario: int) -> Problem:
    """Return the problem of one scenario that is known to come; money at risk is then nothing beside money."""
    return replace(among(problem, np.array([scenario])), nodes=None, risk_weight=0.0)


def among(problem: Problem, scenarios: Ints) -> Problem:
    """Return the problem of some scenarios, each known to come, as likely as each other."""
    count = scenarios.size
    chosen = some_of(problem, scenarios, np.full(count, 1.0 / count))
    return replace(chosen, nodes=all_apart(problem, count), risk_weight=0.0)


def all_apart(problem: Problem, scenarios: int) -> Nodes:
    """Return nodes in which every scenario is by itself from the first day."""
    vintages, periods = problem.vintages.offer.size, problem.period_hours.size
    node = np.repeat(np.arange(scenarios, dtype=np.int64)[:, np.newaxis], periods, axis=1)
    first = Moments(sign=np.zeros(vintages, dtype=np.int64), keep=np.zeros((vintages, periods), dtype=np.int64))
    return nodes_from(node, first)


def without_policy(problem: Problem) -> Problem:
    """Return the problem without limits on what may be signed: what is held was signed within them."""
    limits = problem.limits
    free = replace(
        limits,
        group_cap=np.ones_like(limits.group_cap),
        survive_group=np.zeros_like(limits.survive_group),
        prepay_usd_max=np.inf,
    )
    return replace(problem, limits=free, exclusive=[])


def operate_all(batch: Problem, held: list[Held], options: Options) -> list[list[Operated]]:
    """Operate the paths of a batch at their best under each of some decisions; give the answers by decisions and path.

    Decisions are tried one after another on the same warm operations. Where the floor of research or a budget cannot
    be kept on every path, each is operated by itself.
    """
    first = without_policy(replace(batch, held=held[0]))
    pool, warm = Pool(first, options), Warm()

    def find(problem: Problem) -> Solution:
        if not is_small(problem):
            return pool.solve(problem)
        return solve_stated(
            lambda: state(problem, pool.units), options, lambda _, program, hard: warm.solve(program, hard)
        )

    return [operated(find, without_policy(replace(batch, held=one)), options) for one in held]


def operated(find: Callable[[Problem], Solution], batch: Problem, options: Options) -> list[Operated]:
    """Operate the paths of a batch whose contracts are held."""
    paths = range(batch.probability.size)
    if np.all(most_research(batch) >= batch.jobs.floor_chips):
        try:
            nets = find(batch).money.net_usd
            return [Operated(net_usd=float(nets[path]), kept_limits=True) for path in paths]
        except InfeasibleError:
            pass
    return [operate(alone(batch, path), options) for path in paths]


def is_small(problem: Problem) -> bool:
    """Tell whether paths whose contracts are held are sooner operated in one program than part by part."""
    rows = problem.demand_rps[..., 0].size * (problem.lanes.cell.size + problem.demand_rps.shape[3])
    return bool(rows <= SMALL)


def operate(problem: Problem, options: Options) -> Operated:
    """Operate one path at its best, its contracts held; a floor of research that its chips cannot fill gives way.

    Where limits still cannot be met, the floor and the budgets are left out, and the path counts as one that breaks
    them.
    """
    able = np.minimum(problem.jobs.floor_chips, most_research(problem)[0])
    short = bool(np.any(able < problem.jobs.floor_chips))
    problem = without_policy(replace(problem, jobs=replace(problem.jobs, floor_chips=able)))
    try:
        return Operated(net_usd=float(solve(problem, options).money.net_usd[0]), kept_limits=not short)
    except InfeasibleError:
        none = np.zeros_like(problem.jobs.floor_chips)
        no_limit = np.full_like(problem.limits.budget_usd, np.inf)
        loose = replace(
            problem,
            jobs=replace(problem.jobs, floor_chips=none),
            limits=replace(problem.limits, budget_usd=no_limit),
        )
        return Operated(net_usd=float(solve(loose, options).money.net_usd[0]), kept_limits=False)


def most_research(problem: Problem) -> Floats:
    """Return the research that all chips could do, contracts held, in chips of speed 1 [S, T]."""
    deliveries, most = problem.deliveries, np.zeros(problem.demand_rps.shape[:2])
    if problem.held is None:
        return np.full(most.shape, np.inf)
    kept = np.nan_to_num(problem.held.kept, nan=0.0)[deliveries.unit]
    chips = deliveries.chips * kept * research_speed(problem)[deliveries.cell]
    np.add.at(most, (deliveries.scenario, deliveries.period), chips)
    return most
