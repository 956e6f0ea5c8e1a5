"""NTU RGB+D and PKU-MMD text files: read like the released code reads them, with three rules for the bodies, and what is said about bad ones."""

import collections
import os
import shutil
import tarfile
import time

import numpy as np
import pytest

from skelnb.data import NTU_CLASSES, NTU_PAIRS, PKU_CLASSES, PKU_PAIRS, ReadError, ntu_name, pku_name, read_missing, read_ntu, read_pku, read_pku_labels
from skelnb.data.formats import LARGEST_NTU, LARGEST_TEXT
from skelnb.skeleton import NTU25

NAME = "S001C002P003R002A050"


def ntu(folder, frames, name=NAME, end="\n", header=None):
    "A .skeleton file. frames: a list of lists of (id, joints (25,3)); what stands in the file is rounded to 7 decimals."
    lines = [str(len(frames) if header is None else header)]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for who, joints in bodies:
            lines += [f"{who} 0 1 1 1 1 0 0.01 -0.02 2", "25"]
            lines += [" ".join([*(f"{v:.7f}" for v in p), "277.4", "191.8", "1036.2", "519.1", "-0.2", "0.05", "0.96", "-0.12", "2"]) for p in joints]
    path = folder / f"{name}.skeleton"
    path.write_bytes((end.join(lines) + end).encode())
    return path


def bodies(*ids, seed=0, at=None, scale=.1):
    "Listed bodies, each with joints of its own; body i stands near x = i (or at[i])."
    rng = np.random.default_rng(seed)
    return [(72057594037930000 + i, rng.normal(scale=scale, size=(25, 3)) + [(at or {}).get(i, i), 0, 3]) for i in ids]


def where(r):
    "x of the first joint, (frames, slots), rounded to whole metres; an absent body is 0."
    return r.x[0, :, 0].round().astype(int).tolist()


# --- names ---

def test_names_and_classes():
    assert ntu_name(NAME) == dict(label=49, subject=3, camera=2, setup=1, repeat=2)
    assert len(NTU_CLASSES) == len(set(NTU_CLASSES)) == 120 and len(PKU_CLASSES) == len(set(PKU_CLASSES)) == 51
    assert [NTU_CLASSES[k] for k in (0, 22, 49, 57, 59, 60, 119)] == ["drink water", "hand waving", "punch/slap", "shaking hands", "walking apart", "put on headphone", "rock-paper-scissors"]
    assert NTU_PAIRS[:11] == list(range(49, 60)) and len(NTU_PAIRS) == 26 and len(PKU_PAIRS) == 8
    assert {PKU_CLASSES[k].split()[0] for k in PKU_PAIRS} == {"giving", "handshaking", "hugging", "kicking", "pat", "point", "punching/slapping", "pushing"}
    assert pku_name("0291-R") == dict(subject=291, camera=3, setup=1, part=1, recording=291)
    assert pku_name("A26N13-M") == dict(subject=13, camera=2, setup=1, part=2, recording=26)
    assert pku_name("F002V001C012L001")["label"] == 11 and pku_name("A001N002V003C051L010") | dict(repeat=10, label=50, camera=3) == pku_name("A001N002V003C051L010")


@pytest.mark.parametrize("name", ["", "S001C001P001R001A000", "S001C001P001R001A121", "S001C001P001R001A01", "S001C001P001R001A001x", "S001C001P001R001A٠٠١", None, 3])
def test_foreign_ntu_names(name):
    with pytest.raises(ReadError, match="expected a name like S001C002P003R002A013"):
        ntu_name(name)


@pytest.mark.parametrize("name", ["", "291-L.txt", "0291-X", "0291", "F291V004C012L001", "F291V001C000L001", "A01N02", "A1N2-L", NAME])
def test_foreign_pku_names(name):
    with pytest.raises(ReadError, match="expected a name like 0291-L"):
        pku_name(name)


# --- NTU ---

@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n"[:1] + ""])
def test_reads_a_clip(tmp_path, end):
    frames = [bodies(1, 2, seed=t) for t in range(4)]
    r = read_ntu(ntu(tmp_path, frames, end=end))
    assert r.x.shape == (3, 4, 25, 2) and r.x.dtype == np.float32 and r.fps == 30 and r.name == NAME and r.skeleton is NTU25
    assert r.meta == dict(label=49, subject=3, camera=2, setup=1, repeat=2, note="")
    np.testing.assert_allclose(r.x, np.array([[j for _, j in f] for f in frames]).transpose(3, 0, 2, 1), atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 9])
@pytest.mark.parametrize("rule", ["first", "energy", "track"])
def test_any_number_of_bodies(tmp_path, count, rule):
    r = read_ntu(ntu(tmp_path, [bodies(*range(1, count + 1), seed=t) for t in range(3)]), rule)
    assert r.x.shape == (3, 3, 25, 2) and [bool(r.x[..., m].any()) for m in range(2)] == [count > 0, count > 1]
    assert read_ntu(tmp_path / f"{NAME}.skeleton", rule, max_bodies=6).x.any((0, 1, 2)).sum() == min(count, {"first": 6, "energy": 6, "track": 6}[rule])


def test_no_frames_and_frames_without_bodies(tmp_path):
    r = read_ntu(ntu(tmp_path, []))
    assert r.x.shape == (3, 0, 25, 2) and r.frames == 0
    r = read_ntu(ntu(tmp_path, [[], bodies(1), []]))
    assert r.x.shape == (3, 3, 25, 2) and r.x.any((0, 2, 3)).tolist() == [False, True, False]
    assert not read_ntu(ntu(tmp_path, [[], []]), "energy").x.any()


def test_first_takes_the_listed_order_and_track_the_ids(tmp_path):
    path = ntu(tmp_path, [bodies(1, 2), bodies(2, 1), bodies(2, 1), bodies(1)])
    assert where(read_ntu(path)) == [[1, 2], [2, 1], [2, 1], [1, 0]]
    assert where(read_ntu(path, "track")) == [[1, 2], [1, 2], [1, 2], [1, 0]]


def test_track_keeps_the_longest_then_the_liveliest_then_the_first(tmp_path):
    film = lambda at: [bodies(*ids, at=at[t], scale=0) for t, ids in enumerate([(3, 1), (3, 2, 1), (2, 1), (1,)])]       # 1: four frames; 2 and 3: two frames
    still, moving = [{}] * 4, [{}, {}, {2: 5}, {}]
    path = ntu(tmp_path, film(still))
    assert where(read_ntu(path, "track")) == [[1, 3], [1, 3], [1, 0], [1, 0]]
    assert where(read_ntu(path, "track", max_bodies=3))[1] == [1, 3, 2] and where(read_ntu(path, "track", max_bodies=1)) == [[1]] * 4
    assert where(read_ntu(ntu(tmp_path, film(moving)), "track")) == [[1, 0], [1, 2], [1, 5], [1, 0]]
    twice = ntu(tmp_path, [bodies(4, 4, at={4: 2}), bodies(4, at={4: 2})])                      # an id twice in a frame: two bodies
    assert where(read_ntu(twice, "track")) == [[2, 2], [2, 0]]


def test_energy_keeps_the_two_that_move_among_four(tmp_path):
    still, moving = bodies(1, 2, 3), lambda t: bodies(4, at={4: 4 + 2 * t})
    path = ntu(tmp_path, [[*still, *moving(t)] for t in range(3)])
    assert [row[0] for row in where(read_ntu(path, "energy"))] == [4, 6, 8]
    path = ntu(tmp_path, [[*still, *bodies(5), *moving(t)] for t in range(3)])                  # the fifth is never looked at
    assert 4 not in np.array(where(read_ntu(path, "energy")))[0]


def test_more_lines_are_noted(tmp_path):
    path = ntu(tmp_path, [bodies(1)] * 3, header=2)
    r = read_ntu(path)
    assert r.frames == 2 and r.meta["note"] == "28 more line(s) after the last frame"


def test_settings_are_checked(tmp_path):
    path = ntu(tmp_path, [bodies(1)])
    with pytest.raises(ValueError, match="expected bodies 'first', 'energy' or 'track', got 'best'"):
        read_ntu(path, "best")
    with pytest.raises(ValueError, match="expected 1 to 100 slots"):
        read_ntu(path, max_bodies=0)


def lines(edit):
    "Damage of single lines: edit(list of lines)."
    def damage(good):
        rows = good.decode().split("\n")
        edit(rows)
        return "\n".join(rows).encode()
    return damage


def put(i, text):
    return lines(lambda rows: rows.__setitem__(i, text))


JOINT = " ".join(["1.0"] * 11 + ["2"])
BAD = {  # the good file: 3 frames of 2 bodies; line 1 frames, 2 bodies, 3 body, 4 joints, 5 to 29 the joints of the first body
    "empty": (b"", "the file is empty"),
    "white space": (b" \r\n\t\n", "the file is empty"),
    "cut within a number": (lambda good: good[:-20], "the file breaks off here"),
    "cut after a line": (lines(lambda rows: rows.__delitem__(slice(60, None))), "the file breaks off after line"),
    "cut after the first line": (b"3\n", "the file breaks off after line 1, where the number of bodies in frame 0 of 3 should come"),
    "cut before the joints": (lines(lambda rows: rows.__delitem__(slice(3, None))), "where the number of joints of body 0 in frame 0 should come"),
    "binary": (bytes(range(256)) * 20, "expected the number of frames"),
    "zip": (b"PK\x03\x04" + b"\x00" * 100, "expected the number of frames"),
    "JSON": (b'{"label": 1}', "line 1: expected the number of frames, got '{\"label\": 1}'"),
    "a picture's header": (b"\x89PNG\r\n\x1a\n", "expected the number of frames"),
    "frames below zero": (put(0, "-3"), "line 1: expected the number of frames, got '-3'"),
    "frames and a half": (put(0, "3.5"), "expected the number of frames"),
    "10**12 frames": (put(0, str(10**12)), f"line 1: 1000000000000 frames, expected at most {LARGEST_NTU}"),
    "10**200 frames": (put(0, str(10**200)), "expected the number of frames"),
    "too many frames": (put(0, "300"), "where the number of bodies in frame 3 of 300 should come"),
    "10**12 bodies": (put(1, str(10**12)), "the number of joints of body 2 in frame 0"),
    "bodies: a word": (put(1, "two"), "line 2: expected the number of bodies in frame 0 of 3, got 'two'"),
    "20 joints": (put(3, "20"), "line 4, frame 0, body 0: expected 25 joints (layout ntu25), got 20"),
    "10**12 joints": (put(3, str(10**12)), "expected 25 joints (layout ntu25), got 1000000000000"),
    "a joint is missing": (lines(lambda rows: rows.__delitem__(10)), "expected"),
    "a joint of 11 numbers": (put(6, JOINT[:-2]), "line 7, frame 0, body 0, joint 2 (neck): expected 12 numbers, got 11"),
    "a joint of 3 numbers": (put(6, "1.0 2.0 3.0"), "joint 2 (neck): expected 12 numbers, got 3"),
    "an empty line": (put(6, ""), "joint 2 (neck): expected 12 numbers, got 0"),
    "NaN": (put(6, JOINT.replace("1.0", "nan", 1)), "line 7, frame 0, body 0, joint 2 (neck): expected three finite numbers first, got 'nan 1.0"),
    "infinite": (put(33, JOINT.replace("1.0", "-inf", 2)), "expected three finite numbers"),
    "too large": (put(6, JOINT.replace("1.0", "1e300", 1)), "expected three finite numbers"),
    "a word for a number": (put(6, JOINT.replace("1.0", "left", 1)), "expected three finite numbers first, got 'left 1.0"),
    "two dots": (put(6, JOINT.replace("1.0", "1.0.0", 1)), "expected three finite numbers"),
    "hexadecimal": (put(6, JOINT.replace("1.0", "0x10", 1)), "expected three finite numbers"),
    "underscores": (put(6, JOINT.replace("1.0", "1_0", 1)), "expected three finite numbers"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_ntu_files(tmp_path, what):
    path = ntu(tmp_path, [bodies(1, 2, seed=t) for t in range(3)])
    content, says = BAD[what]
    path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    start = time.process_time()
    for rule in ("first", "energy", "track"):
        with pytest.raises(ReadError) as error:
            read_ntu(path, rule)
        assert str(path) in str(error.value) and says in str(error.value) and error.value.remedy and len(str(error.value)) < 600, str(error.value)
    assert time.process_time() - start < 1


def test_paths_that_are_no_files(tmp_path):
    for name, says in ((NAME, "cannot be read"), ("dir", "is not a file"), ("pipe", "is not a file")):
        path = tmp_path / name / f"{NAME}.skeleton" if name != NAME else tmp_path / f"{NAME}.skeleton"
        if name == "dir":
            path.mkdir(parents=True)
        if name == "pipe":
            path.parent.mkdir()
            os.mkfifo(path)                              # opening it would wait for ever
        with pytest.raises(ReadError, match=says):
            read_ntu(path)
    with pytest.raises(ReadError, match="expected a name like"):
        read_ntu(ntu(tmp_path, [bodies(1)], "walking"))


def test_a_file_that_is_far_too_large(tmp_path):
    path = tmp_path / f"{NAME}.skeleton"
    with open(path, "wb") as f:
        f.truncate(LARGEST_TEXT + 1)                     # takes no room on the disk
    with pytest.raises(ReadError, match="expected at most 34"):
        read_ntu(path)
    path.write_bytes(b"0\n" * 3 * 10**6)
    with pytest.raises(ReadError, match="more than 2097152 lines"):
        read_ntu(path)


def test_numbers_of_every_form(tmp_path):
    "Exponents, signs, long and short numbers come out as float() has them."
    rng = np.random.default_rng(0)
    words = [f"{v:.{p}f}" for v, p in zip(rng.normal(scale=10. ** rng.integers(-4, 4, 45)), rng.integers(0, 12, 45))] + [f"{v!r}" for v in rng.normal(size=12).tolist()]
    words += ["1e-05", "-2.5E+2", "0", "-0", ".5", "5.", "+3", "00012.50", "1234567890.25", "-0.000000000000000000001", "0." + "3" * 50, "12345678901234567890", "-1.5e3", "7", "-7", "0.1", "1e-310", "-.25"]
    points = np.array(words).reshape(25, 3)
    path = ntu(tmp_path, [bodies(1)])
    rows = path.read_text().split("\n")
    rows[4:29] = [" ".join([*p, *["0"] * 8, "2"]) for p in points]
    path.write_text("\n".join(rows))
    np.testing.assert_allclose(read_ntu(path).x[:, 0, :, 0].T, points.astype(float), rtol=1e-6, atol=1e-38)


# --- the list of missing samples ---

def test_missing_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"2 of the captured samples have missing data.\r\nplease ignore them.\r\n\r\nS001C002P005R002A008\r\nS001C002P006R001A008.skeleton\r\n")
    assert read_missing(path) == {"S001C002P005R002A008", "S001C002P006R001A008"}
    for content, says in ((b"", "empty"), (b"nothing here\n", "holds no name"), (b"S001C002P005R002A008\nwhat\n", "line 2: expected a name"), (b"\x00\xff" * 50, "holds no name")):
        path.write_bytes(content)
        with pytest.raises(ReadError, match=says):
            read_missing(path)


# --- PKU-MMD ---

def pku(folder, x, rows, name="0002-L"):
    "A recording x (T,2,25,3) and its label rows; returns the two paths."
    (folder / "labels").mkdir(exist_ok=True)
    skeleton, labels = folder / f"{name}.txt", folder / "labels" / f"{name}.txt"
    skeleton.write_text("\n".join(" ".join(f"{v:.9g}" for v in r.ravel()) for r in x) + "\n")
    labels.write_text("\n".join(",".join(map(str, r)) for r in rows) + "\n")
    return skeleton, labels


def film(frames=40):
    "Frame t, counted from 1, has x = t in every joint; the second body is absent before frame 11."
    x = np.zeros((frames, 2, 25, 3))
    x[..., 0] = np.arange(1, frames + 1)[:, None, None]
    x[:, :, :, 2] = 3
    x[:10, 1] = 0
    return x


def test_cuts_instances(tmp_path):
    out = read_pku(*pku(tmp_path, film(), [(12, 3, 8, 2), (51, 9, 12, 1)]))
    assert [r.name for r in out] == ["F002V001C012L001", "F002V001C051L002"] and [r.frames for r in out] == [6, 4]
    assert out[0].meta == dict(subject=2, camera=1, setup=1, part=1, recording=2, label=11, repeat=1, start=3, end=8, confidence=2, note="")
    assert out[0].x.shape == (3, 6, 25, 2) and out[0].x.dtype == np.float32 and out[0].x[0, :, 0, 0].tolist() == [3, 4, 5, 6, 7, 8]   # both ends counted
    assert not out[0].x[..., 1].any() and out[1].x[0, :, 0, 1].tolist() == [0, 0, 11, 12]                                      # the second body appears
    assert all(pku_name(r.name)[k] == r.meta[k] for r in out for k in ("label", "subject", "camera", "repeat", "recording"))
    two = read_pku(*pku(tmp_path, film(), [(1, 1, 2, 2)], "A26N13-R"))[0]
    assert two.name == "A026N013V003C001L001" and (two.meta["subject"], two.meta["recording"], two.meta["camera"], two.meta["part"]) == (13, 26, 3, 2)


def test_labels_that_start_at_zero_and_other_odd_rows(tmp_path):
    rows = [(1, 0, 5, 2), (2, 30, 60, 2), (3, 20, 10, 2), (4, 50, 60, 2), (5, 0, 0, 2)]
    out = read_pku(*pku(tmp_path, film(), rows))
    assert [r.frames for r in out] == [5, 11, 0, 0, 0] and out[0].x[0, 0, 0, 0] == 1
    assert [bool(r.meta["note"]) for r in out] == [True] * 5 and "taken from the first frame" in out[0].meta["note"] and "after the 40 frames" in out[1].meta["note"]


def test_long_instances(tmp_path):
    paths = pku(tmp_path, film(311), [(1, 1, 311, 2), (2, 1, 300, 2), (3, 2, 302, 2)])
    assert [r.x[0, [0, -1], 0, 0].tolist() for r in read_pku(*paths)] == [[6, 305], [1, 300], [2, 301]]            # the middle 300
    assert [r.frames for r in read_pku(*paths, longest=None)] == [311, 300, 301]
    assert read_pku(*paths, longest=4)[1].x[0, :, 0, 0].tolist() == [149, 150, 151, 152]
    assert [r.x[0, [0, -1], 0, 0].tolist() for r in read_pku(*paths, rule="cmd")] == [[2, 301], [2, 300], [3, 302]]   # one frame later, the first 300
    with pytest.raises(ValueError, match="expected rule 'released' or 'cmd'"):
        read_pku(*paths, rule="mine")


def test_no_label_row_and_no_frame(tmp_path):
    skeleton, labels = pku(tmp_path, film(), [])
    with pytest.raises(ReadError, match="the file is empty"):
        read_pku(skeleton, labels)


ROW = " ".join(["1.5"] * 150)
BAD_PKU = {
    "empty": ("", "the file is empty"), "binary": (b"\x80\x04\x95\xff" * 50, "line 1: expected 150 numbers, got"), "a picture": (b"\x89PNG\r\n\x1a\n", "expected 150 numbers"),
    "cut": (f"{ROW}\n{ROW[:300]}", "line 2: expected 150 numbers (2 bodies, 25 joints, x y z), got 75, the last line: the file breaks off"),
    "cut within a number": (f"{ROW}\n{ROW} 1.5\n", "line 2: expected 150 numbers (2 bodies, 25 joints, x y z), got 151"),
    "75 numbers a line": (" ".join(["1"] * 75) + "\n", "got 75"), "the total fits, the lines do not": (" ".join(["1"] * 149) + "\n" + " ".join(["1"] * 151), "line 1: expected 150 numbers (2 bodies, 25 joints, x y z), got 149"),
    "NaN": (ROW.replace("1.5", "nan", 1), "frame 0, person 0, joint 0 (pelvis): coordinate x is nan"), "infinite": (ROW + "\n" + ROW[:-3] + "inf", "frame 1, person 1"), "too large": (ROW.replace("1.5", "1e300", 1), "is inf"),
    "a word": (f"{ROW}\n" + ROW.replace("1.5", "x", 1), "line 2: expected 150 numbers, got 'x 1.5"), "commas": (ROW.replace(" ", ","), "line 1"), "JSON": ('{"a": 1}', "line 1"),
    "an NTU file": ("3\n1\n72057594037931101 0 1 1 1 1 0 0.02 0.05 2\n25\n", "line 1: expected 150 numbers (2 bodies, 25 joints, x y z), got 1")}


@pytest.mark.parametrize("what", BAD_PKU)
def test_bad_pku_skeletons(tmp_path, what):
    skeleton, labels = pku(tmp_path, film(), [(1, 1, 2, 2)])
    content, says = BAD_PKU[what]
    skeleton.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReadError) as error:
        read_pku(skeleton, labels)
    assert str(skeleton) in str(error.value) and says in str(error.value) and error.value.remedy and len(str(error.value)) < 600, str(error.value)


@pytest.mark.parametrize("content, says", [(b"", "empty"), (b"1,2,3\n", "line 1: expected 4 whole numbers between commas"), (b"1,2,3,2\n0,2,3,2\n", "line 2: action 0, expected 1 to 51"), (b"52,2,3,2", "action 52"),
                                           (b"1 2 3 2", "line 1"), (b"1,2,3,2,5", "line 1"), (b"1,-2,3,2", "line 1"), (b"1,2.5,3,2", "line 1"), (b"1,2,1000000000000,2", "line 1"), (b"\x80\x04\x95", "line 1"), (b"nan,1,2,3", "line 1")])
def test_bad_pku_labels(tmp_path, content, says):
    skeleton, labels = pku(tmp_path, film(), [(1, 1, 2, 2)])
    labels.write_bytes(content)
    for read in (lambda: read_pku_labels(labels), lambda: read_pku(skeleton, labels)):
        with pytest.raises(ReadError) as error:
            read()
        assert str(labels) in str(error.value) and says in str(error.value)


def test_labels_of_another_recording(tmp_path):
    (skeleton, _), (_, labels) = pku(tmp_path, film(), [(1, 1, 2, 2)]), pku(tmp_path, film(), [(1, 1, 2, 2)], "0003-L")
    with pytest.raises(ReadError, match="labels of another recording than 0002-L.txt"):
        read_pku(skeleton, labels)
    with pytest.raises(ReadError, match="cannot be read"):
        read_pku(skeleton, tmp_path / "0002-L" / "0002-L.txt")


# --- numbers and recordings from outside ---

@pytest.mark.outside
@pytest.mark.parametrize("rule, file", [("first", "read_skeleton_ntu"), ("energy", "read_skeleton_ntu_energy")])
def test_ntu_like_the_released_code(fixtures_dir, fixture, tmp_path, rule, file):
    told = fixture(file)
    assert len(told.files) == 4
    for name in told.files:
        path = tmp_path / f"{name[:20]}.skeleton"
        shutil.copy(fixtures_dir / f"{name}.skeleton", path)
        np.testing.assert_allclose(read_ntu(path, rule).x, told[name], atol=1e-6)


@pytest.mark.outside
def test_pku_like_the_released_code(fixtures_dir, fixture, tmp_path):
    "The released scripts write an intermediate text, which is turned back into the owners' layout here."
    told, rows = fixture("read_skeleton_pku"), iter((fixtures_dir / "F002V001C012L001_pku.skeleton").read_text().split("\n"))
    x = np.zeros((int(next(rows)), 2, 25, 3))
    for frame in x:
        count = int(next(rows))
        next(rows), next(rows)
        for body in frame[:count]:
            body[:] = [next(rows).split() for _ in range(25)]
    out = read_pku(*pku(tmp_path, np.concatenate([x * 0 + 9, x]), [(12, len(x) + 1, 2 * len(x), 2)]))
    assert out[0].name == "F002V001C012L001"
    np.testing.assert_allclose(out[0].x, told["short"], atol=1e-6)
    long = np.zeros((int(told["long_T"]), 2, 25, 3))
    long[5] = told["long_first_frame"].transpose(2, 1, 0)                 # 311 frames: 5 are cut at the front, 6 at the end
    out = read_pku(*pku(tmp_path, long, [(1, 1, len(long), 2)]))[0]
    assert out.x.shape == tuple(told["long_shape"])
    np.testing.assert_allclose(out.x[:, 0], told["long_first_frame"], atol=1e-6)


def plain(path):
    "(3,T,25,2): the first two bodies, line by line."
    with open(path) as f:
        x = np.zeros((3, int(f.readline()), 25, 2))
        for t in range(x.shape[1]):
            for m in range(int(f.readline())):
                f.readline()
                for v in range(int(f.readline())):
                    p = [float(n) for n in f.readline().split()[:3]]
                    if m < 2:
                        x[:, t, v, m] = p
    return x


@pytest.mark.outside
def test_real_ntu_clips(data_dir, tmp_path):
    with tarfile.open(data_dir / "ntu-rgbd-samples.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    missing = {"120" in p.name: read_missing(p) for p in tmp_path.rglob("*missing_skeletons.txt")}
    assert len(missing[False]) == 302 and len(missing[True]) == 535 and missing[False] < missing[True]
    clips = {p: read_ntu(p) for p in sorted(tmp_path.rglob("*.skeleton"))}
    assert len(clips) == 51 and all(r.frames and r.meta["note"] == "" for r in clips.values())
    nobody = {r.name for r in clips.values() if not r.x.any()}
    assert len(nobody) == 4 and nobody <= missing[False]
    for path, r in clips.items():
        np.testing.assert_allclose(r.x, plain(path), atol=1e-6)
        energy, track = read_ntu(path, "energy", 4), read_ntu(path, "track", 4)
        assert energy.x.shape == track.x.shape == (3, r.frames, 25, 4) and np.isclose(np.abs(energy.x).sum(), np.abs(track.x).sum(), rtol=1e-5)
        seen = r.x[:, :, :, 0][:, r.x[..., 0].any((0, 2))]
        assert not seen.size or (.5 < np.median(seen[2]) < 6 and np.abs(seen).max() < 12)         # people some metres from the camera


@pytest.mark.outside
def test_real_pku_recordings(data_dir, tmp_path):
    "218 recordings of Part I: counts of the instances, of the two-person classes, and of the official split."
    with tarfile.open(data_dir / "pku-mmd-part1-labels.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    labels, train = next(tmp_path.rglob("Train_Label_PKU_final")), next(tmp_path.rglob("cross-subject.txt")).read_text().split("Validataion")[0]
    frames, classes, sides, views, zero, recordings = [], collections.Counter(), collections.Counter(), collections.Counter(), 0, 0
    with tarfile.open(data_dir / "pku-mmd-part1-skeletons.tar.xz") as archive:
        for member in archive:
            if not member.isfile():
                continue
            archive.extract(member, tmp_path / "s", filter="data")
            path, recordings = tmp_path / "s" / member.name, recordings + 1
            for r in read_pku(path, labels / path.name):
                assert r.frames == r.meta["end"] - r.meta["start"] + 1 and r.meta["note"] == ""
                frames.append(r.frames)
                zero += not r.x.any((0, 2, 3)).all()
                classes[r.meta["label"]] += 1
                if r.meta["label"] in PKU_PAIRS:
                    sides[path.stem in train] += 1
                    views[r.meta["camera"] == 2] += 1
            path.unlink()
    assert recordings == 218 and len(frames) == 1772 and (min(frames), max(frames)) == (22, 264) and np.median(frames) == 79
    assert sum(classes[k] for k in PKU_PAIRS) == 1705 and all(211 <= classes[k] <= 216 for k in PKU_PAIRS)
    assert sides == {True: 1510, False: 195} and views == {False: 1139, True: 566} and zero == 44
