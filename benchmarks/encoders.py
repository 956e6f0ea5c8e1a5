"""Every encoder: what it costs, and what it learns on the embedded recordings.

    python -m benchmarks.encoders --cost                 # parameters, GFLOP, clips/s, memory: data/results/encoders-cost.json
    python -m benchmarks.encoders                        # SkeletonCLR and supervised trainings: data/results/encoders-*.json; a killed run goes on
    python -m benchmarks.encoders --table

Cost: encoders at the size of the papers, clips (3,50,25,2), float32 (and bf16 autocast on a GPU); each is measured in a process of its own, beside the
speed of this machine's matrix product. Trainings: synthetic-small, 25 frames, reduced width, one setting for all encoders (the recipe of SkeletonCLR for
small sets, 60 epochs, which was chosen for ST-GCN; nothing was tuned for the others; supervised: 30 epochs, rate 0.05, cosine), the last epoch counts,
test clips are looked at once.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn

import skelnb
from benchmarks.methods import calibrated, measure, parts
from benchmarks.small import RESULTS, RUNS, cell
from benchmarks.supervised_studio import run as supervised
from skelnb.encoders.core import create_encoder, layer_table
from skelnb.evaluate.knn import nearest_neighbour
from skelnb.train import recipe
from skelnb.train.checkpoint import load_weights, write_json

PAPER = {"ST-GCN": dict(name="stgcn", feature_dim=256), "ST-GCN (ACL)": dict(name="stgcn", feature_dim=512), "BiGRU (ACL)": dict(name="gru", feature_dim=512),
         "DSTA-Net (HiCLR)": dict(name="dsta", feature_dim=256), "CTR-GCN": dict(name="ctrgcn", feature_dim=64), "CTR-GCN (ACL)": dict(name="ctrgcn", feature_dim=512),
         "UNIK": dict(name="unik", feature_dim=64), "UNIK (ACL)": dict(name="unik", feature_dim=512), "TCN (ours)": dict(name="tcn", feature_dim=64)}
SMALL = {"stgcn": dict(width=8), "gru": dict(width=32), "dsta": dict(width=8, dropout=.1), "ctrgcn": dict(width=8), "unik": dict(width=8), "tcn": dict(width=48)}
NAMES = {"stgcn": "ST-GCN", "gru": "BiGRU", "dsta": "DSTA-Net", "ctrgcn": "CTR-GCN", "unik": "UNIK", "tcn": "TCN"}
DATA, EPOCHS, SUPERVISED, FEATURES = "synthetic-small", 60, 30, 64


def best_of(go, times=5):
    "Fastest of several runs, in seconds, after one to warm up."
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    found = []
    for i in range(times + 1):
        wait(); start = time.perf_counter(); go(); wait()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def matmul_peak(device, dtype, n=2048):
    "GFLOP/s of a large square product."
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2e-9 * n ** 3 / best_of(lambda: a @ b)


def memory(device):
    "Largest memory so far, in MB: of the device, or of this process."
    return torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cost(title, batch, bf16):
    "One encoder, in this process."
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    encoder = create_encoder(skeleton="ntu25", **PAPER[title])
    whole = layer_table(encoder.eval(), torch.randn(2, 3, 50, 25, 2)).iloc[-1]
    encoder, x = encoder.to(device), torch.randn(batch, 3, 50, 25, 2, device=device)
    head = nn.Linear(encoder.feature_dim, 60, device=device)
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], 1e-3, momentum=.9)
    y = torch.randint(0, 60, (batch,), device=device)
    before = memory(device)

    def look():
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16): encoder.eval()(x)

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=bf16): loss = nn.functional.cross_entropy(head(encoder.train()(x)).float(), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()

    forward = batch / best_of(look)
    training = batch / best_of(step)
    used = memory(device) - before                                                            # before the large product below
    peak = matmul_peak(device, torch.bfloat16 if bf16 else torch.float32)
    return {"encoder": title, "parameters": int(whole.parameters), "GFLOP a clip": whole.MFLOP / 1e3, "batch": batch, "bf16": bf16, "forward clips/s": forward, "training clips/s": training,
            "MB of a training step": used, "matmul GFLOP/s": peak, "share of matmul, forward": forward * whole.MFLOP / 1e3 / peak,
            "share of matmul, training": 3 * training * whole.MFLOP / 1e3 / peak, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "threads": torch.get_num_threads()}


def costs(batch, bf16):
    "All encoders, each in its own process, so that each has its own peak of memory."
    rows = []
    for title in PAPER:
        done = subprocess.run([sys.executable, "-m", "benchmarks.encoders", "--one", title, "--batch", str(batch)] + ["--bf16"] * bf16, capture_output=True, text=True)
        if done.returncode: raise SystemExit(f"{title}: {done.stderr[-2000:]}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    suffix = ("-gpu" if rows[0]["device"] != "cpu" else "") + ("-bf16" if bf16 else "")
    write_json(RESULTS / f"encoders-cost{suffix}.json", {"command": "python -m benchmarks.encoders --cost" + " --bf16" * bf16, "rows": rows, "versions": versions()})


def versions():
    return {"skelnb": skelnb.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}


def train_one(name, seed, clips):
    "SkeletonCLR with one encoder and seed, and the same encoder supervised."
    run = f"encoders-{name}-seed{seed}"
    file, out = RESULTS / f"{run}.json", RUNS / run
    made = recipe("skeletonclr", DATA, epochs=EPOCHS, encoder=name, feature_dim=FEATURES, **SMALL[name])
    if file.exists() and json.loads(file.read_text())["recipe"] == made.to_dict(): return print(f"{file.name} is there", flush=True)
    print(f"{name} seed {seed}", flush=True)
    train, val, test = clips
    scores = {"untrained": measure(calibrated(made, seed, train), *clips, seed)["joint"]}
    _, history = made.run(train, out=out, seed=seed, monitor={"train": train, "val": val}, monitor_every=5, progress=False)
    scores["last"] = measure({"joint": load_weights(out / "last.safetensors")}, *clips, seed)["joint"]
    with_labels = supervised((train, test), "xsub", SUPERVISED, feature_dim=FEATURES, seed=seed, lr=.05, encoder=name, **SMALL[name])
    write_json(file, {"experiment": "encoders", "encoder": name, "seed": seed, "recipe": made.to_dict(), "command": f"python -m benchmarks.encoders --encoders {name} --seeds {seed}",
                      "clips": {"train": len(train), "val": len(val), "test": len(test)}, "scores": scores, "supervised": with_labels, "1-NN preprocessed": nearest_neighbour(train, test).accuracy,
                      "parameters": sum(p.numel() for p in load_weights(out / "last.safetensors").parameters()), "seconds": round(sum(r["seconds"] for r in history), 1),
                      "threads": torch.get_num_threads(), "versions": versions(), "history": history})
    print(f"  kNN {scores['untrained']['knn']:.3f} -> {scores['last']['knn']:.3f}, supervised {with_labels['accuracy']:.3f}", flush=True)


def cost_table(suffix=""):
    "The costs as Markdown."
    file = RESULTS / f"encoders-cost{suffix}.json"
    if not file.exists(): return f"no {file}: run python -m benchmarks.encoders --cost"
    rows = json.loads(file.read_text())["rows"]
    first = rows[0]
    lines = [f"{first['device']}, {first['threads']} threads, batch {first['batch']}, {'bf16 autocast' if first['bf16'] else 'float32'}; matrix product {max(r['matmul GFLOP/s'] for r in rows):,.0f} GFLOP/s", "",
             "| encoder | parameters | GFLOP a clip | forward, clips/s | training, clips/s | MB of a training step | share of matmul, forward | training |", "|---|---|---|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {r['encoder']} | {r['parameters']:,} | {r['GFLOP a clip']:.3f} | {r['forward clips/s']:,.0f} | {r['training clips/s']:,.0f} | {r['MB of a training step']:,.0f} | "
                              f"{r['share of matmul, forward']:.0%} | {r['share of matmul, training']:.0%} |" for r in rows])


def table():
    "Trainings: mean and standard deviation over seeds, per cent on test."
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("encoders-*-seed*.json"))]
    if not runs: return f"no results in {RESULTS}: run python -m benchmarks.encoders"
    lines = ["| encoder | width | parameters | untrained, kNN | SkeletonCLR, kNN | SkeletonCLR, linear | supervised | minutes | seeds |", "|---|---|---|---|---|---|---|---|---|",
             f"| 1-NN on the preprocessed clips | | | {cell([runs[0]['1-NN preprocessed']])} | | | | | |"]
    for name, shown in NAMES.items():
        if group := [r for r in runs if r["encoder"] == name]:
            lines.append(f"| **{shown}** | {SMALL[name]['width']} | {group[0]['parameters']:,} | {cell([r['scores']['untrained']['knn'] for r in group])} | {cell([r['scores']['last']['knn'] for r in group])} | "
                         f"{cell([r['scores']['last']['linear last'] for r in group])} | {cell([r['supervised']['accuracy'] for r in group])} | {np.mean([r['seconds'] for r in group]) / 60:.1f} | {len(group)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true", help="measure costs instead of training")
    parser.add_argument("--one", choices=list(PAPER), help="the cost of one encoder, as JSON")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--encoders", nargs="+", default=list(SMALL), choices=list(SMALL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    if args.one: return print(json.dumps(cost(args.one, args.batch, args.bf16)))
    if args.table: return print(f"{cost_table()}\n\n{table()}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    if args.cost: return costs(args.batch, args.bf16)
    clips = parts(DATA)
    for seed in args.seeds:
        for name in args.encoders: train_one(name, seed, clips)


if __name__ == "__main__":
    main()
