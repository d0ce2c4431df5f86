"""Traces: what callers wrote is read as W3C has it, chance and limits decide, and a turn links to who traced it."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stream_ml.config import Config
from stream_ml.observe.trace_context import CURRENT, TraceContext, context_of, context_of_record, context_of_request
from stream_ml.observe.traces import Limit, Span, Traces, traces_of, with_trace
from stream_ml.observe.turn_spans import LINKS_MAX, TurnSpans
from tests.support.collector import collector
from tests.support.inputs import small_config

IDS = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (f"00-{IDS[0]}-{IDS[1]}-{flags}".encode() for flags in ("01", "00"))


class Kept(list[Span]):
    """A sink of this file's own: what was handed over."""

    take = list.append

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def nothing_at_work() -> Iterator[None]:
    """Each test begins and ends outside of a trace."""
    CURRENT.set(None)
    yield
    CURRENT.set(None)


def config(**traces: Any) -> Config:
    return small_config(traces={"endpoint": "http://127.0.0.1:4318", **traces})


# --- headers ---


def test_a_parent_is_read_and_written_again() -> None:
    found = context_of(SAMPLED, b"vendor=1")
    assert found == TraceContext(*IDS, sampled=True, state=b"vendor=1")
    assert list(found.headers) == [("traceparent", SAMPLED), ("tracestate", b"vendor=1")]
    assert context_of_record([("x", None), *found.headers]) == found
    assert context_of_request({b"traceparent": UNSAMPLED}) == TraceContext(*IDS, sampled=False)


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        SAMPLED[:-1],
        SAMPLED.upper(),
        SAMPLED + b"-more",
        SAMPLED.replace(b"00-", b"ff-", 1),
        b"00-" + b"0" * 32 + SAMPLED[35:],
        SAMPLED[:36] + b"0" * 16 + SAMPLED[52:],
        SAMPLED + b"\n",
        b" " + SAMPLED,
        b"\xff" * 55,
    ],
)
def test_what_is_no_parent_is_nobody(parent: bytes) -> None:
    assert context_of(parent) is None


def test_a_later_version_may_have_more_behind() -> None:
    assert context_of(SAMPLED.replace(b"00-", b"cc-", 1) + b"-what") == TraceContext(*IDS, sampled=True)


@pytest.mark.parametrize("state", [b"x=" + b"x" * 513, b"no member", b"a=\n", b"a=1,\x1b[31m=2", b"=", b"A=1"])
def test_a_state_that_is_none_is_not_passed_on(state: bytes) -> None:
    assert context_of(SAMPLED, state) == TraceContext(*IDS, sampled=True)


@pytest.mark.parametrize("state", [b"a=1", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", b"t/x@y=a b!~ , z=1"])
def test_a_state_is_passed_on_as_it_came(state: bytes) -> None:
    found = context_of(SAMPLED, state)
    assert found is not None and found.state == state


@given(st.binary(max_size=60) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_parents_are_read_as_opentelemetry_reads_them(parent: bytes) -> None:
    from opentelemetry.trace import get_current_span

    theirs = TraceContextTextMapPropagator().extract({"traceparent": parent.decode("latin-1")})
    span, own = get_current_span(theirs).get_span_context(), context_of(parent)
    assert (own is not None) == span.is_valid
    if own is not None:
        assert (int(own.trace_id, 16), int(own.span_id, 16)) == (span.trace_id, span.span_id)
        assert own.sampled == span.trace_flags.sampled


# --- what is traced ---


def test_who_calls_has_decided_and_chance_decides_for_the_others() -> None:
    never, always = Traces(config(ratio=0), Kept()), Traces(config(ratio=1), Kept())
    assert never.request({}) is None and CURRENT.get() is None
    assert always.request({b"traceparent": UNSAMPLED}) is None
    assert CURRENT.get() == TraceContext(*IDS, sampled=False), "what it writes carries the caller's"
    begun = never.request({b"traceparent": SAMPLED, b"tracestate": b"v=1"})
    assert begun is not None and begun.context.trace_id == IDS[0] and begun.context.span_id != IDS[1]
    assert CURRENT.get() == begun.context and begun.context.state == b"v=1"
    first, second = always.request({}), always.request({})
    assert first is not None and second is not None and first.context.trace_id != second.context.trace_id


def test_off_nothing_is_traced_and_what_a_caller_says_travels_on() -> None:
    traces = Traces(small_config(), None)
    assert traces.request({b"traceparent": SAMPLED}) is None
    assert CURRENT.get() == context_of(SAMPLED)
    assert traces.request({}) is None and CURRENT.get() is None, "a request behind another one has not its trace"


def test_callers_that_trace_everything_are_traced_up_to_the_limit() -> None:
    traces = Traces(config(requests_per_second=3), Kept())
    assert sum(traces.request({b"traceparent": SAMPLED}) is not None for _ in range(100)) <= 6  # of two seconds at most
    limit = Limit(2)
    assert [limit.take() for _ in range(3)] in ([True, True, False], [True, True, True])


def test_a_turn_links_to_the_records_that_were_traced_and_has_what_it_did() -> None:
    kept = Kept()
    spans = TurnSpans(Traces(config(ratio=0), kept), topic="e", group="g", client="c")
    spans.begin([[("traceparent", UNSAMPLED)], [("other", b"x")]])
    assert not spans.is_open
    traced = [[("traceparent", SAMPLED)]] * (LINKS_MAX + 5)
    spans.begin([*traced, [("traceparent", UNSAMPLED)]])
    assert spans.is_open and CURRENT.get() is not None
    line = with_trace(None, "", {"event": "x"})
    spans.stage("fold", 1e-9)
    spans.stage("commit", 3_600)
    spans.end(40, {"stream_ml.position": 7})
    assert CURRENT.get() is None and not spans.is_open
    fold, commit, turn = kept
    assert (line["trace_id"], line["span_id"]) == (turn.context.trace_id, turn.context.span_id)
    assert fold.parent == commit.parent == turn.context and commit.began_ns == turn.began_ns, "never before its turn"
    assert turn.parent is None and set(turn.links) == {context_of(SAMPLED)} and len(turn.links) == LINKS_MAX
    told = turn.attributes
    assert (told["messaging.batch.message_count"], told["stream_ml.links_left_out"]) == (40, 5)
    assert told["stream_ml.position"] == 7 and turn.name == "process e" and not turn.error
    spans.end(1)
    assert len(kept) == 3, "a turn that is not traced has no end"


def test_a_turn_that_failed_says_so() -> None:
    kept = Kept()
    spans = TurnSpans(Traces(config(ratio=1), kept), topic="e", group="g", client="c")
    spans.begin([])
    spans.end(0, error="not_committed")
    assert (kept[0].error, kept[0].attributes["error.type"]) == ("not_committed", "not_committed")


# --- the way to a collector ---


def test_names_out_of_the_environment_go_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,team=x")
    counts: Any = Counts()
    with collector() as there:
        traces = traces_of(config(endpoint=there.endpoint, ratio=1), counts, "api")
        begun = traces.request({})
        assert begun is not None
        traces.answered(begun, "x", {})
        traces.close()
    assert {(one.resource["service.name"], one.resource["team"]) for one in there.spans} == {("shop", "x")}


class Counts:
    """Metrics, as far as spans are counted."""

    def __init__(self) -> None:
        self.spans: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, *, outcome: str) -> None:
        self.spans[outcome] = self.spans.get(outcome, 0) + amount


def test_spans_arrive_with_what_they_say() -> None:
    counts: Any = Counts()
    with collector() as there:
        traces = traces_of(config(endpoint=there.endpoint, ratio=1, token="t0ken"), counts, "api")
        begun = traces.request({b"traceparent": SAMPLED, b"tracestate": b"v=1"})
        assert begun is not None
        traces.answered(begun, "POST /v1/predict", {"http.response.status_code": 503}, "503")
        spans = TurnSpans(traces, topic="e", group="g", client="c")
        spans.begin([[("traceparent", SAMPLED)]])
        spans.stage("fold", 0.0)
        spans.end(3)
        traces.close()
        served, fold, turn = sorted(there.spans, key=lambda span: span.kind == 5 or span.kind == 1)[:3]
    assert (served.kind, fold.kind, turn.kind) == (2, 1, 5)
    assert (served.trace_id, served.parent_id) == IDS and served.error == "503"
    assert served.attributes == {"http.response.status_code": 503, "error.type": "503"}
    assert turn.links == [IDS] and fold.parent_id == turn.span_id and turn.began_ns <= turn.ended_ns
    assert served.resource["service.name"] == "small-api" and there.authorization == {"Bearer t0ken"}
    assert counts.spans == {"sent": 3}


def test_a_collector_that_is_away_costs_spans_and_two_seconds_at_the_end_and_is_counted() -> None:
    import time

    counts: Any = Counts()
    with collector() as there:
        gone = there.endpoint
    traces = traces_of(config(endpoint=gone, ratio=1, requests_per_second=10_000), counts, "api")
    for _ in range(3_000):
        begun = traces.request({})
        assert begun is not None
        traces.answered(begun, "x", {})
    assert counts.spans.get("dropped", 0) > 0
    began_s = time.monotonic()
    traces.close()
    assert time.monotonic() - began_s < 30, "a bound of the test's own; the code waits 2 s"
    assert counts.spans.get("sent", 0) == 0
