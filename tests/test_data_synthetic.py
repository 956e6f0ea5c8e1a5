"""The recording studio: bodies that keep their bones, factors that are what their names say, and a set that is hard for the right reason."""

import re

import numpy as np
import pytest

from skelnb.data import synthetic as s
from skelnb.data.preprocess import preprocess
from skelnb.data.synthetic import ACTIONS, J, PROTOCOLS, SETS, STUDIO_CLASSES, StudioError, film, forward, perform, pose, reach, sense, studio, synthesize
from skelnb.skeleton import NTU25


@pytest.fixture(scope="module")
def full():
    "The named set 'synthetic' as everybody gets it."
    return synthesize(**SETS["synthetic"])


@pytest.fixture(scope="module")
def small():
    return synthesize(**SETS["synthetic-small"])


def nearest(x, y, train):
    "Accuracy of one nearest neighbour on flattened coordinates."
    f = x.reshape(len(x), -1)
    a, b = f[train], f[~train]
    return (y[train][((a ** 2).sum(1) - 2 * b @ a.T).argmin(1)] == y[~train]).mean()


def probe(x, y, train, joint, person=0):
    "Accuracy of a logistic regression on one joint's mean position over time."
    from sklearn.linear_model import LogisticRegression
    f = x[:, :, :, joint, person].mean(2)
    f = (f - f[train].mean(0)) / f[train].std(0)
    return LogisticRegression(C=10, max_iter=200).fit(f[train], y[train]).score(f[~train], y[~train])


# bodies

@pytest.mark.parametrize("name", STUDIO_CLASSES)
def test_bones_keep_their_length_before_noise(name):
    x, frames = perform(name, np.arange(1, 7), difficulty=1.5)
    for j, k in NTU25.bones:
        length = np.linalg.norm(x[:, :, j] - x[:, :, k], axis=2)
        assert np.ptp(length, axis=1).max() < 1e-4, (NTU25.names[j], NTU25.names[k])
        assert length.min() > .01
    assert 24 <= frames.min() and frames.max() <= 150 and len(set(frames)) > 1
    assert np.isfinite(x).all() and x.dtype == np.float32 and abs(x).max() < 4


def test_camera_keeps_bones_and_the_sensor_does_not():
    clean, noisy = (studio(3, 3, 1, classes=["kick", "hug"], sensor=on) for on in (False, True))
    for r, q in zip(clean, noisy):
        assert r.name == q.name and r.x.shape == q.x.shape
        stretch = [np.ptp(np.linalg.norm(c[:, :, 9] - c[:, :, 8], axis=0), axis=0).max() for c in (r.x, q.x)]
        assert stretch[0] < 2e-4 and stretch[1] > 1e-2
        assert 1e-3 < np.median(abs(r.x - q.x)) < 2e-2


def test_standing_figure_has_the_reference_bones():
    x = forward(pose()[None, None], np.ones((1, 25), "f4"))[0, 0]
    for j, k in NTU25.bones:
        want = np.linalg.norm(NTU25.rest[j] - NTU25.rest[k])
        assert np.linalg.norm(x[j] - x[k]) == pytest.approx(want, abs=.03), NTU25.names[j]
    assert x[J["left_shoulder"], 0] > 0 > x[J["right_shoulder"], 0] and x[J["left_foot"], 2] > x[J["left_ankle"], 2]
    assert x[J["head"], 1] > 1.5 and min(x[:, 1]) == pytest.approx(0, abs=.01)


def test_a_mirrored_pose_is_a_mirrored_body():
    x = forward(pose(raise_l=70, plane_l=30, elbow_l=80, hip_r=40, bend=20)[None, None], np.ones((1, 25), "f4"))[0, 0]
    y = forward(pose(raise_r=70, plane_r=30, elbow_r=80, hip_l=40, bend=20)[None, None], np.ones((1, 25), "f4"))[0, 0]
    np.testing.assert_allclose(x[list(NTU25.flip_index)] * [-1, 1, 1], y, atol=1e-5)


@pytest.mark.parametrize("at", [(.1, -.2, .4), (-.1, 0, .3), (.3, -.3, .2), (.2, -.4, .1)])
@pytest.mark.parametrize("swivel", [0, 45, 90])
def test_a_reached_point_is_reached(at, swivel):
    x = forward(pose(**reach("l", *at, swivel))[None, None], np.ones((1, 25), "f4"))[0, 0]
    assert np.linalg.norm(x[J["left_hand"]] - x[J["spine_shoulder"]] - at) < .06      # the collar bone adds some centimetres


def test_a_point_out_of_reach_is_pointed_at():
    x = forward(pose(**reach("l", .2, 0, 3))[None, None], np.ones((1, 25), "f4"))[0, 0]
    v = x[J["left_hand"]] - x[J["left_shoulder"]]
    assert v[2] / np.linalg.norm(v) > .95


# the same, and different

def test_same_arguments_same_bits():
    ask = dict(n_subjects=4, n_cameras=2, n_repeats=1, classes=["wave", "push", "jump"])
    a, b = synthesize(**ask), synthesize(**ask)
    assert (a.x == b.x).all() and (a.y == b.y).all() and a.meta.equals(b.meta)
    for r, q in zip(studio(**ask), studio(**ask)):
        assert r.name == q.name and (r.x == q.x).all() and r.meta == q.meta


def test_seeds_differ():
    ask = dict(n_subjects=4, n_cameras=2, n_repeats=1, classes=["wave", "push"])
    a, b = synthesize(**ask), synthesize(**ask, seed=1)
    assert (a.x != b.x).any(axis=(1, 2, 3, 4)).all() and list(a.meta["name"]) == list(b.meta["name"])


def test_a_class_does_not_depend_on_its_company():
    ask = dict(n_subjects=4, n_cameras=3, n_repeats=1)
    a, b = synthesize(classes=["jump"], **ask), synthesize(classes=["wave", "jump"], **ask)
    assert (a.x == b.x[b.y.numpy() == 1]).all()


def test_a_subject_is_the_same_person_in_any_company():
    a, b = s.people([7]), s.people([1, 7, 3])
    assert (a.size[0] == b.size[1]).all() and a.tempo[0] == b.tempo[1] and (a.posture[0] == b.posture[1]).all()


def test_no_two_clips_are_equal(full):
    assert len({c.tobytes() for c in full.x}) == len(full)


# names, counts, tables

def test_full_set(full):
    assert full.x.shape == (2400, 3, 50, 25, 2) and full.x.dtype == np.float32 and np.isfinite(full.x).all()
    assert full.classes == STUDIO_CLASSES and np.bincount(full.y.numpy()).tolist() == [96] * 25
    assert (full.present.numpy()[:, 0]).all() and (full.present.numpy()[:, 1] == (full.y.numpy() >= 20)).all()
    assert full.meta["name"].is_monotonic_increasing and full.meta["name"].is_unique
    for name, y, m in zip(full.meta["name"], full.y.tolist(), full.meta.itertuples()):
        assert [int(g) for g in re.fullmatch(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", name).groups()] == [m.setup, m.camera, m.subject, m.repeat, y + 1]
    assert full.meta.groupby("subject").setup.nunique().max() == 1 and full.meta.setup.nunique() == 4


def test_small_set(small):
    train, test = small.split("xsub")
    assert small.x.shape[1:] == (3, 50, 25, 1) and len(train) == 480 and len(test) == 1980 and len(small.classes) == 10
    assert [STUDIO_CLASSES[int(n[-3:]) - 1] for n in small.meta["name"][:10]] == [small.classes[k] for k in small.y[:10]]
    assert all(ACTIONS[STUDIO_CLASSES.index(c)].partner is None for c in small.classes)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("protocol, factor", [("xsub", "subject"), ("xview", "camera"), ("xset", "setup")])
def test_protocols_share_no_factor(name, protocol, factor, full, small):
    data = {"synthetic": full, "synthetic-small": small}[name]
    train, test = data.split(protocol)
    assert len(train) + len(test) == len(data) and set(train.meta[factor]).isdisjoint(test.meta[factor])
    assert set(train.y.tolist()) == set(test.y.tolist()) == set(range(len(data.classes)))
    if factor != "setup": assert len(set(train.meta["setup"]) & set(test.meta["setup"])) == 4         # setups do not follow the subjects' split


def test_raw_recordings():
    found = studio(n_subjects=3, n_cameras=2, n_repeats=2, classes=["drink", "handshake"])
    assert len(found) == 3 * 2 * 2 * 2 and [r.name for r in found] == sorted(r.name for r in found)
    for r in found:
        assert r.x.dtype == np.float32 and r.x.shape[2:] == (25, 1 + (r.name[-3:] == "021")) and r.fps == 30 and r.skeleton is NTU25
        assert (r.x[2] > .5).all() and abs(r.x[:2]).max() < 3.5                                 # in front of the camera, in sight
        assert set(r.meta) == {"label", "subject", "camera", "setup", "repeat"}
    assert len({r.frames for r in found}) > 5
    data = synthesize(n_subjects=3, n_cameras=2, n_repeats=2, classes=["drink", "handshake"])
    for r, x, y in zip(found, data.x, data.y):
        p = preprocess(r)
        np.testing.assert_array_equal(x[..., :p.shape[-1]], p)                                  # one clip at a time or all together
        assert not x[..., p.shape[-1]:].any() and y == r.meta["label"]


def test_two_people_face_each_other():
    x, _ = perform("handshake", [1, 2, 3, 4], difficulty=0)
    a, b = x[..., 0], x[..., 1]
    assert (b[:, :, J["pelvis"], 0] - a[:, :, J["pelvis"], 0] > .6).all()
    assert (a[:, :, J["left_foot"], 0] > a[:, :, J["left_ankle"], 0]).all() and (b[:, :, J["left_foot"], 0] < b[:, :, J["left_ankle"], 0]).all()
    hands = np.linalg.norm(a[:, :, J["right_hand"]] - b[:, :, J["right_hand"]], axis=-1)
    assert hands.min() < .15                                                                     # they do shake hands


@pytest.mark.parametrize("name, check", [
    ("squat", lambda x: np.ptp(x[:, J["pelvis"], 1]) > .25),
    ("jump", lambda x: x[:, [J["left_foot"], J["right_foot"]], 1].min(1).max() > .15),
    ("sit down", lambda x: x[0, J["pelvis"], 1] - x[-1, J["pelvis"], 1] > .3),
    ("stand up", lambda x: x[-1, J["pelvis"], 1] - x[0, J["pelvis"], 1] > .3),
    ("bow", lambda x: x[0, J["head"], 1] - x[:, J["head"], 1].min() > .2),
    ("kick", lambda x: x[:, J["right_foot"], 1].max() > .5),
    ("drink", lambda x: np.linalg.norm(x[:, J["right_hand"]] - x[:, J["head"]], axis=1).min() < .2),
    ("put on a hat", lambda x: x[:, [J["right_hand"], J["left_hand"]], 1].min(1).max() > x[0, J["head"], 1]),
    ("clap", lambda x: np.linalg.norm(x[:, J["right_hand"]] - x[:, J["left_hand"]], axis=1).min() < .12),
    ("pick up", lambda x: x[:, J["right_hand_tip"], 1].min() < .45),
    ("wave", lambda x: x[30:45, J["right_hand"], 1].min() > x[0, J["right_shoulder"], 1]),
])
def test_an_action_is_what_its_name_says(name, check):
    x, frames = perform(name, [1], difficulty=0)
    assert check(x[0, :frames[0], :, :, 0])


def test_factors_do_what_their_names_say():
    x, _ = perform("march", [1, 1, 1], difficulty=0)
    one, two, three = film(x, [1, 2, 3], [1, 1, 1])
    turn = [np.rad2deg(np.arctan2(*(v[0, J["right_shoulder"], [2, 0], 0] - v[0, J["left_shoulder"], [2, 0], 0]))) for v in (one, two, three)]
    assert abs(turn[0]) < 20 and 25 < abs(turn[1]) < 65 and turn[1] * turn[2] < 0               # cameras 2 and 3 look from either side
    assert (film(x, [1, 2, 3], [1, 1, 1], 0)[0] == film(x, [1, 2, 3], [1, 1, 1], 0)[1]).all()
    assert (sense(x, 0) == x).all()


# what is refused

@pytest.mark.parametrize("bad, says", [
    (dict(classes=["dirnk"]), "drink"), (dict(classes="drink"), "list"), (dict(classes=[]), "one or more"), (dict(classes=["wave", 4]), "once"), (dict(classes=[25]), "0 to 24"),
    (dict(n_subjects=0), "n_subjects"), (dict(n_cameras=8), "1 to 7"), (dict(n_repeats=1.5), "n_repeats"), (dict(difficulty=-1), "difficulty"), (dict(difficulty=float("nan")), "difficulty")])
def test_bad_requests(bad, says):
    for make in (studio, synthesize):
        with pytest.raises(StudioError, match=says): make(**bad)


def test_unknown_joint_angle():
    with pytest.raises(StudioError, match="elbow_l"): pose(elbw_l=3)


# hard for the right reason

def test_nearest_neighbour_finds_some_but_not_most(full, small):
    for data in (full, small):
        for protocol in ("xview", "xsub", "xset"):
            train = PROTOCOLS[data.name][protocol](data.meta).to_numpy()
            assert .35 <= nearest(data.x, data.y.numpy(), train) <= .70, protocol


def test_no_joint_gives_the_class_away_by_where_it_is(full):
    train = PROTOCOLS["synthetic"]["xview"](full.meta).to_numpy()
    for person, joints in ((0, [j for j in range(25) if j != J["spine_shoulder"]]), (1, [J["right_elbow"], J["left_hand"], J["right_knee"], J["head"]])):
        for j in joints: assert probe(full.x, full.y.numpy(), train, j, person) <= .25, NTU25.names[j]


def test_more_difficulty_is_harder():
    ask = dict(n_subjects=8, n_repeats=1, classes=STUDIO_CLASSES[:20:2])
    found = []
    for difficulty in (0., .5, 1., 2.):
        data = synthesize(difficulty=difficulty, **ask)
        found.append(nearest(data.x, data.y.numpy(), PROTOCOLS["synthetic"]["xview"](data.meta).to_numpy()))
    assert found[0] == 1 and found == sorted(found, reverse=True) and found[1] > found[2] + .05 and found[2] > found[3] + .1, found
