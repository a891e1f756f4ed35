"""Models of the Hugging Face hub: found in its cache or a folder, downloaded once, identified by their files."""

import hashlib
import json
import threading

import hf_models
import hub_server
import pytest
from click.testing import CliRunner

from maskmill import PipelineError
from maskmill_plugins._shared.hub import download
from maskmill_plugins._shared.hub.download import download_model
from maskmill_plugins._shared.hub.identity import compute_model_id
from maskmill_plugins._shared.hub.snapshot import ModelFiles
from maskmill_plugins.backends.hf import Hf
from maskmill_plugins.backends.hf.commands import models
from maskmill_plugins.backends.sam.commands import weights

pytest.importorskip("huggingface_hub.constants")  # it reads HF_HUB_OFFLINE once, before a test sets it
NAME = "facebook/sam2.1-hiera-tiny"
FILES = {
    "config.json": b'{"model_type": "sam2_video"}',
    "model.safetensors": bytes(range(256)) * 800,
    "preprocessor_config.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "README.md": b"text",
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.01, 0.01))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path):
    """A folder with a model; of its weights only the file exists."""
    place = tmp_path / "model"
    place.mkdir()
    for name, data in FILES.items():
        if not name.endswith((".bin", ".md")):
            (place / name).write_bytes(data)
    return place


@pytest.fixture
def hub(monkeypatch):
    with hub_server.serving(NAME, dict(FILES)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def runner():
    commands = {"weights": weights, "models": models}
    return lambda command, *words: CliRunner().invoke(commands[command], list(words))


def test_a_model_in_the_hubs_cache_is_found_without_a_network(home, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    snapshot = hf_models.lay_hub_cache(home, NAME, folder)
    assert ModelFiles(NAME).find() == snapshot
    assert ModelFiles(NAME).check() == []
    assert ModelFiles(NAME).reaches() == "none"
    assert ModelFiles(NAME, "v2").find() is None
    other = hf_models.lay_hub_cache(home, NAME, folder, "b" * 40, "v2")
    assert ModelFiles(NAME, "v2").find() == other
    assert ModelFiles(NAME, "a" * 40).find() == snapshot


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_cache_with_a_missing_file_is_not_the_model(missing, home, folder, monkeypatch):
    snapshot = hf_models.lay_hub_cache(home, NAME, folder)
    (snapshot / missing).unlink()
    assert ModelFiles(NAME).find() is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (problem,) = ModelFiles(NAME).check()
    assert not problem.warning
    assert "HF_HUB_OFFLINE" in problem.message
    assert f"maskmill weights pull {NAME}" in problem.hint


def test_the_id_comes_from_the_names_of_large_blobs_and_is_that_of_the_folder(home, folder):
    snapshot = hf_models.lay_hub_cache(home, NAME, folder)
    expected = compute_model_id(folder)
    assert compute_model_id(snapshot) == expected
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(b"unread")  # the name is taken, not the content
    assert compute_model_id(snapshot) == expected
    (folder / "config.json").write_text('{"model_type": "sam"}')
    assert compute_model_id(folder) != expected


def test_a_blob_that_is_a_link_itself_counts_by_its_first_name(home, folder):
    snapshot = hf_models.lay_hub_cache(home, NAME, folder)
    blob = snapshot / "model.safetensors"
    first = blob.parent / blob.readlink()
    shared = home / ("0" * 64)
    first.replace(shared)
    first.symlink_to(shared)
    assert compute_model_id(snapshot) == compute_model_id(folder)


def test_a_model_in_several_files_needs_all_of_them(folder):
    parts = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    (folder / "model-1-of-2.safetensors").write_bytes(b"1")
    (problem,) = ModelFiles(str(folder)).check()
    assert "has no model-2-of-2.safetensors" in problem.message
    (folder / "model-2-of-2.safetensors").write_bytes(b"2")
    assert ModelFiles(str(folder)).check() == []
    before = compute_model_id(folder)
    (folder / "model-2-of-2.safetensors").write_bytes(b"other")
    assert compute_model_id(folder) != before


@pytest.mark.parametrize("name", ["../weights.safetensors", "/etc/passwd"])
def test_an_index_names_no_files_elsewhere(name, folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    (problem,) = ModelFiles(str(folder)).check()
    assert "which is not a file beside it" in problem.message


def test_a_pickle_is_refused_and_not_executed(folder, tmp_path):
    executed = tmp_path / "executed"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(executed).encode() + b"'\ntR.")
    (problem,) = Hf(model=str(folder)).check()
    assert "pytorch_model.bin is not loaded, because a pickle can run code" in problem.message
    with pytest.raises(PipelineError, match="a pickle can run code"):
        Hf(model=str(folder)).open()
    assert not executed.exists()


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        pytest.param({}, {"model_type": "llama"}, "is a model of type 'llama'", id="unknown type"),
        pytest.param({}, {}, "is a model of type 'None'", id="no type"),
        pytest.param({"task": "concepts"}, {"model_type": "sam2"}, "needs a model that understands texts", id="task"),
        pytest.param({"hq_token_only": True}, {"model_type": "sam2"}, "applies to SAM-HQ only", id="hq"),
        pytest.param({"threshold": 0.3}, {"model_type": "sam2"}, "applies to texts only", id="threshold"),
        pytest.param({"revision": "v1"}, {"model_type": "sam2"}, "`model` is a folder", id="revision"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_run(options, config, message, folder):
    (folder / "config.json").write_text(json.dumps(config))
    (problem,) = Hf(model=str(folder), **options).check()
    assert message in problem.message


@pytest.mark.parametrize(
    ("name", "message"),
    [("sam2", "folder '{base}/sam2' does not exist"), ("./a/b", "folder '{base}/a/b' does not exist")],
)
def test_what_is_neither_a_folder_nor_a_name_on_the_hub(name, message, tmp_path):
    (problem,) = Hf.from_options({"model": name}, tmp_path).check()
    assert message.format(base=tmp_path.as_posix()) in problem.message.replace("\\", "/")


def test_a_folder_beside_the_pipeline_file_is_preferred_to_the_hub(folder, tmp_path):
    (tmp_path / "facebook").mkdir()
    folder.rename(tmp_path / NAME)
    assert Hf.from_options({"model": NAME}, tmp_path).model == str(tmp_path / NAME)
    assert Hf.from_options({"model": NAME}, tmp_path / "elsewhere").model == NAME


def test_a_model_is_downloaded_once_without_its_pickles(hub):
    lines = []
    backend = Hf(model=NAME)
    (problem,) = backend.check()
    assert problem.warning
    assert backend.reaches() == "internet"
    assert backend.model_id() == ""
    backend.prepare(lines.append)
    assert lines[0].startswith(f"downloading {NAME}")
    assert sorted(hub.sent) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert backend.reaches() == "none"
    weights = backend.files.folder() / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == weights.readlink().name
    backend.prepare(lines.append)
    assert len(hub.sent) == 3


def test_a_download_that_breaks_off_continues(hub):
    hub.breaks = 2
    folder = download_model(ModelFiles(NAME), lambda line: None)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_two_processes_that_download_at_once_get_the_same_file(hub):
    hub.breaks = 1
    found, threads = [], []
    for _ in range(2):
        work = threading.Thread(target=lambda: found.append(download_model(ModelFiles(NAME), lambda line: None)))
        threads.append(work)
        work.start()
    for work in threads:
        work.join(60)
    assert found[0] == found[1]
    assert (found[0] / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_gated_model_names_the_page_to_ask_at(hub):
    hub.gated = True
    with pytest.raises(PipelineError, match="is gated") as caught:
        download_model(ModelFiles(NAME), lambda line: None)
    (problem,) = caught.value.problems
    assert f"https://huggingface.co/{NAME}" in problem.hint
    assert "HF_TOKEN" in problem.hint


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(ModelFiles("facebook/none"), "knows no model 'facebook/none'", id="name"),
        pytest.param(ModelFiles(NAME, "v9"), "has no revision 'v9'", id="revision"),
    ],
)
def test_what_the_hub_does_not_have_is_said(model, message, hub):
    with pytest.raises(PipelineError, match=message):
        download_model(model, lambda line: None)


def test_a_model_on_the_hub_without_safetensors_is_refused(hub):
    del hub.files["model.safetensors"]
    with pytest.raises(PipelineError, match=r"has no model\.safetensors"):
        download_model(ModelFiles(NAME), lambda line: None)
    assert "pytorch_model.bin" not in hub.sent


def test_a_hub_that_cannot_be_reached_is_tried_again_and_then_named(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    lines = []
    with pytest.raises(PipelineError, match=f"cannot download the model {NAME}") as caught:
        download_model(ModelFiles(NAME), lines.append)
    assert sum("retrying" in line for line in lines) == 3
    assert "hf_secretsecret" not in str(caught.value) + "".join(lines)


def test_nothing_is_downloaded_offline(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PipelineError, match="HF_HUB_OFFLINE forbids"):
        download_model(ModelFiles(NAME), lambda line: None)
    assert hub.sent == []


def test_the_commands_for_weights_know_models_of_the_hub(hub, home, runner):
    assert "not on this machine" in runner("weights", "path", NAME).output
    pulled = runner("weights", "pull", NAME)
    assert pulled.exit_code == 0
    folder = ModelFiles(NAME).folder()
    assert pulled.stdout.strip() == str(folder)
    assert runner("weights", "path", NAME).output.strip() == str(folder)
    assert f"hub    {NAME}" in runner("weights", "list").output
    listed = {line.split()[0]: line for line in runner("models").output.splitlines() if line}
    assert listed[NAME].endswith(f"here, {folder}")
    assert listed["facebook/sam3"].endswith("not on this machine")
    assert runner("weights", "verify", NAME).exit_code == 0
    (folder / "model.safetensors").resolve().write_bytes(b"damaged")
    found = runner("weights", "verify", NAME)
    assert found.exit_code == 1
    assert "DAMAGED: model.safetensors" in found.output


def test_pull_names_what_it_takes(runner):
    found = runner("weights", "pull", "vit_x")
    assert "vit_b, vit_l, vit_h, or a name on the hub" in str(found.exception)
