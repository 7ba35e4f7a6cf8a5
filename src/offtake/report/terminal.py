"""Make the short tables that end a verb on the terminal, as Rich renderables: the answer, then its figures.

Comes in: the records that the verbs write, and a checked portfolio. Goes out: what to print; it prints
nothing itself. Names come from users' files, so every cell is plain text: Rich reads no markup in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from offtake.plan.result import Appraisal, OffersAppraisal, PlanResult, Range, Trust
from offtake.plan.words import gap_words
from offtake.report import happenings, verdicts
from offtake.report.sums import (
    CHOICES,
    HELD,
    UNCLEAR,
    by_interest,
    marked_change,
    mean_regrets,
    say_curves,
    say_missing,
    say_months,
    say_swings,
    say_worth,
    signed_when,
    worst_regrets,
)
from offtake.report.words import (
    NOTHING,
    change,
    count,
    money,
    number,
    plural,
    power,
    share,
    short,
    tally,
    with_interval,
)
from offtake.schema.columns import Confidence
from offtake.schema.portfolio import Tables

if TYPE_CHECKING:  # modules that load the engine or the solver, which other verbs do without
    from offtake.plan.compare import PlanComparison
    from offtake.rehearse.compare import Comparison, Row
    from offtake.rehearse.summary import Group as Requests
    from offtake.rehearse.summary import Summary

STYLES = {"sign": "bold green", "sign part": "bold green", "wait": "yellow", "leave": "yellow", "keep": "dim"}


def table(columns: list[tuple[str, bool]]) -> Table:
    """Start a table; each column is a name and whether it holds figures, which are set to the right."""
    made = Table(box=None, pad_edge=False, show_edge=False)
    for name, figures in columns:
        made.add_column(Text(name), justify="right" if figures else "left", header_style="dim")
    return made


def answered(answer: str, made: Table, more: str = "") -> Group:
    """Put the answer above its table, and what is said beside it between them."""
    return Group(Text(answer, style="bold"), *([Text(more)] if more else []), Text(""), settled(made))


def settled(made: Table) -> Table:
    """Let names and headings of a finished table wrap where the terminal is narrow, and no figure."""
    for column in made.columns:
        column.no_wrap, column.overflow = False, "fold"
        if column.justify == "right":
            words = [*str(column.header).split(), *(str(cell) for cell in column.cells)]
            column.min_width = max(map(cell_len, words), default=0)
    return made


def check_table(tables: Tables, counts: Mapping[str, Counter[Confidence]]) -> Group:
    """Table how many figures of each table are confirmed, reported, estimated or assumed."""
    total = sum((counter for counter in counts.values()), Counter[Confidence]())
    figures = total.total()
    weak = share(total[Confidence.ASSUMPTION] / figures) if figures else "none"
    title = f"{tables.settings.name}: no fault in {plural(figures, 'figure')}; {weak} are assumptions."
    made = table([("Table", False), *((str(mark), True) for mark in Confidence)])
    for name, counter in counts.items():
        made.add_row(Text(name), *(Text(count(counter[mark]) if counter[mark] else NOTHING) for mark in Confidence))
    made.add_row(Text("all"), *(Text(count(total[mark])) for mark in Confidence), style="bold")
    return answered(title, made)


def plan_table(plan: PlanResult) -> Group:
    """Table what the plan does with each offer."""
    names = [("Offer", False), ("Decision", False), ("Units", True), ("Signed", False), ("Firm\npower", True)]
    made = table([*names, ("Fees,\nmean", True)])
    for each in by_interest(plan.decisions):
        cells = [
            each.offer,
            each.action,
            f"{number(each.units_now)} of {number(each.units_max)}",
            signed_when(each) or NOTHING,
            power(each.firm_kw) if each.firm_kw else NOTHING,
            money(each.fees_usd) if each.fees_usd else NOTHING,
        ]
        made.add_row(*(Text(cell) for cell in cells), style=STYLES.get(each.action, ""))
    made.add_section()
    made.add_row(Text("Net value, mean"), *[Text("")] * 4, Text(money(plan.mean_net_usd)))
    made.add_row(Text(f"Worst {share(1.0 - plan.risk_alpha)}, mean"), *[Text("")] * 4, Text(money(-plan.cvar_loss_usd)))
    parts: list[RenderableType] = [Text(line) for line in trust_lines(plan)]
    if plan.trust is not None and plan.trust.rules:
        parts += [Text(""), rules_table(plan.trust)]
    if plan.warnings:
        parts += [Text(""), Text("To know beside it:"), *(Text(f"· {line}") for line in plan.warnings)]
    return Group(answered(plan.answer, made, plan.serving), *parts)


def rules_table(trust: Trust) -> Table:
    """Table what each simple rule signs and loses, the least first; one that breaks a limit last."""
    made = table([("Simple rule", False), ("Signs today", False), ("Loses", True), ("On fresh paths, 95%", True)])
    for one in sorted(trust.rules, key=lambda each: inf if each.loss_usd is None else each.loss_usd):
        signs = ", ".join(f"{number(units)} {offer}" for offer, units in one.units.items() if units) or "nothing"
        loss = "breaks a limit" if one.loss_usd is None else money(max(one.loss_usd, 0.0))
        made.add_row(*map(Text, (one.rule, signs, loss, fresh_words(one.fresh_loss_usd))))
    return settled(made)


def fresh_words(one: Range | None) -> str:
    """Write the 95% interval of what a rule loses on fresh paths."""
    return NOTHING if one is None or one.low is None or one.high is None else f"{money(one.low)} to {money(one.high)}"


def trust_lines(plan: PlanResult) -> list[str]:
    """Say below the table how far the plan can be trusted, and what was not worked out; its gap in any case."""
    if plan.trust is None:
        return ["", gap_words(plan.objective_usd, plan.bound_usd)]
    return ["", "How far to trust it:", *(f"· {line}" for line in [*plan.trust.sentences, *plan.trust.left_out])]


def plan_comparison_table(found: PlanComparison) -> Group:
    """Table how two plans differ: the decisions that changed, and the value from the first to the second by cause."""
    decisions = table([("Decision", False), ("Before", False), ("After", False), ("Kept until", False), ("Fees", True)])
    for move in found.decisions:
        if move.changed:
            sides = [
                f"{action} {number(units)}" if units else action
                for action, units in zip(move.action, move.units, strict=True)
            ]
            until = " to ".join(dict.fromkeys(one or NOTHING for one in move.kept_until))
            decisions.add_row(*map(Text, (move.offer, *sides, until, change(move.fees_usd[1] - move.fees_usd[0]))))
    value = table([("Risk-adjusted value", False), ("Change", True), ("Value", True)])
    value.add_row(Text(found.first), Text(""), Text(money(found.objective_usd[0])))
    for cause in found.waterfall:
        value.add_row(
            Text(cause.cause),
            Text(marked_change(cause.change_usd, unclear=cause.unclear)),
            Text(money(cause.value_usd)),
        )
    value.add_row(Text(found.second), Text(""), Text(money(found.objective_usd[1])), style="bold")
    parts: list[RenderableType] = (
        [settled(decisions), Text("")] if any(move.changed for move in found.decisions) else []
    )
    kept, new = found.decisions_kept_usd, found.objective_usd[1]
    if kept is None:
        parts += [Text("The first plan's decisions of the first day cannot be kept now."), Text("")]
    elif new - kept >= 1.0:
        parts += [
            Text(f"Keeping the first plan's decisions of the first day would cost {money(new - kept)}."),
            Text(""),
        ]
    unclear = [Text(""), Text(UNCLEAR)] if any(cause.unclear for cause in found.waterfall) else []
    return Group(Text(found.answer, style="bold"), Text(""), *parts, settled(value), *unclear)


def appraisal_table(appraisal: Appraisal) -> Group:
    """Table what one offer is worth."""
    made = table([("Measure", False), ("Amount", True)])
    rows = [
        ("Best plan that may sign it", money(appraisal.with_usd)),
        ("Best plan without it", money(appraisal.without_usd)),
        ("What being able to sign it is worth", change(appraisal.difference_usd)),
    ]
    if appraisal.forced_usd is not None:
        rows.append(("What signing all of it on the first day adds", change(appraisal.forced_usd)))
    if appraisal.break_even_fee_ratio is not None:
        rows.append(("Break-even fee", f"{share(appraisal.break_even_fee_ratio)} of the fee"))
    rows.append(("Chance that signing proves right", share(appraisal.proves_right_share)))
    fresh = appraisal.fresh
    if fresh is not None and fresh.value_usd is not None and fresh.proves_right_share is not None:
        rows.append(("What signing adds on fresh draws", with_interval(fresh.value_usd, fresh.low_usd, fresh.high_usd)))
        rows.append(("Chance that signing proves right there", share(fresh.proves_right_share)))
    for name, amount in rows:
        made.add_row(Text(name), Text(amount))
    return answered(appraisal.answer, made)


def sheet_table(appraisal: Appraisal) -> Group:
    """Table what each clause is worth, the most valuable first."""
    made = table([("Clause", False), ("Moved to", False), ("Worth to us", True), ("Signing then adds", True)])
    for one in appraisal.clauses:
        step = one.step if one.asked else f"{one.step} (ours to give)"
        style = "bold green" if one.flips else ""
        worth = say_worth(one)
        made.add_row(Text(one.clause), Text(step), Text(worth), Text(change(one.value_usd)), style=style)
    flip = f"The smallest change that flips the answer: {appraisal.flip}." if appraisal.flip else ""
    found = answered(flip or "No single change that was tried flips the answer.", made)
    unclear = any(one.unclear for one in appraisal.clauses)
    return Group(found, Text(""), Text(UNCLEAR)) if unclear else found


def more_lines(appraisal: Appraisal) -> Group:
    """Write what else an appraisal says, a line each: fees along its curves, its months, and what is displaced."""
    curves, lines = say_curves(appraisal), []
    if curves:
        lines += ["Break-even fee, of the one asked, if it is signed so:", *(f"· {line}" for line in curves), HELD]
    if appraisal.difference_by_period_usd:
        lines.append(f"Of the months, {say_months(appraisal)[0].lower()}{say_months(appraisal)[1:]}")
    if appraisal.displaces:
        lines += ["With it, other things change:", *(f"· {line}" for line in appraisal.displaces)]
    return Group(*map(Text, lines))


def regret_table(appraisal: Appraisal) -> Group:
    """Table how much each choice would be regretted, on average and in its worst branch; the least regretted first."""
    made = table([("Choice", False), ("Regret, mean", True), ("Worst", True), ("In the branch", False)])
    worst = worst_regrets(appraisal)
    for name, mean in sorted(mean_regrets(appraisal).items(), key=lambda each: each[1]):
        most = worst[name].regret_usd.get(name, 0.0)
        cells = [CHOICES.get(name, name), money(mean), money(most), worst[name].branch if most > 0 else NOTHING]
        made.add_row(*map(Text, cells))
    missing = say_missing(appraisal)
    return Group(settled(made), *([Text(missing)] if missing else []))


def tornado_table(appraisal: Appraisal) -> Group:
    """Table what signing is worth at both ends of each assumption, the widest swing first."""
    made = table(
        [("Assumption", False), ("Low", False), ("Signing adds", True), ("High", False), ("Signing adds", True)]
    )
    for one in appraisal.swings:
        cells = [one.name]
        for side in (one.low, one.high):
            value = NOTHING if side.value_usd is None else change(side.value_usd)
            cells += [side.setting, f"{value}{' (flips)' if side.flips else ''}"]
        style = "bold" if one.low.flips or one.high.flips else ""
        made.add_row(*(Text(cell) for cell in cells), style=style)
    return answered(say_swings(appraisal), made)


def offers_table(found: OffersAppraisal) -> Group:
    """Table what every open offer is worth, and which pairs stand in for each other."""
    made = table([("Offer", False), ("Units", True), ("Worth", True), ("Stands in for, or adds to", False)])
    for one in found.offers:
        pairs = [pair for pair in found.pairs if one.offer in {pair.one, pair.other} and pair.kind != "apart"]
        words = [
            f"{pair.other if pair.one == one.offer else pair.one} ({pair.kind}, {change(pair.together_usd)})"
            for pair in pairs
        ]
        units = f"{number(one.units)} of {number(one.units_max)}"
        worth = marked_change(one.worth_usd, unclear=0.0 < abs(one.worth_usd) <= found.doubt_usd)
        made.add_row(Text(one.offer), Text(units), Text(worth), Text("; ".join(words) or NOTHING))
    best = found.offers[0].name if found.offers else ""
    answer = f"{best} is worth most: {change(found.offers[0].worth_usd)}." if best else "There is no open offer."
    unclear = any(0.0 < abs(one.worth_usd) <= found.doubt_usd for one in found.offers)
    return Group(answered(answer, made), *([Text(""), Text(UNCLEAR)] if unclear else []))


def rehearsal_table(summaries: list[Summary]) -> Group:
    """Table how each workload fared in the first rehearsal, and below it every rehearsal in one line."""
    main = summaries[0]
    names = ["Requests", "In time", "Refused", "Failed", "TTFT p95", "TPOT p95"]
    made = table([("Workload", False), *((name, True) for name in names)])
    for group in main.workloads:
        made.add_row(*service_cells(group.workload, group))
    made.add_row(*service_cells(main.total.workload, verdicts.overall(main)), style="bold")
    if len(summaries) > 1:
        made.add_section()
        for each in summaries:
            made.add_row(*service_cells(run_name(each, main), verdicts.overall(each)))
    lines = [*happenings.extrapolated(main), *happenings.event_lines(main)]
    below = [Text(""), *(Text(line) for line in lines)] if lines else []
    return Group(Text(verdicts.answer(main), style="bold"), Text(""), settled(made), *below)


def comparison_table(comparison: Comparison) -> Group:
    """Table every policy that was compared, in means over the loads: its value, and below it who was served."""
    whole, first = comparison.offered_usd or 1.0, comparison.rows[0]
    kinds = list(first.attainment)
    names = ["In time", f"against {verdicts.policy_name(first)}", "Hindsight", "Served", "Cost"]
    values = table([("Value", False), *((name, True) for name in names)])
    people = table([("Requests", False), *((name, True) for name in ("Refused", "Fairness", *kinds))])
    for row in comparison.rows:
        hindsight = NOTHING if row.hindsight_share is None else marked_short(row.hindsight_share, row)
        gap = NOTHING if row is first else verdicts.beside(row.differences["value_in_time_usd"], whole)
        shares = [marked_short(row.means[name] / whole, row) for name in ("value_in_time_usd", "value_usd")]
        cells = [verdicts.policy_name(row), shares[0], gap, hindsight, shares[1], money(row.means["cost_usd"])]
        values.add_row(*(Text(cell) for cell in cells), style="bold" if row is first else "")
        cells = [verdicts.policy_name(row), short(row.means["share_refused"]), f"{row.means['fairness']:.3f}"]
        cells += [marked_short(row.attainment[kind], row) for kind in kinds]
        people.add_row(*(Text(cell) for cell in cells), style="bold" if row is first else "")
    answer = (
        f"{len(comparison.rows)} policies on {plural(len(comparison.seeds), 'load')}: value as a share of "
        f"{money(comparison.offered_usd)} offered, differences in points with their 95% intervals; requests of each "
        "kind served in time."
    )
    notes = [Text(doubt) for doubt in verdicts.doubts(comparison)]
    return Group(Text(answer, style="bold"), Text(""), settled(values), Text(""), settled(people), *notes)


def marked_short(part: float, row: Row) -> str:
    """Write a share in the width of a narrow column, marked where it holds for one length alone."""
    return verdicts.marked(short(part), row)


def run_name(each: Summary, main: Summary) -> str:
    """Name one rehearsal of several: by its policy, or by sites that it lost and the first did not."""
    lost = [text.partition(" from ")[0] for text in each.lost_sites if text not in main.lost_sites]
    return f"without {', '.join(lost)}" if lost else verdicts.policy_name(each)


def service_cells(name: str, group: Requests) -> list[Text]:
    """Write how a group of requests fared; where it was not stationary, the reason stands in place of its share."""
    whole = max(group.requests, 1)
    cells = [
        name,
        tally(group.requests),
        verdicts.in_time(group, short),
        *(short(part / whole) for part in (group.refused, group.failed)),
        *(verdicts.wait(group, wait) for wait in (group.ttft_ms_p95, group.tpot_ms_p95)),
    ]
    return [Text(cell) for cell in cells]
