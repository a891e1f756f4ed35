"""Runs in folders, made by the fakes, for tests of what is done with stored results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskmill import Pipeline
from maskmill.cli import main
from maskmill.testing import DROP_IN, write_picture

WRITERS = "[{use: coco}, {use: png}, {use: overlay}, {use: fake-writer}]"
KEYS = ["a.png", "b/照片 1.png", "b/c.png", "d.png", "e.png"]


def project(folder: Path, keys: list[str] = KEYS, writers: str = WRITERS, more: str = "") -> Path:
    """A pipeline file beside photos and the fakes; returns the file."""
    for number, key in enumerate(keys):
        write_picture(folder / "photos" / key, 40, 60, number)
    (folder / "plugins").mkdir(parents=True, exist_ok=True)
    (folder / "plugins" / "fakes.py").write_text(f"import maskmill\n{DROP_IN}", encoding="utf-8")
    text = f"""
    dataset: photos
    prompts: [{{use: fake-source}}]
    backend: {{use: fake-backend}}
    writers: {writers}
    output: out
    run: {{engine: inline}}
    """
    lines = [line.strip() for line in f"{text}{more}".splitlines() if line.strip()]
    (folder / "p.yaml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "p.yaml"


def run(file: Path, output: str = "out", **values) -> Path:
    """Run the pipeline, quietly; returns the output folder."""
    sets = values.pop("sets", ())
    Pipeline.load(file, output=file.parent / output, sets=sets).run(quiet=True, **values)
    return file.parent / output


def told(capsys, *arguments) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `maskmill ARGUMENTS`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file below, but for what an export writes about itself."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".export.jsonl", "export.jsonl")
    }


def journal(folder: Path) -> list[dict]:
    """The lines of an export's journal."""
    return [json.loads(line) for line in (folder / ".export.jsonl").read_text(encoding="utf-8").splitlines()]
