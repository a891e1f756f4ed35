"""The drawn scenes on joblib, Dask and Ray, and as three shards, one on each: the same files, byte for byte."""

import importlib.util
from pathlib import Path

import pytest
from stored_runs import told

from maskmill import Pipeline
from maskmill.dataset.shard import Shard
from maskmill.stored.merge import merge

ROOT = Path(__file__).parent.parent
NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra sam")
#: What a run says of itself.
OWN = {"ledger.sqlite", "entries.sqlite", "run.json"}

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in OWN)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if not path.name.startswith(".")}


@pytest.mark.parametrize("name", ["scenes", pytest.param("scenes_sam", marks=NEEDS_TORCH)])
def test_scenes_on_clusters_and_in_shards(name, tmp_path, request, capsys):
    engines = request.config.getoption("engines").split(",")
    if not {"dask", "ray"} <= set(engines):
        pytest.skip("with --engines dask,ray only")
    pytest.importorskip("pycocotools")

    def run(folder, engine, jobs=2, **options):
        writers = ["coco", "png", "overlay", "yolo", "voc", "semantic"]
        sets = {"run.engine": engine, "run.jobs": jobs, "run.threads": 1, "writers": writers}
        report = Pipeline.load(ROOT / "pipelines" / f"{name}.yaml", sets=sets, output=tmp_path / folder).run(
            quiet=True, only="00*", **options
        )
        assert report.exit_code == 0, report.message
        return files(tmp_path / folder)

    expected = run("whole", "joblib")
    assert len(expected) > 6 * 8
    for engine in ("dask", "ray"):
        made = run(engine, engine)
        assert made.keys() == expected.keys()
        assert [path for path in expected if made[path] != expected[path]] == [], engine
    for part, engine in enumerate(("joblib", "dask", "ray"), 1):
        run(f"part{part}", engine, jobs=1, shard=Shard(part, 3))
    merge([tmp_path / f"part{part}" for part in (1, 2, 3)], tmp_path / "merged")
    for writer in ("coco", "png", "yolo", "voc"):
        for folder in ("whole", "merged"):
            assert told(capsys, "export", tmp_path / folder, "--to", writer)[0] == 0
        assert files(tmp_path / "merged" / "exports" / writer) == files(tmp_path / "whole" / "exports" / writer)
