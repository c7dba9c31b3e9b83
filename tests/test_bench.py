"""The benchmark's stores are MLflow's to the byte, so that what it measures is true of MLflow's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import house, run, stores
from tests.support.fixturekit import materialise

HOME = "/tmp/ana/project/mlruns"  # where the fixture's writer ran


def values(folder: Path) -> dict[str, str]:
    """Return the files below a folder by relative path, as they are."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def points(text: str) -> list[tuple[int, Any, int]]:
    return [
        (int(time), float(value) if value != "nan" else value, int(step))
        for time, value, step in (line.split(" ") for line in text.splitlines())
    ]


def content(folder: Path) -> dict[str, bytes | None]:
    """Return every file's bytes, and None for every directory, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def finished_runs(store: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the runs that are like those of the benchmark: active, finished, in plain places."""
    found = []
    for meta in sorted(store.glob("*/*/meta.yaml")):
        facts = yaml.safe_load(meta.read_text(encoding="utf-8"))
        own = facts.get("artifact_uri", "").startswith(f"file://{HOME}/")
        if own and facts["status"] == 3 and facts["lifecycle_stage"] == "active":
            found.append((meta.parent, facts))
    return found


def test_runs_are_byte_for_byte_what_mlflow_2_22_wrote(tmp_path: Path) -> None:
    store = materialise("2.22.5-agents", tmp_path)
    runs = finished_runs(store)
    assert len(runs) > 40
    for number, (written, facts) in enumerate(runs):
        experiment = written.parent.name
        root = tmp_path / str(number)
        (root / experiment).mkdir(parents=True)
        stores.write_run(
            str(root), experiment, written.name, facts["run_name"],
            start_ms=facts["start_time"], end_ms=facts["end_time"], user=facts["user_id"],
            artifact_root=HOME, params=values(written / "params"), tags=values(written / "tags"),
            metrics={k: points(v) for k, v in values(written / "metrics").items()},
            artifacts=values(written / "artifacts"),
        )  # fmt: skip
        assert content(root / experiment / written.name) == content(written), written


def test_experiments_are_byte_for_byte_what_mlflow_2_22_wrote(tmp_path: Path) -> None:
    store = materialise("2.22.5-agents", tmp_path)
    compared = 0
    for meta in sorted(store.glob("*/meta.yaml")):
        facts = yaml.safe_load(meta.read_text(encoding="utf-8"))
        if facts["lifecycle_stage"] != "active":
            continue
        stores.write_experiment(
            str(tmp_path), facts["experiment_id"], facts["name"],
            created_ms=facts["creation_time"], artifact_root=HOME,
        )  # fmt: skip
        made = tmp_path / facts["experiment_id"] / "meta.yaml"
        assert made.read_bytes() == meta.read_bytes()
        compared += 1
    assert compared > 5


@pytest.mark.parametrize("shape", sorted(stores.SHAPES))
def test_every_shape_holds_as_many_runs_as_asked_for(tmp_path: Path, shape: str) -> None:
    stores.SHAPES[shape](str(tmp_path), 10)
    runs = list(tmp_path.glob("*/*/meta.yaml"))
    if shape == "metrics":  # its size is that of its one run
        assert len(list(runs[0].parent.glob("metrics/*"))) == 10
    assert len(runs) == (1 if shape == "metrics" else 10)


def test_the_measuring_runs_whole_processes_and_reports_medians(tmp_path: Path) -> None:
    stores.SHAPES["workflows"](str(tmp_path / "store"), 10)
    read = run.Command("read", [sys.executable, "-c", run.READ_ALL, str(tmp_path / "store")])
    (measured,) = run.measure([read], repeat=2)
    assert measured.name == "read"
    assert len(measured.seconds) == 2
    assert 0 < min(measured.seconds) <= measured.median_s <= max(measured.seconds)
    assert measured.peak_mib > 1


def test_a_command_that_fails_is_an_error_and_no_figure() -> None:
    with pytest.raises(SystemExit, match="bad"):
        run.measure([run.Command("bad", [sys.executable, "-c", "raise SystemExit(4)"])], repeat=1)


HOUSE = '''"""A module.

Of five lines.
"""

class Room:
    """Return whether."""

    def door(self, key, *, lock=None, **more):
        """Return which key it is.

        Tell whether.
        """
        if key and lock or more:
            return [each for each in key if each]

        return 1 if lock else 2
'''


def test_the_code_is_measured_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "room.py").write_text(HOUSE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_room.py").write_text("x = 1\n")
    package = house.measure(tmp_path)
    assert package.modules == {"inside/room.py": 17}
    (door,) = package.functions
    assert door.place == "inside/room.py:9 door"
    assert (door.lines, door.parameters) == (9 - 4, 3)
    assert door.complexity == 1 + len(["if", "and", "or", "for", "filter", "ternary"])
    assert package.classes == [house.Class("inside/room.py:6 Room", 12, 1)]
    assert (package.ternaries, package.comprehensions, package.docstring_lines) == (1, 1, 4 + 1 + 4)
    assert package.odd_docstrings == {
        "Return what/which/whether": ["inside/room.py:6 Room", "inside/room.py:9 door"],
        "Tell whether": [],
    }
    rows = house.rows_of(package)
    assert rows["docstring lines per 100"] == f"{100 * 9 / 17:.1f}"
    assert rows["complexity over 15, %"] == "0.0"


def test_our_own_code_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    home = Path(house.__file__).parent.parent
    house.main([str(home / "migrator"), str(home / "bench"), "--top", "3"])
    printed = capsys.readouterr().out
    assert "| | migrator | bench |" in printed
    assert len(printed.partition("longest functions")[2].partition("\n\n")[0].splitlines()) == 4
