"""What could be read in two ways is refused, however its bytes arrive; our verdicts stand beside those of others."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offtake.route.answers import AnswerReader, MalformedError
from offtake.route.http1 import Limits, RefusedError, RequestReader
from tests.route.smuggling import ANSWERS, CASES, Case

NGINX = """pid {home}/pid; error_log /dev/null; daemon off; master_process off; events {{}}
http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{back}; }} }} }}"""
HAPROXY = """defaults
 mode http
 timeout connect 1s
 timeout client 1s
 timeout server 1s
frontend f
 bind 127.0.0.1:{port}
 default_backend b
backend b
 server s 127.0.0.1:{back}
"""


def verdict(sent: bytes, step: int) -> int:
    """Return the status of the refusal, 0 if a request was taken, -1 if it waits for more."""
    reader = RequestReader(Limits())
    try:
        for start in range(0, len(sent), step):
            reader.feed(sent[start : start + step])
    except RefusedError as refused:
        return refused.status
    return 0 if reader.ready else -1


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_that_could_be_read_in_two_ways_is_refused_however_it_arrives(case: Case, step: int) -> None:
    assert verdict(case.sent, step) == case.ours


@pytest.mark.parametrize("case", [case for case in CASES if case.ours == 0], ids=lambda case: case.name)
def test_what_is_taken_is_one_request_and_leaves_the_reader_at_the_next(case: Case) -> None:
    reader = RequestReader(Limits())
    reader.feed(case.sent)
    assert len(reader.ready) == 1
    if reader.ready[0].keep:
        reader.feed(b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n")
        assert reader.ready[1].head.path == b"/next"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_where_h11_judges_otherwise_the_table_says_why(case: Case) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(case.sent)
    event = None
    with suppress(h11.RemoteProtocolError):
        while event not in (h11.NEED_DATA, h11.PAUSED) and not isinstance(event, h11.EndOfMessage):
            event = connection.next_event()
            if isinstance(event, h11.ConnectionClosed):
                break
    taken = event is h11.PAUSED or isinstance(event, h11.EndOfMessage)
    assert (taken != (case.ours == 0)) == ("h11" in case.others)
    assert bool(case.others) == bool(case.why)


@pytest.mark.parametrize("step", [1, 3, 10_000])
@pytest.mark.parametrize("name, sent, good", ANSWERS, ids=[answer[0] for answer in ANSWERS])
def test_an_answer_that_could_be_read_in_two_ways_is_malformed_however_it_arrives(
    name: str, sent: bytes, good: bool, step: int
) -> None:
    del name
    reader = AnswerReader(Limits())
    malformed = False
    try:
        for start in range(0, len(sent), step):
            reader.feed(sent[start : start + step])
    except MalformedError:
        malformed = True
    assert (not malformed and not reader.junk and (reader.done or reader.ends_by_close())) == good


GOOD = [case.sent for case in CASES if case.ours == 0]
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(sent=st.sampled_from(GOOD), changes=CHANGES, step=st.integers(1, 50))
def test_a_request_that_is_changed_anywhere_is_taken_or_refused_and_nothing_else(
    sent: bytes, changes: list[tuple[int, bytes, int]], step: int
) -> None:
    for place, inserted, dropped in changes:
        sent = sent[:place] + inserted + sent[place + dropped :]
    assert verdict(sent, step) in {-1, 0, 400, 408, 413, 414, 417, 431, 501, 505}


class Backend(threading.Thread):
    """An upstream of the peers; it answers whatever head comes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        with suppress(OSError):
            while True:
                met, _ = self.listener.accept()
                threading.Thread(target=self.answer, args=(met,), daemon=True).start()

    def answer(self, met: socket.socket) -> None:
        with met, suppress(OSError):
            met.settimeout(2)
            data = b""
            while b"\r\n\r\n" not in data:
                more = met.recv(65536)
                if not more:
                    return
                data += more
            met.sendall(b"HTTP/1.1 200 OK\r\nX-Back: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            met.shutdown(socket.SHUT_WR)
            met.recv(1)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    thread = Backend()
    thread.start()
    yield thread
    thread.listener.shutdown(socket.SHUT_RDWR)
    thread.listener.close()


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def peer(
    request: pytest.FixtureRequest, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    name = request.param
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    version = {"nginx": "1.22.1", "haproxy": "2.6.12"}[name]
    if program is None:
        pytest.skip(f"{name} is not installed")
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    if version not in said.stdout + said.stderr:
        pytest.skip(f"the verdicts are those of {name} {version}")
    home: Path = tmp_path_factory.mktemp(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = home / "config"
    config.write_text((NGINX if name == "nginx" else HAPROXY).format(home=home, port=port, back=backend.port))
    arguments = [program, "-c" if name == "nginx" else "-f", str(config)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            threading.Event().wait(0.05)
        yield name, port
        process.terminate()


def passed_on(port: int, sent: bytes) -> bool:
    """Tell whether a peer passed a request on to its upstream."""
    data = b""
    with socket.create_connection(("127.0.0.1", port)) as sender, suppress(OSError):
        sender.settimeout(0.5)
        sender.sendall(sent)
        while b"\r\n\r\n" not in data:
            more = sender.recv(65536)
            if not more:
                break
            data += more
    return b"x-back" in data.lower()


@pytest.mark.slow
def test_where_nginx_and_haproxy_judge_otherwise_the_table_says_why(peer: tuple[str, int]) -> None:
    name, port = peer
    differing = {case.name for case in CASES if passed_on(port, case.sent) != (case.ours == 0)}
    assert differing == {case.name for case in CASES if name in case.others}
