"""Whatever a caller hands over is shown or cut, and never raises into the workflow."""

from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

from migrator.tracker.values import MAX_CHARS, MAX_ITEMS, plain
from tests.support import trackerkit
from tests.support.trackerkit import tracker

MINI = "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def broken(*names: str, base: type = object) -> Any:
    """An object whose methods of these names raise."""

    def fails(self: Any, *args: Any) -> Any:
        raise RuntimeError("not now")

    return type("Broken", (base,), dict.fromkeys(names, fails))()


class Unbound:
    """A proxy of something that isn't there: ``isinstance`` raises."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("working outside of request context")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


UNBOUND = Unbound()

BROKEN: dict[str, Any] = {
    "repr": broken("__repr__"),
    "str": broken("__str__", "__repr__"),
    "iter": broken("__iter__", "__len__", "__repr__", base=list),
    "len": broken("__len__", "__bool__", "__str__"),
    "mapping": broken("__iter__", "__len__", "__getitem__", "items", base=dict),
    "attributes": broken("__getattr__", "__str__"),
    "text": broken("__str__", "__len__", base=str),
    "hash": broken("__hash__", "__eq__", "__str__"),
    "class": UNBOUND,
}


@pytest.mark.parametrize("name", BROKEN)
def test_object_that_cannot_be_shown_is_shown_as_its_type(name: str, tmp_path: Path) -> None:
    odd = BROKEN[name]
    track = tracker(tmp_path, artifact_level="full")
    reached = []

    @track.trace
    def function(value: Any) -> Any:
        return value

    @track.trace
    def stream(value: Any) -> Iterator[Any]:
        yield value

    with track.track_workflow({"odd": odd, "n": 1}, session=odd, user=odd, tags={"t": odd}):
        with track.track_node(odd, odd, tools=[odd, "search"], node_config=odd):
            track.log_node_metrics(1, 2, MINI, prompt=odd, response=odd)
        with track.track_node("odd tools", MINI, tools=odd):
            track.log_node_metrics(usage=odd, model=MINI)
        with track.span("step", inputs=odd, fact=odd) as step:
            step.set_outputs({"odd": [odd]})
            step.set_attribute("odd", odd)
            step.record_usage(odd)
            step.record_exception(ValueError(odd))
        function(odd)
        list(stream(odd))
        with track.llm(odd, odd, odd, odd) as call, track.tool(odd, odd), track.retriever(odd, odd):
            call.record_usage(odd, model=odd, provider=odd)
        track.track_provider_call(odd, odd, odd)
        track.feedback(name="odd", value=odd, rationale=odd, metadata=odd)
        track.finalize_workflow({"odd": odd, "n": 2}, odd)
        reached.append(True)
    with track.track_workflow(odd, tags=odd):
        reached.append(True)
    assert len(reached) == 2
    trace = trackerkit.traces(track)[0]
    root = trace.data.spans[0]
    assert root.inputs["n"] == 1 and root.outputs["n"] == 2
    assert {"odd tools", "step", "function", "stream"} <= {span.name for span in trace.data.spans}
    if name in ("str", "len", "attributes", "hash"):
        assert "Broken" in root.inputs["odd"]
    if name == "class":
        assert root.inputs["odd"].endswith(".Unbound>")
    assert trace.info.trace_metadata["mlflow.trace.session"]


def test_broken_configuration_of_the_workflow_does_no_harm(tmp_path: Path) -> None:
    uri = trackerkit.database(tmp_path)
    from migrator.tracker import MLFlowTracker

    for flow in (BROKEN["attributes"], {"flow": BROKEN["mapping"], "nodes": BROKEN["iter"]}):
        track = MLFlowTracker({"enabled": True, "tracking_uri": uri}, flow)
        with track.track_workflow({"n": 1}):
            pass
        assert track.flush(120) and track.status().errors == 0
    assert len(trackerkit.stored(uri)) == 2


HUGE: dict[str, Callable[[], Any]] = {
    "keys": lambda: {f"key{index}": index for index in range(300_000)},
    "nested keys": lambda: {"a": [{f"key{index}": [index] for index in range(300_000)}]},
    "items": lambda: list(range(3_000_000)),
    "text": lambda: "word and " * 5_500_000,
    "many texts": lambda: ["word and " * 5_500] * 1_000,
    "bytes": lambda: b"\x00\xff" * 25_000_000,
    "encoded bytes": lambda: "QUJD" * 12_500_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_value_is_cut_before_it_is_copied(name: str, tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({"warm": "up"}):
        pass
    assert track.flush(120)
    value = HUGE[name]()
    tracemalloc.start()
    with track.track_workflow({"value": value}):
        pass
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 12_000_000  # of up to a hundred million
    assert track.flush(120)
    trace = trackerkit.traces(track)[-1]
    assert len(str(trace.data.spans[0].inputs)) < 2_000_000


def test_what_is_cut_says_so() -> None:
    keys = plain({f"k{index}": index for index in range(MAX_ITEMS + 5)})
    assert len(keys) == MAX_ITEMS + 1 and keys["…"] == "5 more keys"
    items = plain(list(range(MAX_ITEMS + 7)))
    assert len(items) == MAX_ITEMS + 1 and items[-1] == "… 7 more items"
    text = plain("word " * MAX_CHARS)
    assert text.startswith("word word") and text.endswith(f"… ({5 * MAX_CHARS:,} characters)")
    first, *_, last = plain([{"a": 1, "b": 2}] * MAX_ITEMS)
    assert first == {"a": 1, "b": 2}  # the first ones whole, not all of them in part
    assert last.endswith("more items")


def test_a_text_that_takes_all_room_leaves_the_keys_behind_it() -> None:
    shown = plain({"document": "word " * MAX_CHARS, "next": "word", "text": "some", "n": 1})
    assert list(shown) == ["document", "next", "text", "n"]
    assert shown["document"].endswith(f"… ({5 * MAX_CHARS:,} characters)")
    assert (shown["next"], shown["n"]) == ("… (4 characters)", 1)
    many = plain({f"{index:1000}": 1 for index in range(3 * MAX_CHARS // 1000)})
    assert len(many) == MAX_CHARS // 1000 + 1 and many["…"] == "2,000 more keys"


def test_a_queue_is_shown_by_its_items() -> None:
    assert plain(deque([1, {"a": 2}])) == [1, {"a": 2}]
    assert plain(deque(range(MAX_ITEMS + 7)))[-1] == "… 7 more items"


def test_media_is_shown_by_size_and_digest() -> None:
    content = bytes(range(256)) * 100
    digest = hashlib.sha256(content).hexdigest()[:16]
    assert plain(content) == plain(bytearray(content)) == f"<25,600 bytes, sha256 {digest}>"
    url = "data:image/png;base64," + "QUJD" * 2_000
    shown = plain([{"type": "image_url", "image_url": {"url": url}}])[0]["image_url"]["url"]
    assert shown.startswith("data:image/png;base64,<8,000 encoded characters, sha256 ")
    assert plain({"data": "QUJD" * 2_000})["data"].startswith("<8,000 encoded characters")
    words = "Zurich grows and grows " * 400
    assert plain(words) == words
    assert plain("data:image/png;base64,QUJD") == "data:image/png;base64,QUJD"


def test_models_and_dataclasses_are_shown_by_their_fields() -> None:
    @dataclasses.dataclass
    class Point:
        x: int
        inner: Any

    class Node(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        name: str
        hidden: str = pydantic.Field("secret", exclude=True)
        key: pydantic.SecretStr = pydantic.SecretStr("hunter2")

    more = {"name": "n", "more": [SimpleNamespace(a=1)]}
    shown = plain({"p": Point(1, Node.model_validate(more))})
    assert shown["p"]["x"] == 1
    assert shown["p"]["inner"] == {"name": "n", "key": "**********", "more": ["namespace(a=1)"]}


def test_any_mapping_is_shown_by_its_keys() -> None:
    class Lazy(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            return iter("ab")

        def __len__(self) -> int:
            return 2

    assert plain(Lazy()) == {"a": 1, "b": 1}
