"""Evaluation: features, nearest neighbours and the linear probe at the size of NTU-60, ours beside the plain way, in one run.

    python -m benchmarks.speed_evaluate                 # everything: data/results/speed-evaluate.json
    python -m benchmarks.speed_evaluate --only knn      # one part: features, knn or linear; nothing is written
    python -m benchmarks.speed_evaluate --table         # the stored figures as Markdown

Every row is measured in a process of its own, so that each has its own peak of memory; `rounds` times in turn, and the fastest counts, since a busy machine only ever adds time.
Features: ST-GCN, width 16, 256 features, clips (3,50,25,2) of which 18 % have a second person, against the network as it is usually written, with the same weights (the largest difference
of a feature is in the row). kNN: 16,487 queries, a bank of 40,091, 256 features, k = 20; the features are clouds around 60 centres after a ReLU, then plain random numbers, which are
equally far from each other. Linear: one epoch over the stored features, against one over 512 clips that runs the frozen encoder again, scaled up.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.encoders import matmul_peak, memory, versions
from benchmarks.methods import parts
from benchmarks.reference import PlainSTGCN
from benchmarks.small import RESULTS
from skelnb.data.dataset import SkeletonData
from skelnb.encoders.core import create_encoder
from skelnb.evaluate import features, knn
from skelnb.evaluate.features import calibrate
from skelnb.evaluate.knn import _neighbours
from skelnb.evaluate.linear import Descent, _epoch, _new_layer
from skelnb.train.checkpoint import write_json

QUERIES, BANK, WIDTH, CLASSES, K, TWO = 16487, 40091, 256, 60, 20, .18
PARTS = {"features": ("plain", "ours, all bodies", "ours", "ours, bf16"), "agreement": ("ours, bf16",), "knn": ("plain", "ours", "ours, bf16"), "knn-random": ("plain", "ours", "ours, bf16"),
         "linear": ("plain", "ours")}
UNITS = {"features": "clips/s", "knn": "queries/s", "knn-random": "queries/s", "linear": "clips/s"}


def clips(n, seed=0):
    "Clips of random numbers; the share TWO of them has a second person."
    g = np.random.default_rng(seed)
    x = g.standard_normal((n, 3, 50, 25, 2), dtype=np.float32)
    there = np.ones((n, 2), bool)
    there[:, 1] = np.arange(n) < round(TWO * n)
    there = there[g.permutation(n)]
    x *= there[:, None, None, None]
    return SkeletonData(x, g.integers(0, CLASSES, n), present=there, classes=[str(c) for c in range(CLASSES)])


def networks(data):
    "Ours, with batch norms that have seen clips, and the plain one with the same weights."
    torch.manual_seed(0)
    ours = calibrate(create_encoder("stgcn", "ntu25", width=16, feature_dim=WIDTH), data.subset(range(32)), batch_size=16).eval()
    plain = PlainSTGCN(ours.blocks[0].A.clone(), 16, WIDTH)
    missing = plain.load_state_dict(ours.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(k.endswith(".A") for k in missing.missing_keys), missing
    return ours, plain.eval()


def groups(random=False):
    "A bank and queries at NTU-60 size."
    g = torch.Generator().manual_seed(0)
    centre = torch.randn(CLASSES, WIDTH, generator=g)
    make = lambda n: torch.randn(n, WIDTH, generator=g) if random else (centre[torch.arange(n) % CLASSES] + .7 * torch.randn(n, WIDTH, generator=g)).relu()
    return make(BANK), make(QUERIES)


def plain_neighbours(query, bank, k, chunk=2 ** 24):
    "The usual way, in bounded memory."
    query, bank = F.normalize(query, dim=1), F.normalize(bank, dim=1)
    parts = [(rows @ bank.T).topk(k, dim=1) for rows in query.split(chunk // len(bank))]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def of_features(row, n):
    "What to run, how many clips that is, and what to look at afterwards: facts to store."
    data = clips(n)
    ours, plain = networks(data)
    x = torch.as_tensor(data.x)

    def check():
        with torch.no_grad(): error = (plain(x[:64]) - features(ours, data.subset(range(64))).x).abs().max().item()
        assert error < 1e-4, error
        return {"largest difference to plain, float32": error}

    def usual():
        with torch.no_grad(): return torch.cat([plain(rows) for rows in x.split(128)])
    go = {"plain": usual, "ours, all bodies": lambda: features(lambda rows: ours(rows), data), "ours": lambda: features(ours, data), "ours, bf16": lambda: features(ours, data, precision="bf16")}
    return go[row], n, check


def of_neighbours(row, random=False):
    bank, query = groups(random)
    if row == "plain": return lambda: plain_neighbours(query, bank, K), QUERIES, dict
    go = lambda: _neighbours(query, bank, K, 2 ** 24, "bf16" if row.endswith("bf16") else "float32")

    def check():
        value, _, again = go()
        return {"recomputed": again, "largest difference to plain": (value - plain_neighbours(query, bank, K)[0]).abs().max().item()}
    return go, QUERIES, check


def of_linear(row, n=512):
    descend = lambda layer: Descent(layer.parameters(), 3.)
    layer, generator = _new_layer(WIDTH, CLASSES, 0, "cpu")
    if row == "ours":
        x, y = groups()[0], torch.arange(BANK) % CLASSES
        return lambda: _epoch(layer, descend(layer), x, y, 128, generator, True), BANK, dict
    data = clips(n)
    _, plain = networks(data)
    x, y = torch.as_tensor(data.x), data.y

    def usual():
        descent = descend(layer)
        for index in torch.randperm(n).split(128):
            with torch.no_grad(): h = plain(x[index])
            F.cross_entropy(layer(h), y[index]).backward(); descent()
    return usual, n, dict


def agreement():
    "Of a network that learned a little from labels: the share of test clips whose kNN prediction is the same with features in bf16."
    train, _, test = parts("synthetic-small")
    torch.manual_seed(0)
    net = create_encoder("stgcn", train.skeleton, width=16, feature_dim=WIDTH, persons=1)
    head = torch.nn.Linear(WIDTH, len(train.classes))
    step = torch.optim.SGD([*net.parameters(), *head.parameters()], .05, momentum=.9)
    for _ in range(8):
        for index in torch.randperm(len(train)).split(32):
            loss = F.cross_entropy(head(net(train.batch(index))), train.y[index])
            step.zero_grad(); loss.backward(); step.step()
    a, b = ([features(net, part, precision=p) for part in (train, test)] for p in ("float32", "bf16"))
    exact, rounded = knn(None, *a), knn(None, *b)
    return {"clips": len(test), "same prediction": (exact.predictions == rounded.predictions).double().mean().item(), "accuracy": exact.accuracy, "accuracy, bf16": rounded.accuracy,
            "error of a row": ((b[1].x - a[1].x).norm(dim=1) / a[1].x.norm(dim=1)).mean().item()}


def one(part, row, n):
    "One row, in this process."
    if part == "agreement": return {"part": part, "row": row} | agreement()
    go, count, check = of_features(row, n) if part == "features" else of_linear(row) if part == "linear" else of_neighbours(row, part == "knn-random")
    before = memory("cpu")
    start = time.perf_counter(); go()
    start, _ = time.perf_counter(), go()
    seconds = time.perf_counter() - start
    return {"part": part, "row": row, "seconds": seconds, UNITS[part]: count / seconds, "MB more at the peak": memory("cpu") - before, "MB at the peak": memory("cpu")} | check()


def measure(which, rounds, n):
    "All rows, `rounds` times in turn; of each the fastest."
    found = {}
    for _ in range(rounds):
        for part in which:
            for row in PARTS[part]:
                if part == "agreement" and (part, row) in found: continue
                done = subprocess.run([sys.executable, "-m", "benchmarks.speed_evaluate", "--one", part, row, "--clips", str(n)], capture_output=True, text=True)
                if done.returncode: raise SystemExit(f"{part}, {row}: {done.stderr[-2000:]}")
                new = json.loads(done.stdout.splitlines()[-1])
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in new.items()}, flush=True)
                if (part, row) not in found or new.get("seconds", 0) < found[part, row]["seconds"]: found[part, row] = new
    for (part, row), result in found.items():
        if "seconds" in result: result["times plain"] = result[UNITS[part]] / found[part, "plain"][UNITS[part]]
    return list(found.values())


def table():
    "The stored figures as Markdown."
    file = RESULTS / "speed-evaluate.json"
    if not file.exists(): return f"no {file}: run python -m benchmarks.speed_evaluate"
    made = json.loads(file.read_text())
    lines = [f"{made['threads']} threads; matrix product {made['matmul GFLOP/s']['float32']:,.0f} GFLOP/s in float32, {made['matmul GFLOP/s']['bf16']:,.0f} in bf16; fastest of {made['rounds']}", "",
             "| part | way | seconds | a second | times plain | MB at the peak | computed twice |", "|---|---|---|---|---|---|---|"]
    for r in made["rows"]:
        if r["part"] in UNITS:
            again = r.get("recomputed")
            lines.append(f"| {r['part']} | {r['row']} | {r['seconds']:.2f} | {r[UNITS[r['part']]]:,.0f} {UNITS[r['part']].split('/')[0]} | {r['times plain']:.1f} | {r['MB at the peak']:,.0f} | {'' if again is None else f'{again:.1%}'} |")
    lines += [f"\nbf16 features of a trained network: the same kNN prediction for {r['same prediction']:.2%} of {r['clips']} clips, accuracy {r['accuracy']:.2%} and {r['accuracy, bf16']:.2%}; a row differs by {r['error of a row']:.1e} of its length"
              for r in made["rows"] if r["part"] == "agreement"]
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts, printed and not stored")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=512, help="clips of the features")
    parser.add_argument("--one", nargs=2, metavar=("PART", "ROW"), help="one row in this process, as JSON")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    if args.table: return print(table())
    if args.one: return print(json.dumps(one(*args.one, args.clips)))
    rows = measure(args.only or PARTS, args.rounds, args.clips)
    if args.only: return
    peak = {name: matmul_peak("cpu", dtype) for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))}
    write_json(RESULTS / "speed-evaluate.json", {"command": "python -m benchmarks.speed_evaluate", "rows": rows, "rounds": args.rounds, "clips": args.clips, "matmul GFLOP/s": peak,
                                                 "threads": torch.get_num_threads(), "versions": versions()})
    print(table())


if __name__ == "__main__":
    main()
