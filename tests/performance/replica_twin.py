"""Replicas as plain objects that walk every iteration: the independent twin of the compiled kernel.

Nothing is imported from the kernel. Lists instead of links and heaps, a countdown per request instead of a known
last iteration, a clock advanced one step at a time instead of a jump.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any


def cell_of(grid: Any, x: float) -> int:
    return min(max(bisect_right(list(grid), x) - 1, 0), len(grid) - 2)


def by_batch(table: Any, values: Any, batch: int, column: int) -> float:
    i = cell_of(table.batch_grid, batch)
    share = (batch - table.batch_grid[i]) / (table.batch_grid[i + 1] - table.batch_grid[i])
    return float(values[i][column] + share * (values[i + 1][column] - values[i][column]))


def edge_and_slope(table: Any, values: Any, batch: int, cell: int) -> tuple[float, float]:
    left, right = by_batch(table, values, batch, cell), by_batch(table, values, batch, cell + 1)
    return left, (right - left) / float(table.context_grid[cell + 1] - table.context_grid[cell])


def prefill_ns(table: Any, tokens: int) -> float:
    i = cell_of(table.prefill_grid, tokens)
    slope = (table.prefill_ns[i + 1] - table.prefill_ns[i]) / (table.prefill_grid[i + 1] - table.prefill_grid[i])
    return float(table.prefill_ns[i] + slope * (tokens - table.prefill_grid[i]))


def token_ns(table: Any, tokens: int) -> float:
    i = cell_of(table.token_grid, tokens)
    share = (tokens - table.token_grid[i]) / (table.token_grid[i + 1] - table.token_grid[i])
    return float(table.token_ns[i] + share * (table.token_ns[i + 1] - table.token_ns[i]) + table.overhead_ns)


@dataclass(eq=False)
class Request:
    arrival_ns: int
    input_tokens: int
    output_tokens: int
    label: int = 0
    done: int = 0
    context: int = 0
    left: int = 0
    start_ns: int = -1
    first_token_ns: int = -1
    finish_ns: int = -1

    def blocks(self, size: int) -> int:
        return math.ceil((self.input_tokens + self.output_tokens) / size)


@dataclass(eq=False)
class Replica:
    table: Any
    limits: Any
    queue: list[Request] = field(default_factory=list)
    prefilling: list[Request] = field(default_factory=list)
    decoding: list[Request] = field(default_factory=list)
    kv_free: int = 0
    step: str = "asleep"
    begin_ns: int = 0
    end_ns: int | None = None
    stretch: tuple[int, float, float, int, int] | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        self.kv_free = self.limits.kv_blocks

    @property
    def in_flight(self) -> int:
        return len(self.queue) + len(self.prefilling) + len(self.decoding)

    @property
    def queued_tokens(self) -> int:
        return sum(request.input_tokens for request in self.queue + self.prefilling)

    def arrive(self, request: Request, now_ns: int) -> None:
        self.queue.append(request)
        if self.step == "asleep":
            self.end_ns = now_ns

    def tick(self) -> list[Request]:
        """End the step under way, begin the next, and return what finished."""
        now_ns = self.end_ns
        assert now_ns is not None
        finished = self.end_step(now_ns) if self.step != "asleep" else []
        if finished or self.step == "mixed":
            self.stretch = None
        chunks = self.admit(now_ns)
        mean = sum(request.context for request in self.decoding) / len(self.decoding) if self.decoding else 0.0
        if chunks:
            self.stretch = None
            self.step, self.end_ns = "mixed", now_ns + self.mixed_ns(chunks, mean)
        elif self.decoding:
            self.step, self.end_ns = "decode", self.decode_end(now_ns, mean)
        else:
            self.step, self.end_ns = "asleep", None
        return finished

    def end_step(self, now_ns: int) -> list[Request]:
        self.steps += 1
        for request in self.decoding:
            request.context += 1
            request.left -= 1
        if self.step == "mixed":
            for request in [each for each in self.prefilling if each.done == each.input_tokens]:
                self.prefilling.remove(request)
                request.first_token_ns = now_ns
                request.context, request.left = request.input_tokens + 1, request.output_tokens - 1
                self.decoding.append(request)
        finished = [request for request in self.decoding if request.left == 0]
        for request in finished:
            self.decoding.remove(request)
            request.finish_ns = now_ns
            self.kv_free += request.blocks(self.limits.block_tokens)
        return finished

    def admit(self, now_ns: int) -> list[tuple[int, int]]:
        budget = self.limits.step_tokens_max - len(self.decoding)
        chunks = []
        for request in list(self.prefilling):
            chunk = min(budget, request.input_tokens - request.done)
            if chunk > 0:
                chunks.append((request.done, chunk))
                request.done += chunk
                budget -= chunk
        while budget > 0 and self.queue:
            request, blocks = self.queue[0], self.queue[0].blocks(self.limits.block_tokens)
            running = len(self.decoding) + len(self.prefilling)
            if running >= self.limits.batch_max or blocks > self.kv_free:
                break
            self.queue.pop(0)
            self.prefilling.append(request)
            self.kv_free -= blocks
            request.start_ns, request.done = now_ns, min(budget, request.input_tokens)
            chunks.append((0, request.done))
            budget -= request.done
        return chunks

    def mixed_ns(self, chunks: list[tuple[int, int]], mean: float) -> int:
        attention = 0.0
        for done, chunk in chunks:
            attention += prefill_ns(self.table, done + chunk) - prefill_ns(self.table, done)
        batch = len(self.decoding)
        time_ns = token_ns(self.table, sum(chunk for _, chunk in chunks) + batch) + attention
        if batch:
            cell = cell_of(self.table.context_grid, mean)
            left, slope = edge_and_slope(self.table, self.table.decode_attention_ns, batch, cell)
            time_ns += left + slope * (mean - self.table.context_grid[cell])
        return max(1, int(time_ns + 0.5))

    def decode_end(self, now_ns: int, mean: float) -> int:
        if self.stretch is not None and self.stretch[4] == self.stretch[3]:
            self.stretch = None
        if self.stretch is None:
            grid, batch = self.table.context_grid, len(self.decoding)
            cell = cell_of(grid, mean)
            left, slope = edge_and_slope(self.table, self.table.decode_step_ns, batch, cell)
            first = left + self.table.overhead_ns + slope * (mean - grid[cell])
            in_cell = math.ceil(grid[cell + 1] - mean) if cell + 1 < len(grid) - 1 else -1
            self.stretch = (now_ns, first, slope, in_cell, 0)
        begin_ns, first, slope, in_cell, done = self.stretch
        j = done + 1
        self.stretch = (begin_ns, first, slope, in_cell, j)
        return begin_ns + int(first * j + slope * (0.5 * j * (j - 1)) + 0.5)


def walk(table: Any, limits: Any, requests: list[Request]) -> Replica:
    """Serve requests sorted by arrival at one replica until all are done."""
    replica = Replica(table, limits)
    for request in requests:
        while replica.end_ns is not None and replica.end_ns < request.arrival_ns:
            replica.tick()
        replica.arrive(request, request.arrival_ns)
    while replica.end_ns is not None:
        replica.tick()
    return replica
