from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from offtake.demand.burst import index_of_dispersion, interarrival_cv
from offtake.demand.profile import Lengths, load_profile, profile_names, read_profile, write_profile
from offtake.errors import InputError
from offtake.schema.columns import Confidence


def test_the_shipped_profiles_are_these() -> None:
    assert profile_names() == [
        "azure-2023-code",
        "azure-2023-conv",
        "chat",
        "coding",
        "mooncake-conversation",
        "nightly-batch",
        "servegen-m-large",
    ]


@pytest.mark.parametrize("name", profile_names())
def test_every_part_of_a_shipped_profile_has_a_source_a_licence_and_a_mark(name: str) -> None:
    profile = load_profile(name)
    assert {"hour_of_week", "lengths", "spearman", "bursts"} <= {source.part for source in profile.sources}
    assert all(source.source and source.licence for source in profile.sources)


@pytest.mark.parametrize("name", profile_names())
def test_generated_lengths_keep_the_measured_mean(name: str) -> None:
    profile = load_profile(name)
    assert profile.input_tokens.mean() == pytest.approx(profile.input_tokens.mean_measured, rel=0.025)
    assert profile.output_tokens.mean() == pytest.approx(profile.output_tokens.mean_measured, rel=0.08)


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "servegen-m-large"])
def test_bursts_reproduce_the_measured_dispersion_and_variation(name: str) -> None:
    profile = load_profile(name)
    for window, measured in zip(profile.dispersion_window_s, profile.dispersion, strict=True):
        assert index_of_dispersion(profile.bursts, window) == pytest.approx(measured, rel=0.11)
    assert interarrival_cv(profile.bursts, profile.measured_rps) == pytest.approx(profile.interarrival_cv, rel=0.08)


def test_coding_takes_its_week_from_2024_and_its_lengths_from_2023_and_says_so() -> None:
    coding = load_profile("coding")
    parts = {source.part: source for source in coding.sources}
    assert "2024" in parts["hour_of_week"].source
    assert parts["hour_of_week"].confidence is Confidence.ESTIMATE
    assert "AzureLLMInferenceTrace_code" in parts["lengths"].source
    assert parts["lengths"].confidence is Confidence.CONFIRMED
    assert max(coding.hour_of_week) == pytest.approx(3.008, abs=2e-3)
    assert (coding.input_tokens.quantile(0.5), coding.output_tokens.quantile(0.5)) == (1469, 13)


def test_the_least_and_the_longest_length_bound_every_draw() -> None:
    lookup = load_profile("azure-2023-conv").input_tokens.lookup()
    assert (lookup[0], lookup[-1]) == (2, pytest.approx(14050, rel=0.002))
    assert np.all(np.diff(lookup) >= 0)


def test_a_constant_length_stays_constant() -> None:
    lengths = Lengths(probability=(0.0, 1.0), tokens=(7.0, 7.0), mean_measured=7.0)
    assert set(lengths.lookup().tolist()) == {7}
    assert lengths.mean() == pytest.approx(7.0)


def test_a_misspelt_profile_is_told_the_nearest_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'coding'"):
        load_profile("codeing")


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    profile = load_profile("chat")
    write_profile(profile, tmp_path / "mine.json")
    assert read_profile(tmp_path / "mine.json") == profile


def test_every_fault_of_a_profile_file_is_shown_at_once(tmp_path: Path) -> None:
    profile = load_profile("chat")
    broken = msgspec.structs.replace(profile, hour_of_week=profile.hour_of_week[:24], spearman=2.0, swing_cv=0.1)
    write_profile(broken, tmp_path / "mine.json")
    with pytest.raises(InputError) as found:
        read_profile(tmp_path / "mine.json")
    assert [fault.column for fault in found.value.faults] == ["hour_of_week", "hour_of_week", "spearman", "swing_cv"]


def test_a_file_that_is_no_profile_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"format": "offtake-profile-1"}', "utf-8")
    with pytest.raises(InputError, match="is not a profile"):
        read_profile(tmp_path / "mine.json")
