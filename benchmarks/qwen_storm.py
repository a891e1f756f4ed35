"""Run `qwen` on a thousand images against a local server that throttles, fails and sends garbage.

    python benchmarks/qwen_storm.py [IMAGES] [SECONDS]

The server answers after SECONDS (0.5); 5 % of the calls get 429, 2 % get 500, 1 % get garbage.
Prints what the server measured: calls, maximum at once, maximum per minute; and the calls in the budget.
"""

from __future__ import annotations

import bisect
import os
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from qwen_wire import ERRORS, KEY, OK, Act, Call, Wire  # noqa: E402 - of the tests

from maskmill import Pipeline, testing  # noqa: E402 - as above
from maskmill_plugins.prompts.qwen.cost.budget import read_usage  # noqa: E402 - as above

CONCURRENCY = 16
RPM = 1500

PIPELINE = """
dataset: photos
prompts:
  - use: qwen
    provider: openai
    base_url: {url}
    api_key: ${{STORM_KEY}}
    find: [vehicle]
    concurrency: {concurrency}
    rpm: {rpm}
    budget: {{calls: {calls}}}
backend: grabcut
output: out
run: {{jobs: 1}}
"""


def storm(seconds: float) -> object:
    """Return the server's random responses."""
    chance = random.Random(0)

    def answer(call: Call) -> Act:
        kind = chance.random()
        if kind < 0.05:
            return ERRORS["throttled for 1 s"] if kind < 0.025 else ERRORS["throttled"]
        if kind < 0.07:
            return ERRORS["internal"]
        return Act("I see a vehicle." if kind < 0.08 else OK.text, seconds=seconds)

    return answer


def count_most(times: list[float], seconds: float) -> int:
    """Return the largest number of calls within this many seconds."""
    times = sorted(times)
    return max((bisect.bisect_left(times, start + seconds) - at for at, start in enumerate(times)), default=0)


def main(images: int = 1000, seconds: float = 0.5) -> None:
    """Run the benchmark and print its results."""
    with tempfile.TemporaryDirectory() as folder, Wire() as wire:
        base = Path(folder)
        os.environ |= {"MASKMILL_CACHE": str(base / "cache"), "STORM_KEY": KEY}
        wire.answer = storm(seconds)
        for number in range(images):
            testing.write_picture(base / f"photos/{number:05}.png", seed=number)
        values = {"url": wire.openai, "concurrency": CONCURRENCY, "rpm": RPM, "calls": 10 * images}
        (base / "storm.yaml").write_text(PIPELINE.format(**values), encoding="utf-8")
        started = time.monotonic()
        report = Pipeline.load(base / "storm.yaml").run(quiet=True)
        wall = time.monotonic() - started
        print(f"{report.counts} in {wall:.1f} s")
        print(f"{len(wire.calls)} calls at the server, {read_usage(report.output).calls} in the budget")
        per_minute = count_most([call.at for call in wire.calls], 60)
        print(f"{wire.most_at_once} at once (of {CONCURRENCY}), {per_minute} per minute (of {RPM})")
        least = max(len(wire.calls) * seconds / CONCURRENCY, (len(wire.calls) - 1) * 60 / RPM)
        print(f"the server alone would take {least:.1f} s")


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
