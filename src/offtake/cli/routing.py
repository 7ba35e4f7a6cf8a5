"""Offer the verb that routes.

Comes in: a run folder and options. Goes out: a router that serves until it is told to stop. Rooms are imported inside
the verb, so that ``offtake --help`` stays quick.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offtake.cli.shell import FAILED, AsJson, RunFolder, app, emit, show

if TYPE_CHECKING:
    from offtake.route.supervise import Ready
    from offtake.route.worker import Files, Setup

SECRET_BYTES = 24
LEVEL = Annotated[str, typer.Option(help="debug, info, warning or error.")]
Speed = Annotated[float, typer.Option(help="How much quicker time passes in --demo.", min=0.01)]


@app.command()
def route(
    run: RunFolder,
    config: Annotated[Path | None, typer.Option(help="The router's file; RUN/route.toml by default.")] = None,
    init: Annotated[bool, typer.Option("--init", help="Write route.toml to fill in, and stop.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the files, and stop.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Make recorded decisions again, and stop.")] = False,
    new_key: Annotated[str, typer.Option(help="Add a key for a tenant, show it once, and stop.")] = "",
    demo: Annotated[bool, typer.Option("--demo", help="Serve with mock pools that behave as the fleet.")] = False,
    speed: Speed = 1.0,
    hour: Annotated[float, typer.Option(help="Hour of the fleet's week at which --demo begins; -1: now.")] = -1.0,
    shadow: Annotated[str, typer.Option(help="A second policy whose choices are only written down.")] = "",
    port: Annotated[int, typer.Option(help="Port, instead of the file's; -1: the file's.", min=-1, max=65535)] = -1,
    workers: Annotated[int, typer.Option(help="Processes, instead of the file's; 0: one for each core.", min=0)] = 0,
    level: LEVEL = "info",
    as_json: AsJson = False,
) -> None:
    """Route live requests under the plan: the rehearsed policy, and every request in the ledger."""
    from offtake.fleet import read_fleet
    from offtake.route.begin import add_key, begin
    from offtake.route.config import read_config
    from offtake.route.worker import Files, read_setup

    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    files = Files(run, config or run / "route.toml", shadow, port, workers, *((speed, hour) if demo else ()))
    if init:
        written = begin(files.config.parent, read_fleet(run / "plan" / "fleet.json"))
        say(as_json, f"Fill in the addresses: {written}", path=str(written))
    elif new_key:
        secret = "ot-" + secrets.token_urlsafe(SECRET_BYTES)
        written = add_key(read_config(files.config, read_fleet(run / "plan" / "fleet.json")), new_key, secret)
        say(as_json, f"{secret}\nKept as a hash in {written}; it is not shown again.", key=secret)
    elif replay:
        tell_replay(files, as_json=as_json)
    elif demo:
        demonstrate(files, as_json=as_json)
    else:
        setup = read_setup(files, os.environ)
        if check:
            pools, tenants = len(setup.fleet.pools), len(setup.config.file.tenant)
            say(as_json, f"{files.config} is good: {pools} pools, {tenants} tenants.", pools=pools, tenants=tenants)
        else:
            serve(files, setup, as_json=as_json)


def tell_replay(files: Files, *, as_json: bool) -> None:
    """Make recorded decisions again, and say what the shadow would have done."""
    from offtake.errors import VerificationError
    from offtake.fleet import read_fleet
    from offtake.route.config import read_config
    from offtake.route.judge import judge

    fleet = read_fleet(files.run / "plan" / "fleet.json")
    config = read_config(files.config, fleet)
    folder = config.beside(config.file.decisions or "decisions")
    found = judge(fleet, sorted(folder.glob("*.decisions")), files.run)
    if as_json:
        emit("route", ok=not found.not_made_again, replay=found)
    else:
        words = f"{found.decisions} decisions of {found.policy} in {found.logs} logs: {found.not_made_again} otherwise."
        total = sum(found.otherwise.values())
        shadow = f"\nThe shadow {found.shadow} would have chosen otherwise in {total} of {found.asked_of_shadow}:"
        lines = [f"\n  {count:>8}  {change}" for change, count in found.otherwise.items()]
        show(words + (shadow + "".join(lines) if found.shadow else ""))
    if found.not_made_again:
        raise VerificationError(f"{found.not_made_again} decisions are not those of the rehearsal's policy.")


def say(as_json: bool, words: str, **fields: object) -> None:
    """Answer in words, or as one JSON object."""
    if as_json:
        emit("route", ok=True, **fields)
    else:
        show(words)


def serve(files: Files, setup: Setup, *, as_json: bool, more: str = "", **told: object) -> None:
    """Serve until told to stop."""
    from offtake.route.supervise import Supervisor

    def ready(found: Ready) -> None:
        address = f"{'https' if found.tls else 'http'}://{found.host}:{found.port}"
        words = f"Routing {setup.fleet.name} at {address} with {found.workers} worker{'s' * (found.workers != 1)}."
        say(as_json, words + more.replace(ADDRESS, address), address=address, workers=found.workers, **told)
        sys.stdout.flush()

    asked = setup.config.file.listen.workers
    code = Supervisor(files, setup, asked or os.cpu_count() or 1).run(ready)
    if code:
        raise typer.Exit(FAILED)


def demonstrate(files: Files, *, as_json: bool) -> None:
    """Serve with mock pools, a tenant and a key that were made for it."""
    from offtake.route.demo import DEMO_KEY, mocked
    from offtake.route.worker import read_setup

    with mocked(files) as (placed, fleet, mock):
        setup = read_setup(placed, os.environ)
        model = fleet.workloads[0].model
        more = TRY.format(key=DEMO_KEY, model=model, address=ADDRESS, mock=mock, pool=fleet.pools[0].name)
        serve(placed, setup, as_json=as_json, more=more, mock=mock, key=DEMO_KEY)


ADDRESS = "ADDRESS"
TRY = """
Try it:
  curl {address}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 20}}'
  OpenAI(base_url="{address}/v1", api_key="{key}")      Anthropic(base_url="{address}", api_key="{key}")
Make pool {pool} fail (none, error, busy, reset, hang, slow, cut, malformed):
  curl -X PUT {mock}/0/fault -d error
Stop with Ctrl-C; streams that are open end first."""
