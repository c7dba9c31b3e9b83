"""Measures the commands as whole processes, in turn, against the official command and the floors.

    python -m bench.run workflows:1000 workflows:10000 --official /path/to/newer/bin/mlflow

Each argument is a shape of ``bench.stores`` and its size. Rows of the table:

``read floor``     every file of the store read once, by nothing but ``open`` and ``read``
``insert floor``   the rows of our database inserted again, by ``executemany`` (the inserting alone)
``start MLflow``   MLflow imported and the empty schema made by its chain (of these we need neither)
``help``           ``mlflow-migrate --help``
``scan``, ``convert``   to the schema of MLflow 3.9, runs and traces
``from SQLite``         the same runs from a database that holds them without traces
``in place``            their traces added to a copy of that database
``convert, newest``     to that of the MLflow of ``--official``, by its own migrations
``official``       ``mlflow migrate-filestore`` (runs only)

All run from byte code, which installing by pip makes and an environment may forbid
(``PYTHONDONTWRITEBYTECODE``: then half a second of ours, and more of MLflow's, is compiling).
A first round, which makes it, is not counted.

Each is run ``--repeat`` times, the commands taking turns, so that whatever else the machine does
falls on all of them; medians, and ratios of medians, are shown. Where two sizes of one shape are
measured, growth is shown. ``--json`` adds the figures to those of a file, so that stores can be
measured one by one. ``bench.page`` writes those of ``docs/performance.json`` into the page.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import stores

HOME = Path(__file__).parent.parent
UNITS = {"metrics": "metrics of 1,000 points", "experiments": "experiments"}

READ_ALL = """
import os, sys
todo = [sys.argv[1]]
while todo:
    with os.scandir(todo.pop()) as entries:
        for entry in entries:
            if entry.is_dir():
                todo.append(entry.path)
            else:
                handle = os.open(entry.path, os.O_RDONLY)
                while os.read(handle, 65536):
                    pass
                os.close(handle)
"""

INSERT_ALL = """
import sqlite3, sys, time
source, target = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2], isolation_level=None)
target.execute("PRAGMA journal_mode=MEMORY")
target.execute("PRAGMA synchronous=OFF")
tables = []
for kind, name, sql in source.execute(
    "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type <> 'table'"
).fetchall():
    if name.startswith("sqlite_"):
        continue
    target.execute(sql)
    if kind == "table":
        own = [row[1] for row in source.execute(f"PRAGMA table_xinfo({name})") if not row[6]]
        names = ", ".join(f'"{column}"' for column in own)
        rows = source.execute(f"SELECT {names} FROM {name} ORDER BY rowid").fetchall()
        places = ", ".join("?" * len(own))
        tables.append((f"INSERT INTO {name} ({names}) VALUES ({places})", rows))
began = time.perf_counter()
target.execute("BEGIN")
for statement, rows in tables:
    target.executemany(statement, rows)
target.execute("COMMIT")
print(time.perf_counter() - began)
"""

IN_PLACE = """
import shutil, sys
from migrator.cli import main
shutil.copy(sys.argv[1], sys.argv[2])
main(["convert", sys.argv[2], "--in-place", "--no-backup", "--schema", "3.9", "-q"])
"""

START = """
import sys
from migrator.loader import schema
schema.create_by_chain(sys.argv[1])
"""


@dataclass(frozen=True)
class Command:
    """A process to measure. ``{out}`` in its arguments becomes a new path each time."""

    name: str
    arguments: Sequence[str]
    says_seconds: bool = False  # what counts is the number that it prints
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What several runs of one command took."""

    name: str
    seconds: tuple[float, ...]  # wall
    cpu_s: float  # median of user and system time, children included
    peak_mib: float  # the largest process, at most

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def measure(commands: Sequence[Command], repeat: int) -> list[Measured]:
    """Run the commands in turn, ``repeat`` times each. Exits if one fails."""
    walls: dict[str, list[float]] = {command.name: [] for command in commands}
    cpus: dict[str, list[float]] = {command.name: [] for command in commands}
    peaks: dict[str, float] = dict.fromkeys(walls, 0.0)
    for number in range(repeat + 1):
        for command in commands:
            wall, cpu, peak = _once(command)
            if not number:
                continue
            walls[command.name].append(wall)
            cpus[command.name].append(cpu)
            peaks[command.name] = max(peaks[command.name], peak)
    return [Measured(n, tuple(walls[n]), statistics.median(cpus[n]), peaks[n]) for n in walls]


def _once(command: Command) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory(prefix="mlflow-migrate-bench-") as folder:
        out = str(Path(folder, "out.db"))
        arguments = [argument.replace("{out}", out) for argument in command.arguments]
        with open(Path(folder, "said"), "w+") as said:
            began = time.perf_counter()
            process = subprocess.Popen(
                arguments, stdout=said, stderr=said, env=_environment(command)
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            text = said.read()
    if process.returncode:
        raise SystemExit(f"{command.name} ended with {process.returncode}:\n{text[-2000:]}")
    if command.says_seconds:
        wall = float(text.split()[-1])
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # of ru_maxrss: bytes or KiB
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def _environment(command: Command) -> dict[str, str]:
    """Return a process's environment, in which byte code is kept, apart from all sources."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    cache = str(Path(tempfile.gettempdir(), "mlflow-migrate-bench-bytecode"))
    return {**kept, "PYTHONPYCACHEPREFIX": cache, **command.environment}


def commands_for(store: str, converted: str, runs_only: str, official: str | None) -> list[Command]:
    """List what is measured on one store.

    ``converted`` is our database of it, ``runs_only`` another one without traces.
    """
    ours = [sys.executable, "-m", "migrator.cli"]
    to = ["convert", store, "--to", "sqlite:///{out}", "-q", "--schema"]
    commands = [
        Command("read floor", [sys.executable, "-c", READ_ALL, store]),
        Command(
            "insert floor", [sys.executable, "-c", INSERT_ALL, converted, "{out}"],
            says_seconds=True,
        ),
        Command("start MLflow", [sys.executable, "-c", START, "{out}"]),
        Command("help", [*ours, "--help"]),
        Command("scan", [*ours, "scan", store, "-q"]),
        Command("convert", [*ours, *to, "3.9"]),
        Command("from SQLite", [*ours, "convert", runs_only, *to[2:], "3.9"]),
        Command("in place", [sys.executable, "-c", IN_PLACE, runs_only, "{out}"]),
    ]  # fmt: skip
    if official:
        newest = str(Path(official).with_name("python"))
        commands += [
            Command("convert, newest", [newest, "-m", "migrator.cli", *to, "latest"],
                    environment={"PYTHONPATH": str(HOME)}),
            Command(
                "official",
                [
                    official, "migrate-filestore", "--source", store, "--target",
                    "sqlite:///{out}", "--no-progress",
                ],
                environment={"MLFLOW_ALLOW_FILE_STORE": "true"},
            ),
        ]  # fmt: skip
    return commands


def figures(
    shape: str, size: int, official: str | None, repeat: int, folder: str
) -> dict[str, Any]:
    """Make a store, measure everything on it, and return the figures."""
    store = str(Path(folder, f"{shape}-{size}", "mlruns"))
    if not Path(store).exists():
        Path(store).mkdir(parents=True)
        stores.SHAPES[shape](store, size)
    converted = str(Path(folder, f"{shape}-{size}.db"))
    Path(converted).unlink(missing_ok=True)
    files = sum(len(names) for _, _, names in os.walk(store))
    runs_only = str(Path(folder, f"{shape}-{size}-runs.db"))
    Path(runs_only).unlink(missing_ok=True)
    commands = commands_for(store, converted, runs_only, official)
    convert = next(c for c in commands if c.name == "convert")
    for path, more in ((converted, []), (runs_only, ["--no-traces"])):  # warms the cache too
        to = [a.replace("{out}", path) for a in convert.arguments]
        subprocess.run([*to, *more], check=True, stdout=subprocess.DEVNULL)
    load = os.getloadavg()[0]
    measured = measure(commands, repeat)
    return {
        "shape": shape,
        "size": size,
        "files": files,
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "repeat": repeat,
        "commands": [
            {
                "name": each.name,
                "wall_s": round(each.median_s, 3),
                "wall_all_s": [round(second, 3) for second in each.seconds],
                "cpu_s": round(each.cpu_s, 2),
                "peak_mib": round(each.peak_mib),
            }
            for each in measured
        ],
    }


def ratios(result: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """Return what the figures of one store say of the goals; growth from the next smaller one."""
    wall = {each["name"]: each["wall_s"] for each in result["commands"]}
    cpu = {each["name"]: each["cpu_s"] for each in result["commands"]}
    found = [
        ("scan / read floor", wall["scan"] / wall["read floor"]),
        (
            "convert / (2 floors + start MLflow)",
            wall["convert"]
            / (2 * (wall["read floor"] + wall["insert floor"]) + wall["start MLflow"]),
        ),
    ]
    for name in ("from SQLite", "in place"):
        if name in cpu:
            found.append((f"{name} / convert, in CPU time", cpu[name] / cpu["convert"]))
    if "official" in wall:
        found.append(("official / convert", wall["official"] / wall["convert"]))
        found.append(("official / convert, in CPU time", cpu["official"] / cpu["convert"]))
    smaller = [o for o in others if o["shape"] == result["shape"] and o["size"] < result["size"]]
    if smaller:
        before = max(smaller, key=lambda other: other["size"])
        was = {each["name"]: each for each in before["commands"]}
        now = {each["name"]: each for each in result["commands"]}
        times = result["size"] / before["size"]
        for what, key in (("wall time", "wall_s"), ("CPU time", "cpu_s"), ("memory", "peak_mib")):
            growth = now["convert"][key] / was["convert"][key]
            found.append((f"convert, {what}, of one {times:g} times smaller", growth))
    return found


def machine() -> dict[str, Any]:
    """Return what the figures were taken on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "mlflow": metadata.version("mlflow"),
    }


def table(results: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    official = about.get("official")
    lines = [
        f"Taken on {about['processor']}, {about['cores']} cores, {about['system']}, Python "
        f"{about['python']}, MLflow {about['mlflow']}"
        + (f"; the official command is that of {official}." if official else "."),
        "",
        "| store | files | load | runs of each | command | wall (median) | CPU | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        load = f"{result['load_before']} to {result['load_after']}"
        for each in result["commands"]:
            lines.append(
                f"| {_named(result)} | {result['files']:,} | {load} | {result['repeat']} "
                f"| {each['name']} | {each['wall_s']:.2f} s | {each['cpu_s']:.1f} s "
                f"| {each['peak_mib']} MiB |"
            )
    lines += ["", "| store | ratio | value |", "|---|---|---|"]
    lines += [
        f"| {_named(result)} | {name} | {value:.2f} |"
        for result in results
        for name, value in ratios(result, results)
    ]
    return "\n".join(lines) + "\n"


def _named(result: dict[str, Any]) -> str:
    return f"{result['shape']}, {result['size']:,} {UNITS.get(result['shape'], 'runs')}"


def _version_of(official: str) -> str:
    said = subprocess.run([official, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip().replace("mlflow, version", "MLflow")


def _store(text: str) -> tuple[str, int]:
    shape, _, size = text.partition(":")
    if shape not in stores.SHAPES or not size.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape and size; shapes are {', '.join(sorted(stores.SHAPES))}"
        )
    return shape, int(size)


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("stores", type=_store, nargs="*", metavar="SHAPE:SIZE")
    parser.add_argument("--official", help="the mlflow command of MLflow 3.10 or newer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", help="the file whose figures these are added to")
    parser.add_argument("--folder", help="where the stores are made, and kept; else thrown away")
    given = parser.parse_args()
    about = machine()
    known: dict[tuple[str, int], dict[str, Any]] = {}
    if given.json and Path(given.json).exists():
        before = json.loads(Path(given.json).read_text(encoding="utf-8"))
        about = {**before["machine"], **about}
        known = {(each["shape"], each["size"]): each for each in before["results"]}
    if given.official:
        about["official"] = _version_of(given.official)
    for shape, size in given.stores:
        folder = given.folder or tempfile.mkdtemp(prefix="mlflow-migrate-bench-")
        try:
            known[shape, size] = figures(shape, size, given.official, given.repeat, folder)
        finally:
            if not given.folder:
                shutil.rmtree(folder)
        if given.json:
            kept = {"machine": about, "results": list(known.values())}
            Path(given.json).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    order = list(stores.SHAPES)
    results = sorted(known.values(), key=lambda r: (order.index(r["shape"]), r["size"]))
    print(table(results, about), end="")


if __name__ == "__main__":
    main()
