"""List the models that a caller may ask for, in the words of either dialect.

Comes in: names of models. Goes out: a ``Reply``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from offtake.route.dialects.faults import ID_NAMES
from offtake.route.seams import Dialect, Reply

JSON = (b"content-type", b"application/json")
BEGUN = "2026-01-01T00:00:00Z"  #: both dialects want a date of creation, of which a fleet knows none
BEGUN_S = 1_767_225_600


def list_of(dialect: Dialect, models: Sequence[str], request_id: str) -> Reply:
    """Return the list of these models."""
    told: dict[str, object] = {"data": [model_of(dialect, model) for model in models]}
    if dialect is Dialect.ANTHROPIC:
        told |= {
            "has_more": False,
            "first_id": models[0] if models else None,
            "last_id": models[-1] if models else None,
        }
    else:
        told["object"] = "list"
    return Reply(200, (JSON, (ID_NAMES[dialect], request_id.encode())), msgspec.json.encode(told))


def one_of(dialect: Dialect, model: str, request_id: str) -> Reply:
    """Return one model."""
    return Reply(200, (JSON, (ID_NAMES[dialect], request_id.encode())), msgspec.json.encode(model_of(dialect, model)))


def model_of(dialect: Dialect, model: str) -> dict[str, object]:
    """Return what a dialect says of a model."""
    if dialect is Dialect.ANTHROPIC:
        return {"type": "model", "id": model, "display_name": model, "created_at": BEGUN}
    return {"id": model, "object": "model", "created": BEGUN_S, "owned_by": "offtake"}
