"""The process of the prompt lane; see `lane`. Started as `python -m maskmill.run.prompt_lane_process`."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..chain.ask_sources import LaneAnswers, answers_of
from ..chain.chain import fingerprint_of, usable
from ..chain.fingerprint import Fingerprint
from ..chain.plugin_call import StepError, Trace
from ..config.config import stages_from
from ..errors import StopRun
from ..images import Image, ImageRef
from ..output.store import load_result
from ..plugins.roles import Stages
from ..plugins.stage import working_in
from .worker import prepare


@dataclass
class _Asking:
    """The sources, open, and the way back to the driver."""

    stages: Stages
    output: Path
    max_pixels: int
    out: IO[str]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, message: dict[str, Any]) -> None:
        with self.lock:
            self.out.write(json.dumps(message) + "\n")
            self.out.flush()

    def one(self, task: dict[str, Any]) -> None:
        """Ask about one image and reply; whatever goes wrong travels with it."""
        lines: list[str] = []
        trace = Trace(story=lines.append if task["story"] else lambda line: None)
        reply: dict[str, Any] = {"token": task["token"], "lines": lines}
        try:
            asked = self._asked(ImageRef(*task["ref"]), Fingerprint.parse(task["fingerprint"]), trace)
            reply["asked"] = asked.to_json()
        except StepError as error:
            reply["asked"] = LaneAnswers(failure=error.failure, notes=_noted(trace)).to_json()
        except StopRun as stop:
            reply["stop"] = str(stop) or type(stop).__name__
        except BaseException as error:  # no reply at all would be waited for
            reply["stop"] = f"{task['ref'][1]}: {type(error).__name__}: {error}"
        self.reply({**reply, "seconds": trace.seconds})

    def _asked(self, ref: ImageRef, wanted: Fingerprint, trace: Trace) -> LaneAnswers:
        image = trace.step("read", "", lambda: Image.load(ref, self.max_pixels))
        trace.story(f"{ref.key}: read, {image.width}×{image.height}")
        before = usable(load_result(self.output, ref.key), image)
        have = fingerprint_of(before)
        if have is not None and have.same_masks(wanted):
            return LaneAnswers(image.sha256)  # the stored masks serve: nobody has to be asked, or paid
        answers = answers_of(self.stages, image, trace, {}, ahead=True)
        return LaneAnswers(image.sha256, answers, _noted(trace))


def _noted(trace: Trace) -> dict[str, Any]:
    return {name: notes for name, notes in trace.notes.items() if notes}


def main() -> None:
    """Read the set-up, then images, one JSON line each, until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a plugin prints must not end up among the replies
    setup = json.loads(sys.stdin.readline())
    prepare(setup["driver"])
    try:
        stages = stages_from(setup["stages"])
        with working_in(Path(setup["output"])):
            opened = _open_sources(stages)
    except Exception as error:
        out.write(json.dumps({"error": f"{error}\n{traceback.format_exc()}"}) + "\n")
        out.flush()
        return
    asking = _Asking(stages, Path(setup["output"]), setup["max_pixels"], out)
    asking.reply({"error": ""})
    with ThreadPoolExecutor(setup["threads"]) as pool:
        for line in sys.stdin:
            pool.submit(asking.one, json.loads(line))
    for source in reversed(opened):
        source.close()


def _open_sources(stages: Stages) -> list[Any]:
    for name, source in stages.prompts:
        try:
            source.open()
        except Exception as error:
            raise RuntimeError(f"the prompt source {name!r} cannot be opened: {error}") from error
    return [source for _, source in stages.prompts]


if __name__ == "__main__":
    main()
