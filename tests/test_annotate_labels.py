"""The labels of a whole prompts file: counted, renamed, merged, and back again."""

import pytest
from annotate_kit import annotating, folder_of, opened, save
from serve_kit import BOX, POINT

from maskmill_plugins.annotate.prompts_file import NO_REVISION, PromptsFile


@pytest.fixture
def server(tmp_path):
    with annotating(folder_of(tmp_path / "照片", 3)) as running:
        save(running, "000.png", {**BOX, "label": "cup"}, {**POINT, "label": "cup"}, status="todo")
        save(running, "001.png", {**BOX, "label": "cup"}, {**POINT, "label": "mug"})
        save(running, "002.png", {**BOX, "label": "plate"})
        yield running


def labels(server):
    found = server.http.get("/v1/annotate/labels").json()["labels"]
    return {each["label"]: (each["objects"], each["images"]) for each in found}


def worn(server):
    return [
        [prompt["label"] for prompt in opened(server, f"00{number}.png")["entry"]["prompts"]] for number in range(3)
    ]


def rename(server, label, new, **more):
    return server.http.post("/v1/annotate/labels/rename", json={"label": label, "new": new, **more})


def test_a_label_is_renamed_in_all_images_and_back(server):
    assert labels(server) == {"cup": (3, 2), "mug": (1, 1), "plate": (1, 1)}
    server.session.offered = ["cup", "fork"]
    before = opened(server, "000.png")
    assert rename(server, "cup", " 杯子 ").json() == {"objects": 3, "images": 2}
    assert worn(server) == [["杯子", "杯子"], ["杯子", "mug"], ["plate"]]
    assert list(labels(server)) == ["杯子", "fork", "mug", "plate"], "the old name is no longer offered"
    after = opened(server, "000.png")
    assert after["entry"]["status"] == "todo" and after["revision"] != before["revision"]
    assert save(server, "000.png", BOX, revision=before["revision"]).status_code == 409, "another tab is told"
    save(server, "001.png", {**BOX, "label": "bowl"})
    assert server.http.post("/v1/annotate/labels/undo").json() == {"images": 1, "left": 1}
    assert worn(server) == [["cup", "cup"], ["bowl"], ["plate"]]
    assert list(labels(server))[:2] == ["cup", "fork"]
    assert server.http.post("/v1/annotate/labels/undo").status_code == 404


def test_labels_are_merged_only_if_that_is_asked_for(server):
    assert rename(server, "cup", "mug").status_code == 409
    assert rename(server, "cup", "mug", merge=True).json() == {"objects": 3, "images": 2}
    assert labels(server) == {"mug": (4, 2), "plate": (1, 1)}
    assert server.http.post("/v1/annotate/labels/undo").json() == {"images": 2, "left": 0}
    assert labels(server) == {"cup": (3, 2), "mug": (1, 1), "plate": (1, 1)}


def test_wrong_names_and_a_full_disk_rename_nothing(server, monkeypatch):
    from maskmill_plugins.annotate import locked_lines

    before = server.session.prompts_file.path.read_bytes()
    for label, new, status in (("fork", "knife", 404), ("cup", "  ", 422), ("cup", "a\nb", 422)):
        assert rename(server, label, new).status_code == status

    def full(path, raw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locked_lines, "append", full)
    answer = rename(server, "cup", "mug", merge=True)
    assert answer.status_code == 507 and "No space left" in answer.json()["detail"]
    assert server.session.prompts_file.path.read_bytes() == before and labels(server)["cup"] == (3, 2)


def test_a_label_that_was_corrected_is_forgotten(tmp_path):
    with PromptsFile(tmp_path / "p.jsonl") as file:
        first = file.save("a.jpg", NO_REVISION, {"prompts": [{**BOX, "label": "cpu"}], "status": "done"})
        file.save("a.jpg", first, {"prompts": [{**BOX, "label": "cup"}], "status": "done"})
        assert file.labels() == ["cup"]
    with PromptsFile(tmp_path / "p.jsonl") as file:
        assert file.labels() == ["cup"]
