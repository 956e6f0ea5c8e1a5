"""Folders of anybody's recordings: the same numbers as the dedicated readers, every form of file, and a clear answer to what is wrong."""

import json
import os
import pathlib
import pickle
import shutil
import tarfile
import time

import numpy as np
import pandas as pd
import pytest
import scipy.io

from skelnb.data import DataError, FolderError, PrepareForm, ReadError, SkeletonData, Spec, from_recordings, guess, load, prepare_custom, preview, read_ntu, read_pku, read_ucla_folder
from skelnb.data.custom import class_names, find_clips, make_clip, read_one, read_table, saved_plan
from skelnb.data.formats import NTU_CLASSES, PKU_CLASSES, UCLA_CLASSES
from skelnb.skeleton import NTU25, UCLA20, LayoutError, Skeleton

V = 6
STICK = Skeleton.from_dict(dict(name="stick6", names=["hip", "neck", "head", "left_hand", "right_hand", "left_foot"], parents=[0, 0, 1, 1, 1, 0], pairs=[[3, 4]], centre=0, shoulders=[3, 4]))
REST = np.array([[0, 1, 0], [0, 1.5, 0], [0, 1.7, 0.05], [0.4, 1.2, 0], [-0.4, 1.2, 0.1], [0.1, 0.05, 0]])
HEADER = [f"{n}_{a}" for n in STICK.names for a in "xyz"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def clip(seed=0, T=12, persons=1):
    "(T, persons, V, 3) in metres, y up."
    g = np.random.default_rng(seed)
    return (REST + np.cumsum(g.normal(0, 0.01, (T, persons, V, 3)), 0) + np.arange(persons)[:, None, None] * [1.5, 0, 0]).round(5)


def names(n=12): return [f"a{i % 3 + 1:02d}_s{i // 3 % 4 + 1:02d}_t{i // 12 + 1:02d}" for i in range(n)]


def write(path, x, header=HEADER, sep=","):
    rows = [sep.join(header or [])] * bool(header) + [sep.join("" if np.isnan(v) else repr(float(v)) for v in frame.ravel()) for frame in x]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def folder_of(root, n=12, **kw):
    for i, name in enumerate(names(n)): write(root / f"{name}.csv", clip(i), **kw)
    return root


@pytest.fixture
def good(tmp_path): return folder_of(tmp_path / "recordings")


def prepared(src, name="mine", layout=STICK, frames=10, **told): return prepare_custom(src, guess(src, layout, **told), name, frames=frames, progress=False)


def nothing_left(home): return not home.exists() or not [p for p in home.rglob("*") if p.is_file() or ".tmp-" in p.name]


def same(a, b, tolerance=1e-6):
    "Two sets, clip by clip by name."
    at = {n: i for i, n in enumerate(a.meta["name"])}; order = [at[n] for n in b.meta["name"]]
    M = min(a.x.shape[-1], b.x.shape[-1])
    assert len(a) == len(b) and np.abs(a.x[order][..., :M] - b.x[..., :M]).max() <= tolerance and not a.x[..., M:].any() and not b.x[..., M:].any()
    assert [a.classes[y] for y in a._y[order]] == [b.classes[y] for y in b._y]


# ---- equal to the dedicated readers

@pytest.fixture(scope="session")
def real(data_dir, tmp_path_factory):
    "NW-UCLA, some of PKU-MMD and NTU."
    root = tmp_path_factory.mktemp("real")
    for name, most in (("nw-ucla", 10**6), ("pku-mmd-part1-skeletons", 6), ("pku-mmd-part1-labels", 10**6), ("ntu-rgbd-samples", 10**6)):
        with tarfile.open(data_dir / f"{name}.tar.xz") as t:
            for member in t:
                if member.isfile(): t.extract(member, root, filter="data"); most -= 1
                if not most: break
    return root


@pytest.mark.outside
def test_nw_ucla_is_what_its_reader_gives(real):
    src = real / "nw-ucla"; spec = guess(src, UCLA20)
    assert (spec.form, spec.key, spec.axes, spec.units, spec.up, spec.pattern) == ("array", "skeletons", "TVC", "m", "y", "a{label}_s{subject}_e{repeat}_v{camera}")
    own = prepare_custom(src, spec.change(classes=UCLA_CLASSES), "own-ucla", progress=False)
    with pytest.warns(UserWarning, match="copies"): theirs = from_recordings(read_ucla_folder(src), UCLA_CLASSES, "theirs")
    same(own, theirs, 0); at = own.meta.set_index("name").loc[theirs.meta["name"]]
    assert all((at[c].to_numpy() == theirs.meta[c].to_numpy()).all() for c in ("subject", "camera", "repeat", "copy_of"))
    assert len(own.split("subject=3")[1]) == (theirs.meta.subject == 3).sum() and {*own.split("view=1")[1].meta.camera} == {1}


def export(r, root, header, k):
    "A recording as text: persons side by side in a wide table, of long rows for those who are there, or without any header."
    x = r.x.transpose(1, 3, 2, 0); T, M = x.shape[:2]
    if header == "none": return write(root / f"{r.name}.txt", x, None, " ")
    if header == "wide": return write(root / f"{r.name}.csv", x, [f"p{m + 1}_{n}_{a}" for m in range(M) for n in r.skeleton.names for a in "xyz"])
    t, m, v = np.meshgrid(range(T), range(M), range(len(r.skeleton)), indexing="ij")
    pd.DataFrame(dict(frame=t.ravel(), person=m.ravel(), joint=np.array(r.skeleton.names)[v.ravel()], x=x[..., 0].ravel(), y=x[..., 1].ravel(), z=x[..., 2].ravel())).to_csv(root / f"{r.name}.csv", index=False)


@pytest.mark.outside
@pytest.mark.parametrize("form", ["wide", "long", "none"])
def test_pku_and_ntu_instances_in_text_are_what_their_readers_give(real, tmp_path, form):
    skeletons = {p.stem: p for p in real.rglob("*.txt") if p.parent.name == "PKU_Skeleton_Renew"}; labels = {p.stem: p for p in real.rglob("*.txt") if p.parent.name == "Train_Label_PKU_final"}
    pku = [r for n in sorted(skeletons.keys() & labels.keys())[:6] for r in read_pku(skeletons[n], labels[n]) if r.x.any()]
    ntu = [r for p in sorted(real.rglob("*.skeleton"))[::3] if p.stat().st_size and (r := read_ntu(p)).x.any()]
    for what, recordings, classes, pattern in (("pku", pku, PKU_CLASSES, "F{recording}V{view}C{label}L{repeat}"), ("ntu", ntu, NTU_CLASSES, None)):
        root = tmp_path / what; root.mkdir()
        for k, r in enumerate(recordings): export(r, root, form, k)
        theirs = from_recordings(recordings, classes, "theirs", skipped={})
        spec = guess(root, NTU25, **(dict(pattern=pattern) if pattern else {}), classes={str(i + 1): c for i, c in enumerate(classes)})
        same(prepare_custom(root, spec, f"own-{what}", progress=False), theirs)


# ---- every form of file

FORMS = {}
def form(f): FORMS[f.__name__] = f; return f

@form
def csv_wide(p, x): write(p.with_suffix(".csv"), x)
@form
def semicolon_and_commas(p, x): p.with_suffix(".csv").write_text("\n".join([";".join(HEADER)] + [";".join(str(v).replace(".", ",") for v in f.ravel()) for f in x]))
@form
def tabs_with_frames(p, x): write(p.with_suffix(".tsv"), np.concatenate([np.arange(len(x))[:, None] + 7, x.reshape(len(x), -1)], 1), ["frame", *HEADER], "\t")
@form
def white_space(p, x): write(p.with_suffix(".txt"), x, None, "  ")
@form
def other_names(p, x): write(p.with_suffix(".csv"), x, [f"{j}.{a.upper()}" for j in ("Hip", "Neck", "Head", "HandLeft", "RHand", "L-Foot") for a in "xyz"])
@form
def axis_first(p, x): write(p.with_suffix(".csv"), x, [f"{a}{v + 1}" for v in range(V) for a in "xyz"])
@form
def columns_in_any_order(p, x):
    order = np.random.default_rng(0).permutation(3 * V); write(p.with_suffix(".csv"), x.reshape(len(x), -1)[:, order], [HEADER[i] for i in order])
@form
def json_nested(p, x): p.with_suffix(".json").write_text(json.dumps(dict(data=x[:, 0].tolist(), fps=30)))
@form
def json_rows(p, x): p.with_suffix(".json").write_text(json.dumps([dict(zip(HEADER, f.ravel().tolist())) for f in x]))
@form
def json_bodies(p, x): p.with_suffix(".json").write_text(json.dumps(dict(frames=[dict(bodies=[dict(id=4, joints={n: dict(x=j[0], y=j[1], z=j[2]) for n, j in zip(STICK.names, f[0].tolist())})]) for f in x])))
@form
def npy(p, x): np.save(p.with_suffix(".npy"), x[:, 0])
@form
def npy_ctvm(p, x): np.save(p.with_suffix(".npy"), x.transpose(3, 0, 2, 1))
@form
def npz(p, x): np.savez_compressed(p.with_suffix(".npz"), joints=x[:, 0], fps=30)
@form
def mat(p, x): scipy.io.savemat(p.with_suffix(".mat"), dict(skel=x[:, 0], rate=30.))
@form
def parquet(p, x): pd.DataFrame(x.reshape(len(x), -1), columns=HEADER).to_parquet(p.with_suffix(".parquet"))
@form
def long(p, x): pd.DataFrame([(t, n, *j) for t, f in enumerate(x[:, 0]) for n, j in zip(STICK.names, f)], columns=["frame", "joint", "x", "y", "z"]).sample(frac=1, random_state=0).to_csv(p.with_suffix(".csv"), index=False)
@form
def long_numbers(p, x): pd.DataFrame([(t, v + 1, *j) for t, f in enumerate(x[:, 0]) for v, j in enumerate(f)], columns=["Frame", "Joint ID", "X", "Y", "Z"]).to_csv(p.with_suffix(".csv"), index=False)


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_gives_the_same_clips(kind, good, tmp_path):
    src = tmp_path / "other"; src.mkdir()
    for i, n in enumerate(names()): FORMS[kind](src / n, clip(i))
    a, b = prepared(src, "a"), prepared(good, "b"); same(a, b, 2e-6)
    assert a.shape == (12, 3, 10, V, 1) and a.meta.subject.tolist() == b.meta.subject.tolist() and load("a", frames=10).name == "a"
    assert preview(src, guess(src, STICK)).problems == []


def test_one_table_two_people_units_and_axes(good, tmp_path):
    rows = []
    for i, n in enumerate(names()):
        for t, frame in enumerate(clip(i, persons=2)):
            for who, person in enumerate(frame): rows.append((n + ".mp4" * 0, t, 40 + who, *(1000 * person[:, [0, 2, 1]] * [1, -1, 1]).ravel()))       # millimetres, z up
    src = tmp_path / "table"; src.mkdir(); pd.DataFrame(rows, columns=["clip", "frame", "track_id", *HEADER]).to_csv(src / "all.csv", index=False)
    spec = guess(src, STICK); p = preview(src, spec); d = prepare_custom(src, spec, "t", frames=10, progress=False)
    assert (spec.units, spec.up, p.labels, len(p.subjects)) == ("mm", "z", {1: 4, 2: 4, 3: 4}, 4) and d.shape == (12, 3, 10, V, 2) and not p.problems and "turned to y" in repr(p)
    two = tmp_path / "two"; [np.save((two.mkdir(exist_ok=True), two / n)[1], clip(i, persons=2).transpose(1, 0, 2, 3)) for i, n in enumerate(names())]
    same(d, prepared(two, "u"), 1e-5)


def test_many_clips_in_one_file(tmp_path):
    src = tmp_path / "npz"; src.mkdir(); x = np.stack([clip(i)[:, 0] for i in range(12)]); np.savez(src / "all.npz", x=x, label=np.arange(12) % 3, subject=np.repeat([1, 2, 3], 4))
    d = prepared(src, "n"); assert len(d) == 12 and d.classes == ["0", "1", "2"] and d.protocols()[0] == "fold=1/3" and d.meta.subject.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    src = tmp_path / "json"; src.mkdir(); (src / "all.json").write_text(json.dumps([dict(name=f"c{i}", action="ab"[i % 2], data=clip(i)[:, 0].tolist()) for i in range(4)]))
    d = prepared(src, "j"); assert d.classes == ["a", "b"] and d.protocols() == [f"clip={i}/5" for i in range(1, 6)]


def test_labels_from_folders_tables_and_contradictions(good, tmp_path, home):
    src = tmp_path / "folders"
    for i, n in enumerate(names()): write(src / ["jump", "sit", "walk"][i % 3] / f"p{i // 3}-{i}.csv", clip(i))
    spec = guess(src, STICK); assert spec.folders == ["label"]; assert prepare_custom(src, spec, "f", frames=10, progress=False).classes == ["jump", "sit", "walk"]
    d = prepared(src, "g", pattern="{label}/p{subject}-{trial}"); assert d.classes == ["jump", "sit", "walk"] and d.meta.subject.nunique() == 4
    src = tmp_path / "side"
    for i in range(12): write(src / f"clip {i}.csv", clip(i))
    pd.DataFrame(dict(file=[f"clip {i}.csv" for i in range(12)], Action=list("uvw") * 4, Performer=["x", "y"] * 6, split=["train"] * 8 + ["test"] * 4)).to_csv(src / "labels.csv", index=False)
    d = prepared(src, "h"); assert d.classes == ["u", "v", "w"] and d.protocols() == ["file", "fold=1/2", "fold=2/2", "subject=x", "subject=y"] and [len(s) for s in d.split("file")] == [8, 4]
    pd.DataFrame(dict(name=names(), label=[i % 3 + 1 for i in range(1, 13)])).to_csv(good / "labels.csv", index=False)       # off by a line
    p = preview(good, guess(good, STICK)); assert any("off by a line" in t for t in p.problems)
    with pytest.raises(DataError, match="off by a line"): prepared(good, "i")
    pd.DataFrame(dict(name=names(), label=[["sit", "jump", "walk"][i % 3] for i in range(12)])).to_csv(good / "labels.csv", index=False)
    assert prepared(good, "k").classes == ["jump", "sit", "walk"]
    assert prepared(good, "l", labels=str(good / "labels.csv")).classes == ["jump", "sit", "walk"]
    assert not (home / "cache" / "i-10").exists()


# ---- missing points

def test_missing_points_by_name(tmp_path):
    x = clip(0, 20); x[5:9, 0, 3] = np.nan; x[:, 0, 5] = np.nan
    for i in range(6): write(tmp_path / "m" / f"a{i % 2}_s{i}.csv", x + i * 0.01)
    spec = guess(tmp_path / "m", STICK); d = prepare_custom(tmp_path / "m", spec, "m", progress=False)
    assert d.meta.missing.tolist() == [0.04] * 6 and (d.meta.dropped == 0).all() and np.isfinite(d.x).all()
    dropped = prepare_custom(tmp_path / "m", spec.change(missing="drop", ), "n", progress=False); assert (dropped.meta.dropped == 4).all()
    with pytest.raises(ReadError, match=r"frame 5, person 0, joint 3 \(left_hand\) is missing"): prepare_custom(tmp_path / "m", spec.change(missing="error"), "o", progress=False)
    with pytest.raises(ReadError, match="% of its points are missing"): prepare_custom(tmp_path / "m", spec.change(most=0.01), "o", progress=False)
    with pytest.raises(DataError, match="missing: expected one of interpolate, drop, error"): spec.change(missing="ignore")


def test_confidence_and_zeros(tmp_path):
    x = clip(0, 20)
    header = [f"{n}_{a}" for n in STICK.names for a in ("x", "y", "z", "score")]
    rows = np.concatenate([x[:, 0], np.ones((20, V, 1))], -1); rows[4, 2] = [9, 9, 9, 0.01]
    for i in range(4): write(tmp_path / "c" / f"a{i % 2}_s{i}.csv", rows[:, None], header)
    d = prepared(tmp_path / "c", "c"); assert (d.meta.missing > 0).all() and np.abs(d.x).max() < 3 and (d.meta.confidence > 0.98).all()
    x[3:6, 0, 4] = 0
    for i in range(4): write(tmp_path / "z" / f"a{i % 2}_s{i}.csv", x)
    spec = guess(tmp_path / "z", STICK); assert spec.zeros and "right_hand" in spec.why["zeros"]


# ---- wrong folders: a clear answer, and nothing half-written

WRONG = {}
def wrong(says):
    def keep(f): WRONG[f.__name__] = (f, says); return f
    return keep

@wrong("it is empty")
def empty(src): shutil.rmtree(src); src.mkdir()
@wrong("there is no such folder")
def no_folder(src): shutil.rmtree(src)
@wrong("is a file")
def a_file(src): shutil.rmtree(src); src.write_text("x")
@wrong("holds no file that could be a clip")
def pictures_only(src):
    for p in src.iterdir(): p.rename(p.with_suffix(".png"))
@wrong("of the 6 joints of stick6 have columns")
def another_layout(src):
    for i, p in enumerate(sorted(src.iterdir())): write(p, clip(i), [c.replace("hip", "a").replace("neck", "b").replace("head", "c").replace("left_hand", "d") for c in HEADER])
@wrong("only 5 of 12 clips can be read.*has no column")
def mixed_layouts(src):
    for i, p in enumerate(sorted(src.iterdir())[-7:]): write(p, clip(i)[:, :, :4], HEADER[:12])
@wrong("14 values, expected 18")
def rows_cut_short(src):
    for p in src.iterdir(): p.write_text("\n".join(l if k < 6 else ",".join(l.split(",")[:14]) for k, l in enumerate(p.read_text().splitlines())))
@wrong("expected a number, got 'abc'")
def words_among_numbers(src):
    for p in src.iterdir(): lines = p.read_text().splitlines(); lines[3] = "abc" + lines[3][lines[3].index(","):]; p.write_text("\n".join(lines))
@wrong("the header names 'hip_x' twice")
def a_column_twice(src):
    for i, p in enumerate(src.iterdir()): write(p, clip(i), ["hip_x", *HEADER[:1], *HEADER[2:]])
@wrong("11 labels for 12 clips")
def label_file_off_by_one(src):
    for i, p in enumerate(sorted(src.iterdir())): p.rename(src / f"clip{'abcdefghijkl'[i]}.csv")
    (src / "labels.txt").write_text("\n".join("123412341234"[:11]))
@wrong("off by a line")
def labels_shifted(src): pd.DataFrame(dict(name=names(), label=[i % 3 + 1 for i in range(1, 13)])).to_csv(src / "labels.csv", index=False)
@wrong("twice, with different values")
def a_clip_with_two_labels(src): pd.DataFrame(dict(name=[*names(), names()[0]], label=[i % 3 + 1 for i in range(12)] + [2])).to_csv(src / "labels.csv", index=False)
@wrong("frame 0 comes twice|comes twice")
def two_clips_with_one_name(src):
    table = pd.concat([pd.DataFrame(clip(i).reshape(12, -1), columns=HEADER).assign(clip=n, frame=range(12)) for i, n in enumerate([names()[0]] * 12)])
    shutil.rmtree(src); src.mkdir(); table.to_csv(src / "all.csv", index=False)
@wrong("says label 1 in one row and 2 in another")
def label_column_that_changes(src):
    for i, p in enumerate(src.iterdir()): pd.DataFrame(clip(i).reshape(12, -1), columns=HEADER).assign(label=[1] * 6 + [2] * 6).to_csv(p, index=False)
@wrong("leads out of the folder")
def links_out(src):
    away = src.parent / "away"; src.rename(away); src.mkdir()
    for p in away.iterdir(): (src / p.name).symlink_to(p)
@wrong("says it has shape .*but .* bytes follow")
def a_header_that_lies(src):
    for i, p in enumerate(list(src.iterdir())):
        p.unlink(); q = p.with_suffix(".npy"); np.save(q, clip(i)[:, 0]); q.write_bytes(q.read_bytes().replace(b"(12, 6, 3)", b"(99, 6, 3)"))
@wrong("pickles|holds values of kind")
def objects_in_arrays(src):
    for i, p in enumerate(list(src.iterdir())): p.unlink(); np.save(p.with_suffix(".npy"), np.array([{"a": 1}], object), allow_pickle=True)
@wrong("expected an axis|expected an array with an axis of 6 joints")
def arrays_of_another_shape(src):
    for i, p in enumerate(list(src.iterdir())): p.unlink(); np.save(p.with_suffix(".npy"), np.zeros((5, 7, 3)))
@wrong("version 7.3")
def mat_of_a_new_kind(src):
    for p in list(src.iterdir()): p.unlink(); p.with_suffix(".mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600, b"\0"))
@wrong("no .mat file")
def mat_cut_short(src):
    for i, p in enumerate(list(src.iterdir())): p.unlink(); q = p.with_suffix(".mat"); scipy.io.savemat(q, dict(x=clip(i)[:, 0]), do_compression=True); q.write_bytes(q.read_bytes()[:300])
@wrong("no Parquet file")
def parquet_cut_short(src):
    for i, p in enumerate(list(src.iterdir())): p.unlink(); q = p.with_suffix(".parquet"); pd.DataFrame(clip(i).reshape(12, -1), columns=HEADER).to_parquet(q); q.write_bytes(q.read_bytes()[:-50])
@wrong("breaks off|is not JSON")
def json_cut_short(src):
    for i, p in enumerate(list(src.iterdir())): p.unlink(); p.with_suffix(".json").write_text(json.dumps(clip(i)[:, 0].tolist())[:-20])
@wrong("place 1 has shape")
def uneven_frames(src):
    for i, p in enumerate(list(src.iterdir())): p.unlink(); x = clip(i)[:, 0].tolist(); x[1] = x[1][:4]; p.with_suffix(".json").write_text(json.dumps(x))
@wrong("is not text")
def bytes_called_csv(src):
    for p in src.iterdir(): p.write_bytes(os.urandom(50) + b"\0" * 50)
@wrong("the file is empty")
def files_of_nothing(src):
    for p in src.iterdir(): p.write_text("")
@wrong("has a header and no row")
def headers_only(src):
    for p in src.iterdir(): p.write_text(",".join(HEADER) + "\n")
@wrong("nobody is seen")
def nobody(src):
    for p in src.iterdir(): write(p, np.zeros((12, 1, V, 3)))
@wrong("no frame is left|nobody is seen|points are missing")
def nothing_but_gaps(src):
    for p in src.iterdir(): write(p, np.full((12, 1, V, 3), np.nan))
@wrong("beyond a thousand million")
def a_mark_for_missing(src):
    for i, p in enumerate(src.iterdir()): x = clip(i); x[3, 0, 2] = 1e300; write(p, x)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_folders_get_an_answer_and_nothing_is_written(kind, good, home):
    spoil, says = WRONG[kind]; spoil(good)
    with pytest.raises((ReadError, DataError), match=says) as e: prepared(good)
    assert nothing_left(home) and len(str(e.value)) < 1500 and (str(good) in str(e.value) or isinstance(e.value, DataError))


def test_odd_but_usable_folders(good, tmp_path, home):
    for i, p in enumerate(sorted(good.iterdir())): p.rename(good / f"gehört ünd ‘späces’ a{i % 3} s{i}.csv")
    (good / "away.csv").symlink_to(tmp_path / "nowhere.csv"); (good / "README.md").write_text("hello"); (good / ".DS_Store").write_bytes(b"\0"); (good / "bad.csv").write_text("1,2\n")
    d = prepared(good, pattern="gehört ünd ‘späces’ a{label} s{subject}"); assert len(d) == 12 and d.classes == ["0", "1", "2"]
    assert d.report.kinds == {"broken": 1} and any("link" in k for k in d.report.left_out) and any(".md" in k for k in d.report.left_out)


def test_names_that_come_again_in_other_folders(tmp_path):
    for i in range(6): write(tmp_path / "n" / f"s{i // 2}" / f"walk{i % 2}.csv", clip(i))
    d = prepared(tmp_path / "n", pattern="s{subject}/walk{label}"); assert sorted(d.meta["name"]) == [f"s{i // 2}/walk{i % 2}" for i in range(6)] and d.meta.subject.nunique() == 3
    write(tmp_path / "n" / "s0" / "walk0.CSV", clip(9)); d = prepared(tmp_path / "n", "again", pattern="s{subject}/walk{label}")
    assert any("same name" in k for k in d.report.left_out)


def test_columns_in_another_order_are_noticed(good):
    p = sorted(good.iterdir())[0]; write(p, clip(0)[:, :, [2, 5, 0, 1, 4, 3]])                # the header is that of the others
    seen = preview(good, guess(good, STICK)); assert any("bones unlike the others" in t and p.stem in t for t in seen.problems)
    assert any("bones unlike the others" in n for n in prepared(good).report.notes)


def test_a_folder_of_a_hundred_thousand_files(tmp_path, home):
    src = tmp_path / "big"; src.mkdir(); write(src / "a0_s0.csv", clip(0)); text = (src / "a0_s0.csv").read_text()
    for i in range(1, 100_000):
        p = src / f"a{i % 5}_s{i}.csv"
        if i % 50_000 == 1: p.write_text(text); first = p
        else: os.link(first, p)
    start = time.time(); p = preview(src, guess(src, STICK)); assert p.clips == 100_000 and time.time() - start < 60 and nothing_left(home)
    assert len(p.labels) == 5


def test_names_of_sets_and_places(good, tmp_path):
    spec = guess(good, STICK)
    for name in ("ntu60", "synthetic-own", "a b", "", "custom"):
        with pytest.raises(DataError, match="name"): prepare_custom(good, spec, name, progress=False)
    with pytest.raises(DataError, match="inside the folder of the recordings"): prepare_custom(good, spec, "x", out=good / "set", progress=False)
    (tmp_path / "busy").mkdir(); (tmp_path / "busy" / "mine.txt").write_text("keep")
    with pytest.raises(FolderError, match="not a data set"): prepare_custom(good, spec, "x", out=tmp_path / "busy", progress=False)
    with pytest.raises(DataError, match="unknown"): Spec.from_dict(dict(colour="red"))
    with pytest.raises((DataError, LayoutError, ReadError)): guess(good)
    with pytest.raises(DataError, match="brace"): guess(good, STICK, pattern="a{label")
    again = Spec.from_dict(json.loads(json.dumps(spec.to_dict()))); same(prepare_custom(good, again, "a", progress=False), prepare_custom(good, spec, "b", progress=False), 0)
    assert class_names([None, None])[1] == ["unlabelled"]


def test_a_run_that_is_stopped_leaves_the_old_set(good, home, monkeypatch):
    a = prepared(good); before = np.array(a.x)
    from skelnb.data import custom
    monkeypatch.setattr(custom, "_finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt): prepared(good)
    assert np.array_equal(load("mine", frames=10).x, before) and sorted(p.name for p in (home / "cache").iterdir()) == ["mine-10"]


def test_which_files_are_clips(good, tmp_path):
    (good / "layout.json").write_text("{}"); (good / "README.txt").write_text("x"); (good / "classes.csv").write_text("label,name\n1,sit\n2,jump\n3,walk\n")
    spec = guess(good, STICK); assert spec.classes == {"1": "sit", "2": "jump", "3": "walk"} and prepare_custom(good, spec, "c", frames=10, progress=False).classes == ["sit", "jump", "walk"]
    assert len(find_clips(good, "*.csv").clips) == 12 and len(find_clips(good, "a01*").clips) == 4 and not find_clips(good, "*.npy").clips
    assert prepared(good, "d", classes=str(good / "classes.csv")).classes == ["sit", "jump", "walk"]
    (good / "names.txt").write_text("sit\njump\nwalk\n"); assert prepared(good, "e", classes=str(good / "names.txt")).classes == ["sit", "jump", "walk"]
    one = tmp_path / "one"; one.mkdir(); pd.concat([pd.DataFrame(clip(i).reshape(12, -1), columns=HEADER).assign(video=n, frame=range(0, 60, 5)) for i, n in enumerate(names())]).to_csv(one / "data.csv", index=False)
    pd.DataFrame(dict(video=names(), label=list("uvw") * 4)).to_csv(one / "labels.csv", index=False)
    d = prepared(one, "f", pattern=""); assert len(d) == 12 and d.classes == ["u", "v", "w"] and d.meta.frames.tolist() == [12] * 12
    assert read_table(one / "labels.csv").shape == (12, 2)


# ---- the command

def test_the_command_shows_first_and_writes_then(good, tmp_path, home):
    from typer.testing import CliRunner
    from skelnb.cli import app
    (tmp_path / "stick.json").write_text(json.dumps(STICK.to_dict()))
    def run(*args): return CliRunner().invoke(app, ["prepare", "custom", "--src", str(good), *map(str, args)])
    done = run("--layout", tmp_path / "stick.json", "--dry-run", "--spec", tmp_path / "plan.json", "--units", "m")
    assert done.exit_code == 0 and "a{label}_s{subject}_t{repeat}" in done.output and "nothing else was written" in done.output and nothing_left(home)
    done = run("--spec", tmp_path / "plan.json", "--name", "mine", "--missing", "drop", "--set", "confidence=.3", "--quiet")
    assert done.exit_code == 0 and f"prepared: {home / 'cache' / 'mine-50'}" in done.output and "fold=1/4" in done.output
    kept = json.loads((home / "cache" / "mine-50" / "data.json").read_text())["source"]["settings"]["spec"]; assert (kept["missing"], kept["confidence"], kept["units"]) == ("drop", 0.3, "m")
    assert isinstance(load("mine"), SkeletonData) and load("mine").split("subject=2")[1].meta.subject.unique().tolist() == [2]
    for args, says in (([], "give --name NAME"), (["--name", "a b"], "letters, digits"), (["--name", "x", "--layout", "no.json"], "no such layout"), (["--name", "x", "--spec", tmp_path / "plan.json", "--set", "colour=1"], "unknown"),
                       (["--name", "x", "--layout", tmp_path / "stick.json", "--units", "miles"], "units: expected one of")):
        done = run(*args); assert done.exit_code and says in str(done.exception) + done.output, (args, done.output)
    done = CliRunner().invoke(app, ["prepare", "nw-ucla", "--src", str(good), "--name", "x"]); assert "recordings of your own" in str(done.exception)


# ---- whatever the bytes are

@pytest.mark.parametrize("kind", FORMS)
def test_spoiled_files_never_break_anything_but_with_an_answer(kind, tmp_path, home):
    g = np.random.default_rng(sorted(FORMS).index(kind)); src = tmp_path / "s"; src.mkdir()
    for i, n in enumerate(names(4)): FORMS[kind](src / n, clip(i))
    spec = guess(src, STICK); whole = {p: p.read_bytes() for p in src.iterdir()}
    for k in range(25):
        for p, data in whole.items():
            data = bytearray(data)
            if k % 3 == 0: data = data[:g.integers(0, len(data))]
            elif k % 3 == 1: data[g.integers(0, len(data))] = g.integers(0, 256)
            else: a, b = sorted(g.integers(0, len(data), 2)); data[a:b] = bytes(g.integers(0, 256, min(b - a, 40), dtype=np.uint8))
            p.write_bytes(bytes(data))
        for what in (lambda: guess(src, STICK), lambda: preview(src, spec), lambda: prepare_custom(src, spec, "s", frames=5, progress=False)):
            try: what()
            except (ReadError, DataError, LayoutError) as e: assert len(str(e)) < 2000
    assert nothing_left(home) or load("s", frames=5).x.shape[1:] == (3, 5, V, 1) or load("s", frames=5).shape[4] == 2


def test_a_file_a_person(tmp_path):
    for i, n in enumerate(names()):
        x = clip(i, persons=2); write(tmp_path / "p" / f"{n}_p1.csv", x[:, :1]); write(tmp_path / "p" / f"{n}_p2.csv", x[:9, 1:])
    d = prepared(tmp_path / "p", pattern="a{label}_s{subject}_t{trial}_p{person}")
    assert d.shape == (12, 3, 10, V, 2) and d.present.all() and d.meta.frames.tolist() == [12] * 12 and "person" not in d.meta and d.meta["name"][0] == "a01_s01_t01_p" and d.classes == ["1", "2", "3"]
    assert any("24 files of one person each make 12 clip(s)" in n for n in d.report.notes)


@pytest.mark.parametrize("mark", [-9999., 99999., -1.])
def test_a_mark_for_missing_points_is_seen_and_told(mark, tmp_path):
    g = np.random.default_rng(0)
    for i, name in enumerate(names()):
        x = clip(i); x[g.random(x.shape[:3]) < .1] = np.nan
        write(tmp_path / "holes" / f"{name}.csv", x); write(tmp_path / "marks" / f"{name}.csv", np.where(np.isnan(x), mark, x))
    plan = guess(tmp_path / "marks", STICK)
    assert plan.mark == mark and "in every coordinate" in plan.why["mark"] and guess(tmp_path / "holes", STICK).mark is None
    same(prepared(tmp_path / "holes"), prepared(tmp_path / "marks", "marks"), 0)
    with pytest.raises(DataError, match="mark: expected the number"): plan.change(mark="none")


def test_fields_of_matlab_structures(tmp_path, good):
    for i, name in enumerate(names()): (tmp_path / "mat").mkdir(exist_ok=True); scipy.io.savemat(tmp_path / "mat" / f"{name}.mat", dict(take=dict(joints=clip(i)[:, 0], info=dict(rate=30.)), note="x"))
    plan = guess(tmp_path / "mat", STICK)
    assert plan.key == "take.joints", plan.key
    same(prepared(good), prepared(tmp_path / "mat", "mat"))


def test_one_recording_by_the_plan_of_a_set(good, tmp_path):
    data = prepared(good, units="m"); plan = saved_plan("mine", 10)
    one = read_one(good / f"{names()[3]}.csv", plan); at = list(data.meta["name"]).index(names()[3])
    x = make_clip(one, one.meta["plan"], 10)
    assert np.array_equal(x, data.x[at][..., :x.shape[-1]]) and saved_plan(data.report.folder) == plan and saved_plan("synthetic-small") is None
    with pytest.raises(ReadError, match="no such file"): read_one(good / "other.csv", plan)
    with pytest.raises(ReadError, match="holds 12 clips"): read_one(good, plan)
    write(good / "empty.csv", np.full((5, 1, V, 3), np.nan))
    with pytest.raises(ReadError): read_one(good / "empty.csv", plan)


def test_the_form_does_what_the_calls_do(good, home):
    form = PrepareForm(good, STICK, frames=10)
    assert "12 clips" in repr(form) and form.preview.problems == [] and "<pre" in form._repr_mimebundle_()["text/html"]
    form.fields["units"].value = "mm"                                                    # people of two millimetres
    assert form.spec.units == "mm" and form.preview.problems
    form.fields["pattern"].value = "{label"
    assert "pattern" in form.said.value and form.spec.pattern != "{label"                # what cannot be meant is said and changes nothing
    form.fields["units"].value = "m"
    form.go.click(); assert "name first" in form.said.value and form.data is None and nothing_left(home)
    form.name.value = "mine"; form.go.click()
    same(form.data, prepared(good, "other", units="m")); assert "load(&#x27;mine&#x27;, frames=10)" in form.said.value and len(load("mine", frames=10)) == 12


# ---- tables of bare numbers, and the pickles of PYSKL

def bare(path, rows, sep=" "): path.parent.mkdir(parents=True, exist_ok=True); path.write_text("\n".join(sep.join(f"{v:.5f}" for v in r) for r in rows) + "\n")


@pytest.mark.parametrize("how", ["xyz", "xyz confidence", "joint", "frame joint", "frame joint confidence"])
def test_a_row_a_joint_without_names(good, tmp_path, how):
    "As MSR-Action3D or KARD come: V rows a frame."
    for i, n in enumerate(names()):
        x = clip(i)[:, 0]; t, v = np.indices(x.shape[:2]); columns = {"frame": t + 1, "joint": v, "confidence": np.ones_like(t)}
        before, after = [columns[w] for w in how.split() if w in ("frame", "joint")], [columns["confidence"]] * ("confidence" in how)
        bare(tmp_path / "stacked" / f"{n}.txt", np.stack([*before, *np.moveaxis(x, -1, 0), *after], -1).reshape(len(x) * V, -1))
    spec = guess(tmp_path / "stacked", STICK)
    assert spec.form == "stacked" and spec.pattern and ("confidence" in spec.columns) == ("confidence" in how) and ("joint" in spec.columns) == ("joint" in how)
    same(prepared(good, "wide"), prepared(tmp_path / "stacked", "stacked"), 1e-5)


def test_a_stacked_file_that_breaks_off_is_left_out(tmp_path):
    for i, n in enumerate(names()): bare(tmp_path / "s" / f"{n}.txt", clip(i).reshape(-1, 3)[:-1 if i == 4 else None])
    d = prepared(tmp_path / "s")
    assert len(d) == 11 and "71 rows are no multiple of 6 joints" in str(d.report)
    bare(tmp_path / "s" / f"{names()[5]}.txt", np.c_[clip(5).reshape(-1, 3), np.ones(72)])
    assert "4 columns, expected 3" in str(prepared(tmp_path / "s", "again").report)


def test_confidences_among_bare_numbers(good, tmp_path):
    "x y z c of every joint in a row, with Kinect's 0 for a joint that was lost; the same numbers in pixels; two persons of 2-D are no confidences."
    lost = {}
    for i, n in enumerate(names()):
        x = clip(i)[:, 0]; c = np.full((12, V, 1), 2.); c[3:5, 3] = 0; lost[n] = x.copy(); lost[n][3:5, 3] = np.nan
        write(tmp_path / "kinect" / f"{n}.csv", np.concatenate([np.where(c > 0, x, 9.), c], -1), header=None)
        write(tmp_path / "same" / f"{n}.csv", lost[n])
        write(tmp_path / "pixels" / f"{n}.csv", np.concatenate([300 + 100 * x[..., :2], c / 2], -1), header=None)
        write(tmp_path / "pairs" / f"{n}.csv", np.concatenate([300 + 100 * x[:, :, :2]] * 2, 1), header=None)
    a, b = prepared(tmp_path / "kinect", "a"), prepared(tmp_path / "same", "b")
    same(a, b); assert np.allclose(a.meta["confidence"], (2 * 72 - 4) / 72, atol=1e-3)
    spec = guess(tmp_path / "pixels", STICK); assert spec.dims == 2 and spec.units == "pixels" and spec.columns["confidence"]
    spec = guess(tmp_path / "pairs", STICK); assert spec.dims == 2 and len(spec.columns["joints"]) == 2 and not spec.columns["confidence"]


def test_a_table_without_a_header_whose_first_columns_are_told(good, tmp_path):
    "As Florence 3D comes: all clips in one file, clip, subject and label before the joints."
    rows = [[i + 1, i // 3 % 4 + 1, i % 3 + 1, *frame.ravel()] for i in range(12) for frame in clip(i)]
    bare(tmp_path / "one" / "all.txt", rows)
    with pytest.raises(ReadError, match=r"21 columns without names.*header=\["): guess(tmp_path / "one", STICK)
    for header in (["clip", "subject", "label"], "clip, subject,label"):
        spec = guess(tmp_path / "one", STICK, header=header); assert spec.header == ["clip", "subject", "label"] and Spec.from_dict(json.loads(json.dumps(spec.to_dict()))).header == spec.header
    d = prepare_custom(tmp_path / "one", spec, "one", frames=10, progress=False); true = prepared(good, "wide")
    assert len(d) == 12 and d.meta.subject.nunique() == 4 and np.abs(d.x - true.x[[list(true.meta["name"]).index(n) for n in names()]]).max() < 1e-4
    with pytest.raises(DataError, match="header: expected a list of names"): guess(tmp_path / "one", STICK, header=[1, 2])
    with pytest.raises(ReadError, match="has a header of its own"): guess(good, STICK, header=["clip"])
    with pytest.raises(ReadError, match="has 21 columns, and header= names 22"): guess(tmp_path / "one", STICK, header=list("abcdefghijklmnopqrstuv"))


def test_folders_of_pairs_of_people(tmp_path):
    for i in range(12): write(tmp_path / "sbu" / f"s0{i // 6 + 1}s0{i // 6 + 3}" / f"{i % 3 + 1:02d}" / f"{i:03d}" / "skeleton_pos.txt", clip(i, persons=2), header=None)
    spec = guess(tmp_path / "sbu", STICK); assert spec.folders == ["subject", "label", ""] and len(spec.columns["joints"]) == 2


def test_a_file_of_one_name_in_every_folder(tmp_path):
    "As FPHA comes: a lone skeleton.txt is taken for a layout, one in every folder is a clip; a README beside them stays out."
    for i in range(12): write(tmp_path / "f" / f"Subject_{i // 3 + 1}" / ["pour", "open", "shake"][i % 3] / "1" / "skeleton.txt", clip(i), header=None, sep=" ")
    (tmp_path / "f" / "README.txt").write_text("hello"); (tmp_path / "f" / "Subject_1" / "LICENSE.txt").write_text("you may")
    spec = guess(tmp_path / "f", STICK); assert spec.folders == ["subject", "label", ""] and len(prepared(tmp_path / "f")) == 12
    shutil.rmtree(tmp_path / "f" / "Subject_2"); write(tmp_path / "g" / "skeleton.txt", clip(), header=None); (tmp_path / "g" / "README.txt").write_text("hello")
    with pytest.raises(ReadError, match="holds no file that could be a clip"): guess(tmp_path / "g", STICK)


def annotations(n=12, dims=2):
    kept = [clip(i, T=12 + i, persons=1 + i % 2).transpose(1, 0, 2, 3)[..., :dims] for i in range(n)]
    return [dict(frame_dir=f"v{i:02d}", label=i % 3, total_frames=x.shape[1], keypoint=x * (100 if dims == 2 else 1), keypoint_score=np.ones(x.shape[:3], np.float16)) for i, x in enumerate(kept)]


@pytest.mark.parametrize("dims", [2, 3])
def test_annotations_of_pyskl(tmp_path, dims):
    made = annotations(dims=dims); made[2]["keypoint_score"][0, 3:5, 4] = 0; (tmp_path / "p").mkdir()
    (tmp_path / "p" / "mine.pkl").write_bytes(pickle.dumps(dict(split=dict(xsub_train=[a["frame_dir"] for a in made[:8]], xsub_val=[a["frame_dir"] for a in made[8:]]), annotations=made)))
    spec = guess(tmp_path / "p", STICK); assert spec.form == "annotations" and spec.dims == dims
    d = prepare_custom(tmp_path / "p", spec, "p", frames=10, progress=False)
    assert len(d) == 12 and d.classes == ["0", "1", "2"] and d.present.sum(1).tolist() == [1, 2] * 6 and [len(part) for part in d.split("file")] == [8, 4]
    assert list(d.meta.frames) == [a["total_frames"] for a in made] and d.meta["missing"].iloc[2] > 0 and not d.meta["missing"].drop(index=2).any()
    (tmp_path / "n").mkdir()
    for a in made: np.save(tmp_path / "n" / f"{a['frame_dir']}.npy", np.where(a["keypoint_score"][..., None] > 0, a["keypoint"], np.nan).transpose(1, 0, 2, 3))
    same_numbers = prepared(tmp_path / "n", "n", pattern="v{trial}", axes="TMVC")
    assert sorted(d.meta["name"]) == [f"mine-{n}" for n in sorted(same_numbers.meta["name"])] == list(d.meta["name"]) and np.abs(d.x - same_numbers.x).max() < 1e-6
    (tmp_path / "p" / "mine.pkl").write_bytes(pickle.dumps(made)); assert len(prepared(tmp_path / "p", "alone")) == 12


@pytest.mark.parametrize("what, said", [(dict(a=1), "something else than annotations"), ([], "something else than annotations"), ([dict(keypoint=[1])], "something else than annotations"),
                                        ([dict(frame_dir="v", label=0, keypoint=np.zeros((1, 4, 5, 2)))], "5 joints of 2 coordinates, the layout stick6 has 6"), (print, "cannot be read|which no recording needs")])
def test_pickles_that_are_something_else(tmp_path, home, what, said):
    (tmp_path / "p").mkdir(); (tmp_path / "p" / "mine.pkl").write_bytes(pickle.dumps(what))
    with pytest.raises(ReadError, match=said): prepared(tmp_path / "p")
    assert nothing_left(home)


def test_an_annotation_that_does_not_fit_is_named(tmp_path):
    made = annotations(); made[5]["keypoint_score"] = np.ones((1, 2)); (tmp_path / "p").mkdir(); (tmp_path / "p" / "mine.pkl").write_bytes(pickle.dumps(made))
    with pytest.raises((ReadError, DataError), match=r"annotation 5 \(v05\): keypoint_score has shape \(1, 2\)"): prepared(tmp_path / "p")
