"""Make the embedded speech set of audiodiff/data/speech with espeak-ng, or check that it can be made again.

    python scripts/make_speech.py            # writes audiodiff/data/speech
    python scripts/make_speech.py --check    # compares the shipped set with one made now, sample by sample

The same version of espeak-ng gives the same recordings bit for bit (seen on x86-64 Linux). FLAC files may differ in
their bytes from one libFLAC to the next, so the check compares samples; SHA256SUMS is for the files as shipped.
"""

import argparse
import csv
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

ESPEAK_VERSION = "1.51"
SAMPLE_RATE = 22050
PEAK = 10 ** (-3 / 20)
LICENCE = "CC0-1.0"
# Leading and trailing silence ends 50 ms before the first and after the last sample above 1 % of the peak.
MARGIN_SAMPLES = round(0.05 * SAMPLE_RATE)
EDGE_RATIO = 0.01
# espeak-ng's pauses are digital zeros, which no recording has and whose logarithm is -inf. Triangular noise within +-4
# steps of 16 bits, -84 dBFS, lies under everything; it comes from SHAKE-256 of the file name, not a random generator.
FLOOR_STEPS = 4
MANIFEST_COLUMNS = ("path", "split", "speaker", "text", "seconds", "sample_rate", "licence")
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "audiodiff" / "data" / "speech"


@dataclass(frozen=True)
class Voice:
    """Name a speaker and say how espeak-ng speaks as them: voice, words per minute, pitch from 0 to 99."""

    speaker: str
    voice: str
    speed: int
    pitch: int


@dataclass(frozen=True)
class Utterance:
    """Hold one sentence of one speaker."""

    split: str
    voice: Voice
    text: str
    path: str


VOICES = (
    Voice("us_f", "en-us+f2", speed=172, pitch=50),
    Voice("us_m", "en-us+m3", speed=166, pitch=46),
    Voice("gb_f", "en+f3", speed=178, pitch=54),
    Voice("scot_m", "en-gb-scotland+m2", speed=170, pitch=40),
    Voice("rp_f", "en-gb-x-rp+f1", speed=174, pitch=44),
    Voice("nyc_m", "en-us-nyc+m6", speed=168, pitch=52),
)

# Sentences are spoken once each, by the voices in turn. No sentence stands in two splits.
SENTENCES = {
    "train": (
        "The kettle began to hum before anyone was awake.",
        "Each Thursday the baker ships three boxes of ginger bread.",
        "A measured breath is worth more than a hurried answer.",
        "Our neighbour paints boats in unusual shades of azure.",
        "Why would a fox follow the same path every evening?",
        "Put the heavy books on the bottom shelf, please.",
        "Rain drummed on the tin roof until well past four.",
        "She joined the choir although she could not read music.",
        "Thick clouds gathered over the valley by noon.",
        "The judge chose a plain chair near the window.",
        "Few visitors notice the vision carved above the door.",
        "Nothing moved on the lake except a pair of geese.",
        "Hold the rope tightly and lean away from the wall.",
        "Two young cousins argued about the rules of chess.",
        "The orchard smelled of pears, smoke and wet leather.",
        "Is the museum open on the first day of May?",
        "He whistled a cheerful tune while fixing the wheel.",
        "Our train leaves at eight, so pack your coat tonight.",
        "Dozens of bees vanished into the purple thistle.",
        "The surgeon washed her hands and asked for silence.",
        "Five old coins lay under a layer of fine yellow dust.",
        "I would rather walk than wait for another bus.",
        "Brave sailors rarely boast about rough weather.",
        "That machine grinds coffee louder than a lorry.",
        "Although the bridge was narrow, nobody turned back.",
        "Fresh snow had covered the garage and the garden gate.",
        "You may borrow my umbrella if you bring it back.",
        "The painter mixed green and brown with a wooden spoon.",
        "Nine small owls blinked at the beam of our torch.",
        "Their voyage to the northern islands took a month.",
        "What a huge amount of noise from such a tiny engine!",
        "Keep the leather gloves, but throw the ruined boots away.",
        "The poor clown lost his trousers halfway through the show.",
        "Early in March the river rises and floods the meadow.",
        "Her brother usually works as a guide in the mountains.",
        "A sharp knife is safer than a dull one, cooks say.",
        "The puzzle has one thousand pieces and no picture.",
        "Did you hear thunder, or was that the cellar door?",
        "Most of the audience laughed, then slowly grew quiet.",
        "We shall need oil, vinegar, pepper and seven eggs.",
        "The twins share a birthday but hardly anything else.",
        "Give the dog some water before you feed the horses.",
        "A yellow beach ball bounced across the empty square.",
        "The lawyer spoke calmly and never raised his voice.",
        "My uncle keeps strange clocks that tick out of step.",
        "Choose a colour that will not fade in bright sunshine.",
        "The tower shook, yet the old bell did not ring.",
        "Every child in the village knew the way to the forge.",
        "Pure chance led the hikers to a hidden waterfall.",
        "The nurse gave me a smooth round pill and some juice.",
        "Bring both maps, since the new one has no footpaths.",
        "The queen of clubs was missing from the whole pack.",
        "They built a cheap raft out of barrels and planks.",
        "Warm bread and salted butter make a fine breakfast.",
        "The thin ice cracked with a sound like breaking glass.",
        "How often should a lazy gardener water these ferns?",
        "Louise found a pigeon asleep in the broken chimney.",
        "The final page of the diary had been torn out.",
        "Good shoes matter more than good weather on this trail.",
        "Then the music stopped, and somebody opened a window.",
    ),
    "val": (
        "The beekeeper gave us a jar of dark heather honey.",
        "Could you turn the radio down while I telephone?",
        "Three grey wolves crossed the frozen marsh at dusk.",
        "A good joke needs patience, rhythm and a short ending.",
        "The watchmaker's shop is just beyond the fish market.",
        "Sunlight poured through the cracks in the barn wall.",
    ),
    "test": (
        "The quiet harbour woke when the ferry blew its horn.",
        "Please leave the parcel with the woman at number six.",
        "Our teacher drew a perfect circle without looking.",
        "Half of the treasure was shared among the younger thieves.",
        "Beyond the hedge a fiddle played, joyful and out of tune.",
        "Who put so much pepper in this vegetable soup?",
    ),
}


def main() -> int:
    """Make the set or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder of the set (default: the shipped one)")
    parser.add_argument("--check", action="store_true", help="write nothing; compare the set there with one made now")
    arguments = parser.parse_args()

    problem = espeak_problem()
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return check(arguments.out) if arguments.check else make(arguments.out)


def espeak_problem() -> str:
    """Say what is wrong with the installed espeak-ng, or nothing."""
    if shutil.which("espeak-ng") is None:
        return (
            f"espeak-ng is not installed. Install version {ESPEAK_VERSION}: apt install espeak-ng, "
            "dnf install espeak-ng, brew install espeak-ng, or https://github.com/espeak-ng/espeak-ng/releases"
        )
    said = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    if f" {ESPEAK_VERSION} " not in said:
        return f"The set is made by espeak-ng {ESPEAK_VERSION}; other versions speak differently. Here: {said.strip()}"
    return ""


def utterances() -> list[Utterance]:
    """List all sentences with their speakers and file names."""
    listed = []
    for split, sentences in SENTENCES.items():
        for index, text in enumerate(sentences):
            voice = VOICES[index % len(VOICES)]
            listed.append(Utterance(split, voice, text, path=f"{split}/{voice.speaker}_{index:02d}.flac"))
    return listed


def speak(utterance: Utterance) -> np.ndarray:
    """Synthesise one sentence: int16 samples, trimmed, at -3 dBFS over a noise floor."""
    voice = utterance.voice
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-v", voice.voice, "-s", str(voice.speed), "-p", str(voice.pitch), "-w", str(wav)]
        subprocess.run([*command, utterance.text], check=True)
        raw, sample_rate = soundfile.read(wav, dtype="int16")
    assert sample_rate == SAMPLE_RATE
    assert raw.ndim == 1
    samples = raw.astype(np.int64)

    loud = np.flatnonzero(np.abs(samples) > EDGE_RATIO * np.abs(samples).max())
    samples = np.pad(samples, MARGIN_SAMPLES)[loud[0] : loud[-1] + 1 + 2 * MARGIN_SAMPLES]

    full_scale = 2**15
    scaled = np.rint(samples * ((PEAK * full_scale - FLOOR_STEPS) / np.abs(samples).max())).astype(np.int64)
    drawn = np.frombuffer(hashlib.shake_256(utterance.path.encode()).digest(2 * len(scaled)), dtype=np.uint8)
    uniform = drawn.astype(np.int64).reshape(2, -1) % (FLOOR_STEPS + 1)
    return (scaled + uniform[0] - uniform[1]).astype(np.int16)


def manifest_text(made: list[tuple[Utterance, int]]) -> str:
    """Format the manifest of utterances and their numbers of samples."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST_COLUMNS)
    for utterance, n_samples in made:
        seconds = f"{n_samples / SAMPLE_RATE:.6f}"
        speaker = utterance.voice.speaker
        writer.writerow([utterance.path, utterance.split, speaker, utterance.text, seconds, SAMPLE_RATE, LICENCE])
    return text.getvalue()


def make(folder: Path) -> int:
    """Write the recordings, the manifest and the check sums."""
    made, sums = [], []
    for utterance in utterances():
        samples = speak(utterance)
        path = folder / utterance.path
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16", format="FLAC", compression_level=1.0)
        made.append((utterance, len(samples)))
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {utterance.path}\n")
    (folder / "manifest.csv").write_text(manifest_text(made), encoding="utf-8")
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")

    seconds = sum(n_samples for _, n_samples in made) / SAMPLE_RATE
    size = sum((folder / utterance.path).stat().st_size for utterance, _ in made)
    print(f"{folder}: {len(made)} utterances of {len(VOICES)} voices, {seconds:.1f} s, {size / 1e6:.2f} MB")
    return 0


def check(folder: Path) -> int:
    """Compare the set in a folder with one made now; 0 where they agree."""
    made, different = [], []
    for utterance in utterances():
        samples = speak(utterance)
        made.append((utterance, len(samples)))
        path = folder / utterance.path
        if not path.is_file() or not np.array_equal(soundfile.read(path, dtype="int16")[0], samples):
            different.append(utterance.path)
    manifest = folder / "manifest.csv"
    if not manifest.is_file() or manifest.read_text(encoding="utf-8") != manifest_text(made):
        different.append(manifest.name)
    if different:
        print(
            f"{folder}: {len(different)} of {len(made) + 1} files differ: {', '.join(different[:10])}", file=sys.stderr
        )
        return 1
    print(f"{folder}: all {len(made)} utterances and the manifest are reproduced")
    return 0


if __name__ == "__main__":
    sys.exit(main())
