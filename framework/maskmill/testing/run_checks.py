"""Running a plugin in a real pipeline whose other roles are fakes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from ..api import Pipeline
from ..config.load import load_config
from ..output.records import FAILURES
from ..output.run import read_run
from ..plugins.roles import Backend
from ..results import RunInfo, RunReport
from ..wording import count_noun
from . import fakes as testing
from .bench import REFUSALS, Bench, Broken, Check

#: Files of an output folder that contain times.
_TIMED = frozenset({"ledger.sqlite", "entries.sqlite", "run.json", ".lock"})
_SECONDS = 120


def run_checks(bench: Bench, engines: Sequence[str]) -> Iterator[Check]:
    """The checks of a real run: it finishes, with the same results on every engine, and need not be repeated."""
    if bench.entry.role == "engine":
        engines = ("inline", bench.entry.name)
    for engine in engines:
        yield Check("", f"runs through {engine}", partial(_check_run, engine=engine))
        if engine != engines[0]:
            rule = f"gives the same results through {engine} as through {engines[0]}"
            yield Check("", rule, partial(_check_same_results, one=engines[0], two=engine))
    if engines:
        yield Check("", "has nothing to do in a second run", partial(_check_second_run, engine=engines[0]))


def check_observers(file: Path, photos: Path, folder: Path, hooks: Sequence[str]) -> None:
    """Call a file's observers as a run does.

    Raises:
        Broken: one of them raised.
    """
    pipeline, report = _run([file], photos, folder, "inline", {})
    registry = pipeline.config.registry
    config = pipeline.config
    info = RunInfo(config.name, config.output, config.resolved())
    for hook in hooks:
        for implementation in getattr(registry.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name.startswith(f"{file}:"):
                given = {"run": info, "report": report, "result": next(read_run(report.output))}
                try:
                    implementation.function(**{name: given[name] for name in implementation.argnames})
                except Exception as error:
                    raise Broken(f"{hook}() raised {type(error).__name__}: {error}") from error


def _folder(bench: Bench, engine: str) -> Path:
    return bench.folder / f"run-{engine}"


def _check_run(bench: Bench, engine: str) -> None:
    _, report = _run_plugin(bench, engine)
    if report.outcome != "finished":
        raise Broken(f"the run ended {report.outcome}: {report.message}")
    failures = _failures(report.output)
    bad = [each for each in failures if each["type"] not in REFUSALS] or (
        failures if len(failures) == len(bench.images) else []
    )
    if bad:
        raise Broken(f"{bad[0]['key']} failed at {bad[0]['stage']}: {bad[0]['type']}: {bad[0]['message']}")


def _check_second_run(bench: Bench, engine: str) -> None:
    done = len(bench.images) - len(_failures(_folder(bench, engine) / "out"))
    _, report = _run_plugin(bench, engine)
    if report.ran > len(bench.images) - done:
        hint = "fingerprint(), digest() and model_id() must not change as long as the results are the same"
        raise Broken(f"it processed {count_noun(report.ran, 'image')} again", hint)


def _failures(output: Path) -> list[dict[str, Any]]:
    file = output / FAILURES
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _check_same_results(bench: Bench, one: str, two: str) -> None:
    first, second = (_files(_folder(bench, engine) / "out") for engine in (one, two))
    if differing := sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path)):
        hint = "results may depend on the image and the options only, not on the process, the order or the time"
        raise Broken(f"different: {', '.join(differing[:3])}{', ...' if differing[3:] else ''}", hint)


def _files(output: Path) -> dict[str, bytes]:
    paths = [path for path in output.rglob("*") if path.is_file() and path.name not in _TIMED]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def _run_plugin(bench: Bench, engine: str) -> tuple[Pipeline, RunReport]:
    """Run the bench's plugin, or run it again."""
    photos = Path(bench.images[0].ref.uri).parent
    return _run([Path(bench.entry.origin)], photos, _folder(bench, engine), engine, _parts(bench))


def _parts(bench: Bench) -> dict[str, Any]:
    """The part of the pipeline file that names the plugin, and fakes that fit it."""
    use = {"use": bench.entry.name, **_options_in_file(bench)}
    if bench.entry.role == "prompt source":
        return {"prompts": [use, "fake-source"]}
    if bench.entry.role == "backend":
        kinds = cast(Backend, bench.build_stage()).accepts()
        kind = next((kind for kind in ("box", "points", "text", "everything") if kind in kinds), None)
        nothing = {"use": "manual", "images": {"*": {}}}  # for a backend that takes prompts with a mask only
        return {"prompts": [{"use": "fake-source", "kind": kind} if kind else nothing], "backend": use}
    return {f"{bench.entry.role}s": [use]} if bench.entry.role in {"filter", "writer"} else {}


def _options_in_file(bench: Bench) -> dict[str, Any]:
    """The options as a file in another folder needs them: paths absolute, `${` escaped."""
    stage = bench.build_stage()
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
        "run": {"engine": engine, "jobs": 1 if engine == "inline" else 2, "threads": 1, "timeout": _SECONDS},
        **parts,
    }
    file = folder / "check.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    config = load_config(file, plugins=[*drop_ins, fakes], drop_ins=False)
    return Pipeline(config), Pipeline(config).run(quiet=True)
