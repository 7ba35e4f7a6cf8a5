from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tools import docs, reference

DOCUMENTS = docs.documents()
WITH_TRANSCRIPTS = [document for document in DOCUMENTS if docs.CONSOLE.search(document.read_text("utf-8"))]


def name_of(document: Path) -> str:
    return document.relative_to(docs.ROOT).as_posix()


# ── the documents ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_marked_figure_is_the_regenerated_one(document: Path) -> None:
    assert list(docs.figure_faults(document.read_text("utf-8"), docs.known_figures())) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_file_recipe_and_verb_that_a_document_names_exists(document: Path) -> None:
    assert list(docs.name_faults(document.read_text("utf-8"), document.parent)) == []


def test_every_declared_figure_is_known_and_used() -> None:
    used = {found["name"] for document in DOCUMENTS for found in docs.FIGURE.finditer(document.read_text("utf-8"))}
    declared = set(docs.declared_figures().get("figures", {}))
    assert declared == set(docs.known_figures())
    assert declared <= used


def test_the_reference_is_generated_from_the_program() -> None:
    for page, text in docs.reference_pages().items():
        assert page.read_text("utf-8") == text, f"{name_of(page)} is stale: just docs reference"


def test_every_page_of_the_reference_is_generated_and_on_the_map() -> None:
    made = {page.name for page in docs.reference_pages()}
    assert {page.name for page in (docs.ROOT / "docs" / "reference").iterdir()} == made
    on_map = (docs.ROOT / "docs" / "index.md").read_text("utf-8")
    assert [page for page in sorted(made) if f"(reference/{page})" not in on_map] == []


@pytest.mark.slow
def test_the_figures_are_what_the_program_gives(tmp_path: Path) -> None:
    assert docs.figures_now(docs.declared_figures(), docs.make_place(tmp_path)) == docs.known_figures()


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_TRANSCRIPTS, ids=name_of)
def test_every_command_of_a_document_prints_what_is_shown(document: Path, tmp_path: Path) -> None:
    text = document.read_text("utf-8")
    assert docs.rerun(text, docs.make_place(tmp_path)) == text


# ── the mechanism can fail ───────────────────────────────────────────────────────────────────────────────────────────
def test_a_transcript_is_split_into_commands_and_output() -> None:
    assert docs.steps_of("$ offtake a\none\ntwo\n$ offtake b\n") == [("offtake a", "one\ntwo\n"), ("offtake b", "")]


@pytest.mark.parametrize(
    "shown, printed, expected",
    [
        ("value 12\n", "value 12\n", True),
        ("value 12\n", "value 13\n", False),
        ("took ... s\n", "took 1.2 s\n", True),
        ("first\n...\nlast\n", "first\nand\nmore\nlast\n", True),
        ("first\n...\nlast\n", "first\nand\nmore\n", False),
        ("a.b\n", "aXb\n", False),
        ("", "something\n", False),
        ("a ... b ... c\n", "a 1 b 2 c\n", True),
        ("a ... b ... c\n", "a 1 c 2 b\n", False),
        ("one   two\n", "one two\n", True),
    ],
)
def test_dots_stand_for_any_text_and_nothing_else_does(shown: str, printed: str, expected: bool) -> None:
    assert docs.same(shown, printed) is expected


def test_a_wide_table_with_many_dots_is_told_apart_at_once() -> None:
    row = f"name ...{' ' * 60}in time ...{' ' * 60}% of the fee\n"
    printed = f"name{' ' * 60}12 in time{' ' * 60}99% of the fee\n" * 60
    assert docs.same(row * 60, printed)
    assert not docs.same(row * 60 + "last\n", printed)


def test_a_stale_transcript_is_rewritten_and_a_true_one_is_kept(tmp_path: Path) -> None:
    stale = "Look:\n\n```console\n$ python -c 'print(2 + 2)'\n5\n```\n"
    true = "Look:\n\n```console\n$ python -c 'print(2 + 2)'\n4\n```\n"
    assert docs.rerun(stale, tmp_path) == true
    assert docs.rerun(true, tmp_path) == true


def test_a_failing_command_shows_its_exit_code(tmp_path: Path) -> None:
    assert docs.run_step("python -c 'raise SystemExit(3)'", tmp_path) == "[exit 3]\n"


def test_a_console_block_may_not_run_anything_else(tmp_path: Path) -> None:
    assert docs.run_step("rm -r .", tmp_path) == "only offtake and python may stand in a console block, not 'rm'"


def test_a_field_without_a_meaning_stops_the_reference() -> None:
    class Silent(msgspec.Struct):
        fee_usd: float  #: What is paid.
        gap: float

    with pytest.raises(ValueError, match="Silent: no meaning after #: for gap"):
        reference.record_sections(Silent)


@pytest.mark.parametrize(
    "name, kind, unit",
    [
        ("fees_usd", float, "USD"),
        ("kw_share", float, "share"),
        ("bid_usd_per_chip_s", list[float], "USD per chip-second"),
        ("usd_per_chip_hour_used", float, "USD per chip-hour"),
        ("ttft_ms_p95", float | None, "ms"),
        ("allotment_rps", list[list[float]], "requests/s"),
        ("sites", list[str], ""),
    ],
)
def test_a_unit_is_read_off_a_name(name: str, kind: Any, unit: str) -> None:
    assert reference.unit_of(name, kind) == unit


def test_a_verbs_options_are_read_off_its_function() -> None:
    options = {name: (value, default) for name, value, default, _ in reference.parameters(reference.verbs()["plan"])}
    assert options["`FOLDER`"] == ("path", "**required**")
    assert options["`--gap`"] == ("number, ≥ 0, ≤ 1", "`0.001`")
    assert options["`--json`"] == ("flag", "")


def test_a_stale_figure_an_unknown_one_and_a_true_one_are_told_apart() -> None:
    text = "<!-- figure:a -->1<!-- /figure --> <!-- figure:b -->2<!-- /figure --> <!-- figure:c -->3<!-- /figure -->"
    assert list(docs.figure_faults(text, {"a": "1", "b": "9"})) == [
        "figure b says '2', is '9'",
        "figure c is not in docs/figures.json",
    ]
    assert "<!-- figure:b -->9<!-- /figure -->" in docs.with_figures(text, {"b": "9"})


def test_a_figure_is_read_from_a_commands_json_or_from_a_file_it_wrote(tmp_path: Path) -> None:
    program = (
        'import json; open("plan.json", "w").write(json.dumps([7])); print(json.dumps({"value": [{"usd": 2.5e9}]}))'
    )
    declared = {
        "commands": {"demo": f"python -c '{program}'"},
        "figures": {
            "value": {"command": "demo", "path": "value.0.usd", "scale": 1e-9, "format": "{:.1f}"},
            "first": {"file": "plan.json", "path": "0"},
        },
    }
    assert docs.figures_now(declared, tmp_path) == {"first": "7", "value": "2.5"}


def test_a_link_a_file_a_recipe_and_a_verb_that_do_not_exist_are_found(tmp_path: Path) -> None:
    (tmp_path / "src" / "offtake" / "cli").mkdir(parents=True)
    verbs = '@app.command()\ndef plan(folder: Folder) -> None:\n@app.command("init")\ndef start() -> None:\n'
    (tmp_path / "src" / "offtake" / "cli" / "verbs.py").write_text(verbs)
    (tmp_path / "justfile").write_text("check: lint\n")
    (tmp_path / "there.md").write_text("")
    text = "[a](there.md) [b](gone.md) [c](https://example.org) `docs/gone.md` `just check` `just dance`"
    text += " `offtake plan DIR` `offtake init` `offtake start`"
    assert list(docs.name_faults(text, tmp_path, tmp_path)) == [
        "link to gone.md, which does not exist",
        "names docs/gone.md, which does not exist",
        "names `just dance`, which does not exist",
        "names `offtake start`, which does not exist",
    ]
