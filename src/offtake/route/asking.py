"""Know who asks, and for what: the caller of a request, its workload, and the models that are his.

Comes in: the headers of a request, and what its body asks for. Goes out: a caller, a workload, or why there is none. No
header decides whose a request is, or what he may ask for; the key alone does.
"""

from __future__ import annotations

from offtake.fleet import Fleet
from offtake.route.config import Config
from offtake.route.dialects.asked import Asked, Refusal
from offtake.route.dialects.faults import Error, reply_of
from offtake.route.dialects.models import list_of, one_of
from offtake.route.heads import header
from offtake.route.keys import Caller, Keyring
from offtake.route.seams import Dialect, Head, Headers, Reply

MODELS = b"/v1/models"
WORKLOAD_HEADER = b"x-offtake-workload"
NOT_KNOWN = Error(401, "The key is missing or not known.")


def caller_of(keyring: Keyring, headers: Headers) -> Caller | None:
    """Return who asks, by either dialect's header."""
    secret = header(headers, b"x-api-key")
    if secret is None:
        scheme, _, secret = (header(headers, b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
    return keyring.caller(secret.strip()) if secret else None


class Workloads:
    """Know what each caller may ask for under one fleet and configuration."""

    def __init__(self, fleet: Fleet, config: Config) -> None:
        self.fleet, self.models = fleet, config.file.models
        self._mine: dict[tuple[bytes, str], list[int]] = {}  #: what was found before, by key and model

    def of(self, caller: Caller, asked: Asked, head: Head) -> int:
        """Return the workload a request belongs to: the first of the caller's that has its model, or the one it names.

        Raises
        ------
        Refusal
            Where there is none that he may ask for.
        """
        mine = self._mine.get((caller.digest, asked.model)) or self._look(caller, asked.model)
        named = header(head.headers, WORKLOAD_HEADER)
        if named is None:
            return mine[0]
        wanted = [index for index in mine if self.fleet.workloads[index].name.encode() == named]
        if not wanted:
            raise Refusal(403, "This key may not ask for that workload with that model.", code="workload_not_allowed")
        return wanted[0]

    def _look(self, caller: Caller, asked: str) -> list[int]:
        """Return the workloads of a caller that have a model, and remember them; there are as many as keys and models.

        Raises
        ------
        Refusal
            Where there is none.
        """
        model = self.models.get(asked, asked)
        mine = [
            index
            for name in caller.workloads
            for index, each in enumerate(self.fleet.workloads)
            if each.name == name and each.model == model
        ]
        if not mine or (caller.models and asked not in caller.models):
            raise Refusal(404, f"The model {asked!r} does not exist or is not yours.", "model", "model_not_found")
        self._mine[caller.digest, asked] = mine
        return mine


def models_for(fleet: Fleet, config: Config, caller: Caller | None, head: Head, request_id: str) -> Reply:
    """List the models that a caller may ask for, or tell of one."""
    dialect = Dialect.ANTHROPIC if header(head.headers, b"anthropic-version") is not None else Dialect.OPENAI
    if caller is None:
        return reply_of(dialect, NOT_KNOWN, request_id)
    own = {each.model for each in fleet.workloads if each.name in caller.workloads}
    own |= {alias for alias, model in config.file.models.items() if model in own}
    models = sorted(name for name in own if not caller.models or name in caller.models)
    wanted = head.path[len(MODELS) :].removeprefix(b"/").decode("utf-8", "replace")
    if not wanted:
        return list_of(dialect, models, request_id)
    if wanted not in models:
        told = Error(404, f"The model {wanted!r} does not exist or is not yours.", code="model_not_found")
        return reply_of(dialect, told, request_id)
    return one_of(dialect, wanted, request_id)
