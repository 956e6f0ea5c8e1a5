"""`skelnb reproduce`: what there is, what is missing, what went wrong; on a set of 45 clips."""

import importlib
import json
import re

import pytest
from typer.testing import CliRunner

from trial_cases import TINY, clips, home  # noqa: F401  (fixtures)

from skelnb.evaluate.tables import TABLES, Table

tables = importlib.import_module("skelnb.evaluate.tables")
pytestmark = pytest.mark.xdist_group("reproduce")


@pytest.fixture
def command(home, monkeypatch):
    "reproduce(*words) -> what typer's runner found, with a wide terminal."
    from skelnb.cli import app
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["reproduce", *map(str, words)])


@pytest.fixture
def small(monkeypatch):
    "One table of one row with a narrow network, and its controls."
    row = tables.Row("SkeletonCLR", "skeletonclr", "joint", {"NTU-60 xsub": 68.3}, changes=dict(streams=["joint"], **{k: v for k, v in TINY.items() if k != "epochs"}))
    table = Table("acl-1", "a small table", "ACL, Table I", ["NTU-60 xsub"], [row], "knn", "A note.")
    monkeypatch.setitem(TABLES, "acl-1", table)
    monkeypatch.setattr(tables, "controls_of", lambda t: [tables.Row(c, "skeletonclr", "joint", control=c, changes=dict(streams=["joint"], **{k: TINY[k] for k in ("width", "feature_dim")})) for c in ("raw", "untrained")])
    return table


def test_without_a_name_it_says_what_there_is(command):
    done = command("--data", "nw-ucla", "--seeds", "0")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and len(lines) == len(TABLES)
    for line, t in zip(lines, TABLES.values()):
        assert line.startswith(t.name) and t.source in line and re.search(rf" 0 of {len(t.trials('nw-ucla', (0,)))} runs$", line), line


def test_a_table_is_printed_without_running(command, home):
    done = command("acl-1", "hiclr-7", "--data", "nw-ucla", "--table")
    assert done.exit_code == 0 and "ACL, Table I: kNN, joint stream" in done.stdout and "HiCLR, Table 7: fine-tuned" in done.stdout and "77.1" in done.stdout and "raw coordinates" in done.stdout
    assert not (home / "results").exists() and not (home / "runs").exists()


@pytest.mark.parametrize("words, said", [
    (["acl-21"], "did you mean 'acl-2'"), (["figure"], "There are: acl-1"), (["acl-1", "--seeds", "0;1"], "0,1,2"), (["acl-1", "--seeds", "a"], "expected whole numbers"),
    (["acl-1", "--data", "ntu61"], "no plan for the data set 'ntu61'"), (["--data", "ntu61"], "no plan"), (["acl-1", "hiclr-99"], "no table 'hiclr-99'"), (["ledger", "acl-99"], "no table 'acl-99'"),
    (["ledger", "--data", "ntu61"], "no plan for the data set 'ntu61'"), (["ledger", "--split", "xview"], "name it with --data"), (["acl-1", "ledger", "--epochs", "1"], "the ledger judges full runs"),
    (["acl-1", "--address", "tcp://here:1"], "choose the backend 'dask' or 'ray'")])
def test_a_wrong_word_is_answered(command, words, said):
    done = command(*words)
    assert done.exit_code != 0 and isinstance(done.exception, (ValueError, SystemExit)) and said in str(done.exception) + done.output


def test_what_is_missing_is_run_and_kept(command, small, home):
    first = command("acl-1", "--data", "nw-ucla", "--seeds", "0,1", "--epochs", "1")
    assert first.exit_code == 0, first.output + repr(first.exception)
    files = {f: f.stat().st_mtime_ns for f in (home / "results" / "trials").iterdir()}
    assert len(files) == 5 and len(list((home / "runs").iterdir())) == 2                  # two seeds of two, and one of the coordinates
    assert "ACL, Table I: a small table" in first.stdout and "A note." in first.stdout and re.search(r"SkeletonCLR +68.3 +\d+\.\d +\d+\.\d +2\.?0? +1\b", first.stdout), first.stdout
    again = command("acl-1", "--data", "nw-ucla", "--seeds", "0,1", "--epochs", "1")
    assert again.exit_code == 0 and {f: f.stat().st_mtime_ns for f in (home / "results" / "trials").iterdir()} == files
    table = lambda text: text[text.index("ACL, Table I"):]
    assert table(again.stdout) == table(first.stdout) == table(command("acl-1", "--data", "nw-ucla", "--seeds", "0,1", "--epochs", "1", "--table").stdout)
    full = command("acl-1", "--data", "nw-ucla", "--seeds", "0,1", "--table")                                   # a short run is not a full one
    assert re.search(r"SkeletonCLR +68.3 +0 +50\b|SkeletonCLR +68.3 +0\.0 +50", full.stdout), full.stdout
    assert re.search(r"acl-1 .* 1 of 3 runs|acl-1 .* 2 of 3 runs", command("--data", "nw-ucla", "--seeds", "0").stdout)                         # the controls need no epochs


def test_a_run_that_fails_is_told_at_the_end(command, small):
    small.rows[0].changes["lr"] = 1e30
    done = command("acl-1", "--data", "nw-ucla", "--seeds", "7", "--epochs", "1")
    assert done.exit_code != 0 and "1 of 3 runs failed; the first: Trial(skeletonclr on nw-ucla" in str(done.exception) + done.output
    assert "a small table" in done.output and "untrained" in done.output                    # what there is is printed all the same


def test_the_ledger_is_judged_again(command, home):
    (home / "results" / "ledger.json").unlink(missing_ok=True)
    done = command("ledger")
    assert done.exit_code == 0 and done.stdout == "" and json.loads((home / "results" / "ledger.json").read_text()) == []


def test_data_split_and_seeds_of_the_ledger_count(command, home):
    from test_ledger import put, some
    for s, better in ((0, .9), (1, .9), (2, .2)):
        for label, share in (("SkeletonBYOL", better), ("SkeletonCLR", .5)): put(home / "results", label, s, data="ntu60", split="xview", correct=some(share, seed=s))
    assert command("ledger").stdout == "" == command("ledger", "--data", "ntu60").stdout
    found = command("ledger", "--data", "ntu60", "--split", "xview", "--seeds", "0,1")
    assert found.exit_code == 0 and re.search(r"^1 +ntu60 xview +\+40\.0 .* holds ", found.stdout, re.M), found.output
    before = (home / "results" / "ledger.json").read_text()
    both = command("acl-6", "ledger", "--data", "ntu60", "--split", "xview", "--table")                            # the table, and what was judged: nothing anew
    assert both.exit_code == 0 and both.stdout.index("ACL, Table VI") < both.stdout.index("ntu60 xview") and "+40.0" in both.stdout and (home / "results" / "ledger.json").read_text() == before
    assert "+16.7" in command("ledger", "--data", "ntu60", "--split", "xview").stdout                              # three seeds
    (home / "results" / "ledger.json").unlink()
