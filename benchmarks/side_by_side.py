"""Many small runs on one machine: one after the other with all cores, against side by side with a core each.

    python -m benchmarks.side_by_side                # data/results/side-by-side.json
    python -m benchmarks.side_by_side --jobs 8 --runs 16

The tables of the papers are some hundred small runs, and a small network does not keep many cores busy. Each way trains the same runs (CMAL, the recipe for small sets, other seeds) from
nothing in a folder that is thrown away; what is counted is training and measuring, without the start of Python and of the processes (a first round is not counted).
"""

import argparse
import os
import tempfile
import time

import torch

from benchmarks.encoders import versions
from benchmarks.small import RESULTS
from skelnb.evaluate.experiment import Trial, run
from skelnb.train.checkpoint import write_json


def seconds(jobs, n, epochs):
    "Of n runs, `jobs` at a time; the second of two rounds."
    for round_ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            trials = [Trial("cmal", "synthetic-small", seed=100 * round_ + s, epochs=epochs) for s in range(n)]
            start = time.perf_counter()
            failed = run(trials, jobs=jobs, results=folder, runs=folder, progress=False)
            if failed: raise SystemExit(failed[0])
            spent = time.perf_counter() - start
    return spent


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args(argv)
    if "OMP_NUM_THREADS" in os.environ: raise SystemExit("OMP_NUM_THREADS is set: the number of threads is what is measured here; unset it")
    one, many = (seconds(jobs, args.runs, args.epochs) for jobs in (1, args.jobs))
    told = {"command": "python -m benchmarks.side_by_side", "runs": args.runs, "epochs": args.epochs, "cores": os.cpu_count(), "jobs": args.jobs, "seconds one after the other": one, "seconds side by side": many,
            "times faster": one / many, "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu", "load": [round(v, 1) for v in os.getloadavg()], "versions": versions()}
    write_json(RESULTS / "side-by-side.json", told)
    print({k: round(v, 2) if isinstance(v, float) else v for k, v in told.items() if k != "versions"})


if __name__ == "__main__":
    main()
