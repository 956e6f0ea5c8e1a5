"""BYOL and CMAL: the authors' numbers, an independent float64 reference, finite differences, and properties."""

import json
import pathlib
import re

import numpy as np
import pytest
import torch

from skelnb.losses import LossError, byol_loss, cmal_loss, maximise_loss, minimise_loss, symmetric_byol_loss

ROOT = pathlib.Path(__file__).resolve().parent.parent
STREAMS = ("joint", "motion", "bone")


# --- the same losses written once more, in numpy, from the printed equations: squared norms of differences of unit vectors

def unit(a):
    return a / np.sqrt((a ** 2).sum(1, keepdims=True))


def mse(a, b):
    return ((unit(a) - unit(b)) ** 2).sum(1).mean()


def reference(p, p2, z, z2, alpha=1., beta=1.):
    low, high = mse(p, p2), -.5 * (mse(p, z) + mse(p2, z2))
    return dict(byol=mse(p, z2) + mse(p2, z), low=low, high=high, cmal=alpha * low + beta * high)


def rows(n=7, d=5, seed=0, scale=3.):
    return [scale * a for a in np.random.default_rng(seed).standard_normal((4, n, d))]


def tensors(arrays, grad=True):
    return [torch.tensor(a, requires_grad=grad) for a in arrays]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha, beta", [(1., 1.), (1., 0.), (0., 1.), (.3, 2.)])
def test_equals_the_equations_in_numpy(seed, alpha, beta):
    arrays = rows(seed=seed)
    expect = reference(*arrays, alpha, beta)
    t = tensors(arrays)
    assert cmal_loss(*t, alpha, beta).item() == pytest.approx(expect["cmal"], abs=1e-12)
    assert minimise_loss(*t[:2]).item() == pytest.approx(expect["low"], abs=1e-12)
    assert maximise_loss(*t).item() == pytest.approx(expect["high"], abs=1e-12)
    assert symmetric_byol_loss(*t).item() == pytest.approx(expect["byol"], abs=1e-12)


@pytest.mark.parametrize("name", ["byol", "cmal"])
def test_gradient_equals_finite_differences(name):
    arrays = rows(4, 3)
    t = tensors(arrays)
    (symmetric_byol_loss if name == "byol" else cmal_loss)(*t).backward()
    for which in (0, 1):
        numeric, h = np.zeros_like(arrays[which]), 1e-6
        for i in np.ndindex(numeric.shape):
            values = []
            for step in (h, -h):
                moved = [a.copy() for a in arrays]
                moved[which][i] += step
                values.append(reference(*moved)[name])
            numeric[i] = (values[0] - values[1]) / (2 * h)
        np.testing.assert_allclose(t[which].grad.numpy(), numeric, atol=1e-8)
    assert t[2].grad is None and t[3].grad is None, "a gradient reached the target network"


def test_by_hand():
    p = torch.tensor([[1., 0.], [0., 2.], [3., 4.]])
    z = torch.tensor([[0., 5.], [0., 1.], [-3., -4.]])           # right angle, same, opposite: 2, 0, 4
    assert byol_loss(p, z).item() == pytest.approx(2.)
    p2 = torch.tensor([[1., 0.], [1., 0.], [4., 3.]])            # 0, 2, 2 - 2 * 24/25 = .08
    assert minimise_loss(p, p2).item() == pytest.approx(2.08 / 3)
    z2 = torch.tensor([[-1., 0.], [1., 0.], [4., 3.]])           # 4, 0, 0
    assert maximise_loss(p, p2, z, z2).item() == pytest.approx(-(6 + 4) / 3 / 2)
    assert cmal_loss(p, p2, z, z2).item() == pytest.approx((2.08 - 5) / 3)


def test_pairing():
    "L_max compares a prediction with its own view's target, BYOL with the other view's."
    p, p2, z, z2 = tensors(rows(), grad=False)
    assert maximise_loss(p, p2, p, p2).item() == pytest.approx(0., abs=1e-12)
    assert symmetric_byol_loss(p, p2, p2, p).item() == pytest.approx(0., abs=1e-12)
    torch.testing.assert_close(symmetric_byol_loss(p, p2, z, z2), byol_loss(p, z2) + byol_loss(p2, z))


@pytest.mark.parametrize("seed", range(20))
def test_range(seed):
    g = np.random.default_rng(seed)
    t = tensors(rows(1 + seed % 3, 1 + seed % 4, seed, 10. ** g.integers(-6, 7)), grad=False)
    assert -1e-9 <= byol_loss(t[0], t[1]).item() <= 4 + 1e-9
    assert -4 - 1e-9 <= cmal_loss(*t).item() <= 4 + 1e-9


def test_both_ends_of_the_range_are_reached():
    a, b = torch.tensor([[1., 2.]]), torch.tensor([[-2., -4.]])
    assert cmal_loss(a, b, a, b).item() == pytest.approx(4)
    assert cmal_loss(a, a, b, b).item() == pytest.approx(-4)


def test_length_and_order_of_rows_do_not_matter():
    t = tensors(rows(), grad=False)
    order = torch.randperm(7)
    for loss in (symmetric_byol_loss, cmal_loss):
        torch.testing.assert_close(loss(*(a[order] for a in t)), loss(*t))
        torch.testing.assert_close(loss(*(k * a for k, a in zip((.1, 7., 1e3, 2.), t))), loss(*t))


@pytest.mark.parametrize("loss", [symmetric_byol_loss, cmal_loss])
def test_loss_falls_under_its_own_gradient(loss):
    t = tensors(rows(16, 8))
    optimiser = torch.optim.SGD(t[:2], lr=.5)
    values = []
    for _ in range(200):
        value = loss(*t)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0] - .3 and max(np.diff(values)) < 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1., 1e10, 1e30, 3e38])
@pytest.mark.parametrize("loss", [symmetric_byol_loss, cmal_loss])
def test_finite_under_extreme_inputs(loss, scale):
    t = [(torch.tensor(a).float().clamp(-1, 1) * scale).requires_grad_() for a in rows()]
    value = loss(*t)
    value.backward()
    assert value.isfinite() and all(a.grad.isfinite().all() for a in t[:2])


@pytest.mark.parametrize("loss", [symmetric_byol_loss, cmal_loss])
def test_empty_rows_have_no_direction_and_no_gradient(loss):
    t = [torch.tensor(a).float() for a in rows()]
    for a in t: a[2] = 0
    for a in t[:2]: a.requires_grad_()
    value = loss(*t)
    value.backward()
    assert value.isfinite() and all(a.grad.isfinite().all() and (a.grad[2] == 0).all() for a in t[:2])


def test_nan_is_not_hidden():
    t = [torch.tensor(a) for a in rows()]
    t[0][1, 2] = torch.nan
    assert cmal_loss(*t).isnan() and symmetric_byol_loss(*t).isnan()


def test_half_precision_is_widened():
    t = [torch.tensor(a) for a in rows()]
    half = [a.bfloat16() for a in t]
    assert cmal_loss(*half).dtype == torch.float32
    torch.testing.assert_close(cmal_loss(*half), cmal_loss(*(a.float() for a in half)))


@pytest.mark.parametrize("bad, words", [
    ((torch.ones(3, 4), torch.ones(3, 5)), "one shape"),
    ((torch.ones(3, 4), torch.ones(2, 4)), "one shape"),
    ((torch.ones(4), torch.ones(4)), "matrix"),
    ((torch.ones(0, 4), torch.ones(0, 4)), "non-empty"),
    ((torch.ones(3, 4, dtype=torch.long), torch.ones(3, 4)), "float"),
])
def test_errors_say_what_was_expected(bad, words):
    with pytest.raises(LossError, match=words): byol_loss(*bad)
    with pytest.raises(LossError, match=words): minimise_loss(*bad)


# --- the authors' numbers

@pytest.mark.outside
def test_released_code(fixture):
    f = fixture("acl_cmal_ref")
    p, p2, z, z2 = t = tensors(f[k] for k in ("p", "p_prime", "z_target", "z_target_prime"))
    loss = cmal_loss(*t)
    loss.backward()
    assert loss.item() == pytest.approx(float(f["loss"]), abs=1e-6)
    torch.testing.assert_close(p.grad, torch.tensor(f["grad_p"]), atol=1e-8, rtol=1e-5)
    torch.testing.assert_close(p2.grad, torch.tensor(f["grad_p_prime"]), atol=1e-8, rtol=1e-5)
    assert z.grad is None and z2.grad is None
    assert minimise_loss(p, p2).item() == pytest.approx(float(f["loss_min_per_row"].mean()), abs=1e-6)
    assert symmetric_byol_loss(*t).item() == pytest.approx(float(f["byol_symmetric"]), abs=1e-6)
    single = [minimise_loss(p[i:i + 1], p2[i:i + 1]).item() for i in range(len(p))]
    np.testing.assert_allclose(single, f["loss_min_per_row"], atol=1e-6)


@pytest.mark.outside
@pytest.mark.parametrize("stream", STREAMS)
def test_float64_numbers(fixture, stream):
    f = fixture("acl_numpy64")
    p, p2, z, z2 = t = tensors(f[f"{k}_{stream}"] for k in ("p", "pp", "z", "zp"))
    loss = cmal_loss(*t)
    loss.backward()
    assert loss.item() == pytest.approx(float(f[f"cmal_{stream}"]), abs=1e-12)
    assert minimise_loss(p, p2).item() == pytest.approx(float(f[f"cmal_min_{stream}"]), abs=1e-12)
    assert maximise_loss(*t).item() == pytest.approx(float(f[f"cmal_max_{stream}"]), abs=1e-12)
    assert symmetric_byol_loss(*t).item() == pytest.approx(float(f[f"byol_{stream}"]), abs=1e-12)
    np.testing.assert_allclose(p.grad.numpy(), f[f"grad_cmal_p_{stream}"], atol=1e-7)     # theirs are finite differences
    np.testing.assert_allclose(p2.grad.numpy(), f[f"grad_cmal_pp_{stream}"], atol=1e-7)


# --- the folded answers of the exercises

CHAPTERS = ("losses/00_infonce", "losses/01_byol", "losses/02_cmal", "losses/03_cscl", "losses/04_hierarchical", "losses/05_mining", "methods/00_momentum", "methods/01_skeletonbyol", "methods/02_cmal")


def answers():
    for chapter in CHAPTERS:
        book = json.loads((ROOT / "nbs" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        text = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown")
        found = re.findall(r"<details>.*?```python\n(.*?)```.*?</details>", text, re.S)
        assert found, f"{chapter} has no exercise with an answer"
        for n, code in enumerate(found, 1): yield pytest.param(code, id=f"{chapter}-{n}")


@pytest.mark.parametrize("code", list(answers()))
def test_answers_check_themselves(code):
    import importlib

    names = {"torch": torch, "nn": torch.nn}
    for module in ("losses.infonce", "losses.byol", "losses.cmal", "losses.cscl", "losses.hierarchical", "losses.mining", "methods.momentum", "methods.skeletonbyol", "methods.cmal"):
        module = importlib.import_module(f"skelnb.{module}")
        names |= {k: getattr(module, k) for k in module.__all__}
    torch.manual_seed(0)
    exec(code, names)
