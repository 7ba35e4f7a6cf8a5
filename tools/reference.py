"""Write the reference pages from the program itself: commands, output, policies and constraints.

Comes in: the command line's functions, the records and tables that the verbs write, and the docstrings of policies and
constraints. Goes out: Markdown text, the same bytes each time. What a field means stands beside it, after ``#:``; what
a column means stands in the docstring of the function that makes its table, under ``Columns``; a unit is read off the
name. Whatever says nothing about itself stops the generator. It must never run a verb.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from typer.models import ArgumentInfo, OptionInfo

from tools.reference_words import ABOUT_JSON, ERROR_KEYS, EXIT_CODES, EXITS_3, JSON_KEYS, WRITES

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "offtake"
MADE = "This page is made from the program itself by `just docs`.\n"

RECORDS = (
    ("`plan/plan.json`", "offtake.plan.result", "PlanResult"),
    ("`compare.json`", "offtake.plan.compare", "PlanComparison"),
    ("`appraise/OFFER/appraisal.json`", "offtake.plan.result", "Appraisal"),
    ("`appraise/all-offers/offers.json`", "offtake.plan.result", "OffersAppraisal"),
    ("`plan/fleet.json`", "offtake.fleet", "Fleet"),
    ("`rehearse/rehearse.json`", "offtake.rehearse.summary", "Summary"),
    ("`rehearse/compare.json`", "offtake.rehearse.compare", "Comparison"),
    ("Decisions of `offtake route --replay --json`", "offtake.route.judge", "Judged"),
    ("Sums of `offtake ledger --json`", "offtake.route.ledger.sums", "Sum"),
    ("Contracts of `offtake ledger --json`", "offtake.route.ledger.burn", "Burn"),
    ("Notices of `offtake ledger --json`", "offtake.report.notices", "Notice"),
    ("Files of `offtake ledger --json`", "offtake.route.ledger.export", "Exported"),
    ("`NAME.fit.json`", "offtake.performance.fit_report", "FitReport"),
)
TABLES = (
    ("plan/tables.py", "plan", ("capacity", "demand", "placement", "lanes", "cost", "prices", "scenarios")),
    ("rehearse/outcome.py", "rehearse", ("outcome",)),
)
# How a part of a name tells its unit; longer parts first.
UNITS = {
    "share": "share", "tokens_per_minute": "tokens per minute", "requests_per_minute": "requests per minute",
    "bytes": "bytes", "days": "days", "rps_per_chip": "requests/s per chip", "usd": "USD",
    "kw": "kW",
    "rps": "requests/s", "ms": "ms", "ns": "ns", "hours": "h", "ratio": "ratio", "gap": "share",
    "probability": "share", "alpha": "share", "chips": "chips", "tokens": "tokens", "requests": "requests",
    "error": "share", "s": "s",
}  # fmt: skip
TOLD_BY = {"say": "route", "serve": "route"}  #: functions of a verb that pass on what they are given
INDICES = """Indices: s scenario, t period, b block of the week, o offer, v an offer at one signing date, d a delivery,
i site, n cell (a chip at a site, or an API), k workload, l lane (a workload in a cell where it may run), j training
job, g group; p is the probability of a scenario.
"""
POLICY_MODULES = ("admit", "choose", "baselines", "price", "update")


def pages() -> dict[Path, str]:
    """Make every page of this module."""
    folder = ROOT / "docs" / "reference"
    makers = {"commands": commands, "output": output, "policy": policy, "constraints": constraints, "events": events}
    return {folder / f"{name}.md": make() for name, make in makers.items()}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Lay cells out as a Markdown table."""
    lines = [head, ["---"] * len(head), *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def verbs() -> dict[str, Callable[..., Any]]:
    """Give the function of each verb, in the order of the help."""
    from offtake.cli.shell import app  # noqa: PLC0415  # the rest of the tools work before the package does

    import_module("offtake.cli.main")
    found = {}
    for group, commands_of in [("", app), *((f"{one.name} ", one.typer_instance) for one in app.registered_groups)]:
        for command in commands_of.registered_commands if commands_of is not None else []:
            if command.callback is not None:
                found[group + (command.name or command.callback.__name__)] = command.callback
    return found


def commands() -> str:
    """Make the page of every verb, its arguments and options."""
    head = (
        f"# Commands\n\n{MADE}\nStandard output carries the answer; progress and errors go to standard error. With "
        f"`--json` the answer is one object, described in [output](output.md).\n\n{EXIT_CODES}"
    )
    return head + "".join(verb_section(name, function) for name, function in verbs().items())


def verb_section(name: str, function: Callable[..., Any]) -> str:
    """Describe one verb."""
    given = list(parameters(function))
    words = [word for word, *_ in given if not word.startswith("`--")]
    usage = " ".join([f"offtake {name}", *(word.strip("`") for word in words), "[OPTIONS]"])
    rows = table(["argument or option", "value", "default", "meaning"], [list(row) for row in given])
    refusal = f" Exits 3 where {EXITS_3[name]}." if name in EXITS_3 else ""
    return (
        f"\n## `offtake {name}`\n\n{inspect.getdoc(function)}\n\n```\n{usage}\n```\n\n{rows}\nWrites {WRITES[name]}."
        f"{refusal}\n"
    )


def parameters(function: Callable[..., Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind of value, default and meaning of each parameter of a verb."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = typing.get_args(hints[name])
        if not isinstance(info, ArgumentInfo | OptionInfo) or not info.help:
            raise ValueError(f"{function.__name__}: {name} has no help")
        optional = parameter.default is not inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = f"[{name.upper()}]" if optional else name.upper()
        else:
            declared = [info.default, *(info.param_decls or ())]  # typer takes the first declaration for a default
            named = [word for word in declared if isinstance(word, str) and word.startswith("--")]
            shown = next(iter(named), "--" + name.replace("_", "-"))
        yield f"`{shown}`", value_words(kind, info), default_words(parameter.default, kind), info.help


def value_words(kind: Any, info: ArgumentInfo | OptionInfo) -> str:  # noqa: ANN401  # any annotation
    """Say what may be given for a parameter."""
    kinds = [one for one in (typing.get_args(kind) or (kind,)) if one is not types.NoneType]
    name = {Path: "path", str: "text", float: "number", int: "whole number", bool: "flag"}.get(kinds[0], "text")
    limits = [f"{sign} {limit:g}" for sign, limit in (("≥", info.min), ("≤", info.max)) if limit is not None]
    return ", ".join([name, *limits])


def default_words(default: object, kind: object) -> str:
    """Say what counts where nothing is given."""
    if default is inspect.Parameter.empty:
        return "**required**"
    return "" if default in (None, "") or kind is bool else f"`{default}`"


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def output() -> str:
    """Make the page of every file and object that the verbs write."""
    head = (
        f"# Output\n\n{MADE}\nA run folder is `runs/NAME` unless `--out` says otherwise. Each stage is written whole "
        "or not at all. Money is US dollars, discounted to the first day; a name ends in its unit. "
        "Same portfolio, same version, same bytes, but for the two times in [Size](#size).\n\n"
        f"## Objects of `--json`\n\n{json_section()}"
    )
    files = "".join(
        f"\n## {file}\n{record_sections(vars(sys.modules[import_module(module)])[name])}"
        for file, module, name in RECORDS
    )
    frames = "".join(
        f"\n### `{folder}/{name}.parquet`\n\n{frame_section(path, name)}"
        for path, folder, names in TABLES
        for name in names
    )
    rest = (
        "\n## Other files\n\n`plan/inputs/` holds a copy of the portfolio as it was read. `rehearse/asked.json` holds "
        "what was asked of the rehearsal, `rehearse/fleet.json` the fleet that it ran; with `--compare` each further "
        "policy has a folder of its own in `rehearse/`.\n"
    )
    said = "`_mean`, `_p10` and `_p90` are the mean and the 10th and 90th percentile over scenarios.\n"
    return f"{head}{files}\n## Tables\n\n{said}{frames}{rest}"


def import_module(name: str) -> str:
    """Import a module of the package; give its name."""
    __import__(name)
    return name


def json_section() -> str:
    """Describe the one object of each verb, and that of an error."""
    rows = [[f"`{verb}`", f"`{key}`", JSON_KEYS[key]] for verb, keys in emitted().items() for key in keys]
    errors = table(["key", "meaning"], [[f"`{key}`", meaning] for key, meaning in ERROR_KEYS.items()])
    answers = table(["verb", "key", "meaning"], rows)
    return f"{answers}\n{ABOUT_JSON}\n{errors}"


def emitted() -> dict[str, list[str]]:
    """Read off the command line which keys each verb writes as JSON."""
    found: dict[str, list[str]] = {}
    modules = sorted(path.name for path in (SOURCE / "cli").glob("*.py"))
    for node in (node for name in modules for node in ast.walk(parsed(f"cli/{name}"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "emit":
            verb = node.args[0]
            if isinstance(verb, ast.Constant):
                found.setdefault(str(verb.value), []).extend(told(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TOLD_BY:
            found.setdefault(TOLD_BY[node.func.id], []).extend(told(node))
    return {verb: list(dict.fromkeys(found[verb])) for verb in verbs() if verb in found}


def told(call: ast.Call) -> list[str]:
    """Give the keys that one call writes."""
    return [word.arg for word in call.keywords if word.arg not in {None, "ok", "as_json", "more"}]


def record_sections(record: type[msgspec.Struct], seen: set[type] | None = None) -> str:
    """Describe a record, and after it each record that it holds."""
    seen = set() if seen is None else seen
    seen.add(record)
    notes, hints = field_notes(record), typing.get_type_hints(record)
    rows = [[f"`{name}`", type_words(hints[name]), unit_of(name, hints[name]), notes[name]] for name in hints]
    text = f"\n### {record.__name__}\n\n{opening(inspect.getdoc(record))}\n\n"
    text += table(["field", "type", "unit", "meaning"], rows)
    for held in (inner for hint in hints.values() for inner in structs_in(hint)):
        if held not in seen:
            text += record_sections(held, seen)
    return text


def field_notes(record: type[msgspec.Struct]) -> dict[str, str]:
    """Read what each field of a record means: after it, or on the line before it."""
    lines = textwrap.dedent(inspect.getsource(record)).splitlines()
    notes = {}
    for before, line in zip(["", *lines], lines, strict=False):
        field = re.match(r"    (?P<name>\w+): [^#]+?(?:  #: (?P<note>.+))?$", line)
        note = field and (field["note"] or (before.strip().startswith("#: ") and before.strip().removeprefix("#: ")))
        if field and note:
            notes[field["name"]] = note
    silent = set(record.__struct_fields__) - set(notes)
    if silent:
        raise ValueError(f"{record.__name__}: no meaning after #: for {', '.join(sorted(silent))}")
    return notes


def structs_in(hint: Any) -> Iterator[type[msgspec.Struct]]:  # noqa: ANN401  # any annotation
    """Yield the records that an annotation names."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for inner in typing.get_args(hint):
        yield from structs_in(inner)


def type_words(hint: Any) -> str:  # noqa: ANN401  # any annotation
    """Say an annotation as a reader of JSON knows it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {type_words(inner[0])}"
    if origin is tuple:
        return f"list of {len(inner)}: {' and '.join(dict.fromkeys(type_words(one) for one in inner))}"
    if origin is dict:
        return f"{type_words(inner[1])} by name"
    if origin is types.UnionType:
        return " or ".join(type_words(one) for one in inner)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "text", float: "number", int: "whole number", bool: "true or false", types.NoneType: "null"}[hint]


def unit_of(name: str, hint: Any = float) -> str:  # noqa: ANN401  # any annotation
    """Read a unit off a name; text has none."""
    numbers = {float, int}
    kinds = {hint, *typing.get_args(hint), *(two for one in typing.get_args(hint) for two in typing.get_args(one))}
    if not kinds & numbers:
        return ""
    per = re.search(r"usd_per_(?P<what>\w+?)(?:_used)?$", name)
    if per:
        what = re.sub(r"chip_s$", "chip-second", per["what"]).replace("chip_hour", "chip-hour")
        return f"USD per {what.replace('_', ' ')}"
    words = f"_{name}_"
    return next((unit for part, unit in UNITS.items() if f"_{part}_" in words), "")


def frame_section(path: str, name: str) -> str:
    """Describe the columns of one table from the docstring of the function that makes it."""
    text = docstring(parsed(path), f"{name}_frame")
    first, _, listed = text.partition("Columns\n-------\n")
    rows = [
        [f"`{columns.replace(', ', '`, `')}`", units_of(columns), prose(meaning)]
        for columns, meaning in described(listed)
    ]
    if not rows:
        raise ValueError(f"{path}: {name}_frame does not say its columns")
    return f"{opening(first)}\n\n{table(['columns', 'unit', 'meaning'], rows)}"


def units_of(columns: str) -> str:
    """Read the units of several columns off their names."""
    return ", ".join(dict.fromkeys(unit for column in columns.split(", ") if (unit := unit_of(column))))


def described(text: str) -> Iterator[tuple[str, str]]:
    """Split a section of a docstring into names and what is said of them."""
    for part in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        names, _, meaning = part.partition("\n")
        if meaning:
            yield names, " ".join(meaning.split())


def columns_of(name: str) -> list[str]:
    """List the columns that the reference gives a table."""
    path = next(path for path, _, names in TABLES if name in names)
    listed = docstring(parsed(path), f"{name}_frame").partition("Columns\n-------\n")[2]
    return [column for columns, _ in described(listed) for column in columns.split(", ")]


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def events() -> str:
    """Make the page of every kind of event, from the records that check an events file."""
    from offtake.rehearse.timeline import FOREVER_HOURS, SINGLE, TABLES  # noqa: PLC0415  # the rest of the tools work before the package does
    from offtake.schema.reference import columns_table, own_columns  # noqa: PLC0415  # the same

    head = (
        f"# Events\n\n{MADE}\n`offtake rehearse RUN --events FILE` reads a TOML file of these tables, each as often as "
        "needed. Hours count from the first instant of the load. `sites`, `pools`, `offers`, `chips`, `workloads` and "
        "`regions` are those of the run's `plan/fleet.json`. Every table may carry `source` and `note` too. An event's "
        "effect stands in `rehearse.json` under `events_applied`.\n"
    )
    tables = [(f"[[{name}]]", record) for name, record in TABLES.items()]
    tables += [(f"[{name}]", record) for name, record in SINGLE.items()]
    return head + "".join(
        f"\n## `{name}`\n\n{record.about}\n\n{columns_table(record, own_columns(record))}" for name, record in tables
    ).replace(f"| {FOREVER_HOURS} |", "| for good |")


def policy() -> str:
    """Make the page of the built-in policies: what they may see, how they decide, why they refuse."""
    view = parsed("policy/view.py")
    parts = [f"# Policies\n\n{MADE}\n"]
    parts.append(
        "A policy is three pure functions: `admit` says whether any pool can serve a request, `choose` takes a pool or "
        "refuses, `update` keeps the view true. `--policy` names the one that chooses. How a rehearsal runs them: "
        "[how Offtake rehearses](../how-it-rehearses.md).\n"
    )
    for name, title in (("Policy", "Built-in policies"), ("Reason", "Reasons")):
        rows = [[f"`{member.lower()}`", note] for member, note in members(view, "policy/view.py", name)]
        parts.append(f"\n## {title}\n\n{table(['name', 'meaning'], rows)}")
    for module in POLICY_MODULES:
        tree = parsed(f"policy/{module}.py")
        parts.append(f"\n## `{module}`\n\n{for_users(ast.get_docstring(tree))}\n")
        parts += [f"\n### `{name}`\n\n{prose(docstring(tree, name))}\n" for name in public_functions(tree)]
    return "".join(parts)


def members(tree: ast.Module, path: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield the members of an enumeration with the comment after each; a policy's is its function's sentence."""
    lines = (SOURCE / path).read_text("utf-8").splitlines()
    modules = [parsed(f"policy/{module}.py") for module in ("choose", "baselines")]
    for node in body_of(tree, name):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            member = node.targets[0].id
            comment = lines[node.lineno - 1].partition("  # ")[2]
            function = {"BID_PRICE": "by_bid_price"}.get(member, member.lower())
            homes = [module for module in modules if function in public_functions(module)]
            if not comment and homes:
                comment = docstring(homes[0], function).partition("\n\n")[0]
            yield member, " ".join(comment.split()) or "it was served"


# ── constraints ──────────────────────────────────────────────────────────────────────────────────────────────────────
def constraints() -> str:
    """Make the page of every constraint and account of the plan, with its formula."""
    parts = [f"# Constraints of the plan\n\n{MADE}\nThe plan is a mixed-integer linear program. "]
    parts.append(f"How it is used: [how Offtake plans](../how-it-plans.md).\n\n{INDICES}")
    for path, title in (
        ("plan/constraints.py", "Limits"),
        ("plan/training.py", "Training and research"),
        ("plan/objective.py", "Money and the objective"),
    ):
        tree = parsed(path)
        parts.append(f"\n## {title}\n\n{for_users(ast.get_docstring(tree))}\n")
        for name in [*names_in_all(tree), *(["price"] if "objective" in path else [])]:
            parts.append(f"\n### {'The objective' if name == 'price' else sentence(name)}\n\n")
            parts.append(formula_section(docstring(tree, name), name))
    return "".join(parts)


def names_in_all(tree: ast.Module) -> list[str]:
    """List the functions that a module's ``ALL`` states, in order."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ALL":
            named = node.value.elts if isinstance(node.value, ast.Tuple) else []
            return [name.id for name in named if isinstance(name, ast.Name)]
    raise ValueError("no ALL")


def sentence(name: str) -> str:
    """Read a function's name as the sentence it is."""
    words = name.replace("_", " ").capitalize()
    return words.replace("A years ", "A year's ").replace("A scenarios ", "A scenario's ")


def formula_section(text: str, name: str) -> str:
    """Say a constraint: its sentence, its formula set apart, and what else is told."""
    first, _, rest = text.partition("\n\n")
    said, colon, formula = " ".join(first.split()).partition(": ")
    shown = f"\n```\n{formula.rstrip('.')}\n```\n" if colon else ""
    more = f"\n{prose(rest)}\n" if rest else ""
    return f"{said.rstrip('.')}.\n{shown}{more}\nStated by `{name}`.\n"


# ── reading source ───────────────────────────────────────────────────────────────────────────────────────────────────
def parsed(path: str) -> ast.Module:
    """Parse a module of the package."""
    return ast.parse((SOURCE / path).read_text("utf-8"))


def body_of(tree: ast.Module, name: str) -> list[ast.stmt]:
    """Give what a class of a module holds."""
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def public_functions(tree: ast.Module) -> list[str]:
    """List the public functions of a module, in order."""
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def docstring(tree: ast.Module, name: str) -> str:
    """Give the docstring of a function of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    raise ValueError(f"no function {name}")


def opening(text: str | None) -> str:
    """Turn the docstring of what is described into Markdown, without the verb that it begins with."""
    return re.sub(r"^(?:Return|Hold|Say|Give|Describe) (?P<first>.)", lambda found: found["first"].upper(), prose(text))


def for_users(text: str | None) -> str:
    """Turn a module's docstring into Markdown without what is for those who write it."""
    first_words = (
        "Comes in:|Goes out:|It must never|This module must never|This module knows|Each function has a golden"
    )
    left = re.sub(rf"(?:{first_words}).*?\.(?=\s|$)\s?", "", prose(text), flags=re.DOTALL)
    return re.sub(r"\n{3,}", "\n\n", left).strip()


def prose(text: str | None) -> str:
    """Turn a docstring into Markdown: roles and double backticks become code; what is indented stays as it stands."""
    plain = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text or "")
    return plain.replace("``", "`").rstrip()
