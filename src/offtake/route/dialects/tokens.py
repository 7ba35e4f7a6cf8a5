"""Tell how many tokens a prompt has, where the upstream's dialect has no words to ask.

Comes in: a case with the router's own estimate. Goes out: a ``Reply`` that says that it is one.
"""

from __future__ import annotations

import msgspec

from offtake.route.dialects.faults import ID_NAMES
from offtake.route.seams import Case, Reply

OK = 200


def estimate_of(case: Case) -> Reply:
    """Return the answer to a request for the number of its tokens."""
    headers = (
        (b"content-type", b"application/json"),
        (ID_NAMES[case.dialect], case.request_id.encode()),
        (b"x-offtake-counted", b"estimate"),
    )
    return Reply(OK, headers, msgspec.json.encode({"input_tokens": case.input_tokens}))
