from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest

from offtake.policy.view import Request
from offtake.route.desk import RequestDesk
from offtake.route.limits import Denied
from offtake.route.seams import NOTHING, Case, Failure, Head, Hold, Outcome, Pass, Reply, Sending
from offtake.units import NS_PER_S
from tests.rehearse.fleets import small_fleet, workload
from tests.route.setup import Free, Pages, desk_in, route_text

BODY = b'{"model":"model","messages":[{"role":"user","content":"hello"}],"max_tokens":20}'
BEARER = (b"authorization", b"Bearer ot-acme")
USAGE = b'{"usage":{"prompt_tokens":100,"completion_tokens":50}}'


def post(path: bytes = b"/v1/chat/completions", *headers: tuple[bytes, bytes]) -> Head:
    return Head(b"POST", path, b"", headers or (BEARER,))


def come(desk: RequestDesk, body: bytes = BODY, now_ns: int = 0) -> Case:
    case = desk.arrived(post(), body, now_ns)
    assert isinstance(case, Case)
    return case


def sent(step: object) -> Sending:
    assert isinstance(step, Sending), step
    return step


def refused(step: object) -> tuple[int, str]:
    assert isinstance(step, Reply), step
    told = msgspec.json.decode(step.body)["error"]
    return step.status, told["message"]


def in_flight(desk: RequestDesk) -> int:
    return int(desk.parts.decider.view.pools["in_flight"].sum())


def book(desk: RequestDesk) -> Pages:
    return cast("Pages", desk.parts.book)


def test_a_request_is_in_the_ledger_before_it_is_sent_and_before_it_ends(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    assert book(desk).open == []
    sending = sent(desk.place(case, 10))
    [opened] = book(desk).open
    assert (opened.tenant, opened.key, opened.workload, opened.model_asked) == ("acme", "main", "chat", "model")
    assert in_flight(desk) == 1
    assert isinstance(desk.heard(case, 200, (), 20), Pass)
    desk.first(case, 30)
    assert desk.ended(case, Outcome.SERVED, USAGE, 1, 40)
    [closed] = book(desk).shut
    assert (closed.request_id, closed.outcome, closed.status) == (opened.request_id, "served", 200)
    assert (closed.input_tokens, closed.output_tokens, closed.counted) == (100, 50, False)
    assert closed.pool == small_fleet().pools[sending.upstream.pool].name
    assert in_flight(desk) == 0


def test_the_client_is_known_by_either_header_and_by_nothing_else(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    for headers in ([BEARER], [(b"x-api-key", b"ot-acme")], [(b"authorization", b"bearer ot-acme")]):
        assert isinstance(desk.arrived(post(b"/v1/chat/completions", *headers), BODY, 0), Case)
    for headers in ([(b"x", b"y")], [(b"authorization", b"Basic ot-acme")], [(b"x-api-key", b"")]):
        assert refused(desk.arrived(post(b"/v1/chat/completions", *headers), BODY, 0))[0] == 401


def test_an_error_is_told_in_the_callers_dialect(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    reply = desk.arrived(post(b"/v1/messages", (b"x-api-key", b"wrong")), BODY, 0)
    assert isinstance(reply, Reply)
    told = msgspec.json.decode(reply.body)
    assert (told["type"], told["error"]["type"]) == ("error", "authentication_error")
    assert told["request_id"].encode() == dict(reply.headers)[b"request-id"]


def test_a_model_out_of_reach_is_not_there(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    status, message = refused(
        desk.arrived(post(), BODY.replace(b'"model"', b'"model"', 1).replace(b':"model"', b':"gpt"'), 0)
    )
    assert (status, message) == (404, "The model 'gpt' does not exist or is not yours.")


def test_a_named_workload_is_taken_only_within_the_keys_scope(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    head = post(b"/v1/chat/completions", BEARER, (b"x-offtake-workload", b"code"))
    case = desk.arrived(head, BODY, 0)
    assert isinstance(case, Case)
    assert case.workload == 1
    other = post(b"/v1/chat/completions", (b"x-api-key", b"ot-umbrella"), (b"x-offtake-workload", b"chat"))
    assert refused(desk.arrived(other, BODY, 0))[0] == 403


def test_no_credential_of_the_client_and_no_address_of_his_goes_upstream(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    head = post(
        b"/v1/chat/completions",
        BEARER,
        (b"host", b"evil.example"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-offtake-pool", b"a-two"),
        (b"anthropic-beta", b"new-thing"),
        (b"cookie", b"c"),
    )
    case = desk.arrived(head, BODY, 0)
    assert isinstance(case, Case)
    sending = sent(desk.place(case, 0))
    assert b"ot-acme" not in sending.head
    assert b"evil" not in sending.head
    assert b"1.2.3.4" not in sending.head
    assert b"cookie" not in sending.head
    assert b"x-offtake" not in sending.head
    assert b"\r\nanthropic-beta: new-thing\r\n" in sending.head
    assert b"\r\nauthorization: Bearer upstream-secret\r\n" in sending.head
    assert sending.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:900")
    assert sending.head.endswith(b"\r\n\r\n")


def test_the_body_goes_as_it_came_unless_the_upstream_names_the_model_otherwise(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    bodies = set()
    for _ in range(60):
        case = come(desk)
        sending = sent(desk.place(case, 0))
        bodies.add((sending.upstream.model, sending.body == BODY, msgspec.json.decode(sending.body)["model"]))
    assert ("model", True, "model") in bodies
    assert all(same == (model == "model") and named == model for model, same, named in bodies)


def test_an_attempt_that_fails_goes_to_another_pool_and_is_counted_out_of_the_first(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    first = sent(desk.place(case, 0)).upstream.pool
    second = sent(desk.failed(case, Failure.UNREACHABLE, 5)).upstream.pool
    assert second != first
    assert case.attempts == 2
    assert in_flight(desk) == 1
    assert desk.parts.decider.view.pools["replicas_up"][first] == 0
    assert desk.ended(case, Outcome.FAILED, b"", 0, 9)
    assert in_flight(desk) == 0


def test_attempts_end_with_the_limit_and_the_error_says_whose_fault_it_is(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    desk.place(case, 0)
    sent(desk.failed(case, Failure.RESET, 1))
    desk.retries.left = 9.0
    sent(desk.failed(case, Failure.RESET, 2))
    assert refused(desk.failed(case, Failure.FIRST_TIME, 3)) == (504, "The upstream gave no answer in time.")
    assert case.attempts == 3


def test_when_every_pool_fails_retries_stay_within_the_budget(tmp_path: Path) -> None:
    desk = desk_in(tmp_path, text=route_text() + "\n[breaker]\nfailures = 1000000\n")
    attempts = 0
    for number in range(500):
        case = come(desk)
        step: object = desk.place(case, number)
        while isinstance(step, Sending):
            attempts += 1
            step = desk.heard(case, 500, (), number)
        desk.ended(case, Outcome.FAILED, b"", 0, number)
    assert 500 <= attempts <= 500 + 50 + 12  # a share of 0.1, and what may be kept
    assert in_flight(desk) == 0


def test_a_clients_mistake_is_passed_on_and_opens_no_breaker(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    for number in range(200):
        case = come(desk, now_ns=number)
        assert isinstance(desk.place(case, number), Sending)
        status = (400, 403, 404, 409, 413, 422)[number % 6]
        assert isinstance(desk.heard(case, status, (), number), Pass)
        desk.ended(case, Outcome.SERVED, b'{"error":{}}', 1, number)
    assert {record.outcome for record in book(desk).shut} == {"faulty"}
    assert desk.up_share == [1.0] * 4


def test_a_busy_pool_is_left_alone_for_as_long_as_it_says_and_its_request_goes_elsewhere(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    first = sent(desk.place(case, 0)).upstream.pool
    step = sent(desk.heard(case, 429, ((b"retry-after", b"7"),), 0))
    assert step.upstream.pool != first
    seen = {sent(desk.place(come(desk), NS_PER_S)).upstream.pool for _ in range(50)}
    assert first not in seen


def test_after_an_overload_no_second_pool_at_its_limit_is_asked(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    sent(desk.place(case, 0))
    desk.parts.decider.view.pools["pressure"][:] = 1.0
    assert refused(desk.heard(case, 503, (), 1))[0] == 429


def test_without_a_ledger_nothing_is_sent_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    book(desk).works = False
    assert refused(desk.place(case, 0)) == (503, "The ledger cannot be written.")
    book(desk).works = True
    case = come(desk)
    sent(desk.place(case, 0))
    book(desk).works = False
    assert not desk.ended(case, Outcome.SERVED, USAGE, 1, 5)
    assert in_flight(desk) == 0


def test_a_request_that_nobody_pays_for_is_told_when_to_come_again(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    desk.parts.decider.view.workloads["worth_usd"][:] = 1e-12
    for pool in range(4):
        for now in range(2_000):
            desk.parts.decider.routed(_wish(), pool, now)
    case = come(desk)
    reply = desk.place(case, 0)
    assert refused(reply)[0] == 429
    assert dict(cast("Reply", reply).headers)[b"x-offtake-reason"] == b"below_bid"
    assert desk.ended(case, Outcome.REFUSED, b"", 0, 1)
    assert book(desk).shut[-1].reason == "below_bid"
    assert book(desk).shut[-1].cost_usd == 0.0


def test_a_request_that_may_wait_waits_and_is_woken_when_another_ends(tmp_path: Path) -> None:
    patient = [workload("chat", deferral_hours=1.0, value_usd_per_request=0.01), workload("code", residency="us")]
    fleet = msgspec.structs.replace(small_fleet(), workloads=patient)
    desk = desk_in(tmp_path, fleet)
    first = come(desk)
    sent(desk.place(first, 0))
    for pool in range(4):
        for _ in range(150):
            desk.parts.decider.routed(_wish(), pool, 0)
    desk.parts.decider.capacity(3, 0, 0)
    case = come(desk)
    assert isinstance(desk.place(case, 0), Hold)
    woken = []
    case.wake = lambda: woken.append(1)
    desk.ended(first, Outcome.SERVED, USAGE, 1, 5)
    assert woken == [1]
    desk.ended(case, Outcome.LEFT, b"", 0, 6)
    assert desk.queues.waiting == [0, 0]


def test_a_tenants_limit_is_told_with_the_time_when_it_is_over(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    cast("Free", desk.parts.allowance).denied = Denied("tokens_per_minute", 2 * NS_PER_S + 1)
    reply = cast("Reply", desk.arrived(post(), BODY, 0))
    assert refused(reply) == (429, "This key's limit of tokens per minute is used up.")
    assert dict(reply.headers)[b"retry-after"] == b"3"


def test_tokens_are_counted_and_marked_where_the_provider_tells_none(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk, BODY[:-1] + b',"stream":true}')
    sent(desk.place(case, 0))
    desk.heard(case, 200, (), 1)
    desk.first(case, 2)
    desk.ended(case, Outcome.LEFT, b"data: x\n\n", 12, 9)
    [closed] = book(desk).shut
    assert (closed.outcome, closed.counted, closed.output_tokens) == ("left", True, 12)
    assert case.pool != NOTHING


def test_a_caller_sees_the_models_that_are_his_in_his_own_dialect(tmp_path: Path) -> None:
    desk = desk_in(tmp_path, text='[models]\n"gpt-x" = "model"\n' + route_text().replace('region = "us"', ""))
    reply = cast("Reply", desk.arrived(Head(b"GET", b"/v1/models", b"", (BEARER,)), b"", 0))
    assert [each["id"] for each in msgspec.json.decode(reply.body)["data"]] == ["gpt-x", "model"]
    anthropic = ((b"x-api-key", b"ot-acme"), (b"anthropic-version", b"2023-06-01"))
    reply = cast("Reply", desk.arrived(Head(b"GET", b"/v1/models/gpt-x", b"", anthropic), b"", 0))
    assert msgspec.json.decode(reply.body)["type"] == "model"
    assert refused(desk.arrived(Head(b"GET", b"/v1/models/gpt-y", b"", (BEARER,)), b"", 0))[0] == 404
    assert refused(desk.arrived(Head(b"GET", b"/v1/models", b"", ()), b"", 0))[0] == 401


def test_another_fleet_takes_over_and_every_request_ends_where_it_was_sent(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    flying, first = come(desk), come(desk)
    pool = desk.parts.fleet.pools[sent(desk.place(flying, 0)).upstream.pool].name
    desk.place(first, 0)
    turned = msgspec.structs.replace(
        small_fleet(), pools=small_fleet().pools[::-1], workloads=[workload("other"), workload("chat")]
    )
    text = route_text().replace("code", "other").replace('region = "us"', "")
    desk.change(desk_in(tmp_path, turned, text).parts, 5)
    assert in_flight(desk) == 2
    assert desk.ended(flying, Outcome.SERVED, USAGE, 1, 9)
    again = sent(desk.failed(first, Failure.RESET, 10)).upstream
    assert desk.ended(first, Outcome.SERVED, USAGE, 1, 12)
    assert in_flight(desk) == 0
    assert [each.pool for each in book(desk).shut] == [pool, again.name.removesuffix("#0")]
    assert [each.outcome for each in book(desk).shut] == ["served", "served"]


def test_a_client_that_goes_after_the_last_event_was_served(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    for tail, outcome in ((b"data: {}\n\ndata: [DONE]\n\n", "served"), (b"data: {}\n\n", "left")):
        case = come(desk, BODY[:-1] + b',"stream":true}')
        desk.place(case, 0)
        desk.heard(case, 200, (), 1)
        desk.first(case, 2)
        desk.ended(case, Outcome.LEFT, tail, 3, 9)
        assert book(desk).shut[-1].outcome == outcome


def test_a_waiting_request_keeps_its_tenant_when_tenants_are_numbered_anew(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    case = come(desk)
    text = route_text()
    head, acme, umbrella = (
        text.partition("[[tenant]]")[0],
        *("[[tenant]]" + each for each in text.split("[[tenant]]")[1:]),
    )
    desk.change(desk_in(tmp_path, text=head + umbrella + "\n" + acme).parts, 1)
    sent(desk.place(case, 2))
    assert book(desk).open[-1].tenant == "acme"


@pytest.mark.parametrize(("path", "method", "status"), [(b"/", b"GET", 404), (b"/v1/messages", b"GET", 405)])
def test_what_is_not_there_is_said_so(tmp_path: Path, path: bytes, method: bytes, status: int) -> None:
    assert refused(desk_in(tmp_path).arrived(Head(method, path, b"", ()), b"", 0))[0] == status


def _wish() -> Request:
    return Request(0, 0, 200, 0, 220, -1, 0)
