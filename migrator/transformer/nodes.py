"""The nodes of a trace: one for each span, made from the runs of a tree and the calls in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from migrator import encoding
from migrator.model import Json
from migrator.transformer.choosing import ReadTree
from migrator.transformer.found import Status, Step, Tokens
from migrator.transformer.node_sources import NativeTraces, NodeSource, Place, RunSource, StepSource
from migrator.transformer.run_view import RunView
from migrator.transformer.steps import TABLE_ROWS, recorded_calls, tool_steps, whole_tokens
from migrator.transformer.steps.pairs import pairs_of, steps_of_pairs

UNKNOWN_STATUS = Status("UNSET", "", False)


@dataclass(slots=True, eq=False)
class Node:
    """A span in the making. The passes over a trace's nodes fill in what they find."""

    source: NodeSource
    parent: int | None  # index into the trace's nodes, always smaller than the node's own
    children: list[Node] = field(default_factory=list)
    records_calls: bool = False  # some of the children are calls that its run recorded
    dates_calls: bool = False  # and they have times
    has_own_call: bool = False  # its run's own tokens are those of a call, which is a child
    is_own_call: bool = False  # a call that its parent made itself: of a model, or of a tool
    previous: Node | None = None  # the step before it, whose answer was what it was given

    inferences: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)  # where each part of the span stands

    # set by ``timing``
    start_ns: int | None = None
    end_ns: int | None = None
    post_hoc_ms: float | None = None  # the duration by which its start was moved back
    no_end: bool = False
    shift_ns: int = 0  # by which it was moved into its parent, with all that is dated in it
    implausible: str = ""  # what is wrong with its recorded time; empty: nothing

    # set by ``passes``
    name: str = ""
    status: Status = UNKNOWN_STATUS
    whole_tokens: Tokens | None = None  # of all its calls, where some can't be assigned to one
    usage: dict[str, Json] = field(default_factory=dict)  # under MLflow's keys; empty: none
    tokens_below: float | None = None  # the sum over all spans below; None: they have no usage
    cost: dict[str, Json] = field(default_factory=dict)  # under MLflow's keys; empty: none
    is_cost_below: bool = False
    is_model_below: bool = False
    span_id: str = ""
    parent_span_id: str | None = None

    # set by ``spans``
    inputs: Json = None
    outputs: Json = None
    is_for_next_step: bool = False  # the outputs, by their name
    is_judgement: bool = False  # on the outputs of other steps

    @property
    def view(self) -> RunView:
        """The run, or the run that recorded the call."""
        return self.source.view

    @property
    def is_tool_call(self) -> bool:
        """Whether it is a tool's call that its parent lists."""
        return self.is_own_call and self.source.is_of_tool

    @property
    def is_root(self) -> bool:
        return self.parent is None

    @property
    def place(self) -> Place:
        return Place(
            is_root=self.parent is None, is_leaf=all(child.is_tool_call for child in self.children)
        )


@dataclass(frozen=True, slots=True)
class Story:
    """The nodes of one trace, parents before children, and the id of the trace."""

    trace_id: str
    nodes: list[Node]


def stories(tree: ReadTree, unit: str, natives: NativeTraces) -> Iterable[Story]:
    """Yield the traces that a run and those below it make.

    That is one, but a childless run whose files tell of several calls is as many traces.
    """
    view = tree.views[unit]
    steps = tree.steps_of(view)
    has_rows = view.profile.steps == TABLE_ROWS
    is_apart = has_rows or not tree.live.children.get(unit)
    if not (steps and is_apart):
        yield Story(encoding.trace_id_of(unit), _nodes(tree, unit, natives))
        return
    for number, step in enumerate(steps):
        nodes: list[Node] = []
        _add_steps(nodes, RunSource(view, natives), None, [step])
        if len(steps) > 1:
            nodes[0].inferences.append(f"one of {len(steps)} calls that the run recorded")
        is_first = number == 0 and not has_rows
        yield Story(encoding.trace_id_of(unit if is_first else f"{unit}/{step.key}"), nodes)


def _nodes(tree: ReadTree, top: str, natives: NativeTraces) -> list[Node]:
    """Make a node for each run from ``top`` down, and for each call that they recorded."""
    nodes: list[Node] = []
    stack: list[tuple[str, int | None]] = [(top, None)]
    while stack:
        run_id, parent = stack.pop()
        index = len(nodes)
        source = RunSource(tree.views[run_id], natives)
        node = add_node(nodes, source, parent)
        if run_id in tree.live.inferred:
            node.inferences.append(f"parent: {tree.live.inferred[run_id]}")
        steps = tree.steps_of(source.view)
        if not steps and (steps := recorded_calls(source.view)):
            is_counted = bool(natives.written_in(source.run))  # in MLflow's own trace
            node.whole_tokens = None if is_counted else whole_tokens(source.view)
        node.dates_calls = bool(steps)
        children = tree.live.children.get(run_id, ())
        if not steps and not children:
            source.pairs = pairs_of(source.view)
            steps = tuple(steps_of_pairs(source.pairs))
        if steps:
            node.inferences.append(f"{len(steps)} calls in one run: a span for each")
        _add_steps(nodes, source, index, steps)
        for step in tool_steps(source.view):
            tool = add_node(nodes, StepSource(source.view, natives, step), index)
            tool.is_own_call = True
        stack.extend((child, index) for child in reversed(children))
    return nodes


def _add_steps(
    nodes: list[Node], source: RunSource, parent: int | None, steps: Iterable[Step]
) -> None:
    """Add the calls that a run recorded, each before those below it."""
    todo = [(step, parent) for step in reversed(list(steps))]
    while todo:
        step, above = todo.pop()
        index = len(nodes)
        add_node(nodes, StepSource(source.view, source.natives, step), above)
        if above is not None:
            nodes[above].records_calls = True
        todo.extend((below, index) for below in reversed(step.steps))


def add_node(nodes: list[Node], source: NodeSource, parent: int | None) -> Node:
    """Append a node below the one at index ``parent``."""
    node = Node(source, parent)
    nodes.append(node)
    if parent is not None:
        nodes[parent].children.append(node)
    return node
