"""The tracker: the legacy ``MLFlowTracker``'s calls, which now write traces."""

from __future__ import annotations

import contextvars
import functools
import importlib
import importlib.util
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from migrator import conventions as conv
from migrator import encoding
from migrator.model import SpanType
from migrator.tracker.config import LEVELS, TrackerConfig
from migrator.tracker.guard import Guard
from migrator.tracker.prices import PriceTable, load_prices
from migrator.tracker.spans import (
    NO_SPAN,
    NODE,
    SPAN,
    TAG_CHARS,
    WORKFLOW,
    NoSpan,
    Sink,
    Traced,
    TrackedSpan,
    arguments,
    innermost,
    plain,
)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Status:
    """Where traces go, and what has become of them."""

    enabled: bool
    tracking_uri: str | None = None  # where they go now
    configured_uri: str | None = None
    experiment_name: str | None = None
    experiment_id: str | None = None
    fallback_reason: str | None = None  # None while the configured place takes them
    delivered: int = 0  # traces written to the configured place
    in_fallback: int = 0
    pending: int = 0
    lost: int = 0
    errors: int = 0  # of the tracker itself
    last_error: str | None = None


class MLFlowTracker:
    """Tracks a workflow and its nodes as one trace.

    ``mlflow_config`` is anything ``TrackerConfig.of`` reads (None: disabled); ``workflow_config``
    any object or mapping with ``flow.name``, ``flow.version``, ``schema_version``,
    ``config.llm.{provider,model,temperature}`` and ``nodes``, each of which may be missing.

    Raises ``OptionError`` for a configuration that can't be meant. Nothing else the tracker meets
    reaches the workflow: it is logged once, and ``status()`` says it.
    """

    def __init__(
        self, mlflow_config: object = None, workflow_config: object = None, **settings: Any
    ) -> None:
        if mlflow_config is None and settings:
            settings.setdefault("enabled", True)
        self.config = TrackerConfig.of(mlflow_config, **settings)
        self._workflow = workflow_config
        self._name = str(_at(workflow_config, "flow", "name") or "workflow")
        self._provider: str | None = _at(workflow_config, "config", "llm", "provider")
        self._guard = Guard()
        self._sink: Sink | None = None
        self._last_trace_id: str | None = None
        if self.config.enabled:
            prices = load_prices(self.config.prices)
            with self._guard.during("set up tracking"):
                self._sink = self._set_up(prices)

    # -------------------------------------------------------------------------- the legacy calls
    def track_workflow(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        session: str | None = None,
        user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedSpan | NoSpan:
        """Return the context of one execution: one trace, named ``workflow_{flow.name}``."""
        if self._sink is None:
            return NO_SPAN
        flow = self._workflow
        nodes = _at(flow, "nodes")
        facts = {
            "workflow_name": self._name,
            "workflow_version": _at(flow, "flow", "version"),
            "schema_version": _at(flow, "schema_version"),
            "global_model": _at(flow, "config", "llm", "model"),
            "global_temperature": _at(flow, "config", "llm", "temperature"),
            "node_count": len(nodes) if isinstance(nodes, Sequence) else None,
        }
        all_tags = dict(tags or {})
        if self.config.run_name:
            all_tags.setdefault("run_name", self.config.run_name)

        def started(span: TrackedSpan) -> None:
            self._last_trace_id = span.trace_id
            self._label(span, session, user, all_tags)

        return TrackedSpan(
            self._sink,
            WORKFLOW,
            f"workflow_{self._name}",
            SpanType.WORKFLOW,
            self._shown(inputs, "minimal"),
            {key: value for key, value in facts.items() if value is not None},
            started,
            sampled=self.config.sampling_ratio >= 1 or random.random() < self.config.sampling_ratio,
        )

    def finalize_workflow(
        self, final_state: Mapping[str, Any] | None = None, status: str = "success"
    ) -> None:
        """Record what the workflow came to, inside ``track_workflow``."""
        if self._sink is None:
            return
        workflow = innermost(self._sink, WORKFLOW)
        if workflow is None:
            self._outside("finalize_workflow", "workflow")
            return
        workflow.set_outputs(self._shown(final_state, "minimal"))
        workflow.set_attribute("status", status)
        if status != "success":
            workflow.fail("WorkflowError", status)

    def track_node(
        self,
        node_id: str,
        model: str | None = None,
        tools: Sequence[Any] | None = None,
        node_config: object = None,
    ) -> TrackedSpan | NoSpan:
        """Return the context of one node: a span named ``node_id``, AGENT when it has tools.

        What the block raises is recorded, and raised: the legacy tracker swallowed it, and the
        workflow went on as if the node had succeeded.
        """
        if self._sink is None:
            return NO_SPAN
        attributes: dict[str, Any] = {"node_id": node_id}
        if model:
            attributes[conv.PLAIN_MODEL] = attributes[conv.SPAN_MODEL] = str(model)
        if self._provider and model:
            attributes[conv.PLAIN_PROVIDER] = attributes[conv.SPAN_PROVIDER] = self._provider
        if tools:
            attributes["tools"] = [
                tool if isinstance(tool, str) else str(getattr(tool, "name", tool))
                for tool in tools
            ]
        for key in ("log_prompts", "log_artifacts"):  # the node's word goes before the workflow's
            if (own := _at(node_config, key)) is not None:
                attributes[key] = bool(own)
        if self.config.artifact_level == "full" and node_config is not None:
            attributes["node_config"] = plain(node_config)
        return TrackedSpan(
            self._sink,
            NODE,
            str(node_id),
            SpanType.AGENT if tools else SpanType.LLM,
            attributes=attributes,
        )

    def log_node_metrics(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        retries: int = 0,
        prompt: str | None = None,
        response: str | None = None,
        *,
        usage: Any = None,
    ) -> None:
        """Record a call of the node around the caller; several calls add up.

        ``usage`` takes a model's response, or its usage, instead of counts: dictionaries and
        objects of LangChain, OpenAI, Anthropic and Google are read.
        """
        if self._sink is None:
            return
        node = innermost(self._sink, NODE)
        if node is None:
            self._outside("log_node_metrics", "node")
            return
        node.record_usage(
            usage, input_tokens=input_tokens, output_tokens=output_tokens, model=model
        )
        if retries:
            node.set_attribute("retries", int(retries))
        own = node.attributes or {}
        if prompt is not None and (shown := self._shown(prompt, "standard", own)) is not None:
            node.set_inputs({"prompt": shown})
        if response is not None and (shown := self._shown(response, "standard", own)) is not None:
            node.set_outputs(_json_or_text(shown))

    # ------------------------------------------------------------------------- spans of other kinds
    def span(
        self,
        name: str,
        span_type: str = SpanType.CHAIN,
        inputs: Any = None,
        **attributes: Any,
    ) -> TrackedSpan | NoSpan:
        """Return the context of a step of any kind, below whatever is around the caller."""
        if self._sink is None:
            return NO_SPAN
        return TrackedSpan(
            self._sink, SPAN, name, span_type, self._shown(inputs, "standard"), attributes
        )

    def tool(self, name: str, inputs: Any = None) -> TrackedSpan | NoSpan:
        """Return the context of a tool call."""
        return self.span(name, SpanType.TOOL, inputs)

    def retriever(self, name: str, query: Any = None) -> TrackedSpan | NoSpan:
        """Return the context of a retrieval; outputs are documents with ``page_content``."""
        return self.span(name, SpanType.RETRIEVER, query)

    def llm(
        self, name: str, model: str, provider: str | None = None, inputs: Any = None
    ) -> TrackedSpan | NoSpan:
        """Return the context of a model call; ``record_usage(response)`` on it counts tokens."""
        attributes = {conv.PLAIN_MODEL: model, conv.SPAN_MODEL: model}
        if provider:
            attributes |= {conv.PLAIN_PROVIDER: provider, conv.SPAN_PROVIDER: provider}
        return self.span(name, SpanType.CHAT_MODEL, inputs, **attributes)

    @overload
    def trace(self, function: F) -> F: ...

    @overload
    def trace(
        self, function: None = None, *, name: str | None = None, span_type: str = SpanType.CHAIN,
        attributes: Mapping[str, Any] | None = None,
    ) -> Callable[[F], F]: ...  # fmt: skip

    def trace(
        self,
        function: Any = None,
        *,
        name: str | None = None,
        span_type: str = SpanType.CHAIN,
        attributes: Mapping[str, Any] | None = None,
    ) -> Any:
        """Trace a function, coroutine, generator or async generator: one span for each call.

        A stream is one span, open from its first item asked for to its last, with an event for
        each item (1,000 at most) and its output joined.
        """
        if isinstance(function, str):  # trace("name")
            function, name = None, function

        def open_span(wrapped: Callable[..., Any], args: Any, kwargs: Any) -> TrackedSpan | NoSpan:
            if self._sink is None:
                return NO_SPAN
            inputs = None
            with self._guard.during("read arguments"):
                inputs = arguments(wrapped, args, kwargs)
            return self.span(name or wrapped.__name__, span_type, inputs, **(attributes or {}))

        decorate = Traced(open_span, lambda value: self._shown(value, "standard")).wrap
        return decorate if function is None else decorate(function)

    def get_trace_decorator(self, name: str, **attributes: Any) -> Callable[[F], F]:
        """Return ``trace(name=..., attributes=...)``, by its name in the later release."""
        return self.trace(name=name, attributes=attributes)

    def track_provider_call(self, provider: str, model: str, response: Any) -> None:
        """Count the tokens of a provider's response on the node, or span, around the caller."""
        if self._sink is None:
            return
        around = innermost(self._sink) or innermost(self._sink, NODE)
        if around is None:
            self._outside("track_provider_call", "node")
            return
        around.record_usage(response, model=model, provider=provider)

    def record_exception(self, error: BaseException) -> None:
        """Mark the span around the caller as failed, without raising."""
        if self._sink is not None and (around := innermost(self._sink)) is not None:
            around.record_exception(error)

    def bind(self, function: F) -> F:
        """Return ``function`` so that a thread that calls it works below the span around us now.

        Needed only where several workflows run at once: with one, its threads find it.
        """
        context = contextvars.copy_context()

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            return context.copy().run(function, *args, **kwargs)

        return bound  # type: ignore[return-value]

    # ----------------------------------------------------------------------------- labels and marks
    def set_session(self, session: str | None = None, user: str | None = None) -> None:
        """Say to which session, or user, the workflow around the caller belongs."""
        if self._sink is not None and (workflow := innermost(self._sink, WORKFLOW)) is not None:
            self._label(workflow, session, user, {})

    def feedback(
        self,
        name: str,
        value: Any,
        *,
        source: str = "CODE",
        source_id: str = "default",
        rationale: str | None = None,
        trace_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Say how good a trace is; ``source`` is HUMAN, LLM_JUDGE or CODE.

        Without ``trace_id``: the workflow around the caller, or the last one.
        """
        if self._sink is None:
            return
        with self._guard.during("log feedback"):
            from mlflow.entities import AssessmentSource, Feedback

            self._assess(
                trace_id,
                lambda of: Feedback(
                    name=name,
                    value=value,
                    trace_id=of,
                    rationale=rationale,
                    metadata=dict(metadata) if metadata else None,
                    source=AssessmentSource(source_type=source, source_id=source_id),
                ),
                (name, source_id),
            )

    def expectation(
        self,
        name: str,
        value: Any,
        *,
        source: str = "HUMAN",
        source_id: str = "default",
        trace_id: str | None = None,
    ) -> None:
        """Say what a trace should have come to."""
        if self._sink is None:
            return
        with self._guard.during("log an expectation"):
            from mlflow.entities import AssessmentSource, Expectation

            self._assess(
                trace_id,
                lambda of: Expectation(
                    name=name,
                    value=value,
                    trace_id=of,
                    source=AssessmentSource(source_type=source, source_id=source_id),
                ),
                (name, source_id),
            )

    # --------------------------------------------------------------------------- other processes
    def headers(self) -> dict[str, str]:
        """Return HTTP headers that carry the span around the caller to another process."""
        if self._sink is None:
            return {}
        with self._guard.during("carry the context"):
            from mlflow.tracing.distributed import get_tracing_context_headers_for_http_request

            around = innermost(self._sink)
            if around is not None and around.trace_id is not None:
                self._sink.shared.add(around.trace_id)
                return dict(get_tracing_context_headers_for_http_request())
        return {}

    @contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Work below the span that another process sent in ``headers`` (W3C ``traceparent``)."""
        found = {key.lower(): value for key, value in headers.items()}
        if self._sink is None or "traceparent" not in found:
            yield
            return
        from mlflow.tracing.distributed import set_tracing_context_from_http_request_headers

        from migrator.tracker.exporter import seat

        carrier = set_tracing_context_from_http_request_headers(found)
        entered = False
        with self._guard.during("take over the context"):
            seat.take(self._sink)
            carrier.__enter__()
            entered = True
        try:
            yield
        finally:
            if entered:
                with self._guard.during("give back the context"):
                    carrier.__exit__(None, None, None)

    # -------------------------------------------------------------------------------- questions
    def status(self) -> Status:
        """Say where traces go now, and what has become of those so far."""
        if self._sink is None:
            return Status(False, errors=self._guard.errors, last_error=self._guard.last)
        delivery = self._sink.delivery
        return Status(
            enabled=True,
            tracking_uri=delivery.current.uri,
            configured_uri=delivery.place.uri,
            experiment_name=self._sink.experiment,
            experiment_id=delivery.current.experiments.get(self._sink.experiment),
            fallback_reason=delivery.fallen_back,
            delivered=delivery.delivered,
            in_fallback=delivery.in_fallback,
            pending=delivery.pending,
            lost=delivery.lost,
            errors=self._guard.errors + delivery.guard.errors,
            last_error=self._guard.last or delivery.guard.last,
        )

    def cost_summary(self, trace_id: str | None = None) -> dict[str, Any]:
        """Return tokens and dollars of a trace, in all and by node, model and provider.

        Without ``trace_id``: the last workflow's. Empty when there is none, or tracking is off.
        """
        if self._sink is None:
            return {}
        wanted = trace_id or self._last_trace_id
        with self._guard.during("sum up costs"):
            if wanted is not None:
                from migrator.tracker.costs import summary

                self.flush()
                return summary(self._sink.delivery.place_of(wanted).uri, wanted)
        return {}

    def get_workflow_cost_summary(self, trace_id: str | None = None) -> dict[str, Any]:
        """Return ``cost_summary``, by its name in the later release."""
        return self.cost_summary(trace_id)

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until finished traces are written (``seconds`` at most); tell whether they are."""
        return self._sink is None or self._sink.delivery.flush(seconds)

    @property
    def last_trace_id(self) -> str | None:
        """The trace id of the workflow that was started last."""
        return self._last_trace_id

    # ---------------------------------------------------------------------------------- inside
    def _set_up(self, prices: PriceTable) -> Sink:
        from migrator.tracker import exporter
        from migrator.tracker.delivery import delivery_to
        from migrator.tracker.exit import on_sigterm
        from migrator.tracker.meter import Meter, redactor

        config = self.config
        delivery = delivery_to(
            config.tracking_uri, config.fallback_uri, config.server_timeout_s, config.async_logging
        )
        experiment_id = delivery.connect(config.experiment_name)
        sink = Sink(
            delivery, config.experiment_name, experiment_id, Meter(prices, self._provider),
            self._guard, redactor(config.redact), exporter,
        )  # fmt: skip
        exporter.seat.take(sink)
        on_sigterm(sink)
        self._autolog()
        return sink

    def _autolog(self) -> None:
        names = self.config.autolog_enabled
        if names is True:
            names = ("langchain",)
        for given in names or ():
            name = "langchain" if given == "langgraph" else given
            with self._guard.during(f"switch on autologging of {name}"):
                import mlflow

                if importlib.util.find_spec(f"mlflow.{name}") is None:
                    raise ModuleNotFoundError(f"MLflow {mlflow.__version__} has no mlflow.{name}")
                autolog = importlib.import_module(f"mlflow.{name}").autolog
                # Otherwise LangChain's callbacks run in other threads than a graph's coroutines,
                # and a node's span is no parent of the calls in it: their tokens count twice.
                inline = "run_tracer_inline"
                has_inline = inline in inspect.signature(autolog).parameters
                autolog(**{inline: True} if has_inline else {})

    def _label(
        self, span: TrackedSpan, session: str | None, user: str | None, tags: Mapping[str, str]
    ) -> None:
        with self._guard.during("label a trace"):
            from mlflow.tracing.trace_manager import InMemoryTraceManager

            with InMemoryTraceManager.get_instance().get_trace(span.trace_id) as trace:
                if trace is None:
                    return
                if session:
                    trace.info.trace_metadata[conv.TRACE_SESSION] = encoding.cut(
                        str(session), conv.METADATA_CHARS
                    )
                if user:
                    trace.info.trace_metadata[conv.TRACE_USER] = encoding.cut(
                        str(user), conv.METADATA_CHARS
                    )
                for key, value in tags.items():
                    trace.info.tags[key] = encoding.cut(str(value), conv.TRACE_TAG_CHARS)

    def _assess(
        self, trace_id: str | None, make: Callable[[str], Any], what: tuple[str, ...]
    ) -> None:
        assert self._sink is not None
        from mlflow.tracing.client import TracingClient
        from mlflow.tracing.trace_manager import InMemoryTraceManager

        from migrator.tracker.delivery import now_ms

        workflow = innermost(self._sink, WORKFLOW)
        wanted = trace_id or (workflow.trace_id if workflow else None) or self._last_trace_id
        if wanted is None:
            return
        assessment = make(wanted)
        with InMemoryTraceManager.get_instance().get_trace(wanted) as trace:
            if trace is not None:  # still open: it goes along with the trace
                assessment.assessment_id = encoding.assessment_id_of(wanted, *what, str(now_ms()))
                trace.info.assessments.append(assessment)
                return
        self.flush(self.config.server_timeout_s)
        TracingClient(self._sink.delivery.place_of(wanted).uri).log_assessment(wanted, assessment)

    def _shown(self, value: Any, level: str, own: Mapping[str, Any] | None = None) -> Any:
        """Return what may be recorded of a value that the legacy tracker wrote at ``level``.

        Whole when files of that level were to be written; a text's beginning when only prompts
        were to be shown; None otherwise.
        """
        if value is None:
            return None
        settings = own or {}
        whole = settings.get("log_artifacts", self.config.log_artifacts) and LEVELS.index(
            level
        ) <= LEVELS.index(self.config.artifact_level)
        if whole:
            return value
        if level == "standard" and settings.get("log_prompts", self.config.log_prompts):
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            return text if len(text) <= TAG_CHARS else text[:TAG_CHARS] + "..."
        return None

    def _outside(self, call: str, kind: str) -> None:
        assert self._sink is not None
        several = len(self._sink.opened(kind))
        if several > 1:
            self._guard.say(
                call,
                "Tracking: %s was called in a thread that belongs to none of the %d open %ss; it "
                "is not recorded. Start the thread with tracker.bind(function).",
                call, several, kind,
            )  # fmt: skip
        elif not self._sampled_out():
            self._guard.say(
                call, "Tracking: %s was called outside a %s; it is not recorded.", call, kind
            )

    def _sampled_out(self) -> bool:
        return self.config.sampling_ratio < 1


def _at(holder: Any, *keys: str) -> Any:
    """Return what lies at a path of keys or attributes, None where it ends."""
    for key in keys:
        holder = holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)
        if holder is None:
            return None
    return holder


def _json_or_text(value: Any) -> Any:
    """Return a response as JSON where it is a JSON object or list, as in migrated traces."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
