"""Growing sets: what is in T0 < T1 < T2, in which order, and that all is drawn anew."""

import pytest
import torch

from skelnb.augment import ARRANGEMENTS, BA, NA, SETS, AugmentError, Augmentation, DropAddEdges, RandomMask, Shear, SkeleAdaIN, TimeFlip, growing
from skelnb.skeleton import COCO17, UCLA20

NAMES = ["SpatialFlip", "Rotate", "GaussianNoise", "GaussianBlur", "AxisMask"]
BASIC = ["TemporalCrop", "Shear"]


def what(level): return [type(s).__name__ for s in level.flat()], level.mask is not None, level.edges is not None


@pytest.mark.parametrize("arrangement, expected", [
    ("[BA, NA, Mask]", [(BASIC, 0, 0), (BASIC + NAMES, 0, 0), (BASIC + NAMES, 1, 0)]),
    ("[NA, BA, Mask]", [(NAMES, 0, 0), (BASIC + NAMES, 0, 0), (BASIC + NAMES, 1, 0)]),
    ("[Mask, BA, NA]", [([], 1, 0), (BASIC, 1, 0), (BASIC + NAMES, 1, 0)]),
    ("[BA+NA, Mask]", [(BASIC + NAMES, 0, 0), (BASIC + NAMES, 1, 0)]),
    ("[BA, NA+Mask]", [(BASIC, 0, 0), (BASIC + NAMES, 1, 0)]),
    ("[BA]", [(BASIC, 0, 0)]),
    ("[BA, NA]", [(BASIC, 0, 0), (BASIC + NAMES, 0, 0)]),
    ("[BA, NA, DAE]", [(BASIC, 0, 0), (BASIC + NAMES, 0, 0), (BASIC + NAMES, 0, 1)]),
    ("[BA, NA, AdaIN]", [(BASIC, 0, 0), (BASIC + NAMES, 0, 0), (BASIC + NAMES + ["SkeleAdaIN"], 0, 0)]),
])
def test_every_arrangement_of_the_paper(arrangement, expected):
    assert [what(level) for level in growing(ARRANGEMENTS[arrangement])] == expected
    assert arrangement == f"[{', '.join(ARRANGEMENTS[arrangement])}]"


def test_all_arrangements_are_tested_above():
    assert len(ARRANGEMENTS) == 9


def test_factories_augmentations_and_unions():
    levels = growing([BA, (NA, RandomMask), DropAddEdges(.2, .05)])
    assert [what(level) for level in levels] == [(BASIC, 0, 0), (BASIC + NAMES, 1, 0), (BASIC + NAMES, 1, 1)]
    assert levels[-1].edges.add == .05 and levels[-1].names == ("BA", "NA", "Mask", "DAE")
    levels = growing(["AdaIN", TimeFlip, "BA", lambda: Shear(.1)])                      # others stand between NA and AdaIN
    assert what(levels[-1])[0] == BASIC + ["TimeFlip", "Shear", "SkeleAdaIN"] and levels[-1].flat()[3].amplitude == .1


def test_one_layout_for_all():
    for level in growing(["BA", "NA", "AdaIN", "Mask", TimeFlip], COCO17):
        assert all(step.skeleton is COCO17 for step in [*level.flat(), level.mask] if step)
        assert level(torch.randn(2, 2, 9, 17, 1)).shape == (2, 2, 9, 17, 1)


def test_every_level_draws_all_its_strategies_anew():
    x, (t0, t1, t2) = torch.randn(4, 3, 50, 25, 2), growing(["BA", "NA", "AdaIN"])
    g = torch.Generator().manual_seed(0)
    p0, p1, p2 = (t.draw(x.shape, g) for t in (t0, t1, t2))
    shears = [p[0][1]["matrix"] for p in (p0, p1, p2)]
    assert not torch.equal(shears[0], shears[1]) and not torch.equal(shears[1], shears[2])
    assert not torch.equal(p1[1][1]["angles"], p2[1][1]["angles"])
    for t, p in ((t0, p0), (t1, p1), (t2, p2)): assert torch.equal(t.apply(x, p), t.joint.apply(x, p))
    torch.testing.assert_close(t2.apply(x, p2), SkeleAdaIN().apply(t1.apply(x, p2[:2]), p2[2]))
    assert isinstance(t2, Augmentation) and torch.equal(t1(x, torch.Generator().manual_seed(3)), t1(x, torch.Generator().manual_seed(3)))


def test_a_level_says_what_it_does():
    t = growing(["BA", "NA+Mask", "DAE"])[-1]
    assert repr(t) == ("BA + NA + Mask + DAE: TemporalCrop > Shear > SpatialFlip > Rotate > GaussianNoise > GaussianBlur > AxisMask > (stream) > "
                       "RandomMask(ratio=0.1, per='batch'); in the encoder: DropAddEdges(drop=0.1, add=0.0)")
    assert repr(growing(["DAE"])[0]).startswith("DAE: nothing;")


def test_own_names(monkeypatch):
    monkeypatch.setitem(SETS, "backwards", TimeFlip)
    assert what(growing(["BA+backwards"], UCLA20)[0])[0] == BASIC + ["TimeFlip"]


@pytest.mark.parametrize("sets, words", [
    ("BA", "a list of sets"), ([], "a list of sets"), (["BA", "XA"], "unknown set 'XA'; known: BA, NA, AdaIN, Mask, DAE"), (["BA", "BA+NA"], "each strategy stands in one set"),
    ([3], "a name, a factory or an augmentation, got 3"), ([RandomMask, type("Other", (RandomMask,), {})], "at most one RandomMask"),
])
def test_what_does_not_fit(sets, words):
    with pytest.raises(AugmentError, match=words): growing(sets)
