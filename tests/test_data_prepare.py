"""From the owners' files to a set: what is found, read, skipped and told; the same bits for any number of workers and after kill -9."""

import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings

import numpy as np
import pytest

from skelnb.data import DataError, FolderError, ReadError, SkeletonData, load, prepare
from skelnb.data import prepare as prepare_function
from skelnb.data.prepare import SOURCES, WorkerError, doctor_folder, find_missing, make_jobs, run_jobs
from skelnb.data.synthetic import synthesize

FILES = ["x.npy", "y.npy", "present.npy", "meta.parquet", "data.json"]
LIST = "2 of the captured samples have missing skeletons.\nplease ignore them\n\n"


def same_bits(a, b):
    return sorted(os.listdir(a)) == sorted(FILES) and all((pathlib.Path(a) / f).read_bytes() == (pathlib.Path(b) / f).read_bytes() for f in FILES)


@pytest.fixture(scope="module")
def studio():
    return synthesize(n_subjects=4, n_cameras=3, n_repeats=1, n_setups=2, classes=["drink", "kick", "handshake"])


@pytest.fixture(scope="module")
def tree(studio, tmp_path_factory):
    "36 made-up NTU files; do not write into it."
    return studio.write_ntu(tmp_path_factory.mktemp("ntu") / "raw", progress=False)


@pytest.fixture
def ntu(tree, tmp_path):
    "A copy of the tree to spoil."
    return pathlib.Path(shutil.copytree(tree, tmp_path / "around" / "raw")) / "nturgb+d_skeletons"


@pytest.fixture
def small_chunks(monkeypatch):
    for name in ("ntu60", "ntu120", "pku1", "pku1-pairs", "nw-ucla"):
        monkeypatch.setitem(SOURCES, name, SOURCES[name] | dict(chunk=5))


def quiet(*args, **kw):
    return prepare_function(*args, **(dict(progress=False, missing=False, workers=1) | kw))


# ---- the same clips

def test_the_files_give_the_studios_clips_back(studio, tree, tmp_path):
    out, report = quiet("ntu60", tree, tmp_path / "out")
    d = load(out)
    assert report.clips == len(d) == 36 and not report.skipped and d.name == "ntu60" and len(d.classes) == 60 and d.protocols() == ["xsub", "xview"]
    assert d.meta["name"].tolist() == studio.meta["name"].tolist() and d.meta.frames.tolist() == studio.meta.frames.tolist()
    assert np.array_equal(d.x, studio.x) and np.array_equal(d.present, studio.present)
    assert [d.classes[i] for i in d.y[:3]] == ["drink water", "kicking something", "handshaking"] or len(set(d.y.tolist())) == 3
    assert json.loads((out / "data.json").read_text())["source"] == report.to_dict() and report.settings["bodies"] == "first"
    for a, b in zip(d.split("xview"), studio.split("xview")):
        assert a.meta["name"].tolist() == b.meta["name"].tolist() and np.array_equal(a.x, b.x)
    assert set(d.split("xsub")[1].meta.subject) == {3}              # of 1, 2, 3, 4 the only one not on NTU's list


def test_any_number_of_workers_and_any_size_of_chunk_give_the_same_bits(tree, tmp_path, small_chunks):
    one, _ = quiet("ntu60", tree, tmp_path / "one")
    three, _ = quiet("ntu60", tree, tmp_path / "three", workers=3)
    assert same_bits(one, three)
    SOURCES["ntu60"]["chunk"] = 256
    assert same_bits(one, quiet("ntu60", tree, tmp_path / "whole")[0])
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*"))


def test_pku_comes_back_to_the_same_clips(studio, tmp_path, small_chunks):
    table = studio.write_pku(tmp_path / "raw", per_recording=3, progress=False)
    out, report = quiet("pku1", tmp_path / "raw", tmp_path / "out", workers=2)
    d = load(out)
    assert report.clips == len(table) == 36 and len(d.classes) == 51 and d.protocols() == ["xsub", "xview"]
    clip = dict(zip(studio.meta["name"], studio.x))
    where = {(r.recording, r.start): r["name"] for _, r in table.iterrows()}
    for m, x in zip(d.meta.itertuples(), d.x):
        np.testing.assert_array_equal(x, clip[where[f"{m.recording:04d}-{'LMR'[m.camera - 1]}", m.start]])
    pairs = load(quiet("pku1-pairs", tmp_path / "raw", tmp_path / "pairs")[0])
    assert len(pairs) == sum(d.classes[y] in pairs.classes for y in d.y) and len(pairs.classes) == 8
    for a, b in zip(d.split("xsub"), studio.split("xsub")):
        assert len(a) == len(b)


# ---- kill -9

CHILD = """
import sys, time
from skelnb.data import prepare as module_of
from skelnb.data.prepare import SOURCES, prepare
import skelnb.data.formats as formats
SOURCES["ntu60"]["chunk"] = 2
prepare("ntu60", sys.argv[1], sys.argv[2], missing=False, workers=int(sys.argv[3]), progress=False)
"""


def processes_of(group):
    "Processes whose group is this one: what a run has started."
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(stat.parent.name))
        except (OSError, ValueError):
            pass
    return found


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_in_the_middle_and_on_again(tree, tmp_path, workers, monkeypatch):
    "A run of its own process is killed once some chunks are there: nothing is read as a set, no worker stays, the next run makes only the rest."
    monkeypatch.setitem(SOURCES, "ntu60", SOURCES["ntu60"] | dict(chunk=2))
    whole, _ = quiet("ntu60", tree, tmp_path / "whole")
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    run = subprocess.Popen([sys.executable, "-c", CHILD, str(tree), str(out), str(workers)], start_new_session=True)
    chunks = lambda: sorted(partial.glob("*.npz"))
    end = time.time() + 60
    while len(chunks()) < 3 and run.poll() is None and time.time() < end:
        time.sleep(.001)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    end = time.time() + 20
    while processes_of(run.pid) and time.time() < end:
        time.sleep(.05)
    assert not processes_of(run.pid)                                # workers end with the run
    kept = {p.name: p.stat().st_mtime_ns for p in chunks()}
    assert 3 <= len(kept) < 18 and not out.exists()
    with pytest.raises(FolderError, match="no such folder"):
        load(out) if out.exists() else SkeletonData.open(out)
    with pytest.raises(FolderError, match="finished chunks of a `skelnb prepare` that was stopped.*same command again"):
        SkeletonData.open(partial)
    assert any(sign == "todo" and "skelnb prepare ntu60" in text for sign, text in doctor_folder(partial))

    made = []
    from skelnb.data.prepare import _do
    monkeypatch.setitem(prepare_function.__globals__, "_do", lambda job: (made.append(os.path.basename(job["file"])), _do(job)))
    out, report = quiet("ntu60", tree, out)
    assert not set(made) & set(kept) and len(made) + len(kept) == 18
    assert same_bits(out, whole) and report.clips == 36 and not partial.exists() and not list(tmp_path.glob(".*"))


def test_killed_while_the_chunks_are_put_together(tree, tmp_path, small_chunks, monkeypatch):
    "The hidden folder of a run that died at the last step is swept away; an older complete set stays until the new one is complete."
    out, _ = quiet("ntu60", tree, tmp_path / "out", frames=20)
    from skelnb.data import dataset

    def die(*args):
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(dataset, "_write_table", die)
        with pytest.raises(KeyboardInterrupt):
            quiet("ntu60", tree, out)
    assert load(out).shape[2] == 20 and len(list((tmp_path / "out.partial").glob("*.npz"))) == 8
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setitem(prepare_function.__globals__, "_do", die)                   # nothing is read a second time
    assert load(quiet("ntu60", tree, out)[0]).shape[2] == 50


def test_other_settings_and_changed_files_are_not_mixed_in(ntu, tmp_path, small_chunks, monkeypatch):
    folder = tmp_path / "chunks"
    folder.mkdir()
    items = [["ntu", [str(p)]] for p in sorted(ntu.iterdir())]
    settings = dict(name="ntu60", frames=50, bodies="first", labels=None)
    names = lambda **change: [j["file"] for j in make_jobs(items, settings | change, 5, folder)]
    first = names()
    assert first == names() and len(set(first)) == 8
    assert not set(first) & set(names(frames=51)) and not set(first) & set(names(bodies="track"))
    path = sorted(ntu.iterdir())[7]
    path.write_text(path.read_text() + "\n")
    assert [a == b for a, b in zip(first, names())] == [True, False] + [True] * 6   # only its own chunk


def test_a_spoiled_chunk_is_made_again(tree, tmp_path, small_chunks, monkeypatch):
    whole, _ = quiet("ntu60", tree, tmp_path / "whole")
    from skelnb.data import dataset
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with monkeypatch.context() as m:
        m.setattr(dataset, "_write_table", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            quiet("ntu60", tree, out)
    one, two, three = sorted(partial.glob("*.npz"))[:3]
    one.write_bytes(one.read_bytes()[:900])                                         # cut short
    bits = bytearray(two.read_bytes())
    bits[5000] ^= 1                                                                 # one wrong bit among the clips
    two.write_bytes(bits)
    three.write_bytes(b"")
    assert same_bits(quiet("ntu60", tree, out)[0], whole)


def test_two_runs_at_a_time_do_not_share(tree, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "partial.json").write_text("{}")
    with open(partial / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FolderError, match="another run is preparing this set"):
            quiet("ntu60", tree, tmp_path / "out")
    quiet("ntu60", tree, tmp_path / "out")
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match="holds something else"):
        quiet("ntu60", tree, tmp_path / "new")
    assert (tmp_path / "new.partial" / "thesis.txt").exists()


# ---- workers that fail

def test_a_worker_that_is_killed_is_told(tree, tmp_path, small_chunks, monkeypatch):
    from skelnb.data import prepare as _  # noqa: F401
    start = prepare_function.__globals__["_start"]

    def killed():
        process = start()
        process.kill()
        return process
    with monkeypatch.context() as m:
        m.setitem(prepare_function.__globals__, "_start", killed)
        with pytest.raises(WorkerError, match="ended with status -9.*finished chunks are kept"):
            quiet("ntu60", tree, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()
    quiet("ntu60", tree, tmp_path / "out", workers=2)


def test_files_that_vanish_and_a_full_disk_stop_the_run(ntu, tmp_path, small_chunks):
    items = [["ntu", [str(p)]] for p in sorted(ntu.iterdir())]
    jobs = make_jobs(items, dict(name="ntu60", frames=50, bodies="first", labels=None), 5, tmp_path)
    pathlib.Path(items[6][1][0]).unlink()
    for workers in (1, 2):
        with pytest.raises(WorkerError, match="is no longer there; finished chunks are kept"):
            list(run_jobs(jobs, workers))
    jobs = [j | dict(file=str(tmp_path / "none" / "chunk.npz")) for j in jobs[2:]]
    for workers in (1, 2):
        with pytest.raises(WorkerError, match="could not be written.*make room"):
            list(run_jobs(jobs, workers))


# ---- what is skipped, left out and told

def test_the_missing_list_is_looked_for_around(ntu, tmp_path):
    names = sorted(p.stem for p in ntu.iterdir())
    with pytest.warns(UserWarning, match="no list of samples with missing skeletons was found.*56,880 - 302 = 56,578"):
        _, report = quiet("ntu60", ntu, tmp_path / "out", missing=None)
    assert report.clips == 36 and "missing list: none found" in report.notes
    for where in (ntu, ntu.parent, ntu.parent / "lists"):
        where.mkdir(exist_ok=True)
        file = where / "NTU_RGBD_samples_with_missing_skeletons.txt"
        file.write_text(LIST + "\n".join(names[3:5]) + "\n")
        assert find_missing(ntu) == [file]
        with pytest.warns(UserWarning, match="the lists found name only 2: up to 300"):
            _, report = quiet("ntu60", ntu, tmp_path / "out", missing=None)
        assert report.clips == 34 and report.kinds == {"on the missing list": 2} and list(report.skipped) == [f"{n}.skeleton" for n in names[3:5]]
        assert f"missing list: {file.name}" in report.notes
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert quiet("ntu60", ntu, tmp_path / "out", missing=False)[1].clips == 36
            assert quiet("ntu60", ntu, tmp_path / "out", missing=file)[1].clips == 34
            assert quiet("ntu60", ntu, tmp_path / "out", missing=set(names[:3]))[1].clips == 33
        file.unlink()


def test_everything_skipped_is_reported_with_its_reason(ntu, tmp_path, small_chunks):
    files = sorted(ntu.iterdir())
    files[0].write_text("")
    files[1].write_text("0\n")
    files[2].write_text("3\n0\n0\n0\n")
    files[3].write_text("ten\n")
    (ntu / "S001C001P001R001A999.skeleton").write_text("0\n")
    (ntu / "notes.txt").write_text("x")
    (ntu / "again").mkdir()
    shutil.copy(files[9], ntu / "again")
    shutil.copy(files[8], ntu / "S017C003P040R002A060.skeleton")
    shutil.copy(files[8], ntu / "S018C001P041R001A061.skeleton")
    out, report = quiet("ntu60", ntu, tmp_path / "out", workers=2)
    assert report.clips == 33 and report.kinds == {"broken": 3, "empty": 2} and len(report.skipped) == 5
    assert report.skipped[files[1].stem] == "has no frame" and report.skipped[files[2].stem] == "nobody is seen in its 3 frames"
    assert report.left_out == {"files of setups 18 to 32, which belong to NTU RGB+D 120": 1, "files of a name that was already there": 1}
    assert report.copies == {"S017C003P040R002A060": files[8].stem}
    text = repr(report)
    assert "5 file(s) skipped: 3 broken, 2 empty" in text and "left out: 1 files of setups 18" in text and "38 of the 56,880 files" in text
    source = json.loads((out / "data.json").read_text())["source"]
    assert source["skipped"] == report.skipped and source["kinds"] == report.kinds and str(tmp_path) not in json.dumps(source)
    whole, report = quiet("ntu120", ntu, tmp_path / "120")
    assert report.clips == 34 and load(whole).meta.setup.max() == 18 and load(whole).protocols() == ["xsub", "xset"]


def test_wishes_that_cannot_be_meant_are_refused(tree, tmp_path):
    for name, wish, says in (("ntu61", {}, "did you mean 'ntu6?0?"), ("ntu60", dict(bodies="frist"), "did you mean 'first'"), ("pku1", dict(bodies="track"), "choice for NTU RGB"),
                             ("ntu60", dict(workers=0), "workers must be 1 or more"), ("ntu60", dict(frames=0), "frames must be 1 or more")):
        with pytest.raises(DataError, match=says):
            quiet(name, tree, tmp_path / "out", **wish)
    for src, name, says in ((tmp_path / "no", "ntu60", "there is no such folder"), (tmp_path, "ntu60", "holds no file named like S001"), (tmp_path, "pku2", "holds no skeleton file named like A01N02-L.txt"),
                            (tmp_path, "nw-ucla", "holds no file named like a01")):
        with pytest.raises(ReadError, match=says):
            quiet(name, src, tmp_path / "out")
    assert not list(tmp_path.iterdir())                             # refused before anything was written


def test_bodies_have_a_place_of_their_own(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path))
    first, _ = quiet("ntu60", tree)
    track, report = quiet("ntu60", tree, bodies="track")
    assert first.name == "ntu60-50" and track.name == "ntu60-track-50" and report.settings["bodies"] == "track"
    assert load("ntu60-track").name == load("ntu60").name == "ntu60" and load("ntu60-track").protocols() == ["xsub", "xview"]


def test_pku_folders_are_told_apart_by_what_is_in_them(studio, tmp_path):
    studio.write_pku(tmp_path / "raw", per_recording=3, progress=False)
    skeletons, labels = tmp_path / "raw" / "PKU_Skeleton_Renew", tmp_path / "raw" / "Train_Label_PKU_final"
    whole, _ = quiet("pku1", tmp_path / "raw", tmp_path / "whole")
    skeletons.rename(tmp_path / "raw" / "a"); (tmp_path / "raw" / "deep").mkdir(); labels.rename(tmp_path / "raw" / "deep" / "b")
    assert same_bits(quiet("pku1", tmp_path / "raw", tmp_path / "again")[0], whole)
    with pytest.raises(ReadError, match="holds no label file"):
        quiet("pku1", tmp_path / "raw" / "a", tmp_path / "out")
    with pytest.raises(ReadError, match="holds no skeleton file"):
        quiet("pku1", tmp_path / "raw" / "deep", tmp_path / "out")
    gone, other = sorted((tmp_path / "raw" / "deep" / "b").iterdir())[:2]
    gone.unlink(); (tmp_path / "raw" / "a" / other.name).unlink()
    _, report = quiet("pku1", tmp_path / "raw", tmp_path / "out")
    assert report.skipped == {gone.name: "there is no label file of this name"} and report.left_out == {"label files without a recording": 1}


# ---- the doctor looks at a folder

def said(folder):
    found = doctor_folder(folder)
    return [sign for sign, _ in found], "\n".join(text for _, text in found)


def test_doctor_on_ntu(ntu, tmp_path):
    signs, text = said(ntu)
    assert "36 NTU RGB+D" in text and "skelnb prepare ntu60 --src" in text and "missing skeletons" in text and "3 to 17" in text
    shutil.copy(sorted(ntu.iterdir())[0], ntu / "S018C001P041R001A061.skeleton")
    assert "skelnb prepare ntu120" in said(ntu)[1]
    (ntu / "S018C001P041R001A062.skeleton").write_text("")
    assert "1 of them empty" in said(ntu)[1]


def test_doctor_on_pku(studio, tmp_path):
    studio.write_pku(tmp_path, per_recording=3, progress=False)
    signs, text = said(tmp_path)
    assert "PKU-MMD Part I" in text and "skelnb prepare pku1 " in text and "skelnb prepare pku1-pairs" in text
    signs, text = said(tmp_path / "Train_Label_PKU_final")
    assert "todo" in signs and "no skeleton" in text
    signs, text = said(tmp_path / "PKU_Skeleton_Renew")
    assert "todo" in signs and "no label" in text


def test_doctor_on_our_own_folders(studio, tmp_path):
    studio.save(tmp_path / "cache" / "mine")
    signs, text = said(tmp_path / "cache" / "mine")
    assert signs == ["ok", "ok"] and "prepared set" in text and "36 clips" in text and "xsub" in text
    assert "mine" in said(tmp_path / "cache")[1]
    (tmp_path / "cache" / "mine" / "y.npy").unlink()
    signs, text = said(tmp_path / "cache" / "mine")
    assert signs == ["todo"] and "y.npy" in text


def test_doctor_on_empty_unknown_and_packed_folders(tmp_path):
    assert said(tmp_path / "no")[0] == ["todo"]
    assert "empty" in said(tmp_path)[1]
    (tmp_path / "a.bvh").write_text("x"); (tmp_path / "b.bvh").write_text("x"); (tmp_path / "c.csv").write_text("x")
    signs, text = said(tmp_path)
    assert signs == ["todo"] and "2 .bvh, 1 .csv" in text and "no data set known here" in text
    (tmp_path / "nturgbd_skeletons_s001_to_s017.zip").write_bytes(b"PK")
    assert "unpack" in said(tmp_path)[1]


# ---- what others have prepared

def write_arrays(folder, data, rows, part, kind="position", first=0):
    x = np.zeros((len(rows), 3, 50, 25, 2), "f4")
    x[..., :data.shape[4]] = data.x[rows]
    np.save(folder / f"{part}_{kind}.npy", x)
    (folder / f"{part}_label.pkl").write_bytes(pickle.dumps(([data.meta["name"][i] for i in rows], [int(data.meta["name"][i][-3:]) - 1 + first for i in rows])))


@pytest.mark.parametrize("kind", ["position", "data"])
def test_ready_arrays(studio, tree, tmp_path, kind):
    folder = tmp_path / "xview"
    folder.mkdir()
    train = studio.meta.camera.to_numpy() != 1
    for part, rows in (("train", np.nonzero(train)[0]), ("val", np.nonzero(~train)[0])):
        write_arrays(folder, studio, rows, part, kind)
    out, report = quiet("ntu60", tmp_path, tmp_path / "out", workers=2)
    d = load(out)
    assert len(d) == 36 and [len(s) for s in d.split("xview")] == [24, 12] and d.protocols() == ["xsub", "xview"]
    order = np.argsort(d.meta["name"].to_numpy(str))
    if kind == "position":                                          # taken as they are
        assert np.array_equal(d.x[order], studio.x) and "taken as they are" in repr(report)
        with pytest.raises(ReadError, match="clips of 50 frames that are already preprocessed. Ask for frames=50"):
            quiet("ntu60", tmp_path, tmp_path / "out", frames=64)
    raw = load(quiet("ntu60", tree, tmp_path / "raw")[0])
    assert d.y[order].tolist() == raw.y.tolist() and d.meta["name"][order].tolist() == raw.meta["name"].tolist()
    both = shutil.copytree(tree, tmp_path / "both" / "my files")
    shutil.copytree(folder, tmp_path / "both" / "arrays")
    assert "taken as they are" not in repr(quiet("ntu60", tmp_path / "both", tmp_path / "out")[1])      # the owners' files come first
    assert f"skelnb prepare ntu60 --src '{both}'" in said(both)[1]
    text = said(tmp_path / "xview")[1]
    assert "24 clips" in text and "skelnb prepare ntu60" in text
    with pytest.raises(ReadError, match="has a label 49, but nw-ucla has 10 classes|not what nw-ucla has"):
        quiet("nw-ucla", tmp_path, tmp_path / "out")


def test_an_archive_of_ctrgcn(studio, tmp_path):
    raw = list(studio.recordings())
    flat = np.zeros((36, 300, 150), "f4")
    for i, r in enumerate(raw):
        x = np.zeros((3, 300, 25, 2), "f4")
        x[:, :r.frames, :, :r.x.shape[3]] = r.x
        flat[i] = x.transpose(1, 3, 2, 0).reshape(300, 150)
    y = np.eye(60)[[int(r.name[-3:]) - 1 for r in raw]]
    np.savez(tmp_path / "NTU60_CS.npz", x_train=flat[:24], y_train=y[:24], x_test=flat[24:], y_test=y[24:])
    assert "skelnb prepare ntu60 --src" in said(tmp_path)[1]
    out, report = quiet("ntu60", tmp_path / "NTU60_CS.npz", tmp_path / "out")
    d = load(out)
    assert d.protocols() == ["file"] and [len(s) for s in d.split("file")] == [24, 12] and d.meta.frames.tolist() == [r.frames for r in raw]
    clip = dict(zip(studio.meta["name"], studio.x))
    for x, r in zip(d.x, raw):
        np.testing.assert_allclose(x, clip[r.name], atol=1e-6)
    with pytest.raises(DataError, match="no column 'subject'"):
        d.split("file", val=.2)


def test_annotations_of_pyskl(studio, tmp_path):
    notes = [dict(frame_dir=r.name, label=int(r.name[-3:]) - 1, keypoint=r.x.transpose(3, 1, 2, 0).astype("f2").astype("f4"), total_frames=r.frames) for r in studio.recordings()]
    content = dict(split=dict(xsub_train=[notes[0]["frame_dir"]], xview_train=[notes[0]["frame_dir"]]), annotations=notes)
    (tmp_path / "ntu60_3danno.pkl").write_bytes(pickle.dumps(content))
    assert "skelnb prepare ntu60 --src" in said(tmp_path)[1]
    out, _ = quiet("ntu60", tmp_path / "ntu60_3danno.pkl", tmp_path / "out", workers=3)
    d = load(out)
    assert d.shape == (36, 3, 50, 25, 2) and d.protocols() == ["xsub", "xview"] and d.meta.splits.tolist()[0] == "xsub_train xview_train" and d.meta.splits[1] == ""
    for n in notes:
        n["keypoint"] = n["keypoint"][:, :, :17, :2]
    (tmp_path / "2d.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ReadError, match=r"holds 2 coordinates of 17 joints \(coco17\), not what ntu60 has"):
        quiet("ntu60", tmp_path / "2d.pkl", tmp_path / "out")


# ---- the owners' recordings

@pytest.fixture(scope="module")
def archives(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    for name in ("ntu-rgbd-samples", "pku-mmd-part1-labels", "pku-mmd-part1-skeletons"):
        with tarfile.open(data_dir / f"{name}.tar.xz") as archive:
            archive.extractall(folder / name, filter="data")
    return folder


@pytest.mark.outside
def test_real_ntu(archives, tmp_path):
    src = archives / "ntu-rgbd-samples"
    with warnings.catch_warnings():
        warnings.simplefilter("error")                              # the lists are found and whole
        out, report = quiet("ntu60", src, tmp_path / "out", missing=None)
    assert report.clips == 47 and report.kinds == {"on the missing list": 4} and not report.copies
    d = load(out)
    assert d.shape == (47, 3, 50, 25, 2) and 0 < d.present[:, 1].sum() < 47 and d.present[:, 0].all()
    _, report = quiet("ntu60", src, tmp_path / "all", missing=False)
    assert report.clips == 47 and report.kinds == {"empty": 4}
    for bodies in ("energy", "track"):
        assert quiet("ntu60", src, tmp_path / bodies, bodies=bodies)[1].clips == 47
    text = said(src)[1]
    assert "51 NTU RGB+D" in text and "skelnb prepare ntu60" in text


@pytest.mark.outside
def test_real_pku_pairs(archives, tmp_path):
    out, report = quiet("pku1-pairs", archives, tmp_path / "out", workers=2)
    d = load(out)
    assert len(d) == 1705 and d.shape[1:] == (3, 50, 25, 2) and len(d.classes) == 8 and not report.skipped
    assert report.left_out == {"label files without a recording": 858, "instances of other classes": 67}
    assert np.bincount(d.y).min() == 211 and np.bincount(d.y).max() == 216
    assert [len(s) for s in d.split("xsub")] == [1510, 195] and [len(s) for s in d.split("xview")] == [1139, 566]
    for protocol in d.protocols():
        train, val, test = d.split(protocol, val=.2)
        assert not set((train.meta.recording - 1) // 10) & set((val.meta.recording - 1) // 10) and len(train) > 3 * len(val) > 0
        assert len(train) + len(val) + len(test) == 1705
