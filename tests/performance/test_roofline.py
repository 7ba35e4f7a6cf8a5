from __future__ import annotations

import numpy as np
import pytest

from offtake.errors import InputError, VerificationError
from offtake.performance.model import MODELS, Served, find_model, flops_per_token, kv_bytes_per_token, weight_bytes
from offtake.performance.roofline import (
    Claim,
    Hardware,
    Shape,
    batch_bound,
    decode_step_ns_bound,
    decode_tokens_per_s_bound,
    impossible,
    prefill_tokens_per_s_bound,
    refuse_implausible,
    refuse_impossible,
    requests_per_s_bound,
    verify_possible,
)
from tests.performance.portfolio import GB200, H100, TPU

LLAMA_70B = Served(find_model("llama-3.1-70b"), 8, 8)
FOUR_H100 = Hardware(H100, 4)
CHAT = Shape(1155, 211)


def test_the_bytes_of_a_model_follow_from_its_public_facts() -> None:
    assert kv_bytes_per_token(LLAMA_70B) == 163_840  # 80 layers × 8 KV heads × 128 × key and value × 1 byte
    assert weight_bytes(LLAMA_70B) == 70.6e9
    assert weight_bytes(LLAMA_70B._replace(weight_bits=4)) == 35.3e9
    assert flops_per_token(MODELS["deepseek-v3"]) == 74e9
    assert kv_bytes_per_token(Served(MODELS["deepseek-v3"], 8, 8)) == 35_136


@pytest.mark.parametrize("name", ["Llama-3.1-70B", "meta-llama/Meta-Llama-3.1-70B", " llama-3.1-70b "])
def test_a_model_is_found_by_any_of_its_names(name: str) -> None:
    assert find_model(name).name == "llama-3.1-70b"


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"llama-3\.1-70b") as caught:
        find_model("llama-3.3-70b")
    assert caught.value.faults[0].value == "llama-3.3-70b"


def test_prefill_is_bounded_by_arithmetic() -> None:
    # 4 × 1979e12 / (2 × 70.6e9)
    assert prefill_tokens_per_s_bound(LLAMA_70B, FOUR_H100) == pytest.approx(56_062, rel=1e-4)


def test_decode_is_bounded_by_reading_weights_and_cache_once_a_step() -> None:
    # memory: 320e9 - 70.6e9 = 249.4e9 free; at 1,000 tokens each request keeps 163.84e6, so at most 1,522.2
    assert batch_bound(LLAMA_70B, FOUR_H100, 1000) == pytest.approx(1522.2, rel=1e-4)
    # a step reads all 320e9 bytes at 13.4e12/s: 23.88 ms for 1,522 tokens; arithmetic allows 56,062
    assert decode_tokens_per_s_bound(LLAMA_70B, FOUR_H100, 1000) == pytest.approx(56_062, rel=1e-4)
    assert decode_tokens_per_s_bound(LLAMA_70B, FOUR_H100, 2000) == pytest.approx(31_871, rel=1e-3)


def test_a_decode_step_cannot_be_quicker_than_one_read() -> None:
    # batch 1 at 1,000 tokens: (70.6e9 + 0.164e9) / 13.4e12 = 5.28 ms
    bound = decode_step_ns_bound(LLAMA_70B, FOUR_H100, np.array([1.0]), np.array([1000.0]))
    assert bound[0] == pytest.approx(5.2809e6, rel=1e-4)


def test_a_model_that_does_not_fit_serves_nothing() -> None:
    deepseek = Served(find_model("deepseek-v3"), 8, 8)
    assert requests_per_s_bound(deepseek, Hardware(H100, 8), CHAT) == 0.0


def test_a_node_priced_as_a_chip_is_refused() -> None:
    # 9.0 requests/s is what four H100 give on chats; eight times as much is what a person gets by taking a node for
    # a replica of four chips twice over. The bound is 41.
    assert requests_per_s_bound(LLAMA_70B, FOUR_H100, CHAT) == pytest.approx(41.0, abs=0.1)
    assert impossible(Claim(9.0, "user.csv"), LLAMA_70B, FOUR_H100, CHAT) is None
    with pytest.raises(InputError, match=r"user\.csv, row 3, column goodput_rps.*at most 41.*replica of 4 chips"):
        refuse_impossible(Claim(72.0, "user.csv", 3, "goodput_rps"), LLAMA_70B, FOUR_H100, CHAT)


def test_a_result_of_our_own_above_the_roofline_stops_the_run() -> None:
    with pytest.raises(VerificationError, match="at most 41"):
        verify_possible(Claim(72.0, "goodput"), LLAMA_70B, FOUR_H100, CHAT)
    verify_possible(Claim(40.0, "goodput"), LLAMA_70B, FOUR_H100, CHAT)


def test_a_speed_that_no_data_sheet_explains_is_refused() -> None:
    where = Claim(0.0, "deployments.csv", 4, "performance")
    refuse_implausible(2.5, Hardware(TPU, 8), Hardware(H100, 8), where)  # 2.2 × bandwidth, 2.3 × peak
    refuse_implausible(18.0, Hardware(GB200, 8), Hardware(H100, 8), where)  # 5.1 × peak
    with pytest.raises(InputError, match=r"row 4.*8 times as fast as h100"):
        refuse_implausible(8.0, Hardware(H100, 8), Hardware(H100, 8), where)
