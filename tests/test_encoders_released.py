"""Checkpoints of the authors' code open as encoders: found by their names, built by their shapes, filled strictly."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from skelnb.cli import app
from skelnb.encoders import Encoder, EncoderError, create_encoder
from skelnb.encoders.released import SIGNS, open_released, read_state, released_parts
from skelnb.skeleton import NTU25
from skelnb.train.checkpoint import load_weights


def stored(ref):
    return {k[3:]: torch.from_numpy(np.array(ref[k])) for k in ref if k.startswith("sd/")}


def close(ours, theirs): assert (ours - theirs).abs().max() / theirs.abs().max() < 1e-5


@pytest.mark.outside
@pytest.mark.parametrize("name, settings", [("stgcn_eval", {}), ("dsta_eval_small", {"plan": "config"}), ("ctrgcn_quarter_eval", {}), ("unik_quarter_eval", {})])
def test_released_weights_open_and_give_the_authors_numbers(fixture, tmp_path, name, settings):
    ref = fixture(name)
    state = stored(ref)
    torch.save({"epoch": 3, "state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}}, tmp_path / "theirs.pt")
    encoder = open_released(tmp_path / "theirs.pt", **{k: ref[v].tolist() for k, v in settings.items()})
    assert isinstance(encoder, Encoder) and not encoder.training
    with torch.no_grad(): feature = encoder(torch.from_numpy(np.array(ref["x"])))
    if "feature" in ref: close(feature, torch.from_numpy(np.array(ref["feature"])))
    close(feature @ state["fc.weight"].T + state["fc.bias"], torch.from_numpy(np.array(ref["out"])))


@pytest.mark.outside
def test_a_released_gru_opens(fixture):
    ref = fixture("gru_cmd_stepped")
    encoder = open_released(stored(ref))
    assert (encoder.config["name"], encoder.feature_dim, encoder.config["layers"], encoder.config["persons"]) == ("gru", 32, 3, 2)
    rows = torch.from_numpy(np.array(ref["x"]))                                             # (N,T,150): joint, channel, person
    clips = rows.view(2, 12, 25, 3, 2).permute(0, 3, 1, 2, 4)
    with torch.no_grad(): close(encoder(clips), torch.from_numpy(np.array(ref["feature"])))


@pytest.mark.outside
@pytest.mark.parametrize("name", ["stgcn_eval", "ctrgcn_quarter_eval", "unik_quarter_eval"])
def test_every_tensor_counts(fixture, name):
    state = stored(fixture(name))
    open_released(state)
    for key in [k for k in state if not k.startswith("fc.") and k != "A" and "num_batches" not in k][::17]:
        with pytest.raises(EncoderError): open_released({k: v for k, v in state.items() if k != key})
    with pytest.raises(EncoderError, match="surplus does not belong here"): open_released(state | {"surplus": torch.zeros(2)})


def test_signs_are_those_of_our_own_pairs():
    "A sign that no pair of `released` would translate could never be loaded."
    from skelnb.encoders import convert_released
    for kind, sign in SIGNS.items():
        encoder = create_encoder(kind, NTU25, width=4, feature_dim=16)
        assert set(convert_released(encoder, {sign: torch.zeros(1)})) != {sign}, kind


def test_a_checkpoint_runs_nothing(tmp_path):
    class Trap:
        def __reduce__(self): return (open, (str(tmp_path / "sprung"), "w"))
    torch.save({"state_dict": {"a": torch.zeros(2)}, "extra": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(EncoderError, match="more than tensors and plain containers"): read_state(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content, words", [(b"", "cannot be read"), (b"PK\x03\x04 not a zip", "cannot be read"), (None, "no such file")])
def test_what_is_no_checkpoint(tmp_path, content, words):
    file = tmp_path / "x.pt"
    if content is not None: file.write_bytes(content)
    with pytest.raises(EncoderError, match=words): read_state(file)


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3, "config": {"lr": .1}}, tmp_path / "x.pt")
    with pytest.raises(EncoderError, match="no named tensors"): read_state(tmp_path / "x.pt")


def test_several_encoders_of_one_stream_need_a_prefix():
    state = {f"{p}{SIGNS['stgcn']}": torch.zeros(48, 3, 1, 1) for p in ("student.", "teacher.")}
    assert released_parts(state) == {"student.": "stgcn", "teacher.": "stgcn"}
    with pytest.raises(EncoderError, match="choose one with prefix=: 'student.', 'teacher.'"): open_released(state)


@pytest.mark.outside
def test_convert_from_the_command_line(fixture, tmp_path):
    ref = fixture("stgcn_eval")
    torch.save(stored(ref), tmp_path / "theirs.pt")
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "theirs.pt")])
    assert done.exit_code == 0 and "stgcn, width 16, 256 features, ntu25" in done.output
    with torch.no_grad(): close(load_weights(tmp_path / "theirs.safetensors")(torch.from_numpy(np.array(ref["x"]))), torch.from_numpy(np.array(ref["feature"])))
    again = CliRunner().invoke(app, ["convert", str(tmp_path / "theirs.safetensors")])
    assert isinstance(again.exception, ValueError) and "the checkpoint itself" in str(again.exception)
    twice = CliRunner().invoke(app, ["convert", str(tmp_path / "theirs.pt")])
    assert isinstance(twice.exception, ValueError) and "is there already; choose another file" in str(twice.exception)
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "theirs.pt"), "--out", str(tmp_path / "b.safetensors"), "--set", "dropout=.1"])
    assert done.exit_code == 0 and load_weights(tmp_path / "b.safetensors").config["dropout"] == .1


def small_state(prefix=""):
    from skelnb.encoders import convert_released
    torch.manual_seed(0)
    encoder = create_encoder("unik", NTU25, width=4, feature_dim=16)
    state, names = {}, {}
    for kind, sign in SIGNS.items():
        if kind == "unik": names = {k: v for k, v in encoder.state_dict().items()}
    for key in theirs():
        ours = next(iter(convert_released(encoder, {key: torch.zeros(1)})))
        state[prefix + key] = names[ours]
    return encoder.eval(), state


def theirs():
    "Names of a UNIK of the released code: ten blocks."
    from skelnb.encoders import convert_released
    encoder, found = create_encoder("unik", NTU25, width=4, feature_dim=16), []
    parts = ["s_unit.DepM", "s_unit.bias", *(f"s_unit.conv_{c}.{h}.{p}" for c in "abd" for h in range(3) for p in ("weight", "bias")), *(f"{u}.bn.{p}" for u in ("s_unit", "t_unit", "residual") for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
             *(f"{u}.conv.{p}" for u in ("t_unit", "residual") for p in ("weight", "bias")), *(f"s_unit.down.0.{p}" for p in ("weight", "bias")), *(f"s_unit.down.1.{p}" for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))]
    candidates = [f"data_bn.{p}" for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")] + [f"l{b}.{p}" for b in range(1, 11) for p in parts]
    mine = encoder.state_dict().keys()
    for key in candidates:
        if next(iter(convert_released(encoder, {key: torch.zeros(1)}))) in mine: found.append(key)
    assert len(found) == len(mine)
    return found


def test_where_the_weights_lie_in_the_file_does_not_matter(tmp_path):
    encoder, state = small_state()
    x = torch.randn(2, 3, 10, 25, 2)
    with torch.no_grad(): expected = encoder(x)
    deep = {"epoch": 3, "best_acc1": torch.zeros(1), "optimizer": {"m": torch.zeros(3)}, "model": {"state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}}}
    torch.save(deep, tmp_path / "deep.pt")
    loop = dict(state); loop["self"] = loop
    torch.save(loop, tmp_path / "loop.pt")
    for source in (tmp_path / "deep.pt", tmp_path / "loop.pt", deep, {1: torch.zeros(2), **state}):
        with torch.no_grad(): torch.testing.assert_close(open_released(source)(x), expected)
    for prefix in ("encoder_q.", "encoder_q"):
        with torch.no_grad(): torch.testing.assert_close(open_released(deep, prefix=prefix)(x), expected)


def test_only_followers_and_words_that_look_like_one():
    _, state = small_state()
    with pytest.raises(EncoderError, match="follow another one.*prefix="): open_released({f"encoder_k.{k}": v for k, v in state.items()})
    assert open_released({f"encoder_k.{k}": v for k, v in state.items()}, prefix="encoder_k").feature_dim == 16
    assert open_released({f"schema.{k}": v for k, v in state.items()}).feature_dim == 16


@pytest.mark.outside
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints_open(fixture, dtype):
    ref = fixture("stgcn_eval")
    encoder = open_released({k: v.to(dtype) if v.is_floating_point() else v for k, v in stored(ref).items()})
    with torch.no_grad(): feature = encoder(torch.from_numpy(np.array(ref["x"])))
    assert torch.cosine_similarity(feature, torch.from_numpy(np.array(ref["feature"]))).min() > .999


def test_a_recurrent_network_of_one_person():
    torch.manual_seed(0)
    ours = create_encoder("gru", NTU25, width=8, feature_dim=16, persons=1, stepped=True).eval()
    names = {**{f"layers.{l}.{d}.{p}_l0": f"encoder.gru.{p}_l{l}{'_reverse' if d == 'back' else ''}" for l in range(3) for d in ("onward", "back") for p in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
             **{f"data_bn.{p}": f"input_norm.{p}" for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}}
    opened = open_released({names[k]: v for k, v in ours.state_dict().items()})
    x = torch.randn(2, 3, 10, 25, 1)
    assert opened.config["persons"] == 1 and opened.config["stepped"]
    with torch.no_grad(): torch.testing.assert_close(opened(x), ours(x))
