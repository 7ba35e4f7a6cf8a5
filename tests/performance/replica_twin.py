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


def chunk_ns(table: Any, done: int, chunk: int) -> float:
    if len(table.chunk_ns) == 0:
        return prefill_ns(table, done + chunk) - prefill_ns(table, done)
    row = [*(end >= done + chunk for end in table.end_grid[:-1]), True].index(True)
    column = [*(length >= chunk for length in table.chunk_grid[:-1]), True].index(True)
    return float(table.chunk_ns[row][column])


def token_ns(table: Any, tokens: int) -> float:
    i = cell_of(table.token_grid, tokens)
    share = (tokens - table.token_grid[i]) / (table.token_grid[i + 1] - table.token_grid[i])
    return float(table.token_ns[i] + share * (table.token_ns[i + 1] - table.token_ns[i]) + table.overhead_ns)


VLLM, SGLANG, TRTLLM = 0, 1, 2


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
    output_max: int = 0
    priority: int = 0
    session: int = -1
    shared: int = 0
    cached: int = 0
    given: int = 0
    held: int = 0
    preemptions: int = 0

    def __post_init__(self) -> None:
        self.output_max = self.output_max or self.output_tokens

    @property
    def length(self) -> int:
        return self.input_tokens + self.given

    @property
    def remote(self) -> bool:
        return self.cached == self.input_tokens and self.given == 0 and self.output_tokens > 1


@dataclass(eq=False)
class Replica:
    table: Any
    limits: Any
    caching: bool = False
    queue: list[Request] = field(default_factory=list)
    prefilling: list[Request] = field(default_factory=list)
    decoding: list[Request] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)  # running, in the order of admission
    cache: dict[int, int] = field(default_factory=dict)  # blocks by session, the least recently used first
    kv_free: int = 0  # blocks in no request's hands, cached or not
    kv_free_min: int = 0
    step: str = "asleep"
    begin_ns: int = 0
    end_ns: int | None = None
    stretch: tuple[int, float, float, int, int] | None = None
    steps: int = 0
    ended: bool = False
    full: bool = False
    ratio: float = 0.7
    ratio_steps: int = 0
    preemptions: int = 0
    evicted: int = 0
    hit_tokens: int = 0

    def __post_init__(self) -> None:
        self.kv_free = self.kv_free_min = self.limits.kv_blocks

    @property
    def in_flight(self) -> int:
        return len(self.queue) + len(self.prefilling) + len(self.decoding)

    @property
    def queued_tokens(self) -> int:
        return sum(request.input_tokens for request in self.queue + self.prefilling if request.given == 0)

    # ── queue ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def arrive(self, request: Request, now_ns: int) -> None:
        self.enqueue(request)
        if self.step == "asleep":
            self.end_ns = now_ns
        bound = self.limits.batch_max
        if self.limits.scheduler != SGLANG:
            bound = min(bound, self.limits.step_tokens_max)
        if self.queue[0] is request and len(self.decoding) < bound and not self.full:
            self.ended = True

    def enqueue(self, request: Request) -> None:
        self.queue.append(request)
        self.queue.sort(key=lambda each: each.priority)

    def put_back(self, request: Request) -> None:
        self.preemptions += 1
        request.preemptions += 1
        request.cached = request.done = 0
        self.release(request)
        self.admitted.remove(request)
        if self.limits.scheduler == SGLANG:
            self.enqueue(request)
        else:
            self.queue.insert(0, request)
            self.queue.sort(key=lambda each: each.priority)

    # ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def blocks(self, tokens: int) -> int:
        return math.ceil(tokens / int(self.limits.block_tokens))

    def hold(self, request: Request, blocks: int) -> None:
        self.kv_free -= blocks - request.held
        request.held = blocks
        self.kv_free_min = min(self.kv_free_min, self.kv_free)
        while sum(self.cache.values()) > self.kv_free:
            oldest = next(iter(self.cache))
            self.cache[oldest] -= 1
            self.evicted += 1
            if self.cache[oldest] == 0:
                del self.cache[oldest]

    def release(self, request: Request) -> None:
        self.kv_free += request.held
        request.held = 0

    def reserve(self, request: Request, tokens: int) -> int:
        if self.limits.scheduler == TRTLLM:
            tokens = request.input_tokens + request.output_max
        return self.blocks(tokens)

    # ── a step ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self) -> list[Request]:
        """End the step under way, begin the next, and return what finished."""
        now_ns = self.end_ns
        assert now_ns is not None
        finished = self.end_step(now_ns) if self.step != "asleep" else []
        if finished or self.step in {"mixed", "extend"} or self.ended:
            self.stretch = None
        self.ended = False
        if self.limits.scheduler == SGLANG:
            chunks = self.extend(now_ns)
            short = bool(self.decoding) and not chunks and self.make_room()
        else:
            short = self.make_room()
            chunks = self.mix(now_ns, admitting=not short)
        if short:
            self.stretch = None
        mean = sum(request.context for request in self.decoding) / len(self.decoding) if self.decoding else 0.0
        if chunks:
            self.stretch = None
            self.step = "extend" if self.limits.scheduler == SGLANG else "mixed"
            self.end_ns = now_ns + self.mixed_ns(chunks, mean)
        elif self.decoding:
            self.step, self.end_ns = "decode", self.decode_end(now_ns, mean)
            self.ended = short
        else:
            self.step, self.end_ns = "asleep", None
        return finished

    def end_step(self, now_ns: int) -> list[Request]:
        self.steps += 1
        finished = []
        if self.step != "extend":
            self.ratio_steps += 1
            for request in self.decoding:
                request.context += 1
                request.left -= 1
                request.given += 1
            finished = [request for request in self.admitted if request in self.decoding and request.left == 0]
        for request in finished:  # in the order of their admission
            self.finish(request, now_ns)
        for request in [each for each in self.prefilling if each.done == each.length]:
            self.prefilling.remove(request)
            if request.given == 0:
                request.first_token_ns = now_ns
                self.hit_tokens += request.cached
            request.given += 1
            request.context, request.left = request.length, request.output_tokens - request.given
            self.decoding.append(request)
            if request.left == 0:
                self.finish(request, now_ns)
                finished.append(request)
        return finished

    def finish(self, request: Request, now_ns: int) -> None:
        self.decoding.remove(request)
        self.admitted.remove(request)
        request.finish_ns = now_ns
        self.full = False
        self.release(request)
        if self.caching and self.limits.prefix_cache and request.session >= 0:
            self.cache.pop(request.session, None)
            whole = (request.input_tokens + request.output_tokens - 1) // self.limits.block_tokens
            if whole:
                self.cache[request.session] = whole

    def make_room(self) -> bool:
        """Take the blocks for the next token of every decoding request; push back who must go for it."""
        short = False
        while sum(self.reserve(r, r.context) - r.held for r in self.decoding) > self.kv_free:
            short = True
            if self.limits.scheduler == SGLANG:
                order = {request: place for place, request in enumerate(self.admitted)}
                victim = max(self.decoding, key=lambda r: (r.priority, -r.given, r.input_tokens, order[r]))
                self.full = False
            else:
                victim = max(reversed(self.admitted), key=lambda r: r.priority)
            (self.decoding if victim in self.decoding else self.prefilling).remove(victim)
            self.put_back(victim)
        if short and self.limits.scheduler == SGLANG:
            given, most = sum(r.given for r in self.decoding), sum(r.output_max for r in self.decoding)
            self.ratio, self.ratio_steps = min(1.0, (given + 20 * len(self.decoding)) / (most + 1)), -1
        for request in self.decoding:
            self.hold(request, self.reserve(request, request.context))
        return short

    def admit(self, request: Request, blocks: int, done: int, now_ns: int) -> None:
        self.queue.remove(request)
        self.admitted.append(request)
        if request.start_ns < 0:
            request.start_ns = now_ns
        if request.remote:
            self.cache.pop(request.session, None)
            self.hit_tokens += request.input_tokens
            request.given, request.context, request.left = 1, request.input_tokens + 1, request.output_tokens - 1
            if request.first_token_ns < 0:
                request.first_token_ns = now_ns
            self.decoding.append(request)
        else:
            request.cached = request.done = done
            if done:
                del self.cache[request.session]
            self.prefilling.append(request)
        self.hold(request, blocks)

    def found(self, request: Request) -> int:
        if request.remote:
            return request.length
        size = int(self.limits.block_tokens)
        return min(request.shared, self.cache.get(request.session, 0) * size, request.length - 1) // size * size

    def unsplit(self, request: Request) -> bool:
        return not self.limits.chunked and request.length <= self.limits.step_tokens_max

    def mix(self, now_ns: int, *, admitting: bool) -> list[tuple[int, int]]:
        budget = self.limits.step_tokens_max - len(self.decoding)
        chunks = []
        for request in list(self.prefilling):
            chunk = min(budget, request.length - request.done)
            if chunk > 0:
                chunks.append((request.done, chunk))
                request.done += chunk
                budget -= chunk
        if any(request.done < request.length for request in self.prefilling):
            return chunks
        while admitting and budget > 0 and self.queue:
            request = self.queue[0]
            blocks = self.reserve(request, request.length + request.remote)
            left = request.length - self.found(request)
            spare = self.limits.watermark_blocks if self.admitted else 0
            if len(self.admitted) >= self.limits.batch_max or blocks + spare > self.kv_free:
                break
            if left > budget and self.unsplit(request):
                break
            remote = request.remote
            self.admit(request, blocks, self.found(request), now_ns)
            chunk = 1 if remote else min(budget, left)
            budget -= chunk
            if not remote:
                chunks.append((request.done, chunk))
                request.done += chunk
                if chunk < left:
                    break
        return chunks

    def extend(self, now_ns: int) -> list[tuple[int, int]]:
        """Fill a step with prompts alone: those that SGLang's estimate lets in."""
        if (self.full or not self.queue) and not self.prefilling:
            return []
        limits = self.limits
        chunks: list[tuple[int, int]] = []
        size, budget, room = limits.block_tokens, limits.step_tokens_max, limits.prefill_tokens_max
        fall = (0.7 - 0.7 * 0.14) / 600
        reserved = max(0.7 * 0.14, self.ratio - self.ratio_steps * fall)
        reserved *= sum(request.output_max - request.given for request in self.decoding)
        under_way = list(self.prefilling)
        while budget > 0 and room > 0 and (under_way or self.queue):
            fresh = not under_way
            request = self.queue[0] if fresh else under_way.pop()
            may_give = min(request.output_max - request.given, 4096)
            if fresh:
                most = request.length + may_give + size
                if len(self.admitted) >= limits.batch_max or (self.admitted and most >= self.kv_free * size - reserved):
                    self.full = True
                    break
                left = request.length - self.found(request)
                if chunks and self.blocks(left) * size >= room:
                    break
                if left > budget and ((budget < size and chunks) or self.unsplit(request)):
                    break
                remote = request.remote
                self.admit(request, self.reserve(request, request.length), self.found(request), now_ns)
                if remote:
                    reserved += may_give
                    continue
            left = request.length - request.done
            chunk = left if left <= budget else max(budget // size * size, min(budget, size))
            chunks.append((request.done, chunk))
            request.done += chunk
            budget -= self.blocks(chunk) * size
            room -= self.blocks(chunk) * size
            reserved += size
            if chunk < left:
                break
            reserved += may_give
        return chunks

    def mixed_ns(self, chunks: list[tuple[int, int]], mean: float) -> int:
        attention = 0.0
        ones = [done for done, chunk in chunks if chunk == 1 and len(self.table.chunk_ns) > 0]
        batch = 0 if self.limits.scheduler == SGLANG else len(self.decoding)
        tokens = sum(chunk for _, chunk in chunks) + batch
        if ones:
            total = sum(request.context for request in self.decoding) if batch else 0
            batch += len(ones)
            mean = (total + sum(ones)) / batch
            chunks = [(done, chunk) for done, chunk in chunks if chunk > 1]
        for done, chunk in chunks:
            attention += chunk_ns(self.table, done, chunk)
        time_ns = token_ns(self.table, tokens) + attention
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


def walk(table: Any, limits: Any, requests: list[Request], *, caching: bool = False) -> Replica:
    """Serve requests sorted by arrival at one replica until all are done."""
    replica = Replica(table, limits, caching)
    for request in requests:
        while replica.end_ns is not None and replica.end_ns < request.arrival_ns:
            replica.tick()
        replica.arrive(request, request.arrival_ns)
    while replica.end_ns is not None:
        replica.tick()
    return replica
