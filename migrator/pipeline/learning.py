"""Learns a profile from the trees of an experiment that no profile recognises."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from migrator import transformer
from migrator.counting import counted
from migrator.errors import SourceError
from migrator.outcome.summary import Outcome
from migrator.pipeline.commands import scan
from migrator.pipeline.options import Options, Paths
from migrator.pipeline.stores import Progress, no_progress
from migrator.pipeline.trees import PlannedTree
from migrator.transformer.run_view import RunView
from migrator.transformer.signs import signs_of

READER = "learning"
READER_TOML = f"""\
name = "{READER}"
extends = "generic"
[fields]
maybe_calls = ["artifact:*.txt", "artifact:*.md", "artifact:*.json"]
"""
"""A profile that takes what no other recognises, and reads the texts in all folders."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A proposal for the trees of one experiment."""

    experiment: str
    proposal: transformer.Proposal
    others: Mapping[str, int]  # trees without a profile in other experiments, by name


@dataclass(slots=True)
class _ByExperiment:
    """Looks at trees without a profile, apart for each experiment."""

    learners: dict[str, transformer.Learner] = field(default_factory=dict)

    def add(self, planned: PlannedTree) -> None:
        tree = planned.tree
        runs = [tree.runs[run_id] for run_id in sorted(tree.runs)]
        if planned.plan.profile != READER or not runs:
            return
        profile = transformer.load_profiles()[-1]
        signs = [signs_of(RunView(run, profile)) for run in runs]
        if all(each.ml or each.is_only_prompt for each in signs):
            return  # training, or versions of a prompt
        learner = self.learners.setdefault(runs[0].experiment_id, transformer.Learner())
        learner.add(tree, is_llm_work=bool(planned.plan.traces))


def learn(sources: Paths, options: Options, *, progress: Progress = no_progress) -> Learned:
    """Propose a profile for the experiment whose trees without one tell the most.

    Raises SourceError where no experiment has any such tree with a text or tokens.
    """
    seen = _ByExperiment()
    with tempfile.TemporaryDirectory() as folder:
        reader = Path(folder) / f"{READER}.toml"
        reader.write_text(READER_TOML, encoding="utf-8")
        choice = Options(
            experiments=options.experiments, redact=options.redact, profile_files=str(reader)
        )
        outcome = scan(sources, choice, on_tree=seen.add, progress=progress)
    names = {each.experiment_id: each.name for each in outcome.experiments}
    proposals = {
        experiment_id: learner.proposal() for experiment_id, learner in seen.learners.items()
    }
    telling = [
        (-len(proposal.suggestions), -proposal.runs, experiment_id)
        for experiment_id, proposal in proposals.items()
        if proposal.recognise or proposal.recognise_below
    ]
    if not telling:
        raise _nothing_to_learn(proposals.values(), outcome)
    *_, best = min(telling)
    others = {
        names.get(experiment_id, experiment_id): proposals[experiment_id].trees
        for *_, experiment_id in sorted(telling)
        if experiment_id != best
    }
    return Learned(names.get(best, best), proposals[best], others)


def _nothing_to_learn(proposals: Iterable[transformer.Proposal], outcome: Outcome) -> SourceError:
    """The error where no run tells a call: what the runs have, and what else may help."""
    message = (
        "There is nothing to learn from: no run that is not recognised yet holds what looks like "
        "a prompt, an answer or tokens"
    )
    found = [each for proposal in proposals for each in proposal.of("model")]
    if found:
        runs = counted(found[0].runs, "run")
        message += (
            f"; {runs} name a language model ({found[0].source}) and nothing that it was asked"
        )
    todo = "Choose another --experiment, or begin with 'mlflow-migrate profiles new NAME'."
    tables = sum(each.left_as_runs["tables"] for each in outcome.experiments)
    if tables:
        trees = counted(tables, "tree")
        todo = (
            f"The tables in {trees} become traces with 'mlflow-migrate convert --include tables'."
        )
    return SourceError(f"{message}.", todo=todo)
