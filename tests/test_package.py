"""The package as a whole: metadata, what may import what, what it costs to import, no pickle, the project's own language."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = ["skeleton", "player", "data", "augment", "encoders", "losses", "methods", "train", "evaluate", "explore", "cli"]
LIBRARY = ["skeleton", "data", "augment", "encoders", "losses", "methods", "train", "evaluate"]
MODULES = sorted(p for p in (ROOT / "skelnb").rglob("*.py"))


def settings():
    config = configparser.ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def test_version_and_name_stand_in_one_place_only():
    import skelnb
    assert skelnb.__version__ == settings()["version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == settings()["name"]
    assert "version" in project["dynamic"] and "dependencies" in project["dynamic"]


def test_constraints_pin_every_requirement():
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    wanted = re.findall(r"^([A-Za-z0-9_.-]+)>=", settings()["requirements"] + "\n" + settings()["dev_requirements"], re.M)
    assert len(wanted) > 15
    assert not [name for name in wanted if name.lower() not in pinned]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_the_library_imports_without_notebook_and_plotting_packages():
    "A GPU server has none of these (DESIGN: the library's own requirements)."
    banned = "plotly ipywidgets anywidget openTSNE umap matplotlib IPython fastcore nbdev jupyterlab typer rich traitlets".split()
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in MODULES
               if p.relative_to(ROOT / "skelnb").with_suffix("").parts[0] in LIBRARY and p.name != "__init__.py"]
    assert len(modules) > 10
    done = run(f"""
import sys, importlib.machinery as machinery
found = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(lambda c, name, *a: None if name.split('.')[0] in {banned} else found(name, *a))
import importlib
for m in {modules}: importlib.import_module(m)
""")
    assert done.returncode == 0, done.stderr


def test_import_skelnb_is_light():
    done = run("import sys, skelnb; print(sorted(set(sys.modules) & {'torch', 'numpy', 'pandas', 'plotly', 'sklearn'}))")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_promised_name_is_there():
    done = run("""
import importlib, skelnb
rooms = ['', *('.' + r for r in 'data augment encoders losses methods train evaluate explore'.split())]
for room in rooms:
    package = importlib.import_module('skelnb' + room)
    for name in package.__all__:
        value = getattr(package, name)
        assert not hasattr(value, '__path__') or name in ('data', 'train'), (room, name)
from skelnb.evaluate import knn
import skelnb.evaluate.knn
from skelnb.evaluate import knn as again
assert callable(knn) and knn is again
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_up_the_table_only(path):
    room = path.relative_to(ROOT / "skelnb").with_suffix("").parts[0]
    if room not in ROWS:
        pytest.skip("the package's own __init__")
    allowed = ROWS[:ROWS.index(room) + 1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module, depth = node.module or "", len(path.relative_to(ROOT / "skelnb").parts)
            if node.level:                                   # relative: level `depth` is the package itself
                used = module.split(".")[0] if node.level == depth else room
            elif module.startswith("skelnb"):
                used = (module.split(".") + [""])[1]
            else:
                continue
            assert used in allowed or used == "", f"{path.name} uses {used}, which stands below {room}"


def test_no_pickle_is_written_and_no_ordinary_unpickler_is_used():
    for path in [*MODULES, *(ROOT / "benchmarks").rglob("*.py")]:
        text = re.sub(r"torch\.load\([^()\n]*weights_only=True\)", "", path.read_text())          # torch's restricted reader, which builds tensors and plain containers
        assert not re.search(r"(?<!safetensors\.)torch\.(save|load)\(|pickle\.(dump|load)|allow_pickle=True|joblib\.(dump|load)|to_pickle|read_pickle", text), path


def test_the_project_speaks_of_itself_alone():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for name in files:
        path = ROOT / name
        if not path.exists() or path.suffix not in {".py", ".ipynb", ".md", ".ini", ".toml", ".txt", ".js", ".json"}:
            continue
        text = path.read_text(encoding="utf-8")
        found = re.search(r"(?<![\w.:/])/(work|tmp|root|home)/[\w.]|pythonhosted|/simple/", text)
        assert not found or name.startswith("tests/"), f"{name}: {found.group(0)!r}"
