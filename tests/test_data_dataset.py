"""Data sets: what they hold, how they are split, saved, opened and prepared, and what is refused."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pandas as pd
import pytest
import torch

from skelnb.data import DataError, FolderError, ReadError, Recording, SkeletonData, data_dir, from_recordings, load, prepare
from skelnb.data.dataset import NTU_TRAIN_SUBJECTS, PROTOCOLS, atomic_folder, factors, split_of
from skelnb.data.formats import ntu_name, read_missing
from skelnb.skeleton import NTU25, UCLA20, LayoutError
from test_data_formats import ucla


def make(n=24, name="made-up", **change):
    "A small data set with random numbers: 6 subjects, 2 cameras, 3 classes, the second person absent in every other clip."
    rng = np.random.default_rng(0)
    i = np.arange(n)
    x = rng.normal(size=(n, 3, 5, 25, 2)).astype("f4")
    x[::2, ..., 1] = 0
    meta = pd.DataFrame(dict(name=[f"c{k:02d}" for k in i], subject=i % 6 + 1, camera=i // 6 % 2 + 1))
    return SkeletonData(**(dict(x=x, y=i % 3, meta=meta, skeleton=NTU25, classes=["a", "b", "c"], name=name) | change))


half = lambda m: m.subject <= 4


def test_holds_what_it_says():
    d = make()
    assert len(d) == 24 and d.shape == d.x.shape == (24, 3, 5, 25, 2) and d.y.dtype == torch.int64
    assert d.present[:, 0].all() and d.present[:, 1].tolist() == [False, True] * 12
    assert "24 clips" in repr(d) and "ntu25" in repr(d) and "6 subjects" in repr(d)
    d = SkeletonData(torch.zeros(2, 3, 4, 25, 1, dtype=torch.float64), torch.tensor([0, 1]))
    assert d.x.dtype == np.float32 and d.classes == ["0", "1"] and d.meta["name"].tolist() == ["clip00000", "clip00001"]


@pytest.mark.parametrize("index", [slice(2, 9, 3), [3, 1, 1], (0, 5), range(4), np.array([7]), torch.tensor([4, 2]), [], np.arange(24) > 20, torch.arange(24) < 2])
def test_batch_and_subset_agree(index, tmp_path):
    d = make()
    saved = SkeletonData.open(d.save(tmp_path / "d"))
    for s in (d, saved, saved.subset(slice(None)), d.subset(np.arange(24))):
        b, part = s.batch(index), s.subset(index)
        assert b.dtype == torch.float32 and len(part) == len(b) and part.shape == tuple(b.shape)
        torch.testing.assert_close(part.batch(), b)
        np.testing.assert_array_equal(part.x, b.numpy())
        assert all(part.x[k].tobytes() == d.x[int(n[1:])].tobytes() for k, n in enumerate(part.meta["name"]))
        assert part.y.tolist() == [int(n[1:]) % 3 for n in part.meta["name"]]


def test_batch_is_a_copy_and_one_clip_is_one_clip(tmp_path):
    d = SkeletonData.open(make().save(tmp_path / "d"))
    b = d.batch(5)
    assert b.shape == (3, 5, 25, 2)
    b.zero_()
    assert d.batch(5).any()
    assert isinstance(d._x, np.memmap) and isinstance(d.subset([1])._x, np.memmap)           # nothing read yet
    assert not isinstance(d.subset([1]).x, np.memmap)
    with pytest.raises(DataError, match="mask over 24 clips"):
        d.batch(np.ones(3, bool))
    with pytest.raises(DataError, match=r"one clip alone is \[3\]"):
        d.subset(3)


# ---- what does not fit

def test_refuses_what_does_not_fit():
    d = make()
    x = d.x.copy(); x[7, 1, 3, 20, 0] = np.nan
    with pytest.raises(DataError, match=r"clip 7 \(c07\), frame 3, person 0, joint 20 \(spine_shoulder\): coordinate y is nan.*zeros"):
        make(x=x)
    x[7, 1, 3, 20, 0] = np.inf
    with pytest.raises(DataError, match="is inf"):
        make(x=x)
    with pytest.raises(DataError, match=r"\(N,C,T,V,M\), got \(24, 3, 5, 25\)"):
        make(x=d.x[..., 0])
    with pytest.raises(LayoutError, match="expected 20 joints of the layout ucla20, got 25"):
        make(skeleton=UCLA20)
    with pytest.raises(DataError, match="24 clips but 23 labels"):
        make(y=np.zeros(23, int))
    with pytest.raises(DataError, match=r"clip 2 \(c02\) has label 3, but there are 3 classes.*count from 0"):
        make(y=np.arange(24) % 3 + 1)
    with pytest.raises(DataError, match="label -1"):
        make(y=np.arange(24) % 3 - 1)
    with pytest.raises(DataError, match="whole numbers"):
        make(y=["walk"] * 24)
    with pytest.raises(DataError, match=r"shape \(N,\)"):
        make(y=np.zeros((24, 3)))
    with pytest.raises(DataError, match="rows of meta"):
        make(meta=d.meta[:3])
    with pytest.raises(DataError, match=r"present of shape \(24, 2\)"):
        make(present=np.ones((24, 1), bool))


# ---- splits

def test_val_holds_out_training_subjects():
    d = make()
    train, test = d.split(half)
    assert set(train.meta.subject) == {1, 2, 3, 4} and set(test.meta.subject) == {5, 6}
    seen = set()
    for seed in range(8):
        tr, val, te = d.split(half, val=.25, seed=seed)
        assert set(tr.meta.subject) | set(val.meta.subject) == {1, 2, 3, 4} and not set(tr.meta.subject) & set(val.meta.subject)
        assert val.meta.subject.nunique() == 1 and len(tr) + len(val) == len(train)
        assert te.meta["name"].tolist() == test.meta["name"].tolist()
        again = d.split(half, val=.25, seed=seed)[1]
        assert again.meta["name"].tolist() == val.meta["name"].tolist()
        seen |= set(val.meta.subject)
    assert len(seen) > 1
    assert d.split(half, val=.99)[0].meta.subject.nunique() == 1


def test_split_refuses():
    d = make()
    with pytest.raises(DataError, match="no protocol 'xsub'; known: none"):
        d.split("xsub")
    with pytest.raises(DataError, match="val holds out subjects, but .* trains on 1 only"):
        d.split(lambda m: m.subject == 1, val=.2)
    with pytest.raises(DataError, match="between 0 and 1"):
        d.split(half, val=3)
    with pytest.raises(DataError, match="no column 'subject'"):
        make(meta=d.meta[["name", "camera"]]).split(lambda m: m.camera == 1, val=.2)
    with pytest.raises(DataError, match="leaves no test clip"):
        d.split(lambda m: m.subject > 0)
    with pytest.raises(DataError, match="needs a column that the meta table lacks.*age"):
        d.split(lambda m: m.age > 3)
    with pytest.raises(DataError, match="gave .* answers for 24 clips"):
        d.split(lambda m: [True])
    assert d.protocols() == []


def test_protocols_by_name():
    names = [f"S{s:03d}C{c:03d}P{p:03d}R001A{1:03d}" for s in (1, 2) for c in (1, 2, 3) for p in (1, 3, 45, 48)]
    meta = pd.DataFrame([dict(name=n) | ntu_name(n) for n in names])
    d = SkeletonData(np.ones((24, 3, 2, 25, 1), "f4"), meta.pop("label"), meta=meta, name="mine")
    assert d.protocols() == ["xsub", "xview", "xset"]
    assert set(d.split("xsub")[0].meta.subject) == {1, 45} and set(d.split("xview")[0].meta.camera) == {2, 3} and set(d.split("xset")[0].meta.setup) == {2}
    with pytest.raises(DataError, match="did you mean 'xview'"):
        d.split("xviews")
    assert len(NTU_TRAIN_SUBJECTS) == 53 and sum(s <= 40 for s in NTU_TRAIN_SUBJECTS) == 20
    with pytest.raises(ReadError, match="expected a name like S001"):
        ntu_name("S001C002P003R002A13")


# Performers of every setup of NTU RGB+D 120 (setups 1 to 17: NTU RGB+D 60). Three cameras saw each of them twice in 60 actions, 1 to 60 or, from setup 18 on, 61 to 120.
PERFORMERS = """1-8|3 7-14|1-2 7-8 15-19|3 7-8 20|4 10 13 15-18 21|1 7-8 15-17 19 22-24|1 7-8 15-19 25-28|1 7-8 15 19 25 29-36|7-8 15-17 19 25|7-8 13 15-19 21 25|
1-2 7-8 15-19 25 27-28 38|7-8 15-19 25 27-28 37|7-8 15-19 25 27-28 37|7-8 15 17 19 25 27 37 39|7-8 15-17 19 25 37|7-8 19 21 25 39-40|3 7-9 15-17 20|
8 41-45|8 41-42 46-51|8 41 43-44 52-54|55-60|61-67|55-68|57 60-64 67|55-56 58-59 65-66 68|8 41 44 49-51 69-72 74-77|6 8 11 41 43-44 78-86|8 41-43 46 48 70 73 87|
6 8 41 43-44 48-49 51 67 74-75 80 88-90|8 11 41 43-44 48 67 75-76 81 85 88 91-96|6 8 41-44 51 67 82 85 96-101|8 41 43-44 67 102-106"""


@pytest.fixture(scope="module")
def ntu():
    "All 114,480 names of NTU RGB+D 120 as a table."
    rows = []
    for s, text in enumerate(PERFORMERS.replace("\n", "").split("|"), 1):
        for span in text.split():
            a, _, b = span.partition("-")
            rows += [(s, p) for p in range(int(a), int(b or a) + 1)]
    names = [f"S{s:03d}C{c:03d}P{p:03d}R{r:03d}A{k:03d}" for s, p in rows for c in (1, 2, 3) for r in (1, 2) for k in (range(1, 61) if s <= 17 else range(61, 121))]
    return factors(names)


def sides(meta, protocol, name):
    side = split_of(meta, protocol, name)
    return (side == 1).sum(), (side == 0).sum()


def test_ntu_splits_of_all_names(ntu):
    assert len(ntu) == 114480 and ntu["name"].is_unique and ntu.subject.nunique() == 106 and ntu.label.nunique() == 120
    sixty = ntu[ntu.setup <= 17]
    assert len(sixty) == 56880 and sixty.subject.nunique() == 40 and sixty.label.max() == 59
    assert sides(sixty, "xsub", "ntu60") == (40320, 16560) and sides(sixty, "xview", "ntu60") == (37920, 18960)
    assert sides(ntu, "xsub", "ntu120") == (63360, 51120) and sides(ntu, "xset", "ntu120") == (54720, 59760)
    train = ntu[split_of(ntu, "xsub", "ntu120") == 1]
    assert train.subject.nunique() == 53 and ntu.subject.nunique() - 53 == 53


@pytest.mark.outside
def test_ntu_splits_without_the_missing_names(ntu, data_dir, tmp_path):
    "The counts that the field uses: 302 and 535 names are left out."
    with tarfile.open(data_dir / "ntu-rgbd-samples.tar.xz") as archive:
        lists = [m for m in archive.getmembers() if m.name.endswith("missing_skeletons.txt")]
        archive.extractall(tmp_path, members=lists, filter="data")
    missing = {"120" in p.name: read_missing(p) for p in tmp_path.rglob("*.txt")}
    assert {k: len(v) for k, v in missing.items()} == {False: 302, True: 535} and missing[False] < missing[True] <= set(ntu["name"])
    sixty, full = ntu[(ntu.setup <= 17) & ~ntu["name"].isin(missing[False])], ntu[~ntu["name"].isin(missing[True])]
    assert (len(sixty), len(full)) == (56578, 113945)
    assert sides(sixty, "xsub", "ntu60") == (40091, 16487) and sides(sixty, "xview", "ntu60") == (37646, 18932)
    assert sides(full, "xsub", "ntu120") == (63026, 50919) and sides(full, "xset", "ntu120") == (54468, 59477)


def test_pku_splits_of_names():
    one = factors([f"{r:04d}-{v}" for r in range(2, 365) for v in "LMR"])
    assert sides(one, "xsub", "pku1") == (1089 - 132, 132) and sides(one, "xview", "pku1") == (726, 363)
    assert set(one.recording[split_of(one, "xsub", "pku1-pairs") == 0]) == set(range(291, 335))
    two = factors([f"A{a:02d}N{n:02d}-{v}" for a in range(1, 27) for n in range(1, 14) for v in "LMR"])
    assert sides(two, "xsub", "pku2") == (1014 - 234, 234) and sides(two, "xview", "pku2") == (676, 338)
    cut = factors(["F291V001C012L001", "F290V002C012L003", "A001N002V003C014L002"])
    assert split_of(cut[:2], "xsub", "pku1").tolist() == [0, 1] and split_of(cut[:2], "xview", "pku1").tolist() == [1, 0] and split_of(cut[2:], "xsub", "pku2").tolist() == [0]


@pytest.mark.outside
def test_pku_splits_are_the_official_ones(data_dir, tmp_path):
    with tarfile.open(data_dir / "pku-mmd-part1-labels.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    names = sorted(p.stem for p in tmp_path.rglob("Train_Label_PKU_final/*.txt"))
    assert len(names) == 1076
    for protocol, file, counts in (("xsub", "cross-subject.txt", (944, 132)), ("xview", "cross-view.txt", (717, 359))):
        train, test = next(tmp_path.rglob(file)).read_text().split("Validataion")
        side = split_of(names, protocol, "pku1")
        assert (side.sum(), (side == 0).sum()) == counts
        assert [n in train for n in names] == side.astype(bool).tolist() and [n in test for n in names] == (side == 0).tolist()


def test_split_of_refuses():
    for f, says in ((lambda: split_of(["S001C001P001R001A001"], "xsubb", "ntu60"), "did you mean 'xsub'"), (lambda: split_of(["S001C001P001R001A001"], "xset", "ntu60"), "known: xsub, xview"),
                    (lambda: split_of([], "xsub", "ntu6"), "did you mean 'ntu60'"), (lambda: factors(["walking"]), "'walking' is not a name of a known data set"),
                    (lambda: split_of(pd.DataFrame(dict(camera=[1])), "xsub", "ntu60"), "needs a column that the meta table lacks")):
        with pytest.raises(DataError, match=says):
            f()
    assert len(factors([])) == 0 and all(PROTOCOLS.values())


def test_val_holds_out_blocks_of_recordings_where_nobody_is_named():
    names = [f"F{r:03d}V{v:03d}C012L001" for r in range(1, 61) for v in (1, 2, 3)] + [f"F{r:03d}V001C012L001" for r in (291, 292)]
    meta = factors(names)
    d = SkeletonData(np.ones((len(names), 3, 2, 25, 1), "f4"), meta.pop("label"), meta=meta, classes=[str(i) for i in range(51)], name="pku1")
    for seed in range(4):
        train, val, test = d.split("xsub", val=.2, seed=seed)
        assert len(test) == 2 and val.meta.recording.nunique() == 10 and val.meta.recording.min() % 10 == 1 and val.meta.recording.max() % 10 == 0
        assert len(train) + len(val) == 180 and not set(train.meta.recording) & set(val.meta.recording)


# ---- folders

def test_saved_and_opened_is_the_same(tmp_path):
    d = make()
    folder = d.save(tmp_path / "deep" / "d")
    e = load(folder)
    for a in ("x", "y", "present"):
        np.testing.assert_array_equal(np.asarray(getattr(d, a)), np.asarray(getattr(e, a)))
    pd.testing.assert_frame_equal(d.meta, e.meta)
    assert e.skeleton == NTU25 and e.classes == d.classes and e.name == d.name and isinstance(e.x, np.memmap)
    e.subset([3, 1]).save(folder)                                   # over the very folder it is read from
    assert SkeletonData.open(folder).meta["name"].tolist() == ["c03", "c01"]
    assert [p.name for p in folder.parent.iterdir()] == ["d"]       # no temporary folder stays


def _cut(folder, file, keep=100):
    path = folder / file
    path.write_bytes(path.read_bytes()[:keep])


BROKEN = {
    "no data.json": (lambda f: (f / "data.json").unlink(), "no data.json"),
    "empty data.json": (lambda f: _cut(f, "data.json", 0), "data.json: cannot be read"),
    "foreign data.json": (lambda f: (f / "data.json").write_text("[1]"), "expected format"),
    "other version": (lambda f: (f / "data.json").write_text('{"format": "skelnb-data-9"}'), "got 'skelnb-data-9'"),
    "no layout": (lambda f: (f / "data.json").write_text('{"format": "skelnb-data-1"}'), "data.json: is missing, cut short or foreign"),
    "no x": (lambda f: (f / "x.npy").unlink(), "x.npy: is missing"),
    "x cut short": (lambda f: _cut(f, "x.npy", 5000), "x.npy: is missing, cut short"),
    "empty x": (lambda f: _cut(f, "x.npy", 0), "x.npy: is missing, cut short"),
    "x of another set": (lambda f: np.save(f / "x.npy", np.zeros((2, 3, 5, 25, 2), "f4")), "expected (24, 3, 5, 25, 2) float32"),
    "pickled y": (lambda f: np.save(f / "y.npy", np.array([{}], dtype=object), allow_pickle=True), "y.npy: is missing, cut short or foreign"),
    "meta cut short": (lambda f: _cut(f, "meta.parquet"), "meta.parquet: is missing"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_folders_are_refused(tmp_path, what):
    folder = make().save(tmp_path / "d")
    spoil, says = BROKEN[what]
    spoil(folder)
    with pytest.raises(FolderError) as error:
        SkeletonData.open(folder)
    assert says in str(error.value) and "write" in str(error.value) or "written" in str(error.value)


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(FolderError, match="not a data set of skelnb; nothing was written"):
        make().save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    with pytest.raises(FolderError, match="no data.json"):
        load(tmp_path / "thesis")


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", pathlib.Path("/proc/skelnb/out")):
        with pytest.raises(FolderError, match="cannot be written.*Choose another folder"):
            make().save(out)
        with pytest.raises(FolderError, match="cannot be written"):
            prepare("nw-ucla", tmp_path, out=out, progress=False)


def test_a_failure_leaves_the_old_folder(tmp_path):
    folder = make().save(tmp_path / "d")
    with pytest.raises(RuntimeError):
        with atomic_folder(folder) as tmp:
            (tmp / "x.npy").write_text("half")
            raise RuntimeError
    assert len(SkeletonData.open(folder)) == 24 and len(list(tmp_path.iterdir())) == 1
    bad = make(); bad.meta["mixed"] = [1, "a"] * 12
    with pytest.raises(DataError, match="one plain type"):
        bad.save(folder)
    assert len(SkeletonData.open(folder)) == 24 and len(list(tmp_path.iterdir())) == 1


def test_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path))
    assert data_dir() == tmp_path
    with pytest.raises(FolderError, match=r"run: skelnb prepare nw-ucla --src DIR$"):
        load("nw-ucla")
    with pytest.raises(FolderError, match=r"--src DIR --frames 64"):
        load("nw-ucla", frames=64)
    with pytest.raises(FolderError, match="did you mean 'nw-ucla'"):
        load("nw_ucla")
    monkeypatch.delenv("SKELNB_HOME")
    assert data_dir().name in ("data", "skelnb")


def test_synthetic_sets_are_made_once(monkeypatch, tmp_path):
    from skelnb.data import synthetic
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path))
    monkeypatch.setitem(synthetic.SETS, "synthetic-small", dict(n_subjects=2, n_cameras=2, n_repeats=1, classes=["wave", "kick"]))
    (tmp_path / "cache").mkdir()
    make().save(tmp_path / "cache" / "synthetic-small-50-00000000")             # what an older studio left
    d = load("synthetic-small")
    assert d.shape == (8, 3, 50, 25, 1) and d.name == "synthetic-small" and isinstance(d.x, np.memmap)
    folder, = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(synthetic, "synthesize", None)                          # the second time nothing is made
    np.testing.assert_array_equal(load("synthetic-small").x, d.x)
    (folder / "data.json").unlink()
    with pytest.raises(FolderError, match="no data.json"):
        SkeletonData.open(folder)
    (tmp_path / "file").write_text("")                                          # nowhere to keep it: it stays in memory
    monkeypatch.undo()
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path / "file"))
    monkeypatch.setitem(synthetic.SETS, "synthetic-small", dict(n_subjects=1, n_cameras=1, n_repeats=1, classes=["wave"]))
    with pytest.warns(UserWarning, match="could not be kept"):
        assert len(load("synthetic-small")) == 1


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_opening_and_splitting_do_not_read_the_array(tmp_path):
    "An array of 1.2 GB that holds nothing on disk: memory stays, and so does the clock."
    resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    shape, folder = (40000, 3, 50, 25, 2), make().save(tmp_path / "d")
    np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype="f4", shape=shape)
    rows = np.arange(len(np.zeros(shape[0])))
    meta = factors([f"S{i % 32 + 1:03d}C{i % 3 + 1:03d}P{i % 106 + 1:03d}R001A{i % 120 + 1:03d}" for i in rows])
    np.save(folder / "y.npy", meta.pop("label").to_numpy()); np.save(folder / "present.npy", np.ones((shape[0], 2), bool)); meta.to_parquet(folder / "meta.parquet")
    about = json.loads((folder / "data.json").read_text()) | dict(name="ntu120", shape=list(shape), classes=[str(i) for i in range(120)])
    (folder / "data.json").write_text(json.dumps(about))
    SkeletonData.open(folder)                                       # pyarrow and its buffers are loaded
    before, start = resident(), time.process_time()
    d = SkeletonData.open(folder)
    parts = [part for p in d.protocols() for part in d.split(p, val=.1)]
    assert sum(map(len, parts)) == 2 * len(d) and all(isinstance(p._x, np.memmap) for p in parts)
    assert resident() - before < 100e6 and time.process_time() - start < 2
    assert d.batch([0, 39999]).shape == (2, 3, 50, 25, 2) and resident() - before < 150e6


def test_data_sets_do_without_torch_until_a_number_is_asked_for(tmp_path):
    folder = make().save(tmp_path / "d")
    code = ("import sys; from skelnb.data.dataset import load; import skelnb.data.prepare; d = load(sys.argv[1]); d.split(lambda m: m.subject <= 4, val=.3); "
            "assert 'torch' not in sys.modules; assert d.y.tolist()[:3] == [0, 1, 2] and d.present[1].all() and 'torch' in sys.modules")
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


# ---- prepare

@pytest.fixture
def raw(tmp_path):
    "Six made-up files: one is a copy, one has a wrong label, one has no frame."
    folder = tmp_path / "raw" / "all_sqe"
    folder.mkdir(parents=True)
    for n, (name, label, frames, seed) in enumerate([("a01_s01_e00_v01", 1, 9, 1), ("a02_s01_e00_v02", 2, 9, 2), ("a02_s01_e00_v03", 2, 9, 2),
                                                      ("a03_s07_e00_v01", 3, 1, 3), ("a04_s07_e00_v03", 5, 9, 4), ("a12_s07_e00_v03", 10, 0, 5)]):
        ucla(folder, name, label, frames, seed)
    return tmp_path / "raw"


def test_prepare_reads_reports_and_loads(raw, monkeypatch, tmp_path):
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path / "home"))
    folder, report = prepare("nw-ucla", raw, progress=False)
    d = load("nw-ucla")
    assert folder == tmp_path / "home" / "cache" / "nw-ucla-50" and len(d) == report.clips == 4
    assert sorted(report.skipped) == ["a04_s07_e00_v03.json", "a12_s07_e00_v03"] and report.copies == {"a02_s01_e00_v03": "a02_s01_e00_v02"}
    assert "2 file(s) skipped" in repr(report) and "its label is 5" in repr(report) and "a02_s01_e00_v03 = a02_s01_e00_v02" in repr(report)
    assert json.loads((folder / "data.json").read_text())["source"] == report.to_dict()
    assert d.shape == (4, 3, 50, 20, 1) and d.meta.frames.tolist() == [9, 9, 9, 1] and d.y.tolist() == [0, 1, 1, 2]
    assert [s.meta["name"].tolist() for s in d.split("subject")] == [["a01_s01_e00_v01", "a02_s01_e00_v02", "a02_s01_e00_v03"], ["a03_s07_e00_v01"]]
    assert prepare("nw-ucla", raw, tmp_path / "other", frames=8, progress=False)[0] == tmp_path / "other" and load(tmp_path / "other").shape[2] == 8
    with pytest.raises(DataError, match="did you mean 'nw-ucla'"):
        prepare("nwucla", raw)
    with pytest.raises(ReadError, match="holds no file named like"):
        prepare("nw-ucla", tmp_path / "home", progress=False)


def test_persons_are_padded():
    rs = [Recording(np.ones((3, 4, 25, m)) * np.arange(25)[:, None], name=f"r{m}", meta=dict(label=m - 1), skeleton=NTU25) for m in (1, 2)]
    d = from_recordings(rs, ["one", "two"], "mine")
    assert d.present.tolist() == [[True, False], [True, True]] and d.meta.frames.tolist() == [4, 4]
    with pytest.raises(ValueError, match="r0: no frame counts"):
        from_recordings([Recording(np.zeros((3, 0, 25, 1)), name="r0", meta=dict(label=0), skeleton=NTU25)], ["a"], "mine")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("file", ["x.npy", "present.npy", "meta.parquet"])
def test_a_killed_save_leaves_nothing_that_is_read(tmp_path, file):
    "A process of its own that dies in the middle of writing a file; `prepare` under kill -9 is tested beside `prepare`."
    out = tmp_path / "cache" / "d"
    for again in (False, True):                                      # into nothing, then over a complete set
        child = os.fork()
        if child == 0:
            try:
                save, table = np.save, pd.DataFrame.to_parquet

                def die(path):
                    if pathlib.Path(path).name == file:
                        pathlib.Path(path).write_bytes(b"\x93NUMPY")   # half a file, then the power goes
                        os.kill(os.getpid(), signal.SIGKILL)
                np.save = lambda path, x: (die(path), save(path, x))
                pd.DataFrame.to_parquet = lambda self, path, **kw: (die(path), table(self, path, **kw))
                make().save(out)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        left = [p for p in out.parent.iterdir() if p.name.startswith(".")]
        assert len(left) == 1                                        # the half-written folder, under a hidden name ...
        with pytest.raises(FolderError, match="no data.json"):       # ... which nobody can open either
            SkeletonData.open(left[0])
        if again:
            assert len(SkeletonData.open(out)) == 24
        else:
            with pytest.raises(FolderError, match="no such folder"):
                SkeletonData.open(out)
        make().save(out)
        assert [p.name for p in out.parent.iterdir()] == ["d"]       # the next one clears it away


# ---- the real recordings

@pytest.fixture(scope="module")
def nw_ucla(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nw-ucla")
    with tarfile.open(data_dir / "nw-ucla.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    out, report = prepare("nw-ucla", folder, folder / "out", progress=False)
    return SkeletonData.open(out), report


def nearest(data, protocol):
    train, test = data.split(protocol)
    a, b = train.batch().flatten(1), test.batch().flatten(1)
    return 100 * (train.y[torch.cdist(b, a).argmin(1)] == test.y).float().mean().item()


@pytest.mark.outside
def test_nw_ucla(nw_ucla):
    d, report = nw_ucla
    assert len(d) == 1484 and not report.skipped and d.shape == (1484, 3, 50, 20, 1) and d.meta.subject.nunique() == 10
    assert (d.meta.frames.min(), d.meta.frames.median(), d.meta.frames.max()) == (1, 31, 201) and (d.meta.frames == 1).sum() == 2
    assert len(report.copies) == 95 and all(a[:3] in ("a02", "a03") and a == b[:-1] + "3" and b.endswith("v02") for a, b in report.copies.items())
    counts = {p: tuple(map(len, d.split(p))) for p in d.protocols()}
    assert counts == {"standard": (1020, 464), "standard-clean": (1020, 369), "view1": (968, 516), "subject": (754, 730)}
    train, val, test = d.split("view1", val=.2)
    assert val.meta.subject.nunique() == 2 and len(train) + len(val) == 968 and len(test) == 516
    assert not set(train.meta.subject) & set(val.meta.subject)


@pytest.mark.outside
def test_nw_ucla_nearest_neighbour(nw_ucla):
    "Measured here on the preprocessed clips; a copy is its own nearest neighbour, so 'standard' follows from the clean part."
    d, _ = nw_ucla
    found = {p: nearest(d, p) for p in d.protocols()}
    for p, measured in dict(zip(found, (56.0, 44.7, 51.2, 58.6))).items():
        assert abs(found[p] - measured) < 1, found
    assert found["standard"] == pytest.approx((95 * 100 + 369 * found["standard-clean"]) / 464, abs=.01)
