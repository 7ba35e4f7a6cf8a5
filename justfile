# `just check` is the only door: what it refuses does not land. `just` itself comes with `python3 run.py setup`.

set windows-shell := ["powershell.exe", "-NoLogo", "-Command"]

separator := if os_family() == "windows" { ";" } else { ":" }
programs := justfile_directory() / ".venv" / if os_family() == "windows" { "Scripts" } else { "bin" }
export PATH := programs + separator + env("PATH")
export PYTHONDONTWRITEBYTECODE := ""  # bytecode is kept: without it each process compiles all libraries anew

jobs := env("OFFTAKE_JOBS", "2")

_default:
    @just --list

# every check that a change must pass, in under 90 s
check: lint quick

# format, lint, types and walls
lint: style types walls

# ruff: format and every rule
style:
    ruff format --check
    ruff check

# mypy --strict on the package, the tests and run.py
types:
    mypy

# the contracts between rooms
walls:
    lint-imports

# the fast tests, the tidy test and the doctests
[no-exit-message]
quick *options:
    pytest -q -n {{ jobs }} -m "not slow" --doctest-modules src tests {{ options }}

# every test; kernels once as plain Python; the closing line is pytest's own
[no-exit-message]
test *options: plain
    pytest -n {{ jobs }} --doctest-modules src tests {{ options }}

# the tests of kernels, with the compiler off
[no-exit-message]
plain $NUMBA_DISABLE_JIT="1":
    pytest -q -n {{ jobs }} -m plain tests

# mend what can be mended by a machine
fix:
    ruff check --fix
    ruff format

# regenerate every figure, transcript and reference page of the documentation; `just docs reference` only the last
docs part="all":
    python tools/docs.py {{ part }}

# hold what got better: sizes, silenced checks, known violations
ratchet:
    python tools/ratchet.py

# the benchmarks: ratios in one run, with the work asserted
bench *names:
    python benchmarks/run.py {{ names }}

# the locks, anew from pyproject.toml (needs uv and the network)
lock:
    python tools/lock.py
