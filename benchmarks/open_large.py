"""How long a set as large as NTU RGB+D 120 takes to open and to split, and how much memory that needs.

    python -m benchmarks.open_large                              # data/results/open-large.json

The set is made up: a sparse x.npy of 113,945 x 3 x 50 x 25 x 2 float32 (3.4 GB in name, nothing on disk) and tables of as many rows in a
temporary folder. Each measurement is a process of its own; its peak memory is VmHWM of Linux. Opening and splitting do without torch, which
is loaded when a label or a batch is first asked for; beside it stands the same process when it also asks for a batch of 128 clips.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"

CHILD = r"""
import json, sys, time
start = time.perf_counter()
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
now = lambda: time.perf_counter() - start
found = {}
if sys.argv[2] == "import": import skelnb.data.dataset
else:
    from skelnb.data.dataset import load
    found["import_s"] = t = now()
    data = load(sys.argv[1]); found["open_s"] = now() - t; t = now()
    parts = [data.split(p) for p in ("xsub", "xset")]; found["two_splits_s"] = now() - t; t = now()
    assert all(len(a) + len(b) == len(data) for a, b in parts)
    if sys.argv[2] == "batch":
        batch = parts[0][0].batch(range(0, 128 * 300, 300)); found["first_batch_with_torch_s"] = now() - t; t = now()
        batch = parts[0][0].batch(range(1, 128 * 300, 300)); found["batch_s"] = now() - t
        assert batch.shape == (128, 3, 50, 25, 2)
    else: assert "torch" not in sys.modules
found["peak_mb"] = peak()
print(json.dumps(found))
"""


def make(folder, clips):
    "A data set folder of that many clips; x.npy is a hole."
    import numpy as np
    import pandas as pd
    from skelnb.data.dataset import _write_table
    from skelnb.data.formats import NTU_CLASSES
    from skelnb.skeleton import NTU25
    n = np.arange(clips); shape = (clips, 3, 50, 25, 2)
    meta = pd.DataFrame(dict(setup=n * 32 // clips + 1, camera=n % 3 + 1, subject=n // 3 % 106 + 1, repeat=n // 318 % 2 + 1))
    y = (n // 636 % 120).astype("i8")
    meta.insert(0, "name", [f"S{s:03d}C{c:03d}P{p:03d}R{r:03d}A{a + 1:03d}" for s, c, p, r, a in zip(meta.setup, meta.camera, meta.subject, meta.repeat, y)])
    meta = meta.assign(note="", frames=50 + n % 200, copy_of="")
    np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype="f4", shape=shape)
    _write_table(folder, "ntu120", shape, y, np.ones((clips, 2), bool), meta, NTU25, NTU_CLASSES, {})


def measure(folder, what, times):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    runs = [json.loads(subprocess.run([sys.executable, "-c", CHILD, str(folder), what], check=True, capture_output=True, text=True, env=env).stdout) for _ in range(times)]
    return {k: round(max(r[k] for r in runs) if k == "peak_mb" else statistics.median(r[k] for r in runs), 3) for k in runs[0]}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=113945)
    parser.add_argument("--times", type=int, default=5, help="runs of each measurement: median seconds, largest memory")
    parser.add_argument("--out", type=Path, default=RESULTS / "open-large.json")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder, args.clips)
        x, meta = (folder / "x.npy").stat(), (folder / "meta.parquet").stat()
        found = {what: measure(folder, what, args.times) for what in ("import", "split", "batch")}
    result = dict(command="python -m benchmarks.open_large", clips=args.clips, array_gb=round(x.st_size / 1e9, 2), on_disk_mb=round(x.st_blocks * 512 / 1e6, 3), table_mb=round(meta.st_size / 1e6, 2),
                  runs=args.times, measured=found, targets=dict(open_s=1., peak_mb=300.),
                  met=found["split"]["open_s"] < 1 and found["split"]["peak_mb"] < 300,
                  python=platform.python_version(), machine=platform.machine(), cores=os.cpu_count())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    s, b = found["split"], found["batch"]
    print(f"{args.clips:,} clips, {result['array_gb']} GB: open {s['open_s']:.2f} s, xsub and xset {1000 * s['two_splits_s']:.0f} ms, peak {s['peak_mb']:.0f} MB "
          f"({found['import']['peak_mb']:.0f} MB of it the imports, {s['import_s']:.1f} s); with torch and a batch of 128: {b['peak_mb']:.0f} MB, a batch {1000 * b['batch_s']:.0f} ms")
    return result


if __name__ == "__main__":
    main()
