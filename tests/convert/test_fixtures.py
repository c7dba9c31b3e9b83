"""The fixtures are what README.md says they are, seen by reading their files and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.fixturekit import FIXTURES, databases, materialise, names, store

README = (FIXTURES / "README.md").read_text(encoding="utf-8")
NAMES = names()
RESERVED = {"models", "traces", "datasets", "tags"}
AGENTS = ["2.9.2-agents", "2.22.5-agents"]
RUNNING, FINISHED, FAILED, KILLED = 1, 3, 4, 5


@cache
def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def experiment_folders(mlruns: Path) -> list[Path]:
    folders = [*mlruns.iterdir(), *(mlruns / ".trash").glob("*")]
    return sorted(f for f in folders if (f / "meta.yaml").is_file() and f.name != "models")


def experiment(mlruns: Path, name: str) -> Path:
    (found,) = [f for f in experiment_folders(mlruns) if load(f / "meta.yaml")["name"] == name]
    return found


def run_folders(folder: Path) -> list[Path]:
    return sorted(
        f for f in folder.iterdir() if f.name not in RESERVED and (f / "meta.yaml").is_file()
    )


def all_runs(mlruns: Path) -> list[Path]:
    return [run for folder in experiment_folders(mlruns) for run in run_folders(folder)]


def name_of(run: Path) -> str | None:
    """Return a run's name; before 1.30 it stands in a tag only."""
    name = load(run / "meta.yaml").get("run_name")
    return name if isinstance(name, str) else value(run, "tags", "mlflow.runName")


def named(mlruns: Path, name: str) -> Path:
    (found,) = [run for run in all_runs(mlruns) if name_of(run) == name]
    return found


def starting(mlruns: Path, prefix: str) -> list[Path]:
    runs = [(load(r / "meta.yaml"), r) for r in all_runs(mlruns)]
    runs = [(meta, r) for meta, r in runs if str(meta["run_name"]).startswith(prefix)]
    return [r for _, r in sorted(runs, key=lambda pair: pair[0]["start_time"])]


def value(run: Path, kind: str, key: str) -> str | None:
    path = run / kind / key
    return path.read_bytes().decode() if path.is_file() else None


def last(run: Path, key: str) -> float:
    text = value(run, "metrics", key)
    assert text is not None, f"{run.name} has no metric {key}"
    return float(text.splitlines()[-1].split()[1])


def points(run: Path, key: str) -> list[str]:
    return (value(run, "metrics", key) or "").splitlines()


def parents(mlruns: Path) -> dict[str, str]:
    tag = "mlflow.parentRunId"
    return {r.name: p for r in all_runs(mlruns) if (p := value(r, "tags", tag)) is not None}


def children(mlruns: Path, root: Path) -> list[Path]:
    known = parents(mlruns)
    return [r for r in all_runs(mlruns) if known.get(r.name) == root.name]


def depth(mlruns: Path) -> int:
    known = parents(mlruns)

    def level(run_id: str) -> int:
        return 1 + level(known[run_id]) if run_id in known else 1

    return max(level(run_id) for run_id in known)


def traces(mlruns: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted([*mlruns.glob("*/traces/*"), *mlruns.glob(".trash/*/traces/*")]):
        yield path, load(path / "trace_info.yaml")


def spans_of(trace: Path) -> list[dict[str, Any]]:
    path = trace / "artifacts" / "traces.json"
    spans = json.loads(path.read_text(encoding="utf-8"))["spans"]
    assert isinstance(spans, list)
    return spans


# -------------------------------------------------------------------------------- all fixtures
def test_the_readme_has_a_row_for_every_fixture_and_no_other() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([\d.]+) \|", README, re.MULTILINE)
    assert sorted(name for name, _ in rows) == NAMES
    assert all(f"`{name}`" in README for name in databases())
    folders = {path.name for path in FIXTURES.iterdir() if (path / "mlruns").exists()}
    assert folders == {*NAMES, *databases()}
    for name, version in rows:
        assert name.startswith(f"{version}-")


def test_make_knows_every_fixture() -> None:
    source = (FIXTURES / "make.py").read_text(encoding="utf-8")
    assert sorted(re.findall(r'^    "([\d.]+-[a-z-]+)": Fixture', source, re.MULTILINE)) == sorted(
        [*NAMES, *databases()]
    )


def test_the_fixtures_are_small() -> None:
    files = [path for name in NAMES for path in (FIXTURES / name).rglob("*") if path.is_file()]
    assert len(files) < 4000
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert max(len(str(path.relative_to(FIXTURES))) for path in files) < 200


@pytest.mark.parametrize("name", NAMES)
def test_no_fixture_names_a_path_of_a_machine_or_a_person(name: str) -> None:
    foreign = re.compile(
        rb"/(?:work|opt|root|home|usr|Users/(?!ana/)|private|var|mnt)/|/tmp/(?!ana/)"
        rb"|[\w.]+@(?!example\.org)[\w-]+\.\w+"
    )
    for path in (FIXTURES / name).rglob("*"):
        if path.is_file():
            found = foreign.search(path.read_bytes())
            assert found is None, f"{path}: {found!r}"


@pytest.mark.parametrize("name", NAMES)
def test_users_and_programs_are_the_neutral_ones(name: str) -> None:
    for run in all_runs(store(name)):
        assert load(run / "meta.yaml")["user_id"] in {"ana", "unknown"}
        assert value(run, "tags", "mlflow.user") in {"ana", None}
        program = value(run, "tags", "mlflow.source.name")
        assert program is None or re.fullmatch(r"\w+\.py", program)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_locations_are_the_neutral_ones(name: str) -> None:
    for folder in experiment_folders(store(name)):
        location = load(folder / "meta.yaml")["artifact_location"]
        assert location.startswith(
            (
                "file:///tmp/ana/project/",
                "file:///C:/Users/ana/project/",
                "s3:",
                "mlflow-artifacts:",
            )
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_store_bears_the_marks_of_its_release(name: str) -> None:
    mlruns = store(name)
    release = tuple(int(part) for part in name.split("-")[0].split("."))
    for run in all_runs(mlruns):
        meta = load(run / "meta.yaml")
        assert meta["run_id"] == run.name
        assert ("run_uuid" in meta) == (release < (3,))
        assert isinstance(meta.get("run_name"), str) == (release >= (1, 30))
        assert ("name" in meta) == (release < (1, 30))
    wide = [f.name for f in experiment_folders(mlruns) if f.name != "0"]
    assert wide
    assert all(len(i) == (18 if release >= (2,) else 1) for i in wide)
    for folder in experiment_folders(mlruns):
        assert ("creation_time" in load(folder / "meta.yaml")) == (release >= (1, 30))
    folders = {p.name for p in mlruns.glob("*/*") if p.is_dir()}
    assert ("datasets" in folders) <= (release >= (2, 4))
    assert ("traces" in folders) <= (release >= (2, 14))
    for version in mlruns.glob("models/*/version-*/meta.yaml"):
        meta = load(version)
        assert ("storage_location" in meta) == (release >= (2, 9)), version
        assert ("model_id" in meta) == (release >= (3,)), version
    for trace, info in traces(mlruns):
        assert ("trace_id" in info) == (release >= (3, 2)), trace
        assert ("assessments" in info) == ((2, 20) <= release < (3, 2)), trace
        assert trace.name.startswith("tr-") == (release >= (3, 2))
        assert (trace / "tags/mlflow.traceSpans").exists() <= (release < (2, 19))


def test_no_id_occurs_in_two_fixtures() -> None:
    ids = [run.name for name in NAMES for run in all_runs(store(name))]
    assert len(ids) == len(set(ids)) > 150


# ------------------------------------------------------------------------------- agent fixtures
@pytest.mark.parametrize("name", AGENTS)
def test_agent_stores_hold_failed_killed_running_and_deleted_runs(name: str) -> None:
    metas = [load(run / "meta.yaml") for run in all_runs(store(name))]
    by_status = {status: [m for m in metas if m["status"] == status] for status in (1, 3, 4, 5)}
    assert all(by_status.values())
    assert all(meta["end_time"] is None for meta in by_status[RUNNING])
    assert all(meta["end_time"] for meta in by_status[KILLED])
    deleted = [m for m in metas if m["lifecycle_stage"] == "deleted"]
    assert {m["run_name"] for m in deleted} >= {"node_a", "node_first", "scrapped root"}
    assert all(m["deleted_time"] for m in deleted)


@pytest.mark.parametrize("name", AGENTS)
def test_the_article_writer_has_three_nodes_with_tokens_cost_and_text(name: str) -> None:
    mlruns = store(name)
    root = starting(mlruns, "article_writer_20240304_090000")[0]
    assert value(root, "params", "workflow_name") == "article_writer"
    assert value(root, "params", "node_count") == "3"
    assert last(root, "node_count") == 3
    assert last(root, "status") == 1
    nodes = {value(r, "params", "node_id"): r for r in children(mlruns, root)}
    assert set(nodes) == {"research", "write", "edit"}
    for side in ("input", "output"):
        total = sum(last(r, f"{side}_tokens") for r in nodes.values())
        assert total == last(root, f"total_{side}_tokens") > 0
    assert last(root, "total_cost_usd") > 0
    assert all(last(r, "retries") == 2 for r in nodes.values())
    assert json.loads(value(nodes["research"], "params", "tools") or "") == [
        "serper_search",
        "web_fetch",
    ]
    assert value(nodes["edit"], "params", "tools") is None
    prompt = value(nodes["write"], "artifacts", "prompt.txt") or ""
    assert value(nodes["write"], "tags", "prompt") == prompt[:500] + "..."
    assert "都市の大きさ" in prompt
    assert "\r\n" in (value(nodes["edit"], "artifacts", "prompt.txt") or "")
    assert json.loads(value(root, "artifacts", "inputs.json") or "")["words"] == 800
    assert json.loads(value(root, "artifacts", "outputs.json") or "")["article"] == "Cities.\n"


@pytest.mark.parametrize("name", AGENTS)
def test_zero_tokens_stand_beside_a_response(name: str) -> None:
    mlruns = store(name)
    root = starting(mlruns, "article_writer_20240304_100000")[0]
    (node,) = children(mlruns, root)
    assert last(node, "input_tokens") == last(node, "output_tokens") == 0
    assert value(node, "artifacts", "response.txt")


@pytest.mark.parametrize("name", AGENTS)
def test_the_minimal_level_has_no_texts(name: str) -> None:
    mlruns = store(name)
    root = named(mlruns, "minimal article")
    (node,) = children(mlruns, root)
    assert value(root, "artifacts", "outputs.json")
    assert value(node, "artifacts", "prompt.txt") is None
    assert value(node, "tags", "prompt") is None


@pytest.mark.parametrize("name", AGENTS)
def test_a_failed_workflow_says_finished(name: str) -> None:
    mlruns = store(name)
    root = starting(mlruns, "article_writer_20240304_120000")[0]
    assert load(root / "meta.yaml")["status"] == FINISHED
    assert [p.name for p in (root / "metrics").iterdir()] == ["status"]
    assert last(root, "status") == 0
    error = json.loads(value(root, "artifacts", "error.json") or "")
    assert error["error_type"] == "RuntimeError"
    assert "'write'" in error["error_message"]
    (failed,) = [r for r in children(mlruns, root) if value(r, "params", "node_id") == "write"]
    assert load(failed / "meta.yaml")["status"] == FINISHED
    assert not (failed / "metrics").exists() or not list((failed / "metrics").iterdir())


@pytest.mark.parametrize("name", AGENTS)
def test_a_swallowed_node_failure_leaves_the_workflow_successful(name: str) -> None:
    mlruns = store(name)
    (root,) = starting(mlruns, "support_")
    assert last(root, "status") == 1
    assert value(root, "artifacts", "error.json") is None
    assert value(root, "params", "workflow_version") is None
    states = {r.name: load(r / "meta.yaml")["status"] for r in children(mlruns, root)}
    assert sorted(states.values()) == [FINISHED, FAILED]


@pytest.mark.parametrize("name", AGENTS)
def test_a_workflow_has_three_levels(name: str) -> None:
    mlruns = store(name)
    (root,) = starting(mlruns, "deep_research_")
    (node,) = children(mlruns, root)
    inner = {load(r / "meta.yaml")["run_name"]: r for r in children(mlruns, node)}
    assert set(inner) == {"tool_serper_search", "retry_1", "retry_2"}
    assert load(inner["retry_1"] / "meta.yaml")["status"] == FAILED
    assert depth(mlruns) == 3


@pytest.mark.parametrize("name", AGENTS)
def test_a_killed_process_left_root_and_node_running(name: str) -> None:
    mlruns = store(name)
    (root,) = starting(mlruns, "article_writer_20240305_")
    states = {load(r / "meta.yaml")["run_name"]: r for r in children(mlruns, root)}
    assert load(root / "meta.yaml")["status"] == RUNNING
    assert load(states["node_write"] / "meta.yaml")["status"] == RUNNING
    assert load(states["node_research"] / "meta.yaml")["status"] == FINISHED


def test_parallel_nodes_are_damaged_on_2_9() -> None:
    mlruns = store("2.9.2-agents")
    (root,) = starting(mlruns, "parallel_")
    (p0,) = children(mlruns, root)
    (p1,) = children(mlruns, p0)
    assert value(p0, "params", "node_id") == "p0"
    assert not points(p0, "input_tokens")
    assert len(points(p1, "input_tokens")) == 2
    assert last(root, "total_input_tokens") == 240


def test_parallel_nodes_are_missing_on_2_22() -> None:
    mlruns = store("2.22.5-agents")
    (root,) = starting(mlruns, "parallel_")
    assert children(mlruns, root) == []
    assert value(root, "params", "node_count") == "2"
    assert last(root, "node_count") == last(root, "total_input_tokens") == 0


@pytest.mark.parametrize("name", AGENTS)
def test_totals_of_a_second_workflow_hold_the_first(name: str) -> None:
    first, second = starting(store(name), "translate_")
    assert last(second, "total_input_tokens") == 2 * last(first, "total_input_tokens")


@pytest.mark.parametrize("name", AGENTS)
def test_end_run_in_a_block_damages_the_tree_on_2_9_only(name: str) -> None:
    mlruns = store(name)
    (root,) = starting(mlruns, "ended_twice_")
    nodes = [value(r, "params", "node_id") for r in children(mlruns, root)]
    assert len(nodes) == (1 if name.startswith("2.9") else 2)


@pytest.mark.parametrize("name", AGENTS)
def test_deleted_workflow_and_deleted_child(name: str) -> None:
    mlruns = store(name)
    (draft,) = starting(mlruns, "draft_")
    stages = [load(r / "meta.yaml")["lifecycle_stage"] for r in [draft, *children(mlruns, draft)]]
    assert stages == ["deleted", "deleted"]
    (review,) = starting(mlruns, "review_")
    stages = [load(r / "meta.yaml")["lifecycle_stage"] for r in children(mlruns, review)]
    assert load(review / "meta.yaml")["lifecycle_stage"] == "active"
    assert sorted(stages) == ["active", "deleted"]


@pytest.mark.parametrize("name", AGENTS)
def test_the_deployed_server_wrote_flat_runs(name: str) -> None:
    mlruns = store(name)
    runs = run_folders(experiment(mlruns, "article_writer"))
    flat = [r for r in runs if re.match(r"a?sync_[0-9a-f]{8}$", load(r / "meta.yaml")["run_name"])]
    assert len(flat) == 5
    assert [value(r, "params", "timeout") for r in flat].count("True") == 1
    assert len([r for r in flat if value(r, "params", "error")]) == (
        2 if name.startswith("2.9") else 1
    )
    clash = [r for r in flat if "already active" in (value(r, "artifacts", "error.json") or "")]
    assert len(clash) == (1 if name.startswith("2.9") else 0)
    assert len(runs) - len(flat) == (0 if name.startswith("2.9") else 2)


@pytest.mark.parametrize("name", AGENTS)
def test_other_trackers_are_there(name: str) -> None:
    mlruns = store(name)
    kinds = {
        value(r, "tags", "rulesmith.node_kind") for r in run_folders(experiment(mlruns, "rulebook"))
    }
    assert kinds == {None, "gate", "llm", "rule", "hitl"}
    assistant = run_folders(experiment(mlruns, "assistant"))
    (late,) = [r for r in assistant if load(r / "meta.yaml")["run_name"] == "sonnet_120106"]
    meta = load(late / "meta.yaml")
    assert meta["end_time"] - meta["start_time"] < 100 < last(late, "latency_ms")
    turns = [
        value(r, "params", "turn_number") for r in run_folders(experiment(mlruns, "interviews"))
    ]
    assert {*turns} == {None, "1", "2", "10"}
    resumed = named(mlruns, "agent resumed")
    calls = [line.split()[1:] for line in points(resumed, "input_tokens")]
    assert [(float(tokens), step) for tokens, step in calls] == [(10, "0"), (20, "1"), (30, "2")]
    with pytest.raises(json.JSONDecodeError):
        json.loads(value(named(mlruns, "broken files"), "artifacts", "inputs.json") or "")


@pytest.mark.parametrize("name", AGENTS)
def test_sweep_histories_odd_numbers_and_hard_names(name: str) -> None:
    mlruns = store(name)
    assert len(children(mlruns, named(mlruns, "lr_sweep"))) == 4
    train = named(mlruns, "train über alles")
    assert len(points(train, "loss")) == 30
    odd = [line.split()[1] for line in points(train, "odd values")]
    assert odd == ["0.5", "nan", "inf", "-inf", "-0.0", "1e-300"]
    assert len(points(train, "errors")) == 3
    assert len(set(points(train, "errors"))) == 1
    assert [line.split()[2] for line in points(train, "unsorted")] == ["5", "-1", "3"]
    assert points(train, "val/acc/mean")
    assert points(train, "ünï/キー")
    hard = named(mlruns, "1e5")
    assert "\nrun_name: 1e5\n" in (hard / "meta.yaml").read_text(encoding="utf-8")
    assert value(hard, "params", "optimizer/adam/beta one") == "0.9"
    assert value(hard, "params", "ünï/キー") == "値 ✓ 😀"
    assert value(hard, "params", "empty") == ""
    assert value(hard, "params", "crlf") == "a\r\nb\rc"
    assert value(hard, "params", ".hidden") == "dot"
    assert len(value(hard, "params", "long") or "") == 6000
    assert "\r\n" in (value(hard, "tags", "mlflow.note.content") or "")
    assert value(experiment(mlruns, "churn model"), "tags", "größe") == "5 µm"


@pytest.mark.parametrize("name", AGENTS)
def test_families_cross_experiments_and_lose_parents(name: str) -> None:
    mlruns = store(name)
    known = {run.name for run in all_runs(mlruns)}
    lost = {run_id: parent for run_id, parent in parents(mlruns).items() if parent not in known}
    assert list(lost) == [named(mlruns, "orphan").name]
    child = named(mlruns, "child in two")
    assert child.parent == experiment(mlruns, "family/two")
    assert parents(mlruns)[child.name] == named(mlruns, "root in one").name
    short, late = named(mlruns, "short parent"), named(mlruns, "child outlives it")
    assert load(late / "meta.yaml")["end_time"] > load(short / "meta.yaml")["end_time"]
    scrapped = experiment(mlruns, "scrapped")
    assert scrapped.parent.name == ".trash"
    assert len(run_folders(scrapped)) == 3
    assert run_folders(experiment(mlruns, "empty experiment")) == []


# ------------------------------------------------------------------------------ other fixtures
@pytest.mark.parametrize("name", ["1.26.1-classic", "1.30.1-classic", "2.4.2-datasets"])
def test_classic_stores_hold_trees_histories_and_deleted_things(name: str) -> None:
    mlruns = store(name)
    assert depth(mlruns) == 3
    states = {load(r / "meta.yaml")["status"] for r in all_runs(mlruns)}
    assert states == {RUNNING, FINISHED, FAILED, KILLED}
    forest = named(mlruns, "forest")
    assert [line.split()[1] for line in points(forest, "odd")] == ["nan", "inf", "-inf"]
    assert points(forest, "big")[0].split()[1] == "1152921504606846976"
    assert value(forest, "tags", "note/crlf") == "a\r\nb"
    scrapped = experiment(mlruns, "scrapped")
    assert scrapped.parent.name == ".trash"
    stage = load(scrapped / "meta.yaml")["lifecycle_stage"]
    assert stage == ("active" if name.startswith("1.") else "deleted")
    assert load(experiment(mlruns, "remote") / "meta.yaml")["artifact_location"].startswith("s3:")


def test_2_4_holds_datasets_inputs_a_table_and_a_registry() -> None:
    mlruns = store("2.4.2-datasets")
    training = experiment(mlruns, "training")
    assert len(list((training / "datasets").iterdir())) == 2
    forest = named(mlruns, "forest")
    tags = [load(path)["tags"] for path in forest.glob("inputs/*/meta.yaml")]
    assert sorted(map(str, tags)) == ["{'mlflow.data.context': 'training'}", "{}"]
    assert json.loads(value(forest, "artifacts", "eval/table.json") or "")["columns"] == [
        "question",
        "outputs",
    ]
    versions = {
        load(p)["version"]: load(p) for p in mlruns.glob("models/forest/version-*/meta.yaml")
    }
    assert {v["current_stage"] for v in versions.values()} == {
        "Archived",
        "Production",
        "Deleted_Internal",
    }
    assert (mlruns / "models/forest/aliases/champion").read_text() == "2"


def test_the_moved_store_names_a_windows_machine_everywhere() -> None:
    mlruns = store("2.9.2-moved")
    texts = [p.read_text(encoding="utf-8") for p in mlruns.rglob("meta.yaml")]
    assert not any("/tmp/ana" in text for text in texts)
    assert sum("file:///C:/Users/ana/project/mlruns/" in text for text in texts) == len(
        [*all_runs(mlruns), *experiment_folders(mlruns), *mlruns.glob("models/*/version-*")]
    )
    assert list(mlruns.glob("*/*/artifacts/prompt.txt"))
    assert list(mlruns.glob(".trash/*/*/artifacts/prompt.txt"))


def test_the_emptied_store_has_runs_without_folders_and_stays_so(tmp_path: Path) -> None:
    listing = (FIXTURES / "2.22.5-emptied/empty-folders.txt").read_text(encoding="utf-8")
    assert listing == ""
    copy = materialise("2.22.5-emptied", tmp_path)
    for kind in ("metrics", "params", "artifacts"):
        assert any(not (run / kind).exists() for run in all_runs(copy)), kind


@pytest.mark.parametrize("name", ["2.14.3-traces", "2.17.2-traces", "2.22.5-registry-traces"])
def test_trace_stores_hold_traces_of_every_kind(name: str) -> None:
    mlruns = store(name)
    found = list(traces(mlruns))
    assert sorted(info["status"] for _, info in found) == ["ERROR", "IN_PROGRESS", "OK", "OK", "OK"]
    assert len([t for t, _ in found if ".trash" in t.parts]) == 1
    linked = [t for t, _ in found if (t / "request_metadata/mlflow.sourceRun").exists()]
    assert len(linked) == 1
    spans = spans_of(linked[0])
    assert [s["name"] for s in spans] == ["agent", "search", "llm", "format"]
    assert [s["parent_id"] for s in spans].count(None) == 1
    assert json.loads(spans[2]["attributes"]["mlflow.spanType"]) == "CHAT_MODEL"
    assert "mlflow.chat.tokenUsage" in spans[2]["attributes"]
    hexed = all(s["context"]["span_id"].startswith("0x") for s in spans)
    assert hexed == (not name.startswith("2.22"))
    (failed,) = [t for t, info in found if info["status"] == "ERROR"]
    events = [e["name"] for s in spans_of(failed) for e in s["events"]]
    assert events.count("exception") == 2
    (open_one,) = [t for t, info in found if info["status"] == "IN_PROGRESS"]
    assert not (open_one / "artifacts").exists()
    (workflow,) = [r for r in all_runs(mlruns) if value(r, "tags", "trace_id")]
    assert value(workflow, "tags", "trace_id") in {t.name for t, _ in found}
    assert value(workflow, "artifacts", "cost_summary.json")


def test_2_22_holds_a_registry_prompts_and_input_tags() -> None:
    models = store("2.22.5-registry-traces") / "models"
    assert {p.name for p in models.iterdir()} == {"echo größe", "no versions", "qa-prompt"}
    stages = [load(p)["current_stage"] for p in models.glob("echo größe/version-*/meta.yaml")]
    assert sorted(stages) == ["Archived", "Deleted_Internal", "Production"]
    assert not list(models.glob("no versions/version-*"))
    prompt = models / "qa-prompt"
    assert (prompt / "tags/mlflow.prompt.is_prompt").read_text() == "true"
    assert "✓" in (prompt / "version-2/tags/mlflow.prompt.text").read_text(encoding="utf-8")
    inputs = [load(p)["tags"] for p in models.parent.glob("*/*/inputs/*/meta.yaml")]
    assert {tags["split"] for tags in inputs} == {"training", "eval"}


def test_sweeps_bear_the_marks_of_their_tools() -> None:
    mlruns = store("2.22.5-sweeps")
    trials = [r for r in all_runs(mlruns) if value(r, "tags", "x_distribution")]
    assert sorted(str(name_of(r)) for r in trials) == ["0", "0", "1", "1", "2", "2"]
    for key in ("number", "datetime_start", "datetime_complete", "direction"):
        assert all(value(r, "tags", key) for r in trials), key
    assert [value(r, "tags", "state") for r in trials].count("PRUNED") == 2
    assert sum(r in children(mlruns, named(mlruns, "study")) for r in trials) == 3
    search = run_folders(experiment(mlruns, "grid search"))
    assert {value(r, "tags", "mlflow.autologging") for r in search} == {"sklearn"}
    (root,) = [r for r in search if value(r, "tags", "mlflow.parentRunId") is None]
    assert value(root, "tags", "estimator_name") == "GridSearchCV"
    assert points(root, "best_cv_score")
    inner = children(mlruns, root)
    assert len(inner) == 2
    start = load(root / "meta.yaml")["start_time"]
    assert all(load(r / "meta.yaml")["start_time"] == start for r in inner)
    assert all(points(r, "mean_test_score") for r in inner)


def test_the_server_store_has_its_files_beside_it() -> None:
    mlruns = store("2.22.5-server")
    beside = mlruns.parent / "mlartifacts"
    for run in all_runs(mlruns):
        assert load(run / "meta.yaml")["artifact_uri"].startswith("mlflow-artifacts:/")
        assert not (run / "artifacts").exists() or not list((run / "artifacts").iterdir())
    assert len(list(beside.glob("*/*/artifacts/prompt.txt"))) == 1
    assert len(list(beside.glob("*/traces/*/artifacts/traces.json"))) == 1
    assert not list(mlruns.glob("*/traces/*/artifacts"))


@pytest.mark.parametrize("name", ["3.1.4-models", "3.5.1-genai"])
def test_3_x_stores_hold_logged_models_and_their_links(name: str) -> None:
    mlruns = store(name)
    models = {p.name: load(p / "meta.yaml") for p in mlruns.glob("*/models/m-*")}
    assert sorted(m["status"] for m in models.values()) == [1, 1, 2, 2, 2, 2, 3]
    assert sorted(m["name"] for m in models.values() if m.get("lifecycle_stage") == "deleted") == [
        "deleted"
    ]
    run = named(mlruns, "models and metrics")
    assert len(points(run, "f1")) == 4
    assert len(set(points(run, "f1"))) == 1
    assert any(len(line.split()) == 5 for line in points(run, "acc on data"))
    outputs = list(run.glob("outputs/m-*/meta.yaml"))
    assert {path.parent.name for path in outputs} <= set(models)
    assert len(outputs) == 2
    kinds = {load(p)["source_type"] for r in all_runs(mlruns) for p in r.glob("inputs/*/meta.yaml")}
    assert "DATASET" in kinds
    assert len(kinds) == 2
    assert list(mlruns.glob("*/models/m-*/tags/mlflow.model.isExternal"))
    ids = {
        load(p)["version"]: load(p)["model_id"] for p in mlruns.glob("models/echo*/version-*/*l")
    }
    assert ids[1] in models
    assert ids[2] is None
    assert depth(mlruns) == 2


def test_3_1_traces_are_of_schema_3_with_base64_ids() -> None:
    found = list(traces(store("3.1.4-models")))
    states = [info["status"] for _, info in found]
    assert sorted(states) == ["ERROR", "IN_PROGRESS", "OK", "OK"]
    done = [trace for trace, info in found if info["status"] == "OK"]
    for trace in done:
        spans = spans_of(trace)
        assert spans[0]["parent_span_id"] == ""
        assert spans[0]["trace_id"].endswith("==")
        assert (trace / "request_metadata/mlflow.trace.tokenUsage").is_file()


def test_3_5_holds_assessments_sessions_prompts_and_a_trace_without_spans() -> None:
    mlruns = store("3.5.1-genai")
    found = {t: info for t, info in traces(mlruns)}
    assert sorted(info["state"] for info in found.values()) == ["ERROR", "OK", "OK", "OK"]
    bare = [t for t in found if not (t / "artifacts").exists()]
    assert len(bare) == 1
    assert not (bare[0] / "tags/mlflow.artifactLocation").exists()
    sessions = [t for t in found if (t / "request_metadata/mlflow.trace.session").is_file()]
    assert len(sessions) == 3
    marks = [load(p) for t in found for p in (t / "assessments").glob("*.yaml")]
    feedback = [m["feedback"] for m in marks if "feedback" in m]
    kinds = {type(f["value"]).__name__ for f in feedback}
    assert kinds == {"str", "float", "bool", "dict", "NoneType"}
    assert [f["error"]["error_code"] for f in feedback if "error" in f] == ["ValueError"]
    assert [m["valid"] for m in marks].count(False) == 1
    assert len([m for m in marks if "overrides" in m]) == 1
    assert len([m for m in marks if "span_id" in m]) == 1
    expected = [m["expectation"] for m in marks if "expectation" in m]
    lists = [json.loads(e["serialized_value"]["value"]) for e in expected if "value" not in e]
    assert lists == [["f1 – ✓", {"x": 2}]]
    assert {m["source"]["source_type"] for m in marks} == {"HUMAN", "LLM_JUDGE", "CODE"}
    chat = mlruns / "models/chat-prompt/version-1/tags"
    assert (chat / "_mlflow_prompt_type").read_text() == "chat"
    assert len([t for t in found if (t / "tags/mlflow.linkedPrompts").is_file()]) == 1


# ------------------------------------------------------------------------------------- copying
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_has_the_folders_that_git_drops(name: str, tmp_path: Path) -> None:
    copy = materialise(name, tmp_path / "restored")
    assert copy == tmp_path / "restored" / name / "mlruns"
    source = FIXTURES / name
    listed = (source / "empty-folders.txt").read_text(encoding="utf-8").splitlines()
    assert all((copy.parent / folder).is_dir() for folder in listed)
    if not name.endswith("-emptied"):
        assert listed
        for run in all_runs(copy):
            assert all((run / kind).is_dir() for kind in ("metrics", "params", "artifacts"))
    as_written = {
        p.relative_to(source) for p in source.rglob("*") if p.is_file() and p.parent != source
    }
    assert {p.relative_to(copy.parent) for p in copy.parent.rglob("*") if p.is_file()} == as_written


def test_a_copy_may_stay_without_them(tmp_path: Path) -> None:
    restored = materialise("2.9.2-agents", tmp_path / "a")
    bare = materialise("2.9.2-agents", tmp_path / "b", restore_empty=False)
    for listed in (FIXTURES / "2.9.2-agents/empty-folders.txt").read_text().splitlines():
        folder = Path(listed).relative_to("mlruns")
        assert (restored / folder).is_dir()
        assert not (bare / folder).exists() or not list((bare / folder).iterdir())


def test_an_unknown_fixture_is_named_with_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"2\.9\.2-agents"):
        store("0.0-none")
