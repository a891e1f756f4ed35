"""Hundreds of odd image files as one dataset: one status each, a reason for each failure, nothing hangs."""

import json
import sys
import textwrap

import odd_images
import pytest

from maskmill import testing

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(150),
    pytest.mark.skipif(sys.platform != "linux", reason="looks for orphans as Linux shows them"),
]

COUNT = 500
PIPELINE = """
    dataset: photos
    prompts: [{use: manual, box: [0, 0, 1, 1], units: relative}]
    backend: {use: slow}
    writers: [{use: png}]
    output: out
    run: {engine: joblib, jobs: 2, timeout: 20, max_pixels: 20000000, same_failures: null}
"""


def test_every_odd_file_gets_one_status_and_every_failure_a_reason(mill):
    assert odd_images.make(mill.folder / "photos", COUNT, seed=3) == COUNT
    mill.project.file.write_text(textwrap.dedent(PIPELINE), encoding="utf-8")
    code, said = mill.run()
    assert code == 1, said
    statuses, failures = mill.statuses(), mill.failures()
    others = [line for line in said.splitlines() if ": failed at read: " not in line]
    assert len(said.splitlines()) - len(others) == len(failures)
    assert len(others) < 10, f"libraries talk on the terminal: {others}"

    assert len(statuses) == COUNT
    assert set(statuses.values()) == {"done", "failed"}
    assert {key: status for key, status in statuses.items() if key.startswith("good/") and status != "done"} == {}
    assert {key: status for key, status in statuses.items() if key.startswith("refused/") and status != "failed"} == {}
    assert failures.keys() == {key for key, status in statuses.items() if status == "failed"}
    for key, failure in failures.items():
        assert failure["type"] == "ImageReadError"
        reason = failure["message"].partition(f"{key}: ")[2] or failure["message"].partition(f"{key} is ")[2]
        assert len(reason) > 10, failure
        assert failure["stage"] == "read"
    mill.assert_tidy()
    mill.assert_resumes()


def test_the_files_are_the_same_for_the_same_seed():
    assert list(odd_images.odd_images(300, seed=1)) == list(odd_images.odd_images(300, seed=1))
    assert len(dict(odd_images.odd_images(600))) == 600


#: Names that a camera, a browser, another system or a prankster gives. No two of them are equal in lower case.
NAMES = [
    "a\nb.png", "tab\t.png", "\x1b[31mred.png", "bell\a.png", "'quote'.png", '"quotes".png', "back\\slash.png",
    " space.png", "two  spaces.png", "-q.png", "--help.png", "~.png", "$HOME.png", "`id`.png", "%s.png", "{0}.png",
    "CON.png", "nul.jpg.png", "aux .png", "a:b.png", "a?*.png", "a|b.png", "<a>.png", "a%2Fb.png", "dots...png",
    "照片.png", "\u202egnp.png", "e\u0301.png", "é.png", "😀.png", "名" * 83 + ".png", "x" * 251 + ".png",
    "CON/a.png", "trailing./a.png", "trailing /a.png", "folder.png/a.png", "results/a.png", "png/ledger.sqlite.png",
]  # fmt: skip


def test_odd_names_of_images_and_folders_keep_their_results_apart(mill):
    for number, name in enumerate(NAMES):
        testing.write_picture(mill.folder / "photos" / name, seed=number)
    mill.project.file.write_text(textwrap.dedent(PIPELINE).replace("joblib", "inline"), encoding="utf-8")
    code, said = mill.run()
    assert code == 0, said
    assert mill.statuses() == dict.fromkeys(NAMES, "done")
    artifacts = []
    for file in mill.results():
        artifacts += [artifact["path"] for artifact in json.loads(file.read_bytes())["artifacts"]]
    assert len(artifacts) == len(set(artifacts)) >= len(NAMES)
    assert all((mill.output / path).is_file() for path in artifacts)
    mill.assert_resumes()


def test_a_list_with_own_keys_names_images_anywhere(mill):
    outside = mill.folder.parent / "elsewhere"
    for number, name in enumerate(["one/a.png", "two/a.png"]):
        testing.write_picture(outside / name, seed=number)
    rows = [
        {"image": str(outside / "one" / "a.png"), "key": "猫/first.png"},
        {"image": "../elsewhere/two/a.png", "key": "second.without.suffix"},
        {"image": "../elsewhere/two/a.png", "key": "the same again"},
        {"image": "../elsewhere/gone.png", "key": "gone"},
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (mill.folder / "list.jsonl").write_text(text, encoding="utf-8")
    pipeline = PIPELINE.replace("photos", "list.jsonl").replace("joblib", "inline")
    mill.project.file.write_text(textwrap.dedent(pipeline), encoding="utf-8")
    code, said = mill.run()
    assert code == 1, said
    assert mill.statuses() == {row["key"]: "failed" if row["key"] == "gone" else "done" for row in rows}
    assert "No such file" in mill.failures()["gone"]["message"]
    mill.assert_resumes()
