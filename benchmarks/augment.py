"""HiCLR's four views of a batch of clips: all clips at once, against a pipeline that goes clip by clip in NumPy.

    python -m benchmarks.augment                        # data/results/augment.json
    python -m benchmarks.augment --device cuda          # data/results/augment-cuda.json, where a GPU is at hand

Views 1 and 2 are BA (crop, shear), views 3 and 4 are BA and NA (flip, rotation, noise, blur, axis mask). The pipeline beside it is what a data loader's worker does
in this field: one clip at a time, NumPy, float64 after the shear, and a batch stacked as float32 at the end. Both are measured in turns in the same run, so that
whatever else the machine does hits both; seconds of the processor count for one thread against one process, the clock for all cores: as many processes of either kind, each
making batches of its own (which are not even handed over to another process), and, beside them, one process with as many threads; milliseconds a batch in all cases. Threads
wait for each other many times a batch, so that figure says little on a machine that does other work (`load` is recorded). The smallest of the rounds is reported, beside the median. Before measuring, 31 MB are taken and given
back, as the first training step does: from then on glibc keeps freed memory of that size, in place of fetching it from the system page by page, for both.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
LEFT, RIGHT = [4, 5, 6, 7, 12, 13, 14, 15, 21, 22], [8, 9, 10, 11, 16, 17, 18, 19, 23, 24]
FLIP = np.arange(25)
FLIP[LEFT + RIGHT] = RIGHT + LEFT


# one clip at a time, (C,T,V,M) arrays

def crop(x, ratio=6):
    pad, T = x.shape[1] // ratio, x.shape[1]
    x = np.concatenate([x[:, :pad][:, ::-1], x, x[:, -pad:][:, ::-1]], axis=1)
    start = np.random.randint(0, 2 * pad + 1)
    return x[:, start:start + T]


def along(matrix, x):
    "matrix @ every point."
    return np.dot(x.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def shear(x, amplitude=.5):
    matrix = np.eye(3)
    for entry in ((0, 1), (1, 0), (2, 0), (0, 2), (1, 2), (2, 1)):
        matrix[entry] = random.uniform(-amplitude, amplitude)
    return along(matrix, x)


def flip(x, p=.5):
    return x[:, :, FLIP] if random.random() < p else x


def turn(x):
    main = random.randint(0, 2)
    for axis in range(3):
        angle = np.radians(random.uniform(0, 30 if axis == main else 1))
        c, s, matrix = np.cos(angle), np.sin(angle), np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        matrix[i, i] = matrix[j, j] = c
        matrix[i, j], matrix[j, i] = (-s, s) if axis == 1 else (s, -s)
        x = along(matrix, x)
    return x


def noise(x, std=.01, p=.5):
    return x + np.random.normal(0, std, size=x.shape) if random.random() < p else x


def blur(x, taps=15, sigma=(.1, 2.), p=.5):
    sigma = random.uniform(*sigma)
    if np.random.random_sample() >= p:
        return x
    half, T = taps // 2, x.shape[1]
    kernel = np.exp(-np.arange(-half, half + 1) ** 2 / (2 * sigma ** 2))
    padded = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0)))
    return sum(w * padded[:, k:k + T] for k, w in enumerate(kernel))


def mask(x, p=.5):
    if random.random() >= p:
        return x
    x = x.copy()
    x[random.randint(0, 2)] = 0
    return x


def basic(x): return shear(crop(x))


def normal(x):
    for step in (flip, turn, noise, blur, mask):
        x = step(x)
    return x


def one_by_one(clips):
    "(N,C,T,V,M) array -> four batches."
    views = [(basic(x), basic(x), normal(basic(x)), normal(basic(x))) for x in clips]
    return [np.stack(v).astype(np.float32) for v in zip(*views)]


# as many processes as cores

def _start(shape, seed):
    global CLIPS
    np.ones(31 * 2**20, np.uint8)
    CLIPS = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _work(job):
    "Make batches; seconds of the processor for each."
    kind, seed, times = job
    start = time.process_time()
    if kind == "batched":
        import torch
        from skelnb.augment import growing
        torch.set_num_threads(1)
        first, second = growing(["BA", "NA"])
        x, g = torch.from_numpy(CLIPS), torch.Generator().manual_seed(seed)
        for _ in range(times): [t(x, g) for t in (first, first, second, second)]
    else:
        random.seed(seed)
        np.random.seed(seed)
        for _ in range(times): one_by_one(CLIPS)
    return (time.process_time() - start) / times


# measuring

def seconds(function, clock):
    start = clock()
    function()
    return clock() - start


def summary(rounds):
    return dict(best_ms=round(1e3 * min(rounds), 3), median_ms=round(1e3 * statistics.median(rounds), 3))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15, help="turns of both; the best and the median are reported")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one-process", action="store_true", help="leave out the comparison on all cores")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)

    import torch
    from skelnb.augment import growing

    shape, cores = (args.batch, 3, 50, 25, 2), len(os.sched_getaffinity(0))
    cuda = args.device.startswith("cuda")
    clips = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x = torch.from_numpy(clips).to(args.device)
    g = torch.Generator(args.device).manual_seed(0)
    first, second = growing(["BA", "NA"])
    sets = (first, first, second, second)
    ready = torch.cuda.synchronize if cuda else lambda: None

    def batched(): views = [t(x, g) for t in sets]; ready(); return views
    def draw(): params = [t.draw(x.shape, g) for t in sets]; ready(); return params
    def copy(): views = [x.clone() for _ in sets]; ready(); return views
    params = draw()
    def apply(): views = [t.apply(x, p) for t, p in zip(sets, params)]; ready(); return views

    here = time.perf_counter if cuda else time.process_time
    np.ones(31 * 2**20, np.uint8)
    torch.set_num_threads(1)
    names = {"batched": batched, "draw": draw, "apply": apply, "copy": copy}
    for f in names.values(): f()
    rounds = {k: [] for k in [*names, "one_by_one"]}
    for _ in range(args.rounds):
        rounds["one_by_one"].append(seconds(lambda: one_by_one(clips), here))
        for k, f in names.items(): rounds[k] += [seconds(f, here) for _ in range(8)]                         # as long as one of the other kind
    one = {k: summary(v) for k, v in rounds.items()}

    many = {"batched": [], "batched_processes": [], "one_by_one": [], "batched_processes_processor": [], "one_by_one_processor": []}
    if not args.one_process:
        with multiprocessing.get_context("spawn").Pool(cores, _start, (shape, 1)) as pool:
            torch.set_num_threads(cores)
            def each(kind, i, times):
                start = time.perf_counter()
                used = pool.map(_work, [(kind, cores * i + k, times) for k in range(cores)], 1)
                return (time.perf_counter() - start) / times / cores, used
            each("one_by_one", 0, 1), each("batched", 0, 1), batched()
            for i in range(args.rounds):
                for kind, name, times in (("one_by_one", "one_by_one", 1), *([] if cuda else [("batched", "batched_processes", 8)])):         # as long as one of the other kind
                    wall, used = each(kind, i, times)
                    many[name].append(wall); many[f"{name}_processor"] += used
                many["batched"] += [seconds(batched, time.perf_counter) for _ in range(8)]
            torch.set_num_threads(1)
    many = {k: summary(v) for k, v in many.items() if v}

    faster = lambda t, key, ours="batched": round(t["one_by_one"][key] / t[ours][key], 1)
    rate = lambda t: round(1e3 * args.batch / t["best_ms"])
    bytes_moved = 2 * len(sets) * x.numel() * x.element_size()
    result = dict(
        command="python -m benchmarks.augment" + (f" --device {args.device}" if args.device != "cpu" else ""), batch=list(shape), views=["BA", "BA", "BA+NA", "BA+NA"], rounds=args.rounds,
        device=torch.cuda.get_device_name() if cuda else "cpu",
        one_thread_one_process=dict(clock="clock" if cuda else "processor", **one, times_faster=faster(one, "best_ms"), times_faster_median=faster(one, "median_ms"),
                                    clips_a_second=rate(one["batched"]), clips_a_second_one_by_one=rate(one["one_by_one"])),
        all_cores=many and dict(clock="clock", processes=cores, threads=cores, **many, times_faster_threads=faster(many, "best_ms"), times_faster_threads_median=faster(many, "median_ms"),
                                **({} if cuda else dict(times_faster=faster(many, "best_ms", "batched_processes"), times_faster_median=faster(many, "median_ms", "batched_processes"),
                                                            times_faster_processor_median=round(many["one_by_one_processor"]["median_ms"] / many["batched_processes_processor"]["median_ms"], 1)))),
        random_share=round(one["draw"]["best_ms"] / one["batched"]["best_ms"], 3),
        gb_a_second=round(bytes_moved / one["batched"]["best_ms"] / 1e6, 2), copy_gb_a_second=round(bytes_moved / one["copy"]["best_ms"] / 1e6, 2),
        share_of_copy=round(one["copy"]["best_ms"] / one["batched"]["best_ms"], 3), share_of_copy_without_random=round(one["copy"]["best_ms"] / one["apply"]["best_ms"], 3),
        target=8., torch=torch.__version__, numpy=np.__version__, python=platform.python_version(), machine=platform.machine(), cores=cores, load=[round(v, 1) for v in os.getloadavg()])
    result["met"] = min(result[k]["times_faster"] for k in ("one_thread_one_process", "all_cores") if "times_faster" in result[k]) >= result["target"]
    out = args.out or RESULTS / ("augment-cuda.json" if cuda else "augment.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    r, a = result["one_thread_one_process"], result["all_cores"]
    print(f"four views of {args.batch} clips: {r['batched']['best_ms']:.1f} ms batched ({result['device']}), {r['one_by_one']['best_ms']:.0f} ms clip by clip: {r['times_faster']} times faster; "
          + (f"{cores} processes of each: {a['batched_processes']['best_ms']:.1f} and {a['one_by_one']['best_ms']:.0f} ms, {a['times_faster']} times; " if a and not cuda else "")
          + (f"{cores} threads: {a['batched']['best_ms']:.1f} ms, {a['times_faster_threads']} times; " if a else "")
          + f"random numbers {result['random_share']:.0%} of the time; {result['share_of_copy']:.0%} of a copy's bandwidth ({result['share_of_copy_without_random']:.0%} without them)")
    return result


if __name__ == "__main__":
    main()
