"""Layouts of other tools: read, checked, drawn, mapped; folders in them that the studio writes."""

import json
import xml.dom.minidom

import numpy as np
import pytest

from skelnb.data.layouts import (STUDIO_LAYOUTS, draw_skeleton, guess_bones, guess_mirror, guess_pairs, make_layout, propose_mapping, read_layout, save_layout, studio_layout,
                                 to_studio_layout, write_custom)
from skelnb.data.synthetic import StudioError, studio
from skelnb.skeleton import COCO17, LAYOUTS, MEDIAPIPE33, NTU25, UCLA20, LayoutError

MIXAMO = ("Hips Spine Spine1 Spine2 Neck Head LeftShoulder LeftArm LeftForeArm LeftHand RightShoulder RightArm RightForeArm RightHand "
          "LeftUpLeg LeftLeg LeftFoot LeftToeBase RightUpLeg RightLeg RightFoot RightToeBase").split()
OPENPOSE = "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel".split()


@pytest.fixture(scope="module")
def take():
    return studio(1, 1, 1, 1, ["jumping jack"], 0, 0, sensor=False)[0]


# names

@pytest.mark.parametrize("names, pairs", [
    (["left_knee", "knee", "right_knee"], [(0, 2)]), (["LKNE", "RKNE", "LowerBack"], [(0, 1)]), (["knee.L", "knee.R"], [(0, 1)]), (["l_hip", "r_hip", "lower_leg"], [(0, 1)]),
    (["lhip", "rhip", "legs"], [(0, 1)]), (["Bip01 L Hand", "Bip01 R Hand"], [(0, 1)]), (["RHip", "LHip"], [(1, 0)]), (["mixamorig:LeftArm", "mixamorig:RightArm"], [(0, 1)]),
    (["leftover", "legs", "l", "root"], []), (["HandLeft", "HandRight", "Head"], [(0, 1)]), (["hip_l", "hip_r", "hip"], [(0, 1)])])
def test_pairs_by_name(names, pairs):
    assert guess_pairs(names) == pairs


def test_pairs_of_our_own_layouts_are_found_by_their_names():
    for s in LAYOUTS.values():
        assert sorted(guess_pairs(s.names)) == sorted(s.pairs)


def flat(names, parent=0):
    return make_layout("rig", list(names), [parent] * len(names))


def test_mocap_names_a_joint_by_its_bone():
    m = propose_mapping(flat(["mixamorig:" + n for n in MIXAMO]))
    said = {n: list(r) for n, r in m.recipes.items()}
    for ours, own in dict(left_shoulder="LeftArm", left_elbow="LeftForeArm", left_wrist="LeftHand", left_hip="LeftUpLeg", left_knee="LeftLeg", left_ankle="LeftFoot", left_foot="LeftToeBase",
                          pelvis="Hips", spine="Spine1", neck="Neck", head="Head").items():
        assert said[ours] == ["mixamorig:" + own] and m.how[ours] == "word"
    assert m.unused == ["mixamorig:" + n for n in ("Spine", "Spine2", "LeftShoulder", "RightShoulder")]


def test_openpose_and_our_own_names():
    m = propose_mapping(flat(OPENPOSE))
    assert m.recipes["pelvis"] == {"MidHip": 1} and m.recipes["left_foot"] == {"LBigToe": 1} and m.recipes["head"] == {"LEar": .5, "REar": .5} and not m.missing
    for s in LAYOUTS.values():
        m, own = propose_mapping(s, NTU25), s.map_to(NTU25)
        np.testing.assert_array_equal(m.matrix, own.matrix)
    assert set(propose_mapping(NTU25).how.values()) == {"name"}


@pytest.mark.parametrize("layout", STUDIO_LAYOUTS)
@pytest.mark.parametrize("target", [NTU25, UCLA20], ids=lambda s: s.name)
def test_the_proposal_finds_the_joints_that_the_layout_was_made_from(layout, target, take):
    m = propose_mapping(layout, target)
    assert not m.missing and "parent" not in m.how.values()
    back, x = m(to_studio_layout(take.x, layout)), take.x[:, :, [NTU25.index(n) for n in target.names]]
    off = np.linalg.norm(back - x, axis=0).mean((0, 2))
    by_name = [off[i] for i, n in enumerate(target.names) if m.how[n] == "word" or m.how[n] == "name"]
    assert max(by_name) < .11 and np.median(by_name) < .02 and off.max() < .22, dict(zip(target.names, off.round(3)))
    assert m.table().shape == (len(target), 2) and (m.table()["how"] != "").all()


def test_what_is_told_wins_and_what_is_missing_is_filled_as_asked():
    s = make_layout("arms", ["c", "LeftShoulder", "LeftElbow", "RightShoulder", "RightElbow", "x"], [0, 0, 1, 0, 3, 0])
    m = propose_mapping(s, names={"c": "spine_shoulder", "x": "head"})
    assert m.how["head"] == "told" and m.recipes["head"] == {"x": 1} and m.how["left_elbow"] == "word"
    assert m.how["left_wrist"] == "parent" and m.recipes["left_wrist"] == {"LeftElbow": 1} and not m.missing
    z = propose_mapping(s, names={"c": "spine_shoulder", "LeftElbow": None}, fill="zero")
    assert z.how["left_elbow"] == "zero" and "left_wrist" in z.missing and not z.matrix[NTU25.index("left_wrist")].any() and "LeftElbow" in z.unused
    y = z(np.ones((3, 4, 6, 1), "f4"))
    assert y.shape == (3, 4, 25, 1) and not y[:, :, NTU25.index("left_knee")].any()


@pytest.mark.parametrize("bad, message", [
    (dict(names={"nobody": "head"}), "has no joint 'nobody'"), (dict(names={"a": "nose tip"}), "no joint is known as 'nose tip'"), (dict(names={"a": "head", "b": "head"}), "said of two joints"),
    (dict(names=["head"]), "own name: our name"), (dict(fill="mean"), 'expected "parent" or "zero"'), ({}, "no joint of blob")])
def test_a_mapping_that_cannot_be(bad, message):
    s = make_layout("blob", ["a", "b", "c"], [0, 0, 0], shoulders=(1, 2))
    with pytest.raises(LayoutError, match=message): propose_mapping(s, **bad)


def test_units_and_axes_go_through_the_map(take):
    s, up = studio_layout("smpl22"), studio_layout("smpl22", "z")
    x = to_studio_layout(take.x, "smpl22")
    z = np.einsum("cd,dtvm->ctvm", up.upright.T, x)
    np.testing.assert_allclose(propose_mapping(up)(z, coordinates=0), propose_mapping(s)(x), atol=1e-6)


# files

def test_a_layout_goes_to_a_file_and_back(tmp_path):
    for s in [*LAYOUTS.values(), *map(studio_layout, STUDIO_LAYOUTS)]:
        assert read_layout(save_layout(s, tmp_path / f"{s.name}.json")) == s and read_layout(s.name) == s and read_layout(s) is s
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{n}.json" for n in [*LAYOUTS, *STUDIO_LAYOUTS])
    with pytest.raises(LayoutError, match="cannot be written"): save_layout(NTU25, tmp_path / "no" / "x.json")


def test_the_short_form_is_enough(tmp_path):
    (tmp_path / "my rig.json").write_text(json.dumps(dict(joints=["Hips", "LShoulder", "RShoulder"], parents=[None, "Hips", 0])), encoding="utf-8-sig")
    s = read_layout(tmp_path / "my rig.json")
    assert (s.name, s.parents, s.pairs, s.shoulders, s.centre, s.up) == ("my rig", (0, 0, 0), ((1, 2),), (1, 2), 0, "y")
    bones = read_layout(dict(joints=["a", "LShoulder", "RShoulder"], bones=[["LShoulder", "a"], [2, 1]], root="RShoulder"))
    assert bones.parents == (1, 2, 2) and bones.centre == 2
    turned = read_layout(dict(names=list(NTU25.names), parents=list(NTU25.parents), root="pelvis"))
    assert turned.centre == 0 and set(map(frozenset, turned.bones)) == set(map(frozenset, NTU25.bones))


SOME = dict(joints=["c", "left_shoulder", "right_shoulder"], parents=[0, 0, 0])


@pytest.mark.parametrize("change, message", [
    (dict(parents=[0, 0]), "expected 3 parents, one a joint, got 2"), (dict(parents=[1, 1, 3]), "count from 1"), (dict(parents=[0, 0, "d"]), "'d' is not one of the joints"),
    (dict(parents=[0, 2, 1]), "circle"), (dict(parents=[0, 1, 0]), "one root"), (dict(parents=[0, 0, 7]), "indices run from 0 to 2"), (dict(joints=["c", "c", "d"]), "twice: c"),
    (dict(joints=["c", "", "d"]), "list of names"), (dict(joints="abc"), "list of names"), (dict(joints=["a", "b", "c"]), "no joint is named as a shoulder"), (dict(colour=1), "unknown keys"),
    (dict(parents=[0.0, 0, 0]), "whole numbers"), (dict(pairs=[[1]]), "two indices"), (dict(up="w"), "up: expected"), (dict(pairs=[[1, 2], [0, 1]]), "two of the left-right pairs"), (dict(root="z"), "root"),
    (dict(shoulders=[1, 9]), "indices run"), (dict(pairs=3), "a list"), (dict(parents={"a": 1}), "got dict"), (dict(joints=None, names=None), "expected")])
def test_layouts_that_are_none(change, message, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({**SOME, **change}))
    with pytest.raises(LayoutError, match=message) as e: read_layout(tmp_path / "x.json")
    assert "x.json" in str(e.value)


def test_files_that_are_no_layouts(tmp_path):
    for name, text, message in (("a", "{", "not readable as JSON"), ("b", "[1]", "JSON object"), ("c", "{}", '"joints"'), ("d", '{"joints": ["a"]}', '"parents"'), ("e", "[" * 100000, "not readable"),
                                ("f", '{"joints": ["a", "b"], "bones": [[0]]}', "pairs of joints"), ("g", '{"joints": ["a", "b"], "bones": []}', "no bones lead"), ("h", " " * 2**21, "too much")):
        (tmp_path / name).write_text(text)
        with pytest.raises(LayoutError, match=message): read_layout(tmp_path / name)
    with pytest.raises(LayoutError, match="folder"): read_layout(tmp_path)
    with pytest.raises(LayoutError, match="Known names: ntu25"): read_layout("ntu26")
    with pytest.raises(LayoutError, match="got int"): read_layout(3)
    with pytest.raises(LayoutError): read_layout("a\0b")


# pictures

def test_pictures_are_svg_and_names_stay_text(take):
    s = make_layout("<b>&", ["<script>alert(1)</script>", "left_shoulder", 'right_shoulder', '"x" & y'], [0, 0, 0, 0])
    for d in (draw_skeleton(s), draw_skeleton(NTU25, take.x), propose_mapping(s).draw(), propose_mapping("39").draw(), draw_skeleton("coco17", np.random.rand(17, 2)),
              draw_skeleton(NTU25, np.full((25, 3), np.nan)), propose_mapping(NTU25).draw(np.where(np.arange(25)[:, None] < 5, np.nan, np.ones((25, 3))))):
        xml.dom.minidom.parseString(d.svg)
        assert "<script" not in d.svg and len(d.svg) < 40_000 and "nan" not in d.svg.replace("nance", "")
    assert "image/svg+xml" in propose_mapping(UCLA20)._repr_mimebundle_()
    with pytest.raises(LayoutError, match=r"expected \(25, 3\)"): draw_skeleton(NTU25, np.zeros((20, 3)))


# bones from movement

@pytest.mark.parametrize("layout", ["nite15", "smpl22", "mocap31"])
def test_bones_are_found_by_their_constant_length(layout):
    s = studio_layout(layout)
    x = np.concatenate([to_studio_layout(r.x, layout) for r in studio(2, 1, 1, 1, ["jumping jack", "throw", "march", "pick up"], 0, 0, sensor=False)], 1)
    parents = guess_bones(x, s.centre)
    true, got = ({frozenset(b) for b in enumerate(p) if b[0] != b[1]} for p in (s.parents, parents))
    assert len(got) == len(s) - 1 and len(true & got) >= .6 * len(true), sorted(tuple(s.names[j] for j in b) for b in got - true)
    x[:, ::3, 4] = np.nan
    assert sorted(guess_bones(x, s.centre)) and len(guess_bones(x)) == len(s)


def test_pairs_are_found_by_shape(take):
    s = studio_layout("nite15")
    x = to_studio_layout(take.x, "nite15")
    assert {frozenset(p) for p in guess_mirror(x, s.parents)} == {frozenset(p) for p in s.pairs}


# folders

def test_folders_of_the_studio(tmp_path):
    ask = dict(classes=["wave", "jump"], n_subjects=2, n_repeats=1, difficulty=.3)
    for style, count in (("csv", 8), ("long", 8), ("table", 1), ("tsv", 8), ("json", 8), ("npy", 8)):
        got = write_custom(tmp_path / style, "15", style=style, **ask)
        assert got["n"] in (4, 8) and len(list(got["clips"].iterdir())) == (1 if style == "table" else got["n"]) and read_layout(got["layout"]).name == "nite15"
    import pandas as pd
    name = sorted((tmp_path / "npy/clips").iterdir())[0].stem
    x = np.load(tmp_path / "npy/clips" / f"{name}.npy")
    wide = pd.read_csv(tmp_path / "csv/clips" / f"{name}.csv"); assert list(wide)[:4] == ["frame", "Head_x", "Head_y", "Head_z"]
    np.testing.assert_allclose(wide.iloc[:, 1:].to_numpy().reshape(x.shape), x, rtol=1e-5, atol=1e-6)
    long = pd.read_csv(tmp_path / "long/clips" / f"{name}.csv"); np.testing.assert_allclose(long[["x", "y", "z"]].to_numpy().reshape(x.shape), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(json.loads((tmp_path / "json/clips" / f"{name}.json").read_text())["frames"]), x, atol=2e-6)


def test_units_axes_holes_two_persons_two_dimensions(tmp_path):
    ask = dict(classes=["wave"], n_subjects=2, n_repeats=1, style="npy")
    load = lambda got: [np.load(f) for f in sorted(got["clips"].iterdir())]
    m, mm, z, holes = (load(write_custom(tmp_path / str(i), "31", **ask, **more)) for i, more in enumerate((dict(), dict(unit="mm"), dict(up="z"), dict(missing=.1))))
    np.testing.assert_allclose(mm[0], 1000 * m[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(z[0][..., 2], m[0][..., 1], atol=1e-6); np.testing.assert_allclose(z[0][..., 1], -m[0][..., 2], atol=1e-6)
    lost = np.isnan(np.concatenate(holes)).all(-1)
    assert .09 < lost.mean() < .11 and not (np.isnan(np.concatenate(holes)).any(-1) ^ lost).any()
    two = write_custom(tmp_path / "two", "39", persons=2, dims=2, n_subjects=2, n_repeats=1, style="npy")
    x = load(two)[0]
    assert x.shape[1:] == (2, 39, 2) and 0 < np.nanmedian(x) < 2000 and read_layout(two["layout"]).up == "-y"
    with pytest.raises(StudioError, match="new or an empty folder"): write_custom(tmp_path / "two", "39")
    with pytest.raises(StudioError, match="style"): write_custom(tmp_path / "t", style="xls")
    with pytest.raises(StudioError, match="number of persons"): write_custom(tmp_path / "t", persons=2, classes=["wave"])
    with pytest.raises(LayoutError, match="15, 22, 31, 39"): write_custom(tmp_path / "t", "17")
    assert not (tmp_path / "t").exists()
