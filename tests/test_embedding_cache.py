"""The embedding cache: no image is encoded twice, and whatever befalls its folder costs time only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import small_sam
from click.testing import CliRunner

from maskmill import Box, Image, ImageRef, Point, Prompt, read_run, testing
from maskmill.api import Pipeline
from maskmill.cli import cli
from maskmill.decoding.bit_depth import Conversion
from maskmill.files import TEMPORARY_PREFIX
from maskmill_plugins._shared.sam.embedding_cache import EmbeddingCache, embeddings_folder, entry_name
from maskmill_plugins.backends.sam import Sam

BOX = Prompt(box=Box(10, 10, 90, 60))
POINT = Prompt(points=(Point(30, 40),))
#: Bytes of a stored array of 1000 numbers.
STORED = 4000 + 128 + 200


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("MASKMILL_THREADS", "1")


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A small model in the place of vit_b."""

    return small_sam.save(small_sam.seeded(), tmp_path / "small.pth")


@pytest.fixture
def passes():
    """One entry for each pass of an encoder, in any model of this process."""
    import torch

    counted = []

    def count(module, *_):
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (16, 16):
            counted.append(module)

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    yield counted
    hook.remove()


@pytest.fixture
def opened(weights, tmp_path):
    stages = []

    def start(**options) -> Sam:
        stage = Sam(**{"checkpoint": weights, "device": "cpu", "cache": tmp_path / "cache"} | options)
        stage.open()
        stages.append(stage)
        return stage

    yield start
    for stage in stages:
        stage.close()


def image(seed=0, height=70, width=100):
    return Image.from_array(small_sam.photo(height, width, seed))


def array(number: int = 0, count: int = 1000):
    return np.random.default_rng(number).standard_normal(count).astype(np.float32)


@pytest.mark.torch
def test_a_stretched_picture_is_not_the_dark_one(opened):
    buffer = io.BytesIO()
    values = small_sam.photo(70, 100, 0)[..., 0].astype(np.uint16) * 14 + 300
    PIL.Image.fromarray(values).save(buffer, "TIFF")
    stage = opened()
    dark, bright = (
        Image.from_bytes(buffer.getvalue(), ImageRef("a", "a"), conversion=Conversion(how))
        for how in ("full", "minmax")
    )
    assert not np.array_equal(stage.embed(dark), stage.embed(bright))
    assert np.array_equal(stage.embed(bright), opened(cache="off").embed(bright))


@pytest.mark.torch
def test_a_second_run_with_other_prompts_encodes_nothing(weights, tmp_path, passes):
    for number, name in enumerate(("a.png", "夜/b.png")):
        testing.write_picture(tmp_path / "photos" / name, 70, 100, seed=number)

    def run(box, output, cache):
        (tmp_path / "p.yaml").write_text(
            f"dataset: photos\nprompts: [{{use: manual, box: {box}}}]\n"
            f"backend: {{use: sam, checkpoint: small.pth, device: cpu, cache: {cache}}}\n"
            f"output: {output}\nrun: {{engine: inline}}\n",
            encoding="utf-8",
        )
        assert Pipeline.load(tmp_path / "p.yaml").run(quiet=True).exit_code == 0
        return [result.masks for result in read_run(tmp_path / output)]

    run([10, 10, 90, 60], "first", "嵌入")
    assert len(passes) == 2
    found = run([20, 5, 60, 50], "second", "嵌入")
    assert len(passes) == 2
    assert len(list((tmp_path / "嵌入/embeddings").glob("*.npz"))) == 2
    assert run([20, 5, 60, 50], "without", "false") == found
    assert len(passes) == 4


@pytest.mark.torch
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_results_do_not_depend_on_what_the_cache_holds(opened, passes, precision, fast):
    options = {"cache_precision": precision, "fast": fast}
    without = opened(**options, cache=False).masks(image(), [BOX, POINT])
    first = opened(**options).masks(image(), [BOX, POINT])
    second = opened(**options).masks(image(), [BOX, POINT])
    assert without == first == second
    assert len(passes) == 2


@pytest.mark.torch
def test_half_precision_halves_the_files_and_stays_near(opened, tmp_path):
    full = opened(cache=tmp_path / "full").embed(image())
    half = opened(cache=tmp_path / "half", cache_precision="fp16").embed(image())
    assert half.dtype == full.dtype == np.float32
    np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-6)
    sizes = [next((tmp_path / name / "embeddings").glob("*.npz")).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.55 * sizes[0]


@pytest.mark.torch
@pytest.mark.parametrize(
    "change",
    [
        lambda opened, tmp_path: opened(fast=False).embed(image()),
        lambda opened, tmp_path: opened(cache_precision="fp16").embed(image()),
        lambda opened, tmp_path: opened().embed(image(seed=1)),
        lambda opened, tmp_path: opened().embed(Image.from_array(image().pixels.reshape(100, 70, 3))),
        lambda opened, tmp_path: opened(checkpoint=small_sam.save(small_sam.seeded(1), tmp_path / "other.pth")).embed(
            image()
        ),
    ],
    ids=["stock", "precision", "picture", "shape", "weights"],
)
def test_what_was_made_otherwise_is_not_used(opened, passes, tmp_path, change):
    opened().embed(image())
    change(opened, tmp_path)
    assert len(passes) == 2


def test_only_the_precision_enters_the_digest(tmp_path):
    assert Sam().digest() == Sam(cache=True).digest() == Sam(cache=tmp_path, cache_size=1.0).digest()
    assert Sam().digest() != Sam(cache_precision="fp16").digest()


def test_options_come_as_yaml_gives_them(tmp_path):
    assert Sam.from_options({"cache": True, "cache_size": 3}, tmp_path).cache is True
    assert Sam.from_options({"cache": "here"}, tmp_path).cache == tmp_path / "here"


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-100], lambda data: bytes(len(data)), lambda data: data[:2000] + b"?" * 2200],
    ids=["empty", "truncated", "zeros", "overwritten"],
)
def test_a_damaged_entry_is_none(tmp_path, damage):
    cache = EmbeddingCache(tmp_path, 10**6)
    cache.put(name := entry_name("a", (1, 1)), [array()])
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(name) is None
    cache.put(name, [array()])
    np.testing.assert_array_equal(cache.get(name), [array()])


def test_what_was_unused_for_longest_makes_room(tmp_path):
    cache = EmbeddingCache(tmp_path, 3 * STORED + 100)
    names = [entry_name(str(number), (1, 1)) for number in range(4)]
    for number, name in enumerate(names[:3]):
        cache.put(name, [array(number)])
        os.utime(tmp_path / name, (1000 + number, 1000 + number))
    assert cache.get(names[0]) is not None  # and is now the one used last
    cache.put(names[3], [array(3)])
    assert [cache.get(name) is not None for name in names] == [True, False, True, True]
    assert sum(entry.bytes for entry in cache.entries()) <= cache.limit


def test_what_is_larger_than_the_cache_drives_nothing_out(tmp_path):
    cache = EmbeddingCache(tmp_path, STORED + 100)
    cache.put(small := entry_name("small", (1, 1)), [array()])
    cache.put(large := entry_name("large", (1, 1)), [array(count=5000)])
    assert cache.get(small) is not None
    assert cache.get(large) is None


WRITER = """
import sys, numpy as np
from pathlib import Path
from maskmill_plugins._shared.sam.embedding_cache import EmbeddingCache, entry_name
cache, seed, rounds = EmbeddingCache(Path(sys.argv[1]), int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(seed)
for _ in range(rounds):
    number = int(rng.integers(8))
    name = entry_name(str(number), (1, 1))
    found = cache.get(name)
    assert found is None or (found[0].shape == (250_000,) and (found[0] == number).all()), number
    cache.put(name, [np.full(250_000, number, np.float32)])
"""


def writer(folder, limit, seed, rounds):
    command = [sys.executable, "-c", WRITER, str(folder), str(limit), str(seed), str(rounds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def test_processes_that_write_read_and_remove_at_once_do_not_disturb_each_other(tmp_path):
    limit = 5 * 1_001_000
    running = [writer(tmp_path, limit, seed, 60) for seed in range(3)]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
        assert said == b""
    assert 0 < sum(entry.bytes for entry in EmbeddingCache(tmp_path, limit).entries()) <= limit


def test_a_killed_writer_leaves_nothing_half(tmp_path):
    cache = EmbeddingCache(tmp_path, 10**9)
    for seed in range(3):
        process = writer(tmp_path, 10**9, seed, 10**6)
        before, end = len(cache.entries()), time.monotonic() + 30
        while len(cache.entries()) < min(before + 2, 8) and time.monotonic() < end:
            time.sleep(0.003)
        process.kill()
        process.communicate()
        for entry in cache.entries():
            found = cache.get(entry.path.name)
            assert found is not None
            assert (found[0] == found[0][0]).all()
    assert cache.entries()
    (tmp_path / f"{TEMPORARY_PREFIX}0123456789abcdef").write_bytes(b"half")
    cache.put(entry_name("next", (1, 1)), [array()])
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.torch
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_a_warning_once_and_nothing_half(opened, passes, tmp_path, caplog):
    import resource

    stage = opened()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        embeddings = [stage.embed(image(seed)) for seed in (0, 1)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [embedding.shape for embedding in embeddings] == [(1, 32, 16, 16)] * 2
    assert len(caplog.records) == 1
    assert "cannot write to the embedding cache" in caplog.text
    assert not [path for path in (tmp_path / "cache/embeddings").iterdir() if path.name != ".lock"]


@pytest.mark.torch
def test_a_cache_that_cannot_be_made_is_a_warning(opened, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file, no folder", encoding="utf-8")
    assert len(opened().masks(image(), [BOX])) == 1
    assert "cannot write to the embedding cache" in caplog.text


def test_the_place_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "mine"))
    assert embeddings_folder() == tmp_path / "mine/embeddings"
    assert embeddings_folder(tmp_path) == tmp_path / "embeddings"
    monkeypatch.delenv("MASKMILL_CACHE")
    assert embeddings_folder().is_absolute()
    assert "maskmill" in str(embeddings_folder())


def said(*words):
    result = CliRunner().invoke(cli, ["cache", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_command_tells_and_clears(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path))
    assert "0 embeddings" in said("info")
    said("clear")
    cache = EmbeddingCache(embeddings_folder(), 10**6)
    for number in range(2):
        cache.put(entry_name(str(number), (1, 1)), [array()])
    (cache.folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert "2 embeddings, 0.0 MB" in said("info")
    assert str(cache.folder) in said("clear", "--folder", str(tmp_path))
    assert "0 embeddings" in said("info")
    assert (cache.folder / "notes.txt").exists()
