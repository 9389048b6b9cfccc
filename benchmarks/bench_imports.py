"""Import time of each function's main.py in a fresh process: the median of five.

``ingest``, ``close_day`` and ``reconcile`` are to stay at or below 1.0 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from velib_deploy.function_specs import load_specs

HEAVY = ("pandas", "sklearn", "xgboost", "scipy")
SCRIPT = (
    "import time; started = time.perf_counter(); import sys, runpy;"
    "runpy.run_path(sys.argv[1]);"
    "print(time.perf_counter() - started, *(m for m in sys.argv[2:] if m in sys.modules))"
)


def main() -> None:
    """Print the median and what heavy libraries each function pulls in."""
    for name, spec in load_specs().items():
        seconds, heavy = [], set()
        for _ in range(5):
            command = [sys.executable, "-c", SCRIPT, str(spec.folder / "main.py"), *HEAVY]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken, *modules = done.stdout.split()
            seconds.append(float(taken))
            heavy |= set(modules)
        print(f"{name:24s} {statistics.median(seconds):.2f} s  {' '.join(sorted(heavy))}")


if __name__ == "__main__":
    main()
