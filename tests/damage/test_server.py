"""Converting into the database of a real MLflow server, while it serves and while it writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator.cli import main
from tests.support.damagekit import Spot, build
from tests.support.loaderkit import query
from tests.support.mlflow_server import Server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("busy"))
    started.start()
    yield started
    started.kill()


class Writer(threading.Thread):
    """Logs runs through the server, one after the other, until it is told to stop."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        super().__init__()
        self.client, self.experiment_id = client, experiment_id
        self.logged: list[str] = []
        self.failures: list[Exception] = []
        self.stopped = threading.Event()
        self.begun = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                run_id = self.client.create_run(self.experiment_id).info.run_id
                self.client.log_metric(run_id, "m", 1.0)
                self.client.set_terminated(run_id)
            except Exception as error:  # noqa: BLE001  # each one is told below
                self.failures.append(error)
            else:
                self.logged.append(run_id)
            self.begun.set()


def test_a_server_serves_and_writes_while_a_store_is_converted_into_its_database(
    server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "mlruns"
    spots = [Spot(root, number) for number in range(1, 7)]
    for spot in spots:
        build(spot)
    client = MlflowClient(server.uri)
    writer = Writer(client, client.create_experiment("of the server"))
    writer.start()
    assert writer.begun.wait(30)
    target = server.database
    try:
        results = [
            CliRunner().invoke(
                main,
                ["convert", str(root), "--to", target, "--report", str(tmp_path / f"{n}.json")],
            )
            for n in range(2)
        ]
    finally:
        writer.stopped.set()
        writer.join()
    for result in results:
        assert result.exit_code == 0, result.output
    assert writer.failures == [] and len(writer.logged) > 1
    for run_id in writer.logged:
        assert client.get_run(run_id).data.metrics == {"m": 1.0}
    for spot in spots:
        assert client.get_run(spot.id("train")).data.params["lr"] == "0.1"
    shown = client.search_traces(locations=[spots[0].exp])
    assert {trace.info.trace_id for trace in shown} == {
        spots[0].trace_id,
        f"tr-{spots[0].id('flow')}",
    }
    path = Path(target.removeprefix("sqlite:///"))
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    backups = [each.name for each in path.parent.glob(f"{path.name}.backup-*")]
    assert len(backups) == 1, "the second conversion changed nothing"
