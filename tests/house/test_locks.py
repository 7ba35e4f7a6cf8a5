from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house import rules
from tests.house.sources import ROOT, python_sources

PACKAGE = "src/offtake/"
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
IMPORT_NAMES = {"opentelemetry-sdk": "opentelemetry", "vl-convert-python": "vl_convert"}
PARTS = {"llvmlite": "numba", "markupsafe": "jinja2", "pydantic_core": "pydantic"}  # what a library brings with it
# What an extra brings, and the modules that use it, all of which run only where it is installed.
EXTRAS = {"opentelemetry": {"route/tracing.py"}, "psycopg": {"route/ledger/postgres.py"}, "valkey": {"route/leases.py"}}
PIN = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?P<version>[^\s;]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return {
        found["name"]: found["version"] for found in PIN.finditer((ROOT / "requirements" / name).read_text("utf-8"))
    }


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\s\[]", each, maxsplit=1)[0] for each in requirements}


def imported_packages() -> dict[str, set[str]]:
    """The outer names that the package imports, other than the standard library and itself; who imports each."""
    found: dict[str, set[str]] = {}
    for source in python_sources(PACKAGE):
        for _, name in rules.imports_of(source):
            found.setdefault(name.split(".")[0], set()).add(source.file.removeprefix(PACKAGE))
    return {name: files for name, files in found.items() if name not in {*sys.stdlib_module_names, "offtake"}}


def faults_of_lock(text: str) -> list[str]:
    """What makes a lock unfit to commit or to trust."""
    blocks = re.sub(r"\\\n\s*", "", text).splitlines()
    addresses = [f"address: {block[:40]}" for block in blocks if re.search(r"://|^-|git\+|file:", block)]
    return addresses + [f"no hash: {block[:40]}" for block in blocks if "--hash=sha256:" not in block]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_each_package_with_hashes_and_names_no_address(lock: Path) -> None:
    assert faults_of_lock(lock.read_text("utf-8")) == []


def test_a_lock_with_an_address_or_without_a_hash_is_found() -> None:
    assert faults_of_lock("numpy==2.4.6\n") == ["no hash: numpy==2.4.6"]
    assert faults_of_lock("--index-url https://example.org --hash=sha256:00\n")[0].startswith("address: ")


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = project["dependency-groups"]
    assert names(project["project"]["dependencies"]) | names(groups["build"]) <= set(pins("base.txt"))
    assert names(groups["dev"]) | names(groups["build"]) <= set(pins("dev.txt"))
    assert names(project["project"]["optional-dependencies"]["silicon"]) <= set(pins("silicon.txt"))
    assert names(groups["uv"]) == set(pins("uv.txt"))


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {IMPORT_NAMES.get(name, name) for name in names(project["dependencies"])}
    assert {PARTS.get(name, name) for name in imported_packages().keys() - EXTRAS.keys()} == declared


def test_what_an_extra_brings_is_declared_and_imported_only_where_it_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    declared = {IMPORT_NAMES.get(name, name) for extra in extras for name in names(extra)}
    imported = imported_packages()
    assert EXTRAS.keys() <= declared
    assert {name: files for name, files in imported.items() if name in declared} == EXTRAS


def test_a_version_is_the_same_in_every_lock() -> None:
    base, dev, silicon = pins("base.txt"), pins("dev.txt"), pins("silicon.txt")
    assert base.items() <= dev.items()
    assert base.items() <= silicon.items()


def test_the_base_install_holds_neither_silicon_data_nor_tools_of_development() -> None:
    assert not {"aiconfigurator-core", "pandas", "pyarrow", "mypy", "pytest", "ruff"} & set(pins("base.txt"))
