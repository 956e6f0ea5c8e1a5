"""What you look at and touch."""

import sys

from skelnb import _reexport

_reexport(__name__, {
    "embedding": "explore_embedding embed align",
    "similarity": "explore_similarity batch_similarities label_quality SimilarityRecorder save_similarities load_similarities SimilarityError",
    "collapse": "alignment uniformity effective_rank feature_deviation collapse_report CollapseRecorder watch_collapse CollapseError",
    "invariance": "factor_report FactorReport explore_invariance variance_explained variance_alone InvarianceError NestedError",
    "predict": "predict Prediction read_clip fit_clip bank_rows PredictError",
    "confusion": "explore_confusion members sureness ConfusionError",
    "joints": "explore_joints joint_importance joint_motion share hide links Links strongest OCCLUSIONS JointsError",
})


def __getattr__(name):
    "The explorer of augmentations lives beside them; it is loaded at its first use."
    if name == "explore_augment":
        from skelnb.augment import explore_augment
        return explore_augment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.modules[__name__].__all__ = sorted([*sys.modules[__name__].__all__, "explore_augment"])
