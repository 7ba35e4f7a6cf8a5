"""Answer what operators ask of a router itself: is it alive, is it ready.

Comes in: signs of life. Goes out: pages by their path. What is served without a key tells nothing of tenants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from offtake.route.seams import Feed, Head, Headers, Reply

JSON: Headers = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
OK, UNAVAILABLE = 200, 503


def health_pages(
    troubles: Callable[[], Iterable[str]], notes: Callable[[], Iterable[str]]
) -> dict[bytes, Callable[[Head], Reply | Feed]]:
    """Return the pages that say whether a worker is alive, and ready.

    ``troubles`` yields why it is not, ``notes`` what is not well though it is.
    """

    def alive(head: Head) -> Reply:
        del head
        return told(OK, alive=True)

    def ready(head: Head) -> Reply:
        del head
        faults = list(troubles())
        return told(UNAVAILABLE if faults else OK, ready=not faults, faults=faults, notes=list(notes()))

    return {b"/healthz": alive, b"/readyz": ready}


def told(status: int, **fields: object) -> Reply:
    """Return a small JSON document."""
    return Reply(status, JSON, msgspec.json.encode(fields) + b"\n")
