"""Every notebook runs top to bottom, stays within its budget, and exports what is in skelnb/."""

import pathlib
import re
import subprocess
import sys
import time

import pytest

import notebooks

ROOT = notebooks.ROOT
BOOKS = notebooks.notebooks()
EXPORTED = [p for p in BOOKS if "#| default_exp" in p.read_text(encoding="utf-8")]
name = lambda p: str(p.relative_to(ROOT / "nbs"))


def test_there_are_notebooks():
    assert len(BOOKS) >= 20 and len(EXPORTED) >= 18


@pytest.mark.notebook
@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_it_runs(path):
    start = time.time()
    book = notebooks.run(path)
    print(f"{name(path)}: {time.time() - start:.1f} s")
    red = [f"cell {n}: {o['text'][:400]}" for n, c in enumerate(book.cells) for o in c.get("outputs", []) if o.get("name") == "stderr" and "Warning" in o["text"]]
    assert red == [], "a reader who runs it sees warnings"


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_it_keeps_to_the_budget(path):
    assert notebooks.problems(path) == []


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_it_was_run_before_it_was_saved(path):
    import nbformat
    code = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    shown = [c for c in code if c.outputs]
    assert shown, "no cell has an output: run it before you commit it"
    assert all(c.execution_count for c in code), "a cell was never run"


@pytest.mark.parametrize("path", EXPORTED, ids=name)
def test_the_library_is_what_it_exports(path, tmp_path):
    from nbdev.export import nb_export
    module = re.search(r"#\| default_exp ([\w.]+)", path.read_text(encoding="utf-8")).group(1).replace(".", "/") + ".py"
    nb_export(path, lib_path=tmp_path / "skelnb")
    here = lambda path: re.sub(r"[\w./-]*(?<=/)nbs/", "nbs/", path.read_text(encoding="utf-8"))      # where the notebook lay
    assert here(tmp_path / "skelnb" / module) == here(ROOT / "skelnb" / module), \
        f"skelnb/{module} differs from {name(path)}: run python tests/notebooks.py export"


def test_no_module_is_without_a_notebook():
    exported = {re.search(r"#\| default_exp ([\w.]+)", p.read_text()).group(1).replace(".", "/") + ".py" for p in EXPORTED}
    for path in (ROOT / "skelnb").rglob("*.py"):
        here = path.relative_to(ROOT / "skelnb").as_posix()
        assert path.name in ("__init__.py", "_modidx.py") or here in exported, f"skelnb/{here} has no notebook"


def test_an_exported_cell_is_short():
    import nbformat
    long = []
    for path in EXPORTED:
        for n, cell in enumerate(nbformat.read(path, 4).cells):
            if cell.cell_type == "code" and cell.source.startswith("#| export") and len(cell.source.splitlines()) > 50:
                long.append(f"{name(path)} cell {n}: {len(cell.source.splitlines())} lines")
    assert not long, long


def test_readme_is_the_index():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == notebooks.readme(), "run python tests/notebooks.py readme"


def test_the_tool_goes_to_text_and_back(tmp_path):
    import shutil
    book = tmp_path / "b.ipynb"
    shutil.copy(ROOT / "nbs" / "00_skeleton.ipynb", book)
    tool = lambda *a: subprocess.run([sys.executable, ROOT / "tests" / "notebooks.py", *a], check=True)
    tool("to-text", book)
    tool("to-notebook", book.with_suffix(".py"))
    assert [c["source"] for c in notebooks.json.loads(book.read_text())["cells"]] == \
        [c["source"] for c in notebooks.json.loads((ROOT / "nbs" / "00_skeleton.ipynb").read_text())["cells"]]
