"""The prompts file of `maskmill annotate`: acknowledged saves are never lost, other lines never changed."""

import errno
import json
import os
import threading

import pytest

from maskmill import Image, ImageRef, PipelineError, RejectedError, UsageError, testing
from maskmill_plugins.annotate import line_file
from maskmill_plugins.annotate.prompts_file import NO_REVISION, ChangedError, PromptsFile
from maskmill_plugins.prompts.file import File

BOX = {"box": [1.0, 2.0, 3.0, 4.0], "label": "猫"}
DONE = {"prompts": [BOX], "status": "done", "tool": "maskmill annotate test"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "prompts.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def source(path):
    return File.from_options({"path": str(path)})


def image(key="a.jpg"):
    picture = testing.image()
    return Image(picture.pixels, ImageRef(key, key), picture.sha256)


def test_the_file_source_replays_saved_prompts(path):
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, DONE)
    assert [prompt.to_json() for prompt in source(path).prompts(image())] == [{**BOX, "ref": "prompt 1"}]


def test_a_save_is_on_disk_before_it_returns(path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size) or real(handle))
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, DONE)
        assert path.stat().st_size in synced


def test_the_last_line_counts_and_a_restart_reads_it(path):
    with PromptsFile(path) as store:
        first = store.save("a.jpg", NO_REVISION, DONE)
        second = store.save("a.jpg", first, {**DONE, "prompts": [], "status": "empty"})
    with PromptsFile(path) as store:
        said, revision = store.read("a.jpg")
        assert revision == second and said["prompts"] == []
        assert store.lines()["a.jpg"].status == "empty"
    assert len(lines(path)) == 2


def test_an_outdated_revision_is_refused_and_nothing_is_written(path):
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, DONE)
        before = path.read_bytes()
        with pytest.raises(ChangedError):
            store.save("a.jpg", NO_REVISION, {**DONE, "prompts": []})
        assert path.read_bytes() == before


def test_one_of_many_threads_saving_the_same_image_wins(path):
    won = []
    with PromptsFile(path) as store:

        def work(number):
            try:
                store.save("a.jpg", NO_REVISION, {**DONE, "reviewer": str(number)})
                won.append(number)
            except ChangedError:
                pass

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [line["reviewer"] for line in lines(path)] == [str(number) for number in won] and len(won) == 1


def test_hand_written_lines_stay_byte_for_byte(path):
    hand = b'\xef\xbb\xbf{"image":"b.jpg",  "prompts":[ ], "note":"mine"}\r\n\r\n{"image": "c.jpg", "prompts": []}\n'
    path.write_bytes(hand)
    with PromptsFile(path) as store:
        assert store.read("b.jpg")[0]["note"] == "mine"
        store.save("a.jpg", NO_REVISION, DONE)
    assert path.read_bytes().startswith(hand)


def test_unknown_fields_of_a_line_are_kept_when_it_is_replaced(path):
    path.write_text('{"image": "a.jpg", "prompts": [], "camera": 7}\n', encoding="utf-8")
    with PromptsFile(path) as store:
        store.save("a.jpg", store.read("a.jpg")[1], DONE)
    assert lines(path)[1]["camera"] == 7 and lines(path)[1]["prompts"] == [BOX]


@pytest.mark.parametrize("cut", [1, 2, 30, -1])
def test_an_incomplete_last_line_is_moved_aside_and_the_rest_is_kept(path, cut):
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, DONE)
        store.save("b.jpg", NO_REVISION, DONE)
    first, second = path.read_bytes().splitlines(keepends=True)
    torn = second.rstrip(b"\n")[:cut]
    path.write_bytes(first + torn)
    said = []
    with PromptsFile(path, said.append) as store:
        assert set(store.lines()) == {"a.jpg"}
        store.save("b.jpg", NO_REVISION, DONE)
    assert path.read_bytes().startswith(first) and len(lines(path)) == 2
    assert path.with_name("prompts.jsonl.torn1").read_bytes() == torn and "incomplete" in said[0]


def test_a_last_line_without_a_newline_is_kept(path):
    path.write_text('{"image": "b.jpg", "prompts": []}', encoding="utf-8")
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, DONE)
    assert [line["image"] for line in lines(path)] == ["b.jpg", "a.jpg"]


def test_two_incomplete_lines_are_both_kept(path):
    for piece in (b'{"image": "one', b'{"image": "two'):
        path.write_bytes(piece)
        with PromptsFile(path):
            pass
    assert [path.with_name(f"prompts.jsonl.torn{n}").read_bytes() for n in (1, 2)] == [
        b'{"image": "one',
        b'{"image": "two',
    ]


def test_invalid_lines_are_reported_at_the_start_and_nothing_is_changed(path):
    path.write_text('{"image": "a.jpg", "prompts": []}\nnonsense\n{"image": "b", "prompts": 3}\n', encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(PipelineError) as caught, PromptsFile(path):
        pass
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [(str(path), 2), (str(path), 3)]
    assert path.read_bytes() == before


def test_a_second_process_is_refused_until_the_first_unlocks_the_file(path):
    with PromptsFile(path), pytest.raises(UsageError, match="another `maskmill annotate`"), PromptsFile(path):
        pass
    with PromptsFile(path):
        pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_file_that_cannot_be_written_is_reported_at_the_start(path):
    path.write_text('{"image": "a.jpg", "prompts": []}\n', encoding="utf-8")
    path.chmod(0o400)
    with pytest.raises(UsageError, match="cannot be written"), PromptsFile(path):
        pass


def test_a_missing_folder_is_reported_at_the_start(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"), PromptsFile(tmp_path / "file" / "prompts.jsonl"):
        pass


def test_an_external_edit_is_noticed_and_invalidates_the_old_revision(path):
    with PromptsFile(path) as store:
        revision = store.save("a.jpg", NO_REVISION, DONE)
        path.write_text('{"image": "a.jpg", "prompts": []}', encoding="utf-8")
        assert store.read("a.jpg")[0]["prompts"] == []
        with pytest.raises(ChangedError):
            store.save("a.jpg", revision, DONE)
        store.save("b.jpg", NO_REVISION, DONE)
    assert [line["image"] for line in lines(path)] == ["a.jpg", "b.jpg"]


def test_a_full_disk_leaves_the_file_unchanged(path, monkeypatch):
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, DONE)
        before = path.read_bytes()

        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                store.save("b.jpg", NO_REVISION, DONE)
        assert path.read_bytes() == before
        store.save("b.jpg", NO_REVISION, DONE)
    assert [line["image"] for line in lines(path)] == ["a.jpg", "b.jpg"]


def test_a_partially_written_line_is_removed(path):
    resource = pytest.importorskip("resource", reason="files of bounded size, as on a full disk, are of POSIX")
    with PromptsFile(path) as store:
        revision = store.save("a.jpg", NO_REVISION, DONE)
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
        try:
            with pytest.raises(OSError, match="large"):
                store.save("a.jpg", revision, DONE)
            assert path.read_bytes() == before
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        store.save("a.jpg", revision, DONE)
    assert len(lines(path)) == 2


def test_replaced_lines_are_removed_when_they_are_most_of_the_file_and_a_backup_has_them(path, monkeypatch):
    monkeypatch.setattr(line_file, "WASTE", 500)
    hand = '{"image": "a.jpg", "prompts": [], "by": "hand"}'
    path.write_text(hand + "\n", encoding="utf-8")
    with PromptsFile(path) as store:
        revision = store.read("a.jpg")[1]
        for number in range(20):
            revision = store.save("a.jpg", revision, {**DONE, "reviewer": str(number)})
    before = path.read_bytes()
    with PromptsFile(path) as store:
        assert store.read("a.jpg") == (lines(path)[-1], revision)
    kept = path.read_text(encoding="utf-8").splitlines()
    assert kept[0] == hand and len(kept) == 2 and json.loads(kept[1])["reviewer"] == "19"
    assert path.with_name("prompts.jsonl.bak").read_bytes() == before


def test_a_file_with_few_replaced_lines_is_not_compacted(path):
    with PromptsFile(path) as store:
        revision = store.save("a.jpg", NO_REVISION, DONE)
        store.save("a.jpg", revision, DONE)
    before = path.read_bytes()
    with PromptsFile(path):
        pass
    assert path.read_bytes() == before and not path.with_name("prompts.jsonl.bak").exists()


def test_a_batch_run_leaves_an_unfinished_image_to_the_next_source(path):
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, {**DONE, "status": "todo"})
        store.save("b.jpg", NO_REVISION, DONE)
    assert source(path).prompts(image()) is None and not source(path).has_answer(ImageRef("a.jpg", "a.jpg"))
    assert source(path).check() == []


def test_a_batch_run_fails_a_rejected_image_and_names_the_reviewer(path):
    with PromptsFile(path) as store:
        store.save("a.jpg", NO_REVISION, {**DONE, "status": "rejected", "reviewer": "李雷"})
    with pytest.raises(RejectedError, match="李雷 rejected this image"):
        source(path).prompts(image())
    assert source(path).check() == []


def test_the_status_of_an_image_enters_its_fingerprint(path):
    prints = []
    with PromptsFile(path) as store:
        revision = NO_REVISION
        for status in ("todo", "done", "rejected"):
            revision = store.save("a.jpg", revision, {**DONE, "status": status})
            prints.append(source(path).fingerprint(ImageRef("a.jpg", "a.jpg")))
    assert len(set(prints)) == 3


def test_a_line_without_a_status_is_to_do_until_somebody_has_looked(path):
    line = {"prompts": [BOX]}
    path.write_text(
        "\n".join(json.dumps({"image": key, **line}) for key in ("a.jpg", "b.jpg")) + "\n", encoding="utf-8"
    )
    with PromptsFile(path) as store:
        assert {key: about.status for key, about in store.lines().items()} == {"a.jpg": "todo", "b.jpg": "todo"}
        store.save("a.jpg", store.read("a.jpg")[1], DONE)
        assert store.lines()["a.jpg"].status == "done"
    assert len(source(path).prompts(image("b.jpg"))) == 1, "a batch uses it"
