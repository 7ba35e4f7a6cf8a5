"""Learn how long prompts and answers are, so that a request's tokens can be told before it is sent.

Comes in: the size of a prompt in bytes, and later what the provider counted. Goes out: estimates in tokens. Bytes per
token are learnt for each workload, lengths of answers for each tenant of it.
"""

from __future__ import annotations

BYTES_PER_TOKEN = 4.0  #: of English text and its JSON around it, until it is learnt (assumption)
BYTES_PER_TOKEN_MIN, BYTES_PER_TOKEN_MAX = 0.5, 64.0  #: images and odd counts must not carry it away (assumption)
SMOOTHING = 0.02  #: weight of one answered request (assumption)


class Lengths:
    """Hold what was learnt, by workload and by (tenant, workload)."""

    def __init__(self, workloads: int) -> None:
        self.bytes_per_token = [BYTES_PER_TOKEN] * workloads
        self.answers: dict[tuple[int, int], float] = {}

    def prompt_tokens(self, workload: int, size: int) -> int:
        """Return the tokens to expect of a prompt of so many bytes; at least one."""
        return max(1, round(size / self.bytes_per_token[workload]))

    def answer_tokens(self, tenant: int, workload: int, asked_max: int) -> int:
        """Return the most tokens to expect of an answer: as asked, or as this tenant's are, 0 if unknown."""
        usual = round(self.answers.get((tenant, workload), 0.0))
        return min(asked_max, usual) if asked_max and usual else asked_max or usual

    def learn_prompt(self, workload: int, size: int, tokens: int) -> None:
        """Learn what the provider counted in a prompt of so many bytes."""
        if tokens > 0 and size > 0:
            seen = min(max(size / tokens, BYTES_PER_TOKEN_MIN), BYTES_PER_TOKEN_MAX)
            self.bytes_per_token[workload] += SMOOTHING * (seen - self.bytes_per_token[workload])

    def learn_answer(self, tenant: int, workload: int, tokens: int) -> None:
        """Learn how long an answer was."""
        before = self.answers.get((tenant, workload), float(tokens))
        self.answers[tenant, workload] = before + SMOOTHING * (tokens - before)
