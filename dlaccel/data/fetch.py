"""Downloads from where the owners of the sets serve them, checked against known hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .outside import DataError, need, refuse


@dataclass(frozen=True)
class Remote:
    """Files of a set below one address, with their hashes."""

    address: str
    hashes: Mapping[str, str]
    """By file name, as ``algorithm:digits``."""


REMOTES = {
    "mnist": Remote(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": (
                "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1-ubyte.gz": (
                "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        },
    ),
    "fashion_mnist": Remote(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "cifar10": Remote(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
    ),
    "cifar100": Remote(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"},
    ),
    "omniglot": Remote(
        "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
        {
            "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
            "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
        },
    ),
    "tiny_imagenet": Remote(
        "http://cs231n.stanford.edu/",
        {"tiny-imagenet-200.zip": "md5:90528d7ca1a48142e341f4ef8d21d0de"},
    ),
}

SAME_FILES = {"omniglot_28": "omniglot"}


def fetch(name: str, folder: Path) -> list[Path]:
    """Downloads a set into ``folder/name``; a file that stands there with its hash is kept.

    Raises:
        DataError: when the set is served nowhere known, the address does not answer, or what it
            gives has another hash.
        ModuleNotFoundError: without pooch.
    """
    need("pooch", "pooch")
    import pooch

    name = SAME_FILES.get(name, name)
    if name not in REMOTES:
        refuse("name", f"be one of {', '.join([*REMOTES, *SAME_FILES])}", repr(name))
    pooch.get_logger().setLevel("WARNING")
    remote, files = REMOTES[name], []
    for file, known in remote.hashes.items():
        address, bar = remote.address + file, _Bar(file)
        download = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16)
        try:
            got = pooch.retrieve(address, known, file, folder / name, downloader=download)
        except ValueError:
            refuse(address, f"have the hash {known}", "another; nothing was kept")
        except OSError as error:
            raise DataError(
                f"dlaccel.data: {address} could not be fetched: {type(error).__name__}."
            ) from error
        finally:
            bar.close()
        files.append(Path(got))
    return files


class _Bar:
    """Bytes on a terminal, as pooch reports them; nothing where there is none."""

    def __init__(self, file: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self.progress = Progress(*columns, console=Console(stderr=True))
        self.task = self.progress.add_task(file, total=None)
        self.total, self.done = 0, 0

    def update(self, size: int) -> None:
        self.done = min(self.done + size, self.total)  # pooch counts whole chunks
        if self.progress.console.is_terminal:
            self.progress.start()
            self.progress.update(self.task, completed=self.done, total=self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        if self.progress.live.is_started:
            self.progress.stop()


def remedy(name: str, split: str, folder: Path | None) -> str:
    """How to get a split that is missing."""
    name = SAME_FILES.get(name, name)
    if split.startswith("small"):
        return f"images_background_{split}.zip of github.com/brendenlake/omniglot goes there"
    if name in REMOTES:
        return f"dlaccel data fetch {name} --folder {folder or 'DIR'}"
    return "served nowhere with a known hash; docs/data.md describes its file"
