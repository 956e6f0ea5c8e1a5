"""The studio's files: what is written is what the readers read, to the bit; nothing foreign is touched, nothing is left half written."""

import json
import os
import re

import numpy as np
import pytest

from skelnb.data import prepare, synthetic
from skelnb.data.dataset import FolderError, SkeletonData
from skelnb.data.formats import Recording, read_missing, read_ntu, read_pku, read_pku_labels
from skelnb.data.preprocess import preprocess
from skelnb.data.synthetic import StudioError, skeleton_text, synthesize
from skelnb.skeleton import NTU25

CLASSES = ["drink", "kick", "jump", "handshake", "push"]
ASK = dict(n_subjects=4, n_cameras=3, n_repeats=1, classes=CLASSES)


@pytest.fixture(scope="module")
def data():
    return synthesize(**ASK)


@pytest.fixture(scope="module")
def raw(data):
    return {r.name: r for r in data.recordings()}


@pytest.fixture(scope="module")
def ntu(data, tmp_path_factory):
    return data.write_ntu(tmp_path_factory.mktemp("ntu"), missing=data.meta["name"][[0, 7]], progress=False)


@pytest.fixture(scope="module")
def pku(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pku")
    return folder, data.write_pku(folder, per_recording=2, progress=False)


def same(r, q):
    "Two recordings are the same to the bit; persons that one of them has no place for are absent."
    m = min(r.x.shape[3], q.x.shape[3])
    return r.frames == q.frames and (r.x[..., :m] == q.x[..., :m]).all() and not r.x[..., m:].any() and not q.x[..., m:].any()


# raw recordings

def test_the_raw_recordings_are_those_of_the_clips(data, raw):
    assert sorted(raw) == list(data.meta["name"])
    for name, y, frames, x in zip(data.meta["name"], data.y.tolist(), data.meta["frames"], data.x):
        r = raw[name]
        assert r.meta["label"] == y and r.frames == frames and r.skeleton is NTU25
        p = preprocess(r)
        assert (x[..., :p.shape[-1]] == p).all() and not x[..., p.shape[-1]:].any()


def test_the_raw_recordings_are_made_lazily_and_again(data):
    found = data.recordings()
    first = next(found)
    assert iter(found) is found and first.meta["label"] == 0
    assert (next(data.recordings()).x == first.x).all()
    assert not any(isinstance(v, (list, dict)) and any(isinstance(r, Recording) for r in v) for v in vars(data).values())


# NTU RGB+D

def test_ntu_tree(data, ntu):
    assert sorted(f.name for f in ntu.iterdir()) == ["NTU_RGBD_samples_with_missing_skeletons.txt", "nturgb+d_skeletons", "studio.json"]
    files = sorted(f.name for f in (ntu / "nturgb+d_skeletons").iterdir())
    assert files == [f"{n}.skeleton" for n in data.meta["name"]]
    assert all(re.fullmatch(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}\.skeleton", f) for f in files)
    about = json.loads((ntu / "studio.json").read_text())
    assert about["n_subjects"] == 4 and about["classes"] == CLASSES and "nobody was filmed" in about["note"]


def test_ntu_file_by_hand(raw, ntu):
    "Read one file with the plainest of loops."
    for name, r in list(raw.items())[3:40:9]:
        lines = iter((ntu / "nturgb+d_skeletons" / f"{name}.skeleton").read_text().splitlines())
        T = int(next(lines)); x = np.zeros((3, T, 25, r.x.shape[3]), "f4"); ids = set()
        for t in range(T):
            for m in range(int(next(lines))):
                state = next(lines).split(); ids.add((m, state[0]))
                assert len(state) == 10 and next(lines) == "25"
                for v in range(25):
                    joint = next(lines).split()
                    assert len(joint) == 12 and joint[-1] == "2"
                    x[:, t, v, m] = [float(a) for a in joint[:3]]
                    assert 0 < float(joint[3]) < 512 and 0 < float(joint[5]) < 1920
        assert next(lines, None) is None and len(ids) == r.x.shape[3] and (x == r.x).all()


def test_read_ntu_gives_the_same_bits(data, raw, ntu):
    missing = set(data.meta["name"][[0, 7]])
    for name in data.meta["name"]:
        q = read_ntu(ntu / "nturgb+d_skeletons" / f"{name}.skeleton")
        number = int(name[-3:])
        assert q.name == name and q.meta["label"] == number - 1 and q.meta["subject"] == raw[name].meta["subject"]
        if name in missing: assert q.frames == raw[name].frames and not q.x.any()
        else: assert same(q, raw[name])


@pytest.mark.parametrize("bodies", ["energy", "track"])
def test_other_body_choices_find_the_same_people(raw, ntu, bodies):
    for name, r in list(raw.items())[1::10]:
        q = read_ntu(ntu / "nturgb+d_skeletons" / f"{name}.skeleton", bodies=bodies)
        if r.x.shape[3] == 2 and not same(q, r): q.x = q.x[..., ::-1]                     # which of the two comes first is the rule's own choice
        assert same(q, r), (name, bodies)


def test_missing_list(data, ntu):
    assert set(read_missing(ntu / "NTU_RGBD_samples_with_missing_skeletons.txt")) == set(data.meta["name"][[0, 7]])


def test_no_list_without_missing_samples(tmp_path):
    few = synthesize(n_subjects=1, n_cameras=1, n_repeats=1, classes=["bow"])
    assert sorted(f.name for f in few.write_ntu(tmp_path / "new" / "tree", progress=False).iterdir()) == ["nturgb+d_skeletons", "studio.json"]


def test_gaps_and_absent_persons_are_missing_bodies(raw):
    r = next(r for r in raw.values() if r.x.shape[3] == 2)
    x = r.x[:, :6].copy(); x[:, 1, :, 1] = 0; x[:, 2, :, 0] = 0; x[:, 3] = 0
    lines = skeleton_text(Recording(x, 30., "S001C001P001R001A001", {}, NTU25), [7, 8]).splitlines()
    assert lines[0] == "6"
    at, counts, ids = 1, [], []
    while at < len(lines):
        n = int(lines[at]); counts.append(n)
        ids.append([int(lines[at + 1 + 27 * b].split()[0]) for b in range(n)]); at += 1 + 27 * n
    assert counts == [2, 1, 1, 0, 2, 2] and ids == [[7, 8], [7], [8], [], [7, 8], [7, 8]]


def test_no_frames_no_bodies():
    assert skeleton_text(Recording(np.zeros((3, 0, 25, 2)))) == "0\n"
    assert skeleton_text(Recording(np.zeros((3, 2, 25, 1)))) == "2\n0\n0\n"


@pytest.mark.parametrize("value", [0.1, -1e-7, 3.4e-38, 1.1754942e-38, 16777217, np.float32(1) + np.float32(2) ** -23])
def test_nine_digits_bring_a_float32_back(value):
    x = np.full((3, 1, 25, 1), value, "f4")
    joint = skeleton_text(Recording(x)).splitlines()[4].split()
    assert (np.array(joint[:3], "f8").astype("f4") == x[:, 0, 0, 0]).all()


def test_prepare_ntu_gives_the_clips_back(data, tmp_path):
    whole = synthesize(n_subjects=2, n_cameras=2, n_repeats=1)                               # all classes: labels are then the numbers in the names
    src = whole.write_ntu(tmp_path / "src", missing=whole.meta["name"][[3]], progress=False)
    with pytest.warns(UserWarning, match="name only 1"):                                      # the list is shorter than the owners'
        out, report = prepare("ntu60", src, tmp_path / "out", progress=False)
    back = SkeletonData.open(out)
    keep = whole.subset(whole.meta["name"] != whole.meta["name"][3])
    assert len(back) == len(keep) == 99 and list(back.meta["name"]) == list(keep.meta["name"])
    assert (back.x == keep.x).all() and (back.y == keep.y).all() and (back.present == keep.present).all()
    assert whole.meta["name"][3] in str(report.to_dict())
    train, test = back.split("xview")
    assert set(test.meta["camera"]) == {1}


# PKU-MMD

def test_pku_tree(pku):
    folder, table = pku
    assert sorted(f.name for f in folder.iterdir()) == ["PKU_Skeleton_Renew", "Split", "Train_Label_PKU_final", "studio.json"]
    names = sorted(f.name for f in (folder / "PKU_Skeleton_Renew").iterdir())
    assert names == sorted(f.name for f in (folder / "Train_Label_PKU_final").iterdir()) == sorted({f"{n}.txt" for n in table["recording"]})
    assert len(names) == 4 * 3 * 3                                                           # subjects, cameras, groups of at most two classes alike in persons
    for n in names:
        rows = [line.split(" ") for line in (folder / "PKU_Skeleton_Renew" / n).read_text().splitlines()]
        labels = read_pku_labels(folder / "Train_Label_PKU_final" / n)
        assert {len(r) for r in rows} == {150}
        assert (labels[:, 2] < len(rows)).all() and (labels[1:, 1] > labels[:-1, 2] + 10).all() and labels[0, 1] > 10      # idle before, between and after
        assert len(rows) > 10 + labels[-1, 2]


def test_pku_table(data, pku):
    folder, table = pku
    assert sorted(table["name"]) == list(data.meta["name"])
    assert (table["action"] == table["name"].str[-3:].astype(int)).all()
    where = table.merge(data.meta, on="name")
    assert (where["end"] - where["start"] + 1 == where["frames"]).all()
    view = where["recording"].str[-1].map({"M": 1, "L": 2, "R": 3})
    assert (view == where["camera"]).all()
    assert (where.groupby("recording")["subject"].nunique() == 1).all()
    again = data.write_pku(folder, per_recording=2, progress=False)
    assert again.equals(table)


def test_read_pku_gives_the_same_bits(raw, pku):
    folder, table = pku; seen = set()
    for recording, rows in table.groupby("recording", sort=False):
        found = read_pku(*(folder / d / f"{recording}.txt" for d in ("PKU_Skeleton_Renew", "Train_Label_PKU_final")))
        assert len(found) == len(rows)
        for q, row in zip(found, rows.itertuples()):
            assert q.meta["label"] == row.action - 1 and q.meta["start"] == row.start and q.meta["note"] == "" and same(q, raw[row.name])
            seen.add(row.name)
    assert seen == set(raw)


def test_pku_split_files_are_its_own_splits(data, pku):
    folder, table = pku
    def sides(file):
        lines = (folder / "Split" / file).read_text().splitlines()
        assert lines[0] == "Training videos: " and lines[2] == "Validataion videos: " and lines[3].endswith(",")
        return [set(re.findall(r"\d{4}-[LMR]", lines[i])) for i in (1, 3)]
    where = table.merge(data.meta, on="name")
    for file, protocol in (("cross-subject.txt", "xsub"), ("cross-view.txt", "xview")):
        train, test = sides(file)
        side = synthetic.PROTOCOLS["synthetic"][protocol](where)
        assert train == set(where["recording"][side]) and test == set(where["recording"][~side]) and not train & test
    assert all((291 <= int(n[:4]) <= 334) == (n in sides("cross-subject.txt")[1]) for n in table["recording"])


def test_idle_frames_join_two_takes_without_a_jump(pku):
    folder, table = pku
    for name in sorted(set(table["recording"]))[::5]:
        x = np.loadtxt(folder / "PKU_Skeleton_Renew" / f"{name}.txt").reshape(-1, 2, 25, 3)
        idle = np.ones(len(x), bool)
        for row in table[table["recording"] == name].itertuples(): idle[row.start - 1:row.end] = False
        step = np.linalg.norm(np.diff(x, axis=0), axis=-1).max((1, 2))
        assert step[idle[1:] | idle[:-1]].max() < .25                                        # metres a frame


@pytest.mark.parametrize("ask, per_recording, says", [
    (dict(n_subjects=2, n_cameras=4, n_repeats=1, classes=["bow"]), 10, "three cameras"),
    (dict(n_subjects=90, n_cameras=1, n_repeats=1, classes=["bow"]), 10, "44 recordings.*needs 45")])
def test_what_does_not_fit_into_pku(tmp_path, ask, per_recording, says):
    with pytest.raises(StudioError, match=says): synthesize(**ask).write_pku(tmp_path, per_recording, progress=False)
    assert not list(tmp_path.iterdir())


def test_prepare_pku_gives_the_clips_back(data, tmp_path):
    whole = synthesize(n_subjects=2, n_cameras=3, n_repeats=1)
    table = whole.write_pku(tmp_path / "src", progress=False)
    out, report = prepare("pku1", tmp_path / "src", tmp_path / "out", progress=False)
    back = SkeletonData.open(out)
    assert len(back) == len(whole) and set(np.unique(back.y)) == set(range(25))
    ours = {n: i for i, n in enumerate(whole.meta["name"])}
    key = {(r.recording, r.start): ours[r.name] for r in table.itertuples()}
    at = [key[f"{int(r.recording):04d}-{' LMR'[int(r.camera)]}", r.start] for r in back.meta.itertuples()]
    assert sorted(at) == list(range(len(whole)))
    assert (back.x == whole.x[at]).all() and (back.y == whole.y[at]).all() and (back.present == whole.present[at]).all()
    for protocol in ("xsub", "xview"):
        train, _ = back.split(protocol); mine, _ = whole.split(protocol)
        names = {n: whole.meta["name"][i] for n, i in zip(back.meta["name"], at)}
        assert {names[n] for n in train.meta["name"]} == set(mine.meta["name"])


# folders

@pytest.mark.parametrize("write", ["write_ntu", "write_pku"])
def test_foreign_folders_are_left_alone(data, tmp_path, write):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FolderError, match="did not write.*nothing was written"): getattr(data, write)(tmp_path, progress=False)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(FolderError, match="is a file"): getattr(data, write)(tmp_path / "thesis.txt", progress=False)
    with pytest.raises(FolderError, match="cannot be written"): getattr(data, write)(tmp_path / "thesis.txt" / "deeper", progress=False)


@pytest.mark.parametrize("other", [dict(seed=1), dict(classes=["bow"]), dict(n_repeats=2)])
def test_another_request_is_not_mixed_in(tmp_path, other):
    one = dict(n_subjects=1, n_cameras=1, n_repeats=1, classes=["drink"])
    synthesize(**one).write_ntu(tmp_path, progress=False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FolderError, match="another request"): synthesize(**one | other).write_ntu(tmp_path, progress=False)
    with pytest.raises(FolderError, match="another request"): synthesize(**one).write_pku(tmp_path, progress=False)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the system's administrator may write anywhere")
def test_folder_without_permission(data, tmp_path):
    tmp_path.chmod(0o500)
    try:
        for write in ("write_ntu", "write_pku"):
            with pytest.raises(FolderError, match="cannot be written.*permissions"): getattr(data, write)(tmp_path / "tree", progress=False)
            with pytest.raises(FolderError, match="cannot be written.*permissions"): getattr(data, write)(tmp_path, progress=False)
    finally: tmp_path.chmod(0o700)


def test_folder_that_cannot_be_made(data, tmp_path, monkeypatch):
    from pathlib import Path
    def refuse(*a, **k): raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "mkdir", refuse)
    for write in ("write_ntu", "write_pku"):
        with pytest.raises(FolderError, match="cannot be written .Permission denied.*permissions"): getattr(data, write)(tmp_path / "tree", progress=False)


def test_a_full_disk_leaves_whole_files_and_can_go_on(tmp_path, monkeypatch):
    one = synthesize(n_subjects=2, n_cameras=1, n_repeats=1, classes=["drink", "bow"])
    replace, done = os.replace, []
    def full(a, b):
        if len(done) == 3: raise OSError(28, "No space left on device")
        done.append(b); return replace(a, b)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FolderError, match="No space left.*Run it again"): one.write_ntu(tmp_path, progress=False)
    monkeypatch.undo()
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) == 3 and not any(f.name.endswith(".part") for f in files)
    (half := next(f for f in files if f.suffix == ".skeleton")).write_text("kept")           # what is there is not written again
    assert len(list((one.write_ntu(tmp_path, progress=False) / "nturgb+d_skeletons").iterdir())) == 4 and half.read_text() == "kept"


def test_unknown_missing_names(data, tmp_path):
    with pytest.raises(StudioError, match="not in this set.*S099"): data.write_ntu(tmp_path / "x", missing=["S099C001P001R001A001"])
    assert not (tmp_path / "x").exists()


def test_progress_is_shown(capsys, tmp_path):
    synthesize(n_subjects=1, n_cameras=1, n_repeats=1, classes=["bow"]).write_ntu(tmp_path)
    assert "writing NTU RGB+D" in capsys.readouterr().err

