from __future__ import annotations

import pytest

from offtake.route.heads import retry_after_ns

DATE = (b"date", b"Sun, 22 Nov 2026 20:00:00 GMT")


@pytest.mark.parametrize(
    ("headers", "wait_ns"),
    [
        ((), 0),
        (((b"retry-after", b"7"),), 7_000_000_000),
        (((b"retry-after", b"0.5"),), 500_000_000),
        (((b"retry-after", b"7"), (b"retry-after-ms", b"250")), 250_000_000),
        (((b"retry-after", b"Sun, 22 Nov 2026 20:00:30 GMT"), DATE), 30_000_000_000),
        (((b"retry-after", b"Sun, 22 Nov 2026 19:00:00 GMT"), DATE), 0),
        (((b"retry-after", b"Sun, 22 Nov 2026 20:00:30 GMT"),), 0),
        (((b"retry-after", b"soon"), DATE), 0),
        (((b"retry-after", b"\xff"), DATE), 0),
        (((b"retry-after", b"-1"),), 0),
        (((b"retry-after", b"nan"),), 0),
        (((b"retry-after", b"7200"),), 3_600_000_000_000),
    ],
)
def test_an_upstream_is_left_alone_for_as_long_as_it_says(
    headers: tuple[tuple[bytes, bytes], ...], wait_ns: int
) -> None:
    assert retry_after_ns(headers) == wait_ns
