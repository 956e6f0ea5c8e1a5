"""Protocols: one call signature, one Result."""

from skelnb import _reexport

_reexport(__name__, {
    "features": "features Features Result EvaluationError majority calibrate",
    "knn": "knn nearest_neighbour",
    "linear": "linear",
    "clusters": "clusters Clusters",
    "semi": "semi labelled label_curve Schedule SEMI train_classifier",
    "finetune": "finetune supervised FINETUNE",
    "transfer": "transfer to_layout",
    "fusion": "fuse simplex side_by_side stream_features joint_linear WEIGHTS",
    "retrieval": "retrieval Retrieval average_precision",
    "experiment": "Trial ExperimentError stored",
    "tables": "TABLES Table Row frame",
    "ledger": "Claim CLAIMS judge read_ledger write_ledger",
})
