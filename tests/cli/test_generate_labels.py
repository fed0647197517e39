"""`generate-wav --label`: files, manifest, contact sheet, and refusals before anything is generated."""

import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path

import commands
import pytest
import sounds
import tiny
import torch

import audiodiff
from audiodiff.cli.generate import generate_command
from audiodiff.data.manifest import read_manifest
from audiodiff.diffusion.noise import SeedBlend
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.config import compose, plain

pytestmark = pytest.mark.usefixtures("empty_working_directory")

DIGITS, SPEAKERS = ("0", "1", "2", "3"), ("ann", "bob")
LABELLED = [
    "recipes=fsdd/waveform",
    "conditioner.vocabularies={digit: ['0', '1', '2', '3'], speaker: [ann, bob]}",
    f"network.vector_features={len(DIGITS) + len(SPEAKERS)}",
    "network.channels=8",
    "network.n_layers=2",
    "network.dilation_cycle=2",
    "network.step_features=8",
    "sampler.n_steps=2",
]
SECONDS = {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.4}
"""The speaker bob is half as long again."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of two labels that knows how long sounds of them are."""
    made = tiny.synthesizer(LABELLED)
    assert isinstance(made.conditioner, LabelConditioner)
    rows = [(d, s) for d in range(4) for s in range(2) for _ in range(1000)]
    seconds = torch.tensor([SECONDS[DIGITS[d]] * (1.5 if s else 1.0) for d, s in rows])
    made.conditioner.fit_durations(seconds, torch.tensor(rows), longest=1.0)
    folder = tmp_path_factory.mktemp("models") / "labelled"
    checkpoint.save(
        folder,
        model=plain(compose(LABELLED))["model"],
        sample_rate=made.sample_rate,
        mel_dialect=made.dialect,
        weights=made.state_dict(),
        metrics={},
        card="",
    )
    return folder


_, made, refusal = commands.of(generate_command)


def rows(folder: str) -> list[dict[str, str]]:
    with Path(folder, "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wavs(folder: str) -> list[torch.Tensor]:
    return [audio_io.read(path)[0] for path in sorted(Path(folder).glob("*.wav"))]


def loaded(model: Path) -> Synthesizer:
    synthesizer = audiodiff.load(model)
    assert isinstance(synthesizer, Synthesizer)
    return synthesizer


def test_one_label_is_one_file_and_nothing_beside_it(model: Path):
    assert "wrote seven.wav" in made("--model", model, "--label", "digit=2", "-o", "seven.wav")
    assert "digit=2_0.wav" in made("--model", model, "--label", "digit=2", "-o", "out")
    assert [path.name for path in Path("out").iterdir()] == ["digit=2_0.wav"]


def test_a_grid_is_the_sounds_of_the_labels(model: Path):
    """Each file is what the model makes of the labels in its row of the manifest, with the noise of its place."""
    made("--model", model, "--label", "digit=3,1", "--label", "speaker=all", "-n", 2, "-o", "grid", "--float")
    synthesizer = loaded(model)
    table = rows("grid")
    assert [(row["digit"], row["speaker"]) for row in table] == [
        (digit, speaker) for digit in "31" for speaker in SPEAKERS for _ in range(2)
    ]
    assert [row["path"] for row in table][:3] == [
        "digit=3_speaker=ann_0.wav",
        "digit=3_speaker=ann_1.wav",
        "digit=3_speaker=bob_0.wav",
    ]
    for place, row in enumerate(table):
        audio, rate = audio_io.read(Path("grid", row["path"]))
        labels = {"digit": row["digit"], "speaker": row["speaker"]}
        expected = synthesizer.generate(labels=labels, items=[64 * place], seed=0)
        assert rate == synthesizer.sample_rate
        assert torch.equal(audio, expected[0])
        assert float(row["seconds"]) == pytest.approx(audio.shape[-1] / rate, abs=1e-6)
        assert row["seed"] == "0"


def test_the_duration_is_that_of_the_label_unless_seconds_are_given(model: Path):
    made("--model", model, "--label", "digit=all", "--label", "speaker=all", "-o", "drawn")
    hop = loaded(model).representation.hop_length
    for row in rows("drawn"):
        expected = SECONDS[row["digit"]] * (1.5 if row["speaker"] == "bob" else 1.0)
        # The durations are made without a remainder; the ridge of their fit and the hop leave a little.
        assert float(row["seconds"]) == pytest.approx(expected, rel=0.01, abs=hop / 8000)
    made("--model", model, "--label", "digit=0,3", "--seconds", 0.25, "-o", "asked")
    assert {row["seconds"] for row in rows("asked")} == {"0.250000"}


def test_sounds_of_unequal_length_are_the_same_in_any_batch(model: Path):
    what = ("--model", model, "--label", "digit=all", "--float", "--no-sheet")
    made(*what, "-o", "one")
    made(*what, "-o", "four", "--batch-size", 4)
    for one, four in zip(wavs("one"), wavs("four"), strict=True):
        assert torch.equal(one, four)


def test_interpolation_of_labels_keeps_the_noise_and_ends_at_the_labels(model: Path):
    what = ("--model", model, "--seconds", 0.1, "--float", "--no-sheet", "--seed", 5)
    made(*what, "--label", "digit=0:3", "--interpolate", 3, "-o", "way")
    made(*what, "--label", "digit=0", "-o", "first.wav")
    made(*what, "--label", "digit=3", "-o", "last.wav")
    first, middle, last = wavs("way")
    assert torch.equal(first, audio_io.read("first.wav")[0])
    assert torch.equal(last, audio_io.read("last.wav")[0])
    mixed = loaded(model).generate(labels={"digit": {"0": 0.5, "3": 0.5}}, seconds=0.1, seed=5)
    assert torch.equal(middle, mixed[0])
    assert [row["digit"] for row in rows("way")] == ["0", "", "3"]


def test_interpolation_of_seeds_ends_at_their_sounds(model: Path):
    what = ("--model", model, "--seconds", 0.1, "--float", "--no-sheet", "--label", "digit=1", "-n", 2)
    made(*what, "--seed", "1:2", "--interpolate", 3, "-o", "way")
    made(*what, "--seed", 1, "-o", "one")
    made(*what, "--seed", 2, "-o", "two")
    way, one, two = wavs("way"), wavs("one"), wavs("two")
    for k in range(2):
        assert torch.equal(way[k], one[k])
        assert torch.equal(way[4 + k], two[k])
    middle = loaded(model).generate(labels={"digit": "1"}, seconds=0.1, seed=SeedBlend(1, 2, 0.5), items=[64])
    assert torch.equal(way[3], middle[0])
    assert [row["seed"] for row in rows("way")][::2] == ["1:2 at 0", "1:2 at 0.5", "1:2 at 1"]


def test_guidance_by_labels_needs_no_guide(model: Path):
    what = ("--model", model, "--label", "digit=1", "--seconds", 0.1, "--float")
    made(*what, "-o", "plain.wav")
    made(*what, "--guidance", 1, "-o", "one.wav")
    made(*what, "--guidance", 3, "-o", "three.wav")
    plain, one, three = (audio_io.read(f"{name}.wav")[0] for name in ("plain", "one", "three"))
    assert torch.equal(plain, one)
    assert float((three - plain).abs().max()) > 1e-5


def test_the_manifest_is_one_of_data(model: Path):
    made("--model", model, "--label", "digit=0,1", "-o", "out")
    entries = read_manifest(Path("out/manifest.csv"))
    assert [entry.value("digit") for entry in entries] == ["0", "1"]
    assert [entry.value("speaker") for entry in entries] == ["", ""]
    for entry in entries:
        assert entry.seconds == pytest.approx(audio_io.info(entry.path).seconds, abs=1e-6)


def test_the_contact_sheet_lies_beside_several_and_can_be_left_out(model: Path, unconditional: Path):
    said = made("--model", model, "--label", "digit=0,1", "-o", "out")
    assert "manifest.csv and contact_sheet.png" in said
    assert Path("out/contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "contact_sheet" not in made("--model", model, "--label", "digit=0,1", "-o", "bare", "--no-sheet")
    assert {path.name for path in Path("bare").iterdir()} == {"digit=0_0.wav", "digit=1_0.wav", "manifest.csv"}
    made("--model", unconditional, "-n", 2, "--seconds", 0.05, "-o", "nothing")
    assert Path("nothing/contact_sheet.png").is_file()
    assert [set(row) for row in rows("nothing")] == [{"path", "seconds", "seed"}] * 2


@pytest.mark.parametrize("name", ["manifest.csv", "contact_sheet.png"])
def test_an_overview_that_exists_keeps_all_from_being_computed(name: str, model: Path):
    what: Sequence[str | Path] = ("--model", model, "--label", "digit=0,1", "-o", "out")
    Path("out").mkdir()
    Path("out", name).write_text("precious")
    assert f"out/{name} exists: give --force" in refusal(*what)
    assert [path.name for path in Path("out").iterdir()] == [name]
    assert Path("out", name).read_text() == "precious"
    made(*what, "--force")
    assert Path("out", name).read_bytes() != b"precious"


def test_a_failure_in_the_middle_leaves_no_overview(model: Path, monkeypatch: pytest.MonkeyPatch):
    what: Sequence[str | Path] = ("--model", model, "--label", "digit=0,1", "-o", "out", "--force")
    made(*what)
    before = Path("out/digit=0_0.wav").read_bytes()
    generate = Synthesizer.generate_chunks

    def fail_for_one(self: Synthesizer, *arguments, **options):
        if options["labels"] == [{"digit": "1"}]:
            raise audiodiff.errors.ParameterError("no more")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(Synthesizer, "generate_chunks", fail_for_one)
    assert "no more" in refusal(*what)
    assert {path.name for path in Path("out").iterdir()} == {"digit=0_0.wav", "digit=1_0.wav"}
    assert Path("out/digit=0_0.wav").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--label", "digit=9"), "digit=9 is not known; it must be one of: 0, 1, 2, 3"),
        (("--label", "colour=red"), "the label 'colour' is not known; there are: digit, speaker"),
        (("--label", "digit=0:3"), "0:3 is an interpolation and needs --interpolate"),
        (("--label", "digit=0", "--interpolate", "3"), "--interpolate 3 needs two values"),
        (("--seed", "1:2"), "1:2 is an interpolation and needs --interpolate"),
        (("--seed", "one"), "--seed one must be a whole number"),
        (("--label", "digit=0", "-n", "0"), "--count 0 must be at least 1"),
        (("--label", "digit=0,1", "-o", "made/one.wav"), "made/one.wav is one file, and 2 results"),
        (("--label", "digit=0", "--seconds", "0"), "at least one sample"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_made(options: tuple[str, ...], reason: str, model: Path):
    assert reason in refusal("--model", model, "-o", "made", *options)
    assert not Path("made").exists()


def test_models_without_labels_refuse_them_by_name(unconditional: Path, vocoder: Path):
    for where in (unconditional, vocoder, "none"):
        assert "--label digit=7 has no meaning" in refusal("--model", where, "--label", "digit=7")


@pytest.mark.parametrize(
    "options", [("--label", "digit=7"), ("--interpolate", "3"), ("--seed", "1:2"), ("-n", "2"), ("--no-sheet",)]
)
def test_options_without_an_input_have_no_meaning_with_one(options: tuple[str, ...]):
    assert "no meaning with an input" in refusal(sounds.write(Path("in.wav"), 900), "-o", "out.wav", *options)
    assert not Path("out.wav").exists()


def test_a_thousand_sounds_are_planned_at_once(model: Path):
    """That an output exists is found out last of the plan; loading the model is most of the time."""
    Path("out").mkdir()
    Path("out/manifest.csv").touch()
    what: Sequence[str | Path | float] = ("--model", model, "--label", "digit=all", "-n", 250, "-o", "out")
    refusal(*what)
    begin = time.process_time()
    assert "manifest.csv exists" in refusal(*what)
    assert time.process_time() - begin < 5.0


def test_the_contact_sheet_has_titles_and_a_note(model: Path, monkeypatch: pytest.MonkeyPatch):
    seen = {}

    def look(panels, **options) -> bytes:
        seen.update(titles=[panel.title for panel in panels], **options)
        return b"PNG"

    monkeypatch.setattr("audiodiff.tasks.generation.overview.contact_sheet", look)
    made("--model", model, "--label", "digit=all", "-n", 20, "-o", "out", "--seconds", 0.02)
    assert seen["note"] == "64 of 80 sounds"
    assert seen["titles"][:2] == ["digit=0 #0", "digit=0 #1"]
    assert len(seen["titles"]) == math.prod((4, 16))
