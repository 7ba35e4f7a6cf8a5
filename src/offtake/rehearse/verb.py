"""Rehearse a run folder as asked on the command line: read the fleet, make the load, run each policy, write it down.

Comes in: the folder of a run with a plan, and what was :class:`Asked`. Goes out: ``rehearse/`` in that folder, whole or
not at all, and the summaries. Rehearsals that were given a name stay. An interrupted rehearsal is written too, and says
how far it came; it never takes the place of a finished one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from offtake.demand.request import Requests
from offtake.demand.reshape import Shape
from offtake.errors import Fault, InputError
from offtake.files import folder_to_fill, keep_folders, put_in_place, write_json
from offtake.fleet import Fleet, read_fleet, write_fleet
from offtake.performance.library import StoredTable
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.policy.view import Policy
from offtake.rehearse.compare import Comparison, Contest, compare, score_of
from offtake.rehearse.events import parse_loss, read_events
from offtake.rehearse.load import (
    Replay,
    Traced,
    Window,
    busiest_hour,
    check_traces,
    check_window,
    contexts_of,
    generated,
    replayed,
    shift_hours_of,
    thin_for,
    traced,
)
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import deployments_of, named_tables, rehearse, write_rehearsal
from offtake.rehearse.scenario import chosen_scenarios, timeline_of_scenario, with_demand
from offtake.rehearse.summary import Summary
from offtake.rehearse.timeline import Timeline
from offtake.schema.columns import NAME_PATTERN
from offtake.schema.read import nearest
from offtake.units import NS_PER_HOUR, S_PER_HOUR

Progress = Callable[[str, float], None]
Answer = TypeVar("Answer")
BUSIEST = -1.0
PLANNED_SEED = -1
ASKED = "asked.json"
COMPARED = "compare.json"
ROUNDING = 1e-9
INTERRUPTED = "interrupted"  #: the folder of a part that must not take the place of a finished rehearsal


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Hold what was asked for; see ``offtake rehearse --help``.

    ``policy`` is the one of the main rehearsal; those named in ``compare`` (``all``, or names with commas between)
    follow on the same requests, and then all of them on ``seeds`` loads, in ``workers`` processes (0: one for each
    core; the answer is the same). ``name`` keeps the rehearsal beside the main one. Each of ``traces`` is
    ``WORKLOAD=FILE`` or ``FILE``, the latter of ``workload``; ``scale``, ``stretch`` and ``loop`` change them, and
    ``hours``, where it is given, cuts them. ``shift_hours`` (``REGION=HOURS`` each) moves the clock of a region, of
    traces or of made traffic.
    ``scenario`` is one of the plan's futures, the ``worst`` or ``all``.
    """

    policy: str = "bid_price"
    compare: str = ""
    seeds: int = 5
    workers: int = 0
    traces: tuple[str, ...] = ()
    workload: str = ""
    scale: float = 1.0
    stretch: float = 1.0
    shift_hours: tuple[str, ...] = ()
    loop: bool = False
    closed_loop: int = 0
    sessions: bool = False
    lose: tuple[str, ...] = ()
    events: Path | None = None
    from_hour: float = BUSIEST
    hours: float = 0.25
    surge: float = 1.0
    thin: int = 0
    requests: int = 2_000_000
    seed: int = PLANNED_SEED
    name: str = ""
    scenario: str = ""


class Turn(NamedTuple):
    """Hold one rehearsal of several: its folder (empty: the main one), fleet, policy, timeline and scenario."""

    folder: str
    fleet: Fleet
    policy: Policy
    timeline: Timeline
    scenario: str = ""


class Case(NamedTuple):
    """Hold what was asked as it was understood, once for a whole run, and the step tables that the fleet names."""

    asked: Asked
    turns: list[Turn]
    window: Window
    stored: dict[str, StoredTable]

    @property
    def deployments(self) -> dict[str, tuple[StepTable, ReplicaLimits]]:
        """Return the step tables and limits by name."""
        return deployments_of(self.stored)


class Rehearsed(NamedTuple):
    """Hold the summaries, the one asked for first; the ``folder`` they lie in (none was begun: None); what stayed."""

    summaries: list[Summary]
    folder: Path | None
    kept: list[str]  #: Names of earlier rehearsals that stayed.
    comparison: Comparison | None = None  #: Of policies, where it was asked for.
    compared_share: float = 1.0  #: Of the work of the comparison; below 1 where it was interrupted.

    @property
    def complete(self) -> bool:
        """Tell whether every rehearsal ran to its end."""
        return self.compared_share >= 1.0 and all(summary.complete for summary in self.summaries)


def rehearse_run(run: Path, asked: Asked, progress: Progress) -> Rehearsed:
    """Rehearse the plan of a run folder.

    Raises
    ------
    InputError
        With every fault of what was asked, the fleet or the trace.
    VerificationError
        If a rehearsal broke one of its own checks.
    """
    fleet = read_fleet(run / "plan" / "fleet.json")
    turns, window = understood(asked, fleet)
    case = Case(asked, turns, window, named_tables(fleet))
    if asked.traces:
        check_traces(traces_of(asked), fleet, replay_of(case, turns[0].fleet))
    with folder_to_fill(run / f".rehearse{'-' * bool(asked.name)}{asked.name}.part") as part:
        write_fleet(fleet, part / "fleet.json")
        write_json(part / ASKED, record_of(asked))
        summaries = list(rehearsals_in(part, case, progress))
        comparison, done_share = compared_so_far(part, case, summaries, progress)
        found = placed(part, run / "rehearse", asked.name, summaries)
        return found._replace(comparison=comparison, compared_share=done_share)


def rehearsals_in(part: Path, case: Case, progress: Progress) -> Iterator[Summary]:
    """Write each rehearsal into a folder as it ends, and yield its summary; an interrupted one is the last."""
    for turn in case.turns:
        report = partial(progress, f"rehearse {turn.folder or turn.policy.name.lower()}")
        load = load_maker(case, turn.fleet)(case.window.seed)
        found = rehearse(turn.fleet, case.deployments, load, options_of(case, turn), report)
        if found.summary.complete or found.summary.done_share > 0:
            write_rehearsal(found, part / turn.folder if turn.folder else part)
        yield found.summary
        if not found.summary.complete:
            return


def compared_so_far(
    part: Path, case: Case, summaries: list[Summary], progress: Progress
) -> tuple[Comparison | None, float]:
    """Compare the policies if that was asked for; if it is interrupted, return the share that was done."""
    done = [0.0]

    def report(stage: str, share: float) -> None:
        done[0] = share
        progress(stage, share)

    if not case.asked.compare:
        return None, 1.0
    try:
        return compared_in(part, case, summaries, report), 1.0
    except KeyboardInterrupt:
        return None, min(done[0], 1.0 - ROUNDING)


def compared_in(part: Path, case: Case, summaries: list[Summary], progress: Progress) -> Comparison | None:
    """Compare the policies on the seed of the summaries and on those that follow it, and write ``compare.json``."""
    if not all(summary.complete for summary in summaries):
        return None
    asked, first, seed = case.asked, case.turns[0], case.window.seed
    contest = Contest(
        policies=tuple(turn.policy for turn in case.turns),
        seeds=tuple(range(seed, seed + asked.seeds)),
        workers=asked.workers or os.cpu_count() or 1,
        known=tuple(score_of(summary, first.fleet) for summary in summaries),
    )
    options = replace(options_of(case, first), measure_thinning=False)
    compared = (first.fleet, case.deployments, load_maker(case, first.fleet))
    found = compare(compared, options, contest, lambda _, share: progress("compare", share))
    write_json(part / COMPARED, found)
    return found


def options_of(case: Case, turn: Turn) -> Options:
    """Return how the fleet is run in one turn."""
    window = case.window
    return Options(
        policy=turn.policy,
        seed=window.seed,
        thin=window.thin,
        thinned_load=not case.asked.traces,
        start_hour=window.start_hour,
        timeline=turn.timeline,
        scenario=turn.scenario,
        span_s=0.0 if case.asked.traces else window.hours * S_PER_HOUR,
        stored=case.stored,
    )


def placed(part: Path, home: Path, name: str, summaries: list[Summary]) -> Rehearsed:
    """Put a filled folder where it belongs: never in the place of a finished rehearsal if it is not itself one.

    The unnamed rehearsal takes the place of the last unnamed one, and of nothing else that lies in ``home``.
    """
    found = Rehearsed(summaries, home / name if name else home, [])
    if not found.complete and summaries[0].done_share <= 0:
        return found._replace(folder=None)
    if not found.complete and finished(found.folder or home):
        put_in_place(part, home / INTERRUPTED)
        return found._replace(folder=home / INTERRUPTED, kept=[name or "the main one"])
    home.mkdir(exist_ok=True)
    kept = [] if name else keep_folders(home, part, is_named)
    put_in_place(part, found.folder or home)
    return found._replace(kept=kept)


def finished(folder: Path) -> bool:
    """Tell whether a folder holds a rehearsal that ran to its end."""
    try:
        return bool(json.loads((folder / "rehearse.json").read_bytes())["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def is_named(folder: Path) -> bool:
    """Tell whether a folder in ``rehearse/`` holds a rehearsal that a person gave a name."""
    return (folder / ASKED).is_file() and folder.name not in reserved_names()


def reserved_names() -> list[str]:
    """Return the folders that a rehearsal makes by itself."""
    return [INTERRUPTED, *(policy.name.lower() for policy in Policy)]


def check_name(asked: Asked) -> None:
    """Refuse a name that is not one, or one that a rehearsal's own folders have."""
    if asked.name and not re.fullmatch(NAME_PATTERN, asked.name):
        mend = "Use letters, digits and . _ + -, a letter or digit first."
        raise InputError([Fault("--name", "the name cannot be", mend, value=asked.name)])
    if asked.name.lower() in reserved_names():
        mend = f"Give another than {', '.join(reserved_names())}."
        raise InputError([Fault("--name", "the name belongs to a rehearsal's own folders", mend, value=asked.name)])


def check_load(asked: Asked) -> None:
    """Refuse a trace that cannot be read, and options that do not go together."""
    replayed_only = (("--scale", "scale"), ("--stretch", "stretch"), ("--loop", "loop"))
    made_only = (("--surge", "surge"), ("--closed-loop", "closed_loop"), ("--sessions", "sessions"))
    wrong, problem, mend = replayed_only, "only a trace can be changed so", "Leave it out, or give a --trace."
    if asked.traces:
        wrong, problem, mend = (
            made_only,
            "a trace is replayed as it is",
            "Leave it out; --scale changes a trace's rate.",
        )
    faults = [
        Fault(flag, problem, mend, value=str(getattr(asked, field)))
        for flag, field in wrong
        if getattr(asked, field) != getattr(Asked, field)
    ]
    if asked.traces and asked.loop and asked.hours == Asked.hours:
        faults.append(Fault("--loop", "it is not said until when", "Give --hours too."))
    for one in traces_of(asked):
        try:
            one.path.open("rb").close()
        except OSError as error:
            problem = f"the trace cannot be read: {error.strerror}"
            faults.append(Fault("--trace", problem, "Give WORKLOAD=FILE, or the path of a file.", value=str(one.path)))
    if faults:
        raise InputError(faults)


def traces_of(asked: Asked) -> list[Traced]:
    """Return the traces to replay, each with its workload where one was given."""
    told = [traced(text) for text in asked.traces]
    return [one if one.workload else replace(one, workload=asked.workload) for one in told]


def replay_of(case: Case, fleet: Fleet) -> Replay:
    """Return how the traces are to be changed and checked."""
    asked, window = case.asked, case.window
    hours_ns = round(asked.hours * NS_PER_HOUR) if asked.hours != Asked.hours else 0
    shape = Shape(
        stretch=asked.stretch,
        shift_hours=window.shift_hours,
        scale=asked.scale,
        loop_ns=hours_ns if asked.loop else 0,
        end_ns=hours_ns,
    )
    limits = {name: found.limits for name, found in case.stored.items()}
    return Replay(seed=window.seed, shape=shape, context_tokens_max=contexts_of(fleet, limits))


def record_of(asked: Asked) -> dict[str, object]:
    """Return what was asked as it is written down: files by name and content, so that any machine writes the same."""
    record = asdict(asked)
    del record["workers"]  # the answer does not depend on it
    record["traces"] = [{"workload": one.workload, **_content_of(one.path)} for one in traces_of(asked)]
    if asked.events is not None:
        record["events"] = _content_of(asked.events)
    return record


def _content_of(path: Path) -> dict[str, str]:
    """Return the name of a file and the hash of what it holds."""
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def understood(asked: Asked, fleet: Fleet) -> tuple[list[Turn], Window]:
    """Return the rehearsals and the window that were asked for, or every fault in them at once."""
    faults: list[Fault] = []

    def tried(question: Callable[[], Answer]) -> Answer | None:
        try:
            return question()
        except InputError as error:
            faults.extend(error.faults)
            return None

    tried(lambda: check_name(asked))
    tried(lambda: check_load(asked))
    policies = tried(lambda: policies_of(asked))
    timeline = tried(lambda: timeline_of(asked, fleet))
    window = tried(lambda: window_of(asked, fleet))
    turns = tried(lambda: turns_of(asked, fleet, policies or [], timeline or Timeline(), window))
    if faults or turns is None or window is None:
        raise InputError(faults)
    return turns, window


def turns_of(
    asked: Asked, fleet: Fleet, policies: list[Policy], timeline: Timeline, window: Window | None
) -> list[Turn]:
    """Return each rehearsal in its turn: the policies on one future, or one policy on many."""
    if not asked.scenario:
        folders = ["", *(policy.name.lower() for policy in policies[1:])]
        return [Turn(folder, fleet, policy, timeline) for folder, policy in zip(folders, policies, strict=False)]
    scenarios = chosen_scenarios(fleet, asked.scenario)
    if len(scenarios) > 1 and asked.compare:
        mend = "Compare policies on one scenario, such as worst, or leave --compare out."
        raise InputError(
            [Fault("--scenario", "all scenarios are rehearsed with one policy", mend, value=asked.scenario)]
        )
    turns: list[Turn] = []
    for scenario in scenarios:
        own = timeline_of_scenario(scenario, window.start_hour if window else 0.0)
        joined = Timeline((*own.rows, *timeline.rows), timeline.loading)
        for policy in policies:
            folder = scenario.name if len(scenarios) > 1 else policy.name.lower()
            turns.append(Turn(folder if turns else "", with_demand(fleet, scenario), policy, joined, scenario.name))
    return turns


def policies_of(asked: Asked) -> list[Policy]:
    """Return the policy asked for, and after it those that it is to be compared with."""
    names = {policy.name.lower(): policy for policy in Policy}
    listed = [name.strip() for name in asked.compare.split(",")] if asked.compare else []
    others = list(names) if asked.compare == "all" else listed
    faults = [
        Fault(flag, "there is no such policy", nearest(name, names), value=name)
        for flag, name in [("--policy", asked.policy), *(("--compare", name) for name in others)]
        if name not in names
    ]
    if asked.seeds < 1:
        faults.append(Fault("--seeds", "there is nothing to compare", "Give 1 or more.", value=str(asked.seeds)))
    if faults:
        raise InputError(faults)
    first = names[asked.policy]
    return [first, *(policy for policy in Policy if policy is not first and policy.name.lower() in others)]


def timeline_of(asked: Asked, fleet: Fleet) -> Timeline:
    """Return what was asked to happen, by flag and by file."""
    lost = tuple(parse_loss(text, fleet) for text in asked.lose)
    read = read_events(asked.events, fleet) if asked.events is not None else Timeline()
    return Timeline((*lost, *read.rows), read.loading)


def window_of(asked: Asked, fleet: Fleet) -> Window:
    """Return the hours to rehearse, thinned to the number of requests asked for where no thinning was."""
    start = float(busiest_hour(fleet)) if asked.from_hour == BUSIEST else asked.from_hour
    seed = fleet.seed if asked.seed == PLANNED_SEED else asked.seed
    window = Window(
        seed=seed,
        start_hour=start,
        hours=asked.hours,
        thin=max(asked.thin, 1),
        surge=asked.surge,
        shift_hours=shift_hours_of(asked.shift_hours, fleet.regions),
        sessions=asked.sessions,
        users=asked.closed_loop,
    )
    check_window(window)
    if asked.thin > 0 or asked.traces or asked.closed_loop:
        return window
    return replace(window, thin=thin_for(fleet, window, asked.requests))


def load_maker(case: Case, fleet: Fleet) -> Callable[[int], Iterator[Requests]]:
    """Return a function of a seed that makes the requests, or of traces gives the same ones from other regions."""
    if not case.asked.traces:
        return partial(_made, fleet, case.window)
    return partial(_replayed, traces_of(case.asked), fleet, replay_of(case, fleet))


def _made(fleet: Fleet, window: Window, seed: int) -> Iterator[Requests]:
    """Return the traffic of a window with another seed."""
    return generated(fleet, replace(window, seed=seed))


def _replayed(traces: list[Traced], fleet: Fleet, replay: Replay, seed: int) -> Iterator[Requests]:
    """Return the requests of traces with another seed."""
    return replayed(traces, fleet, replace(replay, seed=seed))
