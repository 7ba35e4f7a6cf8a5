from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

import msgspec
import pytest

from offtake.errors import InputError
from offtake.route import logs
from offtake.route.logs import AccessLog, JsonLines
from tests.route.setup import desk_in
from tests.route.test_metrics import one


def finished(log: AccessLog) -> None:
    stop = Event()
    stop.set()
    log.run(stop)


def test_each_request_is_one_line_without_its_words_or_keys(tmp_path: Path) -> None:
    desk, log = desk_in(tmp_path), AccessLog(tmp_path / "access.log")
    desk.parts.watchers = [log]
    one(desk, 1.0, 1.5, 3.0)
    one(desk, 2.0, 2.5, 3.0)
    finished(log)
    text = (tmp_path / "access.log").read_text()
    assert not any(secret in text for secret in ("hello", "ot-acme", "upstream-secret"))
    first, second = (msgspec.json.decode(line) for line in text.splitlines())
    assert (first["tenant"], first["workload"], first["outcome"]) == ("acme", "chat", "served")
    assert (first["first_ms"], first["whole_ms"], first["output_tokens"]) == (500.0, 2000.0, 51)
    assert first["id"] != second["id"]


def test_lines_that_nobody_takes_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LINES_MAX", 3)
    desk, log = desk_in(tmp_path), AccessLog(tmp_path / "access.log")
    desk.parts.watchers = [log]
    for at in range(5):
        one(desk, at, at, at)
    finished(log)
    assert log.lost == 2
    assert len((tmp_path / "access.log").read_text().splitlines()) == 3


def test_an_event_of_the_program_is_one_line_of_json_whatever_it_says() -> None:
    record = logging.LogRecord("offtake.route", logging.WARNING, "f", 1, 'two\nlines of "%s"', ("x",), None)
    line = JsonLines().format(record)
    assert "\n" not in line
    told = msgspec.json.decode(line)
    assert (told["level"], told["message"]) == ("warning", 'two\nlines of "x"')
    assert told["time"].endswith("Z")


def test_a_log_that_cannot_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the log cannot be written"):
        AccessLog(tmp_path / "none" / "access.log")
