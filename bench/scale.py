"""What a migration of millions of runs takes: measured at a small size, simulated at the large.

    python -m bench.scale measure 10000 --postgresql URI --json scale.json
    python -m bench.scale plan scale.json --runs 10000000 --shards 1 4 16 64 --workers 4

``measure`` takes each stage of a conversion by itself, on a store of ``bench.stores``: the walk
(which every shard does for the whole store), reading and planning (which processes share), writing
the staging file (one process of each job), checking it, and publishing into PostgreSQL by one job
and by two at once. ``plan`` simulates the jobs event by event: each walks, then works on its part
as fast as the slower of its readers and its writer, then publishes; those that publish at one time
share what the server takes. It prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import stores

WALK, WORK, CHECK, QUEUE, PUBLISH, DONE = "walk", "work", "check", "queue", "publish", "done"


@dataclass(frozen=True)
class Rates:
    """What was measured; times are seconds of a core for one run of the store."""

    runs: int
    files_per_run: float
    walk_s: float
    read_s: float  # reading and planning, in any process
    write_s: float  # taking in what was read, in the one that writes
    check_s: float  # with publishing to a new SQLite file
    publish_s: float  # wall time, by one job alone
    publish_two: float  # how many times as much two jobs at once get through
    sqlite_bytes: float  # of the database, for one run
    server_bytes: float  # of PostgreSQL's, with its indexes
    memory_bytes: float  # of the writing process, for one run more
    fixed_memory_bytes: float


# ------------------------------------------------------------------------------ measuring


def in_child(code: str, *arguments: str) -> dict[str, float]:
    """Run code in a process of its own; return the figures that it prints, and its peak memory."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


STAGES = """
import json, resource, sys, time
from dataclasses import replace
from migrator import loader, pipeline
from migrator.extractor.filestore import FileStoreSource
from migrator.pipeline.stores import Opened, open_stores
from migrator.outcome.summary import Outcome

def cpu():
    own, theirs = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, theirs.ru_utime + theirs.ru_stime

source, to = sys.argv[1:]
target = loader.open_target(to, "3.9")
marks = [cpu()]
stores = open_stores(Opened([FileStoreSource.open(source)]))
marks.append(cpu())
with loader.Writer(target) as writer:
    options = pipeline.Options(workers=2)
    walked = pipeline.walk_sources(stores, options, writer, Outcome("bench", (source,), to))
    marks.append(cpu())
    written = writer.finish()
    walked.check_written(written)
    writer.publish(loader.PublishOptions(backup=False))
    marks.append(cpu())
walk = marks[1][0] - marks[0][0]
print(json.dumps({
    "walk": walk,
    "read": marks[2][1] - marks[1][1],
    "write": marks[2][0] - marks[1][0],
    "check": marks[3][0] - marks[2][0],
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


def measure(runs: int, postgresql: str | None) -> Rates:
    """Measure each stage on a store of ``runs`` runs, and memory against one four times as large.

    Below 10,000 runs memory grows by what is gathered before it is written, up to a limit.
    """
    with tempfile.TemporaryDirectory(prefix="mlflow-migrate-scale-") as folder:
        store, larger = f"{folder}/store", f"{folder}/larger"
        stores.workflows(store, runs)
        files = sum(len(names) for _, _, names in os.walk(store))
        figures = in_child(STAGES, store, f"sqlite:///{folder}/store.db")
        stores.workflows(larger, 4 * runs)
        peak = in_child(STAGES, larger, f"sqlite:///{folder}/larger.db")["peak"]
        memory = (peak - figures["peak"]) / (3 * runs)
        alone, both, server_bytes = 0.0, 1.0, 0.0
        if postgresql is not None:
            alone, both, server_bytes = publishing(store, runs, postgresql)
        return Rates(
            runs=runs,
            files_per_run=files / runs,
            walk_s=figures["walk"] / runs,
            read_s=figures["read"] / runs,
            write_s=figures["write"] / runs,
            check_s=figures["check"] / runs,
            publish_s=alone / runs,
            publish_two=both,
            sqlite_bytes=Path(f"{folder}/store.db").stat().st_size / runs,
            server_bytes=server_bytes / runs,
            memory_bytes=memory,
            fixed_memory_bytes=figures["peak"] - memory * runs,
        )


PUBLISH_ONE = """
import json, sys, time
from migrator import loader, pipeline
from migrator.extractor.filestore import FileStoreSource
from migrator.pipeline.stores import Opened, open_stores
from migrator.outcome.summary import Outcome

source, to, part = sys.argv[1:]
target = loader.open_target(to)
options = pipeline.Options(workers=2, shard=part)
with loader.Writer(target) as writer:
    facts = pipeline.TargetFacts(target.experiments(), target.largest_id)
    outcome = Outcome("bench", (source,), to)
    stores = open_stores(Opened([FileStoreSource.open(source)]))
    pipeline.walk_sources(stores, options, writer, outcome, facts)
    writer.finish()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    writer.publish(loader.PublishOptions(backup=False))
    print(time.perf_counter() - began, flush=True)
"""


def publishing(source: str, runs: int, server: str) -> tuple[float, float, float]:
    """Return what publishing all takes alone, how much faster two are, and the bytes on disk."""
    from sqlalchemy import create_engine, text

    from migrator.databases import server_url
    from migrator.loader.networked.connection import initialise
    from migrator.loader.schema import chain

    seconds, size = {}, 0.0
    for parts in (1, 2):
        url = server_url(server)
        name = f"mlflow_migrate_scale_{parts}"
        admin = create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            connection.execute(text(f"CREATE DATABASE {name}"))
        initialise(url.set(database=name), chain()[-1])
        to = url.set(database=name).render_as_string(hide_password=False)
        with admin.connect() as connection:
            empty = connection.execute(text(f"SELECT pg_database_size('{name}')")).scalar_one()
        jobs = [
            subprocess.Popen(
                [sys.executable, "-c", PUBLISH_ONE, source, to, f"{number}/{parts}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for number in range(1, parts + 1)
        ]  # fmt: skip
        for job in jobs:
            if job.stdout is None or job.stdout.readline() != "ready\n":
                raise SystemExit("A job that was to publish has failed.")
        began = time.perf_counter()
        with ThreadPoolExecutor(parts) as threads:
            list(threads.map(lambda job: job.communicate("now\n"), jobs))
        seconds[parts] = time.perf_counter() - began
        if any(job.returncode for job in jobs):
            raise SystemExit("A job that was to publish has failed.")
        with admin.connect() as connection:
            full = connection.execute(text(f"SELECT pg_database_size('{name}')")).scalar_one()
            size = full - empty
            connection.execute(text(f"DROP DATABASE {name}"))
        admin.dispose()
    return seconds[1], seconds[1] / seconds[2], size


# ------------------------------------------------------------------------------ simulating


@dataclass
class Job:
    """One shard: the stage that it is in, and what is left of that (seconds when undisturbed)."""

    runs: float
    stage: str = WALK
    left_s: float = 0.0


def simulate(
    rates: Rates,
    runs: int,
    shards: int,
    workers: int,
    *,
    publishers: int,
    most_publishing: float,
    files_per_s: float,
) -> dict[str, float]:
    """Simulate ``shards`` jobs that start at once; return hours, and the busiest resources.

    ``publishers`` jobs publish at a time, the others queue; together they get through at most
    ``most_publishing`` times what one does. All jobs together read ``files_per_s`` at most.
    """
    jobs = [Job(runs / shards, WALK, runs * rates.walk_s) for _ in range(shards)]
    now = publishing_s = core_s = 0.0
    worst_work = 0.0
    while any(job.stage != DONE for job in jobs):
        # Who publishes: those that are furthest, in their order.
        busy = sum(job.stage == PUBLISH for job in jobs)
        for job in jobs:
            if job.stage == QUEUE and busy < publishers:
                job.stage, job.left_s = PUBLISH, job.runs * rates.publish_s
                busy += 1
        reading = sum(job.stage == WORK for job in jobs)
        alone = rate_of_work(rates, workers)
        limit = files_per_s / rates.files_per_run / reading if reading else alone
        speed = {
            WALK: 1.0,
            WORK: min(1.0, limit / alone),
            CHECK: 1.0,
            PUBLISH: min(1.0, most_publishing / busy) if busy else 1.0,
        }
        running = [job for job in jobs if job.stage in speed]
        step = min(job.left_s / speed[job.stage] for job in running)
        now += step
        publishing_s += step if busy else 0.0
        for job in running:
            used = {WORK: workers + 1, PUBLISH: 0.5}.get(job.stage, 1)
            core_s += step * used
            job.left_s -= step * speed[job.stage]
        for job in running:
            if job.left_s > 1e-9:
                continue
            if job.stage == WALK:
                job.stage, job.left_s = WORK, job.runs / alone
                worst_work = max(worst_work, job.left_s)
            elif job.stage == WORK:
                job.stage, job.left_s = CHECK, job.runs * rates.check_s
            elif job.stage == CHECK:
                job.stage = QUEUE
            else:
                job.stage = DONE
    return {
        "hours": now / 3600,
        "walk_hours": runs * rates.walk_s / 3600,
        "work_hours": worst_work / 3600,
        "server_busy": publishing_s / now,
        "core_hours": core_s / 3600,
        "staging_gb": runs / shards * rates.sqlite_bytes / 1e9,
        # The index of a job is that of the whole store, whatever its part of it.
        "memory_gb": (rates.fixed_memory_bytes + runs * rates.memory_bytes) / 1e9,
    }


def rate_of_work(rates: Rates, workers: int) -> float:
    """Return the runs that one job gets through in a second: its readers', or its writer's."""
    return min(workers / rates.read_s, 1 / rates.write_s)


def table(rates: Rates, arguments: argparse.Namespace) -> str:
    """Return the plan for each number of shards, in Markdown."""
    lines = [
        "| jobs | workers each | hours | of these the walk | server busy | core hours | cost | "
        "memory of a job | staging file of a job |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for shards in arguments.shards:
        found = simulate(
            rates, arguments.runs, shards, arguments.workers,
            publishers=arguments.publishers, most_publishing=arguments.most_publishing,
            files_per_s=arguments.files_per_s,
        )  # fmt: skip
        lines.append(
            f"| {shards} | {arguments.workers} | {found['hours']:.1f} | "
            f"{found['walk_hours']:.1f} | "
            f"{found['server_busy']:.0%} | {found['core_hours']:.0f} | "
            f"${found['core_hours'] * arguments.price:.0f} | {found['memory_gb']:.1f} GB | "
            f"{found['staging_gb']:.1f} GB |"
        )
    total = arguments.runs * rates.server_bytes / 1e9
    lines += ["", f"The database on the server: {total:,.0f} GB, its indexes included."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or plan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="take the rates on this machine")
    one.add_argument("runs", type=int)
    one.add_argument("--postgresql", help="URI of a server whose user may make databases")
    one.add_argument("--json", required=True, help="the file that the rates are written to")
    two = commands.add_parser("plan", help="simulate a migration by rates that were measured")
    two.add_argument("rates")
    two.add_argument("--runs", type=int, default=10_000_000)
    two.add_argument("--shards", type=int, nargs="+", default=[1, 4, 16, 64])
    two.add_argument("--workers", type=int, default=4)
    two.add_argument("--publishers", type=int, default=8, help="jobs that publish at one time")
    two.add_argument("--most-publishing", type=float, default=4.0, metavar="TIMES",
                     help="what a server gets through of many jobs, in times of one")  # fmt: skip
    two.add_argument("--files-per-s", type=float, default=100_000, help="of the file system")
    two.add_argument("--price", type=float, default=0.05, help="of one core for an hour")
    given = parser.parse_args(arguments)
    if given.command == "measure":
        rates = measure(given.runs, given.postgresql)
        Path(given.json).write_text(json.dumps(asdict(rates), indent=1) + "\n")
        print(json.dumps(asdict(rates), indent=1))
    else:
        print(table(Rates(**json.loads(Path(given.rates).read_text())), given))


if __name__ == "__main__":
    main()
