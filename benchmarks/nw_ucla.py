"""NW-UCLA, cameras 2 and 3 -> camera 1: what CMAL and SkeletonBYOL learn from real recordings on two CPU cores.

    skelnb prepare nw-ucla --src DIR             # once
    python -m benchmarks.nw_ucla                 # every run that is not there yet; a killed one goes on
    python -m benchmarks.nw_ucla --table         # the table, from data/results/nw-ucla-view1-*.json

ST-GCN of width 8 with 64 features on the joint stream. Two training subjects are held out (`val`): they pick the best epoch, and every
setting that is not the papers'. The bank of kNN, the linear layer and 1-NN all use the remaining training clips; the test clips are
looked at once, at the end.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

import skelnb
from skelnb.data.dataset import load
from skelnb.encoders.core import create_encoder
from skelnb.evaluate.features import calibrate, features
from skelnb.evaluate.knn import knn, nearest_neighbour
from skelnb.evaluate.linear import linear
from skelnb.methods.momentum import create_method
from skelnb.train.checkpoint import load_weights, write_json
from skelnb.train import pretrain

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "data" / "results", ROOT / "data" / "runs"
NAME = "nw-ucla-view1"
METHODS = {"skeletonbyol": "SkeletonBYOL", "cmal": "CMAL"}
# The setting written down before the first run; a variant changes some of it, by what was seen on val.
PAPER = dict(epochs=60, batch_size=64, lr=.1, weight_decay=1e-4, tau=.996, init="independent")
VARIANTS = {"paper": {}}


def parts():
    "Training clips, clips of two held-out training subjects, test clips of the camera that was never seen."
    return load("nw-ucla").split("view1", val=.2, seed=0)


def new_method(name, seed, setting):
    "A method with the first weights of one seed."
    torch.manual_seed(seed)
    return create_method(name, encoder="stgcn", skeleton="ucla20", width=8, feature_dim=64, persons=1, tau=setting["tau"], init=setting["init"])


def measure(encoder, train, val, test, seed):
    "kNN and linear accuracy of one frozen encoder, on val and on test."
    bank, held, asked = (features(encoder, part) for part in (train, val, test))
    fc = linear(None, bank, asked, val=held, seed=seed)
    chosen = max(fc.history, key=lambda row: row["val"])
    return {"knn": knn(None, bank, asked).accuracy, "knn on val": knn(None, bank, held).accuracy,
            "linear last": fc.last, "linear best on val": fc.best, "linear on val": chosen["val"], "linear epoch": chosen["epoch"]}


def baselines(train, val, test, setting):
    "1-NN on coordinates, before and after preprocessing, and untrained encoders of the same seeds."
    found = {"1-NN preprocessed": nearest_neighbour(train, test).accuracy, "1-NN preprocessed on val": nearest_neighbour(train, val).accuracy}
    return {**found, **raw_neighbours(train, val, test)}


def raw_neighbours(train, val, test):
    "1-NN on centred, resampled recordings that were not turned to the body, where the owners' files are at hand."
    source = ROOT / "data" / "raw" / "nw-ucla"
    if not source.is_dir():
        return {"1-NN raw": None}
    from skelnb.data.formats import read_ucla_folder
    from skelnb.data.preprocess import preprocess
    from skelnb.evaluate.features import Features
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clips = {r.name: preprocess(r, rotate="none").ravel() for r in read_ucla_folder(source)}
    bank, held, asked = (Features(np.stack([clips[n] for n in part.meta["name"]]), part.y) for part in (train, val, test))
    return {"1-NN raw": nearest_neighbour(bank, asked).accuracy, "1-NN raw on val": nearest_neighbour(bank, held).accuracy}


def untrained(name, seed, setting, train, val, test):
    "The encoder of a run before its first step; its batch norms as built, and after they saw the data; and one with torch's own first weights."
    method = new_method(name, seed, setting)
    found = {"untrained": measure(method.encoders["joint"], train, val, test, seed),
             "untrained, statistics set": measure(calibrate(method.encoders["joint"], train, batch_size=128), train, val, test, seed)}
    torch.manual_seed(seed)
    other = create_encoder("stgcn", "ucla20", width=8, feature_dim=64, persons=1)
    return {**found, "untrained, torch's weights, statistics set": measure(calibrate(other, train, batch_size=128), train, val, test, seed)}


def one(name, seed, variant, data, progress):
    "Train and measure one method with one seed; write its JSON."
    setting, file = {**PAPER, **VARIANTS[variant]}, RESULTS / f"{NAME}-{name}-{variant}-seed{seed}.json"
    if file.exists() and json.loads(file.read_text())["setting"] == setting:
        return print(f"{file.name} is there", flush=True)
    train, val, test = data
    out, method = RUNS / f"{NAME}-{name}-{variant}-seed{seed}", new_method(name, seed, setting)
    knobs = {k: v for k, v in setting.items() if k not in ("tau", "init")}
    print(f"{name} {variant} seed {seed} -> {out}", flush=True)
    history = pretrain(method, train, out=out, seed=seed, monitor={"train": train, "val": val}, monitor_every=5, progress=progress, **knobs)
    found = {"last": measure(load_weights(out / "last.safetensors"), train, val, test, seed)}
    best = load_weights(out / "best.safetensors")
    found["best on val"] = {**measure(best, train, val, test, seed), "epoch": best.meta["row"]["epoch"]}
    write_json(file, {
        "experiment": NAME, "method": METHODS[name], "seed": seed, "variant": variant, "setting": setting,
        "command": f"python -m benchmarks.nw_ucla --methods {name} --seeds {seed} --variants {variant}",
        "clips": {"train": len(train), "val": len(val), "test": len(test)}, "val subjects": sorted(int(s) for s in val.meta["subject"].unique()),
        "scores": {**found, **untrained(name, seed, setting, train, val, test), **baselines(train, val, test, setting)},
        "seconds": round(sum(row["seconds"] for row in history), 1), "threads": torch.get_num_threads(),
        "versions": {"skelnb": skelnb.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "history": history})
    print(f"  wrote {file}", flush=True)


def table(variants):
    "The runs as a Markdown table: mean and standard deviation over seeds, per cent on test."
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"{NAME}-*.json"))]
    runs = [r for r in runs if r["variant"] in variants]
    if not runs:
        return f"no results in {RESULTS}: run python -m benchmarks.nw_ucla"
    cell = lambda values: f"{100 * np.mean(values):.1f}" + (f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "")
    lines = ["| | kNN, last | kNN, best on val | linear, last | linear, best on val | seeds |", "|---|---|---|---|---|---|"]
    one_nn, raw = runs[0]["scores"]["1-NN preprocessed"], runs[0]["scores"].get("1-NN raw")
    lines.append(f"| 1-NN on the preprocessed clips | {100 * one_nn:.1f} | | | | |")
    if raw:
        lines.append(f"| 1-NN on the clips before turning to the body | {100 * raw:.1f} | | | | |")
    for name in dict.fromkeys(k for r in runs for k in r["scores"] if k.startswith("untrained")):
        scores = list({r["seed"]: r["scores"][name] for r in runs if r["method"] == "CMAL" or r["variant"] == "paper"}.values())
        lines.append(f"| encoder, {name} | {cell([s['knn'] for s in scores])} | | {cell([s['linear last'] for s in scores])} | "
                     f"{cell([s['linear best on val'] for s in scores])} | {len(scores)} |")
    for variant in variants:
        for method in METHODS.values():
            group = [r["scores"] for r in runs if r["method"] == method and r["variant"] == variant]
            if group:
                name = method if variant == "paper" else f"{method}, {variant}"
                lines.append(f"| **{name}** | {cell([s['last']['knn'] for s in group])} | {cell([s['best on val']['knn'] for s in group])} | "
                             f"{cell([s['last']['linear last'] for s in group])} | {cell([s['best on val']['linear best on val'] for s in group])} | {len(group)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--table", action="store_true", help="print the table instead of training")
    args = parser.parse_args(argv)
    if args.table:
        return print(table(args.variants))
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = parts()
    for variant in args.variants:
        for seed in args.seeds:
            for name in args.methods:
                one(name, seed, variant, data, True)


if __name__ == "__main__":
    sys.exit(main())
