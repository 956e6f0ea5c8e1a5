"""A training step and the features, ours against the plain way (benchmarks/reference.py), in one run: clips a second, memory, share of this machine's matrix product.

    python -m benchmarks.speed                     # data/results/speed.json (speed-gpu.json where there is a GPU)
    python -m benchmarks.speed --table
    python -m benchmarks.speed --batch 32 --times 2

Every row is measured in a process of its own, so that each has its own peak of memory; plain and ours take turns, `--rounds` times, and the best counts. The plain step gets its views ready
made, and so does ours on a CPU; making views has a row of its own. On a GPU a whole set of NTU-60's size lies in the device's memory in half precision, and our step cuts its batch and makes its views there.
"18 % two-person clips": 82 of 100 clips have one person; ours with `absent="once"` and noise that leaves absent persons alone. "malloc": glibc told to keep what it has, see MALLOC; a step of ours says so itself; plain, and features, are measured with and without.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time

import torch

from benchmarks.encoders import best_of, matmul_peak, memory, versions
from benchmarks.reference import PlainCMAL, PlainQueue, PlainSTGCN, random_mask
from benchmarks.small import RESULTS
from skelnb.train.checkpoint import write_json
from skelnb.train.pretrain import keep_memory

MALLOC = {"MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}    # never give memory back, none of it page by page
NTU60 = 40_091                                                                                                  # training clips, cross-subject
SCHEDULES = {"hiclr": 300, "skeletonclr": 300, "cmal": 60, "acl": 100}                                          # epochs of NTU-60 in the papers
PAPER = {"queue": 32768, "width": 16, "frames": 50}
SMOKE = {"queue": 64, "width": 4, "frames": 12}
WIDE = {"cmal": 512, "acl": 512}                                                                                # features; 256 the others
SHARE = .18                                                                                                     # of the clips have two persons


def row(task, who, **extra):
    "What is to be measured."
    return dict(task=task, who=who, bf16=False, once=False, malloc=False, compile=False) | extra


def plan(gpu, malloc, compiled):
    "All rows of a run."
    rows = []
    for task in ("hiclr", "skeletonclr", "cmal"):
        rows += [row(task, "plain"), row(task, "plain", bf16=True), row(task, "ours"), row(task, "ours", bf16=True)]
    rows += [row("hiclr", "ours", once=True), row("hiclr", "ours", once=True, bf16=True), row("features", "plain", once=True)]
    rows += [row("features", "ours", once=once, bf16=bf16) for once in (False, True) for bf16 in (False, True)]
    rows += [row("views", "plain"), row("views", "ours")]
    if gpu: rows += [row("acl", "ours"), row("acl", "ours", bf16=True)]
    if malloc and not gpu: rows += [{**r, "malloc": True} for r in rows if r["task"] == "features" or r["who"] == "plain" and r["task"] != "views"]
    if compiled: rows += [{**r, "compile": True} for r in rows if r["who"] == "ours" and r["task"] not in ("features", "views")]
    return rows


def clips(n, size, once, device="cpu"):
    "(N,3,T,25,2) made-up clips, and who is there (N,2)."
    x = torch.randn(n, 3, size["frames"], 25, 2, device=device)
    there = torch.ones(n, 2, dtype=torch.bool)
    if once: there[max(round(SHARE * n), 1):, 1] = False
    return x * there.to(x)[:, None, None, None], there


def our_method(task, size, once):
    from skelnb.augment import NA
    from skelnb.methods import create_method
    kwargs = dict(width=size["width"], feature_dim=16 * size["width"] * WIDE.get(task, 256) // 256)
    if task in ("hiclr", "skeletonclr"): kwargs["queue"] = size["queue"]
    if task == "acl": kwargs |= dict(streams=["joint", "motion", "bone"], stage1=0)                             # the second stage: the dearer one
    if once: kwargs |= dict(absent="once") | (dict(sets=["BA", NA(absent="keep"), "Mask"]) if task == "hiclr" else {})
    return create_method(task, **kwargs)


def plain_method(task, size):
    features = 16 * size["width"] * WIDE.get(task, 256) // 256
    encoder = PlainSTGCN(width=size["width"], feature_dim=features)
    return PlainCMAL(encoder, features) if task == "cmal" else PlainQueue(encoder, features, queue=size["queue"])


def n_views(task): return {"hiclr": 4}.get(task, 2)


def our_step(r, size, batch, device):
    "A function that trains one step."
    method = our_method(r["task"], size, r["once"]).to(device).train()
    method.start_epoch(1)
    if r["compile"]:
        for pair in method.pairs.values(): pair.online.encoder.compile(); pair.target.encoder.compile()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], .01, momentum=.9, weight_decay=1e-4)
    chance = torch.Generator(device).manual_seed(0)
    if device == "cuda":                                                                                        # the whole set on the device, in half precision
        data = clips(NTU60, size, r["once"], device)[0].half()
        views = lambda: method.views(data[torch.randint(len(data), (batch,), device=device)].float(), chance)
    else:
        ready = method.views(clips(batch, size, r["once"])[0], chance)
        views = lambda: ready
    apart, backward = getattr(method, "apart", False), lambda loss: loss.backward()

    def step():
        seen = views()
        with torch.autocast(device, torch.bfloat16, enabled=r["bf16"]): out = method(seen, backward) if apart else method(seen)
        if not apart: out["loss"].backward()
        optimizer.step(); optimizer.zero_grad(); method.after_step()
    return step


def plain_step(r, size, batch, device):
    plain = plain_method(r["task"], size).to(device).train()
    optimizer = torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], .01, momentum=.9, weight_decay=1e-4)
    views = [clips(batch, size, r["once"], device)[0] for _ in range(n_views(r["task"]))]

    def step():
        mask = random_mask(size["frames"]).to(device) if r["task"] == "hiclr" else None
        with torch.autocast(device, torch.bfloat16, enabled=r["bf16"]): loss, keys = plain(views, mask)
        optimizer.zero_grad(); loss.backward(); optimizer.step(); plain.after_step(keys)
    return step


def look(r, size, batch, device):
    "A function that computes the features of one batch."
    from skelnb.encoders.core import create_encoder
    x, there = clips(batch, size, r["once"], device)
    features = 16 * size["width"]
    if r["who"] == "plain": encoder = PlainSTGCN(width=size["width"], feature_dim=features).to(device).eval()
    else: encoder = create_encoder("stgcn", "ntu25", width=size["width"], feature_dim=features).to(device).eval()
    extra = {"present": there} if r["who"] == "ours" and r["once"] else {}

    def go():
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=r["bf16"]): encoder(x, **extra)
    return go


def make_views(r, size, batch, device):
    "A function that makes HiCLR's four views of a batch: BA, BA, BA + NA, BA + NA."
    from benchmarks.augment import one_by_one
    from skelnb.augment import growing
    x = clips(batch, size, False, device)[0]
    first, second = growing(["BA", "NA"])
    chance, array = torch.Generator(device).manual_seed(0), x.cpu().numpy()
    return (lambda: [t(x, chance) for t in (first, first, second, second)]) if r["who"] == "ours" else lambda: one_by_one(array)


def prepare(r, size, batch, device):
    kind = {"features": look, "views": make_views}.get(r["task"], our_step if r["who"] == "ours" else plain_step)
    return kind(r, size, batch, device)


def measure(r, batch=128, times=3, smoke=False):
    "One row, in this process."
    device, size = "cuda" if torch.cuda.is_available() else "cpu", SMOKE if smoke else PAPER
    if r["who"] == "ours" and r["task"] != "features" and device == "cpu": keep_memory()                             # as `pretrain` does
    if size["queue"] % batch: raise SystemExit(f"batch: expected a divisor of the queue {size['queue']} (the plain queue is not circular), got {batch}")
    torch.manual_seed(0)
    before = memory(device)
    go = prepare(r, size, batch, device)
    if device == "cuda": torch.cuda.reset_peak_memory_stats()                                                          # what it takes to prepare is no part of a step
    seconds = best_of(go, times)
    return {**r, "batch": batch, "seconds": seconds, "clips/s": batch / seconds, "MB": memory(device), "MB before": before}


def arithmetic(smoke=False):
    "GFLOP a clip of the plain way: matrix products and convolutions of a step, forward and backward, as torch counts them."
    from torch.utils.flop_counter import FlopCounterMode
    size, found = SMOKE if smoke else PAPER, {}
    for task in ("hiclr", "skeletonclr", "cmal", "features"):
        go = prepare(row(task, "plain"), size, 2, "cpu")
        with FlopCounterMode(display=False) as counter: go()
        found[task] = counter.get_total_flops() / 2e9
    return found | {"acl": 3 * found["cmal"]}


KINDS = [("convolution, backward", "convolution_backward"), ("convolution", "convolution"), ("batch norm", "batch_norm"), ("matrix product", "mm"), ("random numbers", "bernoulli"), ("random numbers", "random_"), ("random numbers", "rand"),
         ("ReLU", "relu"), ("ReLU", "threshold"), ("ReLU", "clamp"), ("sums and products of maps", "add"), ("sums and products of maps", "mul"), ("copies", "copy_"), ("copies", "clone"), ("copies", "cat")]


def profile(r, batch, smoke=False):
    "Share of a step's time by kind of operation."
    from torch.profiler import ProfilerActivity
    device, size = "cuda" if torch.cuda.is_available() else "cpu", SMOKE if smoke else PAPER
    go = prepare(r, size, batch, device)
    go()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")) as found: go()
    sums = {}
    for event in found.key_averages():
        if device == "cuda" and event.device_type == torch.autograd.DeviceType.CPU: continue                             # its kernel has the time, too
        spent = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((kind for kind, word in KINDS if word in name), "the rest")
        sums[kind] = sums.get(kind, 0) + spent
    return {**{k: r[k] for k in ("task", "who", "bf16", "once")}, "batch": batch, "shares": {k: v / sum(sums.values()) for k, v in sorted(sums.items(), key=lambda kv: -kv[1])}, "milliseconds a clip": sum(sums.values()) / 1e3 / batch}


def ask(job, malloc=False, **options):
    "Do a job (a function of this file and its arguments) in a process of its own."
    env = {k: v for k, v in os.environ.items() if k not in MALLOC} | (MALLOC if malloc else {})
    done = subprocess.run([sys.executable, "-m", "benchmarks.speed", "--job", json.dumps([job, options])], capture_output=True, text=True, env=env)
    if done.returncode: raise SystemExit(f"{job} {options}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peaks():
    "GFLOP/s of this machine's matrix product, by kind of number; and GB/s of a copy."
    device = "cuda" if torch.cuda.is_available() else "cpu"
    big = 8192 if device == "cuda" else 2048
    x = torch.zeros(2 ** 28 if device == "cuda" else 2 ** 26, device=device)
    return {"float32": matmul_peak(device, torch.float32, big), "bf16": matmul_peak(device, torch.bfloat16, big), "copy GB/s": 8e-9 * x.numel() / best_of(x.clone),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "threads": torch.get_num_threads(), "load": [round(v, 1) for v in os.getloadavg()]}


def small_run(epochs=30, bf16=False, clips=None):
    "Seconds of CMAL on the small synthetic set (its first `clips`), the recipe of the lessons."
    from skelnb.data.dataset import load
    from skelnb.train import recipe
    train, _ = load("synthetic-small").split("xsub")
    if clips: train = train.subset(range(clips))
    start = time.perf_counter()
    recipe("cmal", "synthetic-small", epochs=epochs).run(train, seed=0, progress=False, mixed_precision="bf16" if bf16 else "no")
    return {"task": "CMAL on synthetic-small", "epochs": epochs, "bf16": bf16, "clips": len(train), "frames": train.batch([0]).shape[2], "seconds": time.perf_counter() - start}


def full_width(epochs=300, compile=False, smoke=False):
    """CMAL at the papers' width on 1,020 clips of NW-UCLA's shape (20 joints, one person, made-up numbers), through `pretrain` as it is: set on the device, bf16, the first epoch apart
    because it warms up and compiles."""
    import numpy as np
    from skelnb.data.dataset import SkeletonData
    from skelnb.methods import create_method
    from skelnb.skeleton import UCLA20
    from skelnb.train import pretrain
    size, n = (SMOKE, 32) if smoke else (PAPER, 1020)
    data = SkeletonData(np.random.default_rng(0).standard_normal((n, 3, size["frames"], 20, 1), np.float32), np.arange(n) % 10, skeleton=UCLA20)
    method = create_method("cmal", skeleton="ucla20", width=size["width"], feature_dim=32 * size["width"], frames=size["frames"], persons=1)
    history = pretrain(method, data, epochs=epochs, batch_size=16 if smoke else 128, mixed_precision="bf16", compile=compile, progress=False)
    return {"task": "CMAL at full width on NW-UCLA's shape", "epochs": epochs, "clips": n, "compile": compile, "first epoch": history[0]["seconds"], "seconds": sum(r["seconds"] for r in history)}


def small_runs(out):
    "Both precisions, into the file of the last run."
    told = json.loads(open(out).read())
    told["small runs"] = [ask("small_run", bf16=bf16) for bf16 in (False, True)]
    write_json(out, told)
    return told


def import_time():
    "Seconds of `import skelnb`, best of five new processes."
    code = "import time; t = time.perf_counter(); import skelnb; print(time.perf_counter() - t)"
    return min(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(5))


def key(r): return tuple(r[k] for k in ("task", "who", "bf16", "once", "malloc", "compile"))


def ratios(rows, peak, gflop):
    "What each row is against the plain step in float32 (all bodies, malloc as it comes), and how near to the matrix product it runs."
    best = {key(r): r for r in rows}
    for r in rows:
        plain = best.get((r["task"], "plain", False, False, False, False)) or best.get((r["task"], "plain", False, True, False, False))
        alike = best.get((r["task"], "plain", False, False, r["malloc"], False)) or best.get((r["task"], "plain", False, True, r["malloc"], False))
        if plain: r |= {"times plain": r["clips/s"] / plain["clips/s"], "memory to plain": r["MB"] / plain["MB"]}
        if alike and r["malloc"]: r["times plain, same malloc"] = r["clips/s"] / alike["clips/s"]
        if r["task"] in gflop: r["share of matmul"] = r["clips/s"] * gflop[r["task"]] / peak["bf16" if r["bf16"] else "float32"]
        if r["task"] in SCHEDULES: r["hours of the paper's schedule"] = SCHEDULES[r["task"]] * (NTU60 // 128) * 128 / r["clips/s"] / 3600
    return rows


def run(args):
    "All rows, plain and ours taking turns; the JSON."
    gpu, best = torch.cuda.is_available(), {}
    common = dict(batch=args.batch, times=args.times, smoke=args.smoke)
    wanted = [r for r in plan(gpu, args.malloc, args.compile) if not args.only or r["task"] in args.only]
    peak, gflop = ask("peaks"), ask("arithmetic", smoke=args.smoke)
    for _ in range(args.rounds):
        for r in wanted:
            found = ask("measure", malloc=r["malloc"], r=r, **common)
            if key(r) not in best or found["seconds"] < best[key(r)]["seconds"]: best[key(r)] = {**found, "MB": min(found["MB"], best.get(key(r), found)["MB"])}
            print({k: round(v, 2) if isinstance(v, float) else v for k, v in found.items() if v is not False}, flush=True)
    shown = [] if args.only else [ask("profile", r=r, batch=min(args.batch, 32), smoke=args.smoke) for r in (row("hiclr", "plain"), row("hiclr", "ours"), row("hiclr", "ours", bf16=True))]
    out = args.out or RESULTS / f"speed{'-gpu' if gpu else ''}.json"
    told = {"command": "python -m benchmarks.speed", "arguments": {k: v for k, v in vars(args).items() if k not in ("job", "table", "out")}, "peaks": peak, "GFLOP a clip": gflop,
            "rows": ratios(list(best.values()), peak, gflop), "profiles": shown, "two-person clips": SHARE, "malloc": MALLOC, "NTU-60 clips": NTU60, "schedules": SCHEDULES, "versions": versions(),
            "machine": platform.machine(), "cores": os.cpu_count(), "import skelnb, seconds": import_time()}
    if not (args.smoke or args.only or args.no_small_run): told["small runs"] = [ask("small_run", bf16=bf16) for bf16 in (False, True)]
    write_json(out, told)
    if gpu and not args.smoke and not args.only:
        told["full width"] = []
        for way in (False, True, "reduce-overhead")[:3 if args.compile else 1]:
            try: told["full width"].append(ask("full_width", compile=way))
            except SystemExit as error: print(error)                                                                     # what was measured before is kept
        write_json(out, told)
    print(table(told))
    return told


def title(r):
    return f"{r['task']}, {r['who']}{', bf16' if r['bf16'] else ''}{', 18 % two-person clips' if r['once'] else ''}{', malloc' if r['malloc'] else ''}{', compiled' if r['compile'] else ''}"


def table(told):
    "The rows as Markdown."
    p, fmt = told["peaks"], lambda v, f: "" if v is None else format(v, f)
    lines = [f"{p['device']}, {p['threads']} threads; matrix product {p['float32']:,.0f} GFLOP/s float32, {p['bf16']:,.0f} bf16; load {p['load'][0]}", "",
             "| what | clips/s | times plain float32 | GB | of plain's memory | share of the matrix product | hours of the paper's schedule |", "|---|---|---|---|---|---|---|"]
    whole = [f"\n{f['task']}, {f['epochs']} epochs, compile={f['compile']}: {f['seconds']:.0f} s, the first epoch {f['first epoch']:.1f} s" for f in told.get("full width", [])]
    return "\n".join(lines + [f"| {title(r)} | {r['clips/s']:,.1f} | {fmt(r.get('times plain'), '.2f')} | {r['MB'] / 1e3:.2f} | {fmt(r.get('memory to plain'), '.0%')} | {fmt(r.get('share of matmul'), '.0%')} | "
                              f"{fmt(r.get('hours of the paper' + chr(39) + 's schedule'), ',.1f')} |" for r in told["rows"]] + whole)


JOBS = {f.__name__: f for f in (measure, arithmetic, profile, peaks, small_run, full_width)}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--times", type=int, default=3, help="steps timed in a row, after one to warm up; the fastest counts")
    parser.add_argument("--rounds", type=int, default=1, help="how often all rows are measured; the fastest counts")
    parser.add_argument("--only", nargs="+", choices=["hiclr", "skeletonclr", "cmal", "acl", "features", "views"])
    parser.add_argument("--no-malloc", dest="malloc", action="store_false", help="leave out the rows with glibc's settings")
    parser.add_argument("--no-small-run", action="store_true", help="leave out CMAL's 30 epochs on synthetic-small")
    parser.add_argument("--small-runs", action="store_true", help="only CMAL's 30 epochs, float32 and bf16, into the file of the last run")
    parser.add_argument("--compile", action="store_true", help="our steps once more through torch.compile")
    parser.add_argument("--smoke", action="store_true", help="tiny networks: does everything run?")
    parser.add_argument("--out", help="where the JSON goes")
    parser.add_argument("--table", action="store_true", help="print the table of the last run")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.job:
        name, options = json.loads(args.job)
        return print(json.dumps(JOBS[name](**options)))
    if args.table:
        for file in (args.out and [args.out]) or [f for f in (RESULTS / "speed.json", RESULTS / "speed-gpu.json") if f.exists()]: print(table(json.loads(open(file).read())))
        return
    if args.small_runs: return small_runs(args.out or RESULTS / f"speed{'-gpu' if torch.cuda.is_available() else ''}.json")
    return run(args)


if __name__ == "__main__":
    main()
