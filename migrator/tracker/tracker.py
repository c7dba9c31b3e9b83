"""The tracker: the legacy ``MLFlowTracker``'s calls, which now write traces."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from migrator import conventions as conv
from migrator.model import SpanType
from migrator.tracker.config import TrackerConfig
from migrator.tracker.functions import Traced, arguments
from migrator.tracker.guard import Guard
from migrator.tracker.masking import Masker
from migrator.tracker.prices import PriceTable, load_prices
from migrator.tracker.recordable import json_or_text, recordable
from migrator.tracker.spans import (
    NO_SPAN,
    NODE,
    SPAN,
    WORKFLOW,
    NoSpan,
    Start,
    TrackedSpan,
    innermost,
    open_spans,
)
from migrator.tracker.status import Status, status_of
from migrator.tracker.usage import Usage, model_of, usage_of
from migrator.tracker.values import attribute_of, items_of, plain, text_of

if TYPE_CHECKING:
    from migrator.tracker.sink import Sink

F = TypeVar("F", bound=Callable[..., Any])


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
        self._name = text_of(attribute_of(workflow_config, "flow", "name") or "workflow")
        provider = attribute_of(workflow_config, "config", "llm", "provider")
        self._provider = None if provider is None else text_of(provider)
        self._guard = Guard()
        self._sink: Sink | None = None
        self._last_trace_id: str | None = None
        if self.config.enabled:
            prices, masker = load_prices(self.config.prices), Masker(self.config.redact)
            with self._guard.during("set up tracking"):
                self._sink = self._set_up(prices, masker)

    # -------------------------------------------------------------------------- the legacy calls
    def track_workflow(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        session: str | None = None,
        user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedSpan | NoSpan:
        """Track one execution, in a ``with`` block: one trace, named ``workflow_{flow.name}``."""
        if self._sink is None:
            return NO_SPAN
        shown_tags = plain(tags)
        all_tags = shown_tags if isinstance(shown_tags, dict) else {}
        if self.config.run_name:
            all_tags.setdefault("run_name", self.config.run_name)

        def started(span: TrackedSpan) -> None:
            self._last_trace_id = span.trace_id
            self._label(span, session, user, all_tags)

        begin = Start(
            WORKFLOW,
            f"workflow_{self._name}",
            SpanType.WORKFLOW,
            recordable(self.config, inputs, "minimal"),
            _facts(self._name, self._workflow),
            started,
            self.config.sampling_ratio,
        )
        return TrackedSpan(self._sink, begin)

    def finalize_workflow(
        self, final_state: Mapping[str, Any] | None = None, status: str = "success"
    ) -> None:
        """Record the workflow's result, inside ``track_workflow``."""
        if self._sink is None:
            return
        workflow = innermost(self._sink, WORKFLOW)
        if workflow is None:
            self._outside("finalize_workflow", "workflow")
            return
        workflow.set_outputs(recordable(self.config, final_state, "minimal"))
        said = text_of(status)
        workflow.set_attribute("status", said)
        if said != "success":
            workflow.fail("WorkflowError", said)

    def track_node(
        self,
        node_id: str,
        model: str | None = None,
        tools: Sequence[Any] | None = None,
        node_config: object = None,
    ) -> TrackedSpan | NoSpan:
        """Track one node, in a ``with`` block: a span named ``node_id``, AGENT when it has tools.

        What the block raises is recorded, and raised: the legacy tracker swallowed it, and the
        workflow went on as if the node had succeeded.
        """
        if self._sink is None:
            return NO_SPAN
        name = text_of(node_id)
        attributes: dict[str, Any] = {"node_id": name}
        if model is not None and (model_name := text_of(model)):
            attributes[conv.PLAIN_MODEL] = attributes[conv.SPAN_MODEL] = model_name
            if self._provider:
                attributes[conv.PLAIN_PROVIDER] = attributes[conv.SPAN_PROVIDER] = self._provider
        tool_names = [_tool_name(tool) for tool in items_of(tools)] if tools is not None else []
        if tool_names:
            attributes["tools"] = tool_names
        for key in ("log_prompts", "log_artifacts"):  # the node's word goes before the workflow's
            if (own := attribute_of(node_config, key)) is not None:
                attributes[key] = own is True or text_of(own).lower() in ("true", "1")
        if self.config.artifact_level == "full" and node_config is not None:
            attributes["node_config"] = plain(node_config)
        span_type = SpanType.AGENT if tool_names else SpanType.LLM
        return TrackedSpan(self._sink, Start(NODE, name, span_type, attributes=attributes))

    def log_node_metrics(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        retries: int = 0,
        prompt: Any = None,
        response: str | None = None,
        *,
        usage: Any = None,
    ) -> None:
        """Record a call of the node around the caller; several calls add up.

        ``usage`` takes a model's response, or its usage, instead of counts: dictionaries and
        objects of LangChain, OpenAI, Anthropic and Google are read.

        ``prompt`` takes the text; or a prompt version of MLflow's registry, or its address
        (``prompts:/outline/3``), which the trace is linked to.

        Every call counts. Only one that a span inside the node has recorded already, with the same
        tokens (``tracker.llm``, an integration of MLflow), is not counted again. Where spans inside
        the node have tokens, too, its own calls become child spans beside them.
        """
        if self._sink is None:
            return
        node = innermost(self._sink, NODE)
        if node is None:
            self._outside("log_node_metrics", "node")
            return
        with self._guard.during("record a call"):
            counts = None if usage is None else usage_of(usage)
            if counts is None:
                counts = Usage(max(0, int(input_tokens or 0)), max(0, int(output_tokens or 0)))
            shown_prompt = recordable(
                self.config, self._linked(node, prompt), "standard", node.attributes
            )
            shown_response = recordable(self.config, response, "standard", node.attributes)
            answer = json_or_text(shown_response)
            node.record_call(counts, model or model_of(usage), prompt=shown_prompt, response=answer)
            if retries:
                node.set_attribute("retries", int(retries))
            if shown_prompt is not None:
                node.set_inputs({"prompt": shown_prompt})
            if answer is not None:
                node.set_outputs(answer)

    # ------------------------------------------------------------------------- spans of other kinds
    def span(
        self,
        name: str,
        span_type: str = SpanType.CHAIN,
        inputs: Any = None,
        **attributes: Any,
    ) -> TrackedSpan | NoSpan:
        """Track a step of any kind, in a ``with`` block, below whatever is around the caller."""
        if self._sink is None:
            return NO_SPAN
        shown = recordable(self.config, inputs, "standard")
        facts = {key: plain(value) for key, value in attributes.items()}
        return TrackedSpan(self._sink, Start(SPAN, text_of(name), span_type, shown, facts))

    def tool(self, name: str, inputs: Any = None) -> TrackedSpan | NoSpan:
        """Track a tool call, in a ``with`` block."""
        return self.span(name, SpanType.TOOL, inputs)

    def retriever(self, name: str, query: Any = None) -> TrackedSpan | NoSpan:
        """Track a retrieval, in a ``with`` block; outputs are documents with ``page_content``."""
        return self.span(name, SpanType.RETRIEVER, query)

    def llm(
        self, name: str, model: str, provider: str | None = None, inputs: Any = None
    ) -> TrackedSpan | NoSpan:
        """Track a model call, in a ``with`` block; ``record_usage(response)`` counts tokens."""
        model_name = text_of(model)
        attributes = {conv.PLAIN_MODEL: model_name, conv.SPAN_MODEL: model_name}
        if provider is not None and (seller := text_of(provider)):
            attributes |= {conv.PLAIN_PROVIDER: seller, conv.SPAN_PROVIDER: seller}
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

        decorate = Traced(open_span, lambda value: recordable(self.config, value, "standard")).wrap
        return decorate if function is None else decorate(function)

    def get_trace_decorator(self, name: str, **attributes: Any) -> Callable[[F], F]:
        """Do what ``trace(name=..., attributes=...)`` does; its name in the later release."""
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
        """Make a form of ``function`` that works below the span around us now, in any thread.

        Needed only where several workflows run at once: with one, its threads find it.
        """
        context = contextvars.copy_context()

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            return context.copy().run(function, *args, **kwargs)

        return bound  # type: ignore[return-value]

    # ----------------------------------------------------------------------------- labels and marks
    def set_session(self, session: str | None = None, user: str | None = None) -> None:
        """Set the session, or the user, of the workflow around the caller."""
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
        """Record how good a trace is; ``source`` is HUMAN, LLM_JUDGE or CODE.

        Without ``trace_id``: the workflow around the caller, or the last one.
        """
        if self._sink is None:
            return
        with self._guard.during("log feedback"):
            from mlflow.entities import AssessmentSource, Feedback

            from migrator.tracker.marks import assess

            wanted = self._meant(trace_id)
            if wanted is None:
                return
            given = Feedback(
                name=name,
                value=value,
                trace_id=wanted,
                rationale=rationale,
                metadata=dict(metadata) if metadata else None,
                source=AssessmentSource(source_type=source, source_id=source_id),
            )
            assess(self._sink, given)

    def expectation(
        self,
        name: str,
        value: Any,
        *,
        source: str = "HUMAN",
        source_id: str = "default",
        trace_id: str | None = None,
    ) -> None:
        """Record what a trace should have come to."""
        if self._sink is None:
            return
        with self._guard.during("log an expectation"):
            from mlflow.entities import AssessmentSource, Expectation

            from migrator.tracker.marks import assess

            wanted = self._meant(trace_id)
            if wanted is None:
                return
            given = Expectation(
                name=name,
                value=value,
                trace_id=wanted,
                source=AssessmentSource(source_type=source, source_id=source_id),
            )
            assess(self._sink, given)

    # --------------------------------------------------------------------------- other processes
    def headers(self) -> dict[str, str]:
        """Make HTTP headers that carry the span around the caller to another process."""
        if self._sink is None:
            return {}
        with self._guard.during("carry the context"):
            from migrator.tracker.processes import headers_of

            return headers_of(self._sink)
        return {}

    @contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Work below the span that another process sent in ``headers`` (W3C ``traceparent``)."""
        found = {key.lower(): value for key, value in headers.items()}
        if self._sink is None or "traceparent" not in found:
            yield
            return
        from migrator.tracker import processes

        with processes.continued(self._sink, found):
            yield

    # -------------------------------------------------------------------------------- questions
    def status(self) -> Status:
        """Report where traces go now, and what has become of those so far."""
        return status_of(self._sink, self._guard)

    def cost_summary(
        self,
        trace_id: str | None = None,
        *,
        session: str | None = None,
        user: str | None = None,
        all_traces: bool = False,
    ) -> dict[str, Any]:
        """Add up tokens and dollars, in all and by node, model, provider, session and user.

        Of one trace, without any argument of the last workflow's; or of the experiment's traces
        with this ``session`` or ``user``, or of ``all_traces``. ``tracker.costs.sums`` says what
        it holds. Empty when there is no trace, or tracking is off.
        """
        if self._sink is None:
            return {}
        wanted = trace_id or self._last_trace_id
        with self._guard.during("sum up costs"):
            from migrator.tracker import costs

            self.flush()
            delivery = self._sink.delivery
            if all_traces or session is not None or user is not None:
                place = delivery.current
                stored = costs.Stored(place.uri, place.experiment_id(self._sink.experiment))
                found = costs.summary_of_many(stored, session, user)
            elif wanted is not None:
                found = costs.summary(delivery.place_of(wanted).uri, wanted)
            else:
                return {}
            return {**found, "prices": self._sink.finisher.prices.source}
        return {}

    def get_workflow_cost_summary(self, trace_id: str | None = None) -> dict[str, Any]:
        """Do what ``cost_summary`` does; its name in the later release."""
        return self.cost_summary(trace_id)

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until finished traces are written. False if ``seconds`` weren't enough."""
        return self._sink is None or self._sink.delivery.flush(seconds)

    @property
    def last_trace_id(self) -> str | None:
        """The trace id of the workflow that was started last."""
        return self._last_trace_id

    # ---------------------------------------------------------------------------------- inside
    def _set_up(self, prices: PriceTable, masker: Masker) -> Sink:
        from migrator.tracker.connecting import connect
        from migrator.tracker.finishing import Finisher

        return connect(self.config, Finisher(prices, self._provider, masker), self._guard)

    def _label(
        self, span: TrackedSpan, session: str | None, user: str | None, tags: Mapping[str, str]
    ) -> None:
        with self._guard.during("label a trace"):
            from migrator.tracker.marks import label

            label(span.trace_id, session, user, tags)

    def _meant(self, trace_id: str | None) -> str | None:
        """Find the trace to mark: that one, or the workflow around the caller, or the last one."""
        if trace_id is not None or self._sink is None:
            return trace_id
        workflow = innermost(self._sink, WORKFLOW)
        around = None if workflow is None else workflow.trace_id
        return around or self._last_trace_id

    @staticmethod
    def _linked(node: TrackedSpan, prompt: Any) -> Any:
        """Link the node's trace to the prompt version that ``prompt`` is; gives its text."""
        from migrator.tracker.prompts import link, version_of

        version = version_of(prompt)
        if version is None:
            return prompt
        if node.trace_id is not None:
            link(node.trace_id, version)
        return version.template or prompt

    def _outside(self, call: str, kind: str) -> None:
        assert self._sink is not None
        several = len(open_spans(self._sink, kind))
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


def _facts(name: str, workflow: object) -> dict[str, Any]:
    """Read what a workflow's configuration says of itself."""
    nodes = attribute_of(workflow, "nodes")
    facts = {
        "workflow_name": name,
        "workflow_version": attribute_of(workflow, "flow", "version"),
        "schema_version": attribute_of(workflow, "schema_version"),
        "global_model": attribute_of(workflow, "config", "llm", "model"),
        "global_temperature": attribute_of(workflow, "config", "llm", "temperature"),
        "node_count": len(items_of(nodes)) if isinstance(nodes, Sequence) else None,
    }
    return {key: plain(value) for key, value in facts.items() if value is not None}


def _tool_name(tool: Any) -> str:
    name = attribute_of(tool, "name")
    return text_of(tool if name is None else name)
