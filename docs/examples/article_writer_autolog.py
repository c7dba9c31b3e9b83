"""The article writer as a LangGraph graph: MLflow traces its nodes and models by itself.

The tracker adds the workflow around them. The models are LangChain's own that answer from a list;
needs the extra ``langgraph``.
"""

from __future__ import annotations

from typing import TypedDict

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph

from migrator.tracker import MLFlowTracker

SETTINGS = {
    "enabled": True,
    "tracking_uri": "sqlite:///mlflow.db",
    "experiment_name": "articles",
    "autolog_enabled": True,
}


class State(TypedDict, total=False):
    """What the nodes hand on."""

    topic: str
    facts: str
    article: str


def model(text: str, read: int, written: int) -> GenericFakeChatModel:
    """Return a chat model that gives one answer and says how many tokens it took."""
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    return GenericFakeChatModel(messages=iter([AIMessage(text, usage_metadata=usage)]))


def research(state: State) -> State:
    """Find out about the topic."""
    answer = model("Bees dance.", 212, 41).invoke(f"What is known of {state['topic']}?")
    return {"facts": str(answer.content)}


def write(state: State) -> State:
    """Make an article of what was found out."""
    answer = model("Follow a bee home.", 305, 118).invoke(f"Write: {state['facts']}")
    return {"article": str(answer.content)}


def main() -> None:
    """Write one article."""
    graph = StateGraph(State)
    graph.add_node("research", research)
    graph.add_node("write", write)
    graph.add_edge(START, "research")
    graph.add_edge("research", "write")
    graph.add_edge("write", END)
    tracker = MLFlowTracker(SETTINGS, {"flow": {"name": "article_writer"}})
    with tracker.track_workflow({"topic": "bees"}):
        state = graph.compile().invoke({"topic": "bees"})
        tracker.finalize_workflow(state)
    tracker.flush()
    print(f"{tracker.last_trace_id}: {tracker.cost_summary()['total']['total_tokens']} tokens")


if __name__ == "__main__":
    main()
