"""Augmentations: the authors' numbers, and the promises every augmentation makes."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from skelnb.augment import (BA, NA, AugmentError, Augmentation, AxisMask, Compose, GaussianBlur, GaussianNoise, RandomMask, Rotate, Shear, SkeleAdaIN, SpatialFlip,
                            TemporalCrop, TimeFlip, growing)
from skelnb.augment.core import rearrange
from skelnb.skeleton import COCO17, LAYOUTS, NTU25

EVERY = {"shear": Shear, "crop": TemporalCrop, "BA": BA, "flip": SpatialFlip, "mirror": partial(SpatialFlip, True), "backwards": TimeFlip, "rotate": Rotate,
         "rotate signed": partial(Rotate, signed=True), "noise": partial(GaussianNoise, absent="keep"), "blur": GaussianBlur, "blur normalised": partial(GaussianBlur, True),
         "axis mask": AxisMask, "NA": partial(NA, absent="keep"), "mask": RandomMask, "mask each": partial(RandomMask, per="sample"),
         "AdaIN": partial(SkeleAdaIN, absent="keep"), "AdaIN V": partial(SkeleAdaIN, "V", absent="keep"), "T2": lambda skeleton=NTU25: growing(["BA", "Mask"], skeleton)[1]}
every = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())


def clips(n=4, c=3, t=20, v=25, m=2, seed=0):
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(seed))


def rows(params, index):
    "The params of the samples `index`, whether a dict or a Compose's list; a partner is called by its new number."
    if isinstance(params, list): return [rows(p, index) for p in params]
    return {k: index.argsort()[p[index]] if k == "partner" else p[index] for k, p in params.items()}


# the authors' numbers

@pytest.mark.outside
def test_shear_as_released(fixture):
    ref = fixture("aug_shear")
    x = torch.from_numpy(ref["x"]).double().expand(3, -1, -1, -1, -1)
    y = Shear().apply(x, {"matrix": torch.from_numpy(ref["matrix"])})
    np.testing.assert_allclose(y, ref["y"], rtol=1e-12, atol=1e-12)
    y = Shear().apply(x.float(), {"matrix": torch.from_numpy(ref["matrix"])})
    np.testing.assert_allclose(y, ref["y"], rtol=1e-6, atol=1e-6)


@pytest.mark.outside
@pytest.mark.parametrize("case", ["", "_T13"])
def test_crop_as_released(fixture, case):
    ref = fixture("aug_temporal_crop")
    starts = torch.from_numpy(ref[f"starts{case}"])
    x = torch.from_numpy(ref[f"x{case}"]).expand(len(starts), -1, -1, -1, -1)
    y = TemporalCrop(int(ref["padding_ratio"])).apply(x, {"start": starts})
    np.testing.assert_array_equal(y, ref[f"y{case}"])


@pytest.mark.outside
def test_chain_as_released(fixture):
    ref = fixture("aug_chain_basic")
    (start, *uniforms) = [value for _, value in json.loads(str(ref["trace_json"]))]
    matrix = torch.eye(3, dtype=torch.float64)[None].clone()
    for (i, j), u in zip([(0, 1), (1, 0), (2, 0), (0, 2), (1, 2), (2, 1)], uniforms):   # the order they were drawn in
        matrix[0, i, j] = u
    y = BA().apply(torch.from_numpy(ref["x"])[None].double(), [{"start": torch.tensor([int(start)])}, {"matrix": matrix}])
    np.testing.assert_allclose(y[0], ref["y"], rtol=1e-12, atol=1e-12)


# what is drawn

def test_shear_draws_in_range():
    R = Shear(.5).draw((4000, 3, 1, 1, 1), torch.Generator().manual_seed(0))["matrix"]
    off = R[:, ~torch.eye(3, dtype=bool)]
    assert (torch.diagonal(R, dim1=1, dim2=2) == 1).all()
    assert -.5 <= off.min() < -.499 and .499 < off.max() <= .5
    assert off.mean().abs() < .01 and (off.std() - 1 / 12 ** .5).abs() < .01
    assert (torch.corrcoef(off.T) - torch.eye(6)).abs().max() < .06                     # six independent numbers


def test_crop_draws_every_start():
    start = TemporalCrop().draw((4000, 3, 50, 25, 2), torch.Generator().manual_seed(0))["start"]
    counts = start.bincount()
    assert len(counts) == 17 and (counts - 4000 / 17).abs().max() < 60


@every
def test_draws_repeat_with_the_generator_and_not_without(make):
    x, aug = clips(16), make()
    g = torch.Generator().manual_seed(3)
    first, second = aug(x, g), aug(x, g)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, aug(x, torch.Generator().manual_seed(3)), rtol=0, atol=0)
    torch.manual_seed(5)
    a, b = aug(x), aug(x)
    torch.manual_seed(5)
    assert torch.equal(a, aug(x)) and not torch.equal(a, b)


@every
def test_a_call_is_a_draw_and_an_apply(make):
    x, aug = clips(16), make()
    g, h = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for y in (x, x.bfloat16()): assert torch.equal(aug(y, g), aug.apply(y, aug.draw(y.shape, h)))
    assert torch.equal(g.get_state(), h.get_state())
    flat = lambda p: [v for q in p for v in flat(q)] if isinstance(p, list) else list(p.values())
    assert all(isinstance(v, torch.Tensor) and len(v) == 16 for v in flat(aug.draw(x.shape)))


# promises of every augmentation

@every
@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 4), c=st.integers(2, 3), t=st.integers(1, 40), layout=st.sampled_from(sorted(LAYOUTS)), m=st.integers(1, 3),
       dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), seed=st.integers(0, 99))
def test_any_shape_and_layout(make, n, c, t, layout, m, dtype, seed):
    x = clips(n, c, t, len(LAYOUTS[layout]), m, seed).to(dtype)
    x[0, ..., -1] = 0                                                                   # an empty person
    before, aug = x.clone(), make(skeleton=LAYOUTS[layout])
    params = aug.draw(x.shape, torch.Generator().manual_seed(seed))
    y = aug.apply(x, params)
    assert y.shape == x.shape and y.dtype == dtype and torch.equal(x, before)
    assert torch.equal(y, aug.apply(x, params))                                         # replay
    assert (y[0, ..., -1] == 0).all()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(aug.apply(x[order], rows(params, order)), y[order])      # a permuted batch gives permuted output
    assert torch.equal(aug.apply(x.transpose(2, 3).contiguous().transpose(2, 3), params), y)     # memory layout does not matter


@every
def test_gradient_reaches_the_clips(make):
    x = clips().requires_grad_()
    make()(x).square().sum().backward()
    assert x.grad.abs().sum() > 0


@every
@pytest.mark.parametrize("shape", [(0, 3, 20, 25, 2), (1, 3, 1, 25, 1), (3, 3, 7, 25, 0)])
def test_nobody_and_one_frame(make, shape):
    x = torch.randn(shape)
    y = make()(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape and y.isfinite().all()


# chains: neighbours fuse

def step_by_step(chain, x, params):
    for step, p in zip(chain.steps, params): x = step_by_step(step, x, p) if isinstance(step, Compose) else step.apply(x, p)
    return x


STEPS = [Shear, TemporalCrop, SpatialFlip, partial(SpatialFlip, True), TimeFlip, Rotate, GaussianNoise, GaussianBlur, AxisMask, RandomMask, SkeleAdaIN, BA, NA]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=6), n=st.integers(0, 5), t=st.integers(1, 30), m=st.integers(1, 3), seed=st.integers(0, 99))
def test_a_chain_gives_what_its_steps_give(steps, n, t, m, seed):
    x, chain = clips(n, 3, t, 25, m, seed), Compose([make() for make in steps])
    before, params = x.clone(), chain.draw(x.shape, torch.Generator().manual_seed(seed))
    y = chain.apply(x, params)
    assert torch.equal(x, before)
    expected = step_by_step(chain, x, params)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6 * max(1, float(expected.abs().max() if expected.numel() else 1)))
    torch.testing.assert_close(chain.apply(x.double(), params), step_by_step(chain, x.double(), params), rtol=1e-12, atol=1e-11)
    if x.numel() and steps:
        z = x.clone().requires_grad_()
        step_by_step(chain, z, params).sum().backward()
        w = x.clone().requires_grad_()
        chain.apply(w, params).sum().backward()
        torch.testing.assert_close(w.grad, z.grad, rtol=1e-4, atol=1e-4 * max(1, float(z.grad.abs().max())))


def test_rearrange_by_hand():
    x = torch.arange(2 * 2 * 3 * 2, dtype=torch.float32).view(1, 2, 3, 2, 2)             # C=2, T=3, V=2, M=2
    y = rearrange(x, torch.tensor([[2, 2, 0]]), torch.tensor([[1, 0]]), torch.tensor([[[0., 1.], [1., 1.]]]))
    picked = x[:, :, [2, 2, 0]][:, :, :, [1, 0]]
    assert torch.equal(y[:, 0], picked[:, 1]) and torch.equal(y[:, 1], picked[:, 0] + picked[:, 1])
    assert rearrange(x) is x


def test_a_chain_never_writes_into_what_others_hold():
    class Same(Augmentation):
        def sample(self, shape, generator, device): return {}
        def transform(self, x): return x
    class Nothing(Same):
        def fuse(self, params, shape): return None, None, None
    noise, x = GaussianNoise(p=1.), clips()
    for chain in (Compose([Same(), noise]), Compose([Nothing(), noise]), Compose([noise, Same(), AxisMask(1.)]), Compose([AxisMask(1.)])):
        before, middle = x.clone(), []
        class Keep(Same):
            def transform(self, x): middle.append((x, x.clone())); return x
        chain.steps.insert(1, Keep())
        chain(x)
        assert torch.equal(x, before) and all(torch.equal(a, b) for a, b in middle)


def test_shear_is_linear_and_can_be_undone():
    x, y, aug = clips(seed=1).double(), clips(seed=2).double(), Shear()
    p = aug.draw(x.shape, torch.Generator().manual_seed(0))
    p = {"matrix": p["matrix"].double()}
    torch.testing.assert_close(aug.apply(2 * x - 3 * y, p), 2 * aug.apply(x, p) - 3 * aug.apply(y, p))
    torch.testing.assert_close(aug.apply(aug.apply(x, p), {"matrix": torch.linalg.inv(p["matrix"])}), x)
    assert torch.equal(Shear(0.)(x), x)


def test_crop_shows_frames_of_the_clip_in_one_piece():
    x = torch.arange(12.).view(1, 1, 12, 1, 1).expand(5, -1, -1, -1, -1)
    y = TemporalCrop().apply(x, {"start": torch.arange(5)}).flatten(1)
    assert y.tolist() == [[1, 0, *range(10)], [0, *range(11)], [*range(12)], [*range(1, 12), 11], [*range(2, 12), 11, 10]]
    assert torch.equal(TemporalCrop(6)(x[:, :, :5]), x[:, :, :5])                       # shorter than the ratio: nothing to crop


def test_compose_nests_and_replays():
    x, chain = clips(), Compose([BA(), Compose([Shear(.1)])])
    params = chain.draw(x.shape)
    assert [type(p) for p in params] == [list, list]
    expected = Shear().apply(TemporalCrop().apply(x, params[0][0]), params[0][1])
    torch.testing.assert_close(chain.apply(x, params), Shear().apply(expected, params[1][0]))
    assert "Shear(amplitude=0.1)" in repr(chain)


def test_a_subclass_that_changes_what_happens_is_not_fused():
    class Half(Shear):
        def transform(self, x, matrix): return super().transform(x, matrix=matrix) / 2
    class Never(Shear):
        def apply(self, x, params, **extra): return x
    class Wider(Shear):
        def fuse(self, params, shape): return None, None, 2 * params["matrix"]
    x = clips()
    for make in (Half, Never, Wider):
        chain = Compose([TemporalCrop(), make(), Rotate()])
        params = chain.draw(x.shape, torch.Generator().manual_seed(0))
        torch.testing.assert_close(chain.apply(x, params), step_by_step(chain, x, params), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("wrong, words", [
    (lambda: Shear()(torch.zeros(3, 20, 25, 2)), r"\(N,C,T,V,M\).*\(3, 20, 25, 2\).*x\[None\]"),
    (lambda: Shear()(np.zeros((1, 3, 20, 25, 2))), "ndarray.*as_tensor"),
    (lambda: Shear()(clips().long()), "int64.*float"),
    (lambda: BA()(torch.zeros(3, 20, 25, 2)), "expected clips"),
    (lambda: Shear().draw((3, 20)), r"expected a shape.*\(3, 20\)"),
    (lambda: Shear().apply(clips(4), Shear().draw((3, 3, 1, 1, 1))), "'matrix' for each of the 4 clips, got 3"),
    (lambda: Shear().apply(clips(c=2), {"matrix": torch.zeros(4, 3, 3)}), r"\(2,2\) for 2 coordinates, got \(3, 3\)"),
    (lambda: TemporalCrop().apply(clips(1), {"start": torch.tensor([7])}), "0 to 6 for 20 frames, got 7"),
    (lambda: Compose([Shear()]).apply(clips(), []), "expected 1 entries of params.*got 0"),
    (lambda: Shear(-1), "0 or more, got -1"), (lambda: TemporalCrop(0), "1 or more, got 0"),
    (lambda: SpatialFlip(p=2), "from 0 to 1, got 2"), (lambda: Rotate(-1), "0 degrees or more"), (lambda: Rotate()(clips(c=4)), "2 or 3 coordinates, got 4"),
    (lambda: Rotate().apply(clips(), {"angles": torch.zeros(4, 2)}), r"angles \(N,3\).*\(4, 2\)"), (lambda: SpatialFlip()(clips(v=17)), "expected 25 joints .ntu25., got 17"),
    (lambda: GaussianNoise(-1), "0 metres or more"), (lambda: GaussianNoise(absent="away"), "'noise' or 'keep', got 'away'"),
    (lambda: GaussianNoise().apply(clips(), GaussianNoise().draw((4, 3, 9, 25, 2))), r"noise of shape \(4, 3, 20, 25, 2\)"),
    (lambda: GaussianBlur(sigma=(0, 1)), "both above 0"), (lambda: GaussianBlur(taps=4), "odd number of taps, got 4"),
    (lambda: RandomMask(2), "0 to 1, got 2"), (lambda: RandomMask(per="clip"), "'batch' or 'sample'"),
    (lambda: RandomMask().apply(clips(), RandomMask().draw((4, 3, 9, 25, 2))), r"mask \(N,T,V\) = \(4, 20, 25\)"),
    (lambda: RandomMask().apply(clips(), RandomMask().draw(clips().shape), token=torch.zeros(3)), "one number"),
    (lambda: SkeleAdaIN("T"), "'TV' or 'V'"), (lambda: SkeleAdaIN(absent="noise"), "'transfer' or 'keep'"),
    (lambda: SkeleAdaIN().apply(clips(), {"partner": torch.tensor([0, 1, 2, 4])}), "partners from 0 to 3, got 0 to 4"),
])
def test_errors_say_what_was_expected_and_what_came(wrong, words):
    with pytest.raises(AugmentError, match=f"(?s){words}"):
        wrong()


def test_own_augmentation_that_needs_its_layout():
    class Nod(Augmentation):
        needs_skeleton = True
        def sample(self, shape, generator, device): return {"on": torch.rand(shape[0], generator=generator, device=device) < .5}
        def transform(self, x, on): return torch.where(on.view(-1, 1, 1, 1, 1), -x, x)
    assert Nod(COCO17)(clips(v=17)).shape == (4, 3, 20, 17, 2)
    with pytest.raises(AugmentError, match="expected 25 joints .ntu25., got 17.*skeleton="):
        Nod(NTU25)(clips(v=17))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@every
def test_same_on_the_gpu(make):
    x, aug = clips(), make()
    params = aug.draw(x.shape, torch.Generator().manual_seed(0))
    torch.testing.assert_close(aug.apply(x.cuda(), params).cpu(), aug.apply(x, params), rtol=1e-4, atol=1e-4)
    assert aug(x.cuda(), torch.Generator("cuda")).device.type == "cuda"
