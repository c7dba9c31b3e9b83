"""An hour's traces in minutes, with a server that dies: ``python bench/tracker_soak.py [traces]``.

A server of the installed MLflow takes the traces of a tracker (default 3,600: one a second for an
hour), is killed after a third of them and started again after two thirds. Then
``mlflow-migrate push`` sends on what went to the local database. Prints what became of the traces,
how long a workflow waited, and how much memory the process took; ends with 1 if a trace, a span or
a token is missing at the server. Needs nothing but the project; takes a folder's worth of disk.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient

from migrator.tracker import MLFlowTracker

NODES = 3
START_S = 120.0  # for the server to answer
EXPERIMENT = "soak"


class Server:
    """An MLflow server on a SQLite file, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._folder = folder

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self._port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}",
            "--artifacts-destination", str(self._folder / "artifacts"),
        ]  # fmt: skip
        log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
        )
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.uri}/health", timeout=1).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        raise RuntimeError(f"the server doesn't start; see {self._folder / 'server.log'}")

    def kill(self) -> None:
        """End it at once, with all its processes."""
        os.killpg(self._process.pid, 9)
        self._process.wait()


def stored(uri: str) -> Iterator[Any]:
    """Yield the traces of the soak at a server."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    token = None
    while experiment is not None:
        page = client.search_traces(
            locations=[experiment.experiment_id], max_results=100, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def run(tracker: MLFlowTracker, number: int) -> str:
    """Track one workflow; gives its trace's id."""
    with tracker.track_workflow({"number": number}, session=f"s-{number % 50}"):
        for node in range(NODES):
            with tracker.track_node(f"node{node}", "gpt-4o-mini"):
                tracker.log_node_metrics(100, 10, "gpt-4o-mini", 0, "prompt " * 20, "answer " * 50)
        tracker.finalize_workflow({"number": number})
    trace_id = tracker.last_trace_id
    assert trace_id is not None
    return trace_id


def memory_mb() -> float:
    """The most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Run it all; 1 if something is missing."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3_600
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder)
        server.start()
        try:
            return soak(server, folder, count)
        finally:
            server.kill()


def soak(server: Server, folder: Path, count: int) -> int:
    """Write the traces, push, and compare."""
    fallback = f"sqlite:///{folder / 'fallback.db'}"
    tracker = MLFlowTracker(
        {
            "enabled": True, "tracking_uri": server.uri, "fallback_uri": fallback,
            "experiment_name": EXPERIMENT,
        },
        {"flow": {"name": "soak"}},
    )  # fmt: skip
    waits: list[float] = []
    ids: list[str] = []
    started, at_start = time.monotonic(), memory_mb()
    for number in range(count):
        if number == count // 3:
            server.kill()
        if number == 2 * count // 3:
            server.start()
        begun = time.perf_counter()
        ids.append(run(tracker, number))
        waits.append(time.perf_counter() - begun)
        time.sleep(max(0.0, 0.02 - waits[-1]))
    tracker.flush()
    status = tracker.status()
    print(f"{count:,} workflows in {time.monotonic() - started:.0f} s: {status.delivered:,} at the "
          f"server, {status.in_fallback:,} in the fallback, {status.lost} lost")  # fmt: skip
    print(f"a workflow of {NODES} nodes waited {statistics.median(waits) * 1e3:.2f} ms (median), "
          f"{max(waits) * 1e3:.0f} ms (longest)")  # fmt: skip
    print(f"memory: {at_start:.0f} MB, then {memory_mb():.0f} MB")
    if (folder / "fallback.db").exists():
        push = [sys.executable, "-m", "migrator", "push", fallback, "--to", server.uri]
        print("push ends with", subprocess.run(push, check=False, capture_output=True).returncode)
    found = {trace.info.trace_id: trace for trace in stored(server.uri)}
    wrong = Counter(
        {
            "traces missing": len(set(ids) - found.keys()),
            "traces too many": len(found.keys() - set(ids)),
            "spans missing": sum(len(each.data.spans) != NODES + 1 for each in found.values()),
            "tokens wrong": sum(
                (each.info.token_usage or {}).get("total_tokens") != NODES * 110
                for each in found.values()
            ),
        }
    )
    for what, how_many in wrong.items():
        print(f"{what}: {how_many}")
    return int(status.lost > 0 or wrong.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
