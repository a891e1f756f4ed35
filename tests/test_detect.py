"""The source `detect`: right labels and boxes, as transformers computes them; tiles, thresholds, doubts, a run."""

import itertools
import json
import shutil

import numpy as np
import PIL.Image
import pytest

from maskmill import Image, ImageRef, Pipeline, PipelineError, read_run
from maskmill.chain.plugin_call import Trace
from maskmill_plugins.prompts.detect.merge import Candidates, merge
from maskmill_plugins.prompts.detect.questions import split_passes
from maskmill_plugins.prompts.detect.source import Detect
from maskmill_plugins.prompts.detect.tiles import OVERLAP, list_windows

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import small_detectors  # noqa: E402 - needs transformers
from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps  # noqa: E402

ASKED = ["person", "dog", "traffic light"]
KINDS = list(small_detectors.BUILDERS)


@pytest.fixture(scope="session")
def detectors(tmp_path_factory):
    """The folder of a small model by its kind, made once."""
    root, made = tmp_path_factory.mktemp("detectors"), {}

    def folder(kind):
        if kind not in made:
            made[kind] = small_detectors.build(kind, root / kind)
        return made[kind]

    return folder


@pytest.fixture
def source(detectors):
    """Build a source and open it; closed at the end."""
    opened = []

    def make(kind, **options):
        stage = Detect.from_options({"find": ASKED, "model": str(detectors(kind)), **options})
        assert not stage.check()
        stage.open()
        opened.append(stage)
        return stage

    yield make
    for stage in opened:
        stage.close()


def picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.from_array(np.kron(small, np.ones((10, 10, 1), np.uint8)))


def ask(stage, image):
    """The prompts, and the trace with notes and doubts."""
    trace = Trace()
    return trace.step("prompts", "detect", lambda: stage.prompts(image)), trace


# --- against transformers ---------------------------------------------------------------------------------------


def load_by_hand(folder, kind):
    name = "AutoModelForObjectDetection" if "detr" in kind else "AutoModelForZeroShotObjectDetection"
    processor = transformers.AutoImageProcessor if "detr" in kind else transformers.AutoProcessor
    return [part.from_pretrained(folder, local_files_only=True) for part in (getattr(transformers, name), processor)]


def by_hand(model, processor, kind, pixels):
    """(boxes, scores, positions of the classes), of every box, as the documentation of transformers computes them."""
    fixed = "detr" in kind
    inputs = processor(images=PIL.Image.fromarray(pixels), return_tensors="pt", **({} if fixed else {"text": [ASKED]}))
    size = [pixels.shape[:2]]
    with torch.inference_mode():
        output = model.eval()(**inputs)
    if fixed:
        found = processor.post_process_object_detection(output, threshold=0.0, target_sizes=size)[0]
        names = [small_detectors.COCO[number] for number in found["labels"].tolist()]
        known = [index for index, name in enumerate(names) if name in ASKED]
        return found["boxes"][known], found["scores"][known], [ASKED.index(names[index]) for index in known]
    if kind == "omdet-turbo":
        found = processor.post_process_grounded_object_detection(
            output, [ASKED], threshold=0.0, nms_threshold=1.0, target_sizes=size, max_num_det=40 * len(ASKED)
        )[0]
        return found["boxes"], found["scores"], found["labels"].tolist()
    if "dino" not in kind:
        found = processor.post_process_grounded_object_detection(output, -1.0, target_sizes=size)[0]
        return found["boxes"], found["scores"], found["labels"].tolist()
    found = processor.post_process_grounded_object_detection(
        output, inputs["input_ids"], threshold=-1.0, text_threshold=1.0, target_sizes=size
    )[0]
    (maps,) = build_label_maps(output.logits, inputs["input_ids"])  # which tokens are of which class, as in training
    scores = torch.stack([output.logits[0].sigmoid()[:, tokens.bool()].amax(1) for tokens in maps], dim=1)
    count = scores.shape[0]
    return found["boxes"].repeat(len(ASKED), 1), scores.T.flatten(), np.repeat(range(len(ASKED)), count).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_and_scores_are_those_of_transformers(source, detectors, kind):
    detector, (model, processor) = source(kind)._detector, load_by_hand(detectors(kind), kind)
    for height, width in [(60, 100), (110, 50)]:
        pixels = np.array(picture(height, width).pixels)
        boxes, scores = detector.detect(pixels)
        expected = by_hand(model, processor, kind, pixels)
        assert len(expected[0]) >= (5 if "detr" in kind else 30)
        edge = [width, height, width, height]
        for box, score, number in zip(*(list(part) for part in expected), strict=True):
            near = np.abs(boxes.clip(0, edge) - box.numpy().clip(0, edge)).max(axis=1) < 0.01
            assert (near & (np.abs(scores[:, number] - float(score)) < 1e-5)).any()


def test_a_picture_turned_by_its_exif_data_has_the_boxes_of_the_upright_one(source, tmp_path):
    upright = PIL.Image.fromarray(picture(120, 200).pixels)
    exif = PIL.Image.Exif()
    exif[274] = 6
    upright.save(tmp_path / "upright.png")
    upright.transpose(PIL.Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    stage = source("owlv2", threshold=0.1)
    found = [stage.prompts(Image.load(ImageRef(str(tmp_path / name), name))) for name in ("upright.png", "turned.png")]
    assert found[0] == found[1] != []


# --- labels and boxes from numbers made by hand -----------------------------------------------------------------


def answer(stage, logits, boxes):
    """Let the loaded model answer these numbers, whatever the picture; boxes as fractions: center, width, height."""
    model = stage._detector.model
    output = {"logits": torch.tensor(logits)[None], "pred_boxes": torch.tensor(boxes)[None]}
    model.forward = lambda **inputs: type(model.config.model_type, (), output)


def hot(stage, *queries):
    """Logits of Grounding DINO's tokens: for each query, word -> probability."""
    ((_, encoded, _),) = stage._detector.passes
    words = stage._detector.processor.tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist())
    logits = np.full((len(queries), 256), -np.inf, np.float32)
    logits[:, : len(words)] = -8
    for row, query in zip(logits, queries, strict=True):
        for word, probability in query.items():
            row[words.index(word)] = np.log(probability / (1 - probability))
    return logits


SPREAD = [[0.15, 0.2, 0.1, 0.2], [0.5, 0.5, 0.1, 0.2], [0.8, 0.8, 0.1, 0.2], [0.85, 0.2, 0.1, 0.2]]


@pytest.mark.parametrize(
    ("find", "queries", "labels"),
    [
        (["red cat", "dog"], [{"cat": 0.8, "red": 0.4, "dog": 0.1}, {"dog": 0.6}], ["red cat", "dog"]),
        (["tricycle", "van"], [{"##cycle": 0.5, "tri": 0.28}, {"van": 0.4, ".": 0.9}], ["tricycle", "van"]),
        ({"Ampel": "traffic light.", "狗": "The dog?"}, [{"light": 0.7}, {"the": 0.5}], ["Ampel", "狗"]),
        (["person", "person with hat"], [{"hat": 0.9}, {"with": 0.5}], ["person with hat"] * 2),
        (["cat", "a cat"], [{"a": 0.9}], ["a cat"]),
    ],
    ids=["several words", "parts of words", "own labels", "one within another", "the same word"],
)
def test_a_box_gets_the_label_whose_own_token_is_best(source, find, queries, labels):
    stage = source("grounding-dino", find=find, threshold=0.3)
    answer(stage, hot(stage, *queries), SPREAD[: len(queries)])
    found, _ = ask(stage, picture(100, 200))
    assert [prompt.label for prompt in found] == labels
    best = [max(value for word, value in query.items() if word != ".") for query in queries]
    assert [prompt.score for prompt in found] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("owlv2", (100, 200), (30, 0, 70, 50)),
        ("owlv2", (200, 100), (30, 0, 70, 50)),
        ("owlvit", (100, 200), (30, 0, 70, 25)),
        ("owlvit", (200, 100), (15, 0, 35, 50)),
        ("grounding-dino", (200, 100), (15, 0, 35, 50)),
    ],
)
def test_a_box_is_in_pixels_of_the_picture(source, kind, size, expected):
    stage = source(kind, find=["dog"], threshold=0.3)
    logits = hot(stage, {"dog": 0.9}) if "dino" in kind else [[2.0]]
    answer(stage, np.array(logits, np.float32), [[0.25, 0.1, 0.2, 0.3]])  # it begins above the picture
    (prompt,) = stage.prompts(picture(*size))
    assert prompt.box.xyxy == pytest.approx(expected, abs=1e-4)


def test_points_are_in_the_middle_of_the_boxes(source):
    stage = source("owlvit", find=["dog"], threshold=0.3, **{"as": "points"})
    assert stage.kinds() == {"points"}
    answer(stage, np.array([[2.0]], np.float32), [[0.25, 0.5, 0.2, 0.3]])
    (prompt,) = stage.prompts(picture(100, 200))
    assert [(point.x, point.y) for point in prompt.points] == [pytest.approx((50, 50))] and prompt.box is None


def logit(*scores):
    return np.log(np.array(scores) / (1 - np.array(scores))).astype(np.float32)


def test_a_box_with_a_class_and_its_negation_is_kept_once_and_doubted(source):
    stage = source("owlvit", find=["with hat", "without hat"], threshold=0.3)
    answer(stage, logit([0.6, 0.5], [0.1, 0.4]), SPREAD[:2])
    found, trace = ask(stage, picture(100, 200))
    assert [prompt.label for prompt in found] == ["with hat", "without hat"]
    (doubt,) = trace.doubts
    assert doubt.code == "conflict"
    assert "'with hat' (0.60) and 'without hat' (0.50) at [20, 10, 40, 30] (IoU 1.00) name the same" in doubt.message


def test_a_conflict_is_reported_once_for_each_box_that_is_kept(source):
    stage = source("owlvit", find=["hat", "cap"], threshold=0.3, most=1)
    near = [0.15, 0.2, 0.1, 0.19]
    answer(stage, logit([0.6, 0.5], [0.1, 0.45], [0.7, 0.65]), [SPREAD[0], near, SPREAD[1]])
    (prompt,), trace = ask(stage, picture(100, 200))
    assert (prompt.label, prompt.score) == ("hat", 0.7)
    messages = {doubt.code: doubt.message for doubt in trace.doubts}
    assert messages.keys() == {"conflict", "incomplete"}
    text = "'hat' (0.70) and 'cap' (0.65) at [90, 40, 110, 60] (IoU 1.00) name the same object; the first label is kept"
    assert messages["conflict"] == text


def test_each_label_may_have_its_own_threshold(source):
    stage = source("owlvit", threshold={"dog": 0.9, "person": 0.05})
    answer(stage, logit([0.1, 0.1, 0.1], [0.01, 0.8, 0.1], [0.01, 0.1, 0.3]), SPREAD[:3])
    found, trace = ask(stage, picture(100, 200))
    assert [prompt.label for prompt in found] == ["traffic light", "person"], "0.2 is usual for OWL"
    assert trace.notes["detect"]["found"] == {"person": 1, "traffic light": 1}


def test_only_the_best_boxes_are_kept_and_the_others_are_not_lost_silently(source):
    stage = source("owlvit", find=["dog"], most=2)
    answer(stage, logit([0.3], [0.5], [0.4]), SPREAD[:3])
    found, trace = ask(stage, picture(100, 200))
    assert [round(prompt.score, 3) for prompt in found] == [0.5, 0.4]
    (doubt,) = trace.doubts
    assert doubt.code == "incomplete" and "1 of 3 boxes were left out" in doubt.message


def test_nothing_above_the_threshold_is_an_answer_with_a_reason(source):
    stage = source("owlvit")
    answer(stage, logit([0.01, 0.1, 0.04]), SPREAD[:1])
    found, trace = ask(stage, picture(100, 200))
    assert found == []
    text = "no box reaches the threshold; the best scores are: 'dog' 0.10 of 0.2, 'traffic light' 0.04 of 0.2"
    assert trace.notes["detect"]["nothing"].startswith(text)


# --- long lists ----------------------------------------------------------------------------------------------


def test_more_classes_than_a_text_can_hold_are_asked_for_in_several_passes(source):
    find = {f"label {number}": "red cat with hat " * 3 + "dog" for number in range(30)}
    stage = source("grounding-dino", find=find, nms=None)
    passes = stage._detector.passes
    assert [number for columns, _, _ in passes for number in columns] == list(range(30))
    assert len(passes) == 2 and all(encoded["input_ids"].shape[1] <= 256 for _, encoded, _ in passes)
    boxes, scores = stage._detector.detect(np.array(picture(100, 120).pixels))
    assert boxes.shape == (2 * 30, 4) and scores.shape == (2 * 30, 30)
    for number, (columns, _, _) in enumerate(passes):  # each box has scores of its own pass only
        part = scores[30 * number : 30 * number + 30]
        assert part[:, columns].all() and not np.delete(part, columns, axis=1).any()


def test_passes_are_as_few_as_possible_and_a_question_that_fits_in_none_is_named():
    assert split_passes({"a": 3, "b": 4, "c": 1, "d": 7}, 7) == [["a", "b"], ["c"], ["d"]]
    with pytest.raises(PipelineError, match="asked for 'long' is too long: 8 tokens, and this model takes 7"):
        split_passes({"a": 1, "long": 8}, 7)


@pytest.mark.parametrize("kind", ["owlv2", "omdet-turbo"])
def test_a_question_that_the_model_would_cut_off_is_refused(detectors, kind):
    stage = Detect.from_options({"find": ["dog", "a person with " * 40], "model": str(detectors(kind))})
    with pytest.raises(PipelineError, match="is too long"):
        stage.open()


def test_a_sentence_with_too_many_classes_takes_several_passes(source):
    stage = source("omdet-turbo", find=[f"{letter * 9}" for letter in "abcdefghij"])  # a token is a letter here
    assert [len(columns) for columns, _ in stage._detector.passes] == [6, 4]
    assert stage._detector.detect(np.array(picture(100, 120).pixels))[1].shape == (80, 10)


def test_words_that_the_model_does_not_know_are_refused(detectors):
    stage = Detect.from_options({"find": ["dog", "狗"], "model": str(detectors("grounding-dino"))})
    with pytest.raises(PipelineError, match="the model's vocabulary has no word of '狗'"):
        stage.open()


# --- tiles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(90, 260), (1000, 70), (301, 299), (64, 64), (64, 65)])
def test_tiles_cover_the_picture_and_overlap(size):
    whole, *tiles = list_windows(size, 64)
    assert whole == (0, 0, size[1], size[0])
    assert bool(tiles) is (max(size) > 64)
    covered = np.zeros(size, int)
    for left, top, right, bottom in tiles:
        assert right - left == min(64, size[1]) and bottom - top == min(64, size[0])
        covered[top:bottom, left:right] += 1
    assert covered.all() or not tiles
    lefts = sorted({tile[0] for tile in tiles})
    assert all(b - a <= 64 * (1 - OVERLAP) + 1 for a, b in itertools.pairwise(lefts))


def candidates(*rows):
    boxes, scores, classes, windows = zip(*rows, strict=True)
    return Candidates(
        np.array(boxes, float), np.array(scores, float), np.array(classes, np.int64), np.array(windows, float)
    )


WHOLE, LEFT, RIGHT = (0, 0, 180, 100), (0, 0, 100, 100), (80, 0, 180, 100)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([((40, 20, 100, 60), 0.9, 0, LEFT), ((80, 20, 150, 60), 0.8, 0, RIGHT)], [(40, 20, 150, 60)]),
        ([((40, 20, 100, 60), 0.9, 0, LEFT), ((80, 70, 150, 90), 0.8, 0, RIGHT)], None),
        ([((40, 20, 100, 60), 0.9, 0, LEFT), ((80, 20, 150, 60), 0.8, 1, RIGHT)], None),
        ([((40, 20, 100, 60), 0.9, 0, LEFT), ((41, 20, 151, 60), 0.5, 0, WHOLE)], [(41, 20, 151, 60)]),
        ([((41, 20, 151, 60), 0.9, 0, WHOLE), ((80, 20, 150, 60), 0.8, 0, RIGHT)], [(41, 20, 151, 60)]),
        ([((81.5, 20, 95, 60), 0.9, 0, LEFT), ((81.5, 20, 95, 60), 0.8, 0, RIGHT)], [(81.5, 20, 95, 60)]),
        ([((0, 0, 60, 60), 0.9, 0, WHOLE), ((0, 0, 60, 55), 0.8, 0, WHOLE)], [(0, 0, 60, 60)]),
        ([((0, 0, 100, 60), 0.9, 0, WHOLE), ((30, 0, 130, 60), 0.8, 0, WHOLE)], None),
    ],
    ids=["halves", "other parts", "other classes", "part first", "whole first", "twice", "nms", "neighbours"],
)
def test_an_object_in_several_tiles_gets_one_box(rows, expected):
    kept, conflicts = merge(candidates(*rows), (100, 180), 0.7)
    assert kept.boxes.tolist() == [list(box) for box in expected or [row[0] for row in rows]]
    assert kept.scores[0] == 0.9 and not conflicts


def test_an_object_across_three_tiles_gets_one_box():
    tiles = [(left, 0, left + 100, 100) for left in (0, 80, 160)]
    rows = [((20, 20, 100, 60), 0.5, 0, tiles[0]), ((80, 20, 180, 60), 0.2, 0, tiles[1])]
    rows.append(((160, 20, 240, 60), 0.9, 0, tiles[2]))
    kept, _ = merge(candidates(*rows), (100, 260), 0.7)
    assert kept.boxes.tolist() == [[20, 20, 240, 60]] and kept.scores.tolist() == [0.9]


def test_boxes_of_tiles_are_in_pixels_of_the_picture(source):
    stage = source("owlvit", find=["dog"], tiles=100)
    answer(stage, logit([0.9]), [[0.5, 0.5, 0.2, 0.4]])
    found = sorted(prompt.box.xyxy for prompt in stage.prompts(picture(100, 180)))
    assert found == [pytest.approx(box, abs=1e-4) for box in [(40, 30, 60, 70), (72, 30, 108, 70), (120, 30, 140, 70)]]


# --- checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": {"cat": 0.5}}, "threshold: 'cat' is no label of `find`"),
        ({"tiles": 640, "nms": None}, "`tiles` needs `nms`"),
        ({"find": ["dog", "dog"]}, "find: 'dog' occurs twice"),
        ({"find": {"dog": "?!"}}, "there is no word to look for in '?!'"),
        ({"model": "nowhere/at/all"}, "does not exist"),
    ],
    ids=["threshold", "tiles", "twice", "no word", "no folder"],
)
def test_options_that_exclude_each_other_are_refused_before_the_run(detectors, options, text):
    stage = Detect.from_options({"find": ASKED, "model": str(detectors("owlvit")), **options})
    assert any(text in str(problem) for problem in stage.check() if not problem.warning)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "sam2"}, "is of the type 'sam2', which is no detector that is known here"),
        ({"use_timm_backbone": True}, "needs the package 'timm'"),
        ({"id2label": {}}, "has no id2label"),
    ],
    ids=["type", "package", "names"],
)
def test_a_model_that_cannot_serve_is_refused_by_its_configuration(detectors, tmp_path, monkeypatch, change, text):
    folder = shutil.copytree(detectors("detr"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    monkeypatch.setattr("maskmill_plugins.prompts.detect.hub_model.is_installed", lambda package: package != "timm")
    (problem,) = Detect.from_options({"find": ["dog"], "model": str(folder)}).check()
    assert text in str(problem)


def test_a_detector_with_fixed_classes_names_those_that_it_knows(detectors):
    options = {"find": {"mutt": "Dog", "lamp": "traffic lights", "pet": "dog"}, "model": str(detectors("rt_detr"))}
    texts = [str(problem) for problem in Detect.from_options(options).check()]
    assert "'traffic lights' is none of the 5 classes that this model knows" in texts[0]
    assert "did you mean 'traffic light'?" in texts[0]
    assert "'mutt' and 'pet' ask for the same class" in texts[1]


def test_weights_that_are_not_all_there_are_refused(detectors, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(detectors("owlv2"), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["class_head.dense0.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PipelineError, match=r"1 are missing or of another size, such as class_head\.dense0\.weight"):
        Detect.from_options({"find": ["dog"], "model": str(folder)}).open()
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PipelineError, match="cannot be loaded"):
        Detect.from_options({"find": ["dog"], "model": str(folder)}).open()


# --- a run ---------------------------------------------------------------------------------------------------


def test_a_run_segments_what_the_detector_finds_in_two_workers(detectors, tmp_path):
    folder = tmp_path / "图片"
    folder.mkdir()
    for number in range(3):
        PIL.Image.fromarray(picture(120, 160, number).pixels).save(folder / f"{number}.png")
    model = shutil.copytree(detectors("owlv2"), tmp_path / "model")
    file = tmp_path / "detect.yaml"

    def run(threshold, jobs=2, **options):
        text = f"""
            dataset: 图片
            prompts: [{{use: detect, find: {{人: person, dog: dog}}, model: model, threshold: {threshold}, most: 3}}]
            backend: {{use: grabcut, iterations: 1}}
            writers: [coco]
            output: out
            run: {{jobs: {jobs}, engine: {"joblib" if jobs > 1 else "inline"}}}
        """
        file.write_text(text, encoding="utf-8")
        report = Pipeline.load(file).run(quiet=True, **options)
        return report, {result.key: result for result in read_run(report.output)}

    report, results = run(0.3)
    assert report.counts["done"] == 3 and report.exit_code == 0
    options = {"find": {"人": "person", "dog": "dog"}, "threshold": 0.3, "most": 3}
    stage = Detect.from_options({**options, "model": str(model)})
    stage.open()
    for key, result in results.items():
        alone = stage.prompts(Image.load(ImageRef(str(folder / key), key)))
        assert [(one.box, one.label) for one in result.prompts] == [(one.box, one.label) for one in alone]
        assert result.provenance["source_models"] == {"detect": stage.model_id()}
        assert {"transformers", "tokenizers", "safetensors"} <= result.provenance["versions"].keys()
    assert run(0.3)[0].ran == 0
    _, results = run(0.999, jobs=1)
    assert {result.status for result in results.values()} == {"empty"}
    assert all("detect: no box reaches the threshold" in result.reason for result in results.values())
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "note": "another model"}), encoding="utf-8")
    assert run(0.999, jobs=1)[0].ran == 3, "another model: everything is made again"
