"""ONNX: every encoder gives torch's numbers from the file, for any batch."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from skelnb.cli import app
from skelnb.encoders import ENCODERS, EncoderError, create_encoder
from skelnb.skeleton import COCO17, NTU25
from skelnb.train.checkpoint import save_weights
from skelnb.train.export import export_onnx, onnx_notes, run_onnx


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_encoder_by_onnxruntime(name, tmp_path):
    torch.manual_seed(0)
    encoder = create_encoder(name, COCO17, width=4, feature_dim=16, frames=8, persons=2)
    for _ in range(3): encoder.train()(torch.randn(8, 3, 8, 17, 2))                       # batch norms that have seen something
    file = export_onnx(encoder.eval(), tmp_path / "e.onnx")
    clips = torch.randn(7, 3, 8, 17, 2)
    clips[2:5, ..., 1] = 0
    for n in (1, 7):
        with torch.no_grad(): expected = encoder(clips[:n]).numpy()
        assert np.abs(run_onnx(file, clips[:n]) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert onnx_notes(file)["config"] == json.loads(json.dumps(encoder.config))


def test_present_persons_only(tmp_path):
    torch.manual_seed(0)
    encoder = create_encoder("tcn", NTU25, feature_dim=8, pool="present").eval()
    file, clips = export_onnx(encoder, tmp_path / "e.onnx", frames=10), torch.randn(4, 3, 10, 25, 2)
    clips[1, ..., 1] = 0; clips[2, ..., 0] = 0; clips[3] = 0
    with torch.no_grad(): np.testing.assert_allclose(run_onnx(file, clips), encoder(clips).numpy(), rtol=1e-4, atol=1e-5)


def test_a_difference_is_refused_and_the_old_file_stays(tmp_path):
    encoder, file = create_encoder("tcn", NTU25, feature_dim=8, persons=1), tmp_path / "e.onnx"
    file.write_bytes(b"old")
    with pytest.raises(EncoderError, match="nothing was written"): export_onnx(encoder, file, frames=10, tolerance=0)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file] and encoder.training


@pytest.mark.parametrize("wrong, words", [
    (lambda f: run_onnx(f, np.zeros((1, 3, 9, 25, 1))), r"expected clips \(N, 3, 10, 25, 1\), got \(1, 3, 9, 25, 1\)"),
    (lambda f: run_onnx(__file__, np.zeros((1, 3, 9, 25, 1))), "cannot open it"),
    (lambda f: export_onnx("stgcn", f), "expected an Encoder, got str"),
    (lambda f: export_onnx(create_encoder("tcn", NTU25, feature_dim=8), f, frames=0), "at least one frame"),
    (lambda f: export_onnx(create_encoder("ctrgcn", NTU25, width=4, feature_dim=8), f, persons=1), "2 person"),
])
def test_errors(wrong, words, tmp_path):
    file = export_onnx(create_encoder("tcn", NTU25, feature_dim=8, persons=1), tmp_path / "e.onnx", frames=10)
    with pytest.raises(EncoderError, match=words): wrong(file)


def test_the_encoder_is_left_as_it_is(tmp_path):
    encoder = create_encoder("tcn", NTU25, feature_dim=8, persons=1).double().train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    export_onnx(encoder, tmp_path / "e.onnx", frames=10)
    assert encoder.training and all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_an_encoder_with_its_own_end_is_compared_with_itself(tmp_path):
    from skelnb.encoders import TCN
    class Unit(TCN):
        def forward(self, *args, **kwargs): return torch.nn.functional.normalize(super().forward(*args, **kwargs), dim=1)
    with pytest.raises(EncoderError, match="nothing was written"): export_onnx(Unit(NTU25, feature_dim=8, persons=1), tmp_path / "e.onnx", frames=10)


def test_no_clips(tmp_path):
    file = export_onnx(create_encoder("gru", COCO17, feature_dim=8, frames=6, persons=1), tmp_path / "e.onnx")
    assert run_onnx(file, np.zeros((0, 3, 6, 17, 1))).shape == (0, 8)


def test_one_stream_keeps_its_name(tmp_path):
    weights = save_weights(tmp_path / "w.safetensors", create_encoder("tcn", NTU25, feature_dim=8, frames=10, persons=1), {"streams": ["motion"]})
    done = CliRunner().invoke(app, ["export", str(weights), "--out", str(tmp_path / "mine.onnx")])
    assert done.exit_code == 0, done.output
    assert onnx_notes(tmp_path / "mine.onnx")["meta"]["stream"] == "motion"


def test_export_from_the_command_line(tmp_path):
    weights = save_weights(tmp_path / "w.safetensors", {s: create_encoder("tcn", NTU25, feature_dim=8, frames=10, persons=1) for s in ("joint", "bone")})
    done = CliRunner().invoke(app, ["export", str(weights)])
    assert done.exit_code == 0, done.output
    assert onnx_notes(tmp_path / "w-bone.onnx")["meta"] == {"weights": "w.safetensors", "stream": "bone"} and (tmp_path / "w-joint.onnx").exists()
