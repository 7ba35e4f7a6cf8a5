"""State the plan's program once more in linopy, sentence by sentence: what ``offtake.plan`` states, as its users write.

Comes in: the arrays of a problem, each with its axes. Goes out: a linopy model with as many variables. linopy is given
its quickest way: semantics ``v1``, ``sparse``; sums over deliveries and lanes are ``groupby``. Money is in millions,
since linopy knows no units. Signed and kept have no scenario: a problem whose tree parts is not stated. It runs in an
environment of its own and imports nothing of Offtake.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import linopy
import numpy as np
import xarray as xr
from linopy import LinearExpression

from benchmarks.peers_plan.arrays import labelled, read

if TYPE_CHECKING:
    import highspy

linopy.options["semantics"] = "v1"
__all__ = ["hand_over", "read", "state"]
PACKAGES = ("linopy", "xarray", "highspy")
S_PER_HOUR = 3600.0
STPC = ("scenario", "period", "cell")
Data = dict[str, xr.DataArray]
Bound: TypeAlias = float | xr.DataArray


def state(data: Data) -> linopy.Model:
    """Return the model that linopy states."""
    return Plan(data).m


def hand_over(model: linopy.Model) -> highspy.Highs:
    """Return HiGHS with the program in it."""
    solver: highspy.Highs = model.to_highspy()
    return solver


class Plan:
    """Hold a linopy model and what its constraints share."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.m = linopy.Model(sparse=True)
        self.size = {axis: size for array in data.values() for axis, size in array.sizes.items()}
        self.period = labelled(np.arange(self.size["period"]), "period")
        self.declare_contracts()
        self.declare_work()
        self.declare_money()
        for state in (self.contracts, self.chips, self.demand, self.places, self.concentration, self.survival):
            state()
        for state in (self.training_work, self.single_site, self.gangs, self.money_in_periods, self.risk, self.limits):
            state()
        self.objective()

    def __getitem__(self, name: str) -> xr.DataArray | linopy.Variable:
        """Give an array of the problem, or a variable."""
        return self.data[name] if name in self.data else self.m.variables[name]

    def rows(self, name: str, sentence: linopy.constraints.Constraint, where: xr.DataArray | None = None) -> None:
        """Add constraints where they are wanted."""
        self.m.add_constraints(sentence, name=name, mask=where)

    def var(
        self, name: str, where: xr.DataArray, lower: Bound = 0.0, upper: Bound = np.inf, **kind: bool
    ) -> linopy.Variable:
        """Add a variable over the axes of where it exists."""
        kind_of = {"coords": where.coords, "mask": where} if where.ndim else {}
        return self.m.add_variables(lower=lower, upper=upper, name=name, **kind_of, **kind)

    def where(self, *axes: str) -> xr.DataArray:
        """Give the mask that is true everywhere over some axes."""
        return labelled(np.ones([self.size[axis] for axis in axes], dtype=bool), *axes)

    # ── what is there ────────────────────────────────────────────────────────────────────────────────────────────────
    def entries(self, *, elastic: bool) -> Data:
        """Give the deliveries that are elastic, or those that are fixed."""
        at = np.flatnonzero(self["deliveries.elastic"].values == elastic)
        names = ("scenario", "vintage", "period", "cell", "chips", "used_usd_per_chip_hour")
        return {name: labelled(self[f"deliveries.{name}"].values[at], "delivery") for name in names}

    @cached_property
    def fixed(self) -> Data:
        """Give the fixed deliveries."""
        return self.entries(elastic=False)

    @cached_property
    def elastic(self) -> Data:
        """Give the elastic deliveries."""
        return self.entries(elastic=True)

    def presence(self, some: Data) -> xr.DataArray:
        """Tell where chips of some deliveries can be, by scenario, period and cell."""
        found = labelled(np.zeros([self.size[axis] for axis in STPC], dtype=bool), *STPC)
        at = some["chips"].values > 0
        found.values[tuple(some[axis].values[at] for axis in STPC)] = True
        return found

    def by(self, expression: LinearExpression, some: Data, *axes: str) -> LinearExpression:
        """Sum an expression over deliveries into what they are delivered to."""
        named = expression.assign_coords({axis: ("delivery", some[axis].values) for axis in axes})
        whole = {axis: np.arange(self.size[axis]) for axis in axes}
        return named.groupby(list(axes)).sum().reindex(whole).fillna(0)

    def kept_of(self, some: Data) -> LinearExpression:
        """Give what is kept of each delivery's vintage in its period."""
        at = {"vintage": some["vintage"], "period": some["period"]}
        return self.kept.sel(at).drop_vars(["vintage", "period"])

    def at_cells(self, by_lane: LinearExpression) -> LinearExpression:
        """Sum over the lanes of each cell."""
        return by_lane.groupby(self["lanes.cell"].rename("cell")).sum()

    def at_sites(self, by_cell: LinearExpression) -> LinearExpression:
        """Sum over the cells of each site."""
        return by_cell.groupby(self["cells.site"].rename("site")).sum()

    @cached_property
    def idle_kw(self) -> xr.DataArray:
        """Give the power of an idle chip."""
        return self["cells.kw_per_chip"] * self["cells.idle_share"]

    @cached_property
    def busy_kw(self) -> xr.DataArray:
        """Give what a busy chip draws more."""
        return self["cells.kw_per_chip"] - self.idle_kw

    @cached_property
    def hours(self) -> xr.DataArray:
        """Give the hours of each block of each period."""
        return self["period_hours"] * self["block_share"]

    @cached_property
    def window(self) -> xr.DataArray:
        """Tell in which periods a job may run."""
        return (self.period >= self["jobs.first_period"]) & (self.period <= self["jobs.last_period"])

    # ── variables ────────────────────────────────────────────────────────────────────────────────────────────────────
    def declare_contracts(self) -> None:
        """Declare what is signed and kept; what is kept is whole where there is one unit, which is kept or ended."""
        most, already = self["vintages.units_max"], self["vintages.signed"]
        self.signed = self.var("signed", self.where("vintage"), most.where(already, 0.0), most, integer=True)
        at = np.flatnonzero((self["vintages.units_min"] > 0) & ~self["vintages.all_or_nothing"] & ~already)
        self.minimum = {name: self[f"vintages.{name}"].isel(vintage=at) for name in ("units_min", "units_max")}
        self.var("chosen", self.where("vintage").isel(vintage=at), binary=True)
        self.var("taken", self["exclusive"].any("set"), binary=True)
        lives = (self.period >= self["vintages.sign_period"]) & (self.period < self["vintages.term_until"])
        self.lives = lives.transpose("vintage", "period")
        single = (most <= 1).values
        parts = [
            self.var(
                name,
                self.lives.isel(vintage=np.flatnonzero(which)),
                0.0,
                most.isel(vintage=np.flatnonzero(which)),
                integer=whole,
            )
            for name, which, whole in (("kept whole", single, True), ("kept", ~single, False))
        ]
        self.kept = linopy.merge([part.to_linexpr() for part in parts], dim="vintage").reindex(
            vintage=self["vintages.offer"].vintage
        )

    def declare_work(self) -> None:
        """Declare chips, what is served, refused and deferred, training, research and what survives a loss."""
        self.owned, self.rented = self.presence(self.fixed), self.presence(self.elastic)
        self.there = self.owned | self.rented
        asked = (self["demand_rps"] > 0) | self["deferrable"]
        self.asked, movable = asked, self["deferrable"].broadcast_like(asked).transpose(*asked.dims)
        workload = self["lanes.workload"].rename("workload")
        by_lane = self.there.sel(cell=self["lanes.cell"]) & asked.sel(workload=workload)
        by_lane = by_lane.drop_vars(["cell", "workload"]).transpose("scenario", "period", "block", "lane")
        self.var("capacity", self.owned)
        self.var("served", by_lane)
        self.var("refused", asked, 0.0, self["demand_rps"].where(~movable, np.inf))
        self.var("deferred", movable, -np.inf, self["demand_rps"])
        used = labelled(np.ones((self.elastic["chips"].size, self.size["block"]), dtype=bool), "delivery", "block")
        self.var("used", used)
        may = self.window & (self["jobs.speed"] > 0) & self.there & self.where("block")
        self.var("training", may.transpose("scenario", "period", "block", "job", "cell"))
        self.var("trained", (self.where("scenario") & self.window).transpose("scenario", "period", "job"))
        self.var("missed", self.where("scenario", "job"), 0.0, self["jobs.chip_hours"])
        self.hosted = self["jobs.single_site"] & self.at_site(self["jobs.speed"] > 0)
        self.var("hosts", self.hosted, binary=True)
        gang = self.where("scenario") & self.window & (self["jobs.gang_chips"] > 0)
        self.gang = gang.transpose("scenario", "period", "job")
        self.var("runs", self.gang, binary=True)
        self.var("research", (self.there & (self["jobs.floor_chips"] > 0)).transpose(*STPC))
        self.guarded = self["limits.survive_group"] & (self.period >= self["limits.group_cap_from"])
        lanes = self.there.any("scenario").sel(cell=self["lanes.cell"]).drop_vars("cell")
        critical = self["limits.critical"].sel(workload=workload).drop_vars("workload")
        self.var("fallback", (self.guarded & lanes & critical).transpose("group", "period", "lane"))

    def at_site(self, cells: xr.DataArray) -> xr.DataArray:
        """Tell at which sites any cell is true."""
        return cells.groupby(self["cells.site"].rename("site")).any()

    def declare_money(self) -> None:
        """Declare money by period, and the tail."""
        for name in ("committed", "operating", "worth"):
            self.var(name, self.where("scenario", "period"), -np.inf)
        self.var("value_at_risk", xr.DataArray(np.array(1, dtype=bool)), -np.inf)
        self.var("shortfall", self.where("scenario"))

    # ── constraints ──────────────────────────────────────────────────────────────────────────────────────────────────
    def contracts(self) -> None:
        """Sign within sizes and once; keep what is locked; what is given up is gone."""
        signed, most, chosen = self.signed, self["vintages.units_max"], self["chosen"]
        some = signed.sel(vintage=chosen.coords["vintage"])
        self.rows("least order", some >= self.minimum["units_min"] * chosen)
        self.rows("greatest order", some <= self.minimum["units_max"] * chosen)
        offer = self["vintages.offer"].rename("offer")
        several = labelled(np.bincount(offer.values) > 1, "offer")
        self.rows("offer in full at most", signed.groupby(offer).sum() <= most.groupby(offer).max(), several)
        exclusive = np.flatnonzero(self["exclusive"].any("set").sel(offer=offer))
        taken = self["taken"].to_linexpr().sel(offer=offer.isel(vintage=exclusive)).drop_vars("offer")
        self.rows("exclusive use", signed.isel(vintage=exclusive) <= most.isel(vintage=exclusive) * taken)
        self.rows("exclusive", (self["exclusive"] * self["taken"]).sum("offer") <= 1)
        locked = self.period < self["vintages.lock_until"]
        self.rows("kept while locked", self.kept - signed == 0, (self.lives & locked).transpose("vintage", "period"))
        self.may_end = (self.lives & ~locked).transpose("vintage", "period")
        self.ended = self.kept.shift(period=1) - self.kept
        self.rows("gone when given up", self.ended >= 0, self.may_end)
        self.rows("renewal kept to its end", self.ended <= 0, self.may_end & self["vintages.renewed"])

    def chips(self) -> None:
        """Count fixed chips; use no more elastic ones than delivered; fit work into both."""
        fixed = self.by(self.kept_of(self.fixed) * self.fixed["chips"], self.fixed, *STPC)
        self.rows("capacity", self["capacity"] - fixed == 0, self.owned)
        self.rows("elastic use", self["used"] - self.kept_of(self.elastic) * self.elastic["chips"] <= 0)
        self.capacity = self["capacity"].fillna(0)
        self.used = self.by(self["used"].to_linexpr(), self.elastic, *STPC)
        served = self.at_cells(self["served"] * (1.0 / self["lanes.goodput_rps_per_chip"]))
        self.busy = served + self["training"].sum("job") + self["research"].fillna(0)
        self.rows("work fits chips", self.busy - self.capacity - self.used <= 0, self.there & self.where("block"))

    def demand(self) -> None:
        """Serve, refuse or defer every request; what is deferred is done within the week."""
        served = self["served"].to_linexpr().groupby(self["lanes.workload"].rename("workload")).sum()
        balance = served + self["refused"].fillna(0) + self["deferred"].fillna(0)
        self.rows("demand", balance == self["demand_rps"], self.asked)
        self.rows("deferred", (self["block_share"] * self["deferred"]).sum("block") == 0, self["deferrable"])

    def places(self) -> None:
        """Fit a site's load, its busy chips when power is curtailed, and its traffic."""
        power = self["power_kw"]
        most = power.max(("scenario", "block"))
        drawn = self.at_site(self.there & (self["cells.kw_per_chip"] > 0))
        load = self.busy * self.busy_kw + (self.capacity + self.used) * self.idle_kw
        self.rows("power", self.at_sites(load) <= most, drawn & np.isfinite(most) & self.where("block"))
        busy = self.at_sites(self.busy * self["cells.kw_per_chip"])
        self.rows("curtailment", busy <= power, drawn & (power < most))
        limit = self["link_bytes_per_s"]
        site = self["cells.site"].sel(cell=self["lanes.cell"]).drop_vars("cell").rename("site")
        traffic = (self["served"] * self["lanes.bytes_per_request"]).groupby(site).sum()
        narrow = np.isfinite(limit)
        self.rows("link", traffic <= limit.where(narrow, 0.0), narrow & self.where("scenario", "period", "block"))

    def concentration(self) -> None:
        """Let no group hold more than its share of firm power."""
        cap = self["limits.group_cap"]
        held = ((self["vintages.group_kw"] - cap * self["vintages.firm_kw"]) * self.kept).sum("vintage")
        self.rows("concentration", held <= 0, (cap < 1) & (self.period >= self["limits.group_cap_from"]))

    def survival(self) -> None:
        """Serve critical work without any one group, in the mean of scenarios, in its highest block."""
        mean = (self["demand_rps"] * self["probability"]).sum("scenario") * self["limits.critical"]
        peak = mean.isel(block=mean.sum("workload").argmax("block"))
        fallback, goodput = self["fallback"], (self["lanes.goodput_rps_per_chip"] * self["probability"]).sum("scenario")
        work = fallback.to_linexpr().groupby(self["lanes.workload"].rename("workload")).sum()
        need = (self["limits.survive_share"] * peak).drop_vars("block", errors="ignore")
        self.rows("survival, work", work >= need, self.guarded & (need > 0))
        d = {name: self[f"deliveries.{name}"].values for name in ("scenario", "vintage", "period", "cell", "chips")}
        axes = ("group", "vintage", "period", "cell")
        chips = np.zeros([self.size[axis] for axis in axes])
        left = (~self["deliveries.group_member"].values) * (d["chips"] * self["probability"].values[d["scenario"]])[
            :, None
        ]
        for group, chips_left in enumerate(left.T):
            np.add.at(chips[group], (d["vintage"], d["period"], d["cell"]), chips_left)
        others = (labelled(chips, *axes) * self.kept).sum("vintage")
        self.rows(
            "survival, chips",
            self.at_cells(fallback * (1.0 / goodput)) - others <= 0,
            self.guarded & self.where("cell"),
        )

    def training_work(self) -> None:
        """Count what training does, finish jobs or miss them, keep the floor of research."""
        speed = self["jobs.speed"]
        done = (self["training"] * (self.hours * speed)).sum(["block", "cell"])
        trained = self["trained"]
        self.rows("training done", trained - done <= 0, (self.where("scenario") & self.window).transpose(*trained.dims))
        self.rows("deadlines", trained.sum("period") + self["missed"] >= self["jobs.chip_hours"])
        floor = self["jobs.floor_chips"]
        work = (self["research"] * speed.max("job")).sum("cell") + (self["training"] * speed).sum(["job", "cell"])
        self.rows("floor of research", work >= floor, (floor > 0) & self.where("scenario", "block"))

    def single_site(self) -> None:
        """Run a single-site job at its host alone."""
        hosts, single = self["hosts"], self["jobs.single_site"]
        self.rows("one host", hosts.sum("site") <= 1, single)
        at = [self[f"deliveries.{axis}"].values for axis in STPC]
        chips = self["deliveries.chips"].values * self["vintages.units_max"].values[self["deliveries.vintage"].values]
        found = labelled(np.zeros([self.size[axis] for axis in STPC]), *STPC)
        np.add.at(found.values, tuple(at), chips)
        most = found.groupby(self["cells.site"].rename("site")).sum().max(("scenario", "period"))
        gang = self["jobs.gang_chips"]
        most = np.minimum(most, gang.where(gang > 0, np.inf))
        may = self.at_site(self.window & (self["jobs.speed"] > 0) & self.there) & single & self.where("block")
        self.rows("at its host", self.at_sites(self["training"].to_linexpr()) - (most * hosts).fillna(0) <= 0, may)

    def gangs(self) -> None:
        """Run a gang whole or not at all, where its host has the chips."""
        runs, gang, hosts = self["runs"], self["jobs.gang_chips"], self["hosts"]
        work = self["training"].sum("cell") - (gang * runs).fillna(0)
        self.rows("gang", work <= 0, self.gang & self.where("block"))
        elastic = self.by(self.kept_of(self.elastic) * self.elastic["chips"], self.elastic, *STPC)
        found = self.at_sites((self.capacity + elastic) * (self["jobs.speed"] > 0))
        needed = (gang * runs).fillna(0) + (gang * hosts).fillna(0)
        self.rows("gang at its host", found - needed >= -gang, self.gang & self.hosted)

    def money_in_periods(self) -> None:
        """Account what is committed, spent on work and gained, by scenario and period."""
        kwh, lanes, seconds = self["cells.usd_per_kwh"], self["lanes.cell"], self.hours * S_PER_HOUR
        signs = self["vintages.sign_period"] == self.period
        paid = (self["vintages.paid_usd"] * self.kept).sum("vintage")
        paid += (self["vintages.prepay_usd"] * signs * self.signed).sum("vintage")
        paid += (self.capacity * (self.idle_kw * kwh * self["period_hours"])).sum("cell")
        fee = self["vintages.cancel_usd"].where(self.may_end & ~self["vintages.renewed"], 0.0)
        if fee.any():
            paid += (fee * self.ended).sum("vintage")
        self.rows("committed", self["committed"] - paid == 0)
        d, cell = self.elastic, self.elastic["cell"]
        fee = d["used_usd_per_chip_hour"] + (self.idle_kw * kwh).sel(cell=cell).drop_vars("cell")
        hours = self.hours.sel(period=d["period"]).drop_vars("period")
        use = self.by((self["used"] * (fee * hours)).sum("block"), d, "scenario", "period")
        energy = (self.busy_kw * kwh).sel(cell=lanes).drop_vars("cell") / self["lanes.goodput_rps_per_chip"]
        request = self["lanes.usd_per_request"] + energy / S_PER_HOUR
        spent = use + (self["served"] * (request * seconds)).sum(["block", "lane"])
        spent += (self["training"] * (self.busy_kw * kwh * self.hours)).sum(["block", "job", "cell"])
        spent += (self["research"] * (self.busy_kw * kwh * self["period_hours"])).sum("cell")
        self.rows("operating", self["operating"] - spent == 0)
        value = self["value_usd"].sel(workload=self["lanes.workload"]).drop_vars("workload")
        gained = (self["served"] * (value * seconds)).sum(["block", "lane"])
        gained -= (self["refused"] * (self["refusal_usd"] * seconds)).sum(["block", "workload"])
        self.rows("worth", self["worth"] - gained == 0)

    @cached_property
    def loss(self) -> LinearExpression:
        """Give the discounted loss of each scenario."""
        net = self["committed"] + self["operating"] - self["worth"]
        last = np.minimum(self["jobs.last_period"], self.size["period"] - 1)
        missed = self["jobs.missed_usd"] * self["discount"].sel(period=last).drop_vars("period")
        loss = (self["discount"] * net).sum("period") + (missed * self["missed"]).sum("job")
        left = self["vintages.terminal_usd"] * self["end_discount"].item()
        return loss - (left * self.kept.isel(period=-1, drop=True)).sum("vintage") if left.any() else loss

    def risk(self) -> None:
        """Measure each scenario's loss beyond the value at risk."""
        self.rows("tail", self["shortfall"] + self["value_at_risk"] - self.loss >= 0)

    def limits(self) -> None:
        """Keep the budget of each year, and the limit of prepayment."""
        year, budget = self["limits.period_year"].rename("year"), self["limits.budget_usd"]
        spend = (self["committed"] + self["operating"]).groupby(year).sum()
        self.rows("budget", spend <= budget)
        self.rows(
            "prepayment", (self["vintages.prepay_usd"] * self.signed).sum() <= self["limits.prepay_usd_max"].item()
        )

    def objective(self) -> None:
        """Set the least mean loss plus the weight of risk times its CVaR."""
        weight, alpha, probability = self["risk_weight"].item(), self["risk_alpha"].item(), self["probability"]
        tail = (probability / (1.0 - alpha) * self["shortfall"]).sum() + self["value_at_risk"]
        self.m.add_objective((probability * self.loss).sum() + weight * tail)
