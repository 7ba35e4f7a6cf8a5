"""Run a disaggregated replica: some workers only prefill, others only decode, and the KV cache travels between them.

Comes in: the tables of both kinds of worker, how many there are of each, the time a token's KV takes on a prefill
worker's link, and requests. Goes out: admission, first token and finish of each request, int64 ns. A request goes to
the prefill worker with the fewest prompt tokens before it; its KV then waits for that worker's link, which carries one
request at a time, in the order of their first tokens; it goes to the decode worker with the fewest requests. The
decode worker answers the client, so the first token is out when the KV is there; an answer of one token needs no
transfer. Nothing flows back: a prefill worker frees a prompt's blocks when it is done (assumption: engines hold them
until the transfer ends), so the two stages are run one after the other. A decode worker short of memory computes again
what it pushed back. Sources: DistServe (Zhong et al., OSDI 2024); Splitwise (Patel et al., ISCA 2024). This module
must never know a fleet or a price.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from offtake.errors import InputError
from offtake.performance.compiled import entry
from offtake.performance.dense import Tables
from offtake.performance.replica import NEVER_NS, Plant, arrive, boundary, faults_of_requests, new_replicas, new_work
from offtake.performance.replica_state import Ints, Ints32
from offtake.units import BYTES_PER_GB, NS_PER_S


class Disaggregation(NamedTuple):
    """Describe a disaggregated replica.

    ``prefill``, ``decode``: the tables of a worker (the first deployment of each), and how many of them;
    ``transfer_ns_per_token`` on the link of a prefill worker, ``transfer_ns`` for each request whatever its length.
    """

    prefill: Tables
    decode: Tables
    prefill_workers: int
    decode_workers: int
    transfer_ns_per_token: float
    transfer_ns: int = 0


class DisaggregatedOutcome(NamedTuple):
    """Hold admission (to prefill), first token and finish of each request (ns), and the rows of all workers."""

    start_ns: Ints
    first_token_ns: Ints
    finish_ns: Ints
    prefill_rows: Any
    decode_rows: Any


def transfer_ns_per_token(kv_bytes_per_token: float, bandwidth_gb_per_s: float) -> float:
    """Return the time that the KV cache of one token takes on a link: bytes / bandwidth, ns."""
    return kv_bytes_per_token / (bandwidth_gb_per_s * BYTES_PER_GB) * NS_PER_S


def simulate_disaggregated(
    replica: Disaggregation, arrival_ns: Ints, input_tokens: Ints32, output_tokens: Ints32
) -> DisaggregatedOutcome:
    """Run one disaggregated replica on requests sorted by arrival, until the last one has finished.

    Raises
    ------
    InputError
        If a request has no tokens or can never fit a worker, or arrivals are not sorted.
    """
    first_work = new_work(arrival_ns, input_tokens, np.minimum(output_tokens, 1))
    faults = faults_of_requests(replica.prefill, first_work)
    faults += faults_of_requests(replica.decode, new_work(arrival_ns, input_tokens, output_tokens))
    if faults:
        raise InputError(faults)
    workers = new_replicas(replica.prefill, np.zeros(replica.prefill_workers, np.int64))
    worker = np.zeros(len(first_work), np.int64)
    _run_workers(Plant(replica.prefill, workers, first_work), worker)
    first_ns, finish_ns = first_work["finish_ns"].copy(), first_work["finish_ns"].copy()
    longer = np.flatnonzero(np.asarray(output_tokens) > 1)
    there_ns = _transferred_ns(replica, first_ns[longer], np.asarray(input_tokens)[longer], worker[longer])
    order = np.argsort(there_ns, kind="stable")
    decoded = longer[order]
    work = new_work(there_ns[order], np.asarray(input_tokens)[decoded], np.asarray(output_tokens)[decoded])
    work["cached_tokens"], work["first_token_ns"] = work["input_tokens"], work["arrival_ns"]
    decoders = new_replicas(replica.decode, np.zeros(replica.decode_workers, np.int64))
    _run_workers(Plant(replica.decode, decoders, work), np.zeros(len(work), np.int64))
    first_ns[decoded], finish_ns[decoded] = work["first_token_ns"], work["finish_ns"]
    return DisaggregatedOutcome(first_work["start_ns"].copy(), first_ns, finish_ns, workers.rows, decoders.rows)


def _transferred_ns(replica: Disaggregation, ready_ns: Ints, tokens: Ints32, worker: Ints) -> Ints:
    """Return when the KV of each request has arrived; on each worker's link they go one after the other."""
    there_ns = np.zeros(len(ready_ns), np.int64)
    takes_ns = np.rint(tokens * replica.transfer_ns_per_token).astype(np.int64) + replica.transfer_ns
    for each in range(replica.prefill_workers):
        mine = np.flatnonzero(worker == each)
        mine = mine[np.argsort(ready_ns[mine], kind="stable")]
        sent_ns = np.cumsum(takes_ns[mine])
        there_ns[mine] = sent_ns + np.maximum.accumulate(ready_ns[mine] - (sent_ns - takes_ns[mine]))
    return there_ns


@entry
def _run_workers(plant: Plant, worker: Ints) -> None:
    """Run all replicas of ``plant`` on all of its work, in order of arrival, and note who took which request.

    A request goes to the replica with the fewest prompt tokens before it; of equals, with the fewest requests; of
    equals, to the first.
    """
    rows, count = plant.replicas.rows, plant.work.shape[0]
    for request in range(count + 1):
        now_ns = plant.work[request].arrival_ns if request < count else NEVER_NS
        best = 0
        for replica in range(rows.shape[0]):
            while rows[replica].next_ns < now_ns:
                boundary(plant, replica)
            fewer = rows[replica].queued_tokens < rows[best].queued_tokens
            same = rows[replica].queued_tokens == rows[best].queued_tokens
            if fewer or (same and rows[replica].in_flight < rows[best].in_flight):
                best = replica
        if request < count:
            worker[request] = best
            arrive(plant, best, request, now_ns)
