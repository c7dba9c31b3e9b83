"""What a tree of runs was: workflow, session, batch or call; or sweep, pipeline or training.

Fingerprints of known tools decide alone; after them signs are weighed, and every sign that counted
is a sentence in the reasons. Words that mean one thing in LLM work and another in ordinary machine
learning (``session_id`` is PyCaret's random seed, ``cost`` a path's) count for nothing alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from migrator.model import Role, RunRecord
from migrator.transformer.profiles import Profile, Recognition, Source, normalise, spellings
from migrator.transformer.run_view import WEAK_STEMS, Found, RunView, as_number

CONVERT_FLAT = 4  # a childless run becomes a trace from this score on
LEAVE_TREE = -3  # a tree with LLM evidence stays runs from this score down
LEAVE_BARE_TREE = -2  # and a tree without any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LLM_MODEL = re.compile(
    r"(?i)(^|[/:_.\s-])(gpt-?\d|gpt-|chatgpt|o[134](-mini|-preview)?$|claude|gemini|llama|mistral"
    r"|mixtral|qwen|deepseek|command-r|palm-?2|phi-?\d|gemma|grok|davinci|sonnet|haiku|nova-"
    r"|falcon-|vicuna|ollama|openai|anthropic|groq|bedrock|vertex_?ai|together_ai)"
)
ML_WORDS = _words(
    "accuracy acc f1 auc roc rocauc rmse mse mae mape r2 loss logloss perplexity silhouette map50 "
    "iou kappa mcc gini"
)
ML_PARAMS = _words(
    "learning_rate lr max_depth n_estimators num_estimators batch_size epochs n_epochs num_epochs "
    "num_train_epochs dropout weight_decay momentum optimizer optimizer_name hidden_size "
    "hidden_dim num_layers min_samples_split min_samples_leaf n_clusters kernel penalty subsample "
    "colsample_bytree per_device_train_batch_size num_leaves reg_lambda reg_alpha"
)
ML_FLAVORS = ("sklearn", "xgboost", "lightgbm", "catboost", "pytorch", "tensorflow", "keras")
SETTINGS = _words("temperature max_tokens top_p llm_temperature max_output_tokens")
TRIAL_NAME = re.compile(r"(?i)^(trial|fold|cv|seed|run|iter|iteration|epoch)[\s_#-]*\d+$|^\d+$")
TURN_NAME = re.compile(r"(?i)(^|[_\s-])turn[\s_#-]?\d+$")
CASE_NAME = re.compile(
    r"(?i)^(case|example|sample|question|query|row|item|test|test_case|prompt)[\s_#-]?\w*\d+$|^case_"
)
SEARCH_NAME = re.compile(
    r"(?i)optuna|hyper-?opt|hyper-?param|grid_?search|random_?search|bayes_?opt|tuning|sweep"
    r"|cross_?val|k_?fold|\bhpo\b"
)
SEARCH_KEYS = _words(
    "n_trials num_trials n_splits k_folds cv_folds n_folds search_type search_space study_name "
    "sampler pruner best_trial best_params total_trials best_config n_iter"
)
MANY_CASES = re.compile(
    r"^(avg|mean|median|p50|p90|p95|p99|pass)_|_(avg|mean|median|rate|std)$"
    r"|^(num|n|total|count)_(queries|questions|samples|cases|examples|requests|rows|tests)$"
)


class Sign(NamedTuple):
    """Something that speaks for LLM work (points above 0) or for ordinary training (below)."""

    kind: str
    points: int
    why: str


@dataclass(frozen=True, slots=True)
class Signs:
    """What one run shows of being LLM work (``llm``) or ordinary training (``ml``)."""

    llm: tuple[Sign, ...]
    ml: tuple[Sign, ...]
    own_text: bool  # it holds a prompt, a question or a response
    many_cases: bool  # metrics averaged over many cases


@dataclass(frozen=True, slots=True)
class Verdict:
    """The role of a tree, and the sentences that say why."""

    role: Role
    reasons: tuple[str, ...]


def recognises(profile: Profile, root: RunView, below: Sequence[RunView]) -> bool:
    """Tell whether one of the profile's groups holds for the tree."""
    return any(_group_holds(group, root, below) for group in profile.recognise)


class Keyed(NamedTuple):
    """A run, and its own keys in their normalised form, by place."""

    run: RunRecord
    keys: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, run: RunRecord) -> Keyed:
        places = {"param": run.params, "metric": run.metrics, "tag": run.tags}
        return cls(run, {place: spellings(tuple(names)) for place, names in places.items()})

    def may_have(self, sources: Sequence[Source]) -> bool:
        """Tell whether nothing that is to be had by name is missing."""
        return all(
            source.key in self.keys[source.place]
            for source in sources
            if source.pattern is None and source.place in self.keys and not source.of_root
        )


def may_recognise(profile: Profile, root: Keyed, below: Sequence[Keyed]) -> bool:
    """Tell whether names and keys let one of the profile's groups hold for the tree.

    Most profiles fail here, and no view of the runs need be made for them.
    """
    return any(
        (group.root_name is None or group.root_name.search(root.run.name.strip()) is not None)
        and root.may_have(group.root_has)
        and (not group.child_has or any(each.may_have(group.child_has) for each in below))
        for group in profile.recognise
    )


def _group_holds(group: Recognition, root: RunView, below: Sequence[RunView]) -> bool:
    if group.root_name is not None and not group.root_name.search(root.run.name.strip()):
        return False
    if not all(root.has(source) for source in group.root_has):
        return False
    if group.child_name is None and not group.child_has:
        return True
    return any(
        (group.child_name is None or group.child_name.search(view.run.name.strip()) is not None)
        and all(view.has(source) for source in group.child_has)
        for view in below
    )


def signs_of(view: RunView) -> Signs:
    """Weigh one run by itself."""
    run = view.run
    llm: list[Sign] = []
    ml: list[Sign] = []

    (tokens_in, tokens_out, tokens), where = view.usage()
    counts = [count for count in (tokens_in, tokens_out, tokens) if count is not None]
    if any(count > 0 for count in counts):
        llm.append(Sign("tokens", 3, f"token counts ({where})"))
    elif counts:
        llm.append(Sign("tokens", 2, f"token counts, all zero ({where})"))
    _, given = view.inputs()
    _, got = view.outputs()
    text = max((_text_points(found) for found in (*given, *got)), default=0)
    if text and given and got:
        text = max(text, 4)
    if text:
        names = ", ".join(found.origin for found in (*given, *got)[:3])
        llm.append(Sign("text", text, f"a prompt, a question or a response ({names})"))
    elif any(view.every("calls")):
        llm.append(Sign("text", 4, "a file for each query"))
        text = 4
    model = view.first("model")
    is_llm = model is not None and LLM_MODEL.search(str(model.value)) is not None
    if model is not None and is_llm:
        llm.append(Sign("model", 2, f"an LLM's name ({model.origin} = {str(model.value)[:60]})"))
    kind = view.first("kind")
    if kind is not None and normalise(str(kind.value)) in view.profile.kinds:
        llm.append(Sign("kind", 2, f"a kind of step ({kind.origin} = {str(kind.value)[:60]})"))
    if view.number("cost_usd") and counts:
        llm.append(Sign("cost", 1, "a cost beside the tokens"))
    if is_llm or text or counts:
        # Each of these says nothing alone: training runs have durations and statuses, too.
        if view.first("session") or view.first("user"):
            llm.append(Sign("session", 1, "a session or user id"))
        if duration := view.duration_ms(None):
            llm.append(Sign("latency", 1, f"a latency ({duration[1].origin})"))
        if any(view.every("status")) or any(view.every("success")):
            llm.append(Sign("status", 1, "a status of its own"))
        if any(normalise(key) in SETTINGS for key in run.params):
            llm.append(Sign("settings", 1, "sampling settings"))

    metric_words = {
        key: set(re.split(r"[^a-z0-9]+", normalise(key).replace("_", " "))) for key in run.metrics
    }
    ml_metrics = sorted(
        key
        for key, words in metric_words.items()
        if words & ML_WORDS or normalise(key).startswith(("val_", "train_"))
    )
    if ml_metrics:
        ml.append(Sign("training", -2, f"metrics of training ({', '.join(ml_metrics[:3])})"))
        if any(len({p.step for p in run.metrics[key]}) > 2 for key in ml_metrics):
            ml.append(Sign("epochs", -2, "metrics with a value for each epoch"))
    if params := sorted(key for key in run.params if normalise(key) in ML_PARAMS):
        ml.append(Sign("hyper", -2, f"hyper-parameters ({', '.join(params[:3])})"))
    history = run.tags.get("mlflow.log-model.history", "")
    if flavors := [f for f in ML_FLAVORS if f'"{f}"' in history]:
        ml.append(Sign("flavor", -3, f"a logged {flavors[0]} model"))
    elif run.tags.get("mlflow.autologging") in ML_FLAVORS:
        ml.append(Sign("flavor", -3, f"autologged by {run.tags['mlflow.autologging']}"))
    if any(
        reference.tags.get("mlflow.data.context", "").startswith("train")
        for reference in run.inputs
    ):
        ml.append(Sign("dataset", -2, "a dataset for training"))
    many = any(MANY_CASES.search(normalise(key)) for key in run.metrics)
    return Signs(tuple(llm), tuple(ml), text >= 2, many)


def _text_points(found: Found) -> int:
    value = found.value
    if not isinstance(value, str):
        return 2  # inputs.json or the like; with outputs.json it makes 4
    words = value.split()
    if not words or as_number(value) is not None:
        return 0
    strong = found.stem not in WEAK_STEMS
    if found.place == "artifact":
        return 4 if strong else 2
    sentence = len(words) > 1 or (len(value) > 3 and not value.isascii())
    if not sentence:
        return 0
    return 4 if strong else 2 if len(value) > 20 else 0


def role_of_call(view: RunView) -> Verdict:
    """Decide about a childless root: a call with clear evidence, else a training run."""
    if found := _fingerprint(view, ()):
        return Verdict(Role.TRAINING, (found[1],))
    signs = signs_of(view)
    weighed = [*signs.llm, *signs.ml]
    if signs.many_cases and not signs.own_text:
        weighed.append(Sign("cases", -2, "metrics over many cases"))
    if signs.ml and not signs.own_text:
        weighed.append(Sign("no text", -1, "no text of a prompt or a response"))
    score = sum(sign.points for sign in weighed)
    reasons = tuple(f"{sign.points:+d} {sign.why}" for sign in weighed)
    if score >= CONVERT_FLAT:
        return Verdict(Role.CALL, (f"a childless run with LLM evidence (score {score})", *reasons))
    why = (
        "no LLM evidence"
        if not signs.llm
        else f"not enough LLM evidence (score {score} of {CONVERT_FLAT})"
    )
    return Verdict(Role.TRAINING, (f"a childless run: {why}", *reasons))


def role_of_tree(
    root: RunView | None, below: Sequence[RunView], tops: Sequence[RunView]
) -> Verdict:
    """Decide about a root with children. ``tops`` are the root's own children.

    ``root`` is None when only the children are left (their parent was deleted).
    """
    members = ([root] if root else []) + list(below)
    if found := _fingerprint(root, below):
        return Verdict(found[0], (found[1],))
    signs = [signs_of(view) for view in members]
    llm = [
        max(hits, key=lambda sign: sign.points)
        for kind in ("tokens", "text", "model", "kind", "cost")
        if (hits := [sign for s in signs for sign in s.llm if sign.kind == kind])
    ]
    below_signs = signs[1:] if root else signs
    ml = [
        hits[0]
        for kind in ("training", "epochs", "hyper", "flavor", "dataset")
        if (hits := [sign for s in below_signs for sign in s.ml if sign.kind == kind])
        and len(hits) * 2 > len(below_signs)
    ]
    if root and not any(sign.kind == "flavor" for sign in ml):
        ml += [sign for sign in signs[0].ml if sign.kind == "flavor"]
    search = _search_signs(root, tops)
    if not llm and not search and (stage := _training_stage(below_signs)):
        # Stages differ, so that what one of them does is not to be found in most of them.
        return Verdict(
            Role.PIPELINE, ("nothing in it speaks of an LLM, and a stage of it trains", stage)
        )
    weighed = [*llm, *ml, *search]
    score = sum(sign.points for sign in weighed)
    reasons = [f"{sign.points:+d} {sign.why}" for sign in weighed]
    searches = sum(sign.points for sign in search) <= 2 * LEAVE_TREE  # whatever the trials hold
    if score <= (LEAVE_TREE if llm else LEAVE_BARE_TREE) or (searches and score < CONVERT_FLAT):
        role = Role.SWEEP if search or not _mixed(tops) else Role.PIPELINE
        kind = "a search over settings" if role is Role.SWEEP else "stages of training"
        return Verdict(role, (f"{kind} (score {score})", *reasons))
    role, why = _shape(root, tops)
    sure = "" if score >= CONVERT_FLAT else f" (score {score}: few signs either way)"
    return Verdict(role, (f"{why}{sure}", *reasons))


def _training_stage(signs: Sequence[Signs]) -> str | None:
    """Return what shows that one of the runs trained a model, None if nothing does."""
    for sign in (sign for each in signs for sign in each.ml):
        if sign.kind in ("hyper", "flavor", "dataset"):
            return f"{sign.points:+d} {sign.why}"
    return None


def _search_signs(root: RunView | None, tops: Sequence[RunView]) -> list[Sign]:
    signs = []
    if grid := _grid(tops):
        signs.append(grid)
    if tops and all(TRIAL_NAME.match(view.run.name.strip()) for view in tops):
        name = tops[0].run.name.strip()
        signs.append(Sign("names", -3, f"children named like trials ({name})"))
    if root:
        keys = {normalise(key) for key in (*root.run.params, *root.run.metrics, *root.run.tags)}
        if hits := sorted(k for k in keys if k in SEARCH_KEYS or k.startswith("best_")):
            why = f"a search's keys on the parent ({', '.join(hits[:3])})"
            signs.append(Sign("keys", -3, why))
        if SEARCH_NAME.search(root.run.name):
            signs.append(Sign("name", -3, f"a search's name ({root.run.name.strip()})"))
    return signs


def _shape(root: RunView | None, tops: Sequence[RunView]) -> tuple[Role, str]:
    if not tops:
        return Role.WORKFLOW, "nested runs"
    if all(TURN_NAME.search(view.run.name.strip()) or view.first("turn") for view in tops):
        return Role.SESSION, "its children are turns"
    if root is not None and len(tops) > 1 and (session := root.first("session")):
        total = next(
            (points for key, points in root.run.metrics.items() if normalise(key) == "total_turns"),
            None,
        )
        shared = all(
            (own := view.first("session")) is not None and own.value == session.value
            for view in tops
        )
        if shared and total and total[-1].value == len(tops):
            return Role.SESSION, "its children share its session id, one for each turn counted"
    if len(tops) > 1 and all(
        CASE_NAME.match(view.run.name.strip()) or any(view.every("case")) for view in tops
    ):
        return Role.BATCH, "its children are cases of their own"
    return Role.WORKFLOW, "nested runs, the steps of one workflow"


def _mixed(tops: Sequence[RunView]) -> bool:
    return len({frozenset(view.run.params) for view in tops}) > 1


def _grid(tops: Sequence[RunView]) -> Sign | None:
    groups: dict[frozenset[str], list[RunRecord]] = {}
    for view in tops:
        if view.run.params:
            groups.setdefault(frozenset(view.run.params), []).append(view.run)
    for keys, runs in groups.items():
        if len(runs) < 2 or len(runs) * 2 <= len(tops):
            continue
        values = {tuple(run.params[key] for key in sorted(keys)) for run in runs}
        shared = frozenset.intersection(*(frozenset(run.metrics) for run in runs))
        if len(values) > 1 and shared:
            points = -3 if len(runs) > 2 else -1
            why = f"{len(runs)} children with the same params, other values, and one metric"
            return Sign("grid", points, f"{why} ({min(shared)})")
    return None


# -------------------------------------------------------------------------- fingerprints


def _fingerprint(root: RunView | None, below: Sequence[RunView]) -> tuple[Role, str] | None:
    runs = ([root.run] if root else []) + [view.run for view in below]
    for role, why, holds in _FINGERPRINTS:
        if holds(runs):
            return role, why
    return None


def _any(
    test: Callable[[Mapping[str, str], Mapping[str, object], RunRecord], bool],
) -> Callable[[Sequence[RunRecord]], bool]:
    return lambda runs: any(test(run.tags, run.metrics, run) for run in runs)


_FINGERPRINTS: tuple[tuple[Role, str, Callable[[Sequence[RunRecord]], bool]], ...] = (
    (
        Role.SWEEP,
        "an Optuna study (its callback's tags)",
        _any(
            lambda tags, metrics, run: (
                {"datetime_start", "datetime_complete"} <= tags.keys()
                or any(key.endswith("_distribution") for key in tags)
            )
        ),
    ),
    (
        Role.SWEEP,
        "a scikit-learn search (autologged)",
        _any(
            lambda tags, metrics, run: (
                "rank_test_score" in metrics
                or ("best_cv_score" in metrics and tags.get("mlflow.autologging") == "sklearn")
            )
        ),
    ),
    (
        Role.SWEEP,
        "a Hyperopt search",
        _any(
            lambda tags, metrics, run: (
                tags.get("runSource") == "hyperoptAutoTracking" or "fmin_uuid" in tags
            )
        ),
    ),
    (
        Role.SWEEP,
        "Ray Tune trials",
        _any(lambda tags, metrics, run: "trial_name" in tags and "training_iteration" in metrics),
    ),
    (
        Role.SWEEP,
        "a FLAML search",
        _any(
            lambda tags, metrics, run: any(
                k.startswith(("flaml.", "synapseml.flaml.")) for k in tags
            )
        ),
    ),
    (
        Role.SWEEP,
        "a PyCaret session",
        _any(lambda tags, metrics, run: {"USI", "URI"} <= tags.keys()),
    ),
    (
        Role.SWEEP,
        "a Databricks AutoML experiment",
        _any(lambda tags, metrics, run: any(key.startswith("_databricks_automl") for key in tags)),
    ),
    (
        Role.SWEEP,
        "a DSPy compilation or evaluation",
        lambda runs: (
            len(runs) > 1
            and any(
                re.match(r"eval(_\d+)?$", run.name) is not None and "eval" in run.metrics
                for run in runs[1:]
            )
            and any(
                artifact.path.rsplit("/", 1)[-1]
                in ("best_model.json", "trainset.json", "result_table.json")
                for run in runs
                for artifact in run.artifacts
            )
        ),
    ),
    (
        Role.PIPELINE,
        "a ZenML or Kedro pipeline",
        _any(lambda tags, metrics, run: "zenml" in tags or "kedro_command" in tags),
    ),
    (
        Role.PIPELINE,
        "an MLflow Recipes pipeline",
        _any(lambda tags, metrics, run: "mlflow.pipeline.step.name" in tags),
    ),
)
