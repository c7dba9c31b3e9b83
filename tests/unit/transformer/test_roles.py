"""What a tree was: fingerprints of tools, the weighing of signs, and the false friends."""

from __future__ import annotations

from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import Role, RunRecord, TokenUsage
from migrator.transformer import PlanOptions
from tests.support.planskit import LLM, plan, plans, run, run_id

LLM_TEXT = "Which of the models is the better one?"


def tree(root: dict[str, Any], *children: dict[str, Any]) -> list[RunRecord]:
    runs = [run("root", **root)]
    for number, child in enumerate(children):
        runs.append(run(child.pop("run_name", f"step{number}"), "root", **child))
    return runs


def grid(**extra: Any) -> list[dict[str, Any]]:
    return [
        {"params": {"lr": str(i), "depth": "3"}, "metrics": {"accuracy": 0.5 + i / 10}, **extra}
        for i in range(3)
    ]


SWEEPS: dict[str, list[RunRecord]] = {
    "optuna": tree(
        {},
        *({"run_name": str(i), "tags": {"x_distribution": "Float"}} for i in (0, 1)),
    ),
    "sklearn": tree(
        {"tags": {"mlflow.autologging": "sklearn"}, "metrics": {"best_cv_score": 0.9}},
        {"metrics": {"mean_test_score": 0.9, "rank_test_score": 1}},
    ),
    "hyperopt": tree({"tags": {"runSource": "hyperoptAutoTracking"}}, {}),
    "ray": tree({}, {"tags": {"trial_name": "t_1"}, "metrics": {"training_iteration": 3}}),
    "flaml": tree({}, {"tags": {"flaml.best_run": "True"}}),
    "pycaret": tree({"params": {"session_id": "4711"}}, {"tags": {"USI": "9c50", "URI": "a"}}),
    "dspy": tree(
        {"artifacts": ["best_model.json"]},
        {"run_name": "eval_0", "metrics": {"eval": 51.0}, "params": {"model": "gpt-4o"}},
    ),
    "grid": tree({}, *grid()),
    "optuna by name": tree({"run_name": "SMOTE_Optuna_HPO"}, {}),
    "one trial": tree(
        {"run_name": "hyperparameters x"}, {"params": {"lr": "1"}, "metrics": {"accuracy": 0.4}}
    ),
    "folds": tree({}, *({"run_name": f"fold_{i}", "metrics": {"rmse": i}} for i in range(5))),
}  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_searches_stay_runs(name: str) -> None:
    made = plan(*SWEEPS[name])
    assert (made.role, made.left_as_runs, made.traces) == (Role.SWEEP, "sweeps", ())
    assert made.reasons


@pytest.mark.parametrize("name", SWEEPS)
def test_searches_become_traces_when_asked_for(name: str) -> None:
    made = plan(*SWEEPS[name], options=PlanOptions(include=frozenset({"sweeps"})))
    assert made.role is Role.SWEEP and made.left_as_runs is None
    assert sum(len(t.spans) for t in made.traces) == len(SWEEPS[name])


def test_stages_of_training_are_a_pipeline() -> None:
    made = plan(
        *tree(
            {},
            {"run_name": "prepare", "params": {"rows": "10"}, "metrics": {"train_rows": 1}},
            {"run_name": "train", "params": {"epochs": "3"}, "metrics": {"train_loss": 0.1}},
        )
    )
    assert (made.role, made.left_as_runs) == (Role.PIPELINE, "pipelines")
    kedro = plan(*tree({"tags": {"kedro_command": "kedro run"}}, LLM | {}))
    assert kedro.role is Role.PIPELINE


def test_one_stage_that_trains_makes_a_pipeline_unless_something_speaks_of_an_llm() -> None:
    stages: list[dict[str, Any]] = [
        {"run_name": "ingest", "metrics": {"rows": 100}},
        {"run_name": "train", "params": {"learning_rate": "0.1"}, "metrics": {"rmse": 0.4}},
        {"run_name": "evaluate", "metrics": {"rows": 20}},
    ]
    made = plan(*tree({}, *(dict(stage) for stage in stages)))
    assert (made.role, made.left_as_runs) == (Role.PIPELINE, "pipelines")
    made = plan(*tree({"texts": {"prompt.txt": LLM_TEXT}}, *(dict(stage) for stage in stages)))
    assert made.role is Role.WORKFLOW


def test_same_grid_with_prompts_and_tokens_is_not_a_sweep() -> None:
    children = [
        {
            "params": {"model": "gpt-4o", "temperature": str(i)},
            "metrics": {"input_tokens": i + 1, "output_tokens": 2},
            "texts": {"prompt.txt": "Tell me about the sea", "response.txt": "It is wide"},
        }
        for i in range(3)
    ]
    made = plan(*tree({}, *children))
    assert (made.role, made.left_as_runs) == (Role.WORKFLOW, None)


def test_search_over_llm_settings_stays_runs_unless_asked_for() -> None:
    children = [
        {"run_name": f"trial_{i}", "params": {"model": "gpt-4o", "temperature": str(i)},
         "metrics": {"score": i, "total_tokens": 9}} for i in range(3)
    ]  # fmt: skip
    made = plan(*tree({"metrics": {"best_score": 2, "total_trials": 3}}, *children))
    assert (made.role, made.left_as_runs) == (Role.SWEEP, "sweeps")


def test_nested_runs_without_signs_either_way_are_a_workflow() -> None:
    made = plan(*tree({}, {"run_name": "fetch"}, {"run_name": "summarise"}))
    assert (made.role, made.left_as_runs) == (Role.WORKFLOW, None)


def test_children_named_turns_are_a_session_with_a_trace_each() -> None:
    turns = [
        {"run_name": f"ab12_turn_{i}", "start": i * 10, "end": i * 10 + 5, **LLM}
        for i in (1, 2, 10)
    ]
    made = plan(*tree({"params": {"session_id": "s-1", "email": "a@b.c"}}, *turns))
    assert made.role is Role.SESSION
    assert [t.name for t in made.traces] == ["ab12_turn_1", "ab12_turn_2", "ab12_turn_10"]
    for made_trace in made.traces:
        assert made_trace.metadata["mlflow.trace.session"] == "s-1"
        assert made_trace.metadata["mlflow.trace.user"] == "a@b.c"
        assert made_trace.run_ids[-1] == run_id("root")
        assert made_trace.spans[0].attributes["legacy.parent.param.email"] == '"a@b.c"'


def test_session_without_an_id_gets_its_parents_run_id() -> None:
    made = plan(*tree({}, *({"run_name": f"turn-{i}", **LLM} for i in (1, 2))))
    assert {t.metadata["mlflow.trace.session"] for t in made.traces} == {run_id("root")}


def test_cases_of_a_batch_are_a_trace_each() -> None:
    made = plan(
        *tree({}, *({"run_name": f"eval_{i}", "params": {"case_id": str(i)}} for i in (1, 2)))
    )
    assert (made.role, len(made.traces)) == (Role.BATCH, 2)
    assert all("mlflow.trace.session" not in t.metadata for t in made.traces)


CALLS: dict[str, dict[str, Any]] = {
    "prompt and response": {"params": {"prompt": "What is MLflow?", "response": "A platform"}},
    "question file": {"texts": {"question.txt": "What is MLflow?"}},
    "tokens with a model": {
        "params": {"model": "claude-3-opus"},
        "metrics": {"prompt_tokens": 3, "completion_tokens": 4},
    },
    "inputs and outputs": {"texts": {"inputs.json": '{"a": "b"}', "outputs.json": '{"c": 1}'}},
    "model, latency and status": {
        "params": {"model": "gpt-4", "temperature": "0.3"},
        "metrics": {"total_processing_time": 1.3, "table_count": 2},
        "tags": {"status": "error"},
    },
    "notes of queries": {
        "texts": {"queries/query_1.txt": "Question:\nWho?\n\nAnswer:\nMe"},
        "params": {"llm_model": "llama3.2"},
    },
    "a few words and what was looked up for them": {
        "params": {"query": "hazards of the enamel", "session_id": "session_1764183391175"},
        "metrics": {"latency_ms": 3e4, "avg_similarity": 0.6, "total_chunks": 5.0},
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_flat_run_with_clear_evidence_is_a_call(name: str) -> None:
    made = plan(run("r", **CALLS[name]))
    assert (made.role, made.left_as_runs, len(made.traces)) == (Role.CALL, None, 1), made.reasons


FRIENDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "status and latency": {"params": {"status": "success"}, "metrics": {"latency_seconds": 33.0}},
    "session id that is a seed": {"params": {"session_id": "4711"}, "metrics": {"accuracy": 0.9}},
    "user id": {"params": {"user_id": "7"}, "metrics": {"f1": 0.9}},
    "cost of a route": {"metrics": {"total_cost": 381.0, "n_vehicles": 3}},
    "user rating of films": {"metrics": {"user_rating": 3.5, "rmse": 0.9}},
    "agent in reinforcement learning": {"params": {"agent": "ppo"}, "metrics": {"reward": 5}},
    "phase": {"tags": {"phase": "train", "type": "experiment"}},
    "language model training": {
        "params": {"model_name": "meta-llama/Llama-3-8B", "learning_rate": "1e-5"},
        "metrics": {"train_loss": 0.4, "train_tokens": 1e6, "tokens_per_sec": 300},
    },
    "evaluation over many cases": {
        "params": {"model": "gpt-4o", "temperature": "0"},
        "metrics": {"accuracy": 0.8, "avg_latency": 2.0, "latency": 2.0},
    },
    "query that is a table name": {"params": {"query": "sales"}},
    "model and latency": {"params": {"model": "gpt-4"}, "metrics": {"latency_ms": 5}},
    "compiled program": {
        "params": {"model_name": "gemini-2.0-flash", "rag_hops": "2"},
        "metrics": {"compilation_success": 1},
    },
}


@pytest.mark.parametrize("name", FRIENDS)
def test_false_friends_do_not_make_a_trace(name: str) -> None:
    made = plan(run("r", **FRIENDS[name]))
    assert (made.role, made.left_as_runs) == (Role.TRAINING, "flat"), made.reasons


def test_flat_runs_are_included_and_left_out_on_request() -> None:
    plain = run("r", metrics={"latency_seconds": 1.0})
    assert len(plan(plain, options=PlanOptions(include=frozenset({"flat"}))).traces) == 1
    call = run("r", **CALLS["question file"])
    made = plan(call, options=PlanOptions(exclude=frozenset({"flat"})))
    assert (made.role, made.left_as_runs) == (Role.CALL, "flat")


def test_role_given_for_an_experiment_wins() -> None:
    options = PlanOptions(roles={"1": Role.WORKFLOW})
    assert len(plan(*SWEEPS["grid"], options=options).traces[0].spans) == 4
    options = PlanOptions(roles={"1": Role.SWEEP})
    assert plan(*tree({}, LLM | {}), options=options).left_as_runs == "sweeps"


def test_deleted_tree_stays_runs_unless_asked_for() -> None:
    runs = [run("root", deleted=True), run("kid", "root", deleted=True, **LLM)]
    made = plan(*runs)
    assert (made.left_as_runs, made.traces, len(made.run_ids)) == ("deleted", (), 2)
    included = plan(*runs, options=PlanOptions(include=frozenset({"deleted"})))
    assert len(included.traces[0].spans) == 2


def test_run_deleted_with_its_experiment_counts_as_live() -> None:
    made = plan(run("r", deleted=True, deleted_with_experiment=True, **CALLS["question file"]))
    assert len(made.traces) == 1


def test_deleted_step_has_no_span_and_its_children_move_up() -> None:
    (made,) = plan(
        run("root"), run("gone", "root", deleted=True), run("kid", "gone", **LLM)
    ).traces  # fmt: skip
    assert [s.name for s in made.spans] == ["root", "kid"]
    assert made.spans[1].parent_span_id == made.spans[0].span_id
    assert run_id("gone") not in made.run_ids


def test_live_children_of_a_deleted_root_start_their_own_traces() -> None:
    made = plan(
        run("root", deleted=True),
        run("a", "root", **LLM),
        run("a1", "a"),
        run("b", "root", **CALLS["question file"]),
        run("c", "root"),
    )
    assert sorted([s.name for s in t.spans] for t in made.traces) == [["a", "a1"], ["b"]]
    assert set(made.run_ids) == {run_id(n) for n in ("root", "a", "a1", "b", "c")}


def test_live_trials_of_a_deleted_search_stay_runs() -> None:
    runs = SWEEPS["grid"]
    made = plan(run("root", deleted=True), *runs[1:])
    assert (made.role, made.left_as_runs) == (Role.SWEEP, "sweeps")


def test_run_with_a_native_trace_is_linked_and_not_rebuilt() -> None:
    call = run("r", **CALLS["question file"])
    made = plan(call, native={call.run_id: ("tr-1",)})
    assert (made.left_as_runs, made.traces) == ("native", ())
    named = run("r", tags={"trace_id": "ab" * 16}, **CALLS["question file"])
    assert plan(named, known=["tr-" + "ab" * 16]).left_as_runs == "native"
    assert len(plan(named).traces) == 1
    summary = {"cost_summary.json": '{"trace_id": "tr-77"}', "question.txt": "What is it?"}
    assert plan(run("r", texts=summary), known=["tr-77"]).left_as_runs == "native"


def test_step_with_a_native_trace_counts_its_tokens_there() -> None:
    kid = run("kid", "root", **LLM)
    (made,) = plan(run("root"), kid, native={kid.run_id: ("tr-1",)}).traces
    assert made.usage is None
    assert made.spans[1].attributes["legacy.native_traces"] == '["tr-1"]'


def test_calls_in_the_histories_of_a_step_with_a_native_trace_are_counted_there() -> None:
    counts = {
        "prompt_tokens": [(100, 10, 0), (200, 20, 1)],
        "completion_tokens": [(100, 1, 0), (200, 2, 1)],
        "cost_usd": [(100, 0.5, 0), (200, 0.25, 1)],
    }
    kid = run("kid", "root", params={"model": "gpt-4o"}, metrics=counts)
    (alone,) = plan(run("root"), kid).traces
    assert alone.usage == TokenUsage(30, 3, 33)
    (made,) = plan(run("root"), kid, native={kid.run_id: ("tr-1",)}).traces
    assert [each.name for each in made.spans] == [each.name for each in alone.spans]
    assert (made.usage, made.metadata.get(conv.TRACE_COST)) == (None, None)
    uneven = {**counts, "completion_tokens": [(200, 3, 0)]}
    kid = run("kid", "root", params={"model": "gpt-4o"}, metrics=uneven)
    (made,) = plan(run("root"), kid, native={kid.run_id: ("tr-1",)}).traces
    assert made.usage is None


def test_missing_runs_of_a_tree_do_not_stop_the_others() -> None:
    from migrator.transformer import RunTree, plan_tree
    from tests.support.planskit import PROFILES

    kid = run("kid", "root", **CALLS["question file"])
    tree_ = RunTree(run_id("root"), {kid.run_id: kid}, {run_id("root"): (kid.run_id,)})
    made = plan_tree(tree_, PROFILES, PlanOptions(), {})
    assert [t.name for t in made.traces] == ["kid"]
    nothing = plan_tree(RunTree("x", {}, {}), PROFILES, PlanOptions(), {})
    assert (nothing.left_as_runs, nothing.run_ids) == ("unreadable", ())


def test_reasons_name_every_sign_that_counted() -> None:
    (made,) = plans(run("r", **CALLS["model, latency and status"]))
    text = " ".join(made.reasons)
    for sign in ("param model = gpt-4", "total_processing_time", "status", "settings"):
        assert sign in text


@pytest.mark.parametrize(
    "stage",
    [
        {"metrics": {"rows": 9100.0}},
        {"params": {"output_table": "a.b"}},
        {"params": {"embedding_model": "bge-small"}, "metrics": {"total_tokens": 51000.0}},
    ],
)
def test_stages_of_a_job_on_data_stay_runs(stage: dict[str, Any]) -> None:
    made = plan(*tree({}, {"run_name": "load", **stage}, {"run_name": "store"}))
    assert (made.role, made.traces) == (Role.PIPELINE, ())
    answer = {"texts": {"answer.txt": "Nine thousand rows were loaded."}}
    made = plan(*tree({}, {"run_name": "load", **stage}, {"run_name": "tell", **answer}))
    assert made.role is Role.WORKFLOW


def test_tokens_that_an_index_was_made_of_speak_of_no_llm() -> None:
    stages = [{"run_name": "chunk", "metrics": {"num_chunks": 300}},
              {"run_name": "embed", "metrics": {"total_tokens": 40_000}}]  # fmt: skip
    made = plan(*tree({"params": {"embedding_model": "bge-small"}}, *stages))
    assert (made.role, made.traces) == (Role.PIPELINE, ())
    told = [{"run_name": "chunk", "metrics": {"num_chunks": 3}},
            {"run_name": "tell", "metrics": {"total_tokens": 400}}]  # fmt: skip
    assert plan(*tree({"params": {"embedding_model": "bge-small"}}, *told)).traces
    answered = {"run_name": "generate", "texts": {"answer.txt": LLM_TEXT}, **LLM}
    assert plan(*tree({}, {"run_name": "embed", "metrics": {"tokens": 12}}, answered)).traces


def test_versions_of_a_prompt_that_were_scored_are_a_search() -> None:
    prompts = [
        {"run_name": f"prompt_v{number}", "metrics": {"rouge": number / 10},
         "params": {"prompt": f"Summarise the text in {number} sentences.", "version": str(number)}}
        for number in (1, 2, 3)
    ]  # fmt: skip
    made = plan(*tree({"params": {"model": "gpt-4o"}}, *prompts))
    assert (made.role, made.traces) == (Role.SWEEP, ())


def test_sample_that_a_trained_model_wrote_makes_no_workflow() -> None:
    loss = {"train_loss": [(0, 10, 2.0), (1, 20, 1.5), (2, 30, 1.1)]}
    sample = {"run_name": "eval", "texts": {"sample_generation.txt": "The mill grinds the sea."}}
    base = {"base_model": "meta-llama/Llama-3.2-1B"}
    assert plan(*tree({"params": base, "metrics": loss}, sample)).traces == ()
    assert len(plan(*tree({"params": base}, sample)).traces) == 1


def test_turn_has_the_model_of_its_session() -> None:
    turns = [
        {"run_name": f"turn_{i}", "params": {"user_message": "hello there", **own}}
        for i, own in enumerate(({}, {"model": "gpt-4o"}))
    ]
    made = plan(*tree({"params": {"model": "gemini-1.5-flash"}}, *turns))
    models = [trace.spans[0].attributes["mlflow.llm.model"] for trace in made.traces]
    assert models == ['"gemini-1.5-flash"', '"gpt-4o"']
