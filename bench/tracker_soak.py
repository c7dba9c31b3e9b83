"""An hour's traces in minutes, with a server in trouble: ``python bench/tracker_soak.py [traces]``.

A server of the installed MLflow takes the traces of a tracker (default 3,600: one a second for an
hour). It works for a sixth of them, is killed, started again, stopped for moments again and again,
can't make its database larger (a full disk; on Linux), and works again. The tracker sends on what
went to its fallback in the meantime (``resend: true``). Then all is counted through MLflow's
client, and pushed once more, which must change nothing. Prints what became of the traces, how long
a workflow waited, and how much memory the process took; ends with 1 if a trace, a span, a token or
feedback is missing at the server, or there twice. Needs nothing but the project; takes a folder's
worth of disk.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient

from migrator.tracker import MLFlowTracker, delivery

NODES = 3
PACE_S = 0.02  # from one workflow to the next
LIMIT_S = 2.0  # server_timeout_s
START_S = 120.0  # for the server to answer
SETTLE_S = 1_800.0  # for the tracker to send everything on
STOPPED_S, GOING_S = 1.5, 0.5  # of a server that is slow
RETRY_S = 5.0  # at most until a server that is gone is asked again: its hour is minutes
EXPERIMENT = "soak"


class Server:
    """An MLflow server on a SQLite file, one process, which can be brought into trouble."""

    def __init__(self, folder: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._database = folder / "server.db"
        self._slow: threading.Event | None = None  # set to end it

    def start(self) -> None:
        """Start it, and wait until it answers."""
        store = f"sqlite:///{self._database}"
        environment = {
            **os.environ,
            "_MLFLOW_SERVER_FILE_STORE": store,
            "_MLFLOW_SERVER_REGISTRY_STORE": store,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(self._folder / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        command = [
            sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app",
            "--host", "127.0.0.1", "--port", str(self._port), "--log-level", "error",
        ]  # fmt: skip
        log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=self._folder
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
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def slow_down(self) -> None:
        """Stop it for moments, again and again, until ``speed_up``."""
        over = self._slow = threading.Event()

        def stop_and_go() -> None:
            while not over.is_set():
                self._process.send_signal(signal.SIGSTOP)
                over.wait(STOPPED_S)
                self._process.send_signal(signal.SIGCONT)
                over.wait(GOING_S)

        threading.Thread(target=stop_and_go, daemon=True).start()

    def speed_up(self) -> None:
        """Undo ``slow_down``."""
        if self._slow is not None:
            self._slow.set()

    def fill_disk(self) -> None:
        """Let its database become no larger, until ``free_disk``."""
        self._limit_files(self._database.stat().st_size)

    def free_disk(self) -> None:
        """Undo ``fill_disk``."""
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        if sys.platform == "linux":
            limits = (size, resource.RLIM_INFINITY)
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limits)
        else:
            print("only Linux can limit the files of another process: no full disk")


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
    """Track one workflow, with feedback on each third; gives its trace's id."""
    with tracker.track_workflow({"number": number}, session=session_of(number)) as workflow:
        for node in range(NODES):
            with tracker.track_node(f"node{node}", "gpt-4o-mini"):
                tracker.log_node_metrics(100, 10, "gpt-4o-mini", 0, "prompt " * 20, "answer " * 50)
        tracker.finalize_workflow({"number": number})
    if has_feedback(number):
        tracker.feedback("helpful", number % 2 == 0, source="HUMAN", source_id="ana")
    assert workflow.trace_id is not None
    return workflow.trace_id


def session_of(number: int) -> str:
    """Which session a workflow belongs to."""
    return f"s-{number % 50}"


def has_feedback(number: int) -> bool:
    """Whether a person says something on a workflow."""
    return number % 3 == 0


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
            server.speed_up()
            server.kill()


def soak(server: Server, folder: Path, count: int) -> int:
    """Write the traces in each phase of the server's day, and compare."""
    delivery.LONGEST_RETRY_S = RETRY_S
    fallback = f"sqlite:///{folder / 'fallback.db'}"
    tracker = MLFlowTracker(
        {
            "enabled": True, "tracking_uri": server.uri, "fallback_uri": fallback,
            "experiment_name": EXPERIMENT, "resend": True, "server_timeout_s": LIMIT_S,
        },
        {"flow": {"name": "soak"}},
    )  # fmt: skip
    phases: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("works", _nothing, _nothing),
        ("is killed", server.kill, server.start),
        ("works again", _nothing, _nothing),
        ("is slow", server.slow_down, server.speed_up),
        ("has a full disk", server.fill_disk, server.free_disk),
        ("works in the end", _nothing, _nothing),
    ]
    waits: list[float] = []
    ids: dict[str, int] = {}
    started, at_start = time.monotonic(), memory_mb()
    for phase, (name, begin, end) in enumerate(phases):
        begin()
        for number in range(phase * count // len(phases), (phase + 1) * count // len(phases)):
            begun = time.perf_counter()
            ids[run(tracker, number)] = number
            waits.append(time.perf_counter() - begun)
            time.sleep(max(0.0, PACE_S - waits[-1]))
        tracker.flush(60)  # so that much of the phase's traces meets the phase's server
        print(f"{time.monotonic() - started:6.0f} s: the server {name}; {_words(tracker)}")
        end()
    _settle(tracker)
    print(f"{time.monotonic() - started:6.0f} s: settled; {_words(tracker)}")
    print(f"a workflow of {NODES} nodes waited {statistics.median(waits) * 1e3:.2f} ms (median), "
          f"{max(waits) * 1e3:.0f} ms (longest)")  # fmt: skip
    print(f"memory: {at_start:.0f} MB, then {memory_mb():.0f} MB")
    wrong = faults(server.uri, ids)
    if (folder / "fallback.db").exists():
        push = [sys.executable, "-m", "migrator", "push", fallback, "--to", server.uri]
        done = subprocess.run(push, check=False, capture_output=True, text=True)
        print("push:", (done.stdout or done.stderr).strip().splitlines()[-1])
        for what, how_many in faults(server.uri, ids).items():
            wrong[f"{what} after a push"] = how_many
    status = tracker.status()
    wrong["lost, as the status says"] = status.lost
    wrong["other than the status says"] = abs(status.delivered - count)
    for what, how_many in wrong.items():
        print(f"{what}: {how_many}")
    return int(wrong.total() > 0)


def _nothing() -> None:
    pass


def _words(tracker: MLFlowTracker) -> str:
    status = tracker.status()
    return (
        f"{status.delivered:,} there, {status.in_fallback:,} in the fallback, "
        f"{status.pending:,} pending, {status.lost} lost"
    )


def _settle(tracker: MLFlowTracker) -> None:
    """Wait until the tracker has sent everything to the server."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        tracker.flush(10)
        status = tracker.status()
        if not (status.pending or status.in_fallback or status.fallback_reason):
            return
        time.sleep(0.5)


def faults(uri: str, ids: dict[str, int]) -> Counter[str]:
    """Count what the server lacks, or has too much, of the traces with these ids and numbers."""
    listed = list(stored(uri))
    found = {trace.info.trace_id: trace for trace in listed}
    wrong = Counter(
        {
            "traces missing": len(ids.keys() - found.keys()),
            "traces too many": len(found.keys() - ids.keys()),
            "traces twice": len(listed) - len(found),
            "traces with other spans": 0,
            "traces with other tokens": 0,
            "traces with another session or state": 0,
            "traces with other feedback": 0,
        }
    )
    for trace_id in ids.keys() & found.keys():
        number, trace = ids[trace_id], found[trace_id]
        info = trace.info
        marks = ["cost_usd", "cost_usd_micro", "total_tokens"]
        if has_feedback(number):
            marks.insert(2, "helpful")
        tokens = (info.token_usage or {}).get("total_tokens")
        session = info.trace_metadata.get("mlflow.trace.session")
        wrong["traces with other spans"] += len(trace.data.spans) != NODES + 1
        wrong["traces with other tokens"] += tokens != NODES * 110
        is_labelled = session == session_of(number) and info.state == "OK"
        wrong["traces with another session or state"] += not is_labelled
        given = sorted(each.name for each in info.assessments)
        wrong["traces with other feedback"] += given != marks
    return wrong


if __name__ == "__main__":
    sys.exit(main())
