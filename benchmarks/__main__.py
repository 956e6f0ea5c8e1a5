"""The speed benchmarks, one after the other: `python -m benchmarks` writes data/results/speed*.json. Arguments go to the first, see `python -m benchmarks.speed --help`; each can be run alone."""

import importlib
import importlib.util
import sys

for name in ("speed", "speed_evaluate"):
    if importlib.util.find_spec(f"benchmarks.{name}") is None: continue
    print(f"python -m benchmarks.{name}", flush=True)
    module = importlib.import_module(f"benchmarks.{name}")
    module.main(sys.argv[1:] if name == "speed" else [])
