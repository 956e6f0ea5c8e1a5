"""Absent persons computed once in training (absent="once" of ST-GCN) against one by one: with dropout it is not the same run, so is it as good?

    python -m benchmarks.absent                            # runs that are not there yet, then the table
    python -m benchmarks.absent --method cmal --epochs 30 --seeds 0 1 2
    python -m benchmarks.absent --table

Clips of the synthetic studio with two person slots; about every fifth clip fills the second one. Settings are those of `recipe(method, "synthetic-small")`: width 8,
64 features, dropout 0.1. Both choices start from the same weights and see the same views in the same order; kNN on people who were not in training.
"""

import argparse
import json
import time

import numpy as np
import torch

from benchmarks.small import RESULTS, cell
from skelnb.data.synthetic import synthesize
from skelnb.evaluate.features import calibrate, features
from skelnb.evaluate.knn import knn
from skelnb.methods.momentum import create_method
from skelnb.methods.queue import queue_length
from skelnb.train import pretrain, recipe
from skelnb.train.checkpoint import write_json

DROPOUT, FRAMES = .1, 25


def studio():
    "Training clips and test clips (other people), and the share of clips with a second person."
    data = synthesize(n_subjects=16, n_cameras=2, n_repeats=1, n_setups=1, frames=FRAMES)
    present = data.batch(range(len(data))).ne(0).flatten(1, 3).any(1)
    train, test = data.split("xsub")[0], data.split("xsub")[-1]
    return train, test, float(present[:, 1].float().mean())


def accuracy(encoder, train, test):
    return knn(None, features(encoder, train), features(encoder, test)).accuracy


def one(name, absent, seed, epochs, train, test):
    "Train one run; kNN before and after, seconds of processor time."
    made = recipe(name, "synthetic-small", epochs=epochs)
    settings = dict(made.settings, dropout=DROPOUT, absent=absent)
    if "queue" in settings: settings["queue"] = queue_length(len(train), made.plan["batch_size"])
    torch.manual_seed(seed)
    method = create_method(name, skeleton="ntu25", **settings)
    before = accuracy(calibrate(method.encoders["joint"], train), train, test)
    for m in method.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm): m.reset_running_stats()
    begin = time.process_time()
    history = pretrain(method, train, seed=seed, progress=False, **made.plan)
    seconds = time.process_time() - begin
    return {"method": name, "absent": absent, "seed": seed, "epochs": epochs, "knn untrained": before, "knn": accuracy(method.encoders["joint"].eval(), train, test),
            "loss": history[-1]["loss"], "seconds": round(seconds, 1)}


def table(name):
    "kNN of both choices, mean and standard deviation over seeds, and the difference seed by seed."
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"absent-{name}-*-seed*.json"))]
    by = {a: {r["seed"]: r for r in runs if r["absent"] == a} for a in ("each", "once")}
    seeds = sorted(by["each"].keys() & by["once"].keys())
    if not seeds: return f"no pair of results in {RESULTS}: run python -m benchmarks.absent --method {name}"
    lines = ["| absent | kNN untrained | kNN | seconds | seeds |", "|---|---|---|---|---|"]
    for a, found in by.items():
        rows = [found[s] for s in seeds]
        lines.append(f"| {a} | {cell([r['knn untrained'] for r in rows])} | {cell([r['knn'] for r in rows])} | {np.mean([r['seconds'] for r in rows]):.0f} | {len(rows)} |")
    gap = [by["once"][s]["knn"] - by["each"][s]["knn"] for s in seeds]
    return "\n".join([*lines, f"once minus each, seed by seed, points: {', '.join(f'{100 * g:+.1f}' for g in gap)}; mean {100 * np.mean(gap):+.1f}; "
                              f"two persons in {by['each'][seeds[0]]['two persons']:.0%} of the clips"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="skeletonclr", choices=["skeletonclr", "cmal"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="only show what is there")
    ask = parser.parse_args()
    train = None
    for seed in ask.seeds * (not ask.table):
        for absent in ("each", "once"):
            file = RESULTS / f"absent-{ask.method}-{absent}-seed{seed}.json"
            if file.exists() and json.loads(file.read_text())["epochs"] == ask.epochs: print(f"{file.name} is there"); continue
            if train is None: train, test, share = studio()
            found = one(ask.method, absent, seed, ask.epochs, train, test)
            write_json(file, found | {"clips": {"train": len(train), "test": len(test)}, "two persons": share, "dropout": DROPOUT,
                                      "command": f"python -m benchmarks.absent --method {ask.method} --epochs {ask.epochs} --seeds {seed}"})
            print(found, flush=True)
    print(table(ask.method))


if __name__ == "__main__":
    main()
