"""Every method trains every encoder of the papers, with and without a perturbed graph."""

import pytest
import torch

from skelnb.augment import DropAddEdges
from skelnb.encoders import ENCODERS, create_encoder
from skelnb.methods import METHODS, create_method
from skelnb.methods.momentum import MethodError, init_weights, method_class
from skelnb.skeleton import UCLA20

QUEUED = {"skeletonclr", "aimclr", "hiclr", "crossclr"}


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("encoder", sorted(set(ENCODERS) - {"tcn"}))
def test_one_step(method, encoder):
    torch.manual_seed(0)
    settings = {"queue": 8} if method in QUEUED else {}
    if encoder == "gru": settings["read"] = "mean"
    streams = {} if method == "crossclr" else {"streams": ["joint", "bone"] if method == "acl" else ["bone"]}
    model = create_method(method, encoder=encoder, skeleton=UCLA20, width=4, feature_dim=16, frames=8, persons=2, **settings, **streams)
    x, before = torch.randn(4, 3, 8, 20, 2), {k: v.detach().clone() for k, v in model.named_parameters()}      # parameters: batch norms move without a step
    model.train(); model.start_epoch(1); model.start_step(torch.arange(4))
    loss = model(model.views(x, torch.Generator().manual_seed(0)))["loss"]
    assert loss.isfinite()
    loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], .1).step(); model.after_step()
    moved = [k for k, v in model.named_parameters() if not torch.equal(v, before[k])]
    for stream, e in model.encoders.items():
        assert any(f"{stream}.online.encoder" in k for k in moved) and any(f"{stream}.target.encoder" in k for k in moved)
        assert all(p.isfinite().all() for p in e.parameters())


def test_a_recurrent_network_read_at_its_end_has_no_map_for_aimclr():
    assert method_class("aimclr")
    with pytest.raises(MethodError, match="read='mean'"): create_method("aimclr", encoder="gru", width=4, feature_dim=8, queue=8)
    create_method("aimclr", encoder="gru", width=4, feature_dim=8, queue=8, drop=False)


@pytest.mark.parametrize("encoder", sorted(set(ENCODERS) - {"tcn", "gru"}))
def test_a_perturbed_graph_changes_the_feature_and_lets_the_gradient_through(encoder):
    torch.manual_seed(0)
    e = init_weights(create_encoder(encoder, UCLA20, width=4, feature_dim=16, frames=8, persons=1))      # CTR-GCN and UNIK start with their graph all but switched off
    x = torch.randn(6, 3, 8, 20, 1)
    for _ in range(3): e.train()(x)
    e.eval()
    with torch.no_grad(): assert not torch.equal(e(x), e(x, edges=DropAddEdges(drop=.6, add=.2)))
    e.train()(x, edges=DropAddEdges(drop=.3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in e.parameters())
