"""What a tree of runs was: workflow, session, batch or call; or sweep, pipeline or training.

Fingerprints of known tools decide alone. After them the signs of the runs are weighed (``signs``),
and every sign that counted is a sentence in the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from migrator.model import Role, RunRecord
from migrator.transformer.counted_cases import has_text_length
from migrator.transformer.evidence import Sign
from migrator.transformer.fingerprints import fingerprint
from migrator.transformer.profile_index import Shape, index_of, shape_of
from migrator.transformer.profiles import Profile, Recognition, Source, normalise
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.run_view import RunView
from migrator.transformer.siblings import NO_NAMES, KnownNames, is_known_name
from migrator.transformer.signs import TEST_NAME, Signs, signs_of
from migrator.transformer.values import words

CONVERT_FLAT = 4  # a childless run becomes a trace from this score on
NEVER = -20  # outweighs all that speaks for a call
LEAVE_TREE = -3  # a tree with LLM evidence stays runs from this score down
LEAVE_BARE_TREE = -2  # and a tree without any

TREE_LLM_KINDS = ("tokens", "text", "model", "kind", "cost", "work")
"""Kinds of signs of LLM work that count in a tree: the best of each, wherever it is."""

TREE_ML_KINDS = ("training", "epochs", "hyper", "flavor", "dataset")
"""Kinds of signs of training that count in a tree: those of most runs."""

TRIAL_NAME = re.compile(r"(?i)^(trial|fold|cv|seed|run|iter|iteration|epoch)[\s_#-]*\d+$|^\d+$")
LOOP_NAME = re.compile(r"(?i)^(iter|iteration|round|loop|attempt|cycle)[\s_#-]*\d+$")
TURN_NAME = re.compile(r"(?i)(^|[_\s-])turn[\s_#-]?\d+$")
CASE_NAME = re.compile(
    r"(?i)^(case|example|sample|question|query|row|item|test|test_case|prompt)[\s_#-]?\w*\d+$|^case_"
)
LOOKUP_NAME = re.compile(
    r"(?i)(^|[\s_-])(retriev(e|al|er)|search|embed(ding)?s?|rerank(ing|er)?|index(ing)?)[\s_\d-]*$"
)
"""Names of steps whose tokens are those of texts that were looked up or embedded."""
INDEX_NAME = re.compile(r"(?i)(^|[\s_-])(embed(ding)?s?|index(ing)?)[\s_\d-]*$")
"""Those of them that build an index as well."""

SEARCH_NAME = re.compile(
    r"(?i)optuna|hyper-?opt|hyper-?param|grid_?search|random_?search|bayes_?opt|tuning|sweep"
    r"|cross_?val|k_?fold|\bhpo\b"
)
SEARCH_KEYS = words(
    "n_trials num_trials n_splits k_folds cv_folds n_folds search_type search_space study_name "
    "sampler pruner best_trial best_params total_trials best_config n_iter"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The role of a tree, and the sentences that say why."""

    role: Role
    reasons: tuple[str, ...]


def recognises(profile: Profile, root: RunView, below: Sequence[RunView]) -> bool:
    """Whether one of the profile's groups holds for the tree."""
    return any(_group_holds(group, root, below) for group in profile.recognise)


class Keyed(NamedTuple):
    """A run and its shape."""

    run: RunRecord
    shape: Shape

    @classmethod
    def of(cls, run: RunRecord) -> Keyed:
        return cls(run, shape_of(run))

    def may_have(self, sources: Sequence[Source]) -> bool:
        """False when a key or file is missing that a source names; True says nothing for sure."""
        return all(map(self._may_be_at, sources))

    def _may_be_at(self, source: Source) -> bool:
        if source.of_root or source.place == "field":
            return True
        if source.place != "artifact":
            return bool(self.shape.keys_at(source))
        assert source.pattern is not None
        match = source.pattern.match
        is_listed = any(match(artifact.path) for artifact in self.run.artifacts)
        return is_listed or any(map(match, self.run.texts))


def may_recognise(profile: Profile, root: Keyed, below: Sequence[Keyed]) -> bool:
    """A quick look at names and keys: False when none of the profile's groups can hold.

    Most profiles fail here, so that no view of the runs is made for them.
    """
    groups = index_of(profile).recognitions(root.shape)
    return any(_group_may_hold(group, root, below) for group in groups)


def _group_may_hold(group: Recognition, root: Keyed, below: Sequence[Keyed]) -> bool:
    if group.root_name is not None and not group.root_name.search(root.run.name.strip()):
        return False
    if not root.may_have(group.root_has):
        return False
    return not group.child_has or any(each.may_have(group.child_has) for each in below)


def _group_holds(group: Recognition, root: RunView, below: Sequence[RunView]) -> bool:
    if group.root_name is not None and not group.root_name.search(root.run.name.strip()):
        return False
    if not all(root.has(source) for source in group.root_has):
        return False
    if group.child_name is None and not group.child_has:
        return True
    return any(_is_child(group, view) for view in below)


def _is_child(group: Recognition, view: RunView) -> bool:
    if group.child_name is not None and not group.child_name.search(view.run.name.strip()):
        return False
    return all(view.has(source) for source in group.child_has)


# ------------------------------------------------------------------------------ single runs


def role_of_call(view: RunView, known_names: KnownNames = NO_NAMES) -> Verdict:
    """Decide about a childless root: a call with clear evidence, else a training run.

    ``known_names`` are those of recognised runs of its experiment.
    """
    if found := fingerprint([view.run]):
        return Verdict(Role.TRAINING, (found.why,))
    signs = signs_of(view)
    weighed = [*signs.llm, *signs.ml]
    is_sibling = is_known_name(view.run.name, known_names.of_trees)
    if is_sibling:
        weighed.append(Sign("sibling", CONVERT_FLAT, "the name of a recognised step or workflow"))
    elif signs.has_failed and known_names.has_call_like(view.run):
        why = "it failed, and has a recognised call's name or params"
        weighed.append(Sign("sibling", CONVERT_FLAT, why))
    elif known_names.is_among_calls(view.run) and (signs.llm or _tells_of_text(view)):
        why = "runs with the same params by the same script are calls"
        weighed.append(Sign("sibling", CONVERT_FLAT, why))
    if not signs.own_text:
        weighed += _doubts(view, signs)
    score = _score(weighed)
    reasons = _reasons(weighed)
    if score >= CONVERT_FLAT:
        return Verdict(Role.CALL, (f"a childless run with LLM evidence (score {score})", *reasons))
    why = "no LLM evidence"
    if signs.llm or is_sibling:
        why = f"not enough LLM evidence (score {score} of {CONVERT_FLAT})"
    return Verdict(Role.TRAINING, (f"a childless run: {why}", *reasons))


def _tells_of_text(view: RunView) -> bool:
    """Whether a run holds words under a name that asks, be they few, or the length of a text.

    SQL and data do not count as words.
    """
    given = view.inputs()[1] or view.few_words()[1]
    has_words = any(kind_of_text(str(found.value)) > Prose.NOTHING for found in given)
    return has_words or has_text_length(view.run)


def _doubts(view: RunView, signs: Signs) -> list[Sign]:
    """What speaks against a call where no text says what was asked or answered."""
    doubts: list[Sign] = []
    if signs.many_cases:
        doubts.append(Sign("cases", NEVER, "totals or averages over many cases"))
    if signs.is_only_prompt:
        doubts.append(Sign("prompt", NEVER, "a prompt without a question, an answer or a measure"))
    if signs.ml:
        doubts.append(Sign("no text", -1, "no text of a question or a response"))
    kinds = {sign.kind for sign in signs.llm}
    if kinds.isdisjoint(("text", "model")) and LOOKUP_NAME.search(view.run.name):
        why = f"named like a look-up ({view.run.name.strip()}), without a text or an LLM"
        doubts.append(Sign("look-up", NEVER, why))
    if TEST_NAME.search(view.run.name):
        doubts.append(Sign("test", -2, f"named like a test ({view.run.name.strip()})"))
    return doubts


def _score(signs: Iterable[Sign]) -> int:
    return sum(sign.points for sign in signs)


def _reasons(signs: Iterable[Sign]) -> tuple[str, ...]:
    return tuple(f"{sign.points:+d} {sign.why}" for sign in signs)


# ------------------------------------------------------------------------------------ trees


def role_of_tree(
    root: RunView | None,
    below: Sequence[RunView],
    tops: Sequence[RunView],
    known_names: KnownNames = NO_NAMES,
) -> Verdict:
    """Decide about a root with children. ``tops`` are the root's own children.

    ``root`` is None when only the children are left (their parent was deleted). ``known_names`` are
    those of recognised runs of its experiment.
    """
    members = [*([root] if root else []), *below]
    if found := fingerprint([view.run for view in members]):
        return Verdict(found.role, (found.why,))
    tree = TreeSigns.of(root, below, tops)
    if other := tree.other_work():
        return other
    weighed = tree.weighed()
    score = _score(weighed)
    if tree.is_search(score) or score <= tree.least_score():
        role, why = Role.PIPELINE, "stages of training"
        if tree.search or not _has_stages(tops):
            role, why = Role.SWEEP, "a search over settings"
        return Verdict(role, (f"{why} (score {score})", *_reasons(weighed)))
    if root is not None and not tree.llm and known_names.has_only_jobs_like(root.run):
        why = "nothing in it speaks of an LLM, and trees of its name are pipelines or sweeps"
        return Verdict(Role.PIPELINE, (why,))
    role, why = _shape(root, tops)
    doubt = "" if score >= CONVERT_FLAT else f" (score {score}: few signs either way)"
    return Verdict(role, (f"{why}{doubt}", *_reasons(weighed)))


@dataclass(frozen=True, slots=True)
class TreeSigns:
    """What the runs of a tree show together."""

    below: Sequence[Signs]
    llm: Sequence[Sign]
    ml: Sequence[Sign]
    search: Sequence[Sign]
    data_job: Sign | None  # of the first run that works on data
    has_loss_curves: bool  # its root has: what the training of a model wrote besides is no workflow

    @classmethod
    def of(
        cls, root: RunView | None, below: Sequence[RunView], tops: Sequence[RunView]
    ) -> TreeSigns:
        of_root = signs_of(root) if root is not None else None
        of_below = [_without_indexing(view, signs_of(view)) for view in below]
        every = [of_root, *of_below] if of_root is not None else of_below
        is_loop = _is_loop(tops, every)
        has_loss_curves = of_root is not None and _has_loss_curves(of_root)
        ml = _common_ml_signs(of_below)
        if of_root is not None:
            ml += _ml_signs_of_root(of_root, ml)
        return cls(
            below=of_below,
            llm=_best_llm_signs(every),
            ml=ml,
            search=_search_signs(root, tops, is_loop=is_loop),
            data_job=next((each.data_job for each in every if each.data_job is not None), None),
            has_loss_curves=has_loss_curves,
        )

    def other_work(self) -> Verdict | None:
        """The verdict on stages of training or of a job on data, if nothing speaks of an LLM."""
        if self.llm or self.search:
            return None
        stage = _training_stage(self.below)
        if stage is not None:
            # Stages differ, so that what one of them does is not to be found in most of them.
            why = "nothing in it speaks of an LLM, and a stage of it trains"
            return Verdict(Role.PIPELINE, (why, *_reasons([stage])))
        if self.data_job is not None and not self.ml:
            return Verdict(Role.PIPELINE, ("stages of a job on data", *_reasons([self.data_job])))
        return None

    def weighed(self) -> list[Sign]:
        """All that counts for or against LLM work."""
        weighed = [*self.llm, *self.ml, *self.search]
        is_grid = any(sign.kind == "grid" for sign in self.search)
        if _are_totals(self.below, () if is_grid else self.llm):
            weighed.append(Sign("cases", NEVER, "totals or averages over many cases, and no text"))
        are_prompts = sum(each.is_only_prompt for each in self.below) * 2 > len(self.below)
        if is_grid and are_prompts:
            weighed.append(Sign("prompts", NEVER, "versions of a prompt, and no text of a call"))
        return weighed

    def is_search(self, score: int) -> bool:
        """Whether it surely is a search over settings, whatever its trials hold."""
        return _score(self.search) <= 2 * LEAVE_TREE and score < CONVERT_FLAT

    def least_score(self) -> int:
        """The score with which it still stays runs."""
        if self.has_loss_curves:
            return CONVERT_FLAT - 1
        return LEAVE_TREE if self.llm else LEAVE_BARE_TREE


def _without_indexing(view: RunView, signs: Signs) -> Signs:
    """What a run shows, but for the tokens of texts that it embedded, by its name."""
    kinds = {sign.kind for sign in signs.llm}
    if not INDEX_NAME.search(view.run.name) or not kinds.isdisjoint(("text", "model")):
        return signs
    return signs._replace(llm=tuple(sign for sign in signs.llm if sign.kind != "tokens"))


def _has_loss_curves(root: Signs) -> bool:
    return any(sign.kind == "epochs" for sign in root.ml)


def _best_llm_signs(signs: Sequence[Signs]) -> list[Sign]:
    """Of each kind of LLM evidence the sign with the most points, wherever in the tree it is."""
    best: list[Sign] = []
    for kind in TREE_LLM_KINDS:
        hits = [sign for each in signs for sign in each.llm if sign.kind == kind]
        if hits:
            best.append(max(hits, key=lambda sign: sign.points))
    return best


def _common_ml_signs(signs: Sequence[Signs]) -> list[Sign]:
    """Of each kind of training evidence the first sign, if most runs show that kind."""
    common: list[Sign] = []
    for kind in TREE_ML_KINDS:
        hits = [sign for each in signs for sign in each.ml if sign.kind == kind]
        if len(hits) * 2 > len(signs):
            common.append(hits[0])
    return common


def _ml_signs_of_root(root: Signs, known: Sequence[Sign]) -> list[Sign]:
    """What a root adds to the evidence of training: its model, and beside loss curves all of it."""
    if _has_loss_curves(root):
        return [sign for sign in root.ml if sign not in known]
    if any(sign.kind == "flavor" for sign in known):
        return []
    return [sign for sign in root.ml if sign.kind == "flavor"]


def _are_totals(signs: Sequence[Signs], llm: Sequence[Sign]) -> bool:
    """Whether most runs below hold totals over many cases, and no tokens and no text but a prompt.

    ``llm`` is the evidence of the whole tree, where that of its root counts as well.
    """
    has_call = _tell_of_call(llm)
    has_call |= any(_tell_of_call(each.llm) for each in signs if not each.is_only_prompt)
    return not has_call and sum(each.many_cases for each in signs) * 2 > len(signs)


def _tell_of_call(llm: Sequence[Sign]) -> bool:
    return any(sign.kind in ("text", "tokens") for sign in llm)


def _training_stage(signs: Sequence[Signs]) -> Sign | None:
    """The first sign that one of the runs trained a model."""
    for each in signs:
        for sign in each.ml:
            if sign.kind in ("hyper", "flavor", "dataset"):
                return sign
    return None


def _is_loop(tops: Sequence[RunView], signs: Sequence[Signs]) -> bool:
    """Whether the children are rounds of one loop that asks and answers, not trials."""
    has_texts = any(sign.kind == "text" for each in signs for sign in each.llm)
    return has_texts and all(LOOP_NAME.match(view.run.name.strip()) for view in tops)


def _search_signs(root: RunView | None, tops: Sequence[RunView], *, is_loop: bool) -> list[Sign]:
    """Signs of a search over settings: a grid, the children's names, the parent's keys and name."""
    found = [_grid(tops)]
    if not is_loop:
        found.append(_trial_names(tops))
    if root is not None:
        found += [_search_keys(root.run), _search_name(root.run)]
    return [sign for sign in found if sign is not None]


def _trial_names(tops: Sequence[RunView]) -> Sign | None:
    names = [view.run.name.strip() for view in tops]
    if names and all(TRIAL_NAME.match(name) for name in names):
        return Sign("names", -3, f"children named like trials ({names[0]})")
    return None


def _search_keys(run: RunRecord) -> Sign | None:
    keys = {normalise(key) for key in (*run.params, *run.metrics, *run.tags)}
    hits = sorted(key for key in keys if key in SEARCH_KEYS or key.startswith("best_"))
    if hits:
        return Sign("keys", -3, f"a search's keys on the parent ({', '.join(hits[:3])})")
    return None


def _search_name(run: RunRecord) -> Sign | None:
    if SEARCH_NAME.search(run.name):
        return Sign("name", -3, f"a search's name ({run.name.strip()})")
    return None


def _grid(tops: Sequence[RunView]) -> Sign | None:
    """Most children have the same params with different values, and share a metric."""
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


def _has_stages(tops: Sequence[RunView]) -> bool:
    """Whether the children do different things, by their params."""
    return len({frozenset(view.run.params) for view in tops}) > 1


def _shape(root: RunView | None, tops: Sequence[RunView]) -> tuple[Role, str]:
    """Workflow, session or batch, and why."""
    if not tops:
        return Role.WORKFLOW, "nested runs"
    if all(_is_turn(view) for view in tops):
        return Role.SESSION, "its children are turns"
    if root is not None and len(tops) > 1 and _are_counted_turns(root, tops):
        return Role.SESSION, "its children share its session id, one for each turn counted"
    if len(tops) > 1 and all(_is_case(view) for view in tops):
        return Role.BATCH, "its children are cases of their own"
    return Role.WORKFLOW, "nested runs, the steps of one workflow"


def _is_turn(view: RunView) -> bool:
    return TURN_NAME.search(view.run.name.strip()) is not None or view.first("turn") is not None


def _is_case(view: RunView) -> bool:
    return CASE_NAME.match(view.run.name.strip()) is not None or bool(view.every("case"))


def _are_counted_turns(root: RunView, tops: Sequence[RunView]) -> bool:
    """Whether the children have the root's session, and are as many as its ``total_turns``."""
    session = root.first("session")
    if session is None:
        return False
    metrics = root.run.metrics
    total = next((metrics[key] for key in metrics if normalise(key) == "total_turns"), None)
    if not total or total[-1].value != len(tops):
        return False
    own = [view.first("session") for view in tops]
    return all(found is not None and found.value == session.value for found in own)
