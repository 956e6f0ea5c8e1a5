"""SkeletonCLR, AimCLR, HiCLR, CrosSCLR: released numbers through the methods, training steps against plain tensors, the queue, what must not move."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from skelnb.augment import AugmentationSet, DropAddEdges, RandomMask, growing
from skelnb.encoders.core import Encoder as BaseEncoder
from skelnb.losses.byol import unit_rows
from skelnb.methods import AimCLR, CrosSCLR, HiCLR, MethodError, Queue, QueueMethod, SkeletonCLR, create_method, queue_length
from skelnb.methods.queue import gathered, levels, one_set
from skelnb.skeleton import NTU25, UCLA20

N, T, V, M, D, P, K = 6, 5, 25, 2, 8, 4, 15
STREAMS = ("joint", "motion", "bone")
KINDS = {"skeletonclr": SkeletonCLR, "aimclr": AimCLR, "hiclr": HiCLR, "crossclr": CrosSCLR}


class Encoder(BaseEncoder):
    "The smallest thing with a batch norm and a map of features: one linear layer on every joint in every frame."
    def __init__(self, feature_dim=D):
        super().__init__(NTU25, feature_dim)
        self.linear, self.norm = nn.Linear(3, feature_dim), nn.BatchNorm2d(feature_dim)

    def encode_map(self, clips, edges=None):
        return self.norm(self.linear(clips.transpose(1, 3)).transpose(1, 3)).relu()


def make(name, **kw):
    return create_method(name, **{"encoder": Encoder, "queue": K, "projection": P, "hidden": 7, **kw})


def clips(seed=0, n=N):
    return torch.randn(n, 3, T, V, M, generator=torch.Generator().manual_seed(seed))


def louder(method):
    "The small starting weights of the released code hide mistakes."
    with torch.no_grad():
        for p in method.parameters(): p.mul_(10).add_(.1 * torch.randn_like(p))
    return method.double()


# --- the same methods once more, with nothing but tensors

def batch_norm(x, weight, bias):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def stream_of(x, stream):
    if stream == "motion": return torch.cat([x[:, :, 1:] - x[:, :, :-1], 0 * x[:, :, :1]], 2)
    if stream == "bone": return torch.stack([x[:, :, :, v] - x[:, :, :, p] for v, p in enumerate(NTU25.parents)], 3)
    return x


def drop(h, keep=.7):
    "AimCLR's energy-based attention-guided drop, from its equations."
    d = (h - h.mean((2, 3), keepdim=True)) ** 2
    e = d / (4 * (d.sum((2, 3), keepdim=True) / (h.shape[2] * h.shape[3] - 1) + 1e-4)) + .5
    a = 1 / (1 + (-e).exp())
    joints, cells = (a.mean((1, 2)) < keep).to(h), (a < keep).to(h)
    h = h * joints[:, None, None] * joints.numel() / joints.sum()
    return h * cells * cells.numel() / cells.sum()


class Reference:
    "All numbers of a method by name, and one training step with them."

    def __init__(self, method, heads="separate"):
        self.w = {k: v.detach().clone() for k, v in method.named_parameters()}
        self.speed = {k: 0. for k in self.w if ".target." not in k}
        self.queues = {s: q.rows.clone() for s, q in method.queues.items()}
        self.at, self.streams, self.heads = 0, method.streams, heads

    def head(self, side, s):
        "Names of the linear layers of a head, first to last."
        own = [f"pairs.{s}.{side}.projector.{i}" for i in (0, 2)]
        first = [f"pairs.{self.streams[0]}.{side}.projector.{i}" for i in (0, 2)]
        return own if self.heads == "separate" or s == self.streams[0] else own[:1] + first

    def embed(self, side, s, x, dropped=False):
        "Unit rows; with the drop a second time, from the same map."
        w, at = self.w, f"pairs.{s}.{side}.encoder."
        h = x.permute(0, 4, 1, 2, 3).reshape(-1, *x.shape[1:4])
        h = torch.einsum("bctv,dc->bdtv", h, w[at + "linear.weight"]) + w[at + "linear.bias"][:, None, None]
        h = batch_norm(h, w[at + "norm.weight"], w[at + "norm.bias"]).clamp(min=0)
        found = []
        for m in (h, self.scaled(h)) if dropped else (h,):
            y = m.mean((2, 3)).view(x.shape[0], x.shape[4], -1).mean(1)
            for n, name in enumerate(self.head(side, s)): y = (y if n == 0 else y.clamp(min=0)) @ w[name + ".weight"].T + w[name + ".bias"]
            found.append(y / y.norm(dim=1, keepdim=True))
        return found if dropped else found[0]

    def scaled(self, h):
        "The drop as a constant factor times the map."
        there = h.detach() != 0
        factor = torch.where(there, drop(h.detach()) / torch.where(there, h.detach(), torch.ones_like(h)), torch.zeros_like(h))
        return h * factor

    def step(self, loss, keys, pairs_to_move, order="move, fill", lr=.1, momentum=.9, decay=1e-4, tau=.9):
        "SGD as the papers use it, the moving average, the queue."
        names = [k for k in self.speed if self.w[k].requires_grad]
        for k, g in zip(names, torch.autograd.grad(loss, [self.w[k] for k in names])):
            self.speed[k] = momentum * self.speed[k] + g + decay * self.w[k].detach()
            self.w[k] = self.w[k].detach() - lr * self.speed[k]
        for s in pairs_to_move:
            names = [n[len(f"pairs.{s}.target.encoder."):] for n in self.w if n.startswith(f"pairs.{s}.target.encoder.")]
            moved = [(f"pairs.{s}.target.encoder.{n}", f"pairs.{s}.online.encoder.{n}") for n in names]
            moved += [(f"{a}.{kind}", f"{b}.{kind}") for a, b in zip(self.head("target", s), self.head("online", s)) for kind in ("weight", "bias")]
            for target, online in moved: self.w[target] = tau * self.w[target] + (1 - tau) * self.w[online]
        for s in self.streams:
            for i, row in enumerate(keys[s]): self.queues[s][(self.at + i) % K] = row.detach()
        self.at = (self.at + len(keys[self.streams[0]])) % K

    def ready(self):
        self.w = {k: v.detach().requires_grad_(".target." not in k) for k, v in self.w.items()}
        return self


def probabilities(z, k, queue, t=.07):
    e = (torch.cat([(z * k).sum(1, keepdim=True), z @ queue.T], 1) / t).exp()
    return e / e.sum(1, keepdim=True)


def cross_entropy(p, q):
    return -(p.detach() * q.log()).sum(1).mean()


def nce(q, k, queue, extra=None):
    "extra: for every query a set of right answers beside its key."
    p, total = probabilities(q, k, queue), 0.
    for i, row in enumerate(p):
        right = [0] + [1 + j for j in sorted(extra[i])] if extra else [0]
        total = total - sum(row[j].log() for j in right) / len(right)
    return total / len(q)


def mined(zs, queue):
    return [{int((z[i] @ queue.T).argmax()) for z in zs} for i in range(len(zs[0]))]


def masked(x, mask, token):
    return torch.where(mask[:, None, :, :, None], x, token)


def train_both(method, reference, losses, seeds=(1, 2, 3), move=None, epoch=1):
    "The same steps by method and reference; `losses(reference, views, seed) -> loss, keys`."
    method.start_epoch(epoch)
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=.1, momentum=.9, weight_decay=1e-4)
    for seed in seeds:
        views = method.views(clips(seed).double(), torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)                                                # the masks
        out = method(views)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
        method.after_step()
        expect, keys = losses(reference.ready(), views, seed)
        assert out["loss"].item() == pytest.approx(expect.item(), abs=1e-9)
        reference.step(expect, keys, move or method.streams)
    for name, value in method.named_parameters(): torch.testing.assert_close(value.detach(), reference.w[name].detach(), atol=1e-9, rtol=1e-7, msg=name)
    for s in method.streams:
        torch.testing.assert_close(method.queues[s].rows, reference.queues[s], atol=1e-9, rtol=1e-7)
        assert int(method.queues[s].pointer) == reference.at


@pytest.mark.parametrize("streams", [("joint",), STREAMS])
def test_skeletonclr_steps_equal_plain_tensors(streams):
    torch.manual_seed(0)
    method = louder(make("skeletonclr", tau=.9, streams=streams))

    def losses(r, views, seed):
        q, k = ({s: r.embed(side, s, stream_of(v, s)) for s in streams} for side, v in (("online", views[0]), ("target", views[1])))
        return sum(nce(q[s], k[s].detach(), r.queues[s]) for s in streams), k
    train_both(method, Reference(method), losses)


@pytest.mark.parametrize("mining", [False, True])
@pytest.mark.parametrize("dropping", [True, False])
def test_aimclr_steps_equal_plain_tensors(dropping, mining):
    torch.manual_seed(0)
    method = louder(make("aimclr", tau=.9, drop=dropping, mine_from=4))

    def losses(r, views, seed):
        z, k = r.embed("online", "joint", views[0]), r.embed("target", "joint", views[1]).detach()
        others = r.embed("online", "joint", views[2], dropped=True) if dropping else [r.embed("online", "joint", views[2])]
        queue = r.queues["joint"]
        found = mined([z, *others], queue) if mining else None
        p = probabilities(z, k, queue)
        return nce(z, k, queue, found) + sum(cross_entropy(p, probabilities(o, k, queue)) for o in others) / len(others), {"joint": k}
    train_both(method, Reference(method), losses, epoch=5 if mining else 4)


@pytest.mark.parametrize("sim", ["kl", "ce"])
@pytest.mark.parametrize("mining", [False, True])
def test_hiclr_steps_equal_plain_tensors(mining, sim):
    torch.manual_seed(0)
    method = louder(make("hiclr", tau=.9, sim=sim, mine_from=4))
    token = method.tokens["joint"].item()

    def losses(r, views, seed):
        torch.manual_seed(seed)                                                # only the third branch has a mask
        mask = RandomMask().draw(views[3].shape)["mask"]
        k, queue = r.embed("target", "joint", views[1]).detach(), r.queues["joint"]
        zs = [r.embed("online", "joint", v) for v in (views[0], views[2], masked(views[3], mask, r.w["tokens.joint"]))]
        p = [probabilities(z, k, queue) for z in zs]
        pull = sum(cross_entropy(a, b) - (sim == "kl") * cross_entropy(a, a.detach()) for a, b in zip(p, p[1:]))
        return nce(zs[0], k, queue, mined(zs, queue) if mining else None) + .5 * pull, {"joint": k}
    train_both(method, Reference(method), losses, epoch=5 if mining else 1)
    assert abs(method.tokens["joint"].item() - token) > 1e-6, "the mask token is learned"


@pytest.mark.parametrize("heads", ["entangled", "separate"])
@pytest.mark.parametrize("stage, followers, context", [(1, "released", True), (2, "released", True), (2, "all", True), (2, "released", False)])
def test_crossclr_steps_equal_plain_tensors(heads, stage, followers, context):
    torch.manual_seed(0)
    method = louder(make("crossclr", tau=.9, heads=heads, followers=followers, context=context, cross_from=4))
    reference = Reference(method, heads)

    def losses(r, views, seed):
        q, k = ({s: r.embed(side, s, stream_of(v, s)) for s in STREAMS} for side, v in (("online", views[0]), ("target", views[1])))
        k = {s: v.detach() for s, v in k.items()}
        if stage == 1: return sum(nce(q[s], k[s], r.queues[s]) for s in STREAMS), k
        total = 0.
        for u in STREAMS:
            for v in STREAMS:
                if u == v: continue
                near = (q[v] @ r.queues[v].T).argmax(1)
                logits = [(q[u] * k[u]).sum(1, keepdim=True), q[u] @ r.queues[u].T]
                if context: logits.append((q[u] @ r.queues[u].T) * (q[v] @ r.queues[v].T))
                p = (torch.cat(logits, 1) / .07).softmax(1)
                for i in range(N):
                    right = [0, 1 + int(near[i])] + ([1 + K + int(near[i])] if context else [])
                    total = total - p[i, right].log().mean() / N / 2
        return total, k
    train_both(method, reference, losses, epoch=4 if stage == 1 else 5, move=["motion"] if stage == 2 and followers == "released" else STREAMS)


def test_crossclr_entangled_heads():
    "Behind a first layer of their own, all streams use one head; the average therefore moves it three times."
    torch.manual_seed(0)
    method = make("crossclr", tau=.9)
    for side in ("online", "target"):
        nets = {s: getattr(method.pairs[s], side) for s in STREAMS}
        assert nets["motion"].projector[2] is nets["joint"].projector is nets["bone"].projector[2]
        assert nets["motion"].projector[0] is not nets["bone"].projector[0]
        assert all(p.requires_grad == (side == "online") for s in STREAMS for p in nets[s].projector.parameters())
    joint, before = method.pairs["joint"], {n: p.clone() for n, p in method.pairs["joint"].target.named_parameters()}
    method.after_step()
    for name, p in joint.target.named_parameters():
        tau = .9 ** 3 if name.startswith("projector") else .9
        torch.testing.assert_close(p, tau * before[name] + (1 - tau) * dict(joint.online.named_parameters())[name].detach(), msg=name)
    plain = make("crossclr", heads="separate")
    assert len({id(p) for p in plain.parameters()}) == 3 * 2 * 8 and len({id(p) for p in method.parameters()}) == 3 * 2 * 4 + 2 * (4 + 2 * 2)
    copied = make("crossclr", init="copy")
    for pair in copied.pairs.values():
        assert all(torch.equal(a, b) for a, b in zip(pair.online.state_dict().values(), pair.target.state_dict().values()))


def test_crossclr_in_the_second_stage_only_one_follows():
    method = make("crossclr", cross_from=1, tau=.5)
    for epoch, moving in ((1, set(STREAMS)), (2, {"motion"})):
        method.start_epoch(epoch)
        before = copy.deepcopy(method.state_dict())
        method.after_step()
        moved = {k.split(".")[1] for k, v in method.state_dict().items() if ".target.encoder" in k and not torch.equal(v, before[k])}
        assert moved == moving and method.crossing == (epoch == 2)


# --- the numbers of the released code, through forward and after_step

def close(got, want):
    torch.testing.assert_close(torch.as_tensor(got), torch.as_tensor(np.asarray(want, "float32")), atol=1e-5, rtol=1e-5)


def fed(name, f, q, k, **settings):
    "A method whose networks say what the file says: names of the query features (of a stream: of its branches) and of the keys by stream."
    first = f[next(iter(k.values()))]
    method = make(name, queue=f[f"queue{'_joint' if len(k) > 1 else ''}"].shape[1], projection=first.shape[1], streams=tuple(k), temperature=float(f["temperature"]), **settings)
    leaves = {s: [torch.tensor(f[n], requires_grad=True) for n in names] for s, names in q.items()}
    last = len(method.branches) - 1                                                    # of AimCLR's two passes the second gives two branches
    method.query = lambda s, views, i: ([unit_rows(x) for x in (leaves[s][i:] if i == last else leaves[s][i:i + 1])], leaves[s][i])
    method.keys = lambda s, views: unit_rows(torch.tensor(f[k[s]]))
    for s, queue in method.queues.items():
        queue.rows.copy_(torch.tensor(f[f"queue{'_' + s if len(k) > 1 else ''}"].T.copy()))
        if "queue_ptr" in f.files: queue.pointer.fill_(int(f["queue_ptr"]))
    if "epoch" in f.files: method.start_epoch(int(f["epoch"]))
    return method, leaves


def check_queue(method, f):
    method.after_step()
    close(method.queues["joint"].rows, f["queue_after"].T)
    assert int(method.queues["joint"].pointer) == int(f["queue_ptr_after"])


@pytest.mark.outside
def test_released_skeletonclr(fixture):
    f = fixture("skeletonclr_infonce")
    method, leaves = fed("skeletonclr", f, {"joint": ["f_q"]}, {"joint": "f_k"})
    out = method(None)
    out["loss"].backward()
    close(out["loss"].detach(), f["loss"]); close(leaves["joint"][0].grad, f["grad_f_q"])
    check_queue(method, f)


@pytest.mark.outside
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name, branches", [("aimclr", ["f_q", "f_extreme", "f_extreme_drop"]), ("hiclr", ["f_q", "f_q1", "f_q2"])])
def test_released_branches(fixture, name, branches, when):
    f = fixture(f"{name}_loss_{when}_mining")
    assert make(name).mine_from == 150 and int(f["epoch"]) == (150 if when == "before" else 151)
    method, leaves = fed(name, f, {"joint": branches}, {"joint": "f_k"}, **({"sim": "ce"} if name == "hiclr" else {}))
    out = method(None)
    out["loss"].backward()
    close(out["loss"].detach(), f["loss_total"])
    if name == "hiclr":
        for part in ("loss_info", "loss_h1", "loss_h2"): close(out[f"joint/{part}"], f[part])
    for x, n in zip(leaves["joint"], branches): close(x.grad, f["grad_" + n])
    check_queue(method, f)


@pytest.mark.outside
@pytest.mark.parametrize("stage", ["stage1", "cross_context", "cross_nocontext"])
def test_released_crossclr(fixture, stage):
    f = fixture(f"crossclr_{stage}")
    method, leaves = fed("crossclr", f, {s: [f"f_q_{s}"] for s in STREAMS}, {s: f"f_k_{s}" for s in STREAMS}, context=bool(f["context"]))
    assert method.cross_from == 150
    method.start_epoch(150 if stage == "stage1" else 151)
    out = method(None)
    out["loss"].backward()
    for s in STREAMS:
        close(out[f"{s}/loss"], f[f"loss_{s}"]); close(leaves[s][0].grad, f[f"grad_{s}"])
    close(out["loss"].detach(), sum(f[f"loss_{s}"] for s in STREAMS))


@pytest.mark.outside
def test_released_streams_and_mask(fixture):
    f = fixture("streams_and_mask")
    method = make("hiclr", streams=STREAMS)
    t0, t1, t2 = method.branches
    with torch.no_grad():
        for token in method.tokens.values(): token.fill_(float(f["mask_token"]))
    for s in STREAMS:
        x = {n: torch.tensor(f["raw_" + n]) for n in ("q", "k", "q1", "q2")}
        t2.mask.draw = lambda shape, **_: {"mask": torch.tensor(f[f"mask_TV_{s}"] == 1)[None].expand(shape[0], -1, -1)}
        for got, want in ((method.inputs(s, x["q"], t0), "q"), (method.inputs(s, x["k"], method.key), "k"), (method.inputs(s, x["q1"], t1), "q1"), (method.inputs(s, x["q2"], t2), "q2_masked")):
            torch.testing.assert_close(got.detach(), torch.tensor(f[f"{s}_{want}"]), atol=1e-6, rtol=1e-6)


@pytest.mark.outside
def test_released_momentum_update(fixture):
    f = fixture("momentum_update")
    method = make("skeletonclr", hidden=16, projection=16, tau=float(f["m"]))
    pair = method.pairs["joint"]
    assert not bool(f["k_equals_q_after_weights_init"]) and not torch.equal(pair.online.projector[0].weight, pair.target.projector[0].weight)
    with torch.no_grad(): pair.online.projector[2].weight.copy_(torch.tensor(f["theta_q"])); pair.target.projector[2].weight.copy_(torch.tensor(f["theta_k"]))
    method.after_step()
    torch.testing.assert_close(pair.target.projector[2].weight, torch.tensor(f["theta_k_after"]), atol=1e-8, rtol=1e-6)


# --- the queue

@pytest.mark.parametrize("length, batch", [(6, 2), (7, 3), (5, 5), (1, 1), (20, 7)])
def test_first_in_first_out(length, batch):
    queue, wrote = Queue(length, 2), []
    start = queue.rows.clone()
    torch.testing.assert_close(start.norm(dim=1), torch.ones(length))
    for step in range(2 * length):
        new = torch.arange(step * batch, (step + 1) * batch)
        queue.enqueue(new[:, None].float().expand(-1, 2), new)
        wrote += new.tolist()
        kept = wrote[-length:]
        assert sorted(queue.index.tolist()) == sorted(kept + [-1] * (length - len(kept)))
        assert int(queue.pointer) == len(wrote) % length
        in_order = queue.index.roll(-int(queue.pointer))[-len(kept):]                 # oldest first, from the pointer on
        assert in_order.tolist() == kept
        assert (queue.rows[queue.index >= 0][:, 0] == queue.index[queue.index >= 0]).all() and (queue.rows[queue.index < 0] == start[queue.index < 0]).all()


def test_queue_without_clips_and_with_other_types():
    queue = Queue(4, 3)
    queue.enqueue(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True))
    assert queue.rows.dtype == torch.float32 and not queue.rows.requires_grad and queue.index.tolist() == [-1] * 4 and len(queue) == 4
    assert {n for n, _ in queue.named_buffers()} == {"rows", "index", "pointer"} and not list(queue.parameters())


@pytest.mark.parametrize("call, words", [
    (lambda: Queue(0), "at least one row"), (lambda: Queue(2.5), "at least one row"),
    (lambda: Queue(4, 3).enqueue(torch.ones(5, 3)), "as long as the queue is|as the queue is long"),
    (lambda: Queue(4, 3).enqueue(torch.ones(2, 5)), r"\(N,3\)"),
])
def test_queue_errors(call, words):
    with pytest.raises(MethodError, match=words): call()


@pytest.mark.parametrize("clips, batch, length", [(40091, 128, 19968), (50000, 128, 32768), (480, 64, 192), (480, 32, 224), (100, 64, 64), (1, 8, 8)])
def test_queue_length(clips, batch, length):
    assert queue_length(clips, batch) == length


def worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    queue = Queue(6, 2)
    for step in range(2): queue.enqueue(torch.full((2, 2), 10. * step + rank), torch.tensor([2 * rank, 2 * rank + 1]) + 10 * step)
    torch.save([gathered(torch.tensor([float(rank)])), queue.rows, queue.index, queue.pointer], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_processes_fill_all_queues_alike(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), 2)
    (all0, *first), (all1, *second) = (torch.load(tmp_path / f"{r}.pt") for r in range(2))
    assert all0.tolist() == all1.tolist() == [0., 1.]
    for a, b in zip(first, second): assert torch.equal(a, b)
    rows, index, pointer = first
    assert index.tolist() == [12, 13, 2, 3, 10, 11] and rows[:, 0].tolist() == [11., 11., 1., 1., 10., 10.] and int(pointer) == 2


def test_gathered_alone():
    x = torch.ones(3)
    assert gathered(x) is x


# --- what must not move, and when

def run(name, **kw):
    "A method after one forward and backward pass, and what forward said."
    torch.manual_seed(0)
    method = make(name, **kw)
    method.start_epoch(1)
    out = method(method.views(clips()))
    out["loss"].backward()
    return method, out


@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_gradient_into_key_networks_and_queues(name):
    method, out = run(name)
    for n, p in method.named_parameters():
        if ".target." in n: assert p.grad is None and not p.requires_grad
        else: assert p.grad is not None and p.grad.abs().sum() > 0, n
    assert not any(b.requires_grad for b in method.buffers())
    assert all(v.grad_fn is None and not v.requires_grad and v.ndim == 0 for k, v in out.items() if k != "loss")
    (keys, _), = method.waiting
    assert not any(k.requires_grad for k in keys.values())
    assert set(out) >= {"loss"} | {f"{s}/{w}" for s in method.streams for w in ("loss", "feature_std", "projection_std")}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_forward_moves_statistics_and_after_step_moves_keys_and_queue(name):
    torch.manual_seed(0)
    method = make(name)
    before = copy.deepcopy(method.state_dict())
    method(method.views(clips()))
    changed = lambda: {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert changed() == {k for k in before if "running" in k or "num_batches" in k}, "the key networks' too: they see their batch in training mode"
    before = copy.deepcopy(method.state_dict())
    method.after_step()
    assert changed() == {k for k in before if ".target." in k and k.endswith(("weight", "bias")) and not torch.equal(before[k], before[k.replace("target", "online")])} | {
        f"queues.{s}.{w}" for s in method.streams for w in ("rows", "pointer")}, "batch-norm statistics are not averaged"
    assert not method.waiting


def test_the_logits_see_the_old_queue_and_the_old_key_network():
    torch.manual_seed(0)
    method = make("skeletonclr", tau=0., init="copy")
    views = method.views(clips())
    k, old = method.keys("joint", views), method.queues["joint"].rows.clone()
    method(views)
    assert torch.equal(method.queues["joint"].rows, old), "forward leaves the queue alone"
    with torch.no_grad():
        for p in method.pairs["joint"].online.parameters(): p.mul_(-1)
    method.after_step()
    torch.testing.assert_close(method.queues["joint"].rows[:N], k)                     # made before the key network followed
    assert all(torch.equal(a, b) for a, b in zip(method.pairs["joint"].target.parameters(), method.pairs["joint"].online.parameters()))


def test_eval_leaves_the_queue_alone():
    method = make("hiclr").eval()
    before = copy.deepcopy(method.queues.state_dict())
    with torch.no_grad(): assert method(method.views(clips()))["loss"].isfinite()
    method.after_step()
    assert all(torch.equal(v, before[k]) for k, v in method.queues.state_dict().items()) and not method.waiting


def test_two_batches_for_one_step():
    torch.manual_seed(0)
    method, wanted = make("skeletonclr"), []
    for seed, index in ((0, [3, 1, 4, 5, 9, 2]), (1, [6, 8, 7, 0, 10, 11])):
        method.start_step(index)
        views = method.views(clips(seed))
        method(views)["loss"].backward()
        wanted.append(method.waiting[-1][0]["joint"])
    assert int(method.queues["joint"].pointer) == 0
    method.after_step()
    queue = method.queues["joint"]
    assert torch.equal(queue.rows[:12], torch.cat(wanted)) and queue.index.tolist() == [3, 1, 4, 5, 9, 2, 6, 8, 7, 0, 10, 11, -1, -1, -1] and int(queue.pointer) == 12


class Clips:
    "The part of SkeletonData that the training loop uses."
    name, skeleton, classes = "tiny", NTU25, ["one", "two"]
    def __init__(self, n=24): self.x, self.y = clips(n=n), np.arange(n) % 2
    def __len__(self): return len(self.y)
    def batch(self, index, device="cpu"): return self.x[torch.as_tensor(np.asarray(index))].to(device)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_in_the_training_loop(accumulate):
    from skelnb.train.pretrain import pretrain
    torch.manual_seed(0)
    method = make("hiclr", queue=12, mine_from=2)
    method.watch(Clips().y)
    history = pretrain(method, Clips(), epochs=4, batch_size=N, lr=.02, accumulate=accumulate, device="cpu", progress=False)
    assert int(method.queues["joint"].pointer) == 4 * 24 % 12
    assert len(set(method.queues["joint"].index.tolist())) == 12, "the last twelve clips of an epoch, each once"
    mined = [[row.get(f"joint/mined_{w}") for w in ("self", "same", "other")] for row in history]
    assert mined[:2] == [[None] * 3] * 2 and all(sum(m) == pytest.approx(1, abs=1e-6) for m in mined[2:])
    assert all(np.isfinite(row["loss"]) for row in history)


# --- views, masks, edges

def test_views_are_replayable_and_drawn_anew():
    method, x = make("hiclr"), clips()
    a, b = (method.views(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert len(a) == 4 and all(torch.equal(v, w) for v, w in zip(a, b)) and not any(v.requires_grad for v in a)
    assert all(not torch.equal(a[i], a[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("name, kw, sees", [
    ("skeletonclr", {}, ""), ("skeletonclr", dict(augment="BA+NA+Mask", key_augment="BA"), "query"), ("skeletonclr", dict(augment="BA+Mask"), "query key"),
    ("skeletonclr", dict(key_augment="BA+Mask"), "key"), ("hiclr", {}, "query"), ("hiclr", dict(sets="[Mask, BA, NA]"), "query key"),
    ("hiclr", dict(sets="[Mask, BA, NA]", key_augment="BA"), "query"), ("aimclr", {}, ""), ("crossclr", dict(augment="BA+Mask"), "query key")])
def test_who_sees_the_mask(name, kw, sees):
    torch.manual_seed(0)
    method, token = make(name, **kw), 77.
    with torch.no_grad():
        for t in method.tokens.values(): t.fill_(token)
    seen = {}
    for s, pair in method.pairs.items():
        for side, net in (("query", pair.online), ("key", pair.target)):
            net.encoder.register_forward_pre_hook(lambda module, args, side=side: seen.setdefault(side, []).append((args[0] == token).float().mean().item()))
    if name == "aimclr": method.drop = False
    method(method.views(clips()))
    assert {side for side, shares in seen.items() if max(shares) > 0} == set(sees.split())
    assert all(share == 0 or share == pytest.approx(2 / 25) for shares in seen.values() for share in shares)


def test_the_mask_token_learns_where_a_query_has_one():
    method, _ = run("hiclr", streams=("joint", "bone"))
    assert all(t.grad is not None and t.grad.abs() > 0 and t.requires_grad for t in method.tokens.values())
    method, _ = run("skeletonclr", key_augment="BA+Mask")
    assert not method.tokens["joint"].requires_grad, "no gradient comes through the key: a parameter that can not learn is none of the optimiser's"
    assert not len(make("aimclr").tokens)


def test_edges_reach_the_encoder():
    class Watching(Encoder):
        def encode_map(self, clips, edges=None):
            self.seen = getattr(self, "seen", []) + [edges]
            return super().encode_map(clips)
    method = make("hiclr", encoder=Watching, sets="[BA, NA, DAE]")
    method(method.views(clips()))
    seen = method.encoders["joint"].seen
    assert seen[:2] == [None, None] and isinstance(seen[2], DropAddEdges) and method.pairs["joint"].target.encoder.seen == [None]
    method = make("aimclr", encoder=Watching, sets=("BA", "NA+DAE"))
    method(method.views(clips()))
    assert [type(e) for e in method.encoders["joint"].seen] == [type(None), DropAddEdges]


def jitter(x, generator=None):
    return x + .3 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("augment, names", [
    (None, ["BA"]), ("BA+NA", ["BA", "NA"]), (jitter, ["jitter"]), (RandomMask(.2), ["Mask"]), (DropAddEdges(), ["DAE"]),
    (growing(["BA", "NA"])[1], ["BA", "NA"]), (["BA", RandomMask], ["BA", "Mask"])])
def test_augmentations_of_skeletonclr(augment, names):
    method = make("skeletonclr", augment=augment)
    (first,) = method.branches
    assert isinstance(first, AugmentationSet) and list(first.names) == names and method.key is first
    assert (first.mask is not None) == ("Mask" in names) and (first.edges is not None) == ("DAE" in names)
    assert method(method.views(clips()))["loss"].isfinite()


def test_levels():
    assert [list(a.names) for a in levels("[BA, NA+Mask]", NTU25)] == [["BA"], ["BA", "NA", "Mask"]]
    sets = growing(["BA", "NA"])
    assert levels(sets, NTU25) == sets and one_set(sets[0], NTU25) is sets[0]
    assert all(step.skeleton is UCLA20 for step in one_set("BA+NA", UCLA20).flat())


# --- mining

def test_mined_neighbours_are_named():
    method = make("aimclr", queue=4, projection=2, mine_from=1)
    angle = lambda *degrees: torch.stack([torch.deg2rad(torch.tensor(degrees, dtype=torch.float32)).cos(), torch.deg2rad(torch.tensor(degrees, dtype=torch.float32)).sin()], 1)
    queue = method.queues["joint"]
    queue.enqueue(angle(0, 90, 180, 270), torch.tensor([5, 6, 7, 8]))
    method.watch([0, 0, 1, 1, 1, 0, 0, 1, 1])                      # classes of clips 0 .. 8
    method.start_step([5, 0, 0, 2])
    q = [angle(10, 80, 190, 80), angle(-10, 100, 190, 80), angle(0, 90, 190, 280)]
    method.start_epoch(1)
    assert method.positives(q, queue) == (None, {})
    method.start_epoch(2)
    found, report = method.positives(q, queue)
    # clip 5 finds itself; clip 0 (class 0) finds 6 (class 0); clip 0 finds 7 (class 1); clip 2 (class 1) finds 6 (class 0) and 8 (class 1)
    assert found.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]]
    assert {k: pytest.approx(v.item()) for k, v in report.items()} == {"mined_self": .2, "mined_same": .4, "mined_other": .4}
    queue.index[:] = -1                                            # the random rows of the start are nobody
    assert method.positives(q, queue)[1]["mined_other"] == 1
    method.labels = None
    assert method.positives(q, queue)[1] == {}


# --- precision, configuration, errors

@pytest.mark.parametrize("name", sorted(KINDS))
def test_runs_in_bfloat16(name):
    torch.manual_seed(0)
    method = make(name, mine_from=0, **({"cross_from": 0} if name == "crossclr" else {}))
    for epoch in (1, 2):
        method.start_epoch(epoch)
        with torch.autocast("cpu", torch.bfloat16): out = method(method.views(clips(epoch)))
        out["loss"].backward()
        method.after_step()
        assert out["loss"].dtype == torch.float32 and all(v.isfinite() for v in out.values())
    assert all(q.rows.dtype == torch.float32 and ((q.rows.norm(dim=1) - 1).abs() < 1e-2).all() for q in method.queues.values())


@pytest.mark.parametrize("encoder, skeleton", [("stgcn", UCLA20), ("tcn", NTU25)])
@pytest.mark.parametrize("name, settings", [
    ("skeletonclr", dict(augment="BA+NA+Mask", key_augment="BA", temperature=.2)), ("aimclr", dict(drop=False, keep=.8, mine_from=None, topk=2)), ("aimclr", {}),
    ("hiclr", dict(sets="[BA, NA, DAE]", lambda_h=.3, sim="cosine")), ("hiclr", dict(sets=["BA", "NA+Mask"], key_augment="BA+NA")),
    ("crossclr", dict(heads="separate", followers="all", context=False, cross_from=3, streams=("joint", "bone"))), ("crossclr", dict(weights="own", init="copy"))])
def test_builds_by_name_and_config(name, settings, encoder, skeleton):
    torch.manual_seed(0)
    method = create_method(name, encoder=encoder, skeleton=skeleton, width=4, feature_dim=32, frames=8, persons=1, queue=12, projection=6, **settings)
    config = json.loads(json.dumps(method.config))
    again = create_method(name, **config)
    assert type(method) is KINDS[name] and isinstance(method, QueueMethod)
    assert again.config == method.config and [repr(a) for a in again.augment] == [repr(a) for a in method.augment]
    for key in settings: assert key in config, key
    again.load_state_dict(method.state_dict())
    out = again(again.views(torch.randn(4, 3, 8, len(skeleton), 1)))
    out["loss"].backward()
    assert out["loss"].isfinite()


def test_state_dict_holds_everything():
    torch.manual_seed(0)
    a, b = make("hiclr"), make("hiclr")
    a(a.views(clips())); a.after_step()
    b.load_state_dict(a.state_dict())
    views = a.views(clips(1))
    for m in (a, b):
        torch.manual_seed(5)
        m(views)["loss"].backward()
        m.after_step()
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("kw", [dict(sets=["BA"]), dict(sets=["BA", "NA", "AdaIN", "Mask"])])
def test_hiclr_has_as_many_terms_as_sets(kw):
    method, out = run("hiclr", **kw)
    assert [k for k in out if k.startswith("joint/loss_h")] == [f"joint/loss_h{i}" for i in range(1, len(kw["sets"]))]
    torch.testing.assert_close(out["loss"].detach(), out["joint/loss_info"] + .5 * sum(v for k, v in out.items() if k.startswith("joint/loss_h")))


class Plain(nn.Module):
    feature_dim = D
    def __init__(self): super().__init__(); self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, D)
    def forward(self, x): return self.linear(self.norm(x[:, :, 0, 3, 0]))


def test_an_encoder_of_ones_own_needs_neither_map_nor_edges():
    for name, kw in (("skeletonclr", {}), ("hiclr", {}), ("crossclr", {}), ("aimclr", dict(drop=False))):
        method = make(name, encoder=Plain, weights="own", hidden=64, **kw)
        assert method(method.views(clips()))["loss"].isfinite()


@pytest.mark.parametrize("name, bad, words", [
    ("aimclr", dict(sets=("BA", "NA", "Mask")), "two sets"), ("aimclr", dict(encoder=Plain), "encode_map.*drop=False"),
    ("hiclr", dict(sim="l2"), "cosine"), ("crossclr", dict(streams=("joint",)), "two or three streams"), ("crossclr", dict(heads="both"), "separate"),
    ("crossclr", dict(followers="none"), "released"), ("skeletonclr", dict(queue=0), "at least one row"), ("skeletonclr", dict(augment=3), "augmentation"),
    ("skeletonclr", dict(key_augment=3.5), "augmentation"), ("hiclr", dict(sets=3), "sets"), ("hiclr", dict(sets=()), "sets"), ("skeletonclr", dict(tau=2), "between 0 and 1"),
    ("skeletonclr", dict(temperature=0), "temperature"), ("hiclr", dict(topk=0), "topk"), ("hiclr", dict(topk=K + 1), "topk")])
def test_errors(name, bad, words):
    with pytest.raises(MethodError, match=words): make(name, **bad)


def test_error_for_a_batch_longer_than_the_queue():
    method = make("skeletonclr", queue=N - 1)
    method(method.views(clips()))
    with pytest.raises(MethodError, match="longer or the batch smaller"): method.after_step()


def test_error_for_clips_of_another_skeleton():
    with pytest.raises(MethodError, match="25 joints"): make("hiclr").views(torch.zeros(2, 3, 5, 20, 1))
