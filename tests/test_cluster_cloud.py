"""From bucket to bucket on Dask and Ray: the bytes of a run of joblib."""

import os

import pytest

from maskmill import Pipeline, storage
from maskmill.testing import write_picture

obstore = pytest.importorskip("obstore")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]

PIPELINE = """
dataset: s3://inbox/photos
storage: {endpoint: "%s"}
prompts: [{use: manual, box: [4, 3, 28, 21], label: cat}]
backend: grabcut
writers: [coco, png]
run: {jobs: 2}
"""


def work(folder, engine):
    """The objects that a run with this engine makes, without what it says of itself."""
    address = f"s3://inbox/{engine}"
    sets = {"run.engine": engine, "output": address}
    report = Pipeline.load(folder / "p.yaml", sets=sets, state=folder / engine).run(quiet=True)
    assert report.counts["done"] == 12, report.message
    made = {path: storage.read_now(f"{address}/{path}") for path, _ in storage.list_objects(address)}
    return {path: data for path, data in made.items() if path not in ("run.json", "ledger.sqlite")}


def test_buckets_on_clusters(endpoint, tmp_path, request):
    asked = [engine for engine in request.config.getoption("engines").split(",") if engine in ("dask", "ray")]
    if not asked:
        pytest.skip("with --engines dask,ray only")
    bucket = storage._open_bucket("s3://inbox", os.getpid())
    for number in range(12):
        picture = tmp_path / f"{number:02}.png"
        write_picture(picture, 24, 32, number)
        obstore.put(bucket, f"photos/{picture.name}", picture.read_bytes())
    (tmp_path / "p.yaml").write_text(PIPELINE % endpoint, encoding="utf-8")
    expected = work(tmp_path, "joblib")
    assert len(expected) > 24
    for engine in asked:
        assert work(tmp_path, engine) == expected, engine
