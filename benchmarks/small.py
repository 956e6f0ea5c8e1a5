"""What methods learn from a small set of real recordings on CPU cores: one run a method and seed, JSON in data/results/, a table.

An experiment is a data set, a protocol and a small encoder; its own file names them (benchmarks/nw_ucla.py, benchmarks/pku_pairs.py).
Part of the training set is held out (`val`): it picks the best epoch, and every setting that is not the papers'. The bank of kNN, the
linear layer and 1-NN all use the remaining training clips; the test clips are looked at once, at the end.
"""

import argparse
import json
import platform
from dataclasses import dataclass
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
from skelnb.train import pretrain
from skelnb.train.checkpoint import load_weights, write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "data" / "results", ROOT / "data" / "runs"
METHODS = {"skeletonbyol": "SkeletonBYOL", "cmal": "CMAL"}
TRAINING = ("epochs", "batch_size", "lr", "weight_decay")       # of a setting: what `pretrain` takes; the rest is the method's


@dataclass
class Experiment:
    "One table: a data set, a protocol, a small encoder and the settings of its variants."
    name: str                   # of the result files
    module: str                 # python -m ...
    data: str                   # for `load`
    protocol: str
    encoder: dict               # for `create_encoder`
    variants: dict              # name -> setting; "paper" was written down before the first run, others were chosen on val
    seeds: tuple = (0, 1, 2)
    methods: tuple = tuple(METHODS)

    def parts(self):
        "Training clips, clips of held-out training subjects, test clips."
        return load(self.data).split(self.protocol, val=.2, seed=0)

    def method(self, name, seed, setting):
        "A method with the first weights of one seed."
        torch.manual_seed(seed)
        return create_method(name, **self.encoder, **{k: v for k, v in setting.items() if k not in TRAINING})


def measure(encoder, train, val, test, seed):
    "kNN and linear accuracy of one frozen encoder, on val and on test."
    bank, held, asked = (features(encoder, part) for part in (train, val, test))
    fc = linear(None, bank, asked, val=held, seed=seed)
    chosen = max(fc.history, key=lambda row: row["val"])
    return {"knn": knn(None, bank, asked).accuracy, "knn on val": knn(None, bank, held).accuracy,
            "linear last": fc.last, "linear best on val": fc.best, "linear on val": chosen["val"], "linear epoch": chosen["epoch"]}


def untrained(experiment, name, seed, setting, parts):
    "The encoder of a run before its first step; its batch norms as built, and after they saw the data; and one with torch's own first weights."
    encoder, train = experiment.method(name, seed, setting).encoders["joint"], parts[0]
    found = {"untrained": measure(encoder, *parts, seed),
             "untrained, statistics set": measure(calibrate(encoder, train, batch_size=128), *parts, seed)}
    torch.manual_seed(seed)
    kwargs = dict(experiment.encoder)
    other = create_encoder(kwargs.pop("encoder"), **kwargs)
    return {**found, "untrained, torch's weights, statistics set": measure(calibrate(other, train, batch_size=128), *parts, seed)}


def one(experiment, name, seed, variant, parts):
    "Train and measure one method with one seed; write its JSON."
    setting = experiment.variants[variant]
    run = f"{experiment.name}-{name}-{variant}-seed{seed}"
    file, out = RESULTS / f"{run}.json", RUNS / run
    if file.exists() and json.loads(file.read_text())["setting"] == setting:
        return print(f"{file.name} is there", flush=True)
    print(f"{name} {variant} seed {seed} -> {out}", flush=True)
    train, val, test = parts
    knobs = {k: v for k, v in setting.items() if k in TRAINING}
    history = pretrain(experiment.method(name, seed, setting), train, out=out, seed=seed, monitor={"train": train, "val": val}, monitor_every=5, **knobs)
    best = load_weights(out / "best.safetensors")
    scores = {"last": measure(load_weights(out / "last.safetensors"), *parts, seed),
              "best on val": {**measure(best, *parts, seed), "epoch": best.meta["row"]["epoch"]}, **untrained(experiment, name, seed, setting, parts),
              "1-NN preprocessed": nearest_neighbour(train, test).accuracy, "1-NN preprocessed on val": nearest_neighbour(train, val).accuracy}
    write_json(file, {
        "experiment": experiment.name, "method": METHODS[name], "seed": seed, "variant": variant, "setting": setting,
        "command": f"python -m {experiment.module} --methods {name} --seeds {seed} --variants {variant}",
        "clips": {"train": len(train), "val": len(val), "test": len(test)}, "scores": scores,
        "seconds": round(sum(row["seconds"] for row in history), 1), "threads": torch.get_num_threads(),
        "versions": {"skelnb": skelnb.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "history": history})
    print(f"  wrote {file}", flush=True)


def cell(values):
    "Mean and standard deviation, per cent."
    return f"{100 * np.mean(values):.1f}" + (f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def table(experiment, variants=None):
    "The runs as a Markdown table: mean and standard deviation over seeds, per cent on test."
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"{experiment.name}-*-seed*.json"))]
    runs = [r for r in runs if r["variant"] in (variants or experiment.variants)]
    if not runs:
        return f"no results in {RESULTS}: run python -m {experiment.module}"
    lines = ["| | kNN, last | kNN, best on val | linear, last | linear, best on val | seeds |", "|---|---|---|---|---|---|",
             f"| 1-NN on the preprocessed clips | {cell([runs[0]['scores']['1-NN preprocessed']])} | | | | |"]
    for name in (k for k in runs[0]["scores"] if k.startswith("untrained")):
        scores = list({r["seed"]: r["scores"][name] for r in runs if r["variant"] == runs[0]["variant"]}.values())
        lines.append(f"| encoder, {name} | {cell([s['knn'] for s in scores])} | | {cell([s['linear last'] for s in scores])} | "
                     f"{cell([s['linear best on val'] for s in scores])} | {len(scores)} |")
    for variant in experiment.variants:
        for method in METHODS.values():
            group = [r["scores"] for r in runs if r["method"] == method and r["variant"] == variant]
            if group:
                name = method if variant == "paper" else f"{method}, {variant}"
                lines.append(f"| **{name}** | {cell([s['last']['knn'] for s in group])} | {cell([s['best on val']['knn'] for s in group])} | "
                             f"{cell([s['last']['linear last'] for s in group])} | {cell([s['best on val']['linear best on val'] for s in group])} | {len(group)} |")
    return "\n".join(lines)


def main(experiments, doc, argv=None):
    "The command line of an experiment's file."
    first = experiments[0]
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(first.methods), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(first.seeds))
    parser.add_argument("--variants", nargs="+", default=list(first.variants), choices=list(first.variants))
    parser.add_argument("--protocols", nargs="+", default=[e.protocol for e in experiments], choices=[e.protocol for e in experiments])
    parser.add_argument("--table", action="store_true", help="print the tables instead of training")
    args = parser.parse_args(argv)
    for experiment in (e for e in experiments if e.protocol in args.protocols):
        if args.table:
            print(f"{experiment.data}, {experiment.protocol}\n\n{table(experiment, args.variants)}\n")
            continue
        RESULTS.mkdir(parents=True, exist_ok=True)
        parts = experiment.parts()
        for variant in args.variants:
            for seed in args.seeds:
                for name in args.methods:
                    one(experiment, name, seed, variant, parts)
