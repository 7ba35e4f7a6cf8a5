from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offtake.errors import InputError
from offtake.performance.closed_loop import Door
from offtake.performance.silicon_rows import MeasuredRun, read_runs
from offtake.performance.silicon_serving import choices_of, door_of, flags_of

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,"
    "batch_size,tp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms"
)
PUBLIC = "source_file=2026-04-06.csv; silicon_concurrency={}; measured={}"
INTERNAL = "source_file=/x/aic-auto-gap-analysis/data/h100.csv; silicon_concurrency=8"
R1 = "deepseek-ai/DeepSeek-R1"


def line(*cells: str) -> str:
    """Write a row: source, backend, version, model, system, precision, and batch, tp, attention dp, moe tp, moe ep."""
    return f"a,{','.join(cells[:-1])},agg,1024,1024,fp8,fp8,{cells[-1]},100.0,10.0"


def read(tmp_path: Path, *lines: str) -> list[MeasuredRun]:
    """Read rows from a file."""
    path = tmp_path / "silicon_sample.csv"
    path.write_text("\n".join([COLUMNS, *lines]) + "\n", encoding="utf-8")
    return read_runs(path)[0]


def split_of(run: MeasuredRun) -> tuple[int, int, int]:
    return run.tensor_parallel, run.attention_ranks, run.expert_parallel


def test_rows_that_differ_in_version_alone_are_one_measurement(tmp_path: Path) -> None:
    split = "32,8,1,8,1"
    one = line(PUBLIC.format(32, "2025-11-02"), "trtllm", "", R1, "b200_sxm", "fp8", split)
    other = line(PUBLIC.format(32, "2025-11-02"), "trtllm", "1.0", R1, "b200_sxm", "fp8", split)
    path = tmp_path / "silicon_sample.csv"
    path.write_text(f"{COLUMNS}\n{one}\n{other}\n", encoding="utf-8")
    runs, dropped = read_runs(path)
    assert (len(runs), dropped) == (1, 1)


def test_chips_that_the_table_multiplied_are_divided_again(tmp_path: Path) -> None:
    source = PUBLIC.format(32, "2025-12-15")
    runs = read(
        tmp_path,
        line(source, "trtllm", "1.1", R1, "h200_sxm", "fp8", "32,64,1,8,8"),
        line(source, "trtllm", "1.1", R1, "h200_sxm", "fp8", "32,1,64,8,8"),
        line(source, "trtllm", "1.1", R1, "h200_sxm", "fp8", "32,8,1,1,8"),
    )
    assert [split_of(run) for run in runs] == [(8, 1, 8), (1, 8, 8), (8, 1, 8)]


def test_split_experts_of_vllm_are_no_attention_ranks_unless_the_run_had_them(tmp_path: Path) -> None:
    minimax = "MiniMaxAI/MiniMax-M2.5"
    runs = read(
        tmp_path,
        line(PUBLIC.format(64, "2026-03-28"), "vllm", "0.18.0", minimax, "h100_sxm", "fp8", "16,4,4,1,16"),
        line(PUBLIC.format(512, "2026-04-22"), "vllm", "0.19.0", minimax, "b200_sxm", "fp4", "256,2,2,1,4"),
    )
    assert [split_of(run) for run in runs] == [(4, 1, 4), (1, 2, 2)]


def test_pools_that_were_added_up_are_not_replayed(tmp_path: Path) -> None:
    (run,) = read(tmp_path, line(PUBLIC.format(64, "2026-01-01"), "trtllm", "", R1, "gb200", "fp4", "64,36,1,36,1"))
    assert "pools" in run.reason


def test_clients_of_several_replicas_are_one_replica_s_share(tmp_path: Path) -> None:
    source = f"{INTERNAL.replace('=8', '=448')}; dynamo_version="
    runs = read(
        tmp_path,
        line(f"{source}0.8.1", "trtllm", "1.3", R1, "b200_sxm", "fp4", "56,8,,1,8"),
        line(f"{source}0.9.0", "trtllm", "1.3", R1, "b200_sxm", "fp4", "28,8,,1,8"),
    )
    assert [run.clients for run in runs] == [56, 448]


def test_a_row_that_tells_no_clients_is_not_replayed(tmp_path: Path) -> None:
    source = INTERNAL.replace("silicon_concurrency=8", "gtl_job_id=1")
    (run,) = read(tmp_path, line(source, "trtllm", "1.2", R1, "gb200", "fp4", "56,8,,1,8"))
    assert run.reason == "the row does not tell how many clients there were"


def test_a_step_of_tensorrt_llm_holds_the_longest_prompt_beside_all_that_decode(tmp_path: Path) -> None:
    (run,) = read(tmp_path, line(INTERNAL, "trtllm", "1.2", R1, "b200_sxm", "fp4", "8,8,,1,8"))
    assert flags_of(run._replace(input_tokens=15_000, clients=14)).step_tokens_max == 15_014


@pytest.mark.parametrize(
    ("version", "date", "split", "drafts"),
    [
        ("1.1.0rc2.post2", "2026-01-14", "32,8,1,1,8", 3),
        ("1.1.0rc2.post2", "2026-01-14", "32,1,8,1,8", 1),
        ("1.1.0rc2.post2", "2025-12-15", "32,8,1,1,8", 0),
        ("1.2.0rc6.post3", "2026-02-06", "32,8,1,8,1", 3),
        ("1.2.0rc6.post2", "2026-02-06", "32,8,1,8,1", 0),
    ],
)
def test_runs_with_drafts_are_told_by_image_and_day(
    tmp_path: Path, version: str, date: str, split: str, drafts: int
) -> None:
    (run,) = read(tmp_path, line(PUBLIC.format(32, date), "trtllm", version, R1, "h200_sxm", "fp8", split))
    assert run.drafts == drafts


def test_the_format_is_that_of_the_checkpoint_not_of_the_label(tmp_path: Path) -> None:
    source = PUBLIC.format(32, "2025-10-29")
    runs = read(
        tmp_path,
        line(source, "trtllm", "", "meta-llama/Llama-3.1-70B", "h200_sxm", "fp8", "32,8,1,8,1"),
        line(source, "vllm", "", "openai/gpt-oss-120b", "b200_sxm", "fp4", "32,8,1,8,1"),
        line(source, "vllm", "", "openai/gpt-oss-120b", "h200_sxm", "fp4", "32,8,1,8,1"),
    )
    first = [choices_of(run)[0] for run in runs]
    assert first[0].linear_format == "fp8_static"
    assert [one.expert_format for one in first[1:]] == ["w4a8_mxfp4_mxfp8", "w4a16_mxfp4"]


def test_measured_data_are_tried_before_estimates(tmp_path: Path) -> None:
    (run,) = read(tmp_path, line(PUBLIC.format(4, "2026-03-01"), "sglang", "0.5.9", R1, "b200_sxm", "fp8", "4,8,1,8,1"))
    estimated = [one.estimated for one in choices_of(run)]
    assert estimated == sorted(estimated)
    assert True in estimated


def test_the_door_and_the_flags_are_those_of_the_published_script(tmp_path: Path) -> None:
    runs = read(
        tmp_path,
        line(PUBLIC.format(4, "2026-03-01"), "sglang", "0.5.9", R1, "b200_sxm", "fp4", "4,8,1,8,1"),
        line(PUBLIC.format(64, "2026-03-01"), "sglang", "0.5.9", R1, "b200_sxm", "fp4", "64,8,1,8,1"),
        line(
            PUBLIC.format(64, "2025-10-29"), "trtllm", "", "meta-llama/Llama-3.1-70B", "b200_sxm", "fp8", "64,4,1,4,1"
        ),
    )
    assert [door_of(run).receive_steps for run in runs[:2]] == [10, 30]
    assert door_of(runs[2]).gather_steps == 20
    assert flags_of(runs[2]).step_tokens_max == 16_384


def test_ranks_of_attention_gather_a_prompt_each(tmp_path: Path) -> None:
    (run,) = read(tmp_path, line(PUBLIC.format(64, "2025-10-29"), "trtllm", "", R1, "b200_sxm", "fp4", "8,8,8,8,1"))
    door = door_of(run)
    assert (door.gather_steps, door.gather_tokens, door.gather_prompts) == (60, 0, run.attention_ranks)


@pytest.mark.parametrize(
    ("deployed", "date", "clients", "expected"),
    [
        ("b200_sxm fp8", "2026-03-24", 64, (32_768, 128, 30)),
        ("b200_sxm fp8", "2026-03-20", 256, (32_768, 256, 30)),
        ("b300_sxm fp8", "2026-04-17", 256, (16_384, 256, 10)),
        ("b300_sxm bf16", "2026-04-18", 64, (32_768, 128, 30)),
        ("h200_sxm fp8", "2026-03-24", 64, (16_384, 128, 1)),
    ],
)
def test_sglang_runs_as_many_requests_of_qwen_as_its_script_of_the_day_says(
    tmp_path: Path, deployed: str, date: str, clients: int, expected: tuple[int, int, int]
) -> None:
    row = line(
        PUBLIC.format(clients, date), "sglang", "0.5.9", "Qwen/Qwen3.5-397B-A17B", *deployed.split(), "8,4,1,4,1"
    )
    (run,) = read(tmp_path, row)
    flags = flags_of(run)
    assert (flags.step_tokens_max, flags.batch_max, flags.receive_steps) == expected


def test_internal_sweeps_have_no_front_end_and_keep_their_split(tmp_path: Path) -> None:
    (run,) = read(tmp_path, line(INTERNAL, "trtllm", "1.0.0rc3", "Qwen/Qwen3-32B", "h100_sxm", "fp8", "8,4,,4,1"))
    assert run.internal
    assert door_of(run) == Door()
    assert split_of(run) == (4, 1, 1)


def test_a_file_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no aggregated run"):
        read(tmp_path)
