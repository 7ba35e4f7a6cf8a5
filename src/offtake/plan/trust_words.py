"""Say in plain English how far a plan can be trusted.

Comes in: a :class:`~offtake.plan.result.Trust` without its sentences. Goes out: sentences. It must never work anything
out that the record does not hold.
"""

from __future__ import annotations

from offtake.plan.judging import TrustOptions
from offtake.plan.result import Leeway, Range, Replanned, Trust
from offtake.plan.solution import Solution
from offtake.plan.words import gap_words, listing, money, percent

SAME = 1e-6


def sentences_of(trust: Trust, solution: Solution) -> list[str]:
    """Return what a plan's trust record says, a sentence each."""
    return [
        gap_words(solution.objective_usd, solution.bound_usd),
        *foresight_words(trust, solution),
        *fresh_words(trust, solution),
        *rule_words(trust),
        *steady_words(trust),
        *near_words(trust),
        *replan_words(trust),
    ]


def left_out(options: TrustOptions, replanned: Replanned | None, *, survives: bool = False) -> list[str]:
    """Return what was not worked out, a sentence each; ``survives``: critical work must survive the loss of a group."""
    sentences = []
    if survives:
        sentences.append(
            "The value of foresight leaves out that critical work survives the loss of any one group (N-1): it is an "
            "upper bound."
        )
    if options.level == "quick":
        sentences.append("Few paths, few other draws and few sizes were tried: ask for --trust full.")
    if options.replan == 0:
        sentences.append(
            "Planning anew at later dates was not tried on fresh paths: ask for --replan with their number."
        )
    elif replanned is None:
        sentences.append("Nothing can be decided after the first day, so that there is nothing to plan anew.")
    return sentences


def foresight_words(trust: Trust, solution: Solution) -> list[str]:
    """Say what perfect information, and what planning on chances, is worth."""
    value = max(abs(solution.objective_usd), 1.0)
    words = []
    if trust.foresight_usd is not None:
        part = percent(trust.foresight_usd / value)
        words.append(f"Perfect foresight would add {money(trust.foresight_usd)} ({part}): no forecast is worth more.")
    first_day = "Planning the first day for the mean scenario alone"
    loss = trust.mean_plan_loss_usd
    if loss is None:
        words.append(f"{first_day} would break a limit.")
    elif loss <= max(solution.bound_usd - solution.objective_usd, SAME * value):
        words.append(f"{first_day} would lose nothing beyond the solver's gap.")
    else:
        words.append(f"{first_day} would lose {money(loss)}.")
    return words


def fresh_words(trust: Trust, solution: Solution) -> list[str]:
    """Say how the plan fares on fresh paths."""
    fresh = trust.fresh
    if fresh is None:
        return []
    mean = f"{money(fresh.mean_net_usd.estimate)}{interval(fresh.mean_net_usd)}"
    own = money(solution.expected_net_usd)
    words = [f"On {fresh.paths} fresh paths the mean net value is {mean}; on its own scenarios {own}."]
    if fresh.broken_share > 0:
        words.append(f"On {percent(fresh.broken_share)} of them the research floor or a budget cannot be met.")
    return words


def interval(one: Range) -> str:
    """Write a 95% interval in brackets."""
    if one.low is None or one.high is None:
        return ""
    return f" (95%: {money(one.low)} to {money(one.high)})"


def rule_words(trust: Trust) -> list[str]:
    """Say which simple rule does best, and which break a limit."""
    losses = {one.rule: one.loss_usd for one in trust.rules if one.loss_usd is not None}
    broken = [one.rule for one in trust.rules if one.loss_usd is None]
    words = []
    if losses:
        least = min(losses.values())
        best = [f"“{rule}”" for rule, loss in losses.items() if loss <= least + SAME * max(abs(least), 1.0)]
        verb = "loses" if len(best) == 1 else "lose"
        words.append(f"Of the simple rules {listing(best)} {verb} least: {money(max(least, 0.0))}.")
    if broken:
        words.append(f"Limits are broken by {listing([f'“{rule}”' for rule in broken])}.")
    return words


def steady_words(trust: Trust) -> list[str]:
    """Say whether other draws lead to the same first day."""
    if not trust.steadiness:
        return []
    moved = [
        one.offer
        for one in trust.steadiness
        if max(abs(one.units_least - one.units_now), abs(one.units_most - one.units_now))
        > SAME * max(one.units_most, 1.0)
    ]
    if not moved:
        return [f"Made from {trust.samples} other draws, the plan signs the same on the first day."]
    return [f"Made from {trust.samples} other draws, the plan would not always sign as much today of {listing(moved)}."]


def near_words(trust: Trust) -> list[str]:
    """Say what plans within a small loss share, and where they differ."""
    part = percent(trust.near_share)
    free = [one.offer for one in trust.leeway if has_room(one)]
    fixed = [one.offer for one in trust.leeway if not has_room(one)]
    words = []
    if fixed:
        words.append(f"All plans tried that lose under {part} sign as much today of {listing(fixed)}.")
    if free:
        words.append(f"Under {part} is lost with more or less of {listing(free)}: the model does not decide there.")
    return words


def has_room(one: Leeway) -> bool:
    """Tell whether near plans sign more or less of an offer."""
    return one.units_most - one.units_least > SAME * max(one.units_most, 1.0)


def replan_words(trust: Trust) -> list[str]:
    """Say what planning anew adds."""
    found = trust.replanned
    if found is None:
        return []
    gain = f"{money(found.gain_usd.estimate)}{interval(found.gain_usd)}"
    dates = f"{len(found.dates)} {'date' if len(found.dates) == 1 else 'dates'}"
    paths = f"{found.paths} fresh {'path' if found.paths == 1 else 'paths'}"
    return [f"Planning anew at {dates} on {paths} changes the mean net value by {gain}."]
