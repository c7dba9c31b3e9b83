"""The nodes of a trace to its plan: spans, previews, tags, metadata and assessments."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from migrator import conventions as conv
from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import AssessmentRecord, SpanPlan, TracePlan
from migrator.packing import PackedList
from migrator.transformer import passes, timing, trace_totals
from migrator.transformer.clocks import MS
from migrator.transformer.found import Judged
from migrator.transformer.nodes import Node
from migrator.transformer.own_calls import add_own_calls
from migrator.transformer.run_view import RunView
from migrator.transformer.spans import TraceFacts, plan_span
from migrator.transformer.values import natural

PROMPT_URI = re.compile(r"prompts:/([^/\s]{1,250})/(\d{1,9})")
MANY_SPANS = 5_000  # a trace of more takes care of its memory
MODEL_URI = re.compile(r"(?:models:/)?(m-[0-9a-f]{32})")


def plan_trace(nodes: list[Node], trace: TraceFacts, issues: list[Issue]) -> TracePlan:
    """Plan a trace of nodes as they were built; ``nodes`` and ``issues`` grow by what is found."""
    add_own_calls(nodes)
    is_dated = timing.set_times(nodes)
    if not is_dated:
        issues.append(
            _issue(nodes[0], Code.RUN_WITHOUT_TIME, "has no time, and nothing in it has", "")
        )
    issues += _time_issues(nodes)
    passes.set_span_ids(nodes, trace.trace_id)
    passes.set_statuses(nodes)
    passes.set_usage(nodes)
    passes.set_costs(nodes)
    passes.set_models(nodes)
    passes.set_names(nodes)
    passes.set_previous(nodes)
    facts = _facts(nodes, trace, issues)
    spans, contents = _spans(nodes, trace)
    return _trace_plan(nodes, trace, facts, spans, contents)


def _spans(nodes: Sequence[Node], trace: TraceFacts) -> tuple[tuple[SpanPlan, ...], Sequence[str]]:
    """Plan the span of each node, and make its JSON text."""
    if len(nodes) > MANY_SPANS:
        return _many_spans(nodes, trace)
    spans = tuple([plan_span(node, trace) for node in nodes])
    return spans, trace_totals.contents_of(trace.trace_id, spans)


def _many_spans(
    nodes: Sequence[Node], trace: TraceFacts
) -> tuple[tuple[SpanPlan, ...], Sequence[str]]:
    """Do the same in less memory: of what a span was made of, only its text is kept."""
    spans: list[SpanPlan] = []
    contents: PackedList[str] = PackedList()
    keys: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal ones are kept once
    origins: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for node in nodes:
        span = plan_span(node, trace)
        contents.append(encoding.span_content(trace.trace_id, span))
        names = tuple(span.attributes)
        attributes = encoding.WrittenAttributes(keys.setdefault(names, names), contents, len(spans))
        node.origins = origins.setdefault(tuple(node.origins.items()), node.origins)
        spans.append(replace(span, attributes=attributes, origins=node.origins))
    return tuple(spans), contents


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the runs of a trace say about the whole of it."""

    views: list[RunView]
    tags: dict[str, str]  # the user's own
    session_and_user: dict[str, str]  # as metadata
    model_id: str | None
    prompts: tuple[str, ...]
    assessments: tuple[AssessmentRecord, ...]


def _facts(nodes: Sequence[Node], trace: TraceFacts, issues: list[Issue]) -> _Facts:
    views = list({node.view.run.run_id: node.view for node in nodes}.values())
    if trace.parent is not None:
        views.append(trace.parent)
    return _Facts(
        views,
        _own_tags(nodes),
        _session_and_user(nodes[0], views, trace, issues),
        _linked_model(views),
        _linked_prompts(views),
        tuple(_assessments(trace.trace_id, nodes)),
    )


def _trace_plan(
    nodes: Sequence[Node],
    trace: TraceFacts,
    facts: _Facts,
    spans: tuple[SpanPlan, ...],
    contents: Sequence[str],
) -> TracePlan:
    root = spans[0]
    shown = _shown(nodes)
    start_ms, end_ms = root.start_ns // MS, root.end_ns // MS
    usage = trace_totals.total_usage(spans)
    cost = trace_totals.total_cost(spans)
    tags = facts.tags | _tags(nodes, root, trace)
    if facts.prompts:
        tags[conv.LINKED_PROMPTS] = _prompts_json(facts.prompts)
    metadata = {conv.SCHEMA_VERSION: "3", conv.SOURCE_RUN: root_run_id(nodes)}
    metadata.update(trace_totals.size_metadata(contents))
    if facts.model_id is not None:
        metadata[conv.TRACE_MODEL_ID] = facts.model_id
    if usage is not None:
        metadata[conv.TRACE_USAGE] = trace_totals.usage_json(usage)
    if cost:
        metadata[conv.TRACE_COST] = encoding.encode(cost)
    metadata.update(facts.session_and_user)
    sums = trace_totals.totals(trace.trace_id, usage, cost, end_ms, facts.assessments)
    return TracePlan(
        trace_id=trace.trace_id,
        experiment_id=facts.views[0].run.experiment_id,
        timestamp_ms=start_ms,
        execution_ms=end_ms - start_ms,
        status="STATE_UNSPECIFIED" if root.status == "UNSET" else root.status,
        name=root.name,
        client_request_id=None,
        request_preview=_request_preview(shown),
        response_preview=_response_preview(shown, root),
        tags=tags,
        metadata=metadata,
        usage=usage,
        spans=spans,
        assessments=(*facts.assessments, *sums),
        run_ids=tuple(view.run.run_id for view in facts.views),
        prompts=facts.prompts,
        contents=contents,
    )


def root_run_id(nodes: Sequence[Node]) -> str:
    """The run of a trace's root."""
    return nodes[0].view.run.run_id


# -------------------------------------------------------------------------------- previews


def _shown(nodes: Sequence[Node]) -> Sequence[Node]:
    """The nodes that the previews are made from.

    Of several calls in one run it is one that has a question and an answer: those of two would not
    fit each other.
    """
    root = nodes[0]
    if not root.records_calls or root.inputs is not None or root.outputs is not None:
        return nodes
    for node in root.children:
        if node.inputs is not None and node.outputs is not None:
            return [node]
    return [root, *root.children[:1]]


def _request_preview(nodes: Sequence[Node]) -> str | None:
    """What the trace list shows of the request: the root's inputs, else the first span's."""
    root = trace_totals.request_preview(nodes[0].inputs)
    if root is not None:
        return root
    for node in nodes:
        if text := trace_totals.request_preview(node.inputs):
            return text
    return None


def _response_preview(nodes: Sequence[Node], root: SpanPlan) -> str | None:
    """The response in the trace list: the root's outputs or error, else the last answer.

    What judges an answer is none, as long as there is one.
    """
    response = trace_totals.response_preview(nodes[0].outputs)
    if response is None and root.status == "ERROR":
        response = encoding.preview(root.status_message)
    if response is not None:
        return response
    answers: list[tuple[bool, int, str]] = []
    last_start_ns = max(node.start_ns or 0 for node in nodes)
    for node in nodes:
        end_ns = node.end_ns or 0
        if node.is_for_next_step and end_ns <= last_start_ns:
            continue
        if text := trace_totals.response_preview(node.outputs):
            answers.append((not node.is_judgement, end_ns, text))
    return max(answers)[2] if answers else None


# ---------------------------------------------------------------------- tags and metadata


def _tags(nodes: Sequence[Node], root: SpanPlan, trace: TraceFacts) -> dict[str, str]:
    tags = {
        conv.TRACE_NAME: encoding.cut(root.name, conv.TRACE_TAG_CHARS),
        conv.SPANS_LOCATION: conv.SPANS_IN_DATABASE,
        conv.MIGRATOR_ROLE: trace.role.value,
        conv.MIGRATOR_PROFILE: nodes[0].view.profile.name,
        conv.MIGRATOR_ROOT_RUN: root_run_id(nodes),
    }
    if trace.version:
        tags[conv.MIGRATOR_VERSION] = trace.version
    if inferences := _counted(node.inferences for node in nodes):
        tags[conv.MIGRATOR_INFERENCES] = encoding.cut(inferences, conv.TRACE_TAG_CHARS)
    if any(node.no_end and not node.view.run.end_ms for node in nodes):
        tags[conv.MIGRATOR_UNFINISHED] = "true"
    return tags


def _own_tags(nodes: Sequence[Node]) -> dict[str, str]:
    """The trace tags that the profile's ``[tags]`` name; the root's run comes first."""
    tags: dict[str, str] = {}
    for name, sources in nodes[0].view.profile.tags.items():
        for node in nodes:
            if found := node.view.first_at(sources):
                value = found.value
                text = value if isinstance(value, str) else encoding.encode(value)
                tags[name] = encoding.cut(encoding.clean_text(text), conv.TRACE_TAG_CHARS)
                break
    return tags


def _counted(lists: Iterable[Sequence[str]]) -> str:
    """Join inferences, each once and with the number of spans that have it."""
    counts: Counter[str] = Counter()
    for inferences in lists:
        counts.update(dict.fromkeys(inferences, 1))
    return "; ".join(text if n == 1 else f"{text} (x{n})" for text, n in counts.items())


def _linked_prompts(views: Sequence[RunView]) -> tuple[str, ...]:
    """The prompt versions that any of the runs names, as ``name/version``."""
    prompts: set[str] = set()
    for view in views:
        prompts.update(trace_totals.linked_prompts(view.run.tags.get(conv.LINKED_PROMPTS)))
        for found in view.every("linked_prompt"):
            if named := PROMPT_URI.fullmatch(str(found.value).strip()):
                prompts.add(f"{named[1]}/{named[2]}")
    return tuple(sorted(prompts, key=natural))


def _linked_model(views: Sequence[RunView]) -> str | None:
    """The id of the logged model that the first of the runs names, as MLflow 3 writes it."""
    for view in views:
        for found in view.every("linked_model"):
            if named := MODEL_URI.fullmatch(str(found.value).strip()):
                return named[1]
    return None


def _prompts_json(prompts: Sequence[str]) -> str:
    """The value of tag ``mlflow.linkedPrompts``."""
    items = []
    for prompt in prompts:
        name, _, version = prompt.rpartition("/")
        items.append({"name": name, "version": version})
    return json.dumps(items, ensure_ascii=False)


def _session_and_user(
    root: Node, views: Sequence[RunView], trace: TraceFacts, issues: list[Issue]
) -> dict[str, str]:
    """The trace's session and user, made to fit where MLflow could not open them."""
    session = trace.session
    if session is None:
        session = root.source.session()
    if session is None:
        session = _first(views, "session")
    metadata: dict[str, str] = {}
    for key, value in ((conv.TRACE_SESSION, session), (conv.TRACE_USER, _first(views, "user"))):
        if value is None or not (fit := _fitting_id(value)):
            continue
        metadata[key] = fit
        if fit != value.strip():
            what = f"has a {key.rpartition('.')[2]} id of {len(value):,} characters"
            sample = f"{value:.400}, kept as {fit}"
            kept = "one that MLflow can open"
            issues.append(_issue(root, Code.SESSION_ID_CHANGED, what, kept, sample))
    return metadata


def _first(views: Sequence[RunView], field: str) -> str | None:
    for view in views:
        if found := view.first(field):
            return str(found.value)
    return None


def _fitting_id(value: str) -> str:
    """A session or user id that MLflow 3.9 can open: at most 250 characters, no quote.

    Two long ids that begin alike stay two.
    """
    fit = encoding.clean_text(value).strip().replace("'", "_")
    if len(fit) <= conv.METADATA_CHARS:
        return fit
    digest = hashlib.sha256(fit.encode()).hexdigest()[:16]
    return f"{fit[: conv.METADATA_CHARS - 17]}-{digest}"


# ----------------------------------------------------------------------------- assessments


def _assessments(trace_id: str, nodes: Sequence[Node]) -> Iterable[AssessmentRecord]:
    """Yield the assessments of all nodes; those of the root are the trace's."""
    for node in nodes:
        end_ms = (node.end_ns or 0) // MS
        dated_ms = None if node.implausible else node.source.judged_ms()
        for judged in node.source.judgements():
            yield _assessment(trace_id, node, judged, dated_ms or end_ms)


def _assessment(trace_id: str, node: Node, judged: Judged, created_ms: int) -> AssessmentRecord:
    digest = hashlib.sha256(f"{trace_id}/{node.span_id}/{judged.origin}".encode())
    metadata = {"migrator.source": judged.origin}
    if judged.recorded:
        metadata["migrator.value"] = judged.recorded
    return AssessmentRecord(
        assessment_id=f"a-{digest.hexdigest()[:32]}",
        name=judged.name,
        type=judged.type,
        value=encoding.sanitize(judged.value),
        error=None,
        source_type=judged.source_type,
        source_id=judged.source_id,
        created_ms=created_ms,
        last_updated_ms=created_ms,
        span_id=None if node.is_root else node.span_id,
        rationale=judged.rationale or None,
        metadata=metadata,
    )


# ---------------------------------------------------------------------------------- issues


def _time_issues(nodes: Sequence[Node]) -> Iterable[Issue]:
    for node in nodes:
        if node.implausible:
            what = node.source.reported(node.implausible)
            kept = "a span within the time of its trace"
            yield _issue(node, Code.TIME_IMPLAUSIBLE, what, kept)
        if what := node.source.reversed_times():
            yield _issue(node, Code.SPAN_ENDS_BEFORE_START, what, "a span of the shortest length")


def _issue(node: Node, code: Code, what: str, kept: str, sample: str = "") -> Issue:
    run = node.view.run
    message = f"Run {run.run_id} {what}."
    return Issue(code, run.path, message, kept, Kind.RUN, run.run_id, sample=sample)
