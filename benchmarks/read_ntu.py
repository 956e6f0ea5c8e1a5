"""How fast NTU RGB+D text files are read, on one core, beside a plain line by line parser.

    python -m benchmarks.read_ntu                # writes data/results/read-ntu.json

Made-up files of the size of real ones: 100 frames, 1 and 2 bodies, 25 joints of 12 numbers. `line_by_line` reads as released code does:
a line at a time, every number through float(), a dictionary for every body and joint. Both give the same array; they take turns of ten files.
"""

import json
import pathlib
import platform
import tempfile
import time

import numpy as np

from skelnb.data import read_ntu

FRAMES, ROUNDS, IN_A_ROW = 100, 8, 10
OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "results" / "read-ntu.json"
BODY = "id clipped left_confidence left_state right_confidence right_state restricted lean_x lean_y tracking".split()
JOINT = "x y z depth_x depth_y colour_x colour_y turn_w turn_x turn_y turn_z tracking".split()


def write(path, bodies, end="\n", seed=0):
    "A file of 100 frames with numbers as Kinect's software writes them: seven digits."
    rng, lines = np.random.default_rng(seed), [str(FRAMES)]
    for _ in range(FRAMES):
        lines.append(str(bodies))
        for m in range(bodies):
            lines += [f"7205759403793{m:04d} 0 1 1 1 1 0 {rng.normal():.7g} {rng.normal():.7g} 2", "25"]
            for x, pixels, turn in zip(rng.normal(size=(25, 3)), rng.uniform(100, 1900, (25, 4)), rng.normal(size=(25, 4))):
                lines.append(" ".join([f"{v:.7g}" for v in (*x, *pixels, *turn)] + ["2"]))
    path.write_bytes((end.join(lines) + end).encode())
    return path


def line_by_line(path):
    "(3,T,25,2) float64 of the first two bodies of every frame."
    frames = []
    with open(path) as f:
        for _ in range(int(f.readline())):
            bodies = []
            for _ in range(int(f.readline())):
                body = {k: float(v) for k, v in zip(BODY, f.readline().split())}
                body["joints"] = [{k: float(v) for k, v in zip(JOINT, f.readline().split())} for _ in range(int(f.readline()))]
                bodies.append(body)
            frames.append(bodies)
    x = np.zeros((3, len(frames), 25, 2))
    for t, bodies in enumerate(frames):
        for m, body in enumerate(bodies[:2]):
            for v, joint in enumerate(body["joints"]):
                x[:, t, v, m] = joint["x"], joint["y"], joint["z"]
    return x


def compare(path):
    "Milliseconds of process time a file, median and best of each, and their ratio; the parsers take turns."
    np.testing.assert_allclose(read_ntu(path).x, line_by_line(path), atol=1e-6)
    times = {line_by_line: [], read_ntu: []}
    for parser in [*times] * ROUNDS:
        for _ in range(IN_A_ROW):
            start = time.process_time()
            parser(path)
            times[parser].append(1000 * (time.process_time() - start))
    slow, fast = (np.array(t) for t in times.values())
    return dict(kilobytes=round(path.stat().st_size / 1000), line_by_line_ms=round(float(np.median(slow)), 2), read_ntu_ms=round(float(np.median(fast)), 2),
                ratio=round(float(np.median(slow) / np.median(fast)), 2), ratio_of_best=round(float(slow.min() / fast.min()), 2))


def main():
    with tempfile.TemporaryDirectory() as folder:
        rows = [dict(frames=FRAMES, bodies=m, line_end=repr(end)) | compare(write(pathlib.Path(folder) / "S001C001P001R001A050.skeleton", m, end))
                for m, end in ((1, "\n"), (2, "\n"), (1, "\r\n"), (2, "\r\n"))]
    told = dict(what="parsing made-up NTU RGB+D files, one core, process time", files_each=ROUNDS * IN_A_ROW, python=platform.python_version(), numpy=np.__version__, files=rows, smallest_ratio=min(r["ratio"] for r in rows))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
