"""A connection to an MLflow server that is not there: it records calls and gives set answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from migrator.errors import TargetError


@dataclass
class FakeStore:
    """Has every method. ``answers`` gives results by name: a value, an error, or a function."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def ask(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, arguments))
            answer = self.answers.get(name)
            if callable(answer):
                answer = answer(*arguments, **named)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of one method, in order."""
        return [arguments for called, arguments in self.calls if called == name]


@dataclass
class FakeConnection:
    """Stands for ``loader.rest.connection.Connection``. ``listed`` is what its listings yield."""

    store: FakeStore = field(default_factory=FakeStore)
    registry: FakeStore = field(default_factory=FakeStore)
    listed: dict[str, Sequence[Any]] = field(default_factory=dict)
    release: tuple[int, int] = (3, 9)
    shown: str = "http://example.com"
    is_here: bool = False
    settled: int = 0  # how often it was asked to wait

    def call(self, ask: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return ask(*arguments, **named)

    def each(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [work(item) for item in items]

    def lost(self, why: str, todo: str = "") -> TargetError:
        return TargetError(why, todo=todo)

    def settle(self) -> bool:
        self.settled += 1
        return True

    def experiments(self) -> Iterable[Any]:
        return self.listed.get("experiments", ())

    def runs(self, experiment_id: str) -> Iterable[Any]:
        return self.listed.get("runs", ())

    def traces(self, experiment_id: str) -> Iterable[Any]:
        return self.listed.get("traces", ())

    def logged_models(self, experiment_id: str) -> Iterable[Any]:
        return self.listed.get("models", ())

    def metric_history(self, run_id: str, key: str) -> Iterable[Any]:
        return self.listed.get(key, ())


def run_on_server(run_id: str, tags: dict[str, str], stage: str = "active", **data: Any) -> Any:
    """A run as MLflow's client gives it."""
    info = SimpleNamespace(
        run_id=run_id, lifecycle_stage=stage, status="FINISHED", start_time=None, end_time=None
    )
    data = {"params": {}, "metrics": {}, **data}
    info.__dict__.update(data.pop("info", {}))
    return SimpleNamespace(
        info=info,
        data=SimpleNamespace(tags=tags, **data),
        inputs=SimpleNamespace(dataset_inputs=[]),
    )
