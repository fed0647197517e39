"""`--label`, `--seed`, `--interpolate` and `--count`: the sounds that they ask for, their names, and refusals."""

import itertools
import re

import pytest

from audiodiff.diffusion.noise import SeedBlend
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet
from audiodiff.tasks.generation.labels import Interpolation, read_labels, read_seed
from audiodiff.tasks.generation.specs import generation_specs

DIGITS = tuple("0123456789")
SPEAKERS = ("ann", "bob", "cy")
KNOWN = LabelSet({"digit": DIGITS, "speaker": SPEAKERS})


def asked(*texts: str, seed: str = "0", interpolate: int | None = None, count: int | None = None, labels=KNOWN):
    return generation_specs(
        read_labels(texts, labels=labels), labels=labels, seed=read_seed(seed), interpolate=interpolate, count=count
    )


def test_a_grid_is_the_product_of_its_values_the_first_label_slowest():
    made = asked("speaker=cy,ann", "digit=all", count=2)
    expected = [{"speaker": s, "digit": d} for s, d in itertools.product(("cy", "ann"), DIGITS) for _ in range(2)]
    assert [spec.labels for spec in made] == expected
    assert [spec.item for spec in made] == list(range(40))
    assert {spec.seed for spec in made} == {0}


def test_a_label_that_is_not_named_may_have_any_value():
    assert [spec.labels for spec in asked("speaker=bob")] == [{"speaker": "bob"}]
    assert [spec.labels for spec in asked(count=3)] == [{}, {}, {}]


def test_interpolation_has_both_ends_and_one_noise():
    made = asked("digit=3:7", "speaker=ann,bob", interpolate=5, count=2)
    assert len(made) == 2 * 5 * 2
    ann = made[0:10:2]
    assert [spec.labels["digit"] for spec in ann] == [
        "3",
        {"3": 0.75, "7": 0.25},
        {"3": 0.5, "7": 0.5},
        {"3": 0.25, "7": 0.75},
        "7",
    ]
    assert {spec.item for spec in ann} == {0}
    assert {spec.item for spec in made[1:10:2]} == {1}
    assert {spec.item for spec in made[10:]} == {2, 3}


def test_labels_and_seeds_are_interpolated_together():
    made = asked("digit=0:1", "speaker=ann:cy", seed="1:2", interpolate=3)
    assert [spec.seed for spec in made] == [SeedBlend(1, 2, f) for f in (0.0, 0.5, 1.0)]
    assert made[1].labels == {"digit": {"0": 0.5, "1": 0.5}, "speaker": {"ann": 0.5, "cy": 0.5}}


def test_commas_and_colons_in_values_need_a_backslash_or_a_known_value():
    times = LabelSet({"when": ("12:30", "13:00", "a,b", "all", "c")})

    def read(text: str):
        return read_labels([f"when={text}"], labels=times)["when"]

    assert read("12:30") == ("12:30",)
    assert read("a,b") == ("a,b",)
    assert read("all") == ("all",)
    assert read("12:30,13:00") == ("12:30", "13:00")
    assert read(r"a\,b,c") == ("a,b", "c")
    assert read(r"12\:30:c") == Interpolation("12:30", "c")
    assert read(r"12\:30:13\:00") == Interpolation("12:30", "13:00")
    assert read_labels(["when=x=y"], labels=LabelSet({"when": ("x=y",)})) == {"when": ("x=y",)}


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["digit=11"], "digit=11 is not known; it must be one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (["digit=1,11"], "digit=11 is not known"),
        (["digit=3:11"], "digit=11 is not known"),
        (["colour=red"], "the label 'colour' is not known; there are: digit, speaker"),
        (["digit"], "'digit' must be NAME=VALUE, for example --label digit=0"),
        (["digit="], "must be NAME=VALUE"),
        (["=7"], "must be NAME=VALUE"),
        ([""], "must be NAME=VALUE"),
        (["digit=1,,2"], "has an empty value"),
        (["digit=1,"], "has an empty value"),
        (["digit=1:"], "two different values"),
        (["digit=1:1"], "two different values"),
        (["digit=1,1"], "names a value twice; for more sounds of it give a greater --count"),
        (["digit=1", "digit=2"], "--label digit is given twice: give several values in one option, --label digit=A,B"),
        (["digit=0,3:7"], "an interpolation A:B cannot be combined"),
        (["digit=0,all"], "digit=all is not known"),
    ],
)
def test_labels_that_cannot_be_are_refused_with_those_that_can(texts: list[str], reason: str):
    with pytest.raises(ParameterError, match=re.escape(reason)):
        read_labels(texts, labels=KNOWN)


def test_a_model_without_labels_refuses_the_option_by_name():
    with pytest.raises(ParameterError, match="--label digit=7 has no meaning for this model"):
        read_labels(["digit=7"], labels=None)


def test_an_option_of_another_name_is_refused_by_that_name():
    for texts, labels in (
        (["digit=7"], None),
        (["digit"], KNOWN),
        (["digit=1", "digit=2"], KNOWN),
        (["digit=1,"], KNOWN),
    ):
        with pytest.raises(ParameterError, match=r"--source") as refused:
            read_labels(texts, labels=labels, option="--source")
        assert "--label" not in str(refused.value)


@pytest.mark.parametrize(
    ("texts", "options", "reason"),
    [
        (["digit=3:7"], {}, "3:7 is an interpolation and needs --interpolate"),
        ([], {"seed": "1:2"}, "1:2 is an interpolation and needs --interpolate"),
        (["digit=3"], {"interpolate": 5}, "--interpolate 5 needs two values"),
        (["digit=3:7"], {"interpolate": 1}, "--interpolate 1 must be at least 2"),
        (["digit=3"], {"count": 0}, "--count 0 must be at least 1"),
    ],
)
def test_an_interpolation_and_its_number_go_together(texts: list[str], options: dict, reason: str):
    with pytest.raises(ParameterError, match=reason):
        asked(*texts, **options)


@pytest.mark.parametrize("text", ["", "a", "1.5", "1:", ":", "1:2:3", "1:1", "--1", "1: :2"])
def test_text_that_is_no_seed_is_refused(text: str):
    with pytest.raises(ParameterError, match=f"--seed {re.escape(text)} must"):
        read_seed(text)


def test_a_seed_is_any_whole_number():
    assert [read_seed(text) for text in ("0", "-3", " 12 ", "+4")] == [0, -3, 12, 4]
    assert read_seed("-1:7") == Interpolation("-1", "7")


def test_names_hold_the_labels_and_sort_as_the_grid():
    names = [spec.name for spec in asked("digit=all", "speaker=all", count=11)]
    assert names[0] == "digit=0_speaker=ann_00"
    assert names[-1] == "digit=9_speaker=cy_10"
    assert names == sorted(names)
    steps = [spec.name for spec in asked("digit=3:7", seed="1:2", interpolate=101)]
    assert steps[25] == "digit=3-to-7_seed=1-to-2_at=0.25_0"
    assert steps == sorted(steps)


@pytest.mark.parametrize("interpolate", [2, 3, 101, 102, 1001, 1002])
def test_every_step_of_an_interpolation_has_its_own_name(interpolate: int):
    assert len({spec.name for spec in asked("digit=3:7", interpolate=interpolate)}) == interpolate


def test_names_are_safe_and_different_on_every_file_system():
    values = ('a/b\\c:d*e?f"g<h>i|j', "A-B-C-D-E-F-G-H-I-J", "..", "con", "CON", " ", "x" * 300, "日本" * 30)
    known = LabelSet({"odd/name": values})
    names = [spec.name for spec in asked("odd/name=all", labels=known)]
    assert len({name.casefold() for name in names}) == len(values)
    for name in names:
        assert not re.search(r'[/\\:*?"<>|\x00-\x1f]', name)
        assert not name.startswith(".")
        assert len(name.encode()) < 240


def test_names_that_would_be_too_long_are_numbers():
    known = LabelSet({f"label_number_{k}": ("日本語" * 8,) for k in range(5)})
    assert [spec.name for spec in asked(*(f"{name}=all" for name in known.names), labels=known, count=11)][:2] == [
        "generated_00",
        "generated_01",
    ]


def test_without_labels_names_are_numbers_through_all():
    assert [spec.name for spec in asked(count=2, labels=None)] == ["generated_0", "generated_1"]


def test_titles_hold_labels_seeds_and_numbers():
    assert asked("digit=3", "speaker=ann")[0].title == "digit=3 speaker=ann"
    assert asked("digit=3", count=2)[1].title == "digit=3 #1"
    assert asked(seed="1:2", interpolate=3)[1].title == "seed=1:2 at 0.50"
    assert asked(count=2)[1].title == "#1"
