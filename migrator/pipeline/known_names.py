"""Names and params of recognised runs: evidence for runs beside them that hold little."""

from __future__ import annotations

from dataclasses import replace

from migrator import transformer
from migrator.pipeline.trees import TreeContext, batches

SAMPLED_TREES = 20  # nested trees that are read of an experiment with flat runs,
SAMPLED_TWINS = 5  # and of one without,
MOST_SAMPLED_TWINS = 100  # of all such experiments together
SAMPLED_RUNS = 100  # a tree with more runs is not read
SAMPLED_CALLS = 20  # flat runs that are read of an experiment,
MOST_SAMPLED_CALLS = 500  # and of all experiments together


def with_known_names(context: TreeContext, forest: transformer.Forest) -> TreeContext:
    """Read a sample of each experiment's trees, and give the reader the names it recognised.

    The sample depends on the ids of runs alone, so that each shard finds the same names.
    """
    nested: dict[str, list[str]] = {}
    flat: dict[str, list[str]] = {}
    for root_id in forest.root_ids:
        entry = context.entries[root_id]
        if context.experiments.has_plan(context.store_of(root_id), entry):
            trees = nested if root_id in forest.children else flat
            trees.setdefault(entry.folder, []).append(root_id)
    calls_left, twins_left = MOST_SAMPLED_CALLS, MOST_SAMPLED_TWINS
    known: dict[str, transformer.KnownNames] = {}
    for folder in sorted(flat.keys() | nested.keys()):
        flat_ids, nested_ids = flat.get(folder, []), nested.get(folder, [])
        if len(flat_ids) + len(nested_ids) < 2:
            continue
        sample = nested_ids[:SAMPLED_TREES]
        if not flat_ids:
            sample = nested_ids[: min(SAMPLED_TWINS, twins_left)]
            twins_left -= len(sample)
        if len(flat_ids) > 1 and calls_left > 0:
            calls = flat_ids[:: max(1, len(flat_ids) // SAMPLED_CALLS)][:SAMPLED_CALLS]
            calls_left -= len(calls)
            sample = [*sample, *calls]
        names = transformer.KnownNames()
        sampled = [forest.tree(root_id) for root_id in sample]
        small = [tree for tree in sampled if len(tree.run_ids) <= SAMPLED_RUNS]
        for batch in batches(small, context.store_of):
            for planned in context.planned(batch):
                runs = list(planned.tree.runs.values())
                names |= transformer.recognised_names(runs, planned.plan)
        if names:
            known[folder] = names
    if not known:
        return context
    return replace(context, reader=replace(context.reader, known_names=known))
