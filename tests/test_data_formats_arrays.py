"""Arrays, archives and pickles of other people: read lazily, without running anything, and refused where they are not what they say."""

import io
import os
import pickle
import pickletools
import struct
import time
import zipfile

import numpy as np
import pytest

from skelnb.data import ReadError, Recording, Recordings, read_arrays, read_ctrgcn, read_pyskl, safe_unpickle
from skelnb.skeleton import COCO17, NTU25

NAMES = ["S001C001P001R001A010", "S001C002P003R001A050", "S002C003P001R002A060", "S017C001P008R001A001"]
LABELS = [9, 49, 59, 0]


@pytest.fixture
def clips():
    "(4,3,50,25,2); the first is 30 frames long and has one person, the last is empty."
    x = np.random.default_rng(0).normal(size=(4, 3, 50, 25, 2)).astype("f4")
    x[0, :, 30:], x[0, ..., 1], x[3] = 0, 0, 0
    return x


def arrays(folder, x, pair=(NAMES, LABELS), protocol=4):
    np.save(folder / "train_position.npy", x)
    (folder / "train_label.pkl").write_bytes(pickle.dumps(pair, protocol))
    return folder / "train_position.npy", folder / "train_label.pkl"


def says(read, *paths):
    "The message of the ReadError that comes, quickly."
    start = time.process_time()
    with pytest.raises(ReadError) as error:
        read(*paths)
    assert time.process_time() - start < 1 and len(str(error.value)) < 900 and error.value.remedy
    assert any(str(p) in str(error.value) for p in paths)
    return str(error.value)


# --- the sequence ---

def test_arrays_are_read_when_asked_for(tmp_path, clips):
    rs = read_arrays(*arrays(tmp_path, clips))
    assert isinstance(rs, Recordings) and len(rs) == 4 and rs.names == NAMES and rs.labels.tolist() == LABELS
    assert [r.frames for r in rs] == [30, 50, 50, 0] and all(r.skeleton is NTU25 and r.fps == 30 for r in rs)
    for r, x, name, label in zip(rs, clips, NAMES, LABELS):
        assert isinstance(r, Recording) and r.name == name and r.meta["label"] == label and r.x.dtype == np.float32
        np.testing.assert_array_equal(r.x, x[:, :r.frames])
    assert rs[1].meta == dict(label=49, subject=3, camera=2, setup=1, repeat=1)
    part = rs[1:]
    assert isinstance(part, Recordings) and part.names == NAMES[1:] and part[0].name == rs[-3].name == NAMES[1] and len(rs[:0]) == 0 and part[::-1][0].name == NAMES[3]
    for bad in (4, -5):
        with pytest.raises(IndexError):
            rs[bad]
    with pytest.raises(TypeError):
        rs["a"]
    rs[0].x[:] = 7                                        # a copy: the file stays as it is
    assert rs[0].x.max() < 7 and np.load(tmp_path / "train_position.npy").max() < 7


@pytest.mark.parametrize("change", [lambda x: x.astype("f8"), lambda x: x.astype(">f4"), np.asfortranarray, lambda x: x.astype("f2")])
def test_arrays_of_other_kinds(tmp_path, clips, change):
    np.testing.assert_allclose(read_arrays(*arrays(tmp_path, change(clips)))[1].x, clips[1], atol=2e-3)


@pytest.mark.parametrize("pair", [(NAMES, LABELS), [NAMES, LABELS], ([n + ".skeleton" for n in NAMES], LABELS), (tuple(NAMES), tuple(LABELS)), (np.array(NAMES), np.array(LABELS)), (NAMES, np.array(LABELS, ">i2")),
                                  (NAMES, [k + 1 for k in LABELS]), ([n.encode() for n in NAMES], [np.int32(k) for k in LABELS])])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_names_and_labels_of_many_kinds(tmp_path, clips, pair, protocol):
    rs = read_arrays(*arrays(tmp_path, clips, pair, protocol))
    assert rs.names == NAMES and rs.labels.tolist() == LABELS              # labels from 1 are told by the names


def test_other_names(tmp_path, clips):
    rs = read_arrays(*arrays(tmp_path, clips, (["F002V001C012L001.skeleton", "A001N002V003C051L010", "mine", "b"], [1, 2, 3, 4])))
    assert rs[0].meta["recording"] == 2 and rs[1].meta["subject"] == 2 and rs[2].meta == dict(label=3)


def test_archives_of_python_2(tmp_path, clips):
    "Names and labels as cPickle of Python 2 wrote them."
    np.save(tmp_path / "a.npy", clips[:1])
    (tmp_path / "a.pkl").write_bytes(b"(lp1\nS'S001C001P001R001A010.skeleton'\np2\na(lp3\nI9\na\x86.".replace(b"\x86", b"\x86"))
    assert read_arrays(tmp_path / "a.npy", tmp_path / "a.pkl").names == NAMES[:1]


def test_large_arrays_stay_on_the_disk(tmp_path):
    "5 GB that take no room: opened at once, and one clip is read."
    shape, path = (114_000, 3, 150, 25, 2), tmp_path / "train_position.npy"
    with open(path, "wb") as f:
        np.lib.format.write_array_header_1_0(f, dict(descr="<f4", fortran_order=False, shape=shape))
        f.truncate(f.tell() + 4 * int(np.prod(shape)))
    names = [f"S{1 + i % 32:03d}C{1 + i % 3:03d}P{1 + i % 106:03d}R001A{1 + i % 120:03d}" for i in range(shape[0])]
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((names, [i % 120 for i in range(shape[0])]), 4))
    start = time.process_time()
    rs = read_arrays(path, tmp_path / "train_label.pkl")
    assert len(rs) == 114_000 and rs[113_999].frames == 0 and time.process_time() - start < 5


BAD_NPY = {
    "empty": (b"", "the file is empty"), "cut": (lambda d: d[:-100], "but 119900 bytes follow"), "cut header": (lambda d: d[:40], "no NumPy array"), "longer": (lambda d: d + b"0", "bytes follow"),
    "a pickle": (pickle.dumps([1]), "no NumPy array"), "text": (b"1 2 3\n", "no NumPy array"), "binary": (os.urandom(3000), "no NumPy array"), "zip": (b"PK\3\4" + b"\0" * 60, "no NumPy array"),
    "another version": (lambda d: d[:6] + b"\x09\x00" + d[8:], "no NumPy array"), "10**12 clips": (lambda d: d.replace(b"(4, 3, 50, 25, 2)", b"(10**12, )       "), "no NumPy array"),
    "a trillion clips": (lambda d: d.replace(b"(4, 3, 50, 25, 2)", b"(1000000000000,) "), "says it has shape [100000000000...]"), "fewer than none": (lambda d: d.replace(b"(4,", b"(-4"), "no NumPy array"),
    "code in the header": (lambda d: d.replace(b"'fortran_order': False", b"'fortran_order': exit()"), "no NumPy array"),
    "a header of brackets": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, "no NumPy array"), "a number of 4000 digits": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"{'descr': '<f4', 'fortran_order': False, 'shape': (0x" + b"f" * 8000 + b",)}", "")}


@pytest.mark.parametrize("what", BAD_NPY)
def test_bad_arrays(tmp_path, clips, what):
    npy, pkl = arrays(tmp_path, clips)
    content, told = BAD_NPY[what]
    npy.write_bytes(content(npy.read_bytes()) if callable(content) else content)
    message = says(read_arrays, npy, pkl)
    assert told in message and str(npy) in message


@pytest.mark.parametrize("change, told", [
    (lambda x: x.astype(object), "holds values of kind object, expected numbers"), (lambda x: x.astype("U9"), "holds values of kind"), (lambda x: x.astype("c8"), "holds values of kind complex64"),
    (lambda x: x[..., 0], "has shape (4, 3, 50, 25), expected (N,3,T,25,M)"), (lambda x: x[:, :, :, :20], "has shape (4, 3, 50, 20, 2), expected"), (lambda x: x[:, :2], "expected (N,3,T,25,M)"),
    (lambda x: x[:, :, :0], "expected (N,3,T,25,M)"), (lambda x: x.ravel(), "expected (N,3,T,25,M)"), (lambda x: np.array(3.), "expected (N,3,T,25,M)"), (lambda x: x[:3], "4 names for the 3 clips")])
def test_arrays_of_another_shape(tmp_path, clips, change, told):
    npy, pkl = arrays(tmp_path, clips)
    np.save(npy, change(clips), allow_pickle=True)
    assert told in says(read_arrays, npy, pkl)


@pytest.mark.parametrize("pair, told", [
    ([NAMES], "expected a pair (names, labels), got list"), (dict(a=1), "got dict"), ("ab", "got str"), ((NAMES, LABELS[:3]), "expected 4 labels, got 3"), ((NAMES, [0, 1, 2, -1]), "whole numbers from 0"),
    ((NAMES, [0, 1, 2, 2.5]), "whole numbers"), ((NAMES, [0, 1, 2, None]), "whole numbers"), ((NAMES, "0123"), "whole numbers"), ((NAMES, [0, 1, 2, 10**5000]), "whole numbers"), ((NAMES, np.zeros((4, 2), int)), "whole numbers"),
    ((NAMES, np.array(LABELS, float)), "whole numbers"), (([*NAMES[:3], 7], LABELS), "name 3 should be text, got int"), ((5, LABELS), "expected a pair"), ((np.zeros((4, 4)), LABELS), "expected a pair")])
def test_bad_pairs(tmp_path, clips, pair, told):
    assert told in says(read_arrays, *arrays(tmp_path, clips, pair))


def test_bad_numbers_are_told_with_the_clip(tmp_path, clips):
    clips[2, 1, 7, 4, 1] = np.nan
    rs = read_arrays(*arrays(tmp_path, clips))
    assert rs[1].frames == 50
    with pytest.raises(ReadError, match=r"train_position.npy, clip 2 \(S002C003P001R002A060\): frame 7, person 1, joint 4 .*coordinate y is nan"):
        rs[2]
    with pytest.raises(ReadError, match="is inf"):
        read_arrays(*arrays(tmp_path, np.full((4, 3, 5, 25, 2), 1e300)))[0]


# --- CTR-GCN ---

def archive(folder, x, save=np.savez, **change):
    rows, hot = x.transpose(0, 2, 4, 3, 1).reshape(len(x), x.shape[2], 150), np.eye(60)[LABELS]
    content = dict(x_train=rows[:3], y_train=hot[:3], x_test=rows[3:], y_test=hot[3:]) | change
    save(folder / "NTU60_CS.npz", **{k: v for k, v in content.items() if v is not None})
    return folder / "NTU60_CS.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctrgcn(tmp_path, clips, save):
    rs = read_ctrgcn(archive(tmp_path, clips, save))
    assert len(rs) == 4 and rs.labels.tolist() == LABELS and [r.meta for r in rs] == [dict(split="train", label=9), dict(split="train", label=49), dict(split="train", label=59), dict(split="test", label=0)]
    assert [r.name for r in rs] == ["train-00000", "train-00001", "train-00002", "test-00000"] and [r.frames for r in rs] == [30, 50, 50, 0]
    for r, x in zip(rs, clips):
        np.testing.assert_array_equal(r.x, x[:, :r.frames])


def test_ctrgcn_stays_on_the_disk(tmp_path):
    "A stored member of 3 GB that takes no room is mapped, not read."
    path, shape = tmp_path / "NTU60_CS.npz", (16_000, 300, 150)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, dict(descr="<f4", fortran_order=False, shape=shape))
    size = len(head.getvalue()) + 4 * int(np.prod(shape))
    small = {k: np.save(b := io.BytesIO(), v) or b.getvalue() for k, v in dict(y_train=np.eye(60, dtype="f4")[np.arange(16_000) % 60], x_test=np.ones((1, 300, 150), "f4"), y_test=np.eye(60)[:1]).items()}
    with zipfile.ZipFile(path, "w") as z:
        for k, v in small.items():
            z.writestr(f"{k}.npy", v)
    with zipfile.ZipFile(path) as z:
        old, start = z.infolist(), z.start_dir
    with open(path, "r+b") as f:                          # the large member by hand: local header, header of the array, a hole
        f.seek(start)
        f.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, size, size, 11, 0) + b"x_train.npy" + head.getvalue())
        f.seek(start + 30 + 11 + size)
        entries = [(i.filename, i.file_size, i.header_offset, i.CRC) for i in old] + [("x_train.npy", size, start, 0)]
        where, listing = f.tell(), b"".join(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, crc, n, n, len(name), 0, 0, 0, 0, 0, at) + name.encode() for name, n, at, crc in entries)
        f.write(listing + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), len(listing), where, 0))
    start = time.process_time()
    rs = read_ctrgcn(path)
    assert len(rs) == 16_001 and rs[15_999].frames == 0 and (rs[16_000].x == 1).all() and time.process_time() - start < 2


def patch(path, where, code, value):
    "Write numbers into every list entry (PK12) or local header (PK34) of a zip archive."
    data = bytearray(path.read_bytes())
    mark, at = (b"PK\1\2", where) if where < 100 else (b"PK\3\4", where - 100)
    i = data.find(mark)
    while i >= 0:
        struct.pack_into(code, data, i + at, value)
        i = data.find(mark, i + 1)
    path.write_bytes(data)
    return path


def test_dishonest_archives(tmp_path, clips):
    good = archive(tmp_path, clips).read_bytes()
    for where, code, value in ((24, "<I", 2**31 - 1), (20, "<I", 100), (42, "<I", 2**31 - 1), (42, "<I", 7), (10, "<H", 99), (8, "<H", 1), (126, "<H", 65535)):
        says(read_ctrgcn, patch(archive(tmp_path, clips), where, code, value))
    squeezed = archive(tmp_path, clips, np.savez_compressed)
    for where, code, value in ((24, "<I", 2**32 - 2), (24, "<I", 50), (16, "<I", 1), (10, "<H", 12), (42, "<I", 30)):
        says(read_ctrgcn, patch(archive(tmp_path, clips, np.savez_compressed), where, code, value))
    for bad, told in ((b"", "empty"), (good[:-30], "no .npz archive"), (good[:4000], "no .npz archive"), (b"PK\3\4" + bytes(100), "no .npz archive"), (os.urandom(5000), "no .npz archive"), (b"1 2 3", "no .npz archive"), (pickle.dumps(1), "no .npz archive")):
        squeezed.write_bytes(bad)
        assert told in says(read_ctrgcn, squeezed)


def test_a_zip_bomb_is_not_unpacked(tmp_path, clips):
    "The list of content promises 4 GB from some kilobytes; and 60 MB of zeros are no array."
    assert "would grow to 4294967294 bytes from" in says(read_ctrgcn, patch(archive(tmp_path, clips, np.savez_compressed), 24, "<I", 2**32 - 2))
    path = archive(tmp_path, clips)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z, z.open("x_train.npy", "w") as f:
        f.write(bytes(6 * 10**7))
    assert path.stat().st_size < 10**6 and "x_train is no NumPy array" in says(read_ctrgcn, path)


@pytest.mark.parametrize("change, told", [
    (dict(x_train=None), "holds no x_train, but ['x_test.npy'"), (dict(y_test=None), "holds no y_test"), (dict(x_train=np.zeros((3, 50, 75))), "x_train has shape (3, 50, 75), expected (N,T,150)"),
    (dict(x_test=np.zeros((1, 0, 150))), "expected (N,T,150)"), (dict(x_train=np.zeros((3, 50, 150), object)), "holds values of kind object"), (dict(y_train=np.zeros((3, 60))), "y_train, row 0: expected one 1 among zeros"),
    (dict(y_train=np.ones((3, 60))), "expected one 1"), (dict(y_train=np.full((3, 60), np.nan)), "expected one 1"), (dict(y_train=np.eye(60)[:2]), "y_train has shape (2, 60), expected (3, classes)"), (dict(y_train=np.array([1, 2, 3])), "y_train has shape (3,)"),
    (dict(y_train=2 * np.eye(60)[:3]), "expected one 1")])
def test_archives_of_another_content(tmp_path, clips, change, told):
    for save in (np.savez, np.savez_compressed):
        assert told in says(read_ctrgcn, archive(tmp_path, clips, save, **change))


def test_archives_with_bad_numbers(tmp_path, clips):
    clips[1, 0, 3, 5, 0] = np.inf
    with pytest.raises(ReadError, match=r"clip 1 \(train-00001\): frame 3, person 0, joint 5 .* is inf"):
        read_ctrgcn(archive(tmp_path, clips))[1]


# --- PYSKL ---

def notes(clips, kind="f4"):
    return [dict(frame_dir=n, label=k, total_frames=50, keypoint=x.transpose(3, 1, 2, 0).astype(kind)) for n, k, x in zip(NAMES, LABELS, clips)]


def dump(folder, content, protocol=4):
    (folder / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    return folder / "a.pkl"


@pytest.mark.parametrize("protocol", range(6))
def test_pyskl(tmp_path, clips, protocol):
    rs = read_pyskl(dump(tmp_path, dict(split=dict(xsub_train=NAMES[:2], xsub_val=NAMES[2:], xview_train=NAMES[1:]), annotations=notes(clips)), protocol))
    assert len(rs) == 4 and [r.meta["splits"] for r in rs] == [["xsub_train"], ["xsub_train", "xview_train"], ["xsub_val", "xview_train"], ["xsub_val", "xview_train"]]
    for r, x, name, label in zip(rs, clips, NAMES, LABELS):
        assert r.name == name and r.meta["label"] == label and r.skeleton is NTU25
        np.testing.assert_array_equal(r.x, x[:, :r.frames])
    assert rs[1].meta["subject"] == 3
    np.testing.assert_allclose(read_pyskl(dump(tmp_path, notes(clips, "f2"), protocol))[1].x, clips[1], atol=2e-3)            # a list alone; half precision


def test_pyskl_keypoints(tmp_path):
    x = np.random.default_rng(0).uniform(1, 900, (2, 7, 17, 2))
    r, = read_pyskl(dump(tmp_path, [dict(frame_dir="v_1", label=np.int64(3), keypoint=x, keypoint_score=np.ones((2, 7, 17)), img_shape=(1080, 1920), total_frames=7)]))
    assert r.x.shape == (2, 7, 17, 2) and r.skeleton is COCO17 and r.meta == dict(splits=[], label=3) and r.name == "v_1"
    np.testing.assert_allclose(r.x, x.transpose(3, 1, 2, 0), rtol=1e-6)


@pytest.mark.parametrize("change, told", [
    (lambda a: a.pop("label"), "annotation 1: expected a dict with frame_dir, label and keypoint, got ['frame_dir'"), (lambda a: a.update(label="9"), "expected a label from 0, got '9'"), (lambda a: a.update(label=-1), "expected a label from 0, got -1"),
    (lambda a: a.update(label=True), "expected a label from 0"), (lambda a: a.update(label=10**5000), "a number of thousands of digits"), (lambda a: a.update(keypoint=[[1, 2]]), "got list"), (lambda a: a.update(keypoint=np.zeros((1, 5, 13, 2))), "got (1, 5, 13, 2)"),
    (lambda a: a.update(keypoint=np.zeros((5, 25, 3))), "got (5, 25, 3)"), (lambda a: a.update(keypoint=np.zeros((1, 5, 25, 3), "S4")), "expected keypoint"), (lambda a: a.update(frame_dir=7), "annotation 1: frame_dir should be text, got int"),
    (lambda a: a.update(keypoint=np.zeros((1, 5, 17, 2))), "some annotations have 25 joints, some 17")])
def test_bad_annotations(tmp_path, clips, change, told):
    bad = notes(clips)
    change(bad[1])
    assert told in says(read_pyskl, dump(tmp_path, bad))


@pytest.mark.parametrize("content, told", [(5, "expected a dict with 'split' and 'annotations', got int"), (dict(split=1, annotations=[]), "expected a dict"), (dict(a=1), "got dict"), ([1, 2], "annotation 0: expected a dict with frame_dir, label and keypoint, got int"),
                                           (dict(split=dict(a=3), annotations=[]), "split a: expected a list of names, got int"), (dict(split={7: [8]}, annotations=[]), "a name in split 7 should be text")])
def test_bad_pyskl_files(tmp_path, content, told):
    assert told in says(read_pyskl, dump(tmp_path, content))


def test_pyskl_without_clips(tmp_path):
    assert len(read_pyskl(dump(tmp_path, []))) == 0


def test_pyskl_bad_numbers(tmp_path, clips):
    clips[1, 0, 3, 5, 0] = np.nan
    with pytest.raises(ReadError, match=r"a.pkl, clip 1 \(S001C002P003R001A050\): frame 3"):
        read_pyskl(dump(tmp_path, notes(clips)))[1]


# --- pickles ---

PLAIN = dict(text="ü", raw=b"\x00\xff", nothing=b"", buffer=bytearray(b"ab"), numbers=[1, -2, 2**70, 2.5, None, True], pair=(1, (2,), ()), set={1, "a"}, frozen=frozenset({2}), empty=[{}, [], ""], f=np.float32(2), i=np.int64(-3), b=np.bool_(True), kind=np.dtype("f4"),
             x=np.arange(6, dtype="f4").reshape(2, 3), fortran=np.asfortranarray(np.arange(6.).reshape(2, 3)), big=np.array([1, 2], ">i4"), t=np.array(["ab", "c"]), s=np.array([b"ab"]), nought=np.zeros((0, 3)), turned=np.arange(24.).reshape(2, 3, 4).transpose(1, 0, 2), scalar=np.array(5), yes=np.array([True, False]))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_comes_back(tmp_path, protocol):
    back = safe_unpickle(dump(tmp_path, PLAIN, protocol))
    assert list(back) == list(PLAIN)
    for k, v in PLAIN.items():
        assert type(back[k]) is type(v) or k in ("frozen", "set"), k
        if isinstance(v, np.ndarray):
            assert back[k].dtype == v.dtype and back[k].shape == v.shape and (back[k] == v).all(), k
        else:
            assert back[k] == v, k
    shared = [np.arange(3.), (1, 2)]
    again = safe_unpickle(dump(tmp_path, [shared, shared, shared[0]], protocol))
    assert again[0] is again[1] and again[2] is again[0][0] and again[2].tolist() == [0, 1, 2]
    loop = []
    loop.append(loop)
    assert (back := safe_unpickle(dump(tmp_path, loop, protocol)))[0] is back


class Runs:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: [1, {"a": (r,)}], lambda r: ([r], [0]), lambda r: [dict(frame_dir="a", label=0, keypoint=r)]])
def test_a_pickle_that_runs_code_does_not_run(tmp_path, monkeypatch, protocol, wrap):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 5, 25, 2)))
    for runs in (Runs(os.system, "touch opened"), Runs(eval, "open('opened', 'w')"), Runs(exec, "open('opened', 'w')"), Runs(os.open, "opened", os.O_CREAT), Runs(open, "opened", "w"), Runs(getattr, os, "system") if protocol > 1 else Runs(os.getcwd),
                 Runs(np.load, "opened", None, True), Runs(np.save, "opened", 1), Runs(__import__, "antigravity")):
        try:
            path = dump(tmp_path, wrap(runs), protocol)
        except (TypeError, pickle.PicklingError):
            continue
        for read in (safe_unpickle, read_pyskl, lambda p: read_arrays(tmp_path / "x.npy", p)):
            message = says(read, path)
            assert "it asks for" in message and "which could do anything" in message
    assert not os.path.exists("opened")


def test_instructions_written_by_hand(tmp_path, monkeypatch):
    "Ways to call something, or to take much memory or time, that no pickler writes."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("skelnb.data.formats._Plain.ROOM", 2**22)
    call = b"(S'touch opened'\ntR."
    bombs = {
        "global": b"cos\nsystem\n" + call, "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch opened\x85R.", "inst": b"(S'touch opened'\nios\nsystem\n.", "obj": b"(cos\nsystem\nS'touch opened'\no.",
        "new object": b"\x80\x02cos\nsystem\n(tR\x81.", "extension": b"\x80\x02\x82\x01.", "persistent": b"Pabc\n.", "binary persistent": b"N\x51.", "buffer": b"\x80\x05\x97.", "module with a dot": b"cos.path\nos.system\n" + call, "builtins of Python 2": b"c__builtin__\neval\n(S'1'\ntR.",
        "an attribute by BUILD": b"cnumpy\ndtype\n}S'__call__'\nNsb.", "a dtype without end": b"cnumpy\ndtype\n(S'(1000000,1000000)f8'\ntR.", "objects": b"cnumpy\ndtype\n(S'O8'\ntR.", "a class": b"cnumpy\nndarray\n(I1000000000000\ntR.",
        "the function itself": b"cnumpy\ndtype\n.", "list of a function": b"](cnumpy\ndtype\ne.", "a huge array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'b'\ntR(I1\n(I1000000000000\ntcnumpy\ndtype\n(S'f8'\ntRI00\nS''\ntb.",
        "a frame of 2**62": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "bytes of 2**40": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"N.", "a byte array of 2**40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"N.", "text of 2**31": b"X" + struct.pack("<I", 2**31) + b"N.",
        "a number of 2**31 bytes": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"N.", "a number of 10**6 digits": b"I" + b"9" * 10**6 + b"\n.", "memo": b"N" + b"r" + struct.pack("<I", 2**31 - 1) + b"0h\x00.", "pop": b"0.", "stop": b".", "nothing put": b"h\x07.", "tuple keys": b"}(I1\nI2\ntNs.",
        "colliding keys": b"}(" + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 20000)) + b"u.", "nothing but marks": b"(" * 2 * 10**5, "nothing but lists": b"]" * 2 * 10**5, "memos": b"N" + b"\x94" * 2 * 10**5, "nested": b"N" + b"\x85" * 10**6 + b"."}
    for what, data in bombs.items():
        (tmp_path / "x.pkl").write_bytes(data)
        start = time.process_time()
        try:
            safe_unpickle(tmp_path / "x.pkl")
            assert what in ("nested", "memo", "a frame of 2**62", "text of 2**31"), what
        except ReadError as e:
            assert len(str(e)) < 900, what
        assert time.process_time() - start < 8, what
    assert not os.path.exists("opened")


def test_copies_cost(tmp_path):
    "Many arrays made of the same bytes: views, or refused; never gigabytes."
    raw = b"\x80\x04\x8e" + struct.pack("<Q", 10**6) + bytes(10**6) + b"\x94\x8c\x06latin1\x94"
    text = b"\x8d" + struct.pack("<Q", 10**6) + b"a" * 10**6 + b"\x94"
    (tmp_path / "x.pkl").write_bytes(raw + text + b"]" + b"c_codecs\nencode\nh\x02h\x01\x86Ra" * 10**4 + b".")
    assert "far more objects" in says(safe_unpickle, tmp_path / "x.pkl")


def test_lists_of_lists_of_lists(tmp_path):
    "Thirty lists, each holding the last one ten times: small in memory, endless to walk through."
    x = ["a"]
    for _ in range(30):
        x = [x] * 10
    np.save(tmp_path / "x.npy", np.zeros((10, 3, 5, 25, 2)))
    assert len(safe_unpickle(dump(tmp_path, x))) == 10
    for content in (x, (x, x), (NAMES, x), dict(annotations=x), dict(split=dict(a=x), annotations=[])):
        says(lambda p: (read_pyskl(p), read_arrays(tmp_path / "x.npy", p)), dump(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"1 2 3", b"PK\3\4", b"\x93NUMPY\x01\x00", b'{"a": 1}', b"\x80\x04", b"\x80\x09.", os.urandom(500), b"\x00" * 500])
def test_files_that_are_no_pickles(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    says(safe_unpickle, tmp_path / "x.pkl")


def test_every_cut_is_told(tmp_path):
    for protocol in (0, 2, 4, 5):
        data = pickle.dumps(PLAIN, protocol)
        for n in range(0, len(data) - 1, 31):
            (tmp_path / "x.pkl").write_bytes(data[:n])
            says(safe_unpickle, tmp_path / "x.pkl")


def test_what_the_pickler_may_do_is_listed():
    "A new instruction of a later Python is unknown until someone looks at it."
    from skelnb.data.formats import _Plain
    allowed = {o.name for o in pickletools.opcodes if ord(o.code) in _Plain.dispatch}
    assert len(allowed) == len(_Plain.dispatch) and not allowed & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}
