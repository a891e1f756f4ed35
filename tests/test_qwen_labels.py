"""What a model calls a thing becomes the user's own class name, by rules."""

import time

import pytest

from maskmill_plugins.prompts.qwen.reply.labels import match_class

PLAIN = {"vehicle": "", "person": "", "traffic light": "", "汽车": ""}
DESCRIBED = {
    "vehicle": "cars, trucks and buses, not bicycles",
    "person": "anybody on foot, riders too",
    "车辆": "轿车、卡车，不包括自行车",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vehicle", "vehicle"),
        ("Vehicle", "vehicle"),
        (" the vehicles ", "vehicle"),
        ("ｖｅｈｉｃｌｅ", "vehicle"),
        ("people", "person"),
        ("person 2", "person"),
        ("Person_1", "person"),
        ("traffic-lights", "traffic light"),
        ("Traffic_Light", "traffic light"),
        ("red traffic light", "traffic light"),
        ("person (partly hidden)", "person"),
        ("person in a red vehicle", "person"),
        ("young person wearing a hat", "person"),
        ("vehicle door", None),
        ("light", None),
        ("car", None),
        ("", None),
        ("汽车", "汽车"),
        ("红色汽车", "汽车"),
        ("汽车（红色）", "汽车"),
        ("汽车2", "汽车"),
        ("汽车门", None),
    ],
)
def test_names_become_classes(name, expected):
    assert match_class([name], PLAIN) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("truck", "vehicle"),
        ("bus", "vehicle"),
        ("red cars", "vehicle"),
        ("bicycle", None),
        ("rider", "person"),
        ("卡车", "车辆"),
        ("自行车", None),
        ("too", "person"),
    ],
)
def test_descriptions_name_what_belongs_to_a_class(name, expected):
    assert match_class([name], DESCRIBED) == expected


def test_the_class_asked_for_takes_every_name_but_those_of_other_classes():
    assert match_class(["car"], PLAIN, "vehicle") == "vehicle"
    assert match_class([], PLAIN, "vehicle") == "vehicle"
    assert match_class(["car door"], PLAIN, "vehicle") == "vehicle"
    assert match_class(["Persons"], PLAIN, "vehicle") is None
    assert match_class(["point_1"], PLAIN, "person") == "person"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("type 2", "type 2"), ("Type_1", "type 1"), ("type 3", None), ("a", "A"), ("An", None), ("b", "B")],
)
def test_numbers_and_letters_that_are_part_of_a_class_count(name, expected):
    assert match_class([name], {"type 1": "", "type 2": "", "A": "", "B": ""}) == expected


def test_a_class_that_stands_alone_takes_every_name():
    assert match_class(["anything"], {"vehicle": ""}) == "vehicle"
    assert match_class([], {"vehicle": ""}) == "vehicle"


def test_the_longest_class_wins():
    classes = {"car": "", "sports car": "", "cap": "", "cape": ""}
    assert match_class(["red sports car"], classes) == "sports car"
    assert match_class(["cape"], classes) == "cape"
    assert match_class(["capes"], classes) == "cape"


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("buses", "bus"),
        ("houses", "house"),
        ("boxes", "box"),
        ("cities", "city"),
        ("knives", "knife"),
        ("gloves", "glove"),
        ("wolves", "wolf"),
        ("glasses", "glass"),
        ("geese", "goose"),
        ("vases", "vase"),
        ("potatoes", "potato"),
    ],
)
def test_plurals_are_the_same_class(plural, singular):
    others = {"other": ""}
    assert match_class([plural], {singular: "", **others}) == singular
    assert match_class([singular], {plural: "", **others}) == plural


def test_every_name_of_an_object_counts():
    assert match_class(["Rice", "米饭"], {"米饭": "", "汤": ""}) == "米饭"


def test_what_fits_two_descriptions_fits_none():
    assert match_class(["car"], {"moving": "cars that drive", "parked": "cars that stand"}) is None


@pytest.mark.parametrize("word", ["x ", "red ", "the ", "1 ", "a,", "x"])
def test_time_grows_with_the_length_of_a_label(word):
    classes = {"car": "cars, red trucks and buses", "dog": "dogs"}

    def measure(count):
        started = time.perf_counter()
        for _ in range(3):
            match_class([word * count], classes)
        return time.perf_counter() - started

    measure(1000)
    assert measure(200_000) < 5
