"""Read OpenMetrics strictly: whatever the standard forbids is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
PAIRS = r'(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*'
LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(" + PAIRS + r")\})? (\S+)\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,(?=.)|\Z)')
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


class Told(NamedTuple):
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


def read(text: str) -> list[Told]:
    assert text.endswith("# EOF\n")
    found: list[Told] = []
    kind = family = ""
    seen: set[str] = set()
    for line in text.removesuffix("# EOF\n").splitlines():
        assert line == line.strip()
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert NAME.match(family)
            assert family not in seen, f"{family} comes twice"
            seen.add(family)
        elif line.startswith("# UNIT "):
            assert family.endswith("_" + line.split(" ")[3])
        elif line.startswith("# HELP "):
            assert line.startswith(f"# HELP {family} ")
        else:
            one = sample(line)
            assert one.name in {family + ending for ending in ENDINGS[kind]}, line
            assert kind == "gauge" or one.value >= 0
            found.append(one)
    assert len({(one.name, one.labels) for one in found}) == len(found), "a sample comes twice"
    list(histograms(found))
    return found


def sample(line: str) -> Told:
    match = LINE.match(line)
    assert match, line
    text = match[2] or ""
    labels = [(each[1], each[2]) for each in LABEL.finditer(text)]
    assert sum(len(name) + len(value) + 3 for name, value in labels) + max(len(labels) - 1, 0) == len(text), line
    assert len({name for name, _ in labels}) == len(labels), line
    return Told(match[1], tuple(labels), float(match[3]))


def histograms(found: list[Told]) -> Iterator[str]:
    """Buckets grow, and the last one is the count."""
    buckets: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, float]]] = {}
    for one in found:
        if one.name.endswith("_bucket"):
            rest = tuple(pair for pair in one.labels if pair[0] != "le")
            bound = float(dict(one.labels)["le"])
            buckets.setdefault((one.name.removesuffix("_bucket"), rest), []).append((bound, one.value))
    counts = {(one.name.removesuffix("_count"), one.labels): one.value for one in found if one.name.endswith("_count")}
    for (name, labels), pairs in buckets.items():
        assert pairs == sorted(pairs)
        assert [value for _, value in pairs] == sorted(value for _, value in pairs)
        assert pairs[-1] == (float("inf"), counts[name, labels])
        yield name
