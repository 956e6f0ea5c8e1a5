"""Every method of both papers with one budget, on the embedded recordings and on NW-UCLA: one run a method and seed, JSON in data/results/, tables.

    python -m benchmarks.methods                           # synthetic-small: every run that is not there yet; a killed one goes on
    python -m benchmarks.methods --data nw-ucla            # after: skelnb prepare nw-ucla --src DIR --frames 25
    python -m benchmarks.methods --table                   # the tables, from data/results/methods-*.json

Settings are those of `recipe(method, data)` for small sets (ST-GCN of width 8, 64 features), chosen on held-out training subjects. On the embedded
recordings every stream's encoders make 120 forward passes of each training clip: 30 epochs for methods with four passes a clip and step, 60 for
those with two. On NW-UCLA all train 50 epochs. Part of the training subjects is held out (`val`); the last epoch counts, and beside it the best on
val. The test clips are looked at after training, and nothing is chosen on them. Variants of CMAL with one of its terms left out are measured too.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch

import skelnb
from benchmarks.small import RESULTS, RUNS, cell
from skelnb.data.dataset import load
from skelnb.evaluate.experiment import PASSES
from skelnb.evaluate.features import Features, calibrate, features
from skelnb.evaluate.knn import knn, nearest_neighbour
from skelnb.evaluate.linear import linear
from skelnb.explore.collapse import collapse_report
from skelnb.train import recipe
from skelnb.train.checkpoint import load_weights, write_json

DATA = {"synthetic-small": dict(protocol="xsub", frames=25, passes=120), "nw-ucla": dict(protocol="view1", frames=25, epochs=50)}
RUN = {**{m: (m, {}) for m in PASSES}, "cmal-pull": ("cmal", dict(alpha=1., beta=0.)), "cmal-push": ("cmal", dict(alpha=0., beta=1.)),
       "cmal-3s": ("cmal", dict(streams=["joint", "motion", "bone"]))}
NAMES = {"skeletonclr": "SkeletonCLR", "aimclr": "AimCLR", "hiclr": "HiCLR", "crossclr": "3s-CrosSCLR", "skeletonbyol": "SkeletonBYOL", "cmal": "CMAL",
         "cmal-3s": "3s-CMAL", "acl": "ACL (3 streams)", "cmal-pull": "CMAL, (α, β) = (1, 0)", "cmal-push": "CMAL, (0, 1)"}


def parts(data):
    "Training clips, clips of held-out training subjects, test clips."
    return load(data, frames=DATA[data]["frames"]).split(DATA[data]["protocol"], val=.25 if data == "synthetic-small" else .2, seed=0)


def rows(encoders, part):
    "Features of one stream; of several, their unit rows side by side, so that a cosine is the mean of the streams'."
    found = [features(e, part, stream=s) for s, e in encoders.items()]
    if len(found) == 1:
        return found[0]
    return Features(torch.cat([torch.nn.functional.normalize(f.x, dim=1) for f in found], 1), found[0].y)


def measure(encoders, train, val, test, seed):
    "kNN and linear accuracy on test, kNN on val: of the joint stream, and of all streams together."
    found = {}
    for name, some in {"joint": {"joint": encoders["joint"]}, "all": encoders}.items():
        if name == "joint" or len(encoders) > 1:
            bank, held, asked = (rows(some, part) for part in (train, val, test))
            fc = linear(None, bank, asked, val=held, seed=seed)
            found[name] = {"knn": knn(None, bank, asked).accuracy, "knn on val": knn(None, bank, held).accuracy, "linear last": fc.last, "linear best on val": fc.best}
    return found


def by_stream(weights):
    return weights if isinstance(weights, dict) else {"joint": weights}


def plan(name, data, epochs=None):
    "The recipe of a run."
    method, changes = RUN[name]
    epochs = epochs or DATA[data].get("epochs") or DATA[data]["passes"] // PASSES[method]
    return recipe(method, data, epochs=epochs, **changes)


def one(name, seed, data, clips, epochs=None):
    "Train and measure one method with one seed; write its JSON."
    made = plan(name, data, epochs)
    run = f"methods-{data}-{name}-seed{seed}" + (f"-{epochs}" if epochs else "")
    file, out = RESULTS / f"{run}.json", RUNS / run
    if file.exists() and json.loads(file.read_text())["recipe"] == made.to_dict():
        return print(f"{file.name} is there", flush=True)
    print(f"{name} seed {seed}, {made.plan['epochs']} epochs -> {out}", flush=True)
    train, val, test = clips
    scores = {"untrained": measure(calibrated(made, seed, train), *clips, seed)}
    for until in sorted({min(30, made.plan["epochs"]), made.plan["epochs"]}):           # the same run, looked at after 30 epochs
        if (seen := out / f"epoch-{until}.json").exists() and until < made.plan["epochs"]:
            scores[f"epoch {until}"] = json.loads(seen.read_text())
            continue
        method, history = made.run(train, out=out, seed=seed, epochs=until, monitor={"train": train, "val": val}, monitor_every=5, progress=False)
        scores[f"epoch {until}"] = measure(by_stream(load_weights(out / "last.safetensors")), *clips, seed)
        write_json(seen, scores[f"epoch {until}"])
    scores["last"] = scores[f"epoch {until}"]
    scores["best on val"] = measure(by_stream(load_weights(out / "best.safetensors")), *clips, seed)
    shown = test.subset(np.random.default_rng(0).permutation(len(test))[:400])
    collapse = collapse_report(method, shown, torch.Generator().manual_seed(0))
    write_json(file, {
        "experiment": f"methods-{data}", "method": name, "seed": seed, "recipe": made.to_dict(), "passes of a clip": PASSES[RUN[name][0]] * made.plan["epochs"],
        "command": f"python -m benchmarks.methods --data {data} --methods {name} --seeds {seed}", "clips": {"train": len(train), "val": len(val), "test": len(test)},
        "frames": DATA[data]["frames"], "scores": scores, "1-NN preprocessed": nearest_neighbour(train, test).accuracy, "collapse": collapse,
        "seconds": round(sum(r["seconds"] for r in history), 1), "threads": torch.get_num_threads(),
        "versions": {"skelnb": skelnb.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}, "history": history})
    print(f"  kNN {scores['untrained']} -> {scores['last']}", flush=True)


def calibrated(made, seed, train):
    "The encoders of a run before its first step, their batch norms having seen the data."
    encoders = made.build(train, seed).encoders
    for stream, encoder in encoders.items():
        calibrate(encoder, train, stream=stream, batch_size=64)
    return encoders


def table(data):
    "Mean and standard deviation over seeds, per cent on test; untrained encoders of the same seeds in the first row. Rank (about the origin) and deviation of the predictions or projections: `skelnb.explore.collapse`."
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"methods-{data}-*-seed?.json"))]
    if not runs:
        return f"no results in {RESULTS}: run python -m benchmarks.methods --data {data}"
    lines = ["| | epochs | passes | kNN, last | kNN, best on val | linear, last | kNN, all streams | rank of outputs | deviation | seeds |", "|---|---|---|---|---|---|---|---|---|---|",
             f"| 1-NN on the preprocessed clips | | | {cell([runs[0]['1-NN preprocessed']])} | | | | | | |"]
    get = lambda group, when, what, of="joint": [r["scores"][when][of][what] for r in group if of in r["scores"][when]]
    first = list({r["seed"]: r for r in runs if r["method"] == "acl"}.values()) or list({r["seed"]: r for r in runs}.values())
    everything = get(first, "untrained", "knn", "all")
    lines.append(f"| untrained encoder | 0 | 0 | {cell(get(first, 'untrained', 'knn'))} | | {cell(get(first, 'untrained', 'linear last'))} | {cell(everything) if everything else ''} | | | {len(first)} |")
    for name, shown in NAMES.items():
        if group := [r for r in runs if r["method"] == name]:
            together = get(group, "last", "knn", "all")
            rank, spread = ([v for r in group for k, v in r["collapse"].items() if k in (f"joint/prediction_{what}", f"joint/projection_{what}")] for what in ("rank_origin", "deviation"))
            lines.append(f"| **{shown}** | {group[0]['recipe']['plan']['epochs']} | {group[0]['passes of a clip']} | {cell(get(group, 'last', 'knn'))} | {cell(get(group, 'best on val', 'knn'))} | "
                         f"{cell(get(group, 'last', 'linear last'))} | {cell(together) if together else ''} | {np.mean(rank):.1f} | {np.mean(spread):.2f} | {len(group)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic-small", choices=list(DATA))
    parser.add_argument("--methods", nargs="+", default=list(RUN), choices=list(RUN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="other than planned; the file's name says so")
    parser.add_argument("--table", action="store_true", help="print the table instead of training")
    args = parser.parse_args(argv)
    if args.table:
        return print(table(args.data))
    Path(RESULTS).mkdir(parents=True, exist_ok=True)
    clips = parts(args.data)
    for seed in args.seeds:
        for name in args.methods:
            one(name, seed, args.data, clips, args.epochs)


if __name__ == "__main__":
    main()
