"""After: the workflow on the new tracker. It is one trace; `mlflow ui` shows it beside history.

python docs/examples/workflow.py
"""

from __future__ import annotations

from article import CONFIG, FLASH, PRO, ask, search

from migrator.tracker import MLFlowTracker

tracker = MLFlowTracker({"enabled": True, "tracking_uri": "sqlite:///mlflow.db"}, CONFIG)


def write_article(topic: str) -> dict[str, str]:
    """Run the workflow, tracked as a trace."""
    state = {"topic": topic}
    with tracker.track_workflow(inputs={"topic": topic}):
        with tracker.track_node("research", FLASH, tools=["search"]):
            with tracker.tool("search", {"query": topic}) as span:
                documents = search(topic)
                span.set_outputs({"documents": documents})
            prompt = f"Take notes: {', '.join(documents)}"
            message = ask(FLASH, prompt)
            tracker.log_node_metrics(
                model=FLASH, prompt=prompt, response=message.content, usage=message
            )
            state["notes"] = message.content
        with tracker.track_node("write", PRO):
            prompt = f"Write an article. {state['notes']}"
            message = ask(PRO, prompt)
            tracker.log_node_metrics(
                model=PRO, prompt=prompt, response=message.content, usage=message
            )
            state["article"] = message.content
        tracker.finalize_workflow(state)
    return state


def report() -> str:
    """Say what the last workflow cost."""
    total = tracker.cost_summary()["total"]
    return f"{total['total_tokens']} tokens, ${total['cost_usd']:.6f}"


if __name__ == "__main__":
    write_article("Cities")
    print(report())
