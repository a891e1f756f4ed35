"""Running a plugin for real, in a pipeline whose other roles are fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from ..api import Pipeline
from ..config.load import load_config
from ..output.records import FAILURES
from ..output.run import read_run
from ..plugins.roles import Backend
from ..results import RunReport
from . import fakes as testing
from .bench import REFUSALS, Bench, Broken

#: Files of an output folder that tell times.
_TIMED = frozenset({"ledger.sqlite", "run.json", ".lock"})
_SECONDS = 120


def check_runs(bench: Bench, engines: Sequence[str]) -> Iterator[tuple[str, Callable[[], None]]]:
    """The rules of a real run and their checks: it ends well, the same on every engine, and once is enough."""
    if bench.entry.role == "engine":
        engines = ("inline", bench.entry.name)
    for engine in engines:
        yield f"runs through {engine}", partial(_runs, bench, engine)
        if engine != engines[0]:
            same = f"gives the same through {engine} as through {engines[0]}"
            yield same, partial(_same, bench, engines[0], engine)
    if engines:
        yield "has nothing to do in a second run", partial(_is_done, bench, engines[0])


def check_observers(file: Path, photos: Path, folder: Path, hooks: Sequence[str]) -> None:
    """Show a run to a file's observers.

    Raises:
        Broken: one of them raised.
    """
    pipeline, report = _run([file], photos, folder, "inline", {})
    registry = pipeline.config.registry
    info = _info(pipeline)
    for hook in hooks:
        for implementation in getattr(registry.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name.startswith(f"{file}:"):
                given = {"run": info, "report": report, "result": next(read_run(report.output))}
                try:
                    implementation.function(**{name: given[name] for name in implementation.argnames})
                except Exception as error:
                    raise Broken(f"{hook}() raised {type(error).__name__}: {error}") from error


def _info(pipeline: Pipeline) -> object:
    from ..results import RunInfo

    return RunInfo(pipeline.config.name, pipeline.config.output, pipeline.config.resolved())


def _place(bench: Bench, engine: str) -> Path:
    return bench.folder / f"run-{engine}"


def _runs(bench: Bench, engine: str) -> None:
    _, report = _of(bench, engine)
    if report.outcome != "finished":
        raise Broken(f"the run ended {report.outcome}: {report.message}")
    failures = _failures(report.output)
    bad = [each for each in failures if each["type"] not in REFUSALS] or (
        failures if len(failures) == len(bench.images) else []
    )
    if bad:
        raise Broken(f"{bad[0]['key']} failed at {bad[0]['stage']}: {bad[0]['type']}: {bad[0]['message']}")


def _is_done(bench: Bench, engine: str) -> None:
    done = len(bench.images) - len(_failures(_place(bench, engine) / "out"))
    _, report = _of(bench, engine)
    if report.ran > len(bench.images) - done:
        hint = "fingerprint(), digest() and model_id() say the same as long as the results are the same"
        raise Broken(f"it did {report.ran} images again", hint)


def _failures(output: Path) -> list[dict[str, Any]]:
    file = output / FAILURES
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _same(bench: Bench, one: str, two: str) -> None:
    first, second = (_files(_place(bench, engine) / "out") for engine in (one, two))
    if differing := sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path)):
        hint = "results depend on the image and the options only, not on the process, the order or the clock"
        raise Broken(f"not the same: {', '.join(differing[:3])}{', ...' if differing[3:] else ''}", hint)


def _files(output: Path) -> dict[str, bytes]:
    paths = [path for path in output.rglob("*") if path.is_file() and path.name not in _TIMED]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def _of(bench: Bench, engine: str) -> tuple[Pipeline, RunReport]:
    """Run the bench's plugin; again if it ran before."""
    photos = Path(bench.images[0].ref.uri).parent
    return _run([Path(bench.entry.origin)], photos, _place(bench, engine), engine, _parts(bench))


def _parts(bench: Bench) -> dict[str, Any]:
    """The part of the pipeline file that names the plugin, and fakes that suit it."""
    use = {"use": bench.entry.name, **_written(bench)}
    if bench.entry.role == "prompt source":
        return {"prompts": [use, "fake-source"]}
    if bench.entry.role == "backend":
        kinds = cast(Backend, bench.make()).accepts()
        kind = next(kind for kind in ("box", "points", "text", "everything") if kind in kinds)
        return {"prompts": [{"use": "fake-source", "kind": kind}], "backend": use}
    return {f"{bench.entry.role}s": [use]} if bench.entry.role in {"filter", "writer"} else {}


def _written(bench: Bench) -> dict[str, Any]:
    """The options as they have to stand in a file of another folder: paths absolute, `${` as it is."""
    stage = bench.make()
    fields = {field.alias or name: name for name, field in type(stage).model_fields.items()}
    values = {
        name: str(value) if isinstance(value := getattr(stage, fields[name]), Path) else plain
        for name, plain in bench.options.items()
    }
    return cast(dict[str, Any], json.loads(json.dumps(values).replace("${", "$${")))


def _run(
    drop_ins: Sequence[Path], photos: Path, folder: Path, engine: str, parts: Mapping[str, Any]
) -> tuple[Pipeline, RunReport]:
    folder.mkdir(parents=True, exist_ok=True)
    fakes = folder / "fakes.py"
    fakes.write_text(testing.DROP_IN, encoding="utf-8")
    document = {
        "dataset": photos.as_posix(),
        "prompts": ["fake-source"],
        "backend": "fake-backend",
        "filters": ["fake-filter"],
        "writers": ["fake-writer"],
        "output": "out",
        "run": {"engine": engine, "jobs": 1 if engine == "inline" else 2, "timeout": _SECONDS},
        **parts,
    }
    file = folder / "trial.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    config = load_config(file, plugins=[*drop_ins, fakes], drop_ins=False)
    return Pipeline(config), Pipeline(config).run(quiet=True)
