"""The router as a whole, as its operators meet it: it serves, drains, takes over, fails in words and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.route.router import ASK, KEY, Router, offtake, run_folder
from tests.route.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")]


def is_served(client: httpx.Client) -> bool:
    try:
        return client.post("/v1/chat/completions", json=ASK).status_code == 200
    except httpx.HTTPError:
        return False


def test_it_serves_at_once_and_every_request_is_in_the_ledger(tmp_path: Path) -> None:
    with Router(run_folder(tmp_path), "--demo", "--speed", "20", "--workers", "2") as router, router.client() as client:
        answers = [client.post("/v1/chat/completions", json=ASK) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert client.get("/readyz").json() == {"ready": True, "faults": [], "notes": []}
        assert client.post("/v1/messages", json=ASK).json()["type"] in {"message", "error"}
        served = [row for row in router.rows(20) if row["outcome"] == "served"]
        assert {answer.headers["x-request-id"] for answer in answers} <= {row["request_id"] for row in served}
        assert router.stop() == 0


def test_a_stream_that_is_open_ends_before_the_router_does(tmp_path: Path) -> None:
    with Router(run_folder(tmp_path), "--demo", "--workers", "1") as router, router.client() as client:
        asked = ASK | {"stream": True, "max_tokens": 40}
        with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            lines = answer.iter_lines()
            next(lines)
            router.process.send_signal(signal.SIGTERM)
            text = "".join(lines)
        assert text.endswith("data: [DONE]")
        assert router.process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(router.address + "/healthz")


def test_a_worker_that_dies_is_begun_anew_and_what_it_had_open_is_lost_in_the_ledger(tmp_path: Path) -> None:
    with Router(run_folder(tmp_path), "--demo", "--workers", "1") as router, router.client() as client:
        asked = ASK | {"stream": True, "max_tokens": 400}
        with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(max(router.children()), signal.SIGKILL)
            with pytest.raises(httpx.HTTPError):
                list(lines)
        assert until(lambda: is_served(client))
        assert [row["outcome"] for row in router.rows(2)][:2] == ["lost", "served"]


def test_new_files_are_taken_over_and_faulty_ones_are_not(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    with Router(run, "--demo", "--speed", "20", "--workers", "2") as router:
        path = run / "route-demo" / "route.toml"
        good = path.read_text()
        path.write_text(good + "\n[retry]\nbudget_share = 7\n")
        router.process.send_signal(signal.SIGHUP)
        with router.client() as client:
            assert {client.post("/v1/chat/completions", json=ASK).status_code for _ in range(20)} == {200}
        path.write_text(good)
        made = offtake(str(run), "--config", str(path), "--new-key", "everyone", "--json")
        key = json.loads(made.stdout)["key"]
        router.process.send_signal(signal.SIGHUP)
        with httpx.Client(base_url=router.address, headers={"x-api-key": key}) as client:
            assert until(lambda: all(is_served(client) for _ in range(20)))
        assert "retry.budget_share: must be a share from 0 to 1" in router.errors.read_text()


def test_a_pool_that_fails_is_not_felt_before_the_first_byte(tmp_path: Path) -> None:
    with Router(run_folder(tmp_path), "--demo", "--speed", "20", "--workers", "1") as router, router.client() as client:
        mock = router.told["mock"]
        for fault in ("reset", "error", "malformed"):
            assert httpx.put(f"{mock}/0/fault", content=fault).status_code == 200
            answers = [client.post("/v1/chat/completions", json=ASK) for _ in range(60)]
            assert {answer.status_code for answer in answers} == {200}, fault
            httpx.put(f"{mock}/0/fault", content="none")


def test_streams_go_on_while_files_are_taken_over_again_and_again(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    with Router(run, "--demo", "--speed", "2", "--workers", "2") as router:
        ended: list[bool] = []

        def stream() -> None:
            with httpx.Client(base_url=router.address, headers=KEY, timeout=20) as client:
                asked = ASK | {"stream": True, "max_tokens": 60}
                with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
                    ended.append("".join(answer.iter_lines()).endswith("data: [DONE]"))

        threads = [threading.Thread(target=stream) for _ in range(12)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            router.process.send_signal(signal.SIGHUP)
            threads[0].join(0.1)
        for thread in threads:
            thread.join(30)
        assert ended == [True] * 12


def test_every_fault_of_the_start_is_told_and_ends_with_2(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    missing = offtake(str(run))
    assert (missing.returncode, "route.toml: the file cannot be read" in missing.stderr) == (2, True)
    assert offtake(str(run), "--init").returncode == 0
    assert offtake(str(run), "--init").returncode == 2
    empty = offtake(str(run), "--check")
    assert empty.returncode == 2
    assert empty.stderr.count("is no address of an upstream") == 4
    text = (
        (run / "route.toml")
        .read_text()
        .replace('url = ""', 'url = "http://127.0.0.1:1"')
        .replace("key_env", "# key_env")
    )
    (run / "route.toml").write_text(text)
    assert offtake(str(run), "--check").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = offtake(str(run), "--port", str(taken.getsockname()[1]))
    assert (busy.returncode, "cannot listen: Address already in use" in busy.stderr) == (2, True)
    (run / "route.toml").write_text(text + '\n[ledger]\nurl = "postgresql://nobody@127.0.0.1:1/none"\n')
    away = offtake(str(run), "--port", "0")
    assert (away.returncode, "Traceback" in away.stderr) == (2, False)
    assert "ledger" in away.stderr


@pytest.mark.parametrize("seed", range(3))
def test_no_acknowledged_request_is_missing_after_everything_was_killed_at_a_random_moment(
    tmp_path: Path, seed: int
) -> None:
    run, acknowledged = run_folder(tmp_path), set[str]()
    with Router(run, "--demo", "--speed", "50", "--workers", "2") as router:

        def ask() -> None:
            with httpx.Client(base_url=router.address, headers=KEY, timeout=5) as client:
                while True:
                    try:
                        answer = client.post("/v1/chat/completions", json=ASK)
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 200:
                        acknowledged.add(answer.headers["x-request-id"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert until(lambda: len(acknowledged) > 10)
        threads[0].join(0.37 * seed)
        router.kill()
        for thread in threads:
            thread.join(10)
    kept = run / "route-demo"
    (kept / "journal").rename(run / "journal-before")
    (kept / "ledger.db").rename(run / "ledger-before.db")
    for more in ("-wal", "-shm"):
        if (kept / f"ledger.db{more}").exists():
            (kept / f"ledger.db{more}").rename(run / f"ledger-before.db{more}")
    rows = drained(run)
    served = [row for row in rows if row[1] == "served"]
    assert acknowledged <= {row[0] for row in served}
    assert len({row[0] for row in rows}) == len(rows)
    assert {row[1] for row in rows} <= {"served", "lost", "left", "refused"}


def drained(run: Path) -> list[tuple[str, str]]:
    """What the ledger holds once the journals of the dead are emptied into it."""
    from offtake.route.ledger.drain import Drainer
    from offtake.route.ledger.opening import open_store

    drainer = Drainer(run / "journal-before", lambda: open_store("sqlite:ledger-before.db", run))
    assert until(lambda: drainer.drain() >= 0 and not list((run / "journal-before").glob("*.log")))
    drainer.close()
    store = open_store("sqlite:ledger-before.db", run)
    rows = [(str(row[0]), str(row[1])) for row in store.read("SELECT request_id, outcome FROM requests")]
    store.close()
    return rows
