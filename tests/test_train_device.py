"""Training on a device: a step that asks and sends nothing (proven on torch's `meta` device), sets that lie there, a loss that is looked at later, compiled encoders."""

import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from skelnb.augment.core import Augmentation
from skelnb.data.synthetic import synthesize
from skelnb.encoders.core import create_encoder
from skelnb.methods import create_method
from skelnb.train import pretrain
from skelnb.train.checkpoint import random_state, set_random_state
from skelnb.train.device import Finite, Resident, compiled, on_device, records_graphs
from skelnb.train.pretrain import NonFiniteLoss, PretrainError, ResumeError

SMALL = dict(width=4, feature_dim=16)
QUEUE = dict(SMALL, queue=32)


@pytest.fixture(scope="module")
def studio():
    return synthesize(n_subjects=8, n_cameras=1, n_repeats=1, n_setups=1, classes=["wave", "kick"], frames=20)


class Sent(TorchDispatchMode):
    "Operations that carry a tensor from the CPU to another device."
    def __init__(self): super().__init__(); self.found = []
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.device.type != "cpu":
            self.found += [f"{func} {tuple(a.shape)}" for a in args if isinstance(a, torch.Tensor) and a.device.type == "cpu" and a.ndim]
        return out


class Lists(TorchFunctionMode):
    "Lists that become tensors of a device, or indices: on a GPU each is sent, and waited for; `meta` says nothing."
    def __init__(self): super().__init__(); self.found = []
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name, here = getattr(func, "__name__", ""), torch.device(kwargs.get("device") or (args[0].device if args and isinstance(args[0], torch.Tensor) else "cpu")).type == "cpu"
        if not here and name in ("tensor", "as_tensor", "new_tensor") and not isinstance(args[-1], torch.Tensor): self.found.append(name)
        if not here and name in ("__getitem__", "__setitem__"):
            self.found += [name for i in (args[1] if isinstance(args[1], tuple) else (args[1],)) if isinstance(i, (list, tuple, range))]
        return out


METHODS = {
    "cmal": ("cmal", SMALL), "skeletonbyol": ("skeletonbyol", SMALL), "cmal, three streams": ("cmal", dict(SMALL, streams=["joint", "motion", "bone"])),
    "acl, stage one": ("acl", dict(SMALL, stage1=1)), "acl, stage two": ("acl", dict(SMALL, stage1=0)), "acl, bce": ("acl", dict(SMALL, stage1=0, form="bce")), "cmal, NA": ("cmal", dict(SMALL, augment="BA+NA")),
    "skeletonclr": ("skeletonclr", QUEUE), "hiclr": ("hiclr", QUEUE), "hiclr, mining": ("hiclr", dict(QUEUE, mine_from=0)), "hiclr, DAE": ("hiclr", dict(QUEUE, sets=["BA", "NA", "DAE"])),
    "hiclr, AdaIN": ("hiclr", dict(QUEUE, sets=["BA", "NA", "AdaIN"])), "aimclr": ("aimclr", QUEUE), "aimclr, mining": ("aimclr", dict(QUEUE, mine_from=0)),
    "crossclr": ("crossclr", QUEUE), "crossclr, stage two": ("crossclr", dict(QUEUE, cross_from=0)), "dsta": ("skeletonclr", dict(QUEUE, encoder="dsta", frames=20, persons=2)),
    "dsta, DAE": ("hiclr", dict(QUEUE, sets=["BA", "DAE"], encoder="dsta", frames=20, persons=2)), "ctrgcn": ("cmal", dict(SMALL, encoder="ctrgcn", frames=20, persons=2)), "unik": ("cmal", dict(SMALL, encoder="unik", frames=20, persons=2)), "gru": ("cmal", dict(SMALL, encoder="gru", frames=20, persons=2)),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_step_asks_and_sends_nothing(name, monkeypatch):
    "`meta` has no numbers: a question is an error, and so is a tensor that was left on the CPU. Views are drawn there as with a generator of the device."
    sampled = Augmentation._sampled
    monkeypatch.setattr(Augmentation, "_sampled", lambda self, shape, generator, device=None: sampled(self, shape, None, "meta"))
    kind, config = METHODS[name]
    method = create_method(kind, **config).to("meta").train()
    if hasattr(method, "watch"): method.watch(torch.arange(64) % 3)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], .1, momentum=.9, weight_decay=1e-4)
    x, finite = torch.zeros(8, 3, 20, 25, 2, device="meta"), Finite("meta", late=True)
    finite.before = None
    method.start_epoch(1)
    for step in range(2):
        with Sent() as sent, Lists() as lists:
            method.start_step(torch.arange(8, device="meta"))
            views = method.views(x)
            found = method(views, lambda loss: loss.backward()) if getattr(method, "apart", False) else method(views)
            if not getattr(method, "apart", False): found["loss"].backward()
            optimizer.step(); optimizer.zero_grad(); method.after_step()
        if step: assert not sent.found and not lists.found                                    # the first may bring what stays there, such as labels
    assert found["loss"].device.type == "meta"


def test_the_proof_would_notice():
    "A look and a sent tensor are both found."
    with pytest.raises(RuntimeError, match="meta"): torch.zeros(3, device="meta").max().item()
    with Sent() as sent: torch.zeros(3).to("meta")
    assert len(sent.found) == 1
    x = torch.zeros(4, 3, device="meta")
    with Lists() as lists: x[[0, 2]]; x[..., [1]]; torch.tensor([1, 2], device="meta"); x.new_tensor([3]); x[1:, None]; x[torch.empty(2, dtype=int, device="meta")]; torch.tensor([1, 2])
    assert lists.found == ["__getitem__", "__getitem__", "tensor", "new_tensor"]


def test_a_clip_of_two_coordinates_sends_nothing_either():
    from skelnb.augment.normal import Rotate
    with Sent() as sent, Lists() as lists:
        params = Rotate().sample((8, 2, 20, 25, 1), None, torch.device("meta"))
        Rotate().fuse(params, (8, 2, 20, 25, 1))
    assert not sent.found and not lists.found


def test_a_set_on_a_device(studio):
    some = studio.subset(torch.arange(0, len(studio), 3).numpy())
    for chunk in (1, 3, 4096):
        found = Resident(some, "cpu", chunk=chunk)
        assert len(found) == len(some) and torch.equal(found.batch(torch.tensor([2, 0, 2])), some.batch([2, 0, 2]))
    half = Resident(some, "cpu", torch.float16).batch(range(len(some)))
    assert half.dtype == torch.float32 and 0 < (half - some.batch()).abs().max() < 1e-3
    assert on_device(some, "cpu") is some
    with pytest.raises(ValueError, match="'half'"): on_device(some, "cpu", "yes")


def test_room_decides(studio, monkeypatch):
    from skelnb.train import device
    need = studio.batch().numel() * 4
    for free, wanted in ((None, False), (2 * need - 1, False), (2 * need, True)):
        monkeypatch.setattr(device, "_free", lambda _: free)
        assert isinstance(on_device(studio, "cpu"), Resident) == wanted


def test_no_room_is_told(studio, monkeypatch):
    from skelnb.train import device
    def full(*args): raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(device, "Resident", full)
    with pytest.raises(ValueError, match="GB and does not fit on cpu; use resident='half'"): on_device(studio, "cpu", True)
    with pytest.raises(ValueError, match="use resident=False"): on_device(studio, "cpu", "half")


def losses(studio, **how):
    torch.manual_seed(0)
    return [row["loss"] for row in pretrain(create_method("cmal", **SMALL), studio, **dict(dict(epochs=2, batch_size=8, lr=.05, seed=0, device="cpu", progress=False), **how))]


def test_the_same_numbers_from_a_set_on_the_device(studio, tmp_path):
    "Also where a run is gone on with; half precision is another run, and says so."
    whole = losses(studio)
    assert losses(studio, resident=True) == whole
    losses(studio, epochs=1, resident=True, out=tmp_path / "a")
    assert losses(studio, out=tmp_path / "a") == whole
    half = losses(studio, resident="half", out=tmp_path / "b")
    assert half != whole and abs(half[0] - whole[0]) < .05
    with pytest.raises(ResumeError, match="half"): losses(studio, epochs=3, out=tmp_path / "b")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("bad_step", [2, 3])
def test_a_loss_that_is_no_number(studio, tmp_path, monkeypatch, late, bad_step):
    "Known at once on the CPU, one step later on a GPU, and at the latest at the end of the epoch; the last checkpoint is good."
    from skelnb.train import pretrain as loop
    import importlib
    loop = importlib.import_module("skelnb.train.pretrain")
    monkeypatch.setattr(loop, "Finite", lambda device: Finite(device, late=late))
    data = studio.subset(range(12))                                           # three steps an epoch
    method = create_method("cmal", **SMALL)
    seen, forward = [], method.forward
    def spoilt(views):
        seen.append(1)
        found = forward(views)
        return {**found, "loss": found["loss"] * float("nan")} if len(seen) == 3 + bad_step else found
    method.forward = spoilt
    with pytest.raises(NonFiniteLoss, match="epoch 2: .*loss nan.*checkpoint of epoch 1"): pretrain(method, data, epochs=2, batch_size=4, lr=.05, out=tmp_path, device="cpu", progress=False)
    assert len(seen) == 3 + min(bad_step + late, 3)
    if not late: assert all(p.isfinite().all() for p in method.parameters())
    method.forward = forward
    assert len(pretrain(method, data, epochs=2, batch_size=4, lr=.05, out=tmp_path, device="cpu", progress=False)) == 2
    assert all(p.isfinite().all() for p in method.parameters())


def test_random_numbers_of_another_device():
    "A run that comes from a device with a generator of another build goes on with fresh numbers, the same each time."
    here = torch.Generator().manual_seed(3)
    state = random_state(here)
    state["own"] = [torch.arange(16, dtype=torch.uint8)]
    draws = []
    for _ in range(2):
        set_random_state(state, here)
        draws.append(torch.rand(3, generator=here))
    assert torch.equal(*draws)
    state["own"] = [torch.arange(1, 17, dtype=torch.uint8)]
    set_random_state(state, here)
    assert not torch.equal(draws[0], torch.rand(3, generator=here))


@pytest.mark.parametrize("name", ["stgcn", "dsta", "tcn"])
def test_an_encoder_in_training_is_one_graph(name):
    "No break for the compiler, in training and evaluation, with and without dropout."
    torch.manual_seed(0)
    encoder = create_encoder(name, "ntu25", **({} if name == "tcn" else dict(SMALL, dropout=0.)), frames=12, persons=1)
    x = torch.randn(4, 3, 12, 25, 1)
    for mode in (True, False):
        torch._dynamo.reset()
        encoder.train(mode)
        expected = encoder(x)
        one = torch.compile(encoder, backend="eager", fullgraph=True)
        torch.testing.assert_close(one(x), expected, atol=1e-5, rtol=1e-5)
    if name == "stgcn":
        torch._dynamo.reset()
        for block in encoder.blocks: block.dropout = .5
        assert torch.compile(encoder.train(), backend="eager", fullgraph=True)(x).isfinite().all()


def test_compiled_within_a_run(studio):
    "The encoders are compiled while it lasts; without dropout the numbers are the same, and nothing stays behind."
    torch._dynamo.reset()
    method = create_method("cmal", **SMALL, dropout=0.)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with compiled(method, dict(backend="eager")) as found:
            assert len(found) == 2 and all(m._compiled_call_impl for m in found)
    assert not any(m._compiled_call_impl for m in found)
    with compiled(method, False) as found: assert found == []
    assert len(losses(studio, compile=dict(backend="eager"), epochs=1)) == 1
    with pytest.raises(ValueError, match="reduce-overhead"):
        with compiled(method, 3): pass


def test_after_an_error_the_method_is_as_it_came(studio):
    "A stopped run in bf16 leaves no autocast behind: the next one runs as it says."
    method = create_method("cmal", **SMALL)
    def stop(method, epoch): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): pretrain(method, studio, epochs=1, batch_size=8, lr=.05, mixed_precision="bf16", monitor=stop, device="cpu", progress=False)
    kinds = []
    next(iter(method.pairs.values())).online.projector.register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
    pretrain(method, studio, epochs=1, batch_size=8, lr=.05, mixed_precision="no", device="cpu", progress=False)
    assert set(kinds) == {torch.float32}


@pytest.mark.parametrize("name, config", [("skeletonclr", QUEUE), ("hiclr", QUEUE)])
def test_a_queue_method_that_diverges_says_so(studio, tmp_path, name, config):
    "Its rows are looked at before there is a loss; told is the same: epoch, rate, checkpoint."
    method, data = create_method(name, **config), studio.subset(range(12))
    pretrain(method, data, epochs=1, batch_size=4, lr=.05, out=tmp_path, device="cpu", progress=False)
    with torch.no_grad(): next(iter(method.pairs.values())).online.projector[0].weight.fill_(float("nan"))
    from skelnb.train.checkpoint import load_checkpoint, save_checkpoint
    state = load_checkpoint(tmp_path); state["method"] = method.state_dict(); save_checkpoint(tmp_path, state, 1)
    with pytest.raises(NonFiniteLoss, match="epoch 2: .* holds NaN.*lower lr.*checkpoint of epoch 1"): pretrain(method, data, epochs=2, batch_size=4, lr=.05, out=tmp_path, device="cpu", progress=False)


def test_compiled_runs_are_measured_as_written_and_say_so(studio, tmp_path):
    graphs = []
    def backend(graph, inputs): graphs.append(graph); return graph.forward
    plan = dict(batch_size=8, lr=.05, out=tmp_path, device="cpu", progress=False, compile=dict(backend=backend))
    torch._dynamo.reset()
    method = create_method("cmal", **SMALL)
    pretrain(method, studio, epochs=1, **plan)
    trained = len(graphs)
    assert trained > 0
    torch._dynamo.reset(); graphs.clear()
    pretrain(create_method("cmal", **SMALL), studio, epochs=1, monitor=dict(train=studio, val=studio), **plan | dict(out=tmp_path / "b"))
    assert len(graphs) == trained
    with pytest.raises(ResumeError, match="compile"): pretrain(method, studio, epochs=2, **plan | dict(compile=False))


def test_recorded_graphs(studio):
    assert records_graphs("reduce-overhead") and records_graphs(dict(mode="max-autotune")) and records_graphs(dict(options={"triton.cudagraphs": True}))
    assert not any(map(records_graphs, (False, True, "default", dict(backend="eager"))))
    with pytest.raises(PretrainError, match="accumulate=1"): pretrain(create_method("cmal", **SMALL), studio, epochs=1, batch_size=4, accumulate=2, compile="reduce-overhead", device="cpu", progress=False)
