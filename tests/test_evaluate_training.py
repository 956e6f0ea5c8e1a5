"""Protocols that train the network: against the authors' draw, against torch.optim, and between layouts."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skelnb.data import load
from skelnb.data.dataset import SkeletonData
from skelnb.encoders import create_encoder
from skelnb.evaluate import features, finetune, label_curve, labelled, semi, supervised, to_layout, transfer
from skelnb.evaluate.features import EvaluationError, Features
from skelnb.evaluate.finetune import FINETUNE
from skelnb.evaluate.semi import SEMI, Classifier, Schedule, clip_order, fresh, train_classifier
from skelnb.evaluate.transfer import JOINT_AXES, MappedData, _tensors
from skelnb.skeleton import COCO17, NTU25, UCLA20


@pytest.fixture(scope="module")
def sets():
    "(train, val, test) of the small set; test is every seventh clip."
    train, val, test = load("synthetic-small", frames=25).split("xsub", val=.25)
    return train, val, test.subset(range(0, len(test), 7))


def encoder(name="tcn", skeleton=NTU25, persons=1, frames=25, **kwargs):
    torch.manual_seed(0)
    return create_encoder(name, skeleton, **{"width": 8, "feature_dim": 16, **kwargs}, frames=frames, persons=persons)


def to_ucla(data):
    mapped = MappedData(data, UCLA20)
    return SkeletonData(mapped.batch().numpy(), data.y, meta=data.meta, skeleton=UCLA20, classes=data.classes)


@pytest.mark.outside
@pytest.mark.parametrize("name", ["0p01", "0p1"])
def test_the_draw_is_the_released_one(fixture, name):
    f = fixture(f"semi_sampling_{name}")
    found = labelled(f["labels"], float(f["percent"]), seed=0)
    assert np.array_equal(found, f["chosen"].astype(int))
    assert np.bincount(f["labels"][found], minlength=6).tolist() == f["per_class"].tolist()


def test_draws():
    y = np.repeat([0, 1, 2, 3], [14, 15, 25, 4])
    assert np.bincount(y[labelled(y, .1)], minlength=4).tolist() == [1, 2, 2, 0]            # halves to even
    assert np.bincount(y[labelled(y, .1, at_least=2)], minlength=4).tolist() == [2, 2, 2, 2]
    assert np.bincount(y[labelled(y, .1, at_least=9)], minlength=4).tolist() == [9, 9, 9, 4]
    assert np.array_equal(labelled(torch.tensor(y), .3, 5), labelled(y, .3, 5)) and not np.array_equal(labelled(y, .3, 5), labelled(y, .3, 6))
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(EvaluationError, match="fraction"):
            labelled(y, wrong)


@pytest.mark.parametrize("nesterov, clip, decay", [(False, None, 1e-2), (True, .1, 0.), (True, None, 1e-2)])
def test_three_steps_are_those_of_torch_sgd(sets, nesterov, clip, decay):
    train = sets[0].subset(range(24))
    given = encoder()
    plan = Schedule(epochs=1, lr=.1, batch_size=8, nesterov=nesterov, clip=clip, weight_decay=decay)
    found = train_classifier(given, train, train, plan, stream="motion", seed=3).network

    generator = torch.Generator().manual_seed(3)
    plain = Classifier(copy.deepcopy(given), 16, len(train.classes), generator)
    sgd = torch.optim.SGD(plain.parameters(), lr=.1, momentum=.9, nesterov=nesterov, weight_decay=decay)
    for index in torch.randperm(24, generator=generator).split(8):
        x = train.batch(index)
        moved = torch.cat([x[:, :, 1:] - x[:, :, :-1], torch.zeros_like(x[:, :, :1])], 2)
        sgd.zero_grad()
        F.cross_entropy(plain(moved), train.y[index]).backward()
        if clip:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        sgd.step()
    for (name, a), b in zip(found.state_dict().items(), plain.state_dict().values()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


def test_a_parameter_without_a_gradient_stays(sets):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.spare = encoder(), nn.Parameter(torch.ones(3))
        def forward(self, x): return self.inner(x)
    found = finetune(Spare(), sets[0], sets[2], schedule="laptop", epochs=1)
    assert torch.equal(found.network.encoder.spare, torch.ones(3))


def test_deterministic_and_the_given_encoder_stays(sets):
    train, val, test = sets
    given = encoder("dsta", dropout=.5).train()
    given.requires_grad_(False)                                                             # as a target network is
    before = {k: v.clone() for k, v in given.state_dict().items()}
    torch.manual_seed(9)
    state = torch.get_rng_state()
    few = test.subset(range(40))
    run = lambda seed=0: semi(given, train, few, fraction=.05, schedule="laptop", epochs=2, eval_every=1, seed=seed, at_least=1, augment="BA+NA")
    a, b = run(), run()
    assert torch.equal(torch.get_rng_state(), state)                                        # the global dice were left alone
    assert torch.equal(a.scores, b.scores) and a.history == b.history
    assert not torch.equal(a.scores, run(1).scores)
    assert all(torch.equal(v, before[k]) for k, v in given.state_dict().items()) and given.training
    assert not any(p.requires_grad for p in given.parameters())
    assert not torch.equal(a.network.encoder.blocks[0].shared, given.blocks[0].shared)


def test_all_labels_are_fine_tuning(sets):
    train, val, test = sets
    plan = Schedule(epochs=3, lr=.05, batch_size=32, augment="BA")
    kw = dict(schedule=plan, seed=4, eval_every=1)
    a, b = semi(encoder(), train, test, fraction=1., **kw), finetune(encoder(), train, test, **kw)
    assert torch.equal(a.scores, b.scores) and a.history == b.history
    assert torch.equal(semi(encoder(), train, test, fraction=1., visits="full", **kw).scores, a.scores)


def test_val_chooses_and_the_network_is_the_one_measured(sets):
    train, val, test = sets
    r = finetune(encoder(), train, test, val=val, schedule="laptop", epochs=4, eval_every=1)
    chosen = max(r.history, key=lambda row: row["val"])
    assert r.best_on == "val" and r.accuracy == r.best == chosen["test"] and r.settings["best_epoch"] == chosen["epoch"]
    assert r.last == r.history[-1]["test"]
    assert torch.equal(features(r.network, test).x, r.scores)
    r = finetune(encoder(), train, test, schedule="laptop", epochs=2, eval_every=1)
    assert r.best_on == "test" and r.accuracy == r.last <= r.best


def test_schedules():
    for plan in [*SEMI.values(), *FINETUNE.values()]:
        assert 0 < plan.rate(1) <= plan.lr and plan.rate(plan.epochs) < plan.lr
    np.testing.assert_allclose([FINETUNE["hiclr"].rate(e) for e in (1, 4, 5, 29, 30, 54, 55)], [.02, .08, .1, .1, .01, .01, .001])
    np.testing.assert_allclose([SEMI["acl"].rate(e) for e in (1, 80, 81, 150)], [.1, .1, .01, .01])
    assert Schedule(drops=5).drops == (5,) and Schedule(drops=None).drops == ()
    assert torch.bincount(torch.cat(clip_order(7, 70, 10, True, torch.Generator()))).tolist() == [10] * 7


def test_freeze_and_eval_mode(sets):
    train, _, test = sets
    given = encoder().eval()
    frozen = finetune(given, train, test, schedule="laptop", epochs=1, freeze=True).network.encoder
    assert all(torch.equal(v, given.state_dict()[k]) for k, v in frozen.state_dict().items())
    still = finetune(given, train, test, schedule="acl", epochs=1).network.encoder.state_dict()
    for name, v in given.state_dict().items():
        assert torch.equal(v, still[name]) == ("running" in name or "tracked" in name), name


@pytest.mark.parametrize("name", ["stgcn", "gru", "dsta", "ctrgcn", "unik", "tcn"])
@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_every_encoder_and_stream(sets, name, stream):
    train, _, test = sets
    given = {stream: encoder(name)}
    r = semi(given, train, test.subset(range(20)), stream=stream, fraction=.03, at_least=1, schedule="laptop", epochs=1)
    assert r.scores.shape == (20, 10) and r.settings["stream"] == stream and r.settings["labelled"] == 10
    with pytest.raises(EvaluationError, match="no encoder for stream"):
        semi(given, train, test, stream="bone" if stream == "joint" else "joint")


def test_learns_more_than_chance(sets):
    train, _, test = sets
    r = supervised(encoder(width=32, feature_dim=32), train, test, schedule="laptop", epochs=10)
    assert r.last > .4 and r.settings["protocol"] == "supervised" and r.settings["mode"] == "train"
    assert r.history[-1]["loss"] < r.history[0]["loss"]
    table = label_curve(encoder(), train, test, fractions=(.05, .3), draws=[3, 7], schedule="laptop", epochs=2)
    assert table.seed.tolist() == [3, 7] * 2 and table.labelled.tolist() == [20, 20, 110, 110]


def test_fresh_weights(sets):
    given = encoder("gru")
    a, b, c = (fresh(given, seed=s) for s in (0, 0, 1))
    assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
    assert not torch.equal(a.layers[0].onward.weight_ih_l0, c.layers[0].onward.weight_ih_l0)
    assert isinstance(fresh(lambda: nn.Linear(2, 2)), nn.Linear)
    with pytest.raises(EvaluationError, match="built again"):
        fresh(nn.Linear(2, 2))


def test_errors_say_what_to_do(sets):
    train, val, test = sets
    few = dict(schedule="laptop", epochs=1)
    for match, call in {
        "at_least=1": lambda: semi(encoder(), train, test, fraction=.01, **few),
        "some class must keep": lambda: semi(encoder(), train, test, fraction=.01, at_least=0, **few),
        "did you mean 'hiclr'": lambda: semi(encoder(), train, test, schedule="hiclrr"),
        "did you mean 'epochs'": lambda: finetune(encoder(), train, test, epoch=3),
        "table of features": lambda: finetune(encoder(), Features(torch.ones(3, 2), torch.arange(3)), test),
        "different classes": lambda: finetune(encoder(), train, SkeletonData(test.x, test.y, skeleton=NTU25), **few),
        "whose weights can be trained": lambda: finetune(lambda x: x.flatten(1), train, test, **few),
        "lower lr": lambda: finetune(encoder(), train, test, **{**few, "epochs": 3}, lr=1e30),
        "is empty": lambda: finetune(encoder(), train, test.subset([]), **few),
        "belong to pre-training": lambda: finetune(encoder(), train, test, **few, augment="BA+Mask"),
        "start is": lambda: finetune(encoder(), train, test, start="new", **few),
        "how is one of": lambda: transfer(encoder(), train, test, how="guess"),
        "mapping is": lambda: transfer(encoder(), train, test, mapping="bones"),
        "JOINT_AXES": lambda: to_layout(_renamed(encoder()), UCLA20),
        "person slots": lambda: transfer(encoder("gru"), *map(_two_persons, (train, test)), how="knn"),
    }.items():
        with pytest.raises(EvaluationError, match=match):
            call()


def _renamed(e):
    e.config["name"] = "mine"
    return e


def _two_persons(d):
    x = np.concatenate([d.x, d.x], -1)
    return SkeletonData(x, d.y, meta=d.meta, skeleton=d.skeleton, classes=d.classes)


@pytest.mark.parametrize("name", list(JOINT_AXES))
def test_weights_between_layouts(name):
    "There and back: what belongs to a shared joint is the same again; nothing else about the network changes."
    given = encoder(name).eval()
    with torch.no_grad():
        for p in given.state_dict().values():
            if p.is_floating_point(): p.add_(torch.rand_like(p) * .1)
    small, report = to_layout(given, UCLA20, seed=1)
    assert report["fresh"] == [] and report["matched"] == 20 and not small.training
    assert small(torch.randn(2, 3, 25, 20, 1)).shape == (2, 16)
    back, report = to_layout(small, NTU25, seed=2)
    assert report["fresh"] == ["neck", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb"]
    again, _ = to_layout(back, UCLA20, seed=3)
    for key, value in _tensors(small).items():
        assert torch.equal(value, _tensors(again)[key]), key
    same, _ = to_layout(given, NTU25, seed=5)
    x = torch.randn(2, 3, 25, 25, 1)
    torch.testing.assert_close(same(x), given(x))


@pytest.mark.parametrize("name", list(JOINT_AXES))
def test_a_renumbered_body_is_the_same_body(name):
    "The same joints in another order, weights matched by name: the features are the same."
    order = np.random.default_rng(0).permutation(25)
    place = {int(o): i for i, o in enumerate(order)}
    d = NTU25.to_dict()
    other = type(NTU25).from_dict(dict(name="shuffled", names=[d["names"][o] for o in order], parents=[d["names"][d["parents"][o]] for o in order],
                                       pairs=[[place[a], place[b]] for a, b in d["pairs"]], centre=place[d["centre"]], shoulders=[place[j] for j in d["shoulders"]], up=d["up"]))
    given = encoder(name).eval()
    moved, _ = to_layout(given, other)
    x = torch.randn(3, 3, 25, 25, 1)
    torch.testing.assert_close(moved(x[:, :, :, order.tolist()]), given(x), atol=1e-5, rtol=1e-4)


def test_one_slot_becomes_two():
    given = encoder("ctrgcn").eval()
    two, report = to_layout(given, NTU25, persons=2)
    assert report["persons"] == "1 -> 2"
    x = torch.randn(2, 3, 25, 25, 1)
    torch.testing.assert_close(two(torch.cat([x, x], -1)), given(x), atol=1e-5, rtol=1e-4)  # both persons are treated as the one was


@pytest.mark.parametrize("mapping", ["joints", "weights"])
def test_transfer_between_ucla_and_ntu(sets, mapping):
    train, val, test = sets
    small = [to_ucla(d) for d in (train, val, test)]
    for source, target in ((NTU25, small), (UCLA20, sets)):
        learnt = supervised(encoder("tcn", source, width=32), *((sets if source is NTU25 else small)[i] for i in (0, 2)), schedule="laptop", epochs=4).network.encoder
        a, v, b = target
        for how, kw in (("knn", {}), ("linear", dict(lr=.1, standardise=True)), ("finetune", dict(schedule="laptop", epochs=4)), ("semi", dict(fraction=.1, schedule="laptop", epochs=2))):
            r = transfer(learnt, a, b, how=how, mapping=mapping, **kw)
            assert r.scores.shape == (len(b), 10) and r.settings["layouts"] == f"{source.name} -> {a.skeleton.name}", how
            assert r.accuracy > .2 or how == "semi", (how, r.accuracy)
        assert transfer(learnt, a, b, mapping=mapping, val=v, schedule="laptop", epochs=1).best_on == "val"
        filled = {"ntu25": ["neck", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb"], "ucla20": []}
        assert (r.settings["filled"] == filled[source.name]) if mapping == "joints" else (r.settings["fresh"] == filled[a.skeleton.name])


def test_transfer_pads_persons_and_reports_frames(sets):
    train, _, test = sets
    r = transfer(encoder("gru", persons=2, frames=50), train, test, how="knn")
    assert r.settings["persons"] == "2 -> 1, and 1 of zeros" and r.settings["frames"] == "50 -> 25"
    same = transfer(encoder("gru"), train, test, how="knn")
    assert "persons" not in same.settings and "filled" not in same.settings


def test_mapped_data_turns_the_axes(sets):
    d = sets[0].subset([0, 1])
    coco = MappedData(MappedData(d, COCO17), NTU25)
    head = [NTU25.index(n) for n in ("left_shoulder", "right_knee")]
    torch.testing.assert_close(coco.batch()[..., head, :], d.batch()[..., head, :])         # up is -y in between
    assert MappedData(d, COCO17).batch()[:, 1, :, 5].sum() * d.batch()[:, 1, :, 4].sum() < 0
    assert coco.subset([1]).batch(device="cpu").shape == (1, 3, 25, 25, 1) and len(coco) == 2
