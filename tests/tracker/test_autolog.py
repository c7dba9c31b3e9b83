"""Automatic instrumentation by name: what is not there is said, and harms nothing."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import trackerkit


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def test_integration_is_switched_on_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.openai  # the real module; its autolog needs openai, which tests don't install

    called: list[str] = []
    monkeypatch.setattr(mlflow.openai, "autolog", lambda: called.append("openai"))
    trackerkit.tracker(tmp_path, autolog_enabled=["openai"])
    trackerkit.tracker(tmp_path, autolog_enabled=False)
    assert called == ["openai"]


@pytest.mark.parametrize("name", ["no_such_integration", "broken_integration"])
def test_integration_that_is_missing_or_broken_is_said_and_tracking_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if name == "broken_integration":
        module = types.ModuleType(f"mlflow.{name}")
        module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, f"mlflow.{name}", module)  # has no autolog
    track = trackerkit.tracker(tmp_path, autolog_enabled=[name])
    with track.track_workflow({}):
        pass
    assert trackerkit.only(track)
    assert f"autologging of {name}" in caplog.text
