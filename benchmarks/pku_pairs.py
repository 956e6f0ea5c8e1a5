"""The two-person actions of PKU-MMD Part I (a part of its recordings): what CMAL learns, beside 1-NN on the same clips.

    skelnb prepare pku1-pairs --src DIR          # once
    python -m benchmarks.pku_pairs               # every run that is not there yet; a killed one goes on
    python -m benchmarks.pku_pairs --table       # the tables, from data/results/pku1-pairs-*.json

ST-GCN of width 8 with 64 features on the joint stream, cross-subject (official list) and cross-view (cameras L, R -> M); a fifth of the
training recordings is held out. The numbers are not comparable with published ones: they come from 218 of the 1,076 recordings.
"""

from benchmarks.small import Experiment, main

VARIANTS = {"paper": dict(epochs=30, batch_size=64, lr=.1, weight_decay=1e-4, tau=.996, init="independent")}
ENCODER = dict(encoder="stgcn", skeleton="ntu25", width=8, feature_dim=64, persons=2)
PAIRS = [Experiment(f"pku1-pairs-{p}", "benchmarks.pku_pairs", "pku1-pairs", p, ENCODER, VARIANTS, seeds=(0, 1), methods=("cmal",)) for p in ("xsub", "xview")]

if __name__ == "__main__":
    main(PAIRS, __doc__)
