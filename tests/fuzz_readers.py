"""Damage valid files of every format and read them: whatever comes, a reader gives recordings or its own error, soon and in little memory.

    python tests/fuzz_readers.py --runs 100000                # some minutes, one process
    python tests/fuzz_readers.py --runs 100000 --out data/results/fuzz-readers.json
    python tests/fuzz_readers.py --only pyskl --seed 7 --runs 1

Run i of a seed is always the same. A run that breaks the promise is kept in a folder, which the message names.
"""

import argparse
import collections
import io
import json
import os
import pathlib
import pickle
import pickletools
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from skelnb.data.formats import (LARGEST_NTU, ReadError, Recording, read_arrays, read_ctrgcn, read_missing, read_ntu, read_pku,
                                 read_pyskl, read_ucla, safe_unpickle)

SECONDS = 2.0               # a file, at most
MEMORY = 2**30              # bytes beyond what the process has at the start; files of the corpus have some 20 thousand
NUMBERS = ["", "0", "-1", "1", "2", "3", "6", "25", "26", "300", "4294967296", "1000000000000", "9" * 5000, "nan", "inf", "-inf", "1e400", "1e-400", "0x10", "1_0", "1.2.3", "-", ".", "٣", "\x00"]


# --- valid files -----------------------------------------------------------------------------------------------------

def ntu_text(rng, frames, end="\n"):
    "frames: a list with the ids of the bodies of every frame."
    lines = [str(len(frames))]
    for ids in frames:
        lines.append(str(len(ids)))
        for who in ids:
            lines += [f"7205759403793{who:04d} 0 1 1 1 1 0 0.02 -0.05 2", "25"]
            lines += [" ".join([*(f"{v:.7g}" for v in rng.normal(size=3)), *(f"{v:.4f}" for v in rng.random(8)), "2"]) for _ in range(25)]
    return (end.join(lines) + end).encode()


def pickles(rng):
    names, labels = ["S001C001P001R001A010.skeleton", "S001C002P003R001A050.skeleton"], [9, 49]
    x = rng.normal(size=(2, 6, 25, 3))
    notes = [dict(frame_dir=n[:20], label=k, total_frames=6, keypoint=x.astype(kind)) for n, k, kind in zip(names, labels, ("f2", "f4"))]
    flat = [dict(frame_dir="v1", label=np.int64(3), img_shape=(1080, 1920), total_frames=4, keypoint=rng.random((1, 4, 17, 2)).astype("f2"), keypoint_score=rng.random((1, 4, 17)).astype("f2"))]
    return (names, labels), dict(split=dict(xsub_train=names[:1], xsub_val=names[1:]), annotations=notes), flat


def corpus():
    "{format: list of {file name: bytes}}"
    rng, out = np.random.default_rng(0), collections.defaultdict(list)
    for name, frames, end in (("S001C001P001R001A001", [[1]] * 4, "\n"), ("S001C001P002R002A050", [[1, 2], [2, 1], [1, 2]], "\r\n"),
                              ("S002C003P003R001A060", [[], [1, 2, 3], [4], [1, 2, 3, 4, 5, 6]], "\n"), ("S002C003P003R001A061", [[], [], []], "\n")):
        out["ntu"].append({f"{name}.skeleton": ntu_text(rng, frames, end)})
    out["missing"].append({"list.txt": b"302 of the captured samples ...\nplease ignore\n\nS001C002P005R002A008\nS001C002P006R001A008\n"})
    for name in ("0002-L", "A01N02-R"):
        rows = rng.normal(size=(12, 150)).round(3)
        rows[:4, 75:] = 0
        out["pku"].append({f"{name}.txt": "\n".join(" ".join(map(str, r)) for r in rows.tolist()).encode() + b"\n", f"labels/{name}.txt": b"12,1,5,2\n3,0,4,1\r\n51,6,12,2\n7,9,30,0\n"})
    out["ucla"].append({"a08_s03_e01_v02.json": json.dumps(dict(file_name="a08_s03_e01_v02", skeletons=rng.normal(size=(3, 20, 3)).round(4).tolist(), label=7)).encode()})
    pair, dictionary, flat = pickles(rng)
    x = rng.normal(size=(2, 3, 8, 25, 2)).astype("f4")
    x[0, :, 5:] = 0
    for protocol, array in ((2, x), (4, np.asfortranarray(x)), (5, x.astype(">f8"))):
        npy = io.BytesIO()
        np.save(npy, array)
        out["arrays"].append({"train_position.npy": npy.getvalue(), "train_label.pkl": pickle.dumps(pair, protocol)})
    for save in (np.savez, np.savez_compressed):
        npz = io.BytesIO()
        save(npz, x_train=x.reshape(2, 8, 150), y_train=np.eye(60)[[9, 49]], x_test=x[:1].reshape(1, 8, 150), y_test=np.eye(60)[[3]])
        out["ctrgcn"].append({"NTU60_CS.npz": npz.getvalue()})
    for protocol in (0, 2, 3, 4, 5):
        out["pyskl"] += [{"annotations.pkl": pickle.dumps(d, protocol)} for d in (dictionary, flat)]
        out["pickle"].append({"x.pkl": pickle.dumps([dict(a=1, b=[2.5, None, True], c=("t", b"raw", {1, 2}), x=np.arange(4), t=np.array(["ab"]), s=np.float32(2)), 2**70, "ü"], protocol)})
    return out


# --- damage ----------------------------------------------------------------------------------------------------------

def flip(data, rng, _):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if data:
            data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), 0, 10, 32, 45, 48, 255])
    return bytes(data)


def digit(data, rng, _):
    "Another digit in the place of some."
    data, at = bytearray(data), [m.start() for m in re.finditer(rb"[0-9]", data)]
    for i in rng.sample(at, min(len(at), rng.choice([1, 2, 5]))):
        data[i] = rng.choice(b"0123456789")
    return bytes(data)


def cut(data, rng, _):
    a, b = sorted(rng.randrange(len(data) + 1) for _ in "ab")
    return rng.choice([data[:a], data[b:], data[:a] + data[b:]])


def splice(data, rng, others):
    other = rng.choice(others)
    a, (b, c) = rng.randrange(len(data) + 1), sorted(rng.randrange(len(other) + 1) for _ in "ab")
    return data[:a] + other[b:c][:5000] + data[rng.choice([a, min(a + c - b, len(data))]):]


def repeat(data, rng, _):
    a, b = sorted(rng.randrange(len(data) + 1) for _ in "ab")
    return data[:b] + data[a:min(b, a + 500)] * rng.choice([1, 2, 40]) + data[b:]


def number(data, rng, _):
    "Put another number, or something that is none, in the place of some."
    found = [m.span() for m in re.finditer(rb"-?[0-9][0-9.e+-]*", data[:200000])]
    early = found[:4] + rng.sample(found, min(len(found), 3)) if found else []
    for a, b in sorted(rng.sample(early, min(len(early), rng.choice([1, 1, 3]))), reverse=True):
        data = data[:a] + rng.choice(NUMBERS).encode() + data[b:]
    return data


def bits(data, rng, _):
    "Put an extreme binary number somewhere."
    size = rng.choice([1, 2, 4, 8])
    value = rng.choice([0, 1, 2, 2**(8 * size) - 1, 2**(8 * size - 1), 2**(8 * size - 1) - 1, 2**(4 * size), rng.getrandbits(8 * size)])
    a = rng.randrange(max(len(data) - size, 1))
    return data[:a] + value.to_bytes(size, rng.choice(["little", "big"])) + data[a + size:]


OPCODES = [o.code.encode("latin-1") for o in pickletools.opcodes]


def opcode(data, rng, _):
    "Exchange, add, drop or double instructions of a pickle."
    at = []
    try:
        for _, _, pos in pickletools.genops(data):
            at.append(pos)
    except Exception:
        pass
    if len(at) < 2:
        return flip(data, rng, _)
    for _ in range(rng.choice([1, 1, 2, 4])):
        i = rng.randrange(len(at) - 1)
        a, b = at[i], at[i + 1]
        j = rng.randrange(len(at) - 1)
        new = rng.choice([rng.choice(OPCODES) + data[a + 1:b], rng.choice(OPCODES) + data[a:b], b"", data[a:b] * 2, data[at[j]:at[j + 1]], rng.choice(OPCODES),
                          b"cos\nsystem\n", b"cbuiltins\neval\n", b"r" + struct.pack("<I", rng.choice([2**31 - 1, 2**20])), b"\x96" + struct.pack("<Q", rng.choice([2**40, 2**63])), b"\x95" + struct.pack("<Q", 2**62),
                          b"(" * rng.choice([1, 3000]), b"]\x94" * 500, b"\x85" * 3000])
        data = data[:a] + new + data[b:]
    return data


def header(data, rng, _):
    "Change the header of the arrays inside, keeping their length, or the places and sizes that a zip archive notes."
    found = [m.span() for m in re.finditer(rb"'shape': \([^)]*\)|'descr': '[^']*'|'fortran_order': \w+", data)]
    places = [m.start() for m in re.finditer(rb"PK\x01\x02|PK\x03\x04|PK\x05\x06", data)]
    if found and (not places or rng.random() < .5):
        a, b = rng.choice(found)
        new = rng.choice([b"'shape': (10**12,)", b"'shape': (1000000000000,)", b"'shape': (0, 3, 8, 25, 2)", b"'shape': (-1, 3, 8, 25, 2)", b"'shape': ()", b"'shape': (2, 3, 8, 25, 3)", b"'descr': '|O'",
                          b"'descr': '<f2'", b"'descr': '<U9'", b"'descr': '<M8[s]'", b"'descr': [('a', '<f4')]", b"'fortran_order': 1", b"'shape': (2, 3, 8, 25, 2, 1)", b"'descr': '<c8'", b"(" * 30])
        return data[:a] + new[:b - a].ljust(b - a) + data[b:]
    if places:
        a = rng.choice(places) + rng.randrange(46)
        return data[:a] + struct.pack(rng.choice(["<H", "<I"]), rng.choice([0, 1, 8, 65535, rng.randrange(2**16)])) + data[a + 4:]
    return bits(data, rng, _)


def whole(data, rng, others):
    "Something else under this name."
    return rng.choice([b"", b"\n", b"0\n", b"\x00" * 100, rng.choice(others), rng.randbytes(rng.choice([1, 20, 400])), b"1000000000000\n1\n", b"9" * 100000, b"[" * 100000, b" " * 100000, b"\n" * 100000, b"0\n" * 50000, b"{" * 5000])


ANY = [flip, flip, digit, digit, cut, cut, splice, repeat, number, bits, whole]
KINDS = {"ntu": [number], "missing": [], "pku": [number], "ucla": [number], "arrays": [header, opcode], "ctrgcn": [header, header], "pyskl": [opcode] * 4, "pickle": [opcode] * 4}


# --- reading ---------------------------------------------------------------------------------------------------------

def use(kind, paths, rng):
    "Read a file in one of the ways there are, look at everything that comes, and return what came."
    a = paths[0]
    if kind == "ntu":
        got = [read_ntu(a, rng.choice(["first", "energy", "track"]), rng.choice([1, 2, 6]))]
        assert got[0].frames <= LARGEST_NTU
    elif kind == "missing":
        names = read_missing(a)
        assert names and all(type(n) is str and len(n) == 20 for n in names)
        return names
    elif kind == "pku":
        got = read_pku(*paths, longest=rng.choice([300, 2, None]), rule=rng.choice(["released", "cmd"]))
    elif kind == "ucla":
        got = [read_ucla(a)]
    elif kind == "pickle":
        return repr(type(safe_unpickle(a)))
    else:
        got = {"arrays": read_arrays, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl}[kind](*paths)
        got = [got[i] for i in range(min(len(got), 50))] + list(got[:1])
    for r in got:
        assert isinstance(r, Recording) and r.x.dtype == np.float32 and np.isfinite(r.x).all() and r.x.shape[2] == len(r.skeleton) and r.meta["label"] >= 0, r
    return got


class TooLong(BaseException):
    pass


def _alarm(*_):
    raise TooLong


def one(kind, files, rng, folder, others, timer=True):
    "Damage one of the files, read them: ('read' or 'ReadError', seconds). Anything else is raised."
    files = dict(files)
    target = rng.choice(list(files))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        files[target] = rng.choice(ANY + KINDS[kind])(files[target], rng, others)[:300000]
    paths = []
    for name, data in files.items():
        paths.append(folder / name)
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_bytes(data)
    start = time.perf_counter()
    if timer:
        signal.setitimer(signal.ITIMER_REAL, 5 * SECONDS)
    try:
        use(kind, paths, rng)
        outcome = "read"
    except ReadError as e:
        assert str(paths[0].parent) in str(e) and e.remedy and len(str(e)) < 1200, str(e)
        outcome = "ReadError"
    finally:
        if timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return outcome, time.perf_counter() - start


def fuzz(runs, seed=0, only=None, progress=lambda i: None):
    "{format: Counter}, the longest time, and the memory it took beyond the start, in bytes."
    files = corpus()
    kinds = [only] if only else list(files)
    others = [d for group in files.values() for f in group for d in f.values()]
    counts, longest, before = {k: collections.Counter() for k in kinds}, (0, ""), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        for i in range(runs):
            rng = random.Random(f"{seed}-{i}")
            kind = kinds[i % len(kinds)]
            try:
                outcome, seconds = one(kind, rng.choice(files[kind]), rng, pathlib.Path(folder), others)
                assert seconds < SECONDS, f"took {seconds:.1f} s"
            except BaseException as e:
                keep = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
                shutil.copytree(folder, keep, dirs_exist_ok=True)
                print(f"\nrun {i} of seed {seed}, {kind}: {type(e).__name__}; the files are in {keep}", file=sys.stderr)
                raise
            counts[kind][outcome] += 1
            longest = max(longest, (seconds, f"run {i}, {kind}"))
            progress(i)
    return counts, longest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--runs", type=int, default=10000)
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--only", choices=list(KINDS))
    args.add_argument("--out", help="a JSON file for the figures")
    args = args.parse_args()
    warnings.simplefilter("ignore")
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, resource.RLIM_INFINITY))
    start = time.perf_counter()
    tell = lambda i: print(f"\r{i + 1} runs, {time.perf_counter() - start:.0f} s", end="", file=sys.stderr) if i % 1000 == 999 else None
    counts, longest, memory = fuzz(args.runs, args.seed, args.only, tell)
    told = dict(runs=args.runs, seed=args.seed, seconds=round(time.perf_counter() - start, 1), seconds_a_file_at_most=SECONDS, longest_seconds=round(longest[0], 3), longest=longest[1],
                memory_limit_mb=MEMORY // 2**20, memory_grown_mb=round(memory / 2**20, 1), formats={k: dict(sorted(c.items())) for k, c in counts.items()}, other_errors=0)
    print("\n" + json.dumps(told, indent=2))
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
