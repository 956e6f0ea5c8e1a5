"""What trained encoders keep of class, subject, camera and setup: one JSON a run in data/results/, and the table.

    python -m benchmarks.invariance                                  # every run of benchmarks.methods in data/runs/, on synthetic-small; what is there stays
    python -m benchmarks.invariance --data nw-ucla                   # after: skelnb prepare nw-ucla --src DIR --frames 25
    python -m benchmarks.invariance --weights cmal-synthetic-small   # committed weights by name
    python -m benchmarks.invariance --files adain=data/runs/NAME/last.safetensors --seed 0    # any file of weights, under a name of yours
    python -m benchmarks.invariance --augment                        # small encoders (TCN, 30 epochs, seconds each), one an augmentation, three seeds
    python -m benchmarks.invariance --table

Measured on the test clips of the set's split, whose subjects no training saw (NW-UCLA's view1: the camera that no training saw), joint stream.
Beside the runs: an untrained encoder whose batch norms have seen the training clips, and the coordinates themselves (their 64 largest axes).
"""

import argparse
import json
import platform
import re
import time
from pathlib import Path

import numpy as np
import torch

import skelnb
from benchmarks.methods import DATA, RESULTS, RUNS, by_stream, calibrated, parts, plan
from skelnb.augment import GaussianNoise, Rotate, TemporalCrop
from skelnb.augment.growing import SETS
from skelnb.data.dataset import load
from skelnb.evaluate.knn import knn
from skelnb.explore.invariance import FactorReport, factor_report
from skelnb.train import recipe
from skelnb.train.checkpoint import load_weights, write_json
from skelnb.train.weights import load_pretrained


def coordinates(train, test, axes=64):
    "(N,axes): the clips as they are, along the axes of largest spread of the training clips."
    flat = lambda d: d.batch().flatten(1).double()
    mean = flat(train).mean(0)
    return (flat(test) - mean) @ torch.linalg.svd(flat(train) - mean, full_matrices=False).Vh[:axes].T


def write(file, data, method, seed, source, what, test, **about):
    "Measure and write one JSON."
    start = time.time()
    report = factor_report(what, test, name=method)
    write_json(file, {"experiment": f"invariance-{data}"} | {"method": method, "seed": seed, "data": data, "split": DATA[data]["protocol"], "clips": len(test), "of": source,
                      "command": f"python -m benchmarks.invariance --data {data}", **about, "report": report.to_dict(), "seconds": round(time.time() - start, 1),
                      "versions": {"skelnb": skelnb.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}})
    print(f"{file.name:56}" + "  ".join(f"{f} {100 * v:.1f}" for f, v in report["linear"].items()), flush=True)


def found_runs(data):
    "(method, seed, weights) of every finished run of benchmarks.methods."
    for path in sorted(RUNS.glob(f"methods-{data}-*-seed?/last.safetensors")):
        method, seed = re.fullmatch(rf"methods-{data}-(.+)-seed(\d)", path.parent.name).groups()
        yield method, int(seed), path


def measure_all(args):
    "Whatever was asked for and is not there yet."
    data, jobs = args.data, []
    train, _, test = parts(data)
    file = lambda method, seed: RESULTS / f"invariance-{data}-{method}-seed{seed}.json"
    relative = lambda path: str(Path(path).resolve().relative_to(RESULTS.parent.parent)) if Path(path).resolve().is_relative_to(RESULTS.parent.parent) else Path(path).name
    if args.weights or args.files:
        for name in args.weights:
            e = load_pretrained(name)
            jobs.append((e.card["method"], e.card["seed"], f"data/weights/{name}.safetensors", lambda e=e: by_stream(e)["joint"], {"recipe": e.card["recipe"]}))
        for name, path in (f.split("=", 1) for f in args.files):
            jobs.append((name, args.seed, relative(path), lambda p=path: by_stream(load_weights(p))["joint"], {}))
    else:
        jobs.append(("coordinates", 0, "the preprocessed clips", lambda: coordinates(train, test), {}))
        for seed in (0, 1, 2):
            jobs.append(("untrained", seed, "the first weights of SkeletonCLR's recipe", lambda s=seed: calibrated(plan("skeletonclr", data), s, train)["joint"], {}))
        for method, seed, path in found_runs(data):
            told = RESULTS / f"{path.parent.name}.json"
            about = {"recipe": json.loads(told.read_text())["recipe"]} if told.is_file() else {}
            jobs.append((method, seed, relative(path), lambda p=path: by_stream(load_weights(p))["joint"], about))
    for method, seed, source, make, about in jobs:
        if not file(method, seed).exists() or args.again:
            write(file(method, seed), data, method, seed, source, make(), test, **about)


AUGMENT = {"crop": "Crop", "crop, shear (BA)": "BA", "BA, rotation": "BA+Rotate", "BA, noise": "BA+Noise", "BA, NA": "BA+NA", "BA, mask": "BA+Mask", "BA, AdaIN": "BA+AdaIN", "BA, NA, AdaIN": "BA+NA+AdaIN"}


def augmentations(args, epochs=30):
    "SkeletonCLR with a small temporal network, one run an augmentation and seed: what each one makes the features forget."
    SETS.update(Rotate=Rotate, Crop=TemporalCrop, Noise=GaussianNoise)
    train, test = load("synthetic-small", frames=25).split("xsub")
    for seed in (0, 1, 2):
        for name, augment in AUGMENT.items():
            file = RESULTS / f"invariance-augment-{augment.replace('+', '-').lower()}-seed{seed}.json"
            if file.exists() and not args.again:
                continue
            made = recipe("skeletonclr", "synthetic-small", epochs=epochs, encoder="tcn", width=24, feature_dim=32, augment=augment)
            method, _ = made.run(train, seed=seed, progress=False)
            accuracy = knn(method, train, test).accuracy
            write(file, "synthetic-small", name, seed, "trained for this", method, test, experiment="invariance-augment", command="python -m benchmarks.invariance --augment",
                  recipe=made.to_dict(), knn=accuracy)


def table(data):
    "Mean over seeds: linear probe, and share of variance in brackets."
    runs = {}
    for path in sorted(RESULTS.glob(f"invariance-{data}-*-seed?.json")):
        r = json.loads(path.read_text())
        runs.setdefault(r["method"], []).append(FactorReport.from_dict(r["report"]))
    if not runs:
        return f"no results in {RESULTS}: run python -m benchmarks.invariance --data {data}"
    factors = list(next(iter(runs.values()))[0].table.index)
    lines = ["| | " + " | ".join(factors) + " | seeds |", "|---|" + "---|" * (len(factors) + 1)]
    for method, group in runs.items():
        cell = lambda f: f"{100 * np.mean([r['linear'][f] for r in group]):.1f} ({100 * np.mean([r['variance'][f] for r in group]):.1f})"
        lines.append(f"| {method} | " + " | ".join(cell(f) for f in factors) + f" | {len(group)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic-small", choices=list(DATA))
    parser.add_argument("--weights", nargs="+", default=[], help="names of committed weights")
    parser.add_argument("--files", nargs="+", default=[], metavar="NAME=PATH", help="files of weights, each under a name")
    parser.add_argument("--seed", type=int, default=0, help="of --files")
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    parser.add_argument("--augment", action="store_true", help="train and measure one small encoder an augmentation and seed")
    parser.add_argument("--table", action="store_true", help="print the table instead")
    args = parser.parse_args(argv)
    if args.table:
        return print(table(args.data))
    if args.augment:
        return augmentations(args)
    measure_all(args)
    print(table(args.data))


if __name__ == "__main__":
    main()
