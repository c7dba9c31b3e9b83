"""Two conversions at once into one server: the second waits, and a killed one blocks nobody."""

from __future__ import annotations

import threading

import pytest
from mlflow import MlflowClient

from migrator.errors import TargetError
from migrator.loader.rest import connection, lock
from tests.support.mlflow_server import Server

pytestmark = [pytest.mark.xdist_group("targets_people_server"), pytest.mark.long]


@pytest.fixture
def opened(running: Server, monkeypatch: pytest.MonkeyPatch) -> connection.Connection:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(lock, "_LOOK_S", 0.05)
    monkeypatch.setattr(lock, "_BEAT_S", 0.05)
    running.empty()
    return connection.open_server(running.uri)


def test_the_second_waits_for_the_first_and_says_so(opened: connection.Connection) -> None:
    order, said, inside = list[str](), list[str](), threading.Event()

    def second() -> None:
        def say(text: str) -> None:
            said.append(text)
            inside.set()

        with lock.alone(opened, say):
            order.append("second")

    other = threading.Thread(target=second)
    with lock.alone(opened, said.append):
        other.start()
        assert inside.wait(30), "the second one did not wait"
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
    assert len(said) == 1 and "into the same server" in said[0]
    client = MlflowClient(opened.uri)
    assert [model.name for model in client.search_registered_models()] == []


def test_the_lock_of_a_killed_conversion_is_taken_over(
    opened: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_GONE_S", 0.5)
    client = MlflowClient(opened.uri)
    client.create_registered_model(lock.LOCK, tags={"owner": "a killed one"})
    said = list[str]()
    with lock.alone(opened, said.append):
        (mine,) = client.search_registered_models()
        assert mine.tags["owner"] != "a killed one"
    assert "a killed one" in said[0]


def test_one_that_lasts_too_long_is_an_error(
    opened: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_WAIT_S", 0.2)
    MlflowClient(opened.uri).create_registered_model(lock.LOCK, tags={"owner": "node7/12"})
    why = "node7/12 has been writing into it for more than"
    with pytest.raises(TargetError, match=why), lock.alone(opened, lambda text: None):
        pytest.fail("two at once")


def test_a_long_one_keeps_its_lock(
    opened: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_GONE_S", 2.0)
    monkeypatch.setattr(lock, "_WAIT_S", 6.0)
    second = lock.alone(opened, lambda text: None)
    with lock.alone(opened, lambda text: None), pytest.raises(TargetError), second:
        pytest.fail("two at once")
