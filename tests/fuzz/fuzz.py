"""Damaged files by the hundred thousand, through the code that a run reads them by.

`python tests/fuzz/fuzz.py --count 100000 --seed 1`: processes read them under a limit of memory and of time an input. A
crash, a hang, memory beyond the bound, an exception that is not the project's own way of saying no, or a reason that
cannot be right is a failure: its file is kept, and `--only NUMBER` reads that input again, in the open.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mutate import mutant
from tally import Tally
from workers import BOUND_BYTES, LIMIT_S, run


def main() -> int:
    """0 where every input had its outcome, 1 where one failed."""
    options = _options()
    if options.only is not None:
        return _again(options.seed, options.only)
    tally = Tally()
    failures = options.output / "failures"
    for result in run(options.seed, options.count, processes=options.workers, log=options.output / "crashes.log"):
        tally.add(result)
        if result.failure:
            failures.mkdir(parents=True, exist_ok=True)
            kept = failures / f"{options.seed}-{result.number}-{result.form.replace(' ', '-')}"
            kept.write_bytes(mutant(options.seed, result.number).data)
            print(f"{kept}: {result.plan} of {result.name}: {result.failure}", flush=True)
        if sys.stderr.isatty() and tally.inputs % 1000 == 0:
            print(f"\r{tally.inputs:,} of {options.count:,}", end="", file=sys.stderr)
    told = tally.told(seed=options.seed, bound_bytes=BOUND_BYTES, limit_s=LIMIT_S)
    print("\n" + told)
    (options.output / "report.md").write_text(told + "\n")
    (options.output / "report.json").write_text(json.dumps(tally.as_json(), indent=1) + "\n")
    return 1 if tally.failures or tally.inputs != options.count else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other inputs")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"), help="where the report and failed inputs go")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="read this input alone, here, and show what it does")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def _again(seed: int, number: int) -> int:
    from targets import read  # noqa: PLC0415 -- seconds

    found = mutant(seed, number)
    print(f"{found.plan} of {found.seed.form}, {found.seed.name}: {' '.join(found.steps)}; {len(found.data):,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        print(read(found, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
