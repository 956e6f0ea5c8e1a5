"""Files of pose estimators: OpenPose, COCO models, MediaPipe and the like, with who is who and how sure each point is."""

import json

import numpy as np
import pytest

from skelnb.data import OPENPOSE18, OPENPOSE25, ReadError, guess, prepare_custom, preview
from skelnb.data.custom import find_clips, read_clips
from skelnb.data.keypoints import link, recognise
from skelnb.skeleton import COCO17, MEDIAPIPE33, NTU25

LAYOUTS = {17: COCO17, 18: OPENPOSE18, 25: OPENPOSE25, 33: MEDIAPIPE33}
STAND = {"nose": (0, -70), "neck": (0, -52), "head": (0, -72), "eye": (3, -73), "ear": (7, -72), "mouth": (2, -67), "shoulder": (17, -50), "elbow": (24, -22), "wrist": (27, 4), "pinky": (29, 12), "index": (28, 14), "thumb": (25, 10), "pelvis": (0, 0),
         "hip": (10, 0), "knee": (11, 42), "ankle": (12, 84), "heel": (11, 88), "foot": (14, 90), "toe": (16, 90)}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch): monkeypatch.setenv("SKELNB_HOME", str(tmp_path / "home"))


def pose(skeleton, seed=0, T=10, at=(600, 400), scale=3.):
    "(T,V,2) pixels, y down."
    g = np.random.default_rng(seed); rest = []
    for n in skeleton.names:
        x, y = next(v for k, v in reversed(STAND.items()) if k in n); rest.append((-x if n.startswith("right") else x, y))
    return np.array(at) + scale * (np.array(rest, float) + np.cumsum(g.normal(0, 0.4, (T, len(skeleton), 2)), 0))


def flat(x, c): return np.concatenate([x, np.full((len(x), 1), c)], 1).ravel().tolist()


WRITERS = {}
def writer(V):
    def keep(f): WRITERS[f.__name__] = (f, V); return f
    return keep

def two(V, i, T=10): return pose(LAYOUTS[V], 2 * i, T), pose(LAYOUTS[V], 2 * i + 1, T, (1100, 420))

@writer(25)
def openpose_25(root, name, i):
    a, b = two(25, i); folder = root / name; folder.mkdir()
    for t in range(10): (folder / f"{name}_{t:012d}_keypoints.json").write_text(json.dumps(dict(version=1.3, people=[dict(person_id=[-1], pose_keypoints_2d=flat(p[t], .9), face_keypoints_2d=[]) for p in ((a, b), (b, a))[t % 2]])))
@writer(18)
def openpose_18_in_one_folder(root, name, i):
    a, b = two(18, i)
    for t in range(10): (root / f"{name}_{t:012d}_keypoints.json").write_text(json.dumps(dict(people=[dict(pose_keypoints_2d=flat(p[t], .9)) for p in (a, b)])))
@writer(17)
def coco_results(root, name, i):
    a, b = two(17, i)
    (root / f"{name}.json").write_text(json.dumps([dict(image_id=100 + t, category_id=1, keypoints=flat(p[t], .8), score=.9, track_id=w) for t in range(10) for w, p in ((7, a), (9, b))]))
@writer(17)
def coco_file(root, name, i):
    a, b = two(17, i)
    (root / f"{name}.json").write_text(json.dumps(dict(images=[dict(id=t) for t in range(10)], annotations=[dict(image_id=t, keypoints=flat(p[t], 2), track_id=w) for t in range(10) for w, p in ((1, a), (2, b))])))
@writer(17)
def alphapose(root, name, i):
    a, b = two(17, i)
    (root / f"{name}.json").write_text(json.dumps([dict(image_id=f"{t}.jpg", keypoints=flat(p[t], .8), score=2.9, idx=w) for t in range(10) for w, p in ((1, a), (2, b))]))
@writer(17)
def mmpose(root, name, i):
    a, b = two(17, i)
    (root / f"{name}.json").write_text(json.dumps(dict(meta_info={}, instance_info=[dict(frame_id=t + 1, instances=[dict(keypoints=p[t].tolist(), keypoint_scores=[.9] * 17) for p in (a, b)]) for t in range(10)])))
@writer(18)
def kinetics(root, name, i):
    a, b = two(18, i)
    (root / f"{name}.json").write_text(json.dumps(dict(data=[dict(frame_index=t + 1, skeleton=[dict(pose=(p[t] / 1500).ravel().tolist(), score=[.9] * 18) for p in (a, b)]) for t in range(10)], label="x")))
@writer(33)
def mediapipe_frames(root, name, i):
    a, b = two(33, i)
    (root / f"{name}.json").write_text(json.dumps(dict(frames=[dict(pose_landmarks=[[dict(x=x / 1500, y=y / 1500, z=.01 * v, visibility=.9) for v, (x, y) in enumerate(p[t].tolist())] for p in (a, b)]) for t in range(10)])))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_estimator_with_two_people(kind, tmp_path):
    make, V = WRITERS[kind]; src = tmp_path / "in"; src.mkdir()
    for i in range(6): make(src, f"a{i % 2}_s{i}", i)
    spec = guess(src); p = preview(src, spec); d = prepare_custom(src, spec, "k", progress=False)
    assert spec.skeleton == LAYOUTS[V] and spec.form == "keypoints" and spec.up == "-y" and not p.problems, p
    assert spec.units == ("relative" if kind in ("kinetics", "mediapipe_frames") else "pixels") and spec.rotate == ("released" if spec.dims == 3 else "none")
    assert d.shape == (6, 3, 50, V, 2) and d.present.all() and d.meta.frames.tolist() == [10] * 6 and sorted(d.meta.subject) == list(range(6)) and (d.meta.missing == 0).all() and d.meta.confidence.between(.7, 2).all()
    found = find_clips(src); assert len(found.clips) == 6
    raw = read_clips([src / f for f in found.clips["a0_s0"][1]], spec)[0].x; a, b = two(V, 0); scale = 1500 if spec.units == "relative" else 1
    assert np.allclose(raw[:2, ..., 0] * scale, a.transpose(2, 0, 1), atol=1e-6) and np.allclose(raw[:2, ..., 1] * scale, b.transpose(2, 0, 1), atol=1e-6)      # who is who, in every frame


def test_people_come_and_go(tmp_path):
    "A third person, frames without anybody, points that are not sure."
    src = tmp_path / "in"; src.mkdir()
    for i in range(4):
        a, b = two(17, i, 30); c = pose(COCO17, 99, 30, (200, 400)); rows = []
        for t in range(30):
            for w, p in (("c", c), ("a", a), ("b", b)):
                if w == "c" and t > 4 or w == "b" and 10 <= t < 14 or 20 <= t < 22: continue
                k = np.array(flat(p[t], .9)); k[3 * 9:3 * 9 + 3] = (0, 0, 0) if t in (5, 6) else k[3 * 9:3 * 9 + 3]; rows.append(dict(image_id=t, keypoints=k.tolist(), track_id=w))
        (src / f"a{i % 2}_s{i}.json").write_text(json.dumps(rows))
    spec = guess(src); d = prepare_custom(src, spec, "k", progress=False)
    assert d.shape[-1] == 2 and (d.meta.more == 1).all() and (d.meta.frames == 28).all() and d.present.all() and (d.meta.missing > 0).all() and any("more than 2 persons" in n for n in d.report.notes)
    from skelnb.data.custom import tidy
    r, told = tidy(read_clips([src / "a0_s0.json"], spec)[0], spec); assert r.x[:, :, :, 0].any((0, 2)).all() and r.x[:, 11, :, 1].any() and np.abs(np.diff(r.x[1, :, 9, 0])).max() < .2
    assert prepare_custom(src, spec.change(persons=3), "m", progress=False).shape[-1] == 3


def test_link_keeps_people_apart():
    a, b = pose(COCO17, 0, 20), pose(COCO17, 1, 20, (900, 420))
    ids = link([[a[t], b[t]] if t % 3 else [b[t], a[t]] for t in range(20)])
    assert all(i == ([1, 0] if t % 3 else [0, 1]) for t, i in enumerate(ids))
    assert link([[a[0]], [], [a[1]], *[[]] * 12, [a[2]]]) == [[0], [], [0], *[[]] * 12, [1]]            # away for too long: somebody new


def test_world_landmarks_are_metres(tmp_path):
    src = tmp_path / "in"; src.mkdir()
    for i in range(2):
        p = pose(MEDIAPIPE33, i, 8, (0, 0), .01)
        (src / f"a{i}_s{i}.json").write_text(json.dumps([dict(frame=t, pose_world_landmarks=[dict(x=x, y=y, z=.0, visibility=.9) for x, y in p[t].tolist()]) for t in range(8)]))
    spec = guess(src); assert (spec.units, spec.up, spec.dims, spec.form) == ("m", "-y", 3, "keypoints")
    d = prepare_custom(src, spec, "w", progress=False); assert d.skeleton.map_to(NTU25)(d.x[:, :, :, :], -2).shape[3] == 25


def test_wrong_keypoints_get_an_answer(tmp_path):
    src = tmp_path / "in"; src.mkdir()
    for i in range(3): (src / f"a{i}.json").write_text(json.dumps([dict(image_id=0, keypoints=[1.] * 3 * 16)]))
    with pytest.raises(ReadError, match="people have 16 points; known are"): guess(src)
    with pytest.raises(ReadError, match="people have 16 points, the layout coco17 has 17"): guess(src, COCO17)
    (src / "a0.json").write_text(json.dumps([dict(image_id=0, keypoints=["x"] * 51)]))
    with pytest.raises(ReadError): guess(src, COCO17)
    for i in range(3): WRITERS["coco_results"][0](src, f"a{i}", i)
    spec = guess(src); (src / "a2.json").write_text(json.dumps(dict(nothing=1)))
    d = prepare_custom(src, spec, "k", progress=False); assert len(d) == 2 and "no people" in d.report.skipped["a2"]
    assert recognise([[[0., 1., 2.]] * 17] * 3) is None and recognise({"a": 1}) is None and recognise([]) is None


def test_layouts_of_openpose():
    assert [len(s) for s in (OPENPOSE18, OPENPOSE25)] == [18, 25] and OPENPOSE25.names[8] == "pelvis" and OPENPOSE18.names[:2] == ("nose", "neck")
    for s in (OPENPOSE18, OPENPOSE25):
        m = s.map_to(NTU25); assert not m.missing and s.flip_index[s.index("left_knee")] == s.index("right_knee")
