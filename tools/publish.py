"""`make publish-results`: copy what the benchmarks wrote into benchmarks/results, where lessons and README read it."""

from __future__ import annotations

import shutil

from tools.lessons import ROOT

SOURCE, TARGET = ROOT / "build" / "bench", ROOT / "benchmarks" / "results"


def main() -> int:
    files = sorted(SOURCE.glob("*.json"))
    if not files:
        print(f"expected results in {SOURCE.relative_to(ROOT)}/, got none; run `make bench` first")
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, TARGET / file.name)
        print(f"published {file.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
