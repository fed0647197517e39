"""Models on the Hugging Face Hub: hf://owner/name, or hf://owner/name@revision, is a checkpoint folder of ours there.

Only the files of a checkpoint are downloaded, into the Hub's own cache, and nothing of them is executed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.requirements import require

PREFIX = "hf:"
FORM = "hf://owner/name or hf://owner/name@revision"
_ADDRESS = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_CARD_HEAD = "---\nlibrary_name: audiodiff\ntags:\n- audio\n---\n\n"


@dataclass(frozen=True)
class Address:
    """A model on the Hub.

    Args:
        repository: owner/name.
        revision: a branch, a tag or a commit; None is the main branch.
    """

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + ("" if self.revision is None else f"@{self.revision}")


def is_address(where: object) -> bool:
    """Return whether a name of a model begins as an address on the Hub."""
    return str(where).startswith(f"{PREFIX}/")


def address(where: object) -> Address:
    """Return the parts of an address.

    Raises:
        ParameterError: if it is none.

    Example:
        >>> address("hf://someone/voice@v2")
        Address(repository='someone/voice', revision='v2')
    """
    found = _ADDRESS.fullmatch(str(where))
    if found is None:
        raise ParameterError(f"model={str(where)!r} must be {FORM}")
    return Address(found.group(1), found.group(2))


def download(where: object, *, needed: tuple[str, ...], optional: tuple[str, ...]) -> Path:
    """Return the folder in the Hub's cache that holds the files of a model, all of one commit.

    Args:
        where: the address.
        needed: names of files; one of them missing is an error.
        optional: names of files that are taken where they are there.

    Raises:
        ParameterError: if it is no address.
        CheckpointError: if the model is not there, may not be read, or cannot be reached.
        PackageError: if huggingface_hub is not installed.
    """
    place = address(where)
    require("huggingface_hub")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    revision = place.revision
    folder = Path()
    for name in (*needed, *optional):
        with _explained(place, doing="downloaded"):
            try:
                folder = Path(hf_hub_download(place.repository, name, revision=revision)).parent
            except LocalEntryNotFoundError:
                if name in needed:
                    raise
            except EntryNotFoundError as error:
                if name in needed:
                    raise CheckpointError(
                        f"model={str(place)!r} holds no {name}: it is no model of audiodiff"
                    ) from error
        # A branch may move between two files.
        revision = folder.name
    return folder


def upload(folder: Path, where: object, *, names: list[str], card: str, private: bool, message: str) -> str:
    """Upload the files of a checkpoint as one commit, and return the commit's URL.

    Args:
        folder: the checkpoint.
        where: the address; its revision is a branch that exists.
        names: of the files.
        card: name of the model card among them, which gets the head that the Hub reads.
        private: of a repository that does not exist yet.
        message: of the commit.

    Raises:
        ParameterError: if it is no address.
        CheckpointError: if the Hub refuses it, or cannot be reached.
        PackageError: if huggingface_hub is not installed.
    """
    place = address(where)
    require("huggingface_hub")
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = []
    for name in names:
        content: bytes | str = str(folder / name)
        if name == card:
            text = (folder / name).read_text(encoding="utf-8")
            content = (text if text.startswith("---\n") else _CARD_HEAD + text).encode()
        operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content))
    with _explained(place, doing="uploaded"):
        api = HfApi()
        api.create_repo(place.repository, private=private, exist_ok=True)
        done = api.create_commit(place.repository, operations, commit_message=message, revision=place.revision)
    return str(done.commit_url)


@contextmanager
def _explained(place: Address, *, doing: str) -> Iterator[None]:
    """Raise errors of the Hub's client as ours, with the remedy."""
    from huggingface_hub import errors

    try:
        yield
    except CheckpointError:
        raise
    except errors.GatedRepoError as error:
        reason = "its owner has to grant access: ask for it on the model's page, and log in with hf auth login"
        raise CheckpointError(f"model={str(place)!r} cannot be {doing}: {reason}") from error
    except errors.RepositoryNotFoundError as error:
        reason = "there is none of this name, or it may not be read: check the name, or log in with hf auth login"
        raise CheckpointError(f"model={str(place)!r} cannot be {doing}: {reason}") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"model={str(place)!r} has no revision {place.revision!r}: check its name") from error
    except errors.LocalEntryNotFoundError as error:
        reason = "it is not in the cache, and the Hub cannot be reached or HF_HUB_OFFLINE is set"
        raise CheckpointError(f"model={str(place)!r} cannot be {doing}: {reason}") from error
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"model={str(place)!r} cannot be {doing}: {first}") from error
