"""The command line as a user meets it: help with examples, the whole way on small data, errors that say what to do."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMANDS = ["lab", "demo", "prepare", "recipe", "pretrain", "evaluate", "reproduce", "doctor"]


def skelnb(*args, **env):
    return subprocess.run([sys.executable, "-c", "from skelnb.cli import main; main()", *map(str, args)], capture_output=True, text=True,
                          env={**os.environ, "COLUMNS": "120", **env})


def test_help_names_every_command():
    done = skelnb("--help")
    assert done.returncode == 0 and all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = skelnb(command, "--help")
    assert done.returncode == 0 and re.search(f"Examples?: skelnb {command}", done.stdout)


def test_the_whole_way(tmp_path):
    "Train two epochs, go on for a third, evaluate: scores are numbers between 0 and 1 and the weights say what they are."
    run = tmp_path / "run"
    common = ["pretrain", "synthetic-small", "--out", run, "--width", 4, "--feature-dim", 16, "--seed", 3]
    done = skelnb(*common, "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert (run / "last.safetensors").exists() and not list(run.rglob("*.tmp")) and not list(run.rglob("*.pkl"))
    done = skelnb("evaluate", run / "last.safetensors", "synthetic-small", "--out", tmp_path / "scores.json", "--with", "knn,clusters,retrieval,semi")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scores.json").read_text())
    assert 0 < found["knn"] <= 1 and 0 <= found["nmi"] <= 1 and found["data"] == "synthetic-small"


def test_a_recipe_is_printed_changed_kept_and_run(tmp_path):
    "recipe --out, then pretrain --recipe FILE with one more change: the run folder says what was trained."
    file, run = tmp_path / "hiclr.json", tmp_path / "run"
    done = skelnb("recipe", "hiclr", "synthetic-small", "--set", "lambda_h=.25", "--set", "mine_from=null", "--out", file)
    assert done.returncode == 0 and re.search(r"lambda_h +0\.25", done.stdout) and json.loads(file.read_text())["settings"]["mine_from"] is None, done.stderr
    done = skelnb("pretrain", "synthetic-small", "--recipe", file, "--encoder", "tcn", "--set", "dropout=.1", "--epochs", 1, "--out", run)
    assert done.returncode == 2 and "no setting 'dropout'" in done.stderr, done.stderr      # the quick encoder has none
    done = skelnb("pretrain", "synthetic-small", "--recipe", file, "--width", 4, "--set", "sim=ce", "--epochs", 1, "--out", run)
    assert done.returncode == 0 and (run / "last.safetensors").exists(), done.stderr
    from skelnb.train.checkpoint import load_checkpoint
    found = load_checkpoint(run)["settings"]
    assert found["method"] == "HiCLR" and {k: found["method settings"][k] for k in ("sim", "lambda_h", "width", "mine_from")} == dict(sim="ce", lambda_h=.25, width=4, mine_from=None)


def test_demo_writes_one_page_that_needs_no_network(tmp_path):
    done = skelnb("demo", "--out", tmp_path / "demo", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "untrained" in page and "skelnb" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    result = json.loads((tmp_path / "demo" / "scores.json").read_text())
    assert result["epochs"] == 1 and all(set(result[who]) >= {"knn", "linear_last", "nmi"} for who in ("untrained", "calibrated", "trained"))


def test_prepare_and_doctor_go_the_whole_way(tmp_path):
    "Made-up NTU files: the doctor says which command comes next, it is run in two processes, and the doctor knows the result."
    from skelnb.data import synthesize
    synthesize(n_subjects=2, n_cameras=3, n_repeats=1, n_setups=1, classes=["kick", "handshake"]).write_ntu(tmp_path / "raw", progress=False)
    done = skelnb("doctor", tmp_path / "raw")
    command = next(line.split("next: skelnb ")[1] for line in done.stdout.splitlines() if "next: skelnb" in line)
    assert command == f"prepare ntu60 --src {tmp_path / 'raw'}" and done.returncode == 0
    done = skelnb(*command.split(), "--workers", 2, "--bodies", "track", "--quiet", SKELNB_HOME=str(tmp_path / "home"))
    assert done.returncode == 0 and "12 clips" in done.stdout and "0 file(s) skipped" in done.stdout and "no list of samples" in done.stderr, done.stderr
    folder = tmp_path / "home" / "cache" / "ntu60-track-50"
    assert f"prepared: {folder}" in done.stdout
    done = skelnb("doctor", folder)
    assert done.returncode == 0 and "12 clips" in done.stdout and "xsub, xview" in done.stdout
    done = skelnb(*command.split(), "--missing", "none", "--out", tmp_path / "out", SKELNB_HOME=str(tmp_path / "home"))
    assert done.returncode == 0 and "12/12" in done.stderr and "no list" not in done.stderr, done.stderr       # a progress bar


def test_doctor_reads_the_machine_and_a_folder(tmp_path):
    done = skelnb("doctor")
    assert "torch" in done.stdout and "Python" in done.stdout and done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "notes.txt").write_text("nothing")
    done = skelnb("doctor", tmp_path)
    assert done.returncode == 1 and "no data set known here" in done.stdout
    (tmp_path / "a01_s01_e01_v01.json").write_text("{}")
    assert "skelnb prepare nw-ucla" in skelnb("doctor", tmp_path).stdout


@pytest.mark.parametrize("args, said", [
    (["prepare", "nw-ucla", "--src", "no-such-folder"], "no-such-folder"),
    (["prepare", "nw-uclaa", "--src", "."], "nw-ucla"),
    (["prepare", "ntu60", "--src", ".", "--bodies", "frist"], "first"),
    (["prepare", "ntu60", "--src", ".", "--workers", "0"], "workers must be 1 or more"),
    (["prepare", "pku2", "--src", "tests"], "A01N02-L.txt"),
    (["pretrain", "no-such-set"], "no-such-set"),
    (["pretrain", "synthetic-small", "--method", "cmall"], "cmal"),
    (["pretrain", "synthetic-small", "--encoder", "stgnc"], "stgcn"),
    (["pretrain", "synthetic-small", "--recipe", "hiclrr"], "did you mean 'hiclr'"),
    (["pretrain", "synthetic-small", "--recipe", "no-such.json"], "no-such.json"),
    (["pretrain", "synthetic-small", "--set", "lambda_h"], "KEY=VALUE"),
    (["pretrain", "synthetic-small", "--set", "lambda_h=1"], "the recipe cmal"),
    (["recipe", "hiclr", "ntu61"], "ntu60"),
    (["pretrain", "synthetic-small", "--protocol", "xsubb"], "xsub"),
    (["evaluate", "no-such.safetensors", "synthetic-small"], "no-such.safetensors"),
    (["evaluate", "any.safetensors", "synthetic-small", "--with", "knn,lineer"], "'lineer'"),
    (["lab", "nbs/none.ipynb"], "none.ipynb")])
def test_a_wrong_word_is_answered_in_one_sentence(args, said, tmp_path):
    done = skelnb(*args)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_an_unwritable_folder_is_told_before_any_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = skelnb("pretrain", "synthetic-small", "--epochs", 1, "--out", tmp_path / "file" / "run")
    assert done.returncode == 2 and "file" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_lab_listens_on_loopback_with_a_token():
    from skelnb.cli import lab_command
    command = lab_command(ROOT)
    assert "--ip=127.0.0.1" in command and not any("token=" in part or "password" in part for part in command)
    assert "--no-browser" in lab_command(ROOT, browser=False)
