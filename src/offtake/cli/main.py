"""Run the command line: find the verb, and turn whatever happens into an exit code and a plain sentence.

Exit codes: 0 answered, 1 failed, 2 bad input (or an output that cannot be written), 3 infeasible or not stationary,
130 interrupted (or ended by SIGTERM). Comes in: arguments. Goes out: an exit code; no user's mistake shows a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import typer

from offtake.cli import ledgering, performance, planning, rehearsing, routing, telling
from offtake.cli.shell import BAD_INPUT, DONE, FAILED, INTERRUPTED, Done, app
from offtake.errors import Fault, InfeasibleError, InputError, NotStationaryError, OfftakeError

VERBS = (
    planning,
    rehearsing,
    routing,
    ledgering,
    telling,
    performance,
)  #: modules that register verbs when they are imported, in the order of the help
HELP = "See `offtake --help`."
KEPT, NOTHING = "what was finished is kept", "nothing was finished"
DISK_MEND = "Check the path, its rights and the room on the disk."


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; no user's mistake shows a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    unheard = sys.stdout is None
    sys.stdout, sys.stderr = sys.stdout or nowhere(), sys.stderr or nowhere()
    with ended_like_an_interrupt():
        code = code_of(given)
    return (code or FAILED) if unheard or not flushed() else code


def nowhere() -> TextIO:
    """Open what stands in for a stream that was closed."""
    return Path(os.devnull).open("w", encoding="utf-8")


def code_of(given: list[str]) -> int:
    """Run a verb and return its exit code, with what went wrong told."""
    as_json, done, kept = "--json" in given, Done(), ""
    token = DONE.set(done)
    try:
        code = app(args=given, prog_name="offtake", standalone_mode=False)
        sys.stdout.flush()
    except NotStationaryError as error:  # its rehearsal was told already, as the one object on standard output
        code = tell(error, as_json=False)
    except OfftakeError as error:
        code = tell(error, as_json=as_json)
    except typer.TyperException as error:
        message = error.format_message().rstrip(".")
        code = tell(InputError([Fault("the command line", message, HELP)]), as_json=as_json) if message else BAD_INPUT
    except (KeyboardInterrupt, typer.Abort) as error:
        kept, code = str(error), INTERRUPTED
    except (SystemExit, BrokenPipeError):  # nobody reads standard output any more
        code = FAILED
    except Exception as error:
        fault = fault_of_disk(error)
        if fault is None:
            raise
        flushed()
        code = tell(InputError([fault]), as_json=as_json)
    finally:
        DONE.reset(token)
    if code == INTERRUPTED:
        tell_interrupt(kept or (KEPT if done.kept else NOTHING), as_json=as_json and not done.answered)
    return code if isinstance(code, int) else 0


@contextmanager
def ended_like_an_interrupt() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that nothing half written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def flushed() -> bool:
    """Write out standard output; where nobody takes it, drop the rest and return False."""
    try:
        sys.stdout.flush()
    except OSError:
        with nowhere() as sink:
            os.dup2(sink.fileno(), sys.stdout.fileno())
        return False
    return True


def fault_of_disk(error: Exception) -> Fault | None:
    """Return the one fault where a file or folder cannot be read or written, or None for any other error."""
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(error, polars.exceptions.ComputeError) and "os error" in str(error):
        return Fault("a table", f"cannot be written: {' '.join(str(error).split())}", DISK_MEND)
    if not isinstance(error, OSError):
        return None
    place = error.filename2 or error.filename
    path = Path(os.fsdecode(place)) if isinstance(place, str | bytes) else None
    verb = "read" if path is not None and path.is_file() and not os.access(path, os.R_OK) else "written"
    name = "the output" if path is None else str(Path(*map(without_part, path.parts)))
    return Fault(name, f"cannot be {verb}: {error.strerror or error}", DISK_MEND)


def without_part(name: str) -> str:
    """Return the name that a file or folder will have once it is whole."""
    return name[1:].removesuffix(".part") if name.startswith(".") and name.endswith(".part") else name


def tell_interrupt(kept: str, *, as_json: bool) -> None:
    """Say on standard error what an interrupt leaves, and as one JSON object where no other one was written."""
    said = f"Interrupted; {kept}."
    sys.stderr.write(f"{said}\n")
    if as_json:
        from offtake.files import json_bytes

        whole = {"ok": False, "exit_code": INTERRUPTED, "error": "Interrupted", "message": [said]}
        with suppress(OSError):
            sys.stdout.write(json_bytes(whole).decode())


def tell(error: OfftakeError, *, as_json: bool) -> int:
    """Say what went wrong on standard error, and as one JSON object where that was asked for; return the exit code."""
    faults = error.faults if isinstance(error, InputError) else []
    lines = [str(fault) for fault in faults] or str(error).splitlines()
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    if len(faults) > 1:
        sys.stderr.write(f"{len(faults)} faults.\n")
    if as_json:
        from offtake.files import json_bytes

        families = error.families if isinstance(error, InfeasibleError) else []
        whole = {"ok": False, "exit_code": error.exit_code, "error": type(error).__name__, "message": lines}
        extra = {"faults": [asdict(fault) for fault in faults], "families": families}
        with suppress(OSError):  # standard output itself may be what cannot be written
            sys.stdout.write(json_bytes(whole | extra).decode())
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
