"""The process of the prompt lane; see `prompt_lane`. Started as `python -m maskmill.run.prompt_lane_process`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from ..chain.ask_sources import query_sources
from ..chain.fingerprint import Fingerprint, plan_reuse
from ..chain.plugin_call import StepError, Trace
from ..config.config import build_stages
from ..decoding.bit_depth import Conversion
from ..errors import StopRun
from ..images import Image
from ..output.store import load_result
from ..plugins.messages import LaneAnswers, LaneReply, LaneSetup, LaneTask, OpenFailure
from ..plugins.roles import PromptSource, Stages
from ..plugins.stage import working_in
from ..storage import configure, options_from_json
from .worker import prepare_process


@dataclass
class _Lane:
    """The sources, open, and the pipe back to the driver."""

    stages: Stages
    output: Path
    max_pixels: int
    conversion: Conversion
    out: IO[str]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, message: Any) -> None:
        """One JSON line to the driver."""
        with self.lock:
            self.out.write(json.dumps(message) + "\n")
            self.out.flush()

    def work(self, task: LaneTask) -> None:
        """Query the sources about one image and reply; exceptions become part of the reply."""
        lines: list[str] = []
        trace = Trace(story=lines.append if task.verbose else lambda line: None)
        answers, stop = None, ""
        try:
            answers = self._query(task, trace)
        except StepError as error:
            answers = LaneAnswers("", {}, _without_empty(trace), error.failure, tuple(trace.doubts))
        except StopRun as error:
            stop = str(error) or type(error).__name__
        except BaseException as error:  # the driver would wait for ever without a reply
            stop = f"{task.ref.key}: {type(error).__name__}: {error}"
        self.write(LaneReply(task.token, answers, stop, trace.seconds, tuple(lines)).to_json())

    def _query(self, task: LaneTask, trace: Trace) -> LaneAnswers:
        data = trace.step("read", "", task.ref.read)
        sha256 = hashlib.sha256(data).hexdigest()
        before = None if task.afresh else load_result(self.output, task.ref.key)
        if plan_reuse(before, sha256, Fingerprint.parse(task.fingerprint)).masks:
            return LaneAnswers(sha256)  # the stored masks are used: no query, and nothing to pay
        image = trace.step("read", "", partial(Image.from_bytes, data, task.ref, self.max_pixels, self.conversion))
        trace.story(f"{task.ref.key}: read, {image.width}×{image.height}")
        answers = query_sources(self.stages, image, trace, {}, ahead=True)
        return LaneAnswers(image.sha256, answers, _without_empty(trace), None, tuple(trace.doubts))


def _without_empty(trace: Trace) -> dict[str, Any]:
    return {name: notes for name, notes in trace.notes.items() if notes}


def main() -> None:
    """Read the setup, then images, one JSON line each, until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a plugin prints must not end up among the replies
    setup = LaneSetup.from_json(json.loads(sys.stdin.readline()))
    prepare_process(setup.driver)
    output = Path(setup.worker.output)
    try:
        configure(options_from_json(setup.worker.storage))
        stages = build_stages(setup.worker.chain)
        lane = _Lane(stages, output, setup.worker.max_pixels, setup.worker.conversion, out)
        with working_in(output):
            opened = _open_sources(stages)
    except Exception as error:
        out.write(json.dumps(asdict(OpenFailure(str(error), traceback.format_exc()))) + "\n")
        out.flush()
        return
    lane.write(None)
    with ThreadPoolExecutor(setup.threads) as pool:
        for line in sys.stdin:
            pool.submit(lane.work, LaneTask.from_json(json.loads(line)))
    for source in reversed(opened):
        source.close()


def _open_sources(stages: Stages) -> Sequence[PromptSource]:
    sources = [stages.prompts[index] for index in stages.list_ahead()]
    for name, source in sources:
        try:
            source.open()
        except Exception as error:
            raise RuntimeError(f"the prompt source {name!r} cannot be opened: {error}") from error
    return [source for _, source in sources]


if __name__ == "__main__":
    main()
