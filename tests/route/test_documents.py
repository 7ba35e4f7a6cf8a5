"""What the documents say of the router is true: their snippets run against one, their files are files of one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from offtake.route.config import ConfigFile
from tests.route.router import ASK, Router, run_folder
from tools.docs import ROOT
from tools.route_reference import REASONS, complete, settings

BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
IN_README = ("http://127.0.0.1:8080", '"assistant"')  #: the address of the demo, and the model of `offtake init`
SERVES = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")]


def blocks(document: str, kind: str) -> list[str]:
    text = (ROOT / document).read_text("utf-8")
    return [found["body"] for found in BLOCK.finditer(text) if found["kind"] == kind]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    run = run_folder(tmp_path_factory.mktemp("documents"))
    with Router(run, "--demo", "--workers", "1") as router:
        yield router


def here(snippet: str, router: Router) -> str:
    """A snippet of the README, with the address and the model of this router."""
    for said, meant in zip(IN_README, (router.address, '"model"'), strict=True):
        assert said in snippet
        snippet = snippet.replace(said, meant)
    assert router.told["key"] in snippet
    return snippet


class TestSnippetsOfTheReadme:
    pytestmark = SERVES

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_curl_is_answered(self, router: Router) -> None:
        (snippet,) = blocks("README.md", "sh")
        done = subprocess.run(
            ["sh", "-c", here(snippet, router)], capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(done.stdout)["choices"][0]["message"]["content"]

    @pytest.mark.parametrize("client", ["openai", "anthropic"])
    def test_the_official_client_is_answered(self, router: Router, client: str) -> None:
        (snippet,) = [each for each in blocks("README.md", "python") if f"from {client} " in each]
        command = [sys.executable, "-c", here(snippet, router)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip()

    def test_the_ledger_is_where_the_readme_says(self, router: Router) -> None:
        text = (ROOT / "README.md").read_text("utf-8")
        (folder,) = re.findall(r"`offtake ledger runs/mine/(\S+)`", text)
        with router.client() as client:
            assert client.post("/v1/chat/completions", json=ASK).status_code == 200
        assert router.rows(1)
        command = [sys.executable, "-m", "offtake.cli", "ledger", str(router.run / folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert sum(each["served"] for each in json.loads(done.stdout)["sums"]["outcome"]) >= 1


def test_the_files_of_the_documents_are_files_of_a_router() -> None:
    first, several = blocks("docs/go-live.md", "toml")
    file = msgspec.toml.decode(first, type=ConfigFile)
    assert [row.pool for row in file.upstream].count("datacentre/h100/assistant") == 2
    assert msgspec.toml.decode(several, type=ConfigFile).ledger.durable == "power"


def test_a_header_or_a_reason_that_is_new_or_gone_stops_the_reference() -> None:
    complete("reasons", set(REASONS), set(REASONS))
    with pytest.raises(ValueError, match="reasons of the router: busy, new"):
        complete("reasons", set(REASONS), set(REASONS) - {"busy"} | {"new"})


def test_a_field_of_a_file_is_told_with_its_default() -> None:
    class Row(msgspec.Struct, kw_only=True):
        pool: str  #: Where to.
        wait_s: float = 2.0  #: How long.

    assert "| `pool` | text |  | **required** | Where to. |" in settings(Row)
    assert "| `wait_s` | number | s | `2.0` | How long. |" in settings(Row)
