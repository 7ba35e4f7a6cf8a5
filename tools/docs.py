"""Keep the documentation true: run its commands, regenerate its numbers, check its names.

Comes in: the project's Markdown, ``docs/figures.toml`` (where each number comes from) and the ``offtake`` command.
Goes out: a list of what no longer holds (``check``), or the documents made true again (``write``).
How an author uses it: docs/contributing-docs.md.

A fenced ``console`` block holds ``$ offtake ...`` lines, each followed by what it prints; ``...`` stands for any
text. A number stands between ``<!-- figure:NAME -->`` and ``<!-- /figure -->``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONSOLE = re.compile(r"^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"<!-- figure:(?P<name>[a-z0-9_]+) -->(?P<text>.*?)<!-- /figure -->", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#|mailto:)(?P<path>[^)#\s]+)(?:#[^)]*)?\)")
NAMED_FILE = re.compile(r"`(?P<path>(?:src|tests|docs|tools|examples|benchmarks|requirements)/[\w./-]+\.\w+)`")
NAMED_RECIPE = re.compile(r"`just (?P<name>[a-z]+)")
NAMED_VERB = re.compile(r"`offtake (?P<name>[a-z]+)")
VERB_GROUP = re.compile(r"add_typer\(\w+, name=\"(?P<name>[a-z]+)\"")
VERB = re.compile(r"^@app\.command\((?:\"(?P<given>[a-z]+)\")?.*\)\ndef (?P<name>[a-z]+)", re.MULTILINE)
RECIPE = re.compile(r"^(?P<name>[a-z]+)(?! *:=)(?: [^\n]*)?:", re.MULTILINE)
CLI = "src/offtake/cli"
PROGRAMS = {"offtake": "offtake", "python": "python"}


class Step(NamedTuple):
    """Hold one command of a transcript with the text that a reader is shown after it."""

    command: str
    shown: str


def documents(root: Path = ROOT) -> list[Path]:
    """Give every Markdown file that a reader may open."""
    folders = [root / name for name in ("docs", "examples", "benchmarks")]
    return sorted([*root.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))])


# ── transcripts ──────────────────────────────────────────────────────────────────────────────────────────────────────
def steps_of(body: str) -> list[Step]:
    """Split the inside of a console block into commands and what they print."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [Step(*(text.partition("\n")[::2])) for text in parts]


def same(shown: str, printed: str) -> bool:
    """Compare what is shown with what is printed; a lone ``...`` or one inside a line stands for any text.

    Each part between two ``...`` is sought after the one before it: one pattern for all of them would take minutes to
    fail. A run of spaces in what is shown may be any white space in what is printed.
    """
    text = printed.rstrip()
    first, *others = [re.sub(r"(?:\\ )+", r"\\s*", re.escape(part.strip(" "))) for part in shown.rstrip().split("...")]
    if not others:
        return re.fullmatch(first, text) is not None
    found = re.match(first, text)
    for part in [*others[:-1], rf"{others[-1]}\Z"]:
        found = re.compile(part).search(text, found.end()) if found is not None else None
    return found is not None


def run_step(command: str, place: Path) -> str:
    """Run one command as a reader would, without colour; give what it prints, and its exit code unless 0."""
    words = shlex.split(command)
    if words[0] not in PROGRAMS:
        return f"only {' and '.join(PROGRAMS)} may stand in a console block, not {words[0]!r}"
    program = str(Path(sys.executable).with_name(PROGRAMS[words[0]]))
    plain = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", "TERM": "dumb", "CI": "true"}
    done = subprocess.run([program, *words[1:]], cwd=place, env=plain, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}[exit {done.returncode}]\n"


def make_place(folder: Path) -> Path:
    """Make a folder in which the examples lie as they do in a clone."""
    (folder / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    return folder


def rerun(text: str, place: Path) -> str:
    """Give a document with each transcript as it is now; where ``...`` still fits, what is shown stays."""

    def block(found: re.Match[str]) -> str:
        fresh = []
        for step in steps_of(found["body"]):
            printed = run_step(step.command, place)
            kept = step.shown if same(step.shown, printed) else printed.rstrip("\n") + "\n"
            fresh.append(f"$ {step.command}\n{kept.lstrip() if not kept.strip() else kept}")
        return f"```console\n{''.join(fresh)}```"

    return CONSOLE.sub(block, text)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def figures_now(declared: dict[str, Any], place: Path) -> dict[str, str]:
    """Run each declared command once and read every figure out of what it gave."""
    given = {name: json.loads(run_step(command, place) or "{}") for name, command in declared["commands"].items()}
    return {name: read_figure(rule, given, place) for name, rule in sorted(declared.get("figures", {}).items())}


def read_figure(rule: dict[str, Any], given: dict[str, Any], place: Path) -> str:
    """Follow ``path`` (dots between keys and indices) into a command's JSON, or into a ``file`` that it wrote."""
    value = json.loads((place / rule["file"]).read_text("utf-8")) if "file" in rule else given[rule["command"]]
    for key in rule["path"].split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return str(rule.get("format", "{}").format(value * rule["scale"] if "scale" in rule else value))


def with_figures(text: str, figures: dict[str, str]) -> str:
    """Give a document with each marked figure as it is now; an unknown name stays, for the check to find."""
    return FIGURE.sub(
        lambda found: f"<!-- figure:{found['name']} -->{figures.get(found['name'], found['text'])}<!-- /figure -->",
        text,
    )


def figure_faults(text: str, figures: dict[str, str]) -> Iterator[str]:
    """Name each marked figure that is unknown or no longer true."""
    for found in FIGURE.finditer(text):
        if found["name"] not in figures:
            yield f"figure {found['name']} is not in docs/figures.json"
        elif figures[found["name"]] != found["text"]:
            yield f"figure {found['name']} says {found['text']!r}, is {figures[found['name']]!r}"


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def name_faults(text: str, folder: Path, root: Path = ROOT) -> Iterator[str]:
    """Name each link, file, recipe and verb that does not exist."""
    for found in LINK.finditer(text):
        if not (folder / found["path"]).exists():
            yield f"link to {found['path']}, which does not exist"
    for found in NAMED_FILE.finditer(text):
        if not (root / found["path"]).exists():
            yield f"names {found['path']}, which does not exist"
    recipes = {found["name"] for found in RECIPE.finditer((root / "justfile").read_text("utf-8"))}
    shell = "".join(path.read_text("utf-8") for path in (root / CLI).glob("*.py"))
    verbs = {found["given"] or found["name"] for found in VERB.finditer(shell)}
    verbs |= {found["name"] for found in VERB_GROUP.finditer(shell)}
    for program, pattern, known in (("just", NAMED_RECIPE, recipes), ("offtake", NAMED_VERB, verbs)):
        for found in pattern.finditer(text):
            if found["name"] not in known:
                yield f"names `{program} {found['name']}`, which does not exist"


# ── doing it ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def declared_figures() -> dict[str, Any]:
    """Read where each number comes from."""
    return tomllib.loads((ROOT / "docs" / "figures.toml").read_text("utf-8"))


def known_figures() -> dict[str, str]:
    """Read the figures as they were last regenerated."""
    found: dict[str, str] = json.loads((ROOT / "docs" / "figures.json").read_text("utf-8"))
    return found


def reference_pages() -> dict[Path, str]:
    """Make the reference: the portfolio from the one list that declares its tables, the rest from the program."""
    from offtake.schema import reference as portfolio  # noqa: PLC0415 the rest of this tool works before the package does
    from tools import reference, route_reference  # noqa: PLC0415 the same

    folder = ROOT / "docs" / "reference"
    made = {folder / "portfolio.md": portfolio.markdown(), folder / "portfolio.schema.json": portfolio.json_schema()}
    return made | reference.pages() | route_reference.pages()


def write_reference() -> None:
    """Make the reference pages true again."""
    for page, text in reference_pages().items():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


def write() -> None:
    """Make every document true again."""
    write_reference()
    with tempfile.TemporaryDirectory() as folder:
        figures = figures_now(declared_figures(), make_place(Path(folder)))
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    (ROOT / "docs" / "figures.json").write_text(text, encoding="utf-8")
    for document in documents():
        before = document.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            after = with_figures(rerun(before, make_place(Path(folder))), figures)
        if after != before:
            document.write_text(after, encoding="utf-8")
            print(f"rewrote {document.relative_to(ROOT)}")


if __name__ == "__main__":
    parts = {"all": write, "reference": write_reference}
    if sys.argv[1:] not in [[name] for name in parts]:
        sys.exit("usage: python tools/docs.py all|reference")
    sys.path.insert(0, str(ROOT))  # so that tools/ is a package here as it is in the tests
    parts[sys.argv[1]]()
