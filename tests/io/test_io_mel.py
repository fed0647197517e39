"""Files of mels: what is written comes back, and what is not a mel is refused."""

import os
import re

import numpy as np
import pytest
import sounds
import torch

from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.errors import AudioFileError, MelError, ParameterError
from audiodiff.io.jobs import find_files
from audiodiff.io.mel import load_mel, save_mel
from audiodiff.io.readers import open_inputs

pytestmark = pytest.mark.numeric

SOUND = sounds.tones(12345, sample_rate=22050)[0]


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt"])
def test_a_saved_mel_comes_back_and_leaves_no_other_file(tmp_path, suffix):
    d = dialect("diffwave", sample_rate=16000, hop_length=200)
    mel = d.mel(SOUND)
    path = tmp_path / "new" / f"a{suffix}"
    save_mel(path, mel, d)
    loaded, stated = load_mel(path)
    torch.testing.assert_close(loaded, mel, rtol=0, atol=0)
    assert stated == (d if suffix == ".npz" else None)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_dialect_is_saved_and_loaded(tmp_path):
    for name in DIALECT_NAMES:
        d = dialect(name)
        save_mel(tmp_path / "a.npz", d.mel(SOUND), d)
        assert load_mel(tmp_path / "a.npz")[1] == d


def test_leading_ones_and_dictionaries_are_read(tmp_path):
    mel = dialect("hifigan").mel(SOUND)
    np.save(tmp_path / "a.npy", mel[None].numpy())
    torch.save({"mel": mel}, tmp_path / "b.pt")
    np.savez(tmp_path / "c.npz", mel=mel.numpy())
    for name in ("a.npy", "b.pt", "c.npz"):
        loaded, stated = load_mel(tmp_path / name)
        assert torch.equal(loaded, mel)
        assert stated is None


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:.*nested:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning", "ignore:TypedStorage:UserWarning")
@pytest.mark.parametrize(
    ("kind", "make", "remedy"),
    [
        ("sparse", torch.Tensor.to_sparse, "mel.to_dense()"),
        ("sparse", torch.Tensor.to_sparse_csr, "mel.to_dense()"),
        ("quantised", lambda mel: torch.quantize_per_tensor(mel, 0.1, 0, torch.qint8), "mel.dequantize()"),
        ("nested", lambda mel: torch.nested.nested_tensor([mel, mel]), "a file of its own"),
        ("nested", lambda mel: torch.nested.nested_tensor([mel.mT], layout=torch.jagged), "a file of its own"),
        ("meta", lambda mel: mel.to("meta"), "with values"),
    ],
    ids=["sparse", "sparse rows", "quantised", "nested", "jagged", "meta"],
)
def test_a_tensor_of_another_kind_is_refused_with_what_to_save(tmp_path, kind, make, remedy):
    mel = dialect("hifigan").mel(SOUND)
    for content in (make(mel), {"mel": make(mel)}):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(MelError, match=f"a.pt holds a {kind} tensor") as refused:
            load_mel(tmp_path / "a.pt")
        assert remedy in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.wav"])
def test_a_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for read in (lambda path: open_inputs([path]), find_files):
        with pytest.raises(AudioFileError, match="is a pipe or a device; write it to a file first"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_the_mel_of_several_arrays_is_taken_by_its_name(tmp_path, suffix):
    mel = dialect("hifigan").mel(SOUND)
    path = tmp_path / f"two{suffix}"
    if suffix == ".npz":
        np.savez(path, a=mel.numpy(), b=np.zeros(3))
    else:
        torch.save({"a": mel, "b": torch.zeros(3)}, path)
    assert torch.equal(load_mel(path, key="a")[0], mel)
    with pytest.raises(MelError, match=f"two{suffix} holds no array under the name 'mel', but a, b: .* --key a"):
        load_mel(path)
    with pytest.raises(MelError, match=r"shape \(3,\); give \(n_mels, frames\)"):
        load_mel(path, key="b")


def test_files_that_are_not_mels_are_refused_by_name(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    torch.save(re.compile("pickled"), tmp_path / "object.pt")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.pt").write_text("no tensor")
    for name in ("object.npy", "object.pt", "text.npy", "text.npz", "text.pt", "missing.npy", "missing.pt"):
        with pytest.raises(AudioFileError, match=name) as refused:
            load_mel(tmp_path / name)
        assert "allow_pickle" not in str(refused.value)
    np.save(tmp_path / "flat.npy", np.zeros(80))
    np.savez(tmp_path / "other.npz", spectrum=np.zeros((80, 3)))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    for name in ("flat.npy", "other.npz", "words.npy"):
        with pytest.raises(MelError, match=name):
            load_mel(tmp_path / name)
    with pytest.raises(ParameterError, match="must end in"):
        load_mel(tmp_path / "a.wav")


def test_a_mel_that_belies_its_stated_dialect_is_refused(tmp_path):
    d = dialect("hifigan")
    save_mel(tmp_path / "a.npz", d.mel(SOUND), d)
    with np.load(tmp_path / "a.npz") as content:
        np.savez(tmp_path / "b.npz", mel=content["mel"][:40], dialect=content["dialect"])
    with pytest.raises(MelError, match=r"b.npz is no mel of dialect hifigan: n_mels=40"):
        load_mel(tmp_path / "b.npz")
    with pytest.raises(MelError, match=r"x\.npy"):
        save_mel(tmp_path / "x.npy", d.mel(SOUND).T.contiguous(), d)
    assert not (tmp_path / "x.npy").exists()
