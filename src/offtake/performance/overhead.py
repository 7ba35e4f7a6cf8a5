"""Add what the host costs to step times that were measured on the chip alone.

Comes in: an engine's name, the layers of the model and the chips of a replica. Goes out: the host's share of a step and
of a request. Kernel measurements leave out all that the engine does between kernels; five causes matter:

* ``step_ms``: per step, the work that no overlap hides: the sampled tokens come back, the next batch is prepared.
* ``rank_ms``: per step and doubling of the chips, the batch is sent to every rank and the slowest is waited for.
* ``sequence_ms``: per step and running request: block tables, sampling state, stop checks, detokenising.
* ``launch_ms`` and ``uncaptured_ms``: per layer of a step with prefill, which no CUDA graph holds. The host launches
  its kernels one by one, in a time that is hidden where the chip is slower; and the small kernels that a graph or a
  fusion hides are seen (norms, rotary embeddings, quantising). A layer has more kernels where it routes tokens to
  experts (``launch_experts_ms``), unless one kernel does all of it, as TensorRT-LLM's own does on Blackwell; and where
  attention is latent (``launch_latent_ms``: two projections down, two up, norms and rotation between them).
* a front end with one thread: ``request_ms`` per request (HTTP, template, first chunk) and ``token_us`` per prompt
  token (tokenising); and ``latency_ms`` for all that does not keep others waiting.

What others publish: vLLM's scheduler update takes 1.1 µs per sequence (pull request 46112 of vllm-project/vllm) and
its whole all-decode schedule 12.7 µs (204 of openfabric-systems/simllm); before its V1 engine each decode step left the
chip idle for about 4 ms (issue 6854); one receive costs SGLang about 1.4 ms (pull request 8947 of sgl-project/sglang:
200 tokens/s became 280 with an interval of 50); AIConfigurator adds 0.8 ms per layer to a vLLM prefill.

The values below were estimated from the measured file that ``score`` replays, on runs of the models of ``FITTED``
alone (80 to 100 of them per engine, at most 128 clients, no drafts), by Nelder and Mead on the sum of |log TPOT ratio|
and half of |log TTFT ratio|; the search began at values found on a sample of all models. What TensorRT-LLM's experts
and latent attention add makes the same sum least, on a grid, over DeepSeek's 81 runs without drafts on B200 (latent
attention alone: 1.8 ms with the rest) and its 30 on H200 (both: 3.0 ms). Score on the others. This
module must never know a price or a request.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from offtake.performance.closed_loop import Door
from offtake.performance.steps import StepTable
from offtake.units import NS_PER_MS, NS_PER_US


class Costs(NamedTuple):
    """Hold an engine's constants (see above). All that is launched and ``uncaptured_ms`` are per layer."""

    step_ms: float
    sequence_ms: float
    rank_ms: float
    launch_ms: float
    launch_experts_ms: float
    launch_latent_ms: float
    uncaptured_ms: float
    request_ms: float
    token_us: float
    latency_ms: float


class Layers(NamedTuple):
    """Say how many layers a model has, whether they have experts, whether their attention is latent."""

    number: int
    sparse: bool = False
    latent: bool = False


class Host(NamedTuple):
    """Hold the host's share of the steps and requests of one deployment, ns, as ``StepTable`` has it.

    ``request_ns``: ``request_ms`` and ``latency_ms``. A table leaves out what grows with the prompt, and the wait for
    the front end's one thread: ``closed_loop.Door`` has both.
    """

    overhead_ns: float
    sequence_ns: float
    launch_ns: float
    uncaptured_ns: float
    request_ns: float = 0.0


#: Models (parts of their names) on whose runs the constants were estimated; ``score`` tells them from the others.
FITTED = ("Llama", "Qwen3-32B", "DeepSeek")
HOST_SOURCE = (
    "offtake.performance.overhead.COSTS, estimated from aiconfigurator-core's measured serving runs of models_fitted"
)
#: Among those models vLLM has no sparse one (its layers are taken as dense ones: assumption); and before scheduling was
#: overlapped, no front end (taken as the later one's: assumption). What SGLang's one sparse model, whose attention is
#: latent, launches is laid to its experts (assumption).
COSTS = {
    "vllm": Costs(0.238, 0.021, 0.056, 0.523, 0.0, 0.0, 0.173, 0.522, 3.71, 17.3),
    "vllm, not overlapped": Costs(1.15, 0.045, 0.16, 0.27, 2.53, 0.0, 0.01, 0.522, 3.71, 17.3),
    "sglang": Costs(0.112, 0.041, 0.054, 1.258, 1.752, 0.0, 0.255, 0.354, 4.85, 3.2),
    "trtllm": Costs(0.04, 0.004, 0.073, 0.42, 1.2, 1.38, 0.336, 1.0, 2.85, 7.0),
}
FUSED_EXPERTS = "trtllm, experts fused"
COSTS[FUSED_EXPERTS] = COSTS["trtllm"]._replace(launch_experts_ms=0.0)
BLACKWELL = ("b200_sxm", "b300_sxm", "gb200", "gb300")


def engine_on(backend: str, system: str) -> str:
    """Return the name in ``COSTS`` of an engine on a chip: TensorRT-LLM's one kernel for experts is for Blackwell."""
    return FUSED_EXPERTS if backend == "trtllm" and system in BLACKWELL else backend


def host_of(engine: str, layers: Layers, chips: int) -> Host:
    """Return the host's share of a step, ns.

    An engine without constants of its own costs as much as vLLM (assumption).
    """
    return host_from(COSTS.get(engine, COSTS["vllm"]), layers, chips)


def host_from(costs: Costs, layers: Layers, chips: int) -> Host:
    """Return the host's share of a step under given constants, ns."""
    launch_ms = costs.launch_ms + costs.launch_experts_ms * layers.sparse + costs.launch_latent_ms * layers.latent
    return Host(
        NS_PER_MS * (costs.step_ms + costs.rank_ms * math.log2(chips)),
        NS_PER_MS * costs.sequence_ms,
        NS_PER_MS * launch_ms * layers.number,
        NS_PER_MS * costs.uncaptured_ms * layers.number,
        NS_PER_MS * (costs.request_ms + costs.latency_ms),
    )


def notes_of(engine: str, host: Host) -> dict[str, Any]:
    """Return what a table's provenance tells of its host's share."""
    return host._asdict() | {
        "constants": COSTS.get(engine, COSTS["vllm"])._asdict(),
        "source": HOST_SOURCE,
        "models_fitted": list(FITTED),
    }


def with_host(table: StepTable, host: Host) -> StepTable:
    """Return a table of chip times with the host's share in its own fields."""
    return table._replace(**host._asdict())


def front_of(backend: str) -> Door:
    """Return the door of an engine: its front end alone."""
    costs = COSTS.get(backend, COSTS["vllm"])
    return front_from(costs)


def front_from(costs: Costs) -> Door:
    """Return the door of an engine under given constants."""
    return Door(int(NS_PER_MS * costs.request_ms), int(NS_PER_US * costs.token_us), int(NS_PER_MS * costs.latency_ms))
