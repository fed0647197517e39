"""A vocoder denoises a clip in a padded batch as it does the clip alone."""

import tiny
import torch

from audiodiff.models.examples import training_example

LENGTHS = (800, 2000, 1280)  # 10, 25 and 16 frames


def test_a_padded_clip_is_told_and_denoised_as_it_is_alone():
    model = tiny.synthesizer(["recipes=fsdd/vocoder", "data.root=embedded", *tiny._SMALL])
    generator = torch.Generator().manual_seed(0)
    n_valid = torch.tensor(LENGTHS)
    inside = (torch.arange(max(LENGTHS)) < n_valid[:, None])[:, None]
    audio, noise = (0.1 * torch.randn(3, 1, max(LENGTHS), generator=generator) * inside for _ in range(2))
    x0, condition = training_example(model, audio, n_valid=n_valid)
    sigma = torch.full((3,), 0.1)
    with torch.no_grad():
        together = model.denoiser(x0 + noise, sigma, condition).denoised
        for index, n in enumerate(LENGTHS):
            x0_alone, told = training_example(model, audio[index : index + 1, :, :n])
            alone = model.denoiser(x0_alone + noise[index : index + 1, :, :n], sigma[:1], told).denoised
            # The rounding of convolutions changes with the batch.
            assert torch.allclose(together[index, :, :n], alone[0], atol=1e-6)
            assert float(alone.std()) > 1e-3
