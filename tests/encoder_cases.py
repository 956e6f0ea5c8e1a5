"""What the tests of several encoders share: clips, weights away from their defaults, the comparison with a released network."""

import numpy as np
import torch
from torch.nn import functional as F

from skelnb.encoders import load_released


def clips(n=3, c=3, t=12, v=25, m=2, seed=0, dtype=torch.float32):
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def lively(encoder, scale):
    "Weights (by up to half of `scale`) and statistics away from their defaults, so that nothing cancels by luck."
    g = torch.Generator().manual_seed(1)
    for name, p in [*encoder.named_parameters(), *encoder.named_buffers()]:
        if p.is_floating_point():
            noise = torch.rand(p.shape, generator=g).to(p)
            p.data.copy_(p + .3 * noise if "var" in name else p + scale * (noise - .5))
    return encoder.eval()


def count(module): return sum(p.numel() for p in module.parameters())


def assert_forward_as_released(ref, encoder):
    "The released network's output and blocks, from its weights, within 1e-5 of the largest entry."
    state = {k[3:]: torch.from_numpy(np.array(ref[k])) for k in ref if k.startswith("sd/")}
    encoder, seen = load_released(encoder, state).eval(), []
    for block in encoder.blocks: block.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    with torch.no_grad(): feature = encoder(torch.from_numpy(ref["x"]))
    ours = {"out": F.linear(feature, state["fc.weight"], state["fc.bias"]), "block0": seen[0]}
    for name, value in ours.items(): assert np.abs(value.numpy() - ref[name]).max() / np.abs(ref[name]).max() < 1e-5, name
    assert [list(o.shape) for o in seen] == ref["block_shapes"].tolist()
    np.testing.assert_allclose([o.double().abs().mean() for o in seen], ref["block_absmean"], rtol=1e-5)
