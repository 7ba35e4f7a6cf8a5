"""Check what must agree between the rows and tables of a portfolio.

Comes in: records that each passed alone. Goes out: a list of faults. It never stops at the first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from difflib import get_close_matches
from math import isclose

from offtake.errors import Fault
from offtake.schema.contradictions import contradictions
from offtake.schema.portfolio import Tables
from offtake.schema.settings import LISTS, SECTIONS, NodeRow
from offtake.schema.tables import TABLES, Row
from offtake.units import DAYS_PER_YEAR

TOML_NAME = "portfolio.toml"
ANY = "any"
TOLERANCE = 1e-6
FIRST_YEAR, LAST_YEAR, HORIZON_YEARS_MAX = 2000, 2100, 30


def check_tables(tables: Tables, faulty: set[str]) -> list[Fault]:
    """Return every fault between rows.

    Rows that failed alone are missing from ``tables``; a reference into a file named in ``faulty`` is
    therefore not judged, so that one mistake is reported once.
    """
    faults: list[Fault] = []
    for check in (keys_are_unique, references_exist, sources_are_given, marks_name_columns):
        faults += check(tables, faulty)
    if TOML_NAME not in faulty:
        faults += horizon_is_sound(tables)
        faults += shares_sum_to_one(tables)
        faults += dates_agree(tables)
    faults += round_trips_are_ordered(tables) + offers_are_whole(tables, faulty) + nodes_make_a_tree(tables)
    return faults + contradictions(tables, faulty)


def unsafe_files(tables: Tables, faulty: set[str]) -> set[str]:
    """Return the files that no other room can read: with rows that failed, stand twice or name what is not there."""
    checks = (keys_are_unique, references_exist)
    found = [fault for check in checks for fault in check(tables, faulty)] + shares_sum_to_one(tables)
    return faulty | {fault.file for fault in found}


def places(tables: Tables) -> Iterator[tuple[str, str, type[Row], tuple[Row, ...]]]:
    """Yield each list of records with its name, its file and its record class."""
    for name, record in TABLES.items():
        yield name, f"{name}.csv", record, getattr(tables, name)
    sections = {
        "portfolio": (tables.settings,),
        "region": tables.regions,
        "model": tables.models,
        "workload": tables.workloads,
        "growth": tables.growth,
        "node": tables.nodes,
        "shock": tables.shocks,
        "concentration": tables.concentration,
        "limits": (tables.limits,),
        "risk": (tables.risk,),
    }
    for name, rows in sections.items():
        yield name, TOML_NAME, SECTIONS[name], rows


def where(name: str, row: Row) -> int | str:
    """Return the place of a row: its number in a CSV file, its section in the TOML file."""
    if name in TABLES:
        return row.at
    return f"[[{name}]] {row.at}" if name in LISTS else f"[{name}]"


def keys_are_unique(tables: Tables, _faulty: set[str]) -> list[Fault]:
    """Return a fault for each row whose key stands earlier in its table."""
    faults: list[Fault] = []
    for name, file, record, rows in places(tables):
        seen: Counter[tuple[str, ...]] = Counter()
        for row in rows:
            key = tuple(str(getattr(row, column)) for column in record.key)
            seen[key] += 1
            if record.key and seen[key] > 1:
                faults.append(
                    Fault(file, f"{', '.join(key)} stands twice", "Keep one row.", where(name, row), record.key[-1])
                )
    return faults


def references_exist(tables: Tables, faulty: set[str]) -> list[Fault]:
    """Return a fault for each name that should stand in another table and does not."""
    lists = {name: rows for name, _, _, rows in places(tables)} | {"regions": tables.regions}
    files = {name: file for name, file, _, _ in places(tables)} | {"regions": TOML_NAME}
    faults: list[Fault] = []
    for name, file, record, rows in places(tables):
        for column, field in record.model_fields.items():
            extra = field.json_schema_extra
            refers = extra.get("refers") if isinstance(extra, dict) else None
            if not isinstance(refers, str):
                continue
            table, other = refers.split(".")
            if files[table] in faulty:
                continue
            known = [str(getattr(row, other)) for row in lists[table]]
            faults += [
                unknown_name(file, where(name, row), column, str(getattr(row, column)), known)
                for row in rows
                if getattr(row, column) not in {"", *known}
            ]
    return faults + amounts_name_known(tables, faulty)


def amounts_name_known(tables: Tables, faulty: set[str]) -> list[Fault]:
    """Return a fault for each name inside a list of pairs that no table holds."""
    faults: list[Fault] = []
    regions = [row.region for row in tables.regions]
    chips = [row.chip for row in tables.chips]
    if TOML_NAME not in faulty:
        faults += [
            unknown_name(TOML_NAME, where("workload", workload), "regions", region, regions)
            for workload in tables.workloads
            for region in workload.regions
            if region not in regions
        ]
    if "chips.csv" not in faulty:
        faults += [
            unknown_name("training.csv", job.at, "chips", chip, chips)
            for job in tables.training
            for chip in job.chips
            if chip not in chips
        ]
    return faults


def unknown_name(file: str, row: int | str, column: str, value: str, known: Iterable[str]) -> Fault:
    """Return the fault of a name that is not known, with the nearest that is."""
    known = sorted(set(known))
    close = get_close_matches(value, known, n=1, cutoff=0.5)
    mend = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."
    return Fault(file, "the name is not known", mend, row, column, value)


def sources_are_given(tables: Tables, _faulty: set[str]) -> list[Fault]:
    """Return a fault for each row that claims more than an assumption and names no source."""
    return [
        Fault(
            file,
            f"a row marked {row.confidence} names no source",
            "Name it, or mark the row assumption.",
            where(name, row),
            "source",
        )
        for name, file, _, rows in places(tables)
        for row in rows
        if row.confidence != "assumption" and not row.source
    ]


def marks_name_columns(tables: Tables, _faulty: set[str]) -> list[Fault]:
    """Return a fault for each mark on a column that the table does not have."""
    return [
        unknown_name(file, where(name, row), "marks", column, record.model_fields)
        for name, file, record, rows in places(tables)
        for row in rows
        for column in row.marks
        if column not in record.model_fields
    ]


def horizon_is_sound(tables: Tables) -> list[Fault]:
    """Return a fault where the horizon is empty, or longer than anybody plans."""
    start, end = tables.settings.start, tables.settings.end
    place = (TOML_NAME, "[portfolio]")
    if end <= start:
        return [Fault(place[0], "the horizon ends before it begins", "Give a later day.", place[1], "end", str(end))]
    if not FIRST_YEAR <= start.year <= LAST_YEAR or (end - start).days > HORIZON_YEARS_MAX * DAYS_PER_YEAR:
        mend = f"Begin between {FIRST_YEAR} and {LAST_YEAR} and end within {HORIZON_YEARS_MAX} years."
        return [Fault(place[0], "nobody plans for such a horizon", mend, place[1], "end", f"{start} to {end}")]
    return []


def round_trips_are_ordered(tables: Tables) -> list[Fault]:
    """Return a fault for each link whose 99th percentile is below its median."""
    problem = "the 99th percentile is below the median"
    return [
        Fault("links.csv", problem, "Swap them.", row.at, "rtt_ms_p99", f"{row.rtt_ms_p99:g}")
        for row in tables.links
        if row.rtt_ms_p99 < row.rtt_ms_median
    ]


def shares_sum_to_one(tables: Tables) -> list[Fault]:
    """Return a fault for each set of shares or weights that does not sum to one."""
    faults: list[Fault] = []

    def check(total: float, file: str, row: int | str, column: str, of: str = "") -> None:
        if not isclose(total, 1.0, abs_tol=TOLERANCE):
            problem = f"the shares{of} sum to {total:g}, not to 1"
            faults.append(Fault(file, problem, "Make them sum to 1.", row, column))

    if tables.growth:
        check(sum(row.weight for row in tables.growth), TOML_NAME, "[[growth]]", "weight")
    for workload in tables.workloads:
        check(sum(workload.regions.values()), TOML_NAME, where("workload", workload), "regions")
    readings: dict[str, dict[str, float]] = defaultdict(dict)
    last: dict[str, int] = {}
    for row in tables.exits:
        if readings[row.offer].setdefault(row.reading, row.weight) != row.weight:
            problem = f"reading {row.reading!r} has two weights"
            faults.append(Fault("exits.csv", problem, "Give each row of a reading the same weight.", row.at, "weight"))
        last[row.offer] = row.at
    for offer, weights in readings.items():
        check(sum(weights.values()), "exits.csv", last[offer], "weight", f" of offer {offer!r}")
    return faults


def nodes_make_a_tree(tables: Tables) -> list[Fault]:
    """Return a fault for each node whose parent is unknown or not before it, and for weights that do not sum to one."""
    faults: list[Fault] = []
    starts = {row.node: row.start for row in tables.nodes} | {"": tables.settings.start}
    total: dict[str, float] = defaultdict(float)
    last: dict[str, NodeRow] = {}
    for row in tables.nodes:
        total[row.parent] += row.weight
        last[row.parent] = row
        if row.parent not in starts:
            faults.append(unknown_name(TOML_NAME, where("node", row), "parent", row.parent, set(starts) - {""}))
        elif row.start <= starts[row.parent] and (row.parent or row.start < starts[""]):
            problem = f"it is known by {row.start}, not after its parent ({starts[row.parent]})"
            faults.append(Fault(TOML_NAME, problem, "Give a later day.", where("node", row), "start"))
    for parent, weight in total.items():
        if not isclose(weight, 1.0, abs_tol=TOLERANCE):
            problem = f"the weights after {parent or 'the first day'} sum to {weight:g}, not to 1"
            place = where("node", last[parent])
            faults.append(Fault(TOML_NAME, problem, "Make them sum to 1.", place, "weight"))
    return faults


def dates_agree(tables: Tables) -> list[Fault]:
    """Return a fault for each pair of dates or lengths that contradict each other."""
    faults: list[Fault] = []
    settings = tables.settings
    terms = {row.offer: row.term_days for row in tables.offers}

    def later(first: date, second: date, where_to: tuple[str, int | str, str], problem: str) -> None:
        if second < first:
            file, row, column = where_to
            faults.append(Fault(file, problem, f"Give a day from {first} on.", row, column, str(second)))

    for offer in tables.offers:
        if offer.sign_by is not None:
            later(
                settings.start,
                offer.sign_by,
                ("offers.csv", offer.at, "sign_by"),
                "the day to sign by is before the horizon",
            )
    for exit_row in tables.exits:
        term_days = terms.get(exit_row.offer)
        if term_days is not None and exit_row.notice_days > term_days:
            problem = f"the notice is longer than the term of {term_days} days"
            faults.append(Fault("exits.csv", problem, "Shorten it, or lengthen the term.", exit_row.at, "notice_days"))
    for tranche in tables.tranches:
        mode = tranche.slip_days_mode
        if tranche.slip_days_max < tranche.slip_days_min:
            faults.append(
                Fault("tranches.csv", "the largest slip is below the least", "Swap them.", tranche.at, "slip_days_max")
            )
        elif mode is not None and not tranche.slip_days_min <= mode <= tranche.slip_days_max:
            problem = "the likeliest slip is outside the least and the largest"
            faults.append(
                Fault("tranches.csv", problem, "Move it between them.", tranche.at, "slip_days_mode", str(mode))
            )
    for job in tables.training:
        later(
            job.earliest + timedelta(days=1),
            job.deadline,
            ("training.csv", job.at, "deadline"),
            "the deadline is before the start",
        )
        later(settings.start, job.deadline, ("training.csv", job.at, "deadline"), "the deadline is before the horizon")
    return faults


def offers_are_whole(tables: Tables, faulty: set[str]) -> list[Fault]:
    """Return a fault for each offer whose parts do not fit together."""
    faults: list[Fault] = []
    tranches = Counter(row.offer for row in tables.tranches)
    for offer in tables.offers:
        if not tranches[offer.offer] and "tranches.csv" not in faulty:
            faults.append(
                Fault(
                    "offers.csv",
                    f"offer {offer.offer!r} delivers nothing",
                    "Add a row to tranches.csv.",
                    offer.at,
                    "offer",
                )
            )
        if offer.units_min > offer.units_max:
            faults.append(
                Fault(
                    "offers.csv",
                    "the least size is above the largest",
                    "Swap them.",
                    offer.at,
                    "units_min",
                    str(offer.units_min),
                )
            )
        if offer.ramp_discount_share and offer.ramp_discount_until is None:
            faults.append(
                Fault("offers.csv", "the ramp discount has no last day", "Give it.", offer.at, "ramp_discount_until")
            )
        if not offer.signed and offer.firmness == "firm" and offer.probability < 1:
            problem = "a firm offer has a chance below 1 to be had"
            faults.append(
                Fault("offers.csv", problem, "Mark it option, letter or talks, or set 1.", offer.at, "probability")
            )
        api = offer.tokens_per_minute_max > 0
        if api and (offer.fee_usd_per_chip_hour or offer.fee_usd_per_month):
            problem = "a token-priced offer also has a fee for chips or months"
            faults.append(Fault("offers.csv", problem, "Split it into two offers.", offer.at, "tokens_per_minute_max"))
        if api and offer.prepay_share > 0:
            problem = "a token-priced offer is paid by use and takes no prepayment"
            faults.append(Fault("offers.csv", problem, "Leave prepay_share blank.", offer.at, "prepay_share"))
    return faults + tranches_fit_their_offers(tables, faulty)


def tranches_fit_their_offers(tables: Tables, faulty: set[str]) -> list[Fault]:
    """Return a fault for each tranche that brings what its offer does not sell."""
    faults: list[Fault] = []
    apis = {row.offer for row in tables.offers if row.tokens_per_minute_max > 0}
    for tranche in tables.tranches:
        if tranche.offer in apis and tranche.chip:
            faults.append(
                Fault(
                    "tranches.csv",
                    "a token-priced offer delivers no chips",
                    "Leave chip blank.",
                    tranche.at,
                    "chip",
                    tranche.chip,
                )
            )
        if tranche.offer not in apis and not tranche.chip and "offers.csv" not in faulty:
            mend = "Name the chip, or set tokens_per_minute_max of the offer."
            faults.append(Fault("tranches.csv", "the tranche names no chip", mend, tranche.at, "chip"))
        if tranche.chip and tranche.chips_per_unit <= 0:
            faults.append(
                Fault(
                    "tranches.csv", "the tranche brings no chips", "Give chips_per_unit.", tranche.at, "chips_per_unit"
                )
            )
    return faults
