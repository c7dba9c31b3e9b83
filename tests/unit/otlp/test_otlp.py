"""Traces exported as OpenTelemetry: read back, sent to a real MLflow server, and refused."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.json_format import ParseDict
from mlflow import MlflowClient
from mlflow.entities import ViewType
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from migrator import http_client, otlp, pipeline
from migrator.cli import main
from migrator.errors import TargetError
from migrator.extractor.filestore import FileStoreSource
from migrator.model import TracePlan
from migrator.otlp import receivers
from migrator.pipeline import lots
from tests.support import browserkit, fixturekit
from tests.support.certificates import self_signed
from tests.support.http_servers import Quiet, serving

AGENTS, GENAI = "2.22.5-agents", "3.5.1-genai"


class Kept(pipeline.sinks.Discard):
    """Keeps the plans, to compare with."""

    def __init__(self) -> None:
        self.plans: dict[str, TracePlan] = {}

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        self.plans[plan.trace_id] = plan


def plans_of(name: str) -> dict[str, TracePlan]:
    stores = pipeline.open_stores(
        pipeline.Opened([FileStoreSource.open(str(fixturekit.store(name)))])
    )
    kept = Kept()
    outcome = pipeline.stores.new_outcome(stores, pipeline.Options(), None)
    pipeline.walk_sources(stores, pipeline.Options(workers=1), kept, outcome)
    return kept.plans


def export(name: str, to: object, *more: str) -> str:
    args = ["export", str(fixturekit.store(name)), "--otlp", str(to), *more]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.output


def from_json(value: dict[str, Any]) -> TracesData:
    """Read OTLP's JSON: ids are hex there, which protobuf's own JSON does not know."""
    for resource in value["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    data = TracesData()
    ParseDict(value, data)
    return data


def spans_of(data: TracesData) -> list[Span]:
    return [s for r in data.resource_spans for scope in r.scope_spans for s in scope.spans]


def attributes_of(span: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
        for pair in span.attributes
    }


@pytest.mark.parametrize("name", [AGENTS, GENAI])
def test_every_span_of_every_trace_is_in_the_file(name: str, tmp_path: Path) -> None:
    export(name, tmp_path / "traces.pb")
    spans = spans_of(TracesData.FromString((tmp_path / "traces.pb").read_bytes()))
    plans = plans_of(name)
    assert len(spans) == sum(len(plan.spans) for plan in plans.values()) > 5
    by_id = {(span.trace_id.hex(), span.span_id.hex()): span for span in spans}
    codes = {"UNSET": 0, "OK": 1, "ERROR": 2}
    for trace_id, plan in plans.items():
        for planned in plan.spans:
            span = by_id[trace_id.removeprefix("tr-"), planned.span_id]
            assert span.name == planned.name
            assert span.parent_span_id.hex() == (planned.parent_span_id or "")
            assert span.start_time_unix_nano == planned.start_ns
            assert span.end_time_unix_nano == planned.end_ns
            assert span.status.code == codes[planned.status]
            assert span.status.message == planned.status_message
            assert set(planned.attributes) <= set(attributes_of(span))
            assert {e.name for e in planned.events} <= {e.name for e in span.events}


def test_the_three_forms_of_a_file_say_the_same(tmp_path: Path) -> None:
    for ending in ("pb", "json", "jsonl"):
        export(AGENTS, tmp_path / f"traces.{ending}")
    whole = TracesData.FromString((tmp_path / "traces.pb").read_bytes())
    assert from_json(json.loads((tmp_path / "traces.json").read_text())) == whole
    lines = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    parts = TracesData()
    for line in lines:
        parts.MergeFrom(from_json(line))
    assert parts == whole
    first = json.loads((tmp_path / "traces.jsonl").read_text().splitlines()[0])
    span = first["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert len(span["traceId"]) == 32 and int(span["traceId"], 16)
    assert isinstance(span["kind"], int) and isinstance(span["startTimeUnixNano"], str)


def test_a_store_without_traces_gives_a_file_without_spans(tmp_path: Path) -> None:
    assert "Sent 0 traces" in export("2.22.5-sweeps", tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == {"resourceSpans": []}


def test_spans_speak_the_genai_conventions(tmp_path: Path) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names

    known = {value for key, value in vars(names).items() if key.startswith("GEN_AI_")}
    operations = {each.value for each in names.GenAiOperationNameValues}
    export(AGENTS, tmp_path / "a.pb")
    export(GENAI, tmp_path / "b.pb")
    spans = [
        span
        for file in ("a.pb", "b.pb")
        for span in spans_of(TracesData.FromString((tmp_path / file).read_bytes()))
    ]
    used: dict[str, set[Any]] = {}
    for span in spans:
        for key, value in attributes_of(span).items():
            if key.startswith("gen_ai."):
                used.setdefault(key, set()).add(value)
    assert set(used) <= known
    assert used["gen_ai.operation.name"] <= operations
    assert {"execute_tool", "invoke_agent", "text_completion"} <= used["gen_ai.operation.name"]
    assert used["gen_ai.request.model"] and used["gen_ai.conversation.id"]
    said = next(
        said
        for said in map(attributes_of, spans)
        if said.get("gen_ai.agent.name") == "research" and "gen_ai.input.messages" in said
    )
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (412, 187)
    (message,) = json.loads(said["gen_ai.input.messages"])
    assert message["role"] == "user" and message["parts"][0]["type"] == "text"
    failed = [span for span in spans if span.status.code == 2]
    assert failed and all(attributes_of(span)["error.type"] for span in failed)
    scores = [e for span in spans for e in span.events if e.name == "gen_ai.evaluation.result"]
    assert {attributes_of(e)["gen_ai.evaluation.name"] for e in scores}


def test_any_number_of_workers_writes_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lots, "FEW_RUNS", 0)
    for workers in ("1", "3"):
        export(AGENTS, tmp_path / f"{workers}.pb", "--workers", workers)
    assert (tmp_path / "1.pb").read_bytes() == (tmp_path / "3.pb").read_bytes() != b""


def test_an_mlflow_server_that_is_sent_the_traces_has_what_a_conversion_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    source = str(fixturekit.store(AGENTS))
    converted, sent = tmp_path / "converted.db", tmp_path / "sent.db"
    pipeline.convert([source], f"sqlite:///{converted}", pipeline.Options())
    empty = MlflowClient(f"sqlite:///{sent}")
    into = empty.create_experiment("sent")
    with browserkit.server(sent, tmp_path) as (url, _):
        export(AGENTS, url, "--header", f"x-mlflow-experiment-id={into}")
    ours = MlflowClient(f"sqlite:///{converted}")
    everywhere = [e.experiment_id for e in ours.search_experiments(view_type=ViewType.ALL)]
    traces = ours.search_traces(everywhere, max_results=500)
    assert len(traces) == 33
    theirs = {t.info.trace_id: t for t in empty.search_traces([into], max_results=500)}
    assert set(theirs) == {trace.info.trace_id for trace in traces}
    for trace in traces:
        spans = {span.span_id: span for span in theirs[trace.info.trace_id].data.spans}
        assert len(spans) == len(trace.data.spans)
        for span in trace.data.spans:
            other = spans[span.span_id]
            for fact in ("name", "parent_id", "span_type", "inputs", "outputs", "status"):
                assert getattr(other, fact) == getattr(span, fact), (span.name, fact)
            assert (other.start_time_ns, other.end_time_ns) == (
                span.start_time_ns,
                span.end_time_ns,
            )
            assert span.attributes.keys() <= other.attributes.keys()
            for key, value in span.attributes.items():
                assert other.attributes[key] in (value, _parsed(value)), (span.name, key)
        if trace.info.token_usage:
            assert theirs[trace.info.trace_id].info.token_usage == trace.info.token_usage
    assert sum(bool(trace.info.token_usage) for trace in traces) > 10


def _parsed(value: Any) -> Any:
    """Return what MLflow makes of text that happens to be JSON when a server receives it."""
    with suppress(ValueError, TypeError):
        return json.loads(value)
    return value


# ---------------------------------------------------------------- receivers that refuse


@contextmanager
def answering(
    *answers: tuple[int, dict[str, str], bytes], certificate: Path | None = None
) -> Iterator[tuple[str, list[Any]]]:
    """Serve one answer after the other, the last one for ever; yield its URL and the requests."""
    asked: list[Any] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            code, headers, content = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.path, dict(self.headers), body))
            self.send_response(code)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    with serving(Handler, certificate) as address:
        yield address, asked


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_busy_receiver_is_asked_again_after_the_time_it_says() -> None:
    with answering((503, {"Retry-After": "0"}, b""), (200, {}, b"")) as (url, asked):
        export(AGENTS, url, "--header", "Authorization=Bearer a=b")
    assert len(asked) == 2 and asked[0][2] == asked[1][2]
    path, headers, body = asked[1]
    assert path == "/v1/traces" and headers["Authorization"] == "Bearer a=b"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert len(spans_of(TracesData.FromString(body))) == 71


def test_the_path_of_an_address_is_kept_when_it_has_one() -> None:
    with answering((200, {}, b"{}")) as (url, asked):
        export(AGENTS, f"{url}/api/public/otel/v1/traces")
    assert [path for path, *_ in asked] == ["/api/public/otel/v1/traces"]


def refusal(to: str, *more: str) -> str:
    args = ["export", str(fixturekit.store(AGENTS)), "--otlp", to, *more]
    result = CliRunner().invoke(main, args)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    return result.output


def test_a_receiver_that_refuses_is_named_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering((401, {}, b"no key")) as (url, asked):
        assert "401" in refusal(url) and "no key" in refusal(url)
    assert len(asked) == 2  # not asked again: it would say the same
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 3
    partial.partial_success.error_message = "too old"
    with answering((200, {}, partial.SerializeToString())) as (url, _):
        assert "it rejected 3 spans: too old. Nothing was sent." in refusal(url)
    monkeypatch.setattr(http_client, "BACKOFF_S", 0.0)
    assert "no connection to it: Connection refused." in refusal("http://127.0.0.1:9")


def test_addresses_and_files_that_can_not_be(tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    assert "exists" in refusal(str(taken)) and taken.read_text() == "mine"
    assert "can't be written" in refusal(str(tmp_path / "none" / "x.pb"))
    assert "can't be sent to" in refusal("grpc://localhost:4317")
    assert "needs a URL" in refusal(str(tmp_path / "x.pb"), "--header", "a=b")
    assert "is not NAME=VALUE" in refusal("http://127.0.0.1:9", "--header", "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.json"]


def test_a_long_answer_is_shortened_after_its_secrets_are_masked() -> None:
    with answering((400, {}, b"x" * 300 + b" s3cret-t0ken" * 40)) as (url, _):
        told = refusal(url, "--header", "X-Key=s3cret-t0ken")
    assert "x ***" in told and "…." in told
    assert "s3cret" not in told


def test_a_receiver_that_stays_busy_is_asked_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "BACKOFF_S", 0.0)
    with answering((429, {}, b"slow down")) as (url, asked):
        assert "it answered 429 Too Many Requests: slow down." in refusal(url)
    assert len(asked) == 5
    assert len({body for *_, body in asked}) == 1


@pytest.mark.parametrize("retry_after", ["soon", "86400", "Fri, 31 Dec 2100 23:59:59 GMT", "-1"])
def test_a_retry_after_header_neither_fails_nor_waits_for_long(
    retry_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MAX_WAIT_S", 0.1)
    began = time.monotonic()
    with answering((503, {"Retry-After": retry_after}, b""), (200, {}, b"")) as (url, asked):
        export(AGENTS, url)
    assert len(asked) == 2
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_reported_and_not_followed(code: int) -> None:
    there = {"Location": "https://user:pw@other.example/v1/traces?key=1"}
    with answering((code, there, b"")) as (url, asked):
        assert "it redirects to https://other.example/v1/traces?key=***." in refusal(url)
    assert len(asked) == 1


def test_rejected_spans_are_read_from_an_answer_in_json_too() -> None:
    answer = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too long"}}'
    json_type = {"Content-Type": "application/json; charset=utf-8"}
    with answering((200, json_type, answer)) as (url, _):
        assert "it rejected 1 span: too long." in refusal(url)
    for content in (b"{}", b"thanks", b"\xff"):
        with answering((200, json_type, content)) as (url, asked):
            export(AGENTS, url)
        assert len(asked) == 1


def test_a_receiver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "BACKOFF_S", 0.0)
    monkeypatch.setattr(receivers, "_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "it did not answer within 0.1 s." in refusal(url)


def test_errors_of_tls_are_one_sentence_and_not_tried_again(tmp_path: Path) -> None:
    with answering((200, {}, b"")) as (url, asked):
        told = " ".join(refusal(url.replace("http://", "https://")).split())
    assert re.search(r"did not accept the traces: TLS failed \([a-z ]+\); does it speak", told)
    assert asked == []
    with answering((200, {}, b""), certificate=self_signed(tmp_path)) as (url, asked):
        began = time.monotonic()
        told = " ".join(refusal(url).split())
        assert "its TLS certificate is not trusted (self" in told
        assert "REQUESTS_CA_BUNDLE" in told and "HTTPSConnectionPool" not in told
        assert time.monotonic() - began < 20
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
            assert "missing.pem" in refusal(url)
            patch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "both.pem"))
            export(AGENTS, url)
    assert len(asked) == 1


def test_no_message_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_client, "BACKOFF_S", 0.0)
    secret = "s3cret-t0ken"
    header = ("--header", f"Authorization=Bearer {secret}")
    with answering((403, {}, f"bad: Bearer {secret}".encode())) as (url, asked):
        said = [refusal(url, *header), refusal(f"{url}/x?api_key={secret}")]
        said.append(refusal(url.replace("http://", f"http://ana:{secret}@")))
    assert "403 Forbidden: bad: *** ***." in said[0]
    credentials = base64.b64encode(f"ana:{secret}".encode()).decode()
    assert asked[2][1]["Authorization"] == f"Basic {credentials}"
    said.append(refusal(f"http://ana:{secret}@127.0.0.1:9/x?api_key={secret}", *header))
    said.append(refusal(f"grpc://ana:{secret}@127.0.0.1:9"))
    said.append(refusal(f"http://ana:{secret}@[1:2"))
    said.append(refusal("http://127.0.0.1:9", "--header", secret))
    said.append(refusal("http://127.0.0.1:9", "--header", f"={secret}"))
    for value in (f"{secret}\n", f" {secret}", f"{secret}ä", f"{secret}\u20ac"):
        said.append(refusal("http://127.0.0.1:9", "--header", f"X-Key={value}"))
    with answering((200, {}, b"")) as (url, _):
        address = url.replace("http://", f"http://ana:{secret}@")
        said.append(export(AGENTS, f"{address}?api_key={secret}", *header))
        said.append(export(AGENTS, address, "--json"))
    assert f"to {url}?api_key=***." in said[-2]
    for text in [*said, caplog.text]:
        assert "s3cret" not in text


def test_the_users_own_header_is_not_replaced_by_that_of_a_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ana password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with answering((200, {}, b"")) as (url, asked):
        export(AGENTS, url, "--header", "Authorization=Bearer mine")
    assert asked[0][1]["Authorization"] == "Bearer mine"


def test_a_file_that_was_not_finished_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise TargetError("full")

    monkeypatch.setattr(otlp.OtlpSink, "flush", stop)
    assert "full" in refusal(str(tmp_path / "x.pb"))
    assert list(tmp_path.iterdir()) == []
