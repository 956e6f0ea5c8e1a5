"""ACL's Figure 4 from finished runs: test features of six classes, their map and NMI, in data/results/figure4-DATA.safetensors and .json (with a split other than the set's usual one, figure4-DATA-SPLIT).

    python -m benchmarks.figure4                               # synthetic-small, seed 0; says which runs are missing and goes on with the others
    python -m benchmarks.figure4 --data nw-ucla --seed 1
    python -m benchmarks.figure4 --check                       # only say which runs are there

The weights are those of the trials behind the rows of the table "acl-fig4" (data/runs/trial-HASH/last.safetensors); a missing one is trained by
`skelnb reproduce acl-fig4`. Everything is fixed: the six classes and the clips shown are drawn by a seed, t-SNE starts from PCA with perplexity 30,
k-means with ten starts. NMI is measured on all classes, on all test clips of the six, and on the clips shown.
"""

import argparse
import platform

import numpy as np
import torch
from safetensors.torch import save_file

import skelnb
from skelnb.data.dataset import data_dir
from skelnb.evaluate.clusters import clusters
from skelnb.evaluate.experiment import digest, parts_of, results_dir
from skelnb.evaluate.features import Features, features
from skelnb.evaluate.fusion import side_by_side
from skelnb.evaluate.ledger import measured_on
from skelnb.evaluate.tables import TABLES, trial_of
from skelnb.explore.embedding import embed
from skelnb.train.checkpoint import load_weights, write_json

CLASSES, CLIPS, DRAW = 6, 600, 0


def choose(y, classes=CLASSES, clips=CLIPS, seed=DRAW):
    "(numbers of the classes, rows of the clips shown): both drawn by the seed, as many clips of each class as there are or fit."
    rng, known = np.random.default_rng(seed), np.unique(y)
    chosen = np.sort(rng.permutation(known)[:classes])
    each = clips // len(chosen)
    rows = [np.sort(rng.permutation(np.flatnonzero(y == c))[:each]) for c in chosen]
    return chosen, np.sort(np.concatenate(rows))


def finished(row, data, seed, split, runs):
    "(trial, folder of its weights or None)."
    trial = trial_of(row, data, seed, split)
    folder = runs / f"trial-{digest(trial.pretext)}"
    return trial, folder if (folder / "done.json").is_file() and (folder / "last.safetensors").is_file() else None


def table_of(folder, test, streams, kept):
    "Test features of a run's streams: of several, their unit rows side by side. `kept`: {(folder, stream): Features} computed before."
    encoders = load_weights(folder / "last.safetensors")
    encoders = encoders if isinstance(encoders, dict) else {streams[0]: encoders}
    for s in streams:
        if (folder, s) not in kept:
            kept[folder, s] = features(encoders[s], test, stream=s)
    found = [kept[folder, s] for s in streams]
    return (found[0] if len(found) == 1 else side_by_side(found)), encoders[streams[0]]


def part(f, rows):
    "Some rows of a table of features."
    return Features(f.x[rows], f.y[rows])


def measure(f, chosen, rows, y):
    "(NMI of all classes, of the six, of the clips shown; map of the clips shown; their features as float16)."
    x = torch.nn.functional.normalize(f.x.float(), dim=1)
    whole, six = Features(x, f.y), np.flatnonzero(np.isin(y, chosen))
    shown = Features(x[rows].half().float(), f.y[rows])                # as stored
    nmi = {name: round(clusters(g, seed=0)["nmi"], 4) for name, g in (("all classes", whole), ("six classes", part(whole, six)), ("shown", shown))}
    return nmi, embed(shown, "tsne", seed=0, perplexity=30.), x[rows].half()


def main(arguments=None):
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", default="synthetic-small")
    ask.add_argument("--split", default=None, help="default: the set's usual one")
    ask.add_argument("--seed", type=int, default=0, help="which of the runs")
    ask.add_argument("--runs", type=type(data_dir()), default=data_dir() / "runs", help="folder of the weights")
    ask.add_argument("--out", type=type(data_dir()), default=results_dir(), help="folder to write to")
    ask.add_argument("--check", action="store_true", help="only say which runs are there")
    asked = ask.parse_args(arguments)
    there = {r.label: (r, *finished(r, asked.data, asked.seed, asked.split, asked.runs)) for r in TABLES["acl-fig4"].rows}
    for label, (_, trial, folder) in there.items():
        print(f"{label:14} {f'trial-{digest(trial.pretext)}':20} {'there' if folder else 'missing: skelnb reproduce acl-fig4 --data ' + asked.data}")
    if asked.check or not any(folder for _, _, folder in there.values()):
        return
    first = next(iter(there.values()))[1]
    test = parts_of(first.pretext)[2]
    y = np.asarray(test.y)
    chosen, rows = choose(y)
    about = {"data": asked.data, "split": first.pretext["split"], "frames": first.pretext["frames"], "seed": asked.seed, "drawn by seed": DRAW, "test clips": len(test), "classes": [test.classes[c] for c in chosen],
             "labels": np.searchsorted(chosen, y[rows]).tolist(), "rows": rows.tolist(), "names": test.meta["name"].iloc[rows].astype(str).tolist(), "missing": [label for label, (_, _, folder) in there.items() if not folder]}
    made, tensors, kept = {}, {}, {}
    for label, (row, trial, folder) in there.items():
        if not folder:
            continue
        f, encoder = table_of(folder, test, row.read.split("+"), kept)
        nmi, xy, x = measure(f, chosen, rows, y)
        tensors[label] = x.contiguous()
        made[label] = {"run": folder.name, "method": row.method, "streams": row.read, "paper": row.paper, "width": encoder.config.get("width"), "feature_dim": encoder.feature_dim, "epochs": trial.pretext["recipe"]["plan"]["epochs"], "nmi": nmi, "xy": [[round(float(v), 2) for v in p] for p in xy]}
        print(f"{label:14} NMI {nmi}", flush=True)
    file = asked.out / f"figure4-{measured_on(asked.data, asked.split).replace(' ', '-')}.safetensors"
    save_file(tensors, file, {"what": f"unit test features of {', '.join(made)}; rows as in {file.stem}.json"})
    write_json(file.with_suffix(".json"), {**about, "methods": made, "versions": {"skelnb": skelnb.__version__, "torch": torch.__version__, "python": platform.python_version()}})
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
