"""What makes a step fast must not change its numbers: passes run backward one by one, the benchmark's plain reference, the benchmark itself."""

import copy
import json
import sys
import weakref

import pytest
import torch

from skelnb.methods import CMAL, AimCLR, CrosSCLR, HiCLR, SkeletonCLR

SMALL = dict(encoder="stgcn", width=4, feature_dim=16, frames=12, queue=24, projection=8, weights="own", init="copy", tau=.9)
CASES = {
    "hiclr": (HiCLR, {}),
    "hiclr-edges": (HiCLR, dict(sets=["BA", "NA", "Mask", "DAE"], sim="ce")),
    "hiclr-cosine": (HiCLR, dict(sim="cosine", streams=["joint", "bone"])),
    "aimclr": (AimCLR, {}),
    "aimclr-mask": (AimCLR, dict(sets=["BA", "NA+Mask+DAE"])),
    "aimclr-no-drop": (AimCLR, dict(drop=False)),
}


def clips(n=8, seed=0):
    return torch.randn(n, 3, 12, 25, 2, generator=torch.Generator().manual_seed(seed))


def make(case, **settings):
    kind, own = CASES[case]
    torch.manual_seed(0)
    return kind(**{**SMALL, **own, **settings})


def train(method, apart, steps=5, lr=.02, autocast=False):
    "A few steps by hand, dropout and masks on; what each reported."
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr, momentum=.9)
    chance, found = torch.Generator().manual_seed(1), []
    torch.manual_seed(2)
    method.train().start_epoch(5)
    for step in range(steps):
        views = method.views(clips(seed=step).to(method.queues["joint"].rows), chance)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = method(views, lambda loss: loss.backward()) if apart else method(views)
        assert out["loss"].requires_grad != apart
        if not apart: out["loss"].backward()
        optimizer.step()
        method.after_step()
        found.append({k: v.item() for k, v in out.items()})
    return found


@pytest.mark.parametrize("mine_from", [None, 1])
@pytest.mark.parametrize("case", CASES)
def test_one_by_one_gives_the_same_numbers(case, mine_from):
    "Loss, reports, parameters, statistics, queue and the state of the random numbers after 5 steps with dropout, masks and dropped edges."
    method = make(case, mine_from=mine_from).double()
    other = copy.deepcopy(method)
    assert method.apart and method.encoders["joint"].blocks[1].dropout == .5
    reports = train(method, False)
    state = torch.get_rng_state()
    again = train(other, True)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(reports, again):
        assert a.keys() == b.keys()
        torch.testing.assert_close(list(b.values()), list(a.values()), rtol=1e-9, atol=1e-9)
    for (name, a), b in zip(method.state_dict().items(), other.state_dict().values()):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9, msg=lambda m: f"{name}: {m}")


def close(a, b):
    "Parameters after some steps in float32: how sums are rounded, and so what the steps make of it, is the processor's affair."
    assert (a - b).abs().max() <= 1e-3 * a.abs().max().clamp_min(.2), (a - b).abs().max()


@pytest.mark.parametrize("mine_from", [None, 1])
@pytest.mark.parametrize("case", ["hiclr", "aimclr"])
def test_one_by_one_in_float32(case, mine_from):
    method = make(case, mine_from=mine_from)
    other = copy.deepcopy(method)
    for a, b in zip(train(method, False), train(other, True)): torch.testing.assert_close(list(b.values()), list(a.values()), rtol=1e-4, atol=1e-5)
    for a, b in zip(method.parameters(), other.parameters()): close(a, b)


def test_the_first_gradient_is_the_same_to_the_bit_but_for_the_order_of_a_sum():
    "One step in float32: each pass sends the same gradient; three of them are added up in another order."
    grads = []
    for apart in (False, True):
        method = make("hiclr", mine_from=None).train()
        torch.manual_seed(3)
        views = method.views(clips(), torch.Generator().manual_seed(1))
        out = method(views, (lambda loss: loss.backward()) if apart else None)
        if not apart: out["loss"].backward()
        grads.append([p.grad for p in method.parameters() if p.requires_grad])
    for a, b in zip(*grads): assert (a - b).abs().max() <= 2e-6 * a.abs().max().clamp_min(1e-3)


def test_under_autocast():
    "bfloat16: the casts of the weights are shared by the passes of a step; running them one by one changes the rounding of sums only."
    method = make("hiclr", mine_from=None)
    other = copy.deepcopy(method)
    a, b = train(method, False, 1, autocast=True), train(other, True, 1, autocast=True)
    assert abs(a[0]["loss"] - b[0]["loss"]) < 1e-5
    a, b = (torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (method, other))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > .9999


class Kept:
    "Bytes that autograd keeps for the way back, now and at most."
    def __init__(self): self.now = self.most = 0

    def pack(self, tensor):
        class Held: pass
        held, size = Held(), tensor.numel() * tensor.element_size()
        held.tensor = tensor
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(held, self.less, size)
        return held

    def less(self, size): self.now -= size
    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda held: held.tensor)
        self.hooks.__enter__()
        return self
    def __exit__(self, *error): self.hooks.__exit__(*error)


def kept(case, apart, mine_from):
    method = make(case, mine_from=mine_from, queue=8).train()
    method.start_epoch(2)
    views = method.views(clips())
    with Kept() as found:
        out = method(views, (lambda loss: loss.backward()) if apart else None)
        if not apart: out["loss"].backward()
    return found.most


@pytest.mark.parametrize("case, passes", [("hiclr", 3), ("hiclr-edges", 4), ("aimclr", 2)])
def test_memory_of_the_graphs(case, passes):
    "All at once: as many graphs as passes. One by one: one; two while mining."
    whole = kept(case, False, None)
    assert kept(case, True, None) < 1.15 * whole / passes * (1.1 if case == "aimclr" else 1)
    assert kept(case, True, 1) < 1.15 * 2 * whole / passes


def test_who_cannot_be_taken_apart():
    "A loss or a step that joins the passes is run all at once, `backward` or not."
    class Star(HiCLR):
        def stream_loss(self, q, k, queue, positives=None): return {"loss": sum((z - q[0]).square().sum() for z in q[1:])}
    class Joined(HiCLR):
        def forward(self, views): return super().forward(views)
    torch.manual_seed(0)
    assert not Star(**SMALL).apart and not Joined(**SMALL).apart and not SkeletonCLR(**SMALL).apart and not CrosSCLR(**SMALL).apart
    for kind in (SkeletonCLR, CrosSCLR, Star):
        method = kind(**SMALL).train()
        heard = []
        out = method(method.views(clips()), lambda loss: (heard.append(loss.item()), loss.backward()))
        assert heard == [out["loss"].item()] and not out["loss"].requires_grad
        assert all(p.grad is not None for p in method.pairs["joint"].online.encoder.parameters())


def test_the_loop_runs_one_by_one_in_a_single_process(monkeypatch):
    "`pretrain` uses it, also when the optimiser waits for several batches; the numbers are those of the whole."
    import skelnb.train.pretrain as _                                               # noqa: F401
    pt = sys.modules["skelnb.train.pretrain"]
    from skelnb.skeleton import NTU25

    class Clips:
        name, skeleton, classes, y = "made up", NTU25, ["a"], [0] * 32
        def __len__(self): return 32
        def batch(self, index, device="cpu"): return clips(32)[torch.as_tensor(index)].to(device).double()         # in float32 rounding alone moves weights by 1e-4 in these steps

    used, true = [], HiCLR.one_by_one
    monkeypatch.setattr(HiCLR, "one_by_one", lambda self, *a: (used.append(1), true(self, *a))[1])
    for accumulate in (1, 2):
        histories, methods = [], []
        for apart in (True, False):
            method = make("hiclr", mine_from=1).double()
            if not apart: monkeypatch.setattr(HiCLR, "apart", False)
            histories.append(pt.pretrain(method, Clips(), 2, batch_size=8, lr=.02, accumulate=accumulate, device="cpu", progress=False))
            methods.append(method)
            if not apart: monkeypatch.undo(); monkeypatch.setattr(HiCLR, "one_by_one", lambda self, *a: (used.append(1), true(self, *a))[1])
        assert len(used) == 8
        used.clear()
        for a, b in zip(*histories): assert all(abs(a[k] - b[k]) < 1e-9 for k in a if k != "seconds")
        for a, b in zip(*(m.parameters() for m in methods)): torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


# --- the plain reference of the benchmark is the same function

def plain_step(method, views, mask=None):
    from benchmarks.reference import plain_like
    plain = plain_like(method).to(next(method.parameters()).dtype).train()
    return plain, plain(views, mask)


@pytest.mark.parametrize("case", ["hiclr", "skeletonclr", "cmal"])
def test_the_reference_is_the_same_function(case):
    "The same weights without dropout: loss, gradients, statistics, and what the moving average and the queue become."
    torch.manual_seed(0)
    small = {**SMALL, "dropout": 0., "init": "independent"}
    if case == "cmal": method = CMAL(**{k: v for k, v in small.items() if k not in ("queue", "projection")})
    else: method = {"hiclr": HiCLR, "skeletonclr": SkeletonCLR}[case](**small, **({"sim": "ce"} if case == "hiclr" else {}))
    method = method.double().train()
    views = method.views(clips().double(), torch.Generator().manual_seed(1))
    mask = None
    if case == "hiclr":
        torch.manual_seed(4)
        mask = method.branches[2].mask.draw(views[0].shape)["mask"][0]
    plain, (loss, keys) = plain_step(method, views, mask)
    torch.manual_seed(4)                                                                   # forward draws the mask again: without dropout nothing else is drawn
    out = method(views)
    torch.testing.assert_close(loss, out["loss"], rtol=1e-8, atol=1e-8)
    loss.backward(); out["loss"].backward()
    pair = method.pairs["joint"]
    for part in ("encoder", "projector"):
        ours, theirs = getattr(pair.online, part), plain.online[part]
        for name, p in theirs.named_parameters(): torch.testing.assert_close(p.grad, ours.get_parameter(name).grad, rtol=1e-6, atol=1e-9, msg=lambda m: f"{name}: {m}")
        for name, b in theirs.named_buffers():
            if "running" in name: torch.testing.assert_close(b, ours.get_buffer(name), rtol=1e-8, atol=1e-10)
    plain.after_step(keys); method.after_step()
    for part in ("encoder", "projector"):
        for name, p in plain.target[part].named_parameters(): torch.testing.assert_close(p, getattr(pair.target, part).get_parameter(name))
    if keys is not None: torch.testing.assert_close(plain.queue.T, method.queues["joint"].rows)
    plain.eval(); method.eval()
    torch.testing.assert_close(plain.online["encoder"](views[0]), pair.online.encoder(views[0]), rtol=1e-8, atol=1e-10)


def test_the_plain_graph_is_ours():
    from benchmarks.reference import spatial_graph
    from skelnb.skeleton import NTU25
    torch.testing.assert_close(spatial_graph(), torch.from_numpy(NTU25.adjacency("spatial")).float())


# --- the benchmark

ROWS = [dict(task="hiclr", who="ours", once=True, bf16=True), dict(task="hiclr", who="plain"), dict(task="skeletonclr", who="ours"), dict(task="cmal", who="plain", bf16=True), dict(task="cmal", who="ours"),
        dict(task="acl", who="ours"), dict(task="features", who="ours", once=True), dict(task="features", who="plain"), dict(task="views", who="ours"), dict(task="views", who="plain")]


@pytest.mark.parametrize("r", ROWS, ids=lambda r: "-".join(str(v) for v in r.values()))
def test_each_kind_of_row_runs(r):
    from benchmarks import speed
    found = speed.measure(speed.row(**r), batch=8, times=1, smoke=True)
    assert found["clips/s"] > 0 and found["MB"] > 0


def test_the_benchmark_from_end_to_end(tmp_path):
    "Processes of their own, ratios, shares and the table, tiny."
    from benchmarks import speed
    told = speed.main(["--smoke", "--batch", "8", "--times", "1", "--only", "features", "--no-malloc", "--out", str(tmp_path / "speed.json")])
    assert json.loads((tmp_path / "speed.json").read_text()) == told
    rows = {speed.key(r): r for r in told["rows"]}
    assert rows["features", "plain", False, True, False, False]["times plain"] == 1
    assert all(r["times plain"] > 0 and 0 < r["share of matmul"] for r in told["rows"]) and told["import skelnb, seconds"] < 5
    assert "features, ours, bf16, 18 % two-person clips" in speed.table(told)


def test_the_small_run(monkeypatch, tmp_path):
    "Both precisions, put into the file of a run that was there."
    from benchmarks import speed
    file = tmp_path / "speed.json"
    file.write_text(json.dumps({"rows": []}))
    monkeypatch.setattr(speed, "ask", lambda job, **options: speed.JOBS[job](epochs=1, clips=32, **options))
    told = speed.main(["--small-runs", "--out", str(file)])
    assert told == json.loads(file.read_text()) and told["rows"] == []
    assert [(s["bf16"], s["clips"], s["frames"]) for s in told["small runs"]] == [(False, 32, 50), (True, 32, 50)] and all(s["seconds"] > 0 for s in told["small runs"])


def test_a_whole_run_at_full_width():
    from benchmarks import speed
    found = speed.full_width(epochs=2, compile={"backend": "eager"}, smoke=True)
    assert 0 < found["first epoch"] < found["seconds"] and found["clips"] == 32
    told = json.loads((speed.RESULTS / "speed.json").read_text())
    assert speed.table(told | {"full width": [found]}).startswith(speed.table(told)) and "2 epochs" in speed.table(told | {"full width": [found]}).splitlines()[-1]


def test_arithmetic_of_the_plain_step():
    "GFLOP a clip: 4.9, 12.3 and 29.2, with some 1 % for the queue; the encoder alone 1.22."
    from benchmarks.speed import arithmetic
    found = arithmetic()
    assert abs(found["features"] - 1.22) < .02 and abs(found["skeletonclr"] / 4.9 - 1) < .05 and abs(found["hiclr"] / 12.3 - 1) < .05 and abs(found["cmal"] / 29.2 - 1) < .05, found
