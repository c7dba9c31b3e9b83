"""``mlflow-migrate code``: legacy tracking is found, and only what is safe is rewritten."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.codemod import inspect
from migrator.codemod.patterns import database_of, store_path
from migrator.codemod.sources import MAX_BYTES

MLFLOW = "import mlflow\n"
IMPORT = "from configurable_agents.observability import MLFlowTracker\n"
NEW_IMPORT = "from migrator.tracker import MLFlowTracker\n"
URI = 'mlflow.set_tracking_uri("file:./mlruns")\n'
NEW_URI = 'mlflow.set_tracking_uri("sqlite:///mlflow.db")\n'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["code", *map(str, arguments)])


def write(folder: Path, text: str | bytes, name: str = "app.py") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ------------------------------------------------------------------------------------- listing
@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (IMPORT, ["legacy-import"]),
        ("import configurable_agents.observability\n", ["legacy-import"]),
        ("from configurable_agents.observability import CostReporter\n", ["legacy-import"]),
        ("from .mlflow_tracker import MLFlowTracker\n", ["legacy-import"]),
        ('patch("configurable_agents.observability.mlflow_tracker.mlflow")\n', ["legacy-import"]),
        (MLFLOW + URI, ["file-store-uri"]),
        (MLFLOW + 'mlflow.set_tracking_uri("./mlruns")\n', ["file-store-uri"]),
        (MLFLOW + 'mlflow.set_tracking_uri("file://" + here + "/mlruns")\n', ["file-store-uri"]),
        (MLFLOW + 'mlflow.set_tracking_uri(f"file:{here}/mlruns")\n', ["file-store-uri"]),
        ('os.environ["MLFLOW_TRACKING_URI"] = "file:///data/runs"\n', ["file-store-uri"]),
        ('os.getenv("MLFLOW_TRACKING_URI", "./mlruns")\n', ["file-store-uri"]),
        ('config = {"tracking_uri": "file://./mlruns"}\n', ["file-store-uri"]),
        ('TRACKING_URI = "file:./mlruns"\n', ["file-store-uri"]),
        ('MLFlowLogger(tracking_uri="file:./ml-runs")\n', ["file-store-uri"]),
        ('parser.add_argument("--uri", default="file:./mlruns")\n', ["file-store-uri"]),
        (MLFLOW + 'shutil.rmtree("./mlruns")\n', ["mlruns-path"]),
        ("import mlflow as mf\nmf.start_run(nested=True)\n", ["nested-run"]),
        ("from mlflow import start_run\nstart_run('x', nested=deep)\n", ["nested-run"]),
        ("mlflow.start_run(parent_run_id=parent)\n", ["nested-run"]),
        ('client.create_run("0", tags={"mlflow.parentRunId": parent})\n', ["nested-run"]),
        (MLFLOW + 'mlflow.log_metric("total_tokens", 3)\n', ["token-metric"]),
        (MLFLOW + 'mlflow.log_metrics({"loss": 1, "prompt_tokens": 2})\n', ["token-metric"]),
        (MLFLOW + 'client.log_metric(run_id, "cost_usd", 0.1)\n', ["token-metric"]),
        (MLFLOW + 'mlflow.log_metric(f"{node}_tokens", 1)\n', ["token-metric"]),
        (MLFLOW + 'mlflow.log_text(text, "prompt.txt")\n', ["prompt-artifact"]),
        (MLFLOW + 'mlflow.set_tag("response", text[:500])\n', ["prompt-artifact"]),
        (MLFLOW + 'mlflow.log_text(text, "error.txt")\n', ["prompt-artifact"]),
        ('getattr(r.usage_metadata, "input_tokens", 0)\n', ["usage-by-getattr"]),
        (
            MLFLOW + "mlflow.search_runs(filter_string=\"params.workflow_name = 'a'\")\n",
            ["run-reader"],
        ),
        (
            MLFLOW + "client.search_runs(ids, f\"tags.mlflow.parentRunId = '{parent}'\")\n",
            ["run-reader"],
        ),
    ],
)
def test_legacy_pattern_is_listed(text: str, codes: list[str], tmp_path: Path) -> None:
    found = inspect([str(write(tmp_path, text))])
    assert [each.code for each in found.findings] == codes
    (finding,) = found.findings
    assert finding.line == text.count("\n") and finding.replacement
    assert found.exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        '"""Moves ./mlruns; mlflow.start_run(nested=True)."""\nimport mlflow\n',
        "# from configurable_agents.observability import MLFlowTracker\n",
        NEW_IMPORT + MLFLOW + NEW_URI,
        MLFLOW + 'mlflow.set_tracking_uri("http://host:5000/mlruns")\n',
        MLFLOW + 'mlflow.set_tracking_uri("databricks")\nmlflow.set_tracking_uri("")\n',
        MLFLOW + "mlflow.start_run(nested=False)\nmlflow.start_run()\n",
        MLFLOW + 'mlflow.log_metric("loss", 1)\nmlflow.log_metric("tokens_per_second", 1)\n',
        MLFLOW + 'mlflow.log_param("prompt_version", 3)\n',
        'log_metric("total_tokens", 3)\nset_tag("prompt", "x")\n',  # no MLflow in sight
        MLFLOW + 'mlflow.set_tag("error", str(error))\n',
        'getattr(config, "max_tokens", 0)\nopen("mlruns")\n',
        MLFLOW + "mlflow.search_runs(filter_string='metrics.loss < 1')\nclient.get_run(run_id)\n",
    ],
)
def test_what_is_not_legacy_is_left_in_peace(text: str, tmp_path: Path) -> None:
    assert inspect([str(write(tmp_path, text))]).findings == ()


def test_list_names_file_line_column_pattern_and_replacement(tmp_path: Path) -> None:
    path = write(tmp_path, MLFLOW + '\nfor ü in "ü": mlflow.set_tracking_uri("file:./mlruns")\n')
    result = run(path)
    assert result.exit_code == 0
    first, second, last = result.output.splitlines()
    assert first.startswith(f"{path}:3:39: file-store-uri: for ü in")
    assert "sqlite:///mlflow.db" in second and "mlflow-migrate convert ./mlruns" in second
    assert last == "1 file: 1 file-store-uri; --write rewrites 1, the rest is yours to decide."
    (row,) = json.loads(run(path, "--json").output)["findings"]
    assert (row["path"], row["line"], row["column"], row["safe"]) == (str(path), 3, 39, True)
    assert row["code"] == "file-store-uri" and row["cell"] is None


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("file:./mlruns", "sqlite:///mlflow.db"),
        ("file://./mlruns", "sqlite:///mlflow.db"),
        ("mlruns/", "sqlite:///mlflow.db"),
        ("../out/mlruns", "sqlite:///../out/mlflow.db"),
        ("file:///data/mlruns", "sqlite:////data/mlflow.db"),
        ("file://localhost/data/mlruns", "sqlite:////data/mlflow.db"),
        ("file:///data/tracking", "sqlite:////data/tracking.db"),
        ("file:///C:/x/mlruns", "sqlite:///C:/x/mlflow.db"),
        ("file:///my%20data/mlruns", "sqlite:////my data/mlflow.db"),
        ("file://server/share/mlruns", None),
        ("~/mlruns", None),
        ("./a%b/mlruns", None),
        ("./", None),
    ],
)
def test_database_stands_beside_the_store(uri: str, database: str | None) -> None:
    path = store_path(uri)
    assert path is not None
    assert database_of(path) == database


# ----------------------------------------------------------------------------------- rewriting
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (IMPORT, NEW_IMPORT),
        (IMPORT.replace("\n", " as T  # why\n"), NEW_IMPORT.replace("\n", " as T  # why\n")),
        (
            "from configurable_agents.observability import MLFlowTracker, CostReporter  # both\n",
            "from configurable_agents.observability import CostReporter  # both\n" + NEW_IMPORT,
        ),
        (
            "if True:\n    from configurable_agents.observability import (\n"
            "        CostReporter,  # keep\n        MLFlowTracker,\n    )\n",
            "if True:\n    from configurable_agents.observability import (\n"
            "        CostReporter,  # keep\n    )\n    " + NEW_IMPORT,
        ),
        (MLFLOW + URI, MLFLOW + NEW_URI),
        (MLFLOW + URI.replace('"', "'"), MLFLOW + NEW_URI.replace('"', "'")),
        (
            "import mlflow as mf; x = 'é'; mf.set_tracking_uri(uri='mlruns'); y = 'mlruns.txt'\n",
            "import mlflow as mf; x = 'é'; mf.set_tracking_uri(uri='sqlite:///mlflow.db');"
            " y = 'mlruns.txt'\n",
        ),
        (
            "from mlflow import MlflowClient as C\nC(\n    'file:///d/mlruns',  # here\n)\n",
            "from mlflow import MlflowClient as C\nC(\n    'sqlite:////d/mlflow.db',  # here\n)\n",
        ),
        (
            "import os\nos.environ['MLFLOW_TRACKING_URI'] = 'file:./mlruns'\n",
            "import os\nos.environ['MLFLOW_TRACKING_URI'] = 'sqlite:///mlflow.db'\n",
        ),
        (
            IMPORT + 't = MLFlowTracker({"enabled": True, "tracking_uri": "file://./mlruns"}, w)\n',
            NEW_IMPORT
            + 't = MLFlowTracker({"enabled": True, "tracking_uri": "sqlite:///mlflow.db"}, w)\n',
        ),
    ],
)
def test_safe_pattern_is_rewritten_and_nothing_else(old: str, new: str, tmp_path: Path) -> None:
    path = write(tmp_path, old)
    path.chmod(0o755)
    shown = run(tmp_path, "--diff")
    assert path.read_text(encoding="utf-8") == old  # --diff writes nothing
    result = run(tmp_path, "--write")
    assert result.exit_code == 0, result.output
    assert path.read_text(encoding="utf-8") == new
    assert result.stdout == shown.stdout and result.stdout.startswith(f"--- a{path}\n+++ b{path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755 and list(tmp_path.iterdir()) == [path]
    again = run(tmp_path, "--write")  # twice is once
    assert (again.exit_code, again.stdout) == (0, "")
    assert path.read_text(encoding="utf-8") == new


@pytest.mark.parametrize(
    "text",
    [
        "from configurable_agents.observability import *\n",
        "from configurable_agents.observability import CostReporter\n",
        "from configurable_agents.observability import MLFlowTracker; x = 1\n",
        "import configurable_agents.observability as o\no.MLFlowTracker(None)\n",
        "from .mlflow_tracker import MLFlowTracker\n",
        MLFLOW + 'mlflow.set_tracking_uri("file:" "./mlruns")\n',
        MLFLOW + 'mlflow.set_tracking_uri(r"file:./mlruns")\n',
        MLFLOW + 'mlflow.set_tracking_uri(f"file:{here}")\n',
        MLFLOW + 'mlflow.set_tracking_uri("~/mlruns")\n',
        MLFLOW + 'uri = "file:./mlruns"\nmlflow.set_tracking_uri(uri)\nprint(uri[5:])\n',
        MLFLOW + 'shutil.copytree("mlruns", "backup")\n',
        'client.set_tracking_uri("file:./mlruns")\n',  # whose?
        'config = {"tracking_uri": "file:./mlruns"}\n',
        'os.getenv("MLFLOW_TRACKING_URI", "file:./mlruns")\n',
        IMPORT + MLFLOW + "t = MLFlowTracker(c, w)\nmlflow.search_runs()\n",
        IMPORT + MLFLOW + "t = MLFlowTracker(c, w)\nMlflowClient().get_run(run_id)\n",
        IMPORT + "class Mine(MLFlowTracker):\n    pass\n",
        IMPORT + "t = MLFlowTracker(c, w)\nt._flush()\n",
        IMPORT + "class A:\n    def __init__(self):\n        self.t: Any = MLFlowTracker(c, w)\n"
        "    def go(self):\n        return self.t.client\n",
        IMPORT + "def go(tracker: MLFlowTracker):\n    tracker.enabled = False\n",
        IMPORT + "def go(t):\n    with t.track_node('a', 'm', temperature=0):\n        pass\n",
        IMPORT + 'URI = "file:./mlruns"\nt = MLFlowTracker({"tracking_uri": URI})\n',
        MLFLOW + "with mlflow.start_run(nested=True):\n    mlflow.log_metric('total_tokens', 1)\n",
    ],
)
def test_what_is_not_safe_is_listed_and_not_touched(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    result = run(path, "--write")
    assert (result.exit_code, result.stdout) == (0, "")
    assert path.read_text(encoding="utf-8") == text
    listed = inspect([str(path)]).findings
    assert listed and not any(each.safe for each in listed)


def test_import_that_is_left_alone_says_why(tmp_path: Path) -> None:
    text = IMPORT + MLFLOW + URI + "t = MLFlowTracker(c, w)\nmlflow.search_runs()\nt.get_run()\n"
    path = write(tmp_path, text)
    assert run(path, "--write").exit_code == 0
    assert path.read_text(encoding="utf-8") == text.replace(URI, NEW_URI)  # it still is safe
    found = {each.code: each for each in inspect([str(path)]).findings}
    assert "change the reads of its runs first (line 5, 6)" in found["legacy-import"].replacement
    assert "cost_summary" in found["run-reader"].replacement


@pytest.mark.parametrize(
    "shell",
    [
        lambda line: line.replace("\n", "\r\n").encode(),
        lambda line: b"\xef\xbb\xbf" + line.encode(),
        lambda line: f"# -*- coding: latin-1 -*-\nx = 'é'\n{line}".encode("latin-1"),
        lambda line: line.rstrip("\n").encode(),
        lambda line: f"\f\n{line}x = '\\d'\t \n\n\n".encode(),
    ],
    ids=["CRLF", "BOM", "latin-1", "no last newline", "form feed"],
)
def test_every_other_byte_stays(shell: object, tmp_path: Path) -> None:
    assert callable(shell)
    path = write(tmp_path, shell(MLFLOW + URI))
    assert run(path, "--write").exit_code == 0
    assert path.read_bytes() == shell(MLFLOW + NEW_URI)


def test_link_that_is_named_stays_a_link_and_a_walk_follows_none(tmp_path: Path) -> None:
    (tmp_path / "walked").mkdir()
    target = write(tmp_path, IMPORT)
    (tmp_path / "walked" / "link.py").symlink_to(target)
    (tmp_path / "walked" / "loop").symlink_to(tmp_path / "walked")
    assert inspect([str(tmp_path / "walked")]).files == 0
    assert run(tmp_path / "walked" / "link.py", "--write").exit_code == 0
    assert (tmp_path / "walked" / "link.py").is_symlink()
    assert target.read_text(encoding="utf-8") == NEW_IMPORT


# ------------------------------------------------------------------- what can't be read, or isn't
def test_what_cannot_be_read_is_named_with_its_reason_and_the_rest_is_done(tmp_path: Path) -> None:
    for name, data, _ in UNREADABLE:
        write(tmp_path, data, name)
    os.mkfifo(tmp_path / "pipe.py")
    good = write(tmp_path, IMPORT, "z_good.py")
    result = run(tmp_path, "--write")
    assert result.exit_code == 3
    for name, _, reason in (*UNREADABLE, ("pipe.py", b"", "not a regular file")):
        (line,) = [line for line in result.stderr.splitlines() if f"{name}: skipped" in line]
        assert reason in line
    assert good.read_text(encoding="utf-8") == NEW_IMPORT
    for name, data, _ in UNREADABLE:
        assert (tmp_path / name).read_bytes() == data


UNREADABLE = [
    ("deep.py", b"x = " + b"-" * 5000 + b"1\n", "not Python"),
    ("encoding.py", b"# coding: klingon\n", "encoding"),
    ("huge.py", b"#" * (MAX_BYTES + 1), "are not read"),
    ("latin.py", b"x = '\xe9'\n", "encoding"),
    ("long.py", IMPORT.encode() + b"#" * 1_000_000, "not rewritten"),
    ("nul.py", b"x = '\0'\n", "null bytes"),
    ("old.py", b"x = 1\nprint 'x'\n", "line 2"),
    ("sheet.ipynb", b'{"cells": 3}', "not a notebook"),
]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_and_directory_without_permission_are_named(tmp_path: Path) -> None:
    write(tmp_path, IMPORT).chmod(0)
    (tmp_path / "shut").mkdir(mode=0)
    try:
        result = run(tmp_path)
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert result.exit_code == 3 and result.output.count("can't be read: Permission") == 2


def test_environments_stores_and_hidden_directories_are_passed_by(tmp_path: Path) -> None:
    for name in (".git", "mlruns/0/artifacts", "site-packages", "own-env", "node_modules"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name, IMPORT)
    write(tmp_path / "own-env", "", "pyvenv.cfg")
    write(tmp_path, IMPORT, "data.txt")
    assert inspect([str(tmp_path)]).files == 0
    assert inspect([str(tmp_path / "mlruns")]).files == 1  # asked for itself


def test_notebook_is_listed_by_cell_and_not_rewritten(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": [URI]},
        {"cell_type": "code", "source": ["%%bash\n", "mlflow ui"]},
        {"cell_type": "code", "source": ["!ls\n", "  %time x\n".lstrip(), MLFLOW, URI]},
    ]
    path = write(tmp_path, json.dumps({"cells": cells}), "a.ipynb")
    before = path.read_bytes()
    result = run(path, "--write")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"{path} cell 3:4:25: file-store-uri" in result.stderr
    assert path.read_bytes() == before


def test_path_that_is_not_there_is_an_error_and_no_path_is_usage(tmp_path: Path) -> None:
    missing = run(tmp_path / "nowhere")
    assert missing.exit_code == 1 and "does not exist" in missing.output
    assert run().exit_code == 2


def test_rewriting_without_libcst_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, IMPORT)
    monkeypatch.setitem(sys.modules, "libcst", None)
    assert run(path).exit_code == 0  # the list needs nothing
    result = run(path, "--write")
    assert result.exit_code == 2 and "pip install libcst" in result.output
    assert path.read_text(encoding="utf-8") == IMPORT


def test_listing_imports_neither_mlflow_nor_libcst(tmp_path: Path) -> None:
    path = write(tmp_path, IMPORT)
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom migrator.cli import main\n"
        f"result = CliRunner().invoke(main, ['code', {str(path)!r}])\n"
        "assert result.exit_code == 0 and 'legacy-import' in result.output\n"
        "assert not {'mlflow', 'libcst'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
