"""The workflow that the two tracked examples are about. It answers offline, and tracks nothing."""

from __future__ import annotations

from dataclasses import dataclass

FLASH, PRO = "gemini-1.5-flash", "gemini-1.5-pro"
CONFIG = {
    "flow": {"name": "article_writer", "version": "1.0.0"},
    "schema_version": "1.0",
    "config": {"llm": {"provider": "google", "model": FLASH, "temperature": 0.7}},
    "nodes": ["research", "write"],
}


@dataclass
class Message:
    """What a model says, with the tokens it took, as LangChain's messages have them."""

    content: str
    usage_metadata: dict[str, int]


def ask(model: str, prompt: str) -> Message:
    """Stand in for a model: a token for each word."""
    content = f"{model} on: {prompt}"
    counts = len(prompt.split()), len(content.split())
    return Message(content, {"input_tokens": counts[0], "output_tokens": counts[1]})


def search(query: str) -> list[str]:
    """Stand in for a search engine."""
    return [f"{query} grow", f"{query} are old"]


def write_article(topic: str) -> dict[str, str]:
    """Run the workflow untracked: search, take notes, write."""
    state = {"topic": topic}
    documents = search(topic)
    prompt = f"Take notes: {', '.join(documents)}"
    message = ask(FLASH, prompt)
    state["notes"] = message.content
    prompt = f"Write an article. {state['notes']}"
    message = ask(PRO, prompt)
    state["article"] = message.content
    return state
