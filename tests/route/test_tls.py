from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from offtake.route.seams import Failure, Outcome
from tests.route.fakes import (
    ASK,
    EVENT,
    OK,
    SSE,
    FakeDesk,
    chunk,
    client,
    failures,
    good,
    once,
    outcomes,
    serving,
    upstream,
)
from tests.route.loops import Run, run

__all__ = ["run"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of 127.0.0.1 shows, and what trusts it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, and makes the certificate")
    home: Path = tmp_path_factory.mktemp("tls")
    key, certificate = home / "key.pem", home / "certificate.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *named, *files], check=True, capture_output=True)
    shows = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shows.load_cert_chain(certificate, key)
    return shows, ssl.create_default_context(cafile=str(certificate))


def test_requests_come_in_and_go_out_over_tls(run: Run, ours: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    shows, trusts = ours

    async def main() -> None:
        stream = SSE + chunk(EVENT) * 3 + b"0\r\n\r\n"
        async with (
            upstream(good(OK), served_tls=shows, tls=trusts) as (up, met),
            upstream(once(stream), served_tls=shows, tls=trusts) as (streaming, _),
            serving(desk := FakeDesk([up]), tls=shows) as server,
            client(server, tls=trusts) as mine,
        ):
            for _ in range(3):
                await mine.ask(ASK)
                assert (await mine.answer())[::2] == (200, b"{}")
            desk.upstreams = [streaming]
            await mine.ask(ASK)
            assert (await mine.answer())[2] == EVENT * 3
            assert outcomes(desk) == [Outcome.SERVED] * 4
            assert met.met == 1

    run(main)


def test_an_upstream_whose_certificate_is_not_trusted_gets_no_request(
    run: Run, ours: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        strict = ssl.create_default_context()
        async with (
            upstream(good(OK), served_tls=ours[0], tls=strict) as (up, met),
            serving(desk := FakeDesk([up])) as server,
            client(server) as mine,
        ):
            await mine.ask(ASK)
            assert (await mine.answer())[0] == 503
            assert failures(desk) == [Failure.UNREACHABLE]
            assert met.met == 0

    run(main)


def test_a_stream_over_tls_that_is_cut_never_ends_cleanly(
    run: Run, ours: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    shows, trusts = ours

    async def main() -> None:
        script = once(SSE + chunk(EVENT), then="reset")
        async with (
            upstream(script, served_tls=shows, tls=trusts) as (up, _),
            serving(desk := FakeDesk([up]), tls=shows) as server,
            client(server, tls=trusts) as mine,
        ):
            await mine.ask(ASK)
            assert not (await mine.read()).endswith(b"0\r\n\r\n")
            assert outcomes(desk) == [Outcome.CUT]

    run(main)
