#!/usr/bin/env python3
"""Set the project up and run it, with nothing but Python 3.11-3.13, git and a shell.

    python3 run.py demo     the May-2026 question, from portfolio to report
    python3 run.py test     every check and every test
    python3 run.py check    the quick door that each change must pass (`just check`)
    python3 run.py setup    install only

Comes in: a fresh clone. Goes out: ``.venv`` with exactly the packages that ``requirements/`` locks, and the exit
code of what was asked for. Needs the network only until everything is installed; a stamp remembers that it is.
It must never know what Offtake does: it may import only the standard library, and old Pythons must be able to
read it far enough to say what is wrong.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".offtake"
OLDEST, NEWEST = (3, 11), (3, 13)
WINDOWS = os.name == "nt"
BIN = "Scripts" if WINDOWS else "bin"
EXE = ".exe" if WINDOWS else ""
REPORT = Path("runs") / "may-2026" / "report.html"
CHECKS = ("style", "types", "walls")
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")  # the last: each start would compile all libraries
BAD_START, INTERRUPTED = 2, 130


class SetupError(Exception):
    """Say in one line why the project cannot be set up, and how to mend it."""


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit code."""
    verbs = {"demo": demo, "test": test, "check": check, "setup": setup_only}
    if not arguments or arguments[0] not in verbs:
        print("usage: python3 run.py demo|test|check|setup [options of the verb]", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else BAD_START
    try:
        refuse_wrong_python()
        return verbs[arguments[0]](arguments[1:])
    except SetupError as error:
        print("run.py: " + str(error), file=sys.stderr)
        return BAD_START
    except KeyboardInterrupt:
        return INTERRUPTED


# ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def demo(options: list[str]) -> int:
    """Answer the May-2026 question; show the report where someone sits before a screen."""
    set_up("base")
    code = call([program("offtake"), "demo", "--out", str(REPORT.parent), *(o for o in options if o != "--no-open")])
    if code == 0 and "--no-open" not in options and someone_is_watching() and (ROOT / REPORT).is_file():
        webbrowser.open((ROOT / REPORT).as_uri())
    return code


def test(options: list[str]) -> int:
    """Run every check, whether or not one before it failed, then every test; the last line is pytest's own."""
    set_up("dev")
    failed = [recipe for recipe in CHECKS if call([program("just"), recipe]) != 0]
    if failed:
        print(f"run.py: failed above: {', '.join(failed)}; the tests follow", flush=True)
    return call([program("just"), "test", *options]) or (1 if failed else 0)


def check(options: list[str]) -> int:
    """Run the quick door."""
    set_up("dev")
    return call([program("just"), "check", *options])


def setup_only(_options: list[str]) -> int:
    """Install everything, for development too."""
    set_up("dev")
    print("ready: " + program("offtake"))
    return 0


# ── setting up ───────────────────────────────────────────────────────────────────────────────────────────────────────
def set_up(lock_name: str) -> None:
    """Bring ``.venv`` to one of the locks (``dev`` holds all of ``base``), unless its stamp says that it is there."""
    if any(stamp_of(name).is_file() and stamp_of(name).read_text() == state(name) for name in {lock_name, "dev"}):
        return
    say("setting up " + str(VENV) + " (once; needs the network)")
    uv = find_uv()
    if not works(VENV):
        shutil.rmtree(str(VENV), ignore_errors=True)
        quietly([uv, "venv", "--python", base_python(), str(VENV)], "cannot make a virtual environment")
    install = [uv, "pip", "install", "--python", program("python")]
    locked = ["--require-hashes", "-r", str(lock_of(lock_name))]
    locked += ["--compile-bytecode"] if lock_name == "dev" else []  # a demo loads too little of it to gain
    quietly([*install, *locked], "cannot install the locked packages; is the network there?")
    itself = ["--offline", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    quietly([*install, *itself], "cannot install the project itself")
    stamp_of(lock_name).write_text(state(lock_name))


def refuse_wrong_python() -> None:
    """Stop before anything is touched when this Python is too old or too new."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    names = ["python3.13", "python3.12", "python3.11"]
    found = [name for name in names if shutil.which(name)]
    advice = f"run: {found[0]} run.py ..." if found else "install one of them and run it again with that one"
    this = ".".join(map(str, sys.version_info[:2]))
    raise SetupError(f"needs Python 3.11, 3.12 or 3.13, this is {this}; {advice}")


def find_uv() -> str:
    """Give uv's path: the one on PATH, or one that is fetched, pinned and hashed, into ``.offtake``."""
    places = [TOOLS / "uv" / BIN / ("uv" + EXE), TOOLS / "uv-alone" / "bin" / ("uv" + EXE)]
    for uv in [shutil.which("uv"), *map(str, places)]:
        if uv and attempt([uv, "--version"]) == "":
            return uv
    say("fetching uv")
    python = base_python()
    wanted = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock_of("uv"))]
    venv_made = attempt([python, "-m", "venv", "--clear", str(TOOLS / "uv")])
    if venv_made == "" and attempt([str(TOOLS / "uv" / BIN / ("python" + EXE)), *wanted]) == "":
        return str(places[0])
    failure = attempt([python, *wanted, "--upgrade", "--target", str(TOOLS / "uv-alone")])
    if failure == "":
        return str(places[1])
    raise SetupError(f"cannot fetch uv ({failure}); check the network, or install uv yourself")


def works(venv: Path) -> bool:
    """Tell whether an environment is there, runs, and is of this Python's version."""
    ask = f"import sys; print(sys.version_info[:2] == {tuple(sys.version_info[:2])!r})"
    try:
        answer = subprocess.run([program("python", venv), "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == "True"


def state(lock_name: str) -> str:
    """Give the fingerprint of all that an installation depends on."""
    parts = [
        str(ROOT),
        sys.version,
        (ROOT / "pyproject.toml").read_text("utf-8"),
        lock_of(lock_name).read_text("utf-8"),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stamp_of(lock_name: str) -> Path:
    """Give the file that remembers a finished installation; it goes when the environment goes."""
    return VENV / ("offtake-" + lock_name + ".stamp")


def lock_of(name: str) -> Path:
    """Give the path of one of the committed locks."""
    return ROOT / "requirements" / (name + ".txt")


def program(name: str, venv: Path = VENV) -> str:
    """Give the path of a program of the environment."""
    return str(venv / BIN / (name + EXE))


def base_python() -> str:
    """Give the Python that this one is a virtual environment of, or this one."""
    return str(getattr(sys, "_base_executable", sys.executable))


# ── acting ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def call(command: list[str]) -> int:
    """Run a program of the environment in the open; on Ctrl-C let it finish its own cleaning up."""
    sys.stdout.flush()
    process = subprocess.Popen(command, cwd=str(ROOT), env=environment())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    return code if code >= 0 else 128 - code


def environment() -> dict[str, str]:
    """Give the environment in which our programs are found first, and no other Python's packages; bytecode is kept."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return dict(kept, PATH=str(VENV / BIN) + os.pathsep + kept.get("PATH", ""), VIRTUAL_ENV=str(VENV))


def quietly(command: list[str], complaint: str) -> None:
    """Run a step of the setup; say nothing unless it fails, and then one line."""
    failure = attempt(command)
    if failure:
        raise SetupError(complaint + " (" + failure + ")")


def attempt(command: list[str]) -> str:
    """Run a step of the setup; give an empty string when it worked, else the line that says most."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=str(ROOT), check=False)
    except OSError as error:
        return str(error)
    lines = [line.strip(" ×├╰─▶") for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return "" if done.returncode == 0 else "; ".join(lines[-2:] or [f"exit {done.returncode}"])


def someone_is_watching() -> bool:
    """Tell whether a browser would be seen: a terminal, a screen, and no CI."""
    screen = WINDOWS or sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and sys.stdout.isatty() and not os.environ.get("CI")


def say(message: str) -> None:
    """Tell what is being done, where results do not go."""
    print("run.py: " + message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
