"""A Dask cluster without workers is an error in time. A fake client stands for the cluster."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.errors import OptionError, WorkerError
from migrator.workers import dask


class FakeClient:
    """Stands for ``distributed.Client``: ``threads`` of its one worker, None for no scheduler."""

    def __init__(self, threads: int | None) -> None:
        self.threads = threads
        self.scheduler = SimpleNamespace(addr="tcp://example:8786")
        self.versions: dict[str, object] = {}

    def get_executor(self, pure: bool) -> Executor:
        assert not pure
        return ThreadPoolExecutor(1)

    def nthreads(self) -> dict[str, int]:
        if self.threads is None:
            raise OSError("connection lost")
        return {"worker": self.threads} if self.threads else {}

    def run(self, call: object, on_error: str) -> dict[str, object]:
        return self.versions


def test_work_is_submitted_to_the_clients_executor() -> None:
    executor = dask.DaskExecutor(FakeClient(2))
    assert executor.submit(max, 3, 4).result(5) == 4
    assert executor.threads() == 2


def test_a_cluster_may_be_without_workers_for_a_while() -> None:
    client = FakeClient(0)
    executor = dask.DaskExecutor(client)
    executor.check()
    executor._patience = -1
    with pytest.raises(WorkerError, match="has had no worker"):
        executor.check()
    client.threads = 1
    executor.check()


def test_a_scheduler_that_is_gone_is_an_error_at_once() -> None:
    with pytest.raises(WorkerError, match="scheduler is gone"):
        dask.DaskExecutor(FakeClient(None)).check()


def test_a_scheduler_file_names_the_address(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://10.0.0.1:8786"}')
    assert dask._address(str(file)) == "tcp://10.0.0.1:8786"
    assert dask._address("tcp://host:8786") == "tcp://host:8786"
    file.write_text("[]")
    with pytest.raises(OptionError, match="scheduler file"):
        dask._address(str(file))


@pytest.mark.parametrize("found", ["0.0.1", ImportError("no module")])
def test_workers_with_another_version_are_refused(found: object) -> None:
    client: Any = FakeClient(1)
    client.versions = {"tcp://a:1": dask.version()}
    dask._check_versions(client)
    client.versions["tcp://b:1"] = found
    with pytest.raises(WorkerError, match="tcp://b:1"):
        dask._check_versions(client)
