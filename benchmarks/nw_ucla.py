"""NW-UCLA, cameras 2 and 3 -> camera 1: what CMAL and SkeletonBYOL learn from real recordings on two CPU cores.

    skelnb prepare nw-ucla --src DIR             # once
    python -m benchmarks.nw_ucla                 # every run that is not there yet; a killed one goes on
    python -m benchmarks.nw_ucla --table         # the table, from data/results/nw-ucla-view1-*.json

ST-GCN of width 8 with 64 features on the joint stream; two training subjects are held out.
"""

from benchmarks.small import Experiment, main

VARIANTS = {"paper": dict(epochs=60, batch_size=64, lr=.1, weight_decay=1e-4, tau=.996, init="independent")}
VIEW1 = Experiment("nw-ucla-view1", "benchmarks.nw_ucla", "nw-ucla", "view1",
                   dict(encoder="stgcn", skeleton="ucla20", width=8, feature_dim=64, persons=1), VARIANTS)

if __name__ == "__main__":
    main([VIEW1], __doc__)
