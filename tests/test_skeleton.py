"""Layouts, graphs and joint maps: against the authors' graph, on random trees, and on layouts that are wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelnb.skeleton import COCO17, LAYOUTS, MEDIAPIPE33, NTU25, STRATEGIES, UCLA20, LayoutError, Skeleton, hop_distance

KINDS = {"uniform", "distance", "spatial", "inout"}


@st.composite
def trees(draw, most=12):
    "A skeleton on a random tree whose joints come in random order, with random left-right pairs."
    V = draw(st.integers(2, most))
    grown = [0] + [draw(st.integers(0, j - 1)) for j in range(1, V)]
    order = draw(st.permutations(range(V)))
    parents = [0] * V
    for j, p in enumerate(grown):
        parents[order[j]] = order[p]
    joints = draw(st.permutations(range(V)))
    n = draw(st.integers(1, V // 2))
    pairs = [(joints[2 * i], joints[2 * i + 1]) for i in range(n)]
    return Skeleton("tree", [f"joint{j}" for j in range(V)], parents, pairs, order[0], pairs[0])


# --- against the authors' graph ---

@pytest.mark.outside
def test_graph_is_the_released_one(fixture):
    numbers = fixture("graph_ntu")
    for strategy in KINDS:
        assert np.abs(NTU25.adjacency(strategy) - numbers[f"A_{strategy}"]).max() < 1e-7
    assert NTU25.centre == int(numbers["center"])
    assert {frozenset(e) for e in numbers["edges"].tolist() if e[0] != e[1]} == {frozenset(b) for b in NTU25.bones}
    near = numbers["hop_dis"] <= 1
    assert ((NTU25.hops <= 1) == near).all() and (NTU25.hops[near] == numbers["hop_dis"][near]).all()


def test_ntu_table_of_the_papers():
    "Bone pairs (joint, parent) counted from 1, as the released code lists them."
    pairs = "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19 22-23 23-8 24-25 25-12"
    assert {(j + 1, p + 1) for j, p in NTU25.bones} == {tuple(map(int, pair.split("-"))) for pair in pairs.split()}
    assert NTU25.flip_index == tuple([0, 1, 2, 3, *range(8, 12), *range(4, 8), *range(16, 20), *range(12, 16), 20, 23, 24, 21, 22])


def test_truncation_empties_the_third_subset():
    released, text = NTU25.adjacency(), NTU25.adjacency(truncate=False)
    assert [(a > 0).sum() for a in released] == [25, 40, 8] and [(a > 0).sum() for a in text] == [25, 24, 24]
    assert np.array_equal(released, NTU25.adjacency("spatial", 1, True))


# --- any tree ---

@given(trees())
def test_hops_are_a_distance(s):
    d = s.hops
    assert (d == d.T).all() and (np.diag(d) == 0).all() and d.max() < len(s)
    assert (d[:, None, :] <= d[:, :, None] + d[None]).all()
    assert (d == 1).sum() == 2 * len(s.bones) == 2 * (len(s) - 1)


@given(trees(), st.integers(1, 3), st.booleans())
def test_columns_sum_to_one_however_neighbours_are_shared(s, max_hop, truncate):
    uniform = s.adjacency("uniform", max_hop)
    assert np.allclose(uniform.sum((0, 1)), 1, atol=1e-6) and uniform.dtype == np.float32
    for strategy, subsets in (("distance", max_hop + 1), ("spatial", 2 * max_hop + 1)):
        A = s.adjacency(strategy, max_hop, truncate)
        assert A.shape == (subsets, len(s), len(s)) and np.allclose(A.sum(0), uniform[0], atol=1e-6)
        assert ((A > 0).sum(0) <= 1).all()                                   # a neighbour is in one subset
    inout = s.adjacency("inout")
    assert inout.shape == (3, len(s), len(s)) and set(inout.sum(1).ravel().round(5)) <= {0, 1}


@given(trees(), st.randoms(use_true_random=False))
def test_renumbered_joints_give_the_renumbered_graph(s, random):
    order = list(range(len(s)))
    random.shuffle(order)                                                    # joint j becomes order[j]
    back = np.argsort(order)
    other = Skeleton("other", [s.names[j] for j in back], [order[s.parents[j]] for j in back],
                     [(order[a], order[b]) for a, b in s.pairs], order[s.centre], [order[j] for j in s.shoulders])
    for strategy in KINDS:
        assert np.allclose(other.adjacency(strategy)[:, order][:, :, order], s.adjacency(strategy))
    assert np.allclose(s.map_to(other).matrix, np.eye(len(s))[back])


@given(trees())
def test_two_flips_are_the_identity(s):
    assert [s.flip_index[j] for j in s.flip_index] == list(range(len(s)))
    assert sum(j != f for j, f in enumerate(s.flip_index)) == 2 * len(s.pairs)


@given(trees())
def test_to_json_and_back(s):
    assert Skeleton.from_dict(json.loads(json.dumps(s.to_dict()))) == s


# --- layouts that are wrong ---

ARM = dict(name="arm", names=["a", "b", "c", "d"], parents=[0, 0, 1, 0], pairs=[[1, 3]], centre=0, shoulders=[1, 3])


@pytest.mark.parametrize("change, words", [
    (dict(parents=[1, 1, 2, 4]), "subtract 1"), (dict(parents=[0, 0, 1, -1]), "from 0 to 3"), (dict(parents=[0, 0, 1]), "expected 4 parents"), (dict(parents="0010"), "no joint is called"),
    (dict(parents=[0, 2, 1, 0]), "circle: b -> c -> b"), (dict(parents=[0, 0, 1, 3]), r"one root.*got \[0, 3\]"), (dict(centre=1), "one root"), (dict(parents=[1, 2, 0, 0]), "one root"),
    (dict(parents=[0, 0, 1, 0.5]), "whole numbers"), (dict(parents=[0, 0, True, 0]), "whole numbers"), (dict(centre=[0]), "one joint"), (dict(centre="nose"), "no joint is called 'nose'"),
    (dict(names=["a", "b", "c", "a"]), "name"), (dict(names=["a", "b", "c", 4]), "name"), (dict(names="abcd"), "list"), (dict(pairs=[[1, 3, 2]]), "two indices"),
    (dict(pairs=[[1, 3], [1, 2]]), "two of the left-right pairs"), (dict(pairs=[[1, 1]]), "two of the left-right pairs"), (dict(shoulders=[1]), "two indices"),
    (dict(shoulders=None), "list"), (dict(up="w"), "up"), (dict(origin=[9]), "from 0 to 3"), (dict(colour="red"), r"unknown: \['colour'\]"),
])
def test_wrong_layouts_are_told(change, words):
    with pytest.raises(LayoutError, match=words):
        Skeleton.from_dict({**ARM, **change})


def test_json_that_is_no_layout_is_told():
    for value in ([1, 2], "ntu25", None):
        with pytest.raises(LayoutError, match="JSON object"):
            Skeleton.from_dict(value)
    for key in ("name", "names", "parents", "pairs", "centre", "shoulders"):
        with pytest.raises(LayoutError, match=rf"missing: \['{key}'\]"):
            Skeleton.from_dict({k: v for k, v in ARM.items() if k != key})
    assert issubclass(LayoutError, ValueError)


def test_names_arrays_and_numpy_numbers_may_stand_for_joints():
    by_name = Skeleton.from_dict({**ARM, "parents": ["a", "a", "b", "a"], "centre": "a", "pairs": [["b", "d"]], "shoulders": ["b", "d"]})
    by_array = Skeleton.from_dict({**ARM, "parents": np.array([0, 0, 1, 0]), "centre": np.int64(0)})
    assert by_name == by_array == Skeleton.from_dict(ARM) and json.dumps(by_array.to_dict()) and hash(by_name) == hash(by_array)


def test_questions_about_what_is_not_there_are_told():
    with pytest.raises(LayoutError, match="no joint 'tail'.*pelvis"):
        NTU25.index("tail")
    with pytest.raises(LayoutError, match="uniform, distance, spatial, inout"):
        NTU25.adjacency("radial")
    with pytest.raises(LayoutError, match="max_hop"):
        NTU25.adjacency(max_hop=0)
    assert set(STRATEGIES) == KINDS


# --- from one layout to another ---

@pytest.mark.parametrize("source", LAYOUTS.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("target", LAYOUTS.values(), ids=lambda s: s.name)
def test_maps_between_all_layouts(source, target):
    m = source.map_to(target)
    rows = m.matrix.sum(1)
    assert set(rows.round(5)) <= {0, 1} and [target.names[v] for v in np.flatnonzero(rows == 0)] == m.missing
    assert all(m.matrix[target.index(n), source.index(n)] == 1 for n in target.names if n in source.names)
    assert set(m.made) == set(target.names) - set(source.names) - set(m.missing) and source.name in repr(m)
    y = m(source.rest, coordinates=-1)
    found = [v for v in range(len(target)) if rows[v]]
    assert np.linalg.norm(y - target.rest, axis=1)[found].max() < .20          # metres: a made-up joint is a hand's breadth off, not a body
    flipped = m(source.rest[list(source.flip_index)])
    assert np.allclose(flipped, m(source.rest)[list(target.flip_index)], atol=1e-6)


def test_batches_tensors_and_gradients_are_mapped_alike():
    m, x = MEDIAPIPE33.map_to(NTU25), np.random.default_rng(0).normal(size=(2, 3, 4, 33, 2)).astype("f4")
    y = m(x, coordinates=-4)
    tensor = torch.from_numpy(x).requires_grad_()
    out = m(tensor, coordinates=-4)
    torch.testing.assert_close(out, torch.from_numpy(np.ascontiguousarray(y)))
    out.sum().backward()
    assert tensor.grad.shape == x.shape and y.shape == (2, 3, 4, 25, 2) and y.dtype == np.float32
    assert m(x.astype("f8")).dtype == np.float64 and m(torch.from_numpy(x).double()).dtype == torch.float64
    assert m(np.ones((33, 1), int)).dtype == np.float32 and m(torch.ones(33, 1, dtype=torch.int)).dtype == torch.float32
    assert not m(np.zeros((1, 33, 2), "f4")).any()                             # nobody stays nobody
    assert np.allclose(m(np.moveaxis(x, 3, 0), axis=0), np.moveaxis(m(x), 3, 0), atol=1e-6)


def test_clips_of_another_layout_are_told():
    with pytest.raises(LayoutError, match=r"expected 25 joints \(ntu25\).*\(3, 5, 20, 1\)"):
        NTU25.map_to(UCLA20)(np.zeros((3, 5, 20, 1)))
    with pytest.raises(LayoutError, match="expected 25 joints"):
        NTU25.map_to(UCLA20)(np.zeros(25))
    with pytest.raises(LayoutError, match="expected 3 coordinates"):
        COCO17.map_to(NTU25)(np.zeros((2, 5, 17, 1)), coordinates=0)
    with pytest.raises(LayoutError, match="rename joints"):
        Skeleton.from_dict(ARM).map_to(NTU25)


def test_hops_by_hand():
    assert hop_distance([0, 0, 1]).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert NTU25.hops[NTU25.index("right_hand"), NTU25.index("left_foot")] == 10


def test_the_module_needs_numpy_alone():
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'pandas', 'matplotlib', 'sklearn', 'anywidget'): raise ImportError(name)
sys.meta_path.insert(0, Absent())
from skelnb.skeleton import NTU25, COCO17
assert NTU25.map_to(COCO17)(NTU25.rest).shape == (17, 3) and NTU25.adjacency().shape == (3, 25, 25)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
