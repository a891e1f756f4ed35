"""The source `detect` with ONNX files as Ultralytics exports them, made by hand so that their boxes are known."""

import numpy as np
import pytest
from stored_runs import told

from maskmill import Image, Pipeline, PipelineError, read_run, testing
from maskmill_plugins.prompts.detect import onnx_model
from maskmill_plugins.prompts.detect.source import Detect

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

#: Of the input, 96 high and 128 wide: corners, then the scores of the classes.
ROWS = [([20, 26, 84, 58], [0.1, 0.9]), ([4, 6, 24, 36], [0.8, 0.7]), ([90, 40, 120, 60], [0.05, 0.1])]
NAMES = "{0: 'person', 1: 'Traffic Light'}"


def write_model(path, rows=ROWS, form="raw", names=NAMES, fixed=True, **metadata):
    """A model that finds the same boxes in every picture; their scores are multiplied by the reddest value in it."""
    from onnx import TensorProto, helper, numpy_helper

    boxes, scores = (np.array(part, np.float32) for part in zip(*rows, strict=True))
    if form == "raw":
        boxes = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        constant, factor = np.concatenate([boxes, scores], 1).T[None], np.zeros((1, 4 + scores.shape[1], 1), np.float32)
        factor[:, 4:] = 1
    else:
        ends = [scores.max(1, keepdims=True), scores.argmax(1)[:, None]]
        constant, factor = np.concatenate([boxes, *ends], 1)[None], np.array([[[0, 0, 0, 0, 1, 0]]])
    constant, factor = constant.astype(np.float32), factor.astype(np.float32)
    values = {"kept": constant * (1 - factor), "scored": constant * factor, "red": np.zeros(1, np.int64)}
    nodes = [
        helper.make_node("Gather", ["images", "red"], ["first"], axis=1),
        helper.make_node("ReduceMax", ["first"], ["most"], keepdims=0),
        helper.make_node("Mul", ["scored", "most"], ["product"]),
        helper.make_node("Add", ["product", "kept"], ["output0"]),
    ]
    shape = [1, 3, 96, 128] if fixed else ["batch", 3, "height", "width"]
    arrays = [numpy_helper.from_array(value, name) for name, value in values.items()]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size)]
        for name, size in (("images", shape), ("output0", constant.shape))
    ]
    model = helper.make_model(helper.make_graph(nodes, "tiny", *ports, arrays), ir_version=8)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 17))
    about = {"names": names, "task": "detect", "imgsz": "[96, 128]", **metadata}
    helper.set_model_props(model, {key: value for key, value in about.items() if value is not None})
    onnx.save(model, path)
    return path


def find(path, size, **options):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, :, 0] = 255
    stage = Detect.from_options({"find": ["person", "traffic light"], "model": path.name, **options}, path.parent)
    assert not stage.missing() and not stage.check()
    stage.open()
    return stage.prompts(Image.from_array(pixels))


@pytest.mark.parametrize("form", ["raw", "with nms"])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "dynamic"])
@pytest.mark.parametrize(
    ("size", "boxes"),
    [
        ((192, 256), [(40, 52, 168, 116), (8, 12, 48, 72)]),
        ((64, 128), [(20, 10, 84, 42), (4, 0, 24, 20)]),  # 16 rows of padding above
        ((192, 128), [(0, 52, 104, 116)]),  # 32 columns at the left; the other one lies in them
    ],
    ids=["as the input", "landscape", "portrait"],
)
def test_boxes_are_in_pixels_of_the_picture_and_have_their_best_class(tmp_path, form, fixed, size, boxes):
    found = find(write_model(tmp_path / "m.onnx", form=form, fixed=fixed), size)
    assert [prompt.box.xyxy for prompt in found] == boxes
    expected = [("traffic light", 0.9), ("person", 0.8)][: len(boxes)]
    assert [(prompt.label, prompt.score) for prompt in found] == expected


def test_a_class_that_is_not_asked_for_gives_no_box(tmp_path):
    found = find(write_model(tmp_path / "m.onnx"), (96, 128), find={"灯": "Traffic light"}, threshold=0.05)
    assert [(prompt.label, prompt.score) for prompt in found] == [("灯", 0.9), ("灯", 0.1)]


def test_a_box_without_extent_is_no_object(tmp_path):
    rows = [([20, 26, 84, 58], [0.9, 0.1]), ([127.999, 10, 140, 60], [0.8, 0.1])]
    assert len(find(write_model(tmp_path / "m.onnx", rows), (96, 128))) == 1


def test_a_picture_is_scaled_into_the_input_with_grey_around_it():
    pixels = np.full((10, 40, 3), (255, 0, 51), np.uint8)
    batch, scales, corner = onnx_model.letterbox(pixels, (30, 20))
    assert (batch.shape, corner, scales.tolist()) == ((1, 3, 30, 20), (0, 12), [0.5, 0.5])
    assert np.allclose(batch[0, :, :12], 114 / 255) and np.allclose(batch[0, :, 17:], 114 / 255)
    assert np.allclose(batch[0, :, 12:17], np.array([1, 0, 0.2])[:, None, None])


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"names": None}, "has no `names` in its metadata"),
        ({"names": "os.remove('x')"}, "has no `names` in its metadata"),
        ({"task": "segment"}, "is for the task 'segment', which is not supported"),
        ({"description": "Ultralytics rtdetr-l model"}, "is an RT-DETR"),
        ({"names": "{0: 'person', 1: 'dog'}"}, "'traffic light' is none of the 2 classes"),
    ],
    ids=["no names", "code", "task", "RT-DETR", "class"],
)
def test_a_file_that_cannot_serve_is_refused_before_the_run(tmp_path, metadata, text):
    model = str(write_model(tmp_path / "m.onnx", **metadata))
    (problem,) = Detect.from_options({"find": ["person", "traffic light"], "model": model}).check()
    assert text in str(problem)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    stage = Detect.from_options({"find": ["dog"], "model": "weights/m.onnx"}, tmp_path)  # like a name on the hub
    assert f"the model file '{tmp_path / 'weights' / 'm.onnx'}' does not exist" in str(stage.check()[0])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "m.onnx").write_bytes(b"<html>")
    assert "cannot be loaded: " in str(stage.check()[0])


def test_an_output_of_another_form_is_an_error(tmp_path):
    model = write_model(tmp_path / "m.onnx", names="{0: 'person', 1: 'traffic light', 2: 'dog'}")
    with pytest.raises(PipelineError, match=r"gives an array of \(6, 3\), where \(7, n\) or \(n, 6\) was expected"):
        find(model, (96, 128))


def test_it_needs_onnxruntime_and_no_torch(tmp_path, monkeypatch):
    monkeypatch.setattr("maskmill_plugins.prompts.detect.source.is_installed", lambda package: False)
    (problem,) = Detect.from_options({"find": ["dog"], "model": str(tmp_path / "m.onnx")}).missing()
    assert "needs the package 'onnxruntime'" in problem.message and problem.hint == 'pip install "maskmill[onnx]"'


def test_segment_finds_with_a_detector_and_its_pipeline_file_does_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    testing.write_picture(tmp_path / "图.png", 96, 128)
    write_model(tmp_path / "yolo.onnx")
    options = ["--backend", "grabcut", "--set", "run.engine=inline", "--set", "prompts.0.threshold=0.2", "--to", "coco"]
    code, *_ = told(capsys, "segment", "图.png", "--find", "person", "--detector", "yolo.onnx", "-o", "out", *options)
    assert code == 0
    (result,) = read_run("out")
    assert [(prompt.box.xyxy, prompt.label) for prompt in result.prompts] == [((4, 6, 24, 36), "person")]
    monkeypatch.chdir("out")
    again = Pipeline.load("pipeline.yaml")
    assert not again.check() and again.run(quiet=True).ran == 0
