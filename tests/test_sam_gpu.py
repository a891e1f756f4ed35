"""Half precision and compilation: refused where there is no GPU, and right where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_sam

from maskmill import Box, Image, ImageError, PipelineError, Point, Prompt
from maskmill_plugins.backends.sam import Sam

torch = pytest.importorskip("torch")

from maskmill_plugins.backends.sam.model.encoder import FastEncoder, GpuEncoder  # noqa: E402

pytestmark = pytest.mark.torch
BENCHMARK = Path(__file__).parent.parent / "benchmarks/sam_gpu.py"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    import segment_anything

    torch.set_num_threads(1)
    monkeypatch.setenv("MASKMILL_THREADS", "1")
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", small_sam.build)


@pytest.fixture
def weights(tmp_path):
    return small_sam.save(small_sam.seeded(), tmp_path / "small.pth")


def pixels(seed=0):
    return torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(seed))


def encoded(half, compiled, backend="aot_eager"):
    """Two images one after the other, as the backend computes: in inference mode, tables made in it, too."""
    encoder = GpuEncoder(small_sam.seeded().image_encoder, half, compiled, backend)
    with torch.inference_mode():
        return [encoder(pixels(seed)) for seed in (0, 1)]


def expected():
    encoder = FastEncoder(small_sam.seeded().image_encoder)
    return [encoder(pixels(seed)) for seed in (0, 1)]


def test_without_either_it_is_the_fast_encoder():
    for found, wanted in zip(encoded(half=False, compiled=False), expected(), strict=True):
        assert torch.equal(found, wanted)


def test_half_precision_is_near():
    for found, wanted in zip(encoded(half=True, compiled=False), expected(), strict=True):
        assert found.dtype == torch.float32
        assert 0 < (found - wanted).abs().max() < 0.02 * wanted.abs().max()


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize(("half", "apart"), [(False, 2e-5), (True, 0.1)], ids=["float32", "half"])
def test_the_encoder_can_be_traced_as_compilers_do(half, apart):
    for found, wanted in zip(encoded(half, compiled=True), expected(), strict=True):
        assert (found - wanted).abs().max() < apart


def test_what_half_precision_cannot_hold_fails_the_image():
    sam = small_sam.seeded()
    with torch.no_grad():
        sam.image_encoder.pos_embed.fill_(1e30)
    with pytest.raises(ImageError, match="half: false"):
        GpuEncoder(sam.image_encoder, half=True, compiled=False)(pixels())


@pytest.mark.parametrize("option", ["half", "compile"])
def test_off_a_gpu_it_is_refused_by_the_check_and_when_opened(weights, option, monkeypatch):
    [problem] = Sam(checkpoint=weights, device="cpu", **{option: True}).check()
    assert problem.message == f"{option}: true needs a CUDA device, and this is cpu"
    assert not problem.warning
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PipelineError, match=f"{option}: true needs a CUDA device"):
        Sam(checkpoint=weights, **{option: True}).open()


def test_it_is_no_part_of_the_stock_way(weights):
    [problem] = Sam(checkpoint=weights, half=True, fast=False).check()
    assert problem.message == "half: true needs `fast: true`"


def test_both_enter_the_digest():
    assert len({Sam().digest(), Sam(half=True).digest(), Sam(compile=True).digest()}) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{}, {"half": True}, {"half": True, "compile": True}], ids=str)
def test_masks_on_a_gpu_are_those_of_the_cpu_but_along_the_border(weights, options):
    image = Image.from_array(small_sam.photo(200, 320))
    prompts = [Prompt(box=Box(40, 30, 200, 150)), Prompt(points=(Point(100, 80),))]
    found = {}
    for device, chosen in (("cpu", {}), ("cuda", options)):
        stage = Sam(checkpoint=weights, device=device, **chosen)
        stage.open()
        found[device] = stage.masks(image, prompts)
        stage.close()
    for mask, other in zip(found["cpu"], found["cuda"], strict=True):
        assert np.mean(mask.array != other.array) < 0.05


@pytest.mark.skipif(torch.cuda.is_available(), reason="takes minutes on a GPU")
def test_the_benchmark_says_that_there_is_no_gpu():
    done = subprocess.run([sys.executable, BENCHMARK], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.startswith("no GPU here")
