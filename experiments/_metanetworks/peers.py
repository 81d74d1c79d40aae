"""Rows of published networks in our tables: their own code, trained on the very networks of our rows.

The code is imported from a folder with checkouts of the repositories under their own names (`nfn`,
`DWSNets`, `neural-graphs`, `scalegmn`) by an interpreter that has torch, einops, torch_geometric,
hydra-core, random-fourier-features-pytorch, torchvision, scipy and pyyaml. Both sides get the same
networks, split, number of steps, batch and optimiser; validation chooses the step (and the learning
rate, where there are several), the test networks are measured once. How each repository prepares weights
and what its configs set is said in `experiments/_peers`.

    peers = Peers(Path("checkouts"), "torch/bin/python")
    one = peers.trainer(spec, parts, classification(goal), training)
    rows |= run_peers(peer_rows("classification"), 1, one, folder / "rows.jsonl", about=about)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs._metanetworks import Training
from experiments._metanetworks.chain import from_chain, to_chain
from experiments._metanetworks.learn import Part
from experiments._metanetworks.questions import Question
from experiments._metanetworks.table import run_rows
from wsljax.symmetry import Spec

SCRIPT = Path(__file__).with_name("_peers_torch.py")
PARTS = ("training", "validation", "test")
REPOSITORIES = {
    "nfn": "nfn",
    "dws": "DWSNets",
    "neural-graphs": "neural-graphs",
    "scalegmn": "scalegmn",
}
NAMES = {
    "nfn stat": "StatNet",
    "nfn np": "NFN-NP",
    "nfn hnp": "NFN-HNP",
    "nfn nft": "NFT",
    "dws dws": "DWS",
    "neural-graphs graph": "neural graph",
    "neural-graphs transformer": "neural graph transformer",
    "scalegmn forward": "ScaleGMN",
    "scalegmn both": "ScaleGMN-B",
}
CANNOT = {
    "classification": ("nfn stat",),
    "regression": ("dws dws",),
    "editing": ("nfn stat", "nfn nft"),
}
"""What the repositories have no code for."""
RATES = ("study", "own")
"""Learning rates of rows of published networks: that of our rows, or that of each repository."""


@dataclass(frozen=True)
class Peer:
    """One row: a published network."""

    peer: str
    """One of `NAMES`: repository and network."""
    channels: int | None = 16
    """Width of its features; None for what its repository has."""
    layers: int | None = 3
    """Its layers, likewise."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Set in the config of the model, by dotted names."""
    rates: tuple[float | str, ...] = ()
    """Learning rates to choose from by validation, "own" for that of the repository; none: the study's."""
    noise: float = 0.0
    """Relative noise on the weights in training."""
    augment: bool = False
    """The repository's own random changes of networks in training."""


class Unavailable(Exception):
    """A repository has no code for what is asked."""


class Peers(NamedTuple):
    """Where published code is, and what runs it.

    Attributes:
        folder: with the checkouts.
        python: an interpreter that has torch.
        threads: of torch; 0 for its default.
        script: what that interpreter runs.
    """

    folder: Path
    python: str
    threads: int = 0
    script: Path = SCRIPT

    def trainer(
        self,
        spec: Spec,
        parts: tuple[Part, Part, Part],
        question: Question,
        training: Training,
        *,
        tanh: Sequence[np.ndarray] | None = None,
        keep: Callable[[Peer, int, Any], None] | None = None,
        quiet: bool = True,
    ) -> Callable[[Peer, int], dict[str, Any]]:
        """What `table.run_rows` takes: trains a published network with a seed.

        Args:
            spec: of the networks, which are plain chains of layers.
            parts: training, validation and test networks, as our rows have them.
            question: what is asked.
            training: the recipe of our rows.
            tanh: for each part, which networks are odd (tanh) and not ReLU: `(networks,)` booleans.
            keep: called with the peer, the seed and the answers to the test networks.
            quiet: nothing is printed.

        Raises:
            ValueError: the networks are no plain chain, or do not draw what the question says.
        """
        arrays = export(spec, parts, question, tanh)

        def one(peer: Peer, seed: int) -> dict[str, Any]:
            self.check(peer)
            with tempfile.TemporaryDirectory() as folder:
                data, answers = Path(folder) / "data.npz", Path(folder) / "answers.npz"
                np.savez(data, **arrays)
                what = self.request(peer, question, training, seed, data, answers)
                found = self._run(what, None if quiet else f"{NAMES[peer.peer]} seed {seed}")
                with np.load(answers) as given:
                    leaves = [given[f"arr_{i}"] for i in range(len(given.files))]
            if question.kind == "editing":
                half, test = len(leaves) // 2, parts[2]
                answer = from_chain(spec, leaves[:half], leaves[half:], like=test.params)
            else:
                answer = leaves[0]
            if keep is not None:
                keep(peer, seed, answer)
            return {"scores": question.score(answer, np.asarray(parts[2].targets)), **found}

        return one

    def request(
        self,
        peer: Peer,
        question: Question,
        training: Training,
        seed: int,
        data: Path,
        answers: Path,
    ) -> dict[str, Any]:
        """What the other interpreter is told."""
        return dataclasses.asdict(peer) | {
            "peers": str(self.folder.resolve()), "kind": question.kind, "out": question.out,
            "drawing": None if question.drawing is None else question.drawing.told(),
            "training": dataclasses.asdict(training), "seed": seed, "threads": self.threads,
            "data": str(data), "answers": str(answers),
        }  # fmt: skip

    def check(self, peer: Peer) -> None:
        """Look whether the code is there.

        Raises:
            ValueError: a peer that is none of `NAMES`.
            FileNotFoundError: names the checkout that is not there.
        """
        if peer.peer not in NAMES:
            raise ValueError(f"peer {peer.peer!r}: there are {', '.join(NAMES)}.")
        repository = REPOSITORIES[peer.peer.split()[0]]
        if not (self.folder / repository).is_dir():
            raise FileNotFoundError(
                f"{NAMES[peer.peer]} is imported from a checkout of `{repository}`, and there is none "
                f"in {self.folder}: clone it there, or leave out --peers."
            )

    def _run(self, what: dict[str, Any], label: str | None) -> dict[str, Any]:
        with tempfile.TemporaryFile("w+") as errors:
            try:
                process = subprocess.Popen(
                    [self.python, "-P", str(self.script)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                )  # fmt: skip
            except OSError as e:
                raise FileNotFoundError(f"--torch-python {self.python}: {e}") from None
            with process:
                assert process.stdin is not None and process.stdout is not None
                try:
                    process.stdin.write(json.dumps(what) + "\n")
                    process.stdin.close()
                except BrokenPipeError:
                    pass  # it says why on its way out
                answer: dict[str, Any] = {}
                try:
                    for line in process.stdout:
                        answer = json.loads(line)
                        if label is not None and "step" in answer:
                            told = ", ".join(f"{k} {v:.4g}" for k, v in answer.items())
                            print(f"{label}: {told}", file=sys.stderr, flush=True)
                except BaseException:
                    process.kill()
                    raise
            errors.seek(0)
            said = errors.read().strip().splitlines()
        if "skipped" in answer:
            raise Unavailable(answer["skipped"])
        if "done" not in answer:
            why = said[-1] if said else f"it ended with {process.returncode}"
            raise RuntimeError(
                f"{NAMES[what['peer']]} could not be trained: {why}\nThe interpreter was {self.python} "
                "(--torch-python); it needs torch and what the repository imports. Its last words:\n"
                + "\n".join(said[-12:])
            )
        return answer["done"]


def export(
    spec: Spec,
    parts: tuple[Part, Part, Part],
    question: Question,
    tanh: Sequence[np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """All that the other interpreter reads.

    Returns:
        For each part `<part>/weights/<layer>` `(networks, in, out, *kernel)`, `<part>/biases/<layer>`
        `(networks, out)`, `<part>/targets`, and `<part>/tanh` where it is known; `points` of a drawing.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, (name, part) in enumerate(zip(PARTS, parts, strict=True)):
        weights, biases = to_chain(spec, part.params)
        arrays |= {f"{name}/weights/{i}": np.ascontiguousarray(w) for i, w in enumerate(weights)}
        arrays |= {f"{name}/biases/{i}": b for i, b in enumerate(biases)}
        arrays[f"{name}/targets"] = np.asarray(part.targets)
        if tanh is not None:
            arrays[f"{name}/tanh"] = np.asarray(tanh[number], bool)
        if question.drawing is None:
            continue
        arrays["points"] = points = question.drawing.points
        arrays[f"{name}/targets"] = arrays[f"{name}/targets"].reshape(
            -1, len(points), biases[-1].shape[1]
        )
        if number == 0:
            two = jax.tree.map(lambda x: x[:2], part.params)
            question.drawing.check(two, [w[:2] for w in weights], [b[:2] for b in biases])
    return arrays


def peer_rows(kind: str, rate: str = "study", **settings: Any) -> dict[str, Peer]:
    """A row for each published network that has code for a kind of question.

    Args:
        kind: of the question.
        rate: "study" for the learning rate of our rows, "own" for that of each repository.
        settings: fields of `Peer`.

    Example:
        >>> rows = peer_rows("regression", channels=8)
        >>> rows["StatNet (authors' code)"].channels, "DWS (authors' code)" in rows
        (8, False)
        >>> peer_rows("regression", "own")["StatNet (authors' code, own rate)"].rates
        ('own',)
    """
    if rate not in RATES:
        raise ValueError(f"rate {rate!r}: there are {', '.join(RATES)}.")
    more, settings = (
        ("", settings) if rate == "study" else (", own rate", settings | {"rates": ("own",)})
    )
    return {
        f"{name} (authors' code{more})": Peer(peer, **settings)
        for peer, name in NAMES.items()
        if peer not in CANNOT[kind]
    }


def run_peers(
    rows: Mapping[str, Peer],
    seeds: int,
    one: Callable[[Peer, int], dict[str, Any]],
    file: Path,
    *,
    about: Mapping[str, Any],
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """`table.run_rows` for published networks: what has no code for the question is left out, and said."""
    out = {}
    for name, peer in rows.items():
        try:
            out |= run_rows({name: peer}, seeds, one, file, about=about, quiet=quiet)  # pyright: ignore
        except Unavailable as e:
            print(f"{name}: left out, {e}", file=sys.stderr)
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--peers`, `--torch-python`, `--peer-threads`, `--peer-rates`."""
    parser.add_argument("--peers", type=Path, help="a folder with checkouts of published code")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--peer-threads", type=int, default=0, help="of torch; 0: its default")
    parser.add_argument(
        "--peer-rates", nargs="+", choices=RATES, default=["study"],
        help="learning rates of published networks: the study's (the default), that of their repository",
    )  # fmt: skip


def from_arguments(given: argparse.Namespace) -> Peers | None:
    """What they say; None without `--peers`."""
    if given.peers is None:
        return None
    return Peers(given.peers, given.torch_python, given.peer_threads)
