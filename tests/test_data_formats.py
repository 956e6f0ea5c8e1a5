"""Readers: what they read, and what they say about a file that is not right."""

import json

import numpy as np
import pytest

from skelnb.data import ReadError, Recording, read_ucla, read_ucla_folder
from skelnb.data.formats import UCLA_ACTIONS, UCLA_CLASSES, find_copies
from skelnb.skeleton import NTU25, UCLA20, LayoutError


def ucla(folder, name="a08_s03_e01_v02", label=7, frames=4, seed=0, **change):
    "A made-up file in the JSON layout of NW-UCLA."
    x = np.random.default_rng(seed).normal(size=(frames, 20, 3)).round(4).tolist()
    content = dict(file_name=name, skeletons=x, label=label) | change
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_reads_a_file(tmp_path):
    path = ucla(tmp_path)
    r = read_ucla(path)
    assert r.x.shape == (3, 4, 20, 1) and r.x.dtype == np.float32 and r.fps == 30 and r.skeleton is UCLA20
    assert r.meta == dict(label=6, subject=3, camera=2, setup=1, repeat=1) and UCLA_CLASSES[6] == "donning"
    raw = np.array(json.loads(path.read_text())["skeletons"])
    np.testing.assert_allclose(r.x[:, 2, 5, 0], raw[2, 5], rtol=1e-6)


@pytest.mark.parametrize("frames", [0, 1])
def test_short_files_are_fine(tmp_path, frames):
    assert read_ucla(ucla(tmp_path, frames=frames)).x.shape == (3, frames, 20, 1)


def test_every_action_has_its_label(tmp_path):
    for i, action in enumerate(UCLA_ACTIONS):
        assert read_ucla(ucla(tmp_path, f"a{action:02d}_s01_e00_v01", label=i + 1)).meta["label"] == i


NAN = [[[0.0, 0.0, 1.0]] * 20] * 2 + [[[0.0, 0.0, 1.0]] * 7 + [[0.0, float("nan"), 1.0]] + [[0.0, 0.0, 1.0]] * 12]
BAD = {  # what is wrong: (what to write into the file, what the message must say)
    "empty": (b"", "empty"),
    "white space": (b" \n ", "empty"),
    "truncated": (lambda good: good[: len(good) // 2], "breaks off"),
    "truncated at the end": (lambda good: good[:-1], "breaks off"),
    "not JSON": (b"40\n1\n7205 0 0", "is not JSON"),
    "binary": (b"\x80\x04\x95\xff\xfe", "is not text"),
    "other JSON": (b'{"keypoints": [1, 2]}', "expected an object with"),
    "a list": (b"[1, 2, 3]", "found list"),
    "a number": (b"3", "found int"),
    "deeply nested": (b"[" * 200000, "cannot be understood"),
    "huge number": (b'{"label": 7, "skeletons": ' + b"9" * 6000 + b"}", "cannot be understood"),
    "frames missing": (dict(skeletons=None), "list of frames"),
    "no label": (dict(label=None), "label"),
    "label of another action": (dict(label=3), "its name says action 8, label 7 (donning)"),
    "another file's name": (dict(file_name="a08_s03_e01_v01"), "calls itself"),
    "17 joints": (dict(skeletons=[[[0.0, 0.0, 0.0]] * 17]), "frame 0: expected 20 joints (layout ucla20), got 17"),
    "a joint of 2 numbers": (dict(skeletons=[[[0.0, 0.0, 1.0]] * 20, [[0.0, 0.0]] * 20]), "frame 1, joint 0 (pelvis)"),
    "text for a number": (dict(skeletons=[[["0", 0.0, 1.0]] * 20]), "expected 3 numbers"),
    "NaN": (dict(skeletons=NAN), "frame 2, person 0, joint 7 (left_hand): coordinate y is nan"),
    "too large": (dict(skeletons=[[[1e300, 0.0, 1.0]] * 20]), "coordinate x is inf"),
    "a whole number beyond float": (dict(skeletons=[[[10**400, 0.0, 1.0]] * 20]), "too large"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_name_file_place_and_remedy(tmp_path, what):
    content, says = BAD[what]
    path = ucla(tmp_path, **(content if isinstance(content, dict) else {}))
    if callable(content):
        content = content(path.read_bytes())
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ReadError) as error:
        read_ucla(path)
    assert str(path) in str(error.value) and says in str(error.value) and error.value.remedy and len(str(error.value)) < 600


def test_missing_file_and_foreign_name(tmp_path):
    with pytest.raises(ReadError, match="cannot be read"):
        read_ucla(tmp_path / "a01_s01_e00_v01.json")
    with pytest.raises(ReadError, match="expected a name like"):
        read_ucla(ucla(tmp_path, "walking"))


def test_folder_tells_copies_and_bad_files(tmp_path):
    folder = tmp_path / "nw-ucla" / "all_sqe"
    folder.mkdir(parents=True)
    ucla(folder, "a02_s01_e00_v02", 2, seed=1)
    ucla(folder, "a02_s01_e00_v03", 2, seed=1)
    ucla(folder, "a03_s01_e00_v01", 3, seed=2)
    with pytest.warns(UserWarning, match="1 of 3 files are copies.*a02_s01_e00_v03 = a02_s01_e00_v02"):
        found = read_ucla_folder(tmp_path)
    assert [r.meta["copy_of"] for r in found] == ["", "a02_s01_e00_v02", ""]
    ucla(folder, "a05_s01_e00_v01", 9)
    (folder / "notes.json").write_text("{}")
    with pytest.raises(ReadError, match="its label is 9"):
        read_ucla_folder(folder)
    skipped = {}
    with pytest.warns(UserWarning):
        assert len(read_ucla_folder(folder, skipped)) == 3
    assert list(skipped) == ["a05_s01_e00_v01.json", "notes.json"]


def test_folders_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, says in ((tmp_path / "empty", "holds no file"), (tmp_path / "none", "no such folder"), (ucla(tmp_path), "not a folder")):
        with pytest.raises(ReadError, match=says):
            read_ucla_folder(folder)


def test_recording_checks_its_shape():
    with pytest.raises(ReadError, match=r"expected an array \(C,T,V,M\)"):
        Recording(np.zeros((3, 5, 25)))
    with pytest.raises(ReadError, match="expected 25 joints of the layout ntu25, got 20"):
        Recording(np.zeros((3, 5, 20, 1)), skeleton=NTU25)
    assert Recording(np.zeros((3, 0, 25, 2)), skeleton=NTU25).frames == 0


def test_copies_are_found_by_content_only():
    a = np.ones((3, 2, 20, 1), "f4")
    rs = [Recording(a, name="a"), Recording(a * 2, name="b"), Recording(a.copy(), name="c"), Recording(a[:, :0], name="d"), Recording(a[:, :0], name="e"), Recording(a, name="f")]
    assert find_copies(rs) == {"c": "a", "f": "a"}
