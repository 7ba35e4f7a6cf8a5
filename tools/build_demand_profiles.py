"""Build the embedded traffic profiles from the public traces beside the repository.

Comes in: a folder with the tidied traces and ``profiles.json``. Goes out: one JSON file per profile under
``src/offtake/demand/data``. Only sources whose licence lets the figures be shipped are read.

Run: ``python tools/build_demand_profiles.py ../shared/data``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from offtake.demand.measure import measure, profile_of
from offtake.demand.profile import FORMAT, Lengths, Profile, Source, write_profile
from offtake.demand.request import Requests, concat, requests_of
from offtake.demand.trace import read_trace
from offtake.schema.columns import Confidence
from offtake.units import NS_PER_S

OUT = Path(__file__).resolve().parents[1] / "src" / "offtake" / "demand" / "data"
AZURE_2023 = "Azure/AzurePublicDataset b469a11, AzureLLMInferenceTrace_{}.csv; Splitwise (ISCA 2024)"
AZURE_2024 = (
    "Azure/AzurePublicDataset b469a11, invocations per minute read off the figures of "
    "AzureLLMInferenceDataset2024.ipynb, {}; DynamoLLM (HPCA 2025)"
)
MOONCAKE = "kvcache-ai/Mooncake 3b5a594, FAST25-release/traces/conversation_trace.jsonl; Mooncake (FAST 2025)"
SERVEGEN = "alibaba/ServeGen f891d11, model m-large, 14 days; arXiv 2505.09999"
FLAT = Source(
    part="hour_of_week",
    source="flat: the trace holds one hour, no daily shape is known",
    licence="none needed",
    confidence=Confidence.ASSUMPTION,
)
MOONCAKE_STEP_S = 3


def source(part: str, text: str, licence: str, confidence: Confidence) -> Source:
    """Return the source of one part."""
    return Source(part=part, source=text, licence=licence, confidence=confidence)


def azure_2023(folder: Path, kind: str) -> Profile:
    """Measure one of the two Azure traces of 2023."""
    name = f"azure-2023-{kind}"
    text = AZURE_2023.format(kind)
    sources = (
        FLAT,
        *(source(part, text, "CC BY 4.0", Confidence.CONFIRMED) for part in ("lengths", "spearman", "bursts")),
    )
    statistics = measure(read_trace(folder / f"{name}.parquet"))
    return rounded(profile_of(statistics, name, sources, 0.0))


def composed(figures: dict[str, Any], lengths: Profile, name: str, workload: str) -> Profile:
    """Take the week's shape of 2024 and everything else of 2023."""
    week = figures["azure_2024_week"]
    text = AZURE_2024.format(week[f"{workload}_week"])
    shape = np.array(week["workloads"][workload]["hour_of_week_from_monday_00_utc"])
    note = {
        "coding": " Bunching is that of 2.6 requests/s; at 27.8 requests/s in 2024 the counts per minute varied less "
        "(dispersion about 24, not 167), so this is on the cautious side.",
        "conversation": " Counts per minute at 45 requests/s in 2024 had a dispersion of about 15, as here.",
    }
    return msgspec.structs.replace(
        lengths,
        name=name,
        about=f"Azure {workload}: week of 2024, lengths, correlation and bunching of one hour in 2023.{note[workload]}",
        sources=(source("hour_of_week", text, "CC BY 4.0", Confidence.ESTIMATE), *lengths.sources[1:]),
        hour_of_week=tuple(np.round(shape / shape.mean(), 5).tolist()),
    )


def mooncake(folder: Path, figures: dict[str, Any]) -> Profile:
    """Measure Mooncake's conversations; arrivals, rounded to 3 s at the source, are first spread evenly within."""
    batch = concat(list(read_trace(folder / "mooncake-conversation.parquet")))
    random = np.random.default_rng(20250223)
    step_ns = MOONCAKE_STEP_S * NS_PER_S
    steps = np.rint(batch.arrival_ns / step_ns).astype(np.int64)  # they drift by a millisecond either way
    spread_ns = steps * step_ns + random.integers(0, step_ns, batch.arrival_ns.size)
    spread: Requests = requests_of(np.sort(spread_ns), batch.input_tokens, batch.output_tokens)
    sources = (
        FLAT,
        *(source(part, MOONCAKE, "Apache-2.0", Confidence.CONFIRMED) for part in ("lengths", "spearman", "prefix")),
        source("bursts", f"{MOONCAKE}; arrivals spread over their 3 s steps", "Apache-2.0", Confidence.ESTIMATE),
    )
    profile = profile_of(measure([spread]), "mooncake-conversation", sources, 0.0)
    share = figures["request_traces"]["mooncake-conversation"]["infinite_cache_prefix_hit_block_share"]
    return rounded(msgspec.structs.replace(profile, prefix_hit_share=share))


def servegen(figures: dict[str, Any]) -> Profile:
    """Take the day's shape, lengths and slow swing of a large ServeGen model."""
    model = figures["servegen"]["models"]["m-large"]
    day = np.array(model["hour_of_day"])
    swing_cv, swing_s = swing_of(model["ramp_factors"])
    assumed = "not given at the source; none is assumed"
    return Profile(
        format=FORMAT,
        name="servegen-m-large",
        about="Alibaba Cloud m-large: mean day of 14 days (weekday unknown), lengths of 63 % of the traffic, and a "
        "slow swing of the whole rate that does not fade with size.",
        sources=(
            source("hour_of_week", f"{SERVEGEN}; mean local day, repeated", "Apache-2.0", Confidence.ESTIMATE),
            source("lengths", f"{SERVEGEN}; clients with 63 % of the traffic", "Apache-2.0", Confidence.ESTIMATE),
            source("swing", f"{SERVEGEN}; from the 10 and 60 minute ramps", "Apache-2.0", Confidence.ESTIMATE),
            source("spearman", assumed, "none needed", Confidence.ASSUMPTION),
            source("bursts", assumed, "none needed", Confidence.ASSUMPTION),
        ),
        hour_of_week=tuple(np.round(np.tile(day / day.mean(), 7), 5).tolist()),
        input_tokens=lengths_of(model["tokens"]["input_tokens"]),
        output_tokens=lengths_of(model["tokens"]["output_tokens"]),
        spearman=0.0,
        bursts=(),
        measured_rps=model["mean_rps"],
        interarrival_cv=1.0,
        dispersion_window_s=(),
        dispersion=(),
        swing_cv=swing_cv,
        swing_s=swing_s,
    )


def swing_of(ramps: dict[str, dict[str, float]]) -> tuple[float, float]:
    """Return the swing's CV and memory (s) from the 95th percentiles of the 10 and 60 minute ramps.

    A log AR(1) with memory r per step has ramps over k steps of variance 2σ²(1 − r^k); a normal's 95th percentile
    is 1.645 of its deviation.
    """
    ten, sixty = (np.log(ramps[f"{minutes}min"]["p95"]) / 1.645 for minutes in (10, 60))
    memory = np.linspace(0.01, 0.99, 981)
    ratio = (1 - memory**6) / (1 - memory)
    kept = float(memory[np.abs(ratio - (sixty / ten) ** 2).argmin()])
    sigma = ten / np.sqrt(2 * (1 - kept))
    return round(float(np.sqrt(np.exp(sigma**2) - 1)), 3), round(-600 / float(np.log(kept)))


def lengths_of(quantiles: dict[str, float]) -> Lengths:
    """Return a distribution from named percentiles (p1 … p99.9, max, mean); the least length is one token."""
    named = sorted((float(key[1:]) / 100, value) for key, value in quantiles.items() if key[1:2].isdigit())
    return Lengths(
        probability=(0.0, *(probability for probability, _ in named), 1.0),
        tokens=(1.0, *(max(1.0, value) for _, value in named), quantiles["max"]),
        mean_measured=quantiles["mean"],
    )


def rounded(profile: Profile) -> Profile:
    """Return a profile with figures cut to what was measured."""
    bursts = tuple(
        msgspec.structs.replace(
            burst,
            share=float(np.floor(burst.share * 1e5) / 1e5),
            size_mean=round(burst.size_mean, 3),
            duration_s=round(burst.duration_s, 3),
        )
        for burst in profile.bursts
    )
    return msgspec.structs.replace(
        profile,
        bursts=bursts,
        spearman=round(profile.spearman, 4),
        measured_rps=round(profile.measured_rps, 4),
        interarrival_cv=round(profile.interarrival_cv, 3),
        dispersion=tuple(round(value, 3) for value in profile.dispersion),
    )


def main(folder: Path) -> None:
    """Write every profile."""
    figures = json.loads((folder / "profiles.json").read_text("utf-8"))
    code, conversation = azure_2023(folder, "code"), azure_2023(folder, "conv")
    profiles = [
        code,
        conversation,
        composed(figures, code, "coding", "coding"),
        composed(figures, conversation, "chat", "conversation"),
        mooncake(folder, figures),
        servegen(figures),
    ]
    for profile in profiles:
        write_profile(profile, OUT / f"{profile.name}.json")
        print(profile.name, profile.bursts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
