"""Records to plans: which runs make a trace, and what stands in its spans. Pure functions."""

from migrator.transformer.choosing import PlanOptions
from migrator.transformer.experiments import (
    Contents,
    FoundExperiment,
    OnConflict,
    candidate_ids,
    experiment_handle,
    experiment_kind,
    plan_experiments,
)
from migrator.transformer.learning import Learner, Proposal, proposed_toml
from migrator.transformer.locations import (
    SERVED,
    ArtifactChoice,
    Fate,
    copy_place,
    is_metadata_only,
    local_uri,
    place,
    place_below,
)
from migrator.transformer.native import native_trace_id, plan_native_trace
from migrator.transformer.planning import plan_tree
from migrator.transformer.profile_template import recognised_by, template
from migrator.transformer.profile_usage import ProfileUsage
from migrator.transformer.profiles import (
    Profile,
    built_in_names,
    built_in_text,
    load_profiles,
    wanted_artifacts,
)
from migrator.transformer.regroup import Moment, adopt_orphans, group_by_time, moment_of
from migrator.transformer.siblings import KnownNames, recognised_names
from migrator.transformer.trees import Forest, RunTree, Tree, build_forest

__all__ = [
    "SERVED",
    "ArtifactChoice",
    "Contents",
    "Fate",
    "Forest",
    "FoundExperiment",
    "KnownNames",
    "Learner",
    "Moment",
    "OnConflict",
    "PlanOptions",
    "Profile",
    "ProfileUsage",
    "Proposal",
    "RunTree",
    "Tree",
    "adopt_orphans",
    "build_forest",
    "built_in_names",
    "built_in_text",
    "candidate_ids",
    "copy_place",
    "experiment_handle",
    "experiment_kind",
    "group_by_time",
    "is_metadata_only",
    "load_profiles",
    "local_uri",
    "moment_of",
    "native_trace_id",
    "place",
    "place_below",
    "plan_experiments",
    "plan_native_trace",
    "plan_tree",
    "proposed_toml",
    "recognised_by",
    "recognised_names",
    "template",
    "wanted_artifacts",
]
