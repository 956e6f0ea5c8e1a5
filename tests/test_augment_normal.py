"""The normal set: the authors' numbers, what is drawn, and what each augmentation keeps."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from skelnb.augment import BA, NA, AxisMask, Compose, GaussianBlur, GaussianNoise, Rotate, SpatialFlip, TimeFlip
from skelnb.augment.normal import rotation
from skelnb.skeleton import COCO17, LAYOUTS, NTU25, Skeleton

ON = {"on": torch.tensor([True])}


def clips(n=4, c=3, t=20, v=25, m=2, seed=0):
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(seed))


def many(array, n):
    return torch.from_numpy(array).expand(n, *array.shape)


# the authors' numbers

@pytest.mark.outside
def test_flips_as_released(fixture):
    ref = fixture("aug_spatial_flip")
    assert list(NTU25.flip_index) == ref["index"].tolist()
    y = SpatialFlip().apply(many(ref["x"], 2), {"on": torch.tensor([True, False])})
    np.testing.assert_array_equal(y[0], ref["y"])
    np.testing.assert_array_equal(y[1], ref["y_not_applied"])
    ref = fixture("aug_time_flip")
    np.testing.assert_array_equal(TimeFlip().apply(many(ref["x"], 1), ON)[0], ref["y"])


@pytest.mark.outside
def test_rotation_as_released(fixture):
    ref = fixture("aug_rotate")
    params = {"angles": torch.from_numpy(ref["angles_deg_xyz"])}
    np.testing.assert_allclose(Rotate().apply(many(ref["x"], 3).double(), params), ref["y"], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(Rotate().apply(many(ref["x"], 3), params), ref["y"], rtol=1e-6, atol=1e-6)


@pytest.mark.outside
def test_noise_and_mask_as_released(fixture):
    ref = fixture("aug_gauss_noise")
    y = GaussianNoise().apply(many(ref["x"], 1).double(), {"noise": torch.from_numpy(ref["noise"])[None], **ON})
    np.testing.assert_array_equal(y[0], ref["y"])
    ref = fixture("aug_axis_mask")
    y = AxisMask().apply(many(ref["x"], 3), {"axis": torch.from_numpy(ref["axis"]), "on": torch.ones(3, dtype=bool)})
    np.testing.assert_array_equal(y, ref["y"])


@pytest.mark.outside
def test_blur_as_released(fixture):
    ref = fixture("aug_gauss_blur")
    sigma = torch.from_numpy(ref["sigma"])
    np.testing.assert_allclose(GaussianBlur().kernel(sigma), ref["kernel"], rtol=1e-14, atol=1e-29)
    np.testing.assert_allclose(GaussianBlur().kernel(sigma).sum(1), ref["kernel_sum"], rtol=1e-14)
    params = {"sigma": sigma, "on": torch.ones(4, dtype=bool)}
    np.testing.assert_allclose(GaussianBlur().apply(many(ref["x"], 4), params), ref["y"], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(GaussianBlur().apply(many(ref["x"], 4).float(), params), ref["y"], rtol=1e-6, atol=2e-6)


@pytest.mark.outside
def test_chains_as_released(fixture):
    "Six recorded draws of BA and NA in one batch; rows in which a step is off carry any numbers."
    ref = fixture("aug_chain_strong")
    traces = [[value for _, value in json.loads(t)] for t in ref["trace_json"]]
    n, names = len(traces), "start shear flip angles noise sigma blur axis mask"
    p = {k: [] for k in names.split()}
    matrix = torch.eye(3, dtype=torch.float64).repeat(n, 1, 1)
    for row, values in enumerate(traces):
        take = iter(values)
        p["start"].append(int(next(take)))
        for i, j in [(0, 1), (1, 0), (2, 0), (0, 2), (1, 2), (2, 1)]: matrix[row, i, j] = next(take)
        p["flip"].append(next(take) < .5)
        next(take)                                                                      # the main axis is told by the angles
        p["angles"].append([next(take) for _ in range(3)])
        p["noise"].append(next(take) < .5)
        if p["noise"][-1]: assert next(take) == "array"
        p["sigma"].append(next(take))
        p["blur"].append(next(take) < .5)
        p["mask"].append(next(take) < .5)
        p["axis"].append(int(next(take)) if p["mask"][-1] else 0)
        assert next(take, None) is None
    for name in ("flip", "noise", "blur", "mask"): assert any(p[name]) and not all(p[name])
    t = {k: torch.tensor(v) for k, v in p.items() if k not in ("angles", "sigma")}
    params = [[{"start": t["start"]}, {"matrix": matrix}],
              [{"on": t["flip"]}, {"angles": torch.tensor(p["angles"], dtype=torch.float64)}, {"noise": torch.from_numpy(ref["noise"]), "on": t["noise"]},
               {"sigma": torch.tensor(p["sigma"], dtype=torch.float64), "on": t["blur"]}, {"axis": t["axis"], "on": t["mask"]}]]
    chain, x = Compose([BA(), NA()]), many(ref["x"], n)
    np.testing.assert_allclose(chain.apply(x.double(), params), ref["y"], rtol=1e-6, atol=1e-6)    # stored as float32
    np.testing.assert_allclose(chain.apply(x, params), ref["y"], rtol=2e-6, atol=2e-6)


# what is drawn

def draw(aug, n=6000, c=3, t=1, v=25): return aug.draw((n, c, t, v, 1), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("aug", [SpatialFlip(), TimeFlip(), GaussianNoise(), GaussianBlur(), AxisMask()], ids=lambda a: type(a).__name__)
def test_half_of_the_clips(aug):
    assert abs(draw(aug)["on"].float().mean() - .5) < .02
    aug.p = 0.; assert not draw(aug)["on"].any()
    aug.p = 1.; assert draw(aug)["on"].all()


@pytest.mark.parametrize("signed", [False, True])
def test_rotation_draws_one_large_angle(signed):
    a = draw(Rotate(signed=signed))["angles"]
    size = a.abs()
    assert size.max() <= 30 and size.max() > 29.9 and (a.min() >= 0) != signed
    assert size.sort(1).values[:, :2].max() <= 1                                          # the other two
    large = size.argmax(1)[size.amax(1) > 1]
    assert (large.bincount(minlength=3) / len(large) - 1 / 3).abs().max() < .02            # each axis a third of the time
    assert abs(size.amax(1).mean() - 15) < .3
    if signed: assert abs((a[size > 1] > 0).float().mean() - .5) < .02


def test_rotation_of_flat_clips_is_in_their_plane():
    a = draw(Rotate(), c=2)["angles"]
    assert (a[:, :2] == 0).all() and a[:, 2].max() > 29.9
    x = clips(c=2).double()
    y = Rotate().apply(x, {"angles": torch.tensor([[5., 7., 90.]]).expand(4, 3)})
    torch.testing.assert_close(y, torch.stack([x[:, 1], -x[:, 0]], 1))


def test_noise_is_drawn_only_where_it_is_on():
    drawn = GaussianNoise(std=.02).draw((400, 3, 10, 25, 1), torch.Generator().manual_seed(0))
    assert (drawn["noise"][~drawn["on"]] == 0).all()
    z = drawn["noise"][drawn["on"]]
    assert abs(z.mean()) < 1e-4 and abs(z.std() - .02) < 1e-4 and abs((z.abs() > .04).float().mean() - .0455) < .002
    g, h = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)           # and costs no random numbers elsewhere
    GaussianNoise(p=0.).draw((400, 3, 10, 25, 1), g); torch.rand(400, generator=h)
    assert torch.equal(g.get_state(), h.get_state())


def test_sigma_and_axis_are_uniform():
    sigma = draw(GaussianBlur())["sigma"]
    assert .1 <= sigma.min() < .11 and 1.99 < sigma.max() <= 2 and abs(sigma.mean() - 1.05) < .02
    assert (draw(AxisMask())["axis"].bincount() / 6000 - 1 / 3).abs().max() < .02
    assert draw(AxisMask(), c=2)["axis"].max() == 1


def test_the_set_is_in_the_released_order_and_passes_its_settings_on():
    assert [type(s).__name__ for s in NA().steps] == ["SpatialFlip", "Rotate", "GaussianNoise", "GaussianBlur", "AxisMask"]
    steps = NA(main=10., other=2., std=.1, sigma=(1., 1.5), p=.25, mirror=True, signed=True, absent="keep", normalise=True, skeleton=COCO17).steps
    assert all(s.p == .25 for s in steps if hasattr(s, "p")) and all(s.skeleton is COCO17 for s in steps)
    flip, rotate, noise, blur, _ = steps
    assert (flip.mirror, rotate.main, rotate.other, rotate.signed, noise.std, noise.absent, blur.sigma, blur.normalise) == (True, 10., 2., True, .1, "keep", (1., 1.5), True)


# what each of them keeps

@settings(max_examples=30, deadline=None)
@given(layout=st.sampled_from(sorted(LAYOUTS)), mirror=st.booleans(), seed=st.integers(0, 99))
def test_two_flips_are_none(layout, mirror, seed):
    skeleton = LAYOUTS[layout]
    x, flip, on = clips(3, v=len(skeleton), seed=seed), SpatialFlip(mirror, skeleton=skeleton), {"on": torch.tensor([True, False, True])}
    y = flip.apply(x, on)
    assert torch.equal(flip.apply(y, on), x) and torch.equal(y[1], x[1])
    back = TimeFlip()
    assert torch.equal(back.apply(back.apply(x, on), on), x)
    for left, right in skeleton.pairs:
        assert torch.equal(y[0][1:, :, left], x[0][1:, :, right])                          # up and depth go to the other side as they are
        assert torch.equal(y[0][0, :, left], (-1 if mirror else 1) * x[0][0, :, right])


def test_a_mirror_negates_the_axis_that_goes_from_side_to_side():
    for up in ("x", "-x", "y", "-y", "z", "-z"):
        s = Skeleton.from_dict({**NTU25.to_dict(), "up": up})
        pose = torch.as_tensor(np.asarray(s.rest)).T.reshape(1, 3, 1, 25, 1)
        torch.testing.assert_close(SpatialFlip(True, skeleton=s).apply(pose, ON), pose)     # the reference pose is its own mirror image


def lengths(x, s=NTU25): return (x - x[:, :, :, list(s.parents)]).norm(dim=1)


@settings(max_examples=30, deadline=None)
@given(angles=st.lists(st.floats(-360, 360), min_size=3, max_size=3), c=st.sampled_from([2, 3]))
def test_rotation_keeps_bone_lengths(angles, c):
    x = clips(1, c).double()
    p = {"angles": torch.tensor([angles], dtype=torch.float64)}
    y = Rotate().apply(x, p)
    torch.testing.assert_close(lengths(y), lengths(x))
    R = rotation(p["angles"])
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64)[None])
    assert abs(torch.linalg.det(R) - 1) < 1e-12
    torch.testing.assert_close(Rotate().apply(2 * x - 1, p), 2 * y - Rotate().apply(torch.ones_like(x), p))     # linear


def test_rotation_turns_about_x_first():
    x = torch.tensor([0., 1., 0.]).view(1, 3, 1, 1, 1).double()
    y = Rotate().apply(x, {"angles": torch.tensor([[90., 90., 0.]])}).flatten()            # y -> -z, and that by the turn about y -> x
    torch.testing.assert_close(y, torch.tensor([1., 0., 0.], dtype=torch.float64), atol=1e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [1, 5, 50, 120])
def test_blur_of_a_still_person(t, dtype):
    x = torch.full((3, 3, t, 25, 2), 2., dtype=dtype)
    p = {"sigma": torch.tensor([.1, 1., 2.], dtype=dtype), "on": torch.tensor([True, True, True])}
    torch.testing.assert_close(GaussianBlur(normalise=True).apply(x, p), x)                # at the ends too
    y = GaussianBlur().apply(x, p)
    if t > 14:                                                                             # away from the ends: the sum of the taps
        for k, s in enumerate(p["sigma"].tolist()):
            total = sum(math.exp(-j * j / (2 * s * s)) for j in range(-7, 8))
            torch.testing.assert_close(y[k, :, 7:-7], torch.full_like(y[k, :, 7:-7], 2 * total))
        assert (y[2, :, 0] < .7 * y[2, :, t // 2]).all()                                   # at the ends half of the window sees zeros


def test_blur_is_linear_symmetric_and_leaves_the_others_alone():
    x, y, blur = clips(seed=1).double(), clips(seed=2).double(), GaussianBlur()
    p = {"sigma": torch.tensor([.3, .8, 1.5, 2.], dtype=torch.float64), "on": torch.tensor([True, False, True, True])}
    torch.testing.assert_close(blur.apply(2 * x - 3 * y, p), 2 * blur.apply(x, p) - 3 * blur.apply(y, p))
    torch.testing.assert_close(blur.apply(x.flip(2), p), blur.apply(x, p).flip(2))
    assert torch.equal(blur.apply(x, p)[1], x[1])
    point = torch.zeros(1, 1, 31, 1, 1); point[0, 0, 15] = 1
    taps = blur.apply(point, {"sigma": torch.tensor([1.]), "on": torch.tensor([True])}).flatten()
    torch.testing.assert_close(taps[8:23], blur.kernel(torch.tensor([1.]))[0]); assert (taps[:8] == 0).all() and (taps[23:] == 0).all()


def test_absent_persons():
    x = clips(2); x[:, :, :, :, 1] = 0; x[0, :, 5:, :, 0] = 0                             # person 2 never there; person 1 of the first clip leaves
    p = GaussianNoise(p=1.).draw(x.shape, torch.Generator().manual_seed(0))
    kept, noisy = GaussianNoise(absent="keep").apply(x, p), GaussianNoise().apply(x, p)
    assert (kept[..., 1] == 0).all() and (kept[0, :, 5:] == 0).all() and (noisy != 0).all()
    there = (x != 0).any(1, keepdim=True).any(3, keepdim=True).expand_as(x)
    assert torch.equal(kept[there], noisy[there]) and (kept[there] != x[there]).all()


def test_axis_mask_hides_one_coordinate():
    x = clips(3)
    y = AxisMask().apply(x, {"axis": torch.tensor([0, 2, 1]), "on": torch.tensor([True, True, False])})
    assert (y[0, 0] == 0).all() and (y[1, 2] == 0).all() and torch.equal(y[2], x[2])
    assert torch.equal(y[0, 1:], x[0, 1:]) and torch.equal(y[1, :2], x[1, :2])
