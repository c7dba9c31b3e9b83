"""The article writer, tracked in SQLite: a trace for each article, a span for each node.

The answers come from a table, so that it runs without a network; ask a model of yours instead.
"""

from __future__ import annotations

import sys
from typing import Any

from migrator.tracker import MLFlowTracker

SETTINGS = {
    "enabled": True,
    "tracking_uri": "sqlite:///mlflow.db",
    "experiment_name": "configurable_agents",
}
WORKFLOW = {
    "flow": {"name": "article_writer", "version": "2.0.0"},
    "schema_version": "1.0",
    "config": {"llm": {"provider": "google", "model": "gemini-1.5-flash"}},
    "nodes": ["research", "write"],
}
ANSWERS = {
    "research": ("Bees dance to tell where flowers are.", 212, 41),
    "write": ("Follow a bee home, and you will see it dance.", 305, 118),
}


def ask(node: str, prompt: str) -> dict[str, Any]:
    """Answer as a LangChain chat model would: a content, and how many tokens it took."""
    text, read, written = ANSWERS[node]
    return {"content": text, "usage_metadata": {"input_tokens": read, "output_tokens": written}}


def write_article(tracker: MLFlowTracker, topic: str) -> str:
    """Run the workflow once, and return the article."""
    with tracker.track_workflow({"topic": topic}, session="newsletter-7", user="ana"):
        text = topic
        for node, model in (("research", "gemini-1.5-flash"), ("write", "gemini-1.5-pro")):
            with tracker.track_node(node, model):
                prompt = f"{node}: {text}"
                answer = ask(node, prompt)
                text = answer["content"]
                tracker.log_node_metrics(model=model, prompt=prompt, response=text, usage=answer)
        tracker.finalize_workflow({"article": text})
    return text


def main() -> None:
    """Write one article, and say what it cost."""
    tracker = MLFlowTracker(SETTINGS, WORKFLOW)
    write_article(tracker, " ".join(sys.argv[1:]) or "bees")
    tracker.flush()
    total = tracker.cost_summary()["total"]
    print(f"{tracker.last_trace_id}: {total['total_tokens']} tokens, ${total['cost_usd']:.6f}")


if __name__ == "__main__":
    main()
