"""The table of sessions grows without losing one that may go on."""

from __future__ import annotations

import numpy as np

from offtake.rehearse.sessions import NOBODY, new_sessions, with_room


def test_a_table_made_again_forgets_only_the_sessions_that_nothing_can_wait_for() -> None:
    table = new_sessions(8)
    table.think_ns_most[0] = 100
    for place, (session, last, ended_ns) in enumerate([(70, 3, -1), (71, NOBODY, 950), (72, NOBODY, 800), (73, 5, 10)]):
        table.session[place], table.last[place], table.ended_ns[place] = session, last, ended_ns
    again = with_room(table, 1_000)
    assert len(again.session) == 16
    assert again.used[0] == 3
    held = {int(again.session[at]): (again.last[at], again.ended_ns[at]) for at in np.flatnonzero(again.session >= 0)}
    assert held == {70: (3, -1), 71: (NOBODY, 950), 73: (5, 10)}
