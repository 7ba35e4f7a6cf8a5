from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offtake.route import loop
from offtake.route.clock import Clock
from offtake.route.columns import Host
from offtake.route.desk import RequestDesk
from offtake.route.ledger.journal import Journal
from offtake.route.limits import Allowances
from offtake.route.live import VIEWERS_MAX, Live, document, quantile
from offtake.route.metrics import Gauges, Meter
from offtake.route.recent import KEPT, Ring, read
from offtake.route.seams import Case, Feed, Head, Outcome, Reply
from offtake.route.serve import Server
from offtake.units import NS_PER_S
from tests.rehearse.fleets import small_fleet
from tests.route.fakes import FakeDesk
from tests.route.setup import desk_in
from tests.route.test_desk import BODY, book, post
from tests.route.test_metrics import one

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ASK = Head(b"GET", b"/live/events", b"", ())


def lived(folder: Path) -> tuple[Live, RequestDesk]:
    desk, host = desk_in(folder), Host(folder / "state")
    ring = Ring(host)
    desk.parts.watchers = [Meter(host), ring]
    desk.parts.allowance = Allowances(desk.parts.config.file.tenant, host, desk.parts.clock.begun_wall_ns)
    journal = Journal(folder / "journal", "one")
    Gauges(host, desk, journal, lambda: 3).tell(0)
    journal.close()
    return Live(host, ring, desk), desk


def told(sent: list[bytes]) -> dict[str, Any]:
    [line] = [line for line in sent[-1].split(b"\n") if line.startswith(b"data: ")]
    return dict(msgspec.json.decode(line.removeprefix(b"data: ")))


def test_who_looks_sees_how_the_router_stands_and_how_it_changes(tmp_path: Path) -> None:
    live, desk = lived(tmp_path)
    sent: list[bytes] = []
    feed = live.events(ASK)
    assert isinstance(feed, Feed)
    end = feed.begin(sent.append)
    first = told(sent)
    assert [pool["name"] for pool in first["pools"]] == [pool.name for pool in desk.parts.fleet.pools]
    assert (first["connections"], first["ended"], first["recent"]) == (3, 0, [])
    now_ns = desk.parts.clock.now_ns()
    one(desk, now_ns / NS_PER_S, now_ns / NS_PER_S + 0.2, now_ns / NS_PER_S + 1.2)
    desk.parts.decider.capacity(0, 0, now_ns)
    for pool in range(len(desk.parts.fleet.pools)):
        desk.parts.decider.capacity(pool, 0, now_ns)
    refused = desk.arrived(post(), BODY, now_ns)
    assert isinstance(refused, Case)
    desk.place(refused, now_ns)
    desk.ended(refused, Outcome.REFUSED, b"", 0, now_ns)
    live.tell(now_ns + 2 * NS_PER_S)
    then = told(sent)
    assert (then["served"], then["ended"]) == (1, 2)
    assert then["refusals"][0] == ["no_capacity", 1]
    chat = then["workloads"][0]
    assert (chat["name"], chat["slo"], chat["first_s_p95"]) == ("chat", 1.0, 0.25)
    assert then["recent"][0][5] in {"served", "refused"}
    assert len(then["recent"]) == 2
    end()
    number = len(sent)
    live.tell(now_ns + 3 * NS_PER_S)
    assert len(sent) == number


def test_the_words_and_the_key_of_a_request_are_nowhere_to_be_seen(tmp_path: Path) -> None:
    live, desk = lived(tmp_path)
    sent: list[bytes] = []
    feed = live.events(ASK)
    assert isinstance(feed, Feed)
    feed.begin(sent.append)
    one(desk, 0.0, 0.1, 0.2)
    live.tell(NS_PER_S)
    for secret in (b"hello", b"ot-acme", b"upstream-secret"):
        assert secret not in b"".join(sent)
        assert all(secret not in path.read_bytes() for path in (tmp_path / "state").iterdir())


def test_no_more_than_so_many_may_look(tmp_path: Path) -> None:
    live, _ = lived(tmp_path)
    for _ in range(VIEWERS_MAX):
        feed = live.events(ASK)
        assert isinstance(feed, Feed)
        feed.begin(lambda _: None)
    refused = live.events(ASK)
    assert isinstance(refused, Reply)
    assert refused.status == 503


def test_the_last_requests_of_all_workers_are_seen_newest_first(tmp_path: Path) -> None:
    rings = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        desk = desk_in(tmp_path / str(number))
        ring = Ring(Host(tmp_path / "state"))
        desk.parts.watchers = [ring]
        rings.append(ring)
        for at in range(90):
            one(desk, at + number / 2, at + number / 2 + 0.1, at + number / 2 + 0.2)
    seen = rings[0].all()
    assert seen == rings[1].all()
    assert len(seen) == KEPT
    assert [each.end_s for each in seen] == sorted((each.end_s for each in seen), reverse=True)


def test_a_slot_that_is_torn_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "000.recent"
    path.write_bytes(b"\x05\0\0\0[1,2".ljust(512, b"\0") + b"\xff" * 512)
    assert read(path) == []
    assert read(tmp_path / "none.recent") == []


def test_a_share_of_all_is_reached_in_a_bucket() -> None:
    assert quantile([90.0, 5.0, 5.0, 0.0], (0.1, 0.2, 0.3), 0.95) == 0.2
    assert quantile([0.0, 0.0, 0.0, 9.0], (0.1, 0.2, 0.3), 0.95) is None
    assert quantile([0.0, 0.0, 0.0, 0.0], (0.1, 0.2, 0.3), 0.95) is None


def test_nothing_runs_on_the_page_but_what_is_in_it_and_it_asks_nobody_else() -> None:
    page = document()
    text = page.body.decode()
    rules = dict(page.headers)[b"content-security-policy"].decode()
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert f"script-src 'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}';" in rules
    assert "unsafe" not in rules
    assert "default-src 'none'" in rules
    assert not re.findall(r"https?://|//[a-z]|innerHTML|style=\"| on[a-z]+=\"", text)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to show the page with")
def test_a_browser_shows_what_the_events_tell(tmp_path: Path) -> None:
    live, desk = lived(tmp_path)
    one(desk, 0.0, 0.1, 0.2)
    sent: list[bytes] = []
    feed = live.events(ASK)
    assert isinstance(feed, Feed)
    feed.begin(sent.append)  # a stream that goes on would hold back the browser's hurried time

    async def main() -> str:
        fake = FakeDesk([])
        server = Server(fake, Clock())
        await server.start(("127.0.0.1", 0))
        fake.replies = {b"/live": document(), b"/live/events": Reply(200, feed.headers, b"".join(sent))}
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}/chrome",
            "--virtual-time-budget=1500",
        ]
        url = f"http://127.0.0.1:{server.addresses[0][1]}/live"
        pipe = asyncio.subprocess.PIPE
        browser = await asyncio.create_subprocess_exec(
            str(CHROMIUM), *options, "--enable-logging=stderr", "--dump-dom", url, stdout=pipe, stderr=pipe
        )
        drawn, errors = await asyncio.wait_for(browser.communicate(), 60)
        await server.drain(0)
        assert b"Content Security Policy" not in errors
        return drawn.decode()

    drawn = loop.run(main)
    assert 'data-shown="yes"' in drawn
    for pool in desk.parts.fleet.pools:
        assert f"<td>{pool.name}</td>" in drawn
    assert '<td class="good">served</td>' in drawn


def test_the_use_of_each_contract_since_monday_is_seen(tmp_path: Path) -> None:
    fleet = small_fleet()
    bound = [msgspec.structs.replace(pool, offers=["lease"]) for pool in fleet.pools if pool.kind == "chips"]
    free = [pool for pool in fleet.pools if pool.kind != "chips"]
    desk = desk_in(tmp_path, msgspec.structs.replace(fleet, pools=[*bound, *free]))
    host = Host(tmp_path / "state")
    desk.parts.watchers = [Meter(host)]
    live = Live(host, Ring(host), desk)
    for at in range(40):
        one(desk, at, at + 0.1, at + 0.2)
    served = [closed for closed in book(desk).shut if closed.pool != "api"]
    sent: list[bytes] = []
    feed = live.events(ASK)
    assert isinstance(feed, Feed)
    feed.begin(sent.append)
    [lease] = told(sent)["contracts"]
    assert lease["name"] == "lease"
    assert lease["tokens"] == len(served) * 151 > 0
    assert 0 < lease["used"] < 1
