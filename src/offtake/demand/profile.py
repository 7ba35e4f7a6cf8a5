"""Describe a kind of traffic in a page of figures: when it comes, how it bunches, how long its requests are.

Comes in: an embedded JSON file (or one a user measured). Goes out: a :class:`Profile`, each part with its
source and how far it can be trusted. Shapes are relative (weekly mean 1), so a profile
fits any rate. It must never know a clock, a random number or a fleet.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from offtake.demand.burst import Burst
from offtake.errors import Fault, InputError
from offtake.files import write_json
from offtake.schema.columns import Confidence
from offtake.units import HOURS_PER_WEEK

FORMAT = "offtake-profile-1"
NORMAL_MAX = 4.0  # normal scores of the shortest and the longest request: 1 in 31,574
LOOKUP_PER_SCORE = 1_024
WEEKLY_MEAN_TOLERANCE = 1e-3


class Lengths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold a distribution of token counts as quantiles; ``probability`` runs from 0 (least) to 1 (most)."""

    probability: tuple[float, ...]
    tokens: tuple[float, ...]
    mean_measured: float

    def lookup(self) -> NDArray[np.int32]:
        """Return tokens by normal score, from −4 to 4 in steps of 1/1024; log tokens are straight between quantiles.

        A draw is one look-up at a standard normal number; that is what makes generation fast.
        """
        inner = np.clip(np.array(self.probability), 1e-9, 1 - 1e-9)
        scores = np.clip(ndtri(inner), -NORMAL_MAX, NORMAL_MAX)
        steps = int(2 * NORMAL_MAX * LOOKUP_PER_SCORE)
        middle = (np.arange(steps) + 0.5) / LOOKUP_PER_SCORE - NORMAL_MAX
        tokens = np.exp(np.interp(middle, scores, np.log(np.maximum(self.tokens, 1.0))))
        return np.maximum(np.rint(tokens), 1).astype(np.int32)

    def mean(self) -> float:
        """Return the mean tokens of generated requests, which differs a little from ``mean_measured``."""
        tokens = self.lookup().astype(np.float64)
        middle = (np.arange(tokens.size) + 0.5) / LOOKUP_PER_SCORE - NORMAL_MAX
        weight = np.exp(-(middle**2) / 2)
        return float(tokens @ weight / weight.sum())

    def quantile(self, probability: float) -> float:
        """Return the tokens that a share ``probability`` of requests does not exceed."""
        return float(np.interp(probability, self.probability, self.tokens))


class Sessions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold how users go on: ``turn_share[n]`` of the sessions have n + 1 turns.

    ``think_s`` are quantiles at ``think_probability`` of the time from an answer to the next message, ``first_tokens``
    the prompts that begin a session, ``message_tokens`` what is new in a later prompt beyond the one before it and its
    answer.
    """

    turn_share: tuple[float, ...]
    think_probability: tuple[float, ...]
    think_s: tuple[float, ...]
    first_tokens: Lengths
    message_tokens: Lengths

    def turns_mean(self) -> float:
        """Return the mean number of turns."""
        return sum(share * (place + 1) for place, share in enumerate(self.turn_share)) / sum(self.turn_share)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where one part of a profile comes from and how far it can be trusted."""

    part: str
    source: str
    licence: str
    confidence: Confidence


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one kind of traffic.

    ``hour_of_week[hour]`` runs from Monday 00:00 UTC with mean 1. ``spearman`` is the rank correlation of input
    and output tokens. ``bursts`` reproduce the measured figures beside them: ``dispersion[window]`` at windows
    of ``dispersion_window_s``, and the inter-arrival CV, both at ``measured_rps``. ``swing_cv`` is a slow swing of
    the whole rate that does not fade with size, with memory ``swing_s``. ``prefix_hit_share`` is the share of
    prompt blocks an endless cache would have held, and ``sessions`` how users go on; None where not known.
    """

    format: str
    name: str
    about: str
    sources: tuple[Source, ...]
    hour_of_week: tuple[float, ...]
    input_tokens: Lengths
    output_tokens: Lengths
    spearman: float
    bursts: tuple[Burst, ...]
    measured_rps: float
    interarrival_cv: float
    dispersion_window_s: tuple[float, ...]
    dispersion: tuple[float, ...]
    swing_cv: float = 0.0
    swing_s: float = 0.0
    prefix_hit_share: float | None = None
    sessions: Sessions | None = None

    def shape(self) -> NDArray[np.float64]:
        """Return ``shape[hour]``: rate over its weekly mean, from Monday 00:00 UTC."""
        return np.array(self.hour_of_week)


def profile_names() -> list[str]:
    """List the embedded profiles by name."""
    files = resources.files("offtake.demand").joinpath("data").iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


@lru_cache
def load_profile(name: str) -> Profile:
    """Return an embedded profile.

    Raises
    ------
    InputError
        When no profile has this name; the mend gives the nearest.
    """
    names = profile_names()
    if name not in names:
        close = get_close_matches(name, names, n=1)
        mend = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
        raise InputError([Fault("profiles", "there is no profile of this name", mend, value=name)])
    return _decode(resources.files("offtake.demand").joinpath("data", f"{name}.json").read_bytes(), f"{name}.json")


def read_profile(path: Path) -> Profile:
    """Read and check a profile file.

    Raises
    ------
    InputError
        With one fault for each thing that is wrong with it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        mend = "Give the path of a profile file."
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", mend)]) from None
    return _decode(data, str(path))


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, whole or not at all."""
    write_json(path, profile)


def _decode(data: bytes, file: str) -> Profile:
    """Return a checked profile from JSON."""
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except msgspec.DecodeError as error:
        mend = "Measure the trace again, or take an embedded profile."
        raise InputError([Fault(file, f"the file is not a profile: {error}", mend)]) from None
    faults = check_profile(profile, file)
    if faults:
        raise InputError(faults)
    return profile


def check_profile(profile: Profile, file: str) -> list[Fault]:
    """Return every fault in a profile's lengths, signs and sums."""
    shape = profile.hour_of_week
    claimed = sum(burst.share for burst in profile.bursts)
    checks = [
        (profile.format == FORMAT, "format", f"must be {FORMAT}"),
        (len(shape) == HOURS_PER_WEEK, "hour_of_week", f"must hold {HOURS_PER_WEEK} hours"),
        (all(level >= 0 for level in shape), "hour_of_week", "must not be negative"),
        (abs(sum(shape) / max(len(shape), 1) - 1) <= WEEKLY_MEAN_TOLERANCE, "hour_of_week", "must have mean 1"),
        (-1 <= profile.spearman <= 1, "spearman", "must lie between -1 and 1"),
        (claimed <= 1 + 1e-9, "bursts", "must not claim more than all requests"),
        (
            all(b.size_mean > 0 and b.duration_s > 0 and b.share >= 0 for b in profile.bursts),
            "bursts",
            "must be above 0",
        ),
        (profile.swing_cv >= 0 and (profile.swing_cv == 0 or profile.swing_s > 0), "swing_cv", "needs swing_s"),
        (len(profile.dispersion) == len(profile.dispersion_window_s), "dispersion", "needs a value for each window"),
        *_length_checks("input_tokens", profile.input_tokens),
        *_length_checks("output_tokens", profile.output_tokens),
        *(_session_checks(profile.sessions) if profile.sessions else []),
    ]
    return [Fault(file, problem, "Measure it again.", column=column) for fine, column, problem in checks if not fine]


def _session_checks(sessions: Sessions) -> list[tuple[bool, str, str]]:
    """Return the checks of how users go on."""
    probability, think_s = sessions.think_probability, sessions.think_s
    return [
        (
            sum(sessions.turn_share) > 0 and min(sessions.turn_share) >= 0,
            "turn_share",
            "must not be negative, nor all 0",
        ),
        (len(probability) == len(think_s) > 1, "think_s", "needs a value for each probability"),
        (all(a < b for a, b in pairwise(probability)), "think_probability", "must rise"),
        (all(a <= b for a, b in pairwise(think_s)) and think_s[0] >= 0, "think_s", "must be 0 or more, and not fall"),
        *_length_checks("first_tokens", sessions.first_tokens),
        *_length_checks("message_tokens", sessions.message_tokens),
    ]


def _length_checks(column: str, lengths: Lengths) -> list[tuple[bool, str, str]]:
    """Return the checks of one distribution of lengths."""
    probability, tokens = lengths.probability, lengths.tokens
    fits = len(probability) == len(tokens) > 1
    return [
        (fits and probability[0] == 0 and probability[-1] == 1, column, "must run from probability 0 to 1"),
        (all(a < b for a, b in pairwise(probability)), column, "probabilities must rise"),
        (all(a <= b for a, b in pairwise(tokens)), column, "tokens must not fall"),
        (all(count >= 1 and math.isfinite(count) for count in tokens), column, "each length needs a token"),
    ]
