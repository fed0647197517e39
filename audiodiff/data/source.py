"""Sources of recordings other than files: a class of your own that lists and reads them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from audiodiff.data.manifest import Entry
from audiodiff.io import audio as audio_io

Read = Callable[..., Tensor]
"""(entry, *, start, n_samples) -> samples of a recording, counted from its beginning, at its own rate."""


class AudioSource(ABC):
    """Base class of sources: archives, data bases, sounds that are computed.

    Training draws crops from a source, resamples, balances and divides into batches as it does with files. It is named
    in the configuration, as in `data=source data.source._target_=my_module.MySource`, and built with the other keys of
    the node. Processes that read ahead have copies of it: open files in `read`, not in the constructor.
    """

    @abstractmethod
    def entries(self) -> Sequence[Entry]:
        """List the recordings, always in the same order.

        Each has a `path`, which is any name here, `n_samples`, `sample_rate` (Hz), `n_channels`, the split "train" or
        "val", and any labels.
        """

    @abstractmethod
    def read(self, entry: Entry, *, start: int, n_samples: int) -> Float[Tensor, "channels samples"]:
        """Return samples start to start + n_samples of a recording, in [-1, 1], at its own rate.

        The same arguments must always give the same samples, for a resume to be exact.
        """


def read_file(entry: Entry, *, start: int, n_samples: int) -> Float[Tensor, "channels samples"]:
    """Read samples of a recording from its file."""
    return audio_io.read(entry.path, start=entry.first_sample + start, n_samples=n_samples)[0]
