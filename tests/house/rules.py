"""Hold the house rules that no linter knows: one function per rule, from a parsed file to its complaints.

Comes in: one Python file as text. Goes out: complaints with file, line and reason. It reads no disk and
imports no room; ``test_tidy.py`` runs it over the project and shows that each rule can fail.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 5
MODULE_LINES_MAX = 500

# Where a rule does not hold, and why. A room's name covers its modules; a function is named with its module.
EXEMPT: dict[str, dict[str, str]] = {
    "clock_and_chance": {
        "offtake.cli": "the shell: it tells the time and hands it on",
        "offtake.route.clock": "the router's shell: it tells the time and names requests",
    },
    "conversions": {"offtake.units": "the one module that may hold conversion factors"},
    "function_size": {"tests.plan.problems": "whole problems, written out as data"},
    "no_mock": {
        "benchmarks.bench_route": "it asks whether another process listens, until it does",
        "tests.route.waiting": "it asks whether another process has come so far, until it has",
    },
    "parameters": {"offtake.cli": "typer reads one parameter per option; the verbs pass a record on at once"},
}

CLOCKS = ("datetime.date.today", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow", "time")
CHANCE = ("os.urandom", "random", "secrets", "uuid.uuid1", "uuid.uuid4")
SEEDED = ("default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox")

FACTORS_ANYWHERE = {168.0, 3_600.0, 8_760.0, 60_000.0, 86_400.0, 604_800.0, 3.6e12, 8.64e13}
FACTORS_IN_PRODUCTS = {24.0, 60.0, 365.0, 730.0, 1e3, 1e6, 1e9, 1e12, 1e-3, 1e-6, 1e-9, 1e-12}
PRODUCTS = (ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)

STUB_WORDS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b(?P<rest>.*)$", re.MULTILINE)
EXPLAINED_HERE = "[no-any-return]"  # to mypy an element of an array is Any: true of every kernel, so said once
REASON = re.compile(r"[a-z]{3,}")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Complaint(NamedTuple):
    """Say what is untidy, and where."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


class Source(NamedTuple):
    """Hold one Python file: its path from the root, its dotted name, its text, its tree and every node of it."""

    file: str
    name: str
    text: str
    tree: ast.Module
    nodes: list[ast.AST]


def parse(file: str, text: str) -> Source:
    """Read a file's text; ``src/offtake/plan/solve.py`` is named ``offtake.plan.solve``."""
    name = file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    tree = ast.parse(text)
    return Source(file, name, text, tree, list(ast.walk(tree)))


def complaints_of(source: Source) -> list[Complaint]:
    """Apply every rule that holds for this file."""
    rules = EVERYWHERE + (PACKAGE if source.name.split(".")[0] == "offtake" else SCRIPTS)
    return [
        Complaint(source.file, line, rule.__name__, text)
        for rule in rules
        for line, text in rule(source)
        if not is_exempt(rule.__name__, source.name)
    ]


def is_exempt(rule: str, name: str) -> bool:
    """Tell whether a module, its room or a function is on the explained list of a rule."""
    return any(name == place or name.startswith(place + ".") for place in EXEMPT.get(rule, {}))


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def function_sizes(source: Source) -> dict[str, int]:
    """Give the lines of each function, from its name to its end, without its docstring."""
    return {f"{source.name}.{node.name}": lines_of(node) for node in functions_of(source)}


def lines_of(function: Function) -> int:
    """Count a function's lines, without decorators and docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def function_size(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse a function over the cap."""
    for node in functions_of(source):
        if lines_of(node) > FUNCTION_LINES_MAX:
            yield node.lineno, f"{node.name} has {lines_of(node)} lines, over {FUNCTION_LINES_MAX}"


def module_size(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse a module over the cap."""
    lines = source.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield lines, f"{lines} lines, over {MODULE_LINES_MAX}"


def parameters(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse a function with too many parameters: what belongs together is a record."""
    for node in functions_of(source):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(argument.arg not in {"self", "cls"} for argument in given)
        if count > PARAMETERS_MAX and not is_exempt("parameters", f"{source.name}.{node.name}"):
            yield node.lineno, f"{node.name} takes {count} parameters, over {PARAMETERS_MAX}"


# ── what a module may know ───────────────────────────────────────────────────────────────────────────────────────────
def clock_and_chance(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse to read a clock or an unseeded generator: both are arguments."""
    for node, name, called_without_arguments in names_used(source):
        if any(name == clock or name.startswith(clock + ".") for clock in CLOCKS):
            yield node.lineno, f"{name} reads a clock; take the time as an argument"
        elif any(name == chance or name.startswith(chance + ".") for chance in CHANCE):
            yield node.lineno, f"{name} is unseeded; take a numpy Generator or a seed"
        elif name.startswith("numpy.random.") and name.split(".")[2] not in SEEDED:
            yield node.lineno, f"{name} uses a hidden global generator; take a numpy Generator or a seed"
        elif name == "numpy.random.default_rng" and called_without_arguments:
            yield node.lineno, "default_rng() without a seed"


def conversions(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse a literal conversion factor: they live in ``units.py``."""
    in_products = {
        id(side)
        for node in source.nodes
        if isinstance(node, ast.BinOp) and isinstance(node.op, PRODUCTS)
        for side in (node.left, node.right)
    }
    for node in source.nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, int | float):
            continue
        value = float(node.value)
        if value in FACTORS_ANYWHERE or (value in FACTORS_IN_PRODUCTS and id(node) in in_products):
            yield node.lineno, f"{node.value} looks like a conversion factor; name it in offtake.units"


# ── what a module must say ───────────────────────────────────────────────────────────────────────────────────────────
def room_front(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse a room's ``__init__`` that is more than one docstring line: importing a room must cost nothing."""
    front = source.file.endswith("/__init__.py") and source.file != "src/offtake/__init__.py"
    if front and (ast.get_docstring(source.tree) is None or source.text.count("\n") != 1):
        yield 1, "a room's __init__.py is one docstring line"


def private_docs(source: Source) -> Iterator[tuple[int, str]]:
    """Ask for one sentence on private functions too; the linter asks only for public ones."""
    for node in functions_of(source):
        if node.name.startswith("_") and not node.name.startswith("__") and ast.get_docstring(node) is None:
            yield node.lineno, f"{node.name} has no docstring"


def no_stub(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse what pretends to work: a body of dots, a promise for later, an unwritten function."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if found := STUB_WORDS.search(line):
            yield number, f"{found[0]}: what does not work yet does not exist yet"
    abstract = {id(node) for kind in source.nodes if is_protocol(kind) for node in ast.walk(kind)}
    for node in source.nodes:
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            yield node.lineno, "NotImplementedError: what does not work yet does not exist yet"
        elif isinstance(node, Function) and id(node) not in abstract and is_empty(node):
            yield node.lineno, f"{node.name} has no body"


def explained_suppression(source: Source) -> Iterator[tuple[int, str]]:
    """Ask for a reason beside each silenced check."""
    for found in SUPPRESSION.finditer(source.text):
        rest = found["rest"]
        if EXPLAINED_HERE not in rest and not REASON.search(re.sub(r"^\[.*?\]", "", rest)):
            yield source.text.count("\n", 0, found.start()) + 1, "a silenced check needs its reason on the same line"


def no_mock(source: Source) -> Iterator[tuple[int, str]]:
    """Refuse mocks of our own code and sleeping tests."""
    for node, name, _ in names_used(source):
        if name.startswith(("unittest.mock", "mock.")):
            yield node.lineno, f"{name}: write a fake for the seam instead"
        elif name == "time.sleep":
            yield node.lineno, "a test that sleeps is slow and still flaky"


# ── reading trees ────────────────────────────────────────────────────────────────────────────────────────────────────
def functions_of(source: Source) -> list[Function]:
    """Give every function and method, nested ones included."""
    return [node for node in source.nodes if isinstance(node, Function)]


def is_protocol(node: ast.AST) -> bool:
    """Tell whether a class only states a shape."""
    return isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)


def is_empty(function: Function) -> bool:
    """Tell whether a function does nothing at all, although no decorator says that it need not."""
    decorators = " ".join(ast.unparse(decorator) for decorator in function.decorator_list)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    nothing = all(isinstance(step, ast.Pass) or is_dots(step) for step in body)
    return nothing and not re.search("overload|abstractmethod|callback|fixture", decorators)


def is_dots(step: ast.stmt) -> bool:
    """Tell whether a statement is ``...``."""
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant) and step.value.value is ...


def names_used(source: Source) -> Iterator[tuple[ast.expr | ast.stmt, str, bool]]:
    """Give each imported name as it is used, in full (``np.random.rand`` → ``numpy.random.rand``), and bare calls."""
    known = dict(imports_of(source))
    bare = {id(node.func) for node in source.nodes if isinstance(node, ast.Call) and not node.args}
    inner = {id(node.value) for node in source.nodes if isinstance(node, ast.Attribute)}
    for node in source.nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in inner:
            root, *rest = dotted(node)
            if root in known:
                yield node, ".".join([known[root], *rest]), id(node) in bare


def dotted(node: ast.expr) -> list[str]:
    """Split ``a.b.c`` into its names; the attribute of anything but a name gives one empty name."""
    if isinstance(node, ast.Name):
        return [node.id]
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else [""]
    return [*inner, node.attr] if isinstance(node, ast.Attribute) and inner != [""] else [""]


def imports_of(source: Source) -> Iterator[tuple[str, str]]:
    """Give each name that an import binds, with what it stands for."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


Rule = Callable[[Source], Iterator[tuple[int, str]]]
EVERYWHERE: tuple[Rule, ...] = (function_size, module_size, no_stub, explained_suppression)
PACKAGE: tuple[Rule, ...] = (parameters, clock_and_chance, conversions, room_front, private_docs)
SCRIPTS: tuple[Rule, ...] = (no_mock,)
