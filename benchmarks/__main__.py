"""All speed benchmarks, one after the other: `python -m benchmarks` writes data/results/speed*.json. Each can be run alone, see `python -m benchmarks.speed --help`."""

import importlib
import sys

for name in ("speed", "speed_evaluate"):
    print(f"python -m benchmarks.{name}", flush=True)
    importlib.import_module(f"benchmarks.{name}").main(sys.argv[1:] if name == "speed" else [])
