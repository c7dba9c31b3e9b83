"""Records to plans: which runs make a trace, and what stands in its spans. Pure functions."""

from migrator.transformer.profiles import Profile, load_profiles, wanted_artifacts
from migrator.transformer.traces import PlanOptions, plan_tree
from migrator.transformer.trees import Forest, RunTree, Tree, build_forest

__all__ = [
    "Forest",
    "PlanOptions",
    "Profile",
    "RunTree",
    "Tree",
    "build_forest",
    "load_profiles",
    "plan_tree",
    "wanted_artifacts",
]
