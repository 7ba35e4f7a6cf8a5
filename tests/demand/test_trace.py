from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from offtake.demand.formats import Binding
from offtake.demand.keys import Names
from offtake.demand.request import Requests, concat, requests_of
from offtake.demand.trace import AS_IT_IS, read_trace, write_trace
from offtake.errors import Fault, InputError
from tests.demand.real import real_trace

TIDY_HEAD = "arrival_s,input_tokens,output_tokens\n"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def all_of(path: Path) -> Requests:
    return concat(list(read_trace(path)))


def columns(requests: Requests) -> list[Any]:
    return list(requests)


def faults_of(path: Path, binding: Binding = AS_IT_IS) -> list[Fault]:
    with pytest.raises(InputError) as found:
        list(read_trace(path, binding=binding))
    return found.value.faults


# ── the forms ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_azure_times_count_from_the_first_request(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
    )
    requests = all_of(written(tmp_path, "AzureLLMInferenceTrace_conv.csv", text))
    assert requests.arrival_ns.tolist() == [0, 4_314_579_000]
    assert requests.input_tokens.tolist() == [374, 396]
    assert requests.output_tokens.tolist() == [44, 109]
    assert requests.workload.tolist() == [0, 0]


def test_azure_times_of_2024_carry_their_zone(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10T00:00:01Z,9,6\n"
    )
    assert all_of(written(tmp_path, "a.csv", text)).arrival_ns.tolist() == [0, 990_070_000]


def test_mooncake_lines_count_milliseconds(tmp_path: Path) -> None:
    text = (
        '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
        '{"timestamp": 27482, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}\n'
    )
    requests = all_of(written(tmp_path, "conversation_trace.jsonl", text))
    assert requests.arrival_ns.tolist() == [0, 27_482_000_000]
    assert requests.input_tokens.tolist() == [6758, 7322]
    assert requests.output_tokens.tolist() == [500, 490]


def test_failed_requests_of_burstgpt_are_dropped_and_counted(tmp_path: Path) -> None:
    text = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "45,ChatGPT,1087,0,1087,Conversation log\n"
        "118,GPT-4,417,276,693,API log\n"
    )
    reader = read_trace(written(tmp_path, "BurstGPT_1.csv", text))
    requests = concat(list(reader))
    assert requests.arrival_ns.tolist() == [5_000_000_000, 118_000_000_000]
    assert requests.output_tokens.tolist() == [18, 276]
    assert (reader.rows_read, reader.rows_dropped) == (3, 1)


def test_tidy_csv_may_name_workload_and_region_and_carry_other_columns(tmp_path: Path) -> None:
    text = "region,arrival_s,input_tokens,output_tokens,workload,colour\n2,0.5,10,20,1,red\n0,1.25,11,21,3,blue\n"
    requests = all_of(written(tmp_path, "t.csv", text))
    assert requests.arrival_ns.tolist() == [500_000_000, 1_250_000_000]
    assert requests.workload.tolist() == [1, 3]
    assert requests.region.tolist() == [2, 0]


def test_windows_line_ends_and_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + TIDY_HEAD.replace("\n", "\r\n").encode() + b"0,2,3\r\n1.5,2,4\r\n")
    assert all_of(path).output_tokens.tolist() == [3, 4]


def test_a_name_with_brackets_is_a_name_not_a_pattern(tmp_path: Path) -> None:
    assert all_of(written(tmp_path, "t[1].csv", TIDY_HEAD + "0,2,3\n")).input_tokens.tolist() == [2]


def test_an_outcome_of_a_rehearsal_is_a_trace_again(tmp_path: Path) -> None:
    path = tmp_path / "outcome.parquet"
    pl.DataFrame(
        {
            "arrival_ns": [1, 2**60 + 1],
            "workload": pl.Series(["chat", "code"], dtype=pl.Enum(["code", "chat"])),
            "region": ["eu", "us"],
            "status": ["served", "refused"],
            "input_tokens": [5, 6],
            "output_tokens": [7, 8],
        }
    ).write_parquet(path)
    requests = concat(list(read_trace(path, binding=Binding(Names(("chat", "code"), ("us", "eu"))))))
    assert requests.arrival_ns.tolist() == [1, 2**60 + 1]
    assert requests.workload.tolist() == [0, 1]
    assert requests.region.tolist() == [1, 0]


# ── who asks, and what went before ───────────────────────────────────────────────────────────────────────────────────
SESSION_HEAD = "arrival_s,input_tokens,output_tokens,session,turn,shared_tokens,think_s\n"


def test_names_are_numbered_in_the_order_they_appear_where_none_are_given(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,tenant\n" + "".join(
        f"{row},1,1,{name}\n" for row, name in enumerate(["zoe", "acme", "zoe", "bob", "acme"])
    )
    path = written(tmp_path, "t.csv", text)
    for batch_rows in (1, 2, 100):
        batches = concat(list(read_trace(path, batch_rows=batch_rows)))
        assert batches.tenant.tolist() == [0, 1, 0, 2, 1]


def test_sessions_shared_prompts_and_think_times_are_read(tmp_path: Path) -> None:
    text = SESSION_HEAD + "0,10,5,a,1,0,\n1,9,5,,,,\n2,20,5,a,2,15,1.5\n3,8,5,b,1,0,\n"
    requests = all_of(written(tmp_path, "t.csv", text))
    assert requests.session.tolist() == [0, -1, 0, 1]
    assert requests.shared_tokens.tolist() == [0, 0, 15, 0]
    assert requests.think_ns.tolist() == [-1, -1, 1_500_000_000, -1]


def test_the_first_turn_of_a_session_waits_for_none_and_shares_nothing(tmp_path: Path) -> None:
    text = SESSION_HEAD + "0,10,5,a,3,8,2\n2,20,5,a,4,15,1.5\n"
    requests = all_of(written(tmp_path, "t.csv", text))
    assert requests.think_ns.tolist() == [-1, 1_500_000_000]
    assert requests.shared_tokens.tolist() == [0, 15]


def test_block_hashes_tell_sessions_and_their_shared_prompts(tmp_path: Path) -> None:
    prompts = [[0, 1, 2, 3], [0, 9, 10, 11], [0, 1, 2, 4, 5], [0, 9, 10, 11, 12], [0, 1, 2, 4, 5, 6], [0, 20]]
    text = "".join(
        f'{{"timestamp": {row}, "input_length": {512 * len(ids)}, "output_length": 5, "hash_ids": {ids}}}\n'
        for row, ids in enumerate(prompts)
    )
    path = written(tmp_path, "t.jsonl", text)
    for batch_rows in (1, 100):
        requests = concat(list(read_trace(path, batch_rows=batch_rows)))
        assert requests.session.tolist() == [0, 1, 0, 1, 0, 2]
        assert requests.shared_tokens.tolist() == [0, 0, 3 * 512, 4 * 512, 5 * 512, 0]


@pytest.mark.parametrize(
    "name, sessions, found_share", [("mooncake-conversation", 7918, 0.894), ("mooncake-synthetic", 2245, 0.998)]
)
def test_sessions_find_the_blocks_that_an_endless_cache_would_have_held(
    name: str, sessions: int, found_share: float
) -> None:
    path = real_trace(f"{name}.parquet")
    requests = all_of(path)
    hit_blocks = pl.read_parquet(path, columns=["prefix_hit_blocks"]).sum().item()
    assert np.unique(requests.session).size == sessions
    assert np.ceil(requests.shared_tokens / 512).sum() / hit_blocks == pytest.approx(found_share, abs=1e-3)


def test_what_cannot_be_a_session_is_shown_at_once(tmp_path: Path) -> None:
    text = SESSION_HEAD + "0,10,5,a,1,0,\n1,10,5,a,2,11,-1\n2,10,5,,,3,\n3,10,5,a,2,0,x\n"
    found = [(fault.row, fault.column, fault.value) for fault in faults_of(written(tmp_path, "t.csv", text))]
    assert sorted(found, key=str) == [
        (3, "shared_tokens", "11"),
        (3, "think_s", "-1"),
        (4, "shared_tokens", "3"),
        (5, "think_s", "x"),
        (5, "turn", "2"),
    ]


def test_an_unknown_workload_region_or_index_is_told_with_the_nearest(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,workload,region\n0,1,1,chat,us\n1,1,1,chatt,2\n2,1,1,1,eu\n3,1,1,,1\n"
    binding = Binding(Names(("chat", "code"), ("us", "eu")))
    found = [
        (fault.row, fault.column, fault.value, fault.mend)
        for fault in faults_of(written(tmp_path, "t.csv", text), binding)
    ]
    assert found == [
        (3, "workload", "chatt", "Did you mean 'chat'?"),
        (3, "region", "2", "Known: us, eu."),
        (5, "workload", None, "Give it, or leave the request out."),
    ]


def test_a_request_beyond_its_models_context_is_a_fault(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,workload\n0,90,10,a\n1,91,10,a\n2,91,10,b\n3,191,10,b\n"
    binding = Binding(Names(("a", "b")), None, (100, 200))
    first, second = faults_of(written(tmp_path, "t.csv", text), binding)
    assert (first.row, first.column, second.row) == (3, "input_tokens", 5)
    assert "may have 100 tokens together" in first.mend
    assert [fault.row for fault in faults_of(tmp_path / "t.csv", binding._replace(workload=1))] == [5]


@pytest.mark.parametrize(
    "name, rows, last_s, input_tokens, output_tokens",
    [
        ("azure-2023-code.parquet", 8819, 3435.948, 18059974, 245896),
        ("azure-2023-conv.parquet", 19366, 3501.722, 22361870, 4088665),
        ("mooncake-conversation.parquet", 12031, 3536.999, 144793823, 4122048),
    ],
)
def test_the_public_traces_are_read_whole(
    name: str, rows: int, last_s: float, input_tokens: int, output_tokens: int
) -> None:
    requests = all_of(real_trace(name))
    assert requests.arrival_ns.size == rows
    assert requests.arrival_ns[-1] / 1e9 == pytest.approx(last_s, abs=1e-3)
    assert requests.input_tokens.sum() == input_tokens
    assert requests.output_tokens.sum() == output_tokens


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_batches_hold_no_more_rows_than_asked_and_keep_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", TIDY_HEAD + "".join(f"{row},{row + 1},5\n" for row in range(1000)))
    batches = list(read_trace(path, batch_rows=64))
    assert max(batch.arrival_ns.size for batch in batches) <= 64
    assert concat(batches).input_tokens.tolist() == list(range(1, 1001))


def test_a_written_trace_reads_back_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    arrival_ns = np.sort(random.integers(0, 10**15, 5000))
    tokens = random.integers(1, 10**6, 5000).astype(np.int32)
    requests = requests_of(arrival_ns, tokens, tokens[::-1].copy(), workload=3, region=2)
    session = np.where(random.random(5000) < 0.5, random.integers(0, 100, 5000), -1).astype(np.int32)
    first = np.isin(np.arange(5000), np.unique(session, return_index=True)[1]) | (session < 0)
    requests = requests._replace(
        tenant=random.integers(0, 9, 5000).astype(np.int16),
        session=session,
        shared_tokens=np.where(first, 0, tokens[::-1] // 2).astype(np.int32) % tokens,
        think_ns=np.where(first, -1, random.integers(0, 10**13, 5000)),
    )
    path = tmp_path / "t.parquet"
    assert write_trace(path, [requests]) == 5000
    for column, again in zip(columns(requests), columns(all_of(path)), strict=True):
        assert column.dtype == again.dtype
        assert np.array_equal(column, again)


def test_a_trace_whose_making_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Requests]:
        yield requests_of(np.zeros(1, np.int64), np.ones(1, np.int32), np.ones(1, np.int32))
        raise InputError([Fault("source.csv", "it broke off", "Mend it.")])

    with pytest.raises(InputError, match="it broke off"):
        write_trace(tmp_path / "t.parquet", broken())
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from offtake.demand.request import requests_of
from offtake.demand.trace import read_trace, write_trace

def batches(count, rows=200_000):
    tokens = np.arange(rows, dtype=np.int32) % 997 + 1
    for batch in range(count):
        yield requests_of(np.arange(batch * rows, (batch + 1) * rows) * 1_000_000, tokens, tokens)

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

path = Path(sys.argv[1])
write_trace(path, batches(1))
list(read_trace(path))
before = peak_mb()
assert write_trace(path, batches(100)) == 20_000_000
assert sum(batch.arrival_ns.size for batch in read_trace(path)) == 20_000_000
print(peak_mb() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="peak memory is read the POSIX way")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "t.parquet")]
    grown_mb = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown_mb < 160  # the requests alone fill 400 MB


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_faulty_row_is_shown_at_once_with_row_column_and_value(tmp_path: Path) -> None:
    text = TIDY_HEAD + "0,2,3\n1,,3\n-5,6,x\n3,0,1\n2,1,1.5\n4,-7,0\n"
    found = [(fault.row, fault.column, fault.value) for fault in faults_of(written(tmp_path, "t.csv", text))]
    assert sorted(found, key=str) == [
        (3, "input_tokens", None),
        (4, "arrival_s", "-5"),
        (4, "output_tokens", "x"),
        (5, "input_tokens", "0"),
        (6, "arrival_s", "2"),
        (6, "output_tokens", "1.5"),
        (7, "input_tokens", "-7"),
        (7, "output_tokens", "0"),
    ]


def test_rows_of_json_lines_are_its_lines(tmp_path: Path) -> None:
    text = '{"timestamp": 0, "input_length": 5, "output_length": 5}\n{"timestamp": 1, "output_length": "many"}\n'
    found = [(fault.row, fault.column, fault.value) for fault in faults_of(written(tmp_path, "t.jsonl", text))]
    assert sorted(found, key=str) == [(2, "input_length", None), (2, "output_length", "many")]


def test_twenty_faults_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    faults = faults_of(written(tmp_path, "t.csv", TIDY_HEAD + "1,0,1\n" * 50))
    assert len(faults) == 21
    assert faults[0].row == 2
    assert faults[-1].problem == "30 more faults are not listed"


def test_disorder_between_batches_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", TIDY_HEAD + "".join(f"{row},1,1\n" for row in [*range(10), 4]))
    with pytest.raises(InputError) as found:
        list(read_trace(path, batch_rows=5))
    assert [(fault.row, fault.value) for fault in found.value.faults] == [(12, "4")]


def test_a_missing_column_names_the_nearest_one_of_the_file(tmp_path: Path) -> None:
    (fault,) = faults_of(written(tmp_path, "t.csv", "arrival_s,input_token,output_tokens\n1,2,3\n"))
    assert fault.column == "input_tokens"
    assert fault.mend == "Rename 'input_token' to 'input_tokens', or give the format."


def test_an_arrival_that_is_missing_is_one_fault(tmp_path: Path) -> None:
    (fault,) = faults_of(written(tmp_path, "t.csv", TIDY_HEAD + "1,2,3\n2,2,3\n,4,5\n3,6,7\n"))
    assert (fault.row, fault.column, fault.problem) == (4, "arrival_s", "the value is missing")


def test_a_missing_column_is_not_to_be_made_of_one_that_is_needed_too(tmp_path: Path) -> None:
    (fault,) = faults_of(written(tmp_path, "t.csv", "arrival_s,input_tokens\n1,2\n"))
    assert fault.mend.startswith("Add it")


def test_a_missing_column_is_told_of_the_format_that_comes_nearest(tmp_path: Path) -> None:
    (fault,) = faults_of(written(tmp_path, "t.csv", "TIMESTAMP,ContextTokens,Generated\n1,2,3\n"))
    assert fault.column == "GeneratedTokens"
    assert "'azure'" in fault.problem


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", TIDY_HEAD + "0,1,1\n")
    with pytest.raises(InputError, match=r"Known: tidy, outcome, azure, mooncake, burstgpt\."):
        read_trace(path, form="azur")  # type: ignore[arg-type]  # a user's word may be any


@pytest.mark.parametrize(
    "name, content, problem, row",
    [
        ("t.csv", b"", "the file is empty", None),
        ("t.csv", TIDY_HEAD.encode(), "the trace holds no request", None),
        ("t.csv", TIDY_HEAD.encode() + b"0,2,3\n1,2,3,4\n", "the file cannot be read as a trace", 3),
        ("t.jsonl", b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n{"timest', "cannot be read", 2),
        ("t.parquet", b"PAR1 and then nothing of the kind", "the file cannot be read as a trace", None),
    ],
)
def test_a_file_that_is_no_trace_is_a_fault(
    tmp_path: Path, name: str, content: bytes, problem: str, row: int | None
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (fault,) = faults_of(path)
    assert problem in fault.problem
    assert (fault.file, fault.row) == (name, row)


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path / "none.csv")
    assert "No such file" in fault.problem


def test_nothing_is_yielded_from_a_faulty_batch_on(tmp_path: Path) -> None:
    rows = [f"{row},{0 if row == 7 else 1},1\n" for row in range(20)]
    reader = read_trace(written(tmp_path, "t.csv", TIDY_HEAD + "".join(rows)), batch_rows=5)
    seen: list[int] = []
    with pytest.raises(InputError):
        seen.extend(int(batch.arrival_ns[-1]) for batch in reader)
    assert seen == [4_000_000_000]
    assert reader.rows_read == 20


def test_not_a_number_in_parquet_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"arrival_s": [0.0, float("nan")], "input_tokens": [1, 1], "output_tokens": [1, 1]}).write_parquet(
        path
    )
    assert [(fault.row, fault.column) for fault in faults_of(path)] == [(3, "arrival_s")]
