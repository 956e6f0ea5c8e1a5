"""Work on notebooks as text, and check them: used by people (`python tests/notebooks.py --help`) and by the tests.

    python tests/notebooks.py to-text nbs/losses/02_cmal.ipynb      # -> nbs/losses/02_cmal.py beside it (ignored by git)
    python tests/notebooks.py to-notebook nbs/losses/02_cmal.py     # text back into the notebook, then remove the text
    python tests/notebooks.py export nbs/losses/02_cmal.ipynb       # write the module it is the source of
    python tests/notebooks.py run nbs/losses/02_cmal.ipynb          # run top to bottom in a kernel and save the outputs
    python tests/notebooks.py check                                 # budgets of all notebooks
    python tests/notebooks.py readme                                # README.md from nbs/index.ipynb
"""

import argparse
import json
import os
import pathlib
import re
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK_BYTES, OUTPUT_BYTES, RUN_SECONDS = 1_500_000, 300_000, 60
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}


def notebooks():
    "Every notebook of the course, in reading order."
    return sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def run(path, timeout=600):
    "Run a copy of the notebook in its own folder and return it with its outputs; raises on the first failing cell."
    import nbformat
    from nbclient import NotebookClient

    os.environ.setdefault("OMP_NUM_THREADS", "1")       # two notebooks at a time fight over the cores otherwise
    book = nbformat.read(path, 4)
    client = NotebookClient(book, timeout=timeout, kernel_name="python3", store_widget_state=False,
                            resources={"metadata": {"path": str(pathlib.Path(path).parent)}})
    client.execute()
    return book


def tidy(book):
    "Leave nothing in a saved notebook that changes from run to run or only works on this machine."
    for n, cell in enumerate(book.cells):
        cell.id = f"c{n:03d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            data = output.get("data", {})
            if "text/html" in data:                      # a live widget is not there when the file is opened: its HTML is
                data.pop("application/vnd.jupyter.widget-view+json", None)
    book.metadata = METADATA
    return book


def problems(path):
    "What breaks DESIGN's budgets or would not survive on another machine, as a list of sentences."
    book = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    found = []
    size = pathlib.Path(path).stat().st_size
    if size > NOTEBOOK_BYTES:
        found.append(f"is {size / 1e6:.2f} MB, over {NOTEBOOK_BYTES / 1e6} MB")
    for n, cell in enumerate(book["cells"]):
        for output in cell.get("outputs", []):
            text = json.dumps(output)
            if len(text) > OUTPUT_BYTES:
                found.append(f"cell {n}: an output of {len(text) / 1e3:.0f} kB, over {OUTPUT_BYTES / 1e3:.0f} kB")
            if output["output_type"] == "error":
                found.append(f"cell {n}: a saved error")
        where = "".join(cell["source"]) + json.dumps([o for o in cell.get("outputs", [])])
        if re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users|mnt)/", where):
            found.append(f"cell {n}: a path of one machine")
    return found


def readme():
    """README.md, from nbs/index.ipynb: its text, and the Markdown that cells marked `#| readme` show.

    A text cell that begins with `<!-- notebook only -->` is left out; links are rewritten to start at the top folder.
    """
    book = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))
    parts = []
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and not source.startswith("<!-- notebook only -->"):
            parts.append(source)
        elif cell["cell_type"] == "code" and source.startswith("#| readme"):
            parts += ["".join(o["data"]["text/markdown"]) for o in cell["outputs"] if "text/markdown" in o.get("data", {})]
    text = "\n\n".join(part.strip() for part in parts) + "\n"
    text = re.sub(r"\]\((?!https?:|#|mailto:)(?!\.\./)", "](nbs/", text)
    return "<!-- made from nbs/index.ipynb by: python tests/notebooks.py readme -->\n\n" + text.replace("](../", "](")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["to-text", "to-notebook", "export", "run", "check", "readme"])
    parser.add_argument("paths", nargs="*", type=pathlib.Path, help="notebooks (default: all of them)")
    args = parser.parse_args(argv)
    bad = 0
    if args.command == "readme":
        (ROOT / "README.md").write_text(readme(), encoding="utf-8")
        return 0
    for path in args.paths or notebooks():
        if args.command == "to-text":
            import jupytext
            jupytext.write(jupytext.read(path), path.with_suffix(".py"), fmt="py:percent")
        elif args.command == "to-notebook":
            import jupytext
            import nbformat
            target = path.with_suffix(".ipynb")
            book = jupytext.read(path, fmt="py:percent")
            if target.exists():                          # keep the outputs of cells whose source did not change
                kept = {c.source: c for c in nbformat.read(target, 4).cells if c.cell_type == "code"}
                for cell in book.cells:
                    if cell.cell_type == "code" and cell.source in kept:
                        cell.outputs = kept[cell.source].outputs
                        cell.execution_count = kept[cell.source].execution_count
            nbformat.write(tidy(book), target)
            path.unlink()
        elif args.command == "export":
            from nbdev.export import nb_export
            nb_export(path, lib_path=ROOT / "skelnb")
        elif args.command == "run":
            import nbformat
            start = time.time()
            nbformat.write(tidy(run(path)), path)
            print(f"{path}: {time.time() - start:.1f} s", *problems(path), sep="\n  ")
        else:
            for problem in problems(path):
                bad += 1
                print(f"{path}: {problem}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
