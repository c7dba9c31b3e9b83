"""Measures the commands as whole processes, in turn, against the official command and the floors.

    python -m bench.run --runs 1000 10000 --official /path/to/newer/bin/mlflow --json figures.json

Rows of the table:

``read floor``     every file of the store read once, by nothing but ``open`` and ``read``
``insert floor``   the rows of our database inserted again, by ``executemany`` (the inserting alone)
``start``          MLflow imported and the empty schema made, which every conversion needs
``scan``, ``convert``, ``official``   the commands (convert: runs and traces; official: runs only)

Each is run ``--repeat`` times, the commands taking turns, so that whatever else the machine does
falls on all of them; medians, and ratios of medians, are shown. ``--update`` writes the table into
``docs/performance.md``.
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

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

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

START = """
import sys
from migrator.loader import schema
schema.create(sys.argv[1])
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
    for _ in range(repeat):
        for command in commands:
            wall, cpu, peak = _once(command)
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
                arguments, stdout=said, stderr=said, env={**os.environ, **command.environment}
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


def commands_for(store: str, converted: str, official: str | None) -> list[Command]:
    """Return what is measured on one store; ``converted`` is our database of it."""
    ours = [sys.executable, "-m", "migrator.cli"]
    commands = [
        Command("read floor", [sys.executable, "-c", READ_ALL, store]),
        Command(
            "insert floor", [sys.executable, "-c", INSERT_ALL, converted, "{out}"],
            says_seconds=True,
        ),
        Command("start", [sys.executable, "-c", START, "{out}"]),
        Command("scan", [*ours, "scan", store, "-q"]),
        Command(
            "convert", [*ours, "convert", store, "--to", "sqlite:///{out}", "--schema", "3.9", "-q"]
        ),
    ]  # fmt: skip
    if official:
        commands.append(
            Command(
                "official",
                [
                    official, "migrate-filestore", "--source", store, "--target",
                    "sqlite:///{out}", "--no-progress",
                ],
                environment={"MLFLOW_ALLOW_FILE_STORE": "true"},
            )
        )  # fmt: skip
    return commands


def figures(
    shape: str, runs: int, official: str | None, repeat: int, folder: str
) -> dict[str, Any]:
    """Make a store, measure everything on it, and return the figures."""
    store = str(Path(folder, f"{shape}-{runs}", "mlruns"))
    if not Path(store).exists():
        Path(store).mkdir(parents=True)
        stores.SHAPES[shape](store, runs)
    converted = str(Path(folder, f"{shape}-{runs}.db"))
    Path(converted).unlink(missing_ok=True)
    files = sum(len(names) for _, _, names in os.walk(store))
    commands = commands_for(store, converted, official)
    convert = next(c for c in commands if c.name == "convert")
    to = [a.replace("{out}", converted) for a in convert.arguments]
    subprocess.run(to, check=True, stdout=subprocess.DEVNULL)  # warms the cache too
    load = os.getloadavg()[0]
    measured = measure(commands, repeat)
    by_name = {each.name: each for each in measured}
    seconds = {name: each.median_s for name, each in by_name.items()}
    bound = 2 * (seconds["read floor"] + seconds["insert floor"]) + seconds["start"]
    ratios = {
        "scan / read floor": seconds["scan"] / seconds["read floor"],
        "convert / (2 floors + start)": seconds["convert"] / bound,
    }
    if "official" in seconds:
        ratios["official / convert"] = seconds["official"] / seconds["convert"]
    return {
        "shape": shape,
        "runs": runs,
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
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
    }


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


def table(results: Sequence[dict[str, Any]], about: dict[str, Any], official: str) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Taken on {about['processor']}, {about['cores']} cores, {about['system']}, Python "
        f"{about['python']}, MLflow {about['mlflow']}"
        + (f"; the official command is that of {official}." if official else "."),
        "",
        "| store | files | load | command | wall (median) | CPU | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        load = f"{result['load_before']} to {result['load_after']}"
        for each in result["commands"]:
            lines.append(
                f"| {result['shape']}, {result['runs']:,} runs | {result['files']:,} | {load} "
                f"| {each['name']} | {each['wall_s']:.2f} s | {each['cpu_s']:.1f} s "
                f"| {each['peak_mib']} MiB |"
            )
    lines += ["", "| store | ratio | value |", "|---|---|---|"]
    lines += [
        f"| {result['shape']}, {result['runs']:,} runs | {name} | {value:.2f} |"
        for result in results
        for name, value in result["ratios"].items()
    ]
    return "\n".join(lines) + "\n"


def _version_of(official: str) -> str:
    said = subprocess.run([official, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip().replace("mlflow, version", "MLflow")


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--shape", choices=sorted(stores.SHAPES), default="workflows")
    parser.add_argument("--official", help="the mlflow command of MLflow 3.10 or newer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--folder", help="where the stores are made, and kept; else thrown away")
    parser.add_argument("--update", action="store_true", help=f"write the table into {PAGE.name}")
    given = parser.parse_args()
    folder = given.folder or tempfile.mkdtemp(prefix="mlflow-migrate-bench-")
    try:
        results = [
            figures(given.shape, runs, given.official, given.repeat, folder) for runs in given.runs
        ]
    finally:
        if not given.folder:
            shutil.rmtree(folder)
    about = machine()
    text = table(results, about, _version_of(given.official) if given.official else "")
    print(text, end="")
    if given.json:
        Path(given.json).write_text(json.dumps({"machine": about, "results": results}, indent=2))
    if given.update:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
