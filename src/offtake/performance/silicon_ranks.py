"""Fold the ranks of data-parallel attention into one replica whose steps last as long as those of its slowest rank.

Comes in: the step table and limits of one rank. Goes out: those of all ranks together, for the kernel of a replica.
Ranks meet in every layer's experts, so they step together; a step lasts as long as that of the slowest. Requests are
dealt evenly: B decoding requests are ⌈B / ranks⌉ on the fullest rank. One prompt is prefilled by one rank while the
others wait; more prompts spread over the ranks, so that the slowest has ``max(min(T, prompt), T / ranks)`` of T tokens.
Experts are taken at the load of the slowest rank (their table assumes equal ranks): a little too slow when only one
prefills. This module must never know a model.
"""

from __future__ import annotations

import numpy as np

from offtake.performance.steps import Floats, ReplicaLimits, StepTable


def folded(
    table: StepTable, limits: ReplicaLimits, ranks: int, prompt_tokens: int, *, together: bool = False
) -> tuple[StepTable, ReplicaLimits]:
    """Return table and limits of ``ranks`` lock-stepped ranks as one replica.

    Parameters
    ----------
    table, limits
        Of one rank.
    ranks, prompt_tokens
        How many there are, and the usual prompt.
    together
        Whether prompts are gathered until every rank has one; their attention is then done side by side.
    """
    if ranks == 1:
        return table, limits
    prompt = float(min(prompt_tokens, limits.step_tokens_max))
    below, above = table.token_grid[table.token_grid < prompt], table.token_grid[table.token_grid > prompt]
    tokens = np.concatenate([below, [prompt, prompt * ranks], above * ranks])
    slowest = np.concatenate([below, [prompt, prompt], above])
    batch = np.concatenate([[1.0], table.batch_grid * ranks])
    wide = limits._replace(
        kv_blocks=limits.kv_blocks * ranks,
        batch_max=limits.batch_max * ranks,
        step_tokens_max=limits.step_tokens_max * ranks,
        prefill_tokens_max=limits.prefill_tokens_max * ranks,
    )
    group = table._replace(
        token_grid=tokens,
        token_ns=np.interp(slowest, table.token_grid, table.token_ns),
        prefill_ns=table.prefill_ns / (ranks if together else 1),
        chunk_ns=table.chunk_ns / (ranks if together else 1),
        batch_grid=batch,
        decode_attention_ns=_first_twice(table.decode_attention_ns),
        decode_step_ns=_first_twice(table.decode_step_ns),
        sequence_ns=table.sequence_ns / ranks,
    )
    return group, wide


def _first_twice(cells: Floats) -> Floats:
    """Repeat the first row: fewer requests than ranks take as long as one on each."""
    return np.concatenate([cells[:1], cells])
