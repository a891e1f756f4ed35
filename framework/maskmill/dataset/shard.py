"""Shards: parts of a dataset for as many runs, on as many machines, with nothing between them to coordinate.

An image's shard follows from the hash of its key, so it stays the same when other images are added or removed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import Problem, UsageError

_FORM = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a dataset.

    Attributes:
        number: from 1.
        count: how many parts there are.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, key: str) -> bool:
        """Whether an image is in this part."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """The shard that `--shard` names: "2/8", or "auto" for the one that a scheduler gave this job.

        Args:
            text: as written.
            environment: variables of SLURM (a job array) or Kubernetes (an Indexed Job with JOB_COMPLETIONS).

        Raises:
            UsageError: it names none.
        """
        if text == "auto":
            return cls._find(environment)
        match = _FORM.fullmatch(text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            text = f"--shard: expected NUMBER/COUNT such as 2/8, from 1/8 to 8/8, or auto, not {text!r}"
            raise UsageError(text)
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _find(cls, environment: Mapping[str, str]) -> Self:
        def read(name: str, default: int | None = None) -> int:
            value = environment.get(name, "")
            if not value and default is not None:
                return default
            if not value.isdecimal():
                said = f"{name} is {value!r}" if value else f"the variable {name} is not set"
                raise UsageError(Problem(f"--shard auto: {said}", hint="give --shard NUMBER/COUNT"))
            return int(value)

        if "SLURM_ARRAY_TASK_ID" in environment:
            first, step = read("SLURM_ARRAY_TASK_MIN", 0), read("SLURM_ARRAY_TASK_STEP", 1)
            number, odd = divmod(read("SLURM_ARRAY_TASK_ID") - first, step or 1)
            found = cls(number + 1, read("SLURM_ARRAY_TASK_COUNT"))
        elif "JOB_COMPLETION_INDEX" in environment:
            found, odd = cls(read("JOB_COMPLETION_INDEX") + 1, read("JOB_COMPLETIONS")), 0
        else:
            text = "--shard auto: this is no task of a SLURM job array, and no pod of a Kubernetes Indexed Job"
            raise UsageError(Problem(text, hint="give --shard NUMBER/COUNT, such as --shard 2/8"))
        if odd or not 1 <= found.number <= found.count:
            hint = "number the tasks without gaps, as in --array=1-8, or give --shard NUMBER/COUNT"
            raise UsageError(Problem(f"--shard auto: there is no shard {found}", hint=hint))
        return found
