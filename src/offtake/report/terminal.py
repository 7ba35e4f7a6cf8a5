"""Make the short tables that end a verb on the terminal, as Rich renderables.

Comes in: the records that the verbs write. Goes out: tables to print; it prints nothing itself. Names come
from users' files, so every cell is plain text: Rich reads no markup in it.
"""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from offtake.plan.result import Appraisal, PlanResult
from offtake.report.words import NOTHING, change, day, money, number, power, share

STYLES = {"sign": "bold green", "sign part": "bold green", "leave": "yellow", "keep": "dim"}


def table(title: str, columns: list[tuple[str, bool]]) -> Table:
    """Start a table; each column is a name and whether it holds figures, which are set to the right."""
    made = Table(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False, show_edge=False)
    for name, figures in columns:
        made.add_column(Text(name), justify="right" if figures else "left", header_style="dim")
    return made


def plan_table(plan: PlanResult) -> Table:
    """Table what the plan does with each offer."""
    names = [("Offer", False), ("Decision", False), ("Units", True), ("Signed", False), ("Firm power", True)]
    made = table(plan.answer, [*names, ("Fees, mean", True)])
    for each in plan.decisions:
        cells = [
            each.offer,
            each.action,
            f"{number(each.units)} of {number(each.units_max)}",
            day(each.sign_date) or NOTHING,
            power(each.firm_kw) if each.firm_kw else NOTHING,
            money(each.fees_usd) if each.fees_usd else NOTHING,
        ]
        made.add_row(*(Text(cell) for cell in cells), style=STYLES.get(each.action, ""))
    made.add_section()
    made.add_row(Text("Net value, mean"), *[Text("")] * 4, Text(money(plan.mean_net_usd)))
    made.add_row(
        Text(f"Mean of the worst {share(1.0 - plan.risk_alpha)}"), *[Text("")] * 4, Text(money(-plan.cvar_loss_usd))
    )
    return made


def appraisal_table(appraisal: Appraisal) -> Table:
    """Table what one offer is worth."""
    made = table(appraisal.answer, [("Measure", False), ("Amount", True)])
    rows = [
        ("Best plan that may sign it", money(appraisal.with_usd)),
        ("Best plan without it", money(appraisal.without_usd)),
        ("What the choice is worth", change(appraisal.difference_usd)),
    ]
    if appraisal.forced_usd is not None:
        rows.append(("What signing it in full adds", change(appraisal.forced_usd)))
    if appraisal.break_even_fee_ratio is not None:
        rows.append(("Break-even fee", f"{share(appraisal.break_even_fee_ratio)} of the fee"))
    rows.append(("Chance that signing proves right", share(appraisal.proves_right_share)))
    for name, amount in rows:
        made.add_row(Text(name), Text(amount))
    return made
