from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from offtake.route.columns import Host
from offtake.route.desk import RequestDesk
from offtake.route.families import CONTENT_TYPE, FAMILIES, gathered, text_of
from offtake.route.gate import gated
from offtake.route.keys import Keyring
from offtake.route.ledger.journal import Journal
from offtake.route.metrics import Gauges, Meter, metrics_page
from offtake.route.seams import Case, Head, Outcome, Reply, Sending
from offtake.units import NS_PER_S
from tests.route.exposition import read
from tests.route.setup import desk_in
from tests.route.test_desk import BODY, USAGE, post

STREAM = BODY[:-1] + b',"stream":true}'


def one(desk: RequestDesk, at_s: float, first_s: float, end_s: float, body: bytes = STREAM) -> None:
    """Serve a request that came at a time, with 51 tokens of answer."""
    case = desk.arrived(post(), body, round(at_s * NS_PER_S))
    assert isinstance(case, Case)
    assert isinstance(desk.place(case, round(at_s * NS_PER_S)), Sending)
    desk.heard(case, 200, (), round(at_s * NS_PER_S))
    desk.first(case, round(first_s * NS_PER_S))
    assert desk.ended(case, Outcome.SERVED, USAGE.replace(b"50", b"51"), 51, round(end_s * NS_PER_S))


def told(host: Host) -> dict[str, float]:
    """All values by name, summed over labels; buckets left out."""
    host.look()
    found: dict[str, float] = {}
    for each in read(text_of(gathered(host.rows())).decode()):
        if not each.name.endswith("_bucket"):
            found[each.name] = found.get(each.name, 0.0) + each.value
    return found


def test_requests_tokens_and_times_are_told_by_any_worker_for_all(tmp_path: Path) -> None:
    hosts = [Host(tmp_path / "state") for _ in range(2)]
    for number, host in enumerate(hosts):
        (tmp_path / str(number)).mkdir()
        desk = desk_in(tmp_path / str(number))
        desk.parts.watchers = [Meter(host)]
        one(desk, 1.0, 1.1, 2.1)
        one(desk, 3.0, 3.3, 4.3)
    values = told(hosts[0])
    assert values == told(hosts[1])
    assert values["offtake_requests_total"] == 4
    assert values["offtake_tokens_total"] == 4 * (100 + 51)
    assert values["gen_ai_server_time_to_first_token_seconds_count"] == 4
    assert values["gen_ai_server_time_to_first_token_seconds_sum"] == pytest.approx(2 * 0.1 + 2 * 0.3)
    assert values["gen_ai_server_time_per_output_token_seconds_sum"] == pytest.approx(4 * 0.02)
    assert values["gen_ai_server_request_duration_seconds_sum"] == pytest.approx(2 * 1.1 + 2 * 1.3)


def test_an_answer_that_came_whole_tells_no_time_to_its_first_token(tmp_path: Path) -> None:
    host, desk = Host(tmp_path / "state"), desk_in(tmp_path)
    desk.parts.watchers = [Meter(host)]
    one(desk, 1.0, 2.1, 2.1, BODY)
    values = told(host)
    assert values["gen_ai_server_request_duration_seconds_count"] == 1
    assert values["gen_ai_server_time_to_first_token_seconds_count"] == 0


def test_a_time_is_counted_in_the_bucket_whose_bound_it_does_not_exceed(tmp_path: Path) -> None:
    host, desk = Host(tmp_path / "state"), desk_in(tmp_path)
    desk.parts.watchers = [Meter(host)]
    one(desk, 0.0, 0.25, 1.0)
    one(desk, 0.0, 0.26, 1.0)
    host.look()
    name = "gen_ai_server_time_to_first_token_seconds_bucket"
    buckets: dict[str, float] = {}
    for each in read(text_of(gathered(host.rows())).decode()):
        if each.name == name:
            buckets[dict(each.labels)["le"]] = buckets.get(dict(each.labels)["le"], 0.0) + each.value
    assert (buckets["0.1"], buckets["0.25"], buckets["0.5"], buckets["+Inf"]) == (0, 1, 2, 2)


def test_refusals_are_told_by_their_reason(tmp_path: Path) -> None:
    host, desk = Host(tmp_path / "state"), desk_in(tmp_path)
    desk.parts.watchers = [Meter(host)]
    for pool in range(len(desk.parts.fleet.pools)):
        desk.parts.decider.capacity(pool, 0, 0)
    case = desk.arrived(post(), BODY, 0)
    assert isinstance(case, Case)
    assert isinstance(desk.place(case, 0), Reply)
    desk.ended(case, Outcome.REFUSED, b"", 0, 0)
    [value] = [each for each in read(text_of(gathered(host.rows())).decode()) if each.name == "offtake_requests_total"]
    assert dict(value.labels)["outcome"] == "refused"
    assert dict(value.labels)["reason"] == "no_capacity"


def test_how_things_stand_is_told_of_living_workers_only(tmp_path: Path) -> None:
    desk, journal = desk_in(tmp_path), Journal(tmp_path / "journal", "one")
    hosts = [Host(tmp_path / "state") for _ in range(2)]
    for host in hosts:
        Gauges(host, desk, journal, lambda: 7).tell(0)
    values = told(hosts[0])
    assert (values["offtake_workers"], values["offtake_connections"]) == (2, 14)
    assert values["offtake_upstream_up"] == len(desk.parts.health.by_name)
    assert values["process_resident_memory_bytes"] > 1e6
    hosts[1].close()
    assert (told(hosts[0])["offtake_workers"], told(hosts[0])["offtake_connections"]) == (1, 7)
    journal.close()


def test_a_load_that_a_dead_worker_had_is_not_told_by_its_successor(tmp_path: Path) -> None:
    dead = Host(tmp_path)
    dead.row(("offtake_in_flight", "a-one", "a-one"), 1)[0] = 400.0
    dead.row(("offtake_connections",), 1)[0] = 400.0
    dead.close()
    desk, journal = desk_in(tmp_path), Journal(tmp_path / "journal", "one")
    host = Host(tmp_path)
    Gauges(host, desk, journal, lambda: 0).tell(0)
    assert host.name == dead.name
    values = told(host)
    assert (values["offtake_in_flight"], values["offtake_connections"]) == (0, 0)
    journal.close()


def test_names_of_any_letters_are_escaped(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.row(("offtake_waiting", 'a"b\\c\nd'), 1)[0] = 1.0
    text = text_of(gathered(host.rows())).decode()
    assert 'offtake_waiting{workload="a\\"b\\\\c\\nd"} 1\n' in text
    read(text)


def test_the_page_says_in_which_format_it_is(tmp_path: Path) -> None:
    reply = metrics_page(Host(tmp_path))(Head(b"GET", b"/metrics", b"", ()))
    assert dict(reply.headers)[b"content-type"] == CONTENT_TYPE
    assert reply.body == b"# EOF\n"


def test_another_reader_of_the_standard_agrees(tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser", reason="prometheus_client is not installed")
    host, desk = Host(tmp_path / "state"), desk_in(tmp_path)
    desk.parts.watchers = [Meter(host)]
    one(desk, 1.0, 1.1, 2.1)
    journal = Journal(tmp_path / "journal", "one")
    Gauges(host, desk, journal, lambda: 7).tell(0)
    families = list(parser.text_string_to_metric_families(text_of(gathered(host.rows())).decode()))
    assert {family.name for family in families} <= set(FAMILIES)
    assert len(families) > 15
    journal.close()


def test_every_query_of_the_dashboard_names_a_metric_that_there_is() -> None:
    board = msgspec.json.decode((Path(__file__).parents[2] / "examples" / "route" / "grafana.json").read_bytes())
    known = {
        family.name + ending
        for family in FAMILIES.values()
        for ending in {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[family.kind]
    }
    labels = {label for family in FAMILIES.values() for label in family.labels} | {"le"}
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 15
    for query in queries:
        assert names_in(query) & known, query
        assert names_in(query) <= known | labels | WORDS, query


WORDS = {"sum", "by", "rate", "histogram_quantile", "max", "avg", "__rate_interval", "clamp_min", "instance", "on"}


def names_in(query: str) -> set[str]:
    import re

    return set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", re.sub(r'"[^"]*"', "", query)))


def ask(*headers: tuple[bytes, bytes]) -> Head:
    return Head(b"GET", b"/metrics", b"", headers)


def test_what_tells_of_tenants_opens_to_a_key_that_may_operate(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    keyring, listen = desk.parts.keyring, desk.parts.config.file.listen
    pages = {b"/metrics": metrics_page(Host(tmp_path / "state"))}
    callers = dict(keyring.callers)
    for digest, caller in callers.items():
        callers[digest] = caller._replace(operate=caller.tenant == 0)
    page = gated(pages, Keyring(callers), listen)[b"/metrics"]
    statuses = [
        status(page(ask(*headers)))
        for headers in (
            [],
            [(b"host", b"127.0.0.1:8080")],
            [(b"x-api-key", b"ot-acme")],
            [(b"authorization", b"Basic OmV2aWw=")],
            [(b"authorization", b"Basic OjpvdC1hY21l")],  # ":ot-acme" is not the key
            [(b"authorization", b"Basic Om90LWFjbWU=")],
            [(b"authorization", b"Basic %")],
            [(b"x-api-key", b"ot-umbrella")],
        )
    ]
    assert statuses == [401, 401, 200, 401, 401, 200, 401, 403]


def test_without_such_a_key_it_opens_on_this_machine_only(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    keyring, listen = desk.parts.keyring, desk.parts.config.file.listen
    pages = {b"/metrics": metrics_page(Host(tmp_path / "state"))}
    near = gated(pages, keyring, listen)[b"/metrics"]
    far = gated(pages, keyring, msgspec.structs.replace(listen, host="0.0.0.0"))[b"/metrics"]  # noqa: S104  # it is refused
    for host in (b"127.0.0.1:8080", b"localhost", b"[::1]:80"):
        assert status(near(ask((b"host", host)))) == 200
        assert status(far(ask((b"host", host)))) == 403
    for host in (b"evil.example", b"localhost.evil.example:8080", b""):
        assert status(near(ask((b"host", host)))) == 403


def status(reply: object) -> int:
    assert isinstance(reply, Reply)
    return reply.status
