"""Networks drawn by flows and diffusion, beside trivial baselines: what is learned, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs._metanetworks import SIZES


@dataclass(frozen=True)
class Row:
    """One set of networks that is judged."""

    family: str
    """"held-out", "baseline", "start", "flow" or "diffusion"."""
    baseline: str = ""
    """A name of `generation.baselines.trivial_baselines`."""
    form: str = "raw"
    """Which networks are learned from: "raw", "balanced" (scales settled), "canonical" (balanced, and
    units aligned to a mean network) or "refitted" (fitted to what each network says, all from one start)."""
    components: int | None = None
    """Principal components of these, with the Gaussian of the training networks as what is said before
    training (0: all there are); None: normalised weights."""
    augment: bool = False
    """Whether networks are moved by a random permutation in each step."""
    coupling: str = "independent"
    """Of a flow: "independent", "aligned" (each network to its noise) or "quotient" (pairs by the distance after
    alignment, eight at a time)."""
    denoiser: str = "flat"
    """"flat" or "equivariant"."""
    width: int = 384
    """Of the denoiser: channels of an equivariant one."""
    layers: int = 2
    snapshots: bool = False
    """Whether all snapshots of each training run are learned from, not the last alone."""
    ask: float | None = None
    """Learn beside the training loss of each network, and ask for this quantile of last snapshots."""
    guidance: float = 1.0
    """Of classifier-free guidance towards what is asked."""
    task: float = 0.0
    """Strength of the gradient of the logarithm of the training loss while networks are drawn."""
    steps_after: int = 0
    """Steps of Adam on the training data that each drawn network takes."""
    rate_after: float = 0.02
    """Their rate."""
    by_class: bool = False
    """Of sine networks: whether the class of the image is told, and each class asked for as often. A
    baseline is then one of each class."""


@dataclass(frozen=True)
class Training:
    """How flows and diffusion are fitted; the same for all rows of a zoo."""

    steps: int = 2000
    batch: int = 128
    learning_rate: float = 2e-3
    """Of AdamW at its peak, after a tenth of the steps, falling to zero by a cosine."""
    weight_decay: float = 1e-2
    average: float = 0.995
    """Decay of the average of the weights, which is what draws."""
    sampler_steps: int = 24
    """Of Heun's method, without noise."""


@dataclass(frozen=True)
class Study:
    """A zoo, and the rows that are judged on it."""

    zoo: str
    """One of `experiments._generation.zoos.NAMES`."""
    rows: Mapping[str, Row]
    zoo_size: str = "small"
    models: int | None = None
    """Networks of the zoo; None: as many as its size says."""
    training_runs: int | None = None
    held_out_runs: int | None = None
    training: Training = Training()
    refit: Mapping[str, float] = field(default_factory=dict)
    """Options of `RefittedSpace`."""
    count: int = 256
    """Networks that are drawn for each row."""
    diversity: int = 128
    """Of these, and of held-out ones, behind 1-NNA, coverage and MMD."""
    candidates: int | None = 32
    """Of the search for the nearest training network up to symmetry; see `Quotient`."""


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.generation`."""

    studies: Mapping[str, Study]
    seeds: int = 1
    """Of fitting and of drawing; zoo and split are the same."""
    resamples: int = 1000
    """Of bootstrap intervals."""


_BASELINES = (
    "training networks", "training network + 0.1 sd", "leaf Gaussian",
    *(f"{form} {what}" for form in ("raw", "aligned") for what in (
        "interpolation", "soup of 16", "entry Gaussian", "PCA Gaussian", "kernel density",
    )),
)  # fmt: skip


def _trivial() -> dict[str, Row]:
    found = {"held-out networks": Row("held-out")}
    return found | {name: Row("baseline", name) for name in _BASELINES}


def _learned(
    width: int, layers: int, channels: int, coupling: str, narrow: int | None = None
) -> dict[str, Row]:
    """The same flat denoiser in every way to treat symmetry, and an equivariant one.

    `narrow` is the width at which a flat one has about as many parameters as the equivariant one.
    """
    flow = Row("flow", width=width, layers=layers)
    diffusion = replace(flow, family="diffusion")
    less = {} if narrow is None else {
        "flow, raw, narrow": replace(flow, width=narrow),
        "flow, permuted copies, narrow": replace(flow, width=narrow, form="balanced", augment=True),
        "flow, canonical, narrow": replace(flow, width=narrow, form="canonical"),
    }  # fmt: skip
    return less | {
        "flow, raw": flow,
        "flow, permuted copies": replace(flow, form="balanced", augment=True),
        "flow, canonical": replace(flow, form="canonical"),
        "flow, quotient coupling": replace(flow, form="balanced", coupling=coupling),
        "flow, equivariant": replace(
            flow, form="balanced", denoiser="equivariant", width=channels, layers=2
        ),
        "diffusion, raw": diffusion,
        "diffusion, permuted copies": replace(diffusion, form="balanced", augment=True),
        "diffusion, canonical": replace(diffusion, form="canonical"),
        "diffusion, equivariant": replace(
            diffusion, form="balanced", denoiser="equivariant", width=channels, layers=2
        ),
        "diffusion, canonical, all components": replace(
            diffusion, form="canonical", components=0
        ),
    }  # fmt: skip


def _refitted() -> dict[str, Row]:
    """What needs no learning once networks are refitted from one start."""
    names = ("interpolation", "soup of 16", "PCA Gaussian")
    return {f"refitted {n}": Row("baseline", f"raw {n}", form="refitted") for n in names}


def _digits(width: int, channels: int, coupling: str, narrow: int | None) -> dict[str, Row]:
    """Beside the others: all snapshots, low loss asked for, and the training data as a guide."""
    whole = Row("diffusion", form="canonical", components=0, width=width)
    asked = replace(whole, snapshots=True, ask=0.1)
    return _trivial() | _learned(width, 2, channels, coupling, narrow) | {
        "diffusion, low loss asked": asked,
        "diffusion, low loss asked, guidance 2": replace(asked, guidance=2.0),
        **_refitted(),
        "diffusion, refitted": replace(whole, form="refitted"),
        "flow, refitted": Row("flow", form="refitted", components=0, width=width),
        "diffusion, training gradient": replace(whole, task=9.0),
        "diffusion, 32 steps after": replace(whole, steps_after=32),
        "flow, canonical, 32 steps after": Row(
            "flow", form="canonical", width=width, steps_after=32
        ),
        "aligned PCA Gaussian, 32 steps after": Row(
            "baseline", "aligned PCA Gaussian", steps_after=32
        ),
        "aligned soup of 16, 32 steps after": Row(
            "baseline", "aligned soup of 16", steps_after=32
        ),
        "new start, 32 steps after": Row("start", steps_after=32, rate_after=0.05),
    }  # fmt: skip


def _sirens(width: int, channels: int, coupling: str) -> dict[str, Row]:
    """Principal components of weights of one start, or of what was refitted from one."""
    whole = Row("diffusion", width=width, layers=3)
    return _trivial() | _learned(width, 2, channels, coupling) | {
        "diffusion, 48 components": replace(whole, components=48),
        "flow, 48 components": replace(whole, family="flow", components=48),
        **_refitted(),
        "diffusion, refitted, 48 components": replace(whole, form="refitted", components=48),
    }  # fmt: skip


def _mnist_sirens(width: int, components: int) -> dict[str, Row]:
    """Without and with the class told; of one learnt start, so that nothing need be aligned."""
    baselines = (
        "training network + 0.1 sd", "raw interpolation", "raw soup of 16", "raw PCA Gaussian",
        "raw kernel density",
    )  # fmt: skip
    raw = Row("diffusion", width=width, layers=3)
    some = replace(raw, components=components)
    told = replace(some, by_class=True)
    gaussian = Row("baseline", "raw PCA Gaussian", by_class=True)
    return {
        "held-out networks": Row("held-out"),
        **{name: Row("baseline", name) for name in baselines},
        "PCA Gaussian of each class": gaussian,
        "interpolation within a class": replace(gaussian, baseline="raw interpolation"),
        "diffusion, raw": raw,
        "diffusion, principal components": some,
        "flow, principal components": replace(some, family="flow"),
        "diffusion by class": told,
        "diffusion by class, guidance 2": replace(told, guidance=2.0),
        "flow by class": replace(told, family="flow"),
        "flow by class, guidance 2": replace(told, family="flow", guidance=2.0),
    }


def get_config(size: str = "cpu") -> Config:
    """The study at a size: "smoke", "cpu" or "full"."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: there are {', '.join(SIZES)}.")
    if size == "smoke":
        return _smoke()
    full = size == "full"
    width, channels = (1024, 64) if full else (384, 16)
    coupling = "quotient" if full else "aligned"
    training = Training(steps=100_000, batch=256) if full else Training()
    small = replace(training, steps=50_000 if full else 4000)
    narrow = {} if full else {"breast cancer": 14, "iris": 16, "digits": 7}
    few, some = (
        _trivial() | _learned(128, 2, channels, coupling, narrow.get(name))
        for name in ("breast cancer", "iris")
    )
    scaling = {
        n: r for n, r in some.items()
        if n in ("held-out networks", "aligned interpolation", "aligned soup of 16",
                 "aligned PCA Gaussian", "flow, canonical", "diffusion, canonical",
                 "diffusion, canonical, all components")
    }  # fmt: skip
    sirens = _sirens(width, channels, coupling)
    if not full:
        sirens.pop("flow, quotient coupling")  # aligns every batch, of two layers
    refit = {"steps": 150, "rate": 2e-3}
    drawn = {"count": 500, "diversity": 32, "candidates": 2}
    return Config(
        studies={
            "breast cancer": Study("breast_cancer", few, training_runs=50, held_out_runs=50,
                                   training=small),
            "iris, 50": Study("iris", some, training_runs=50, held_out_runs=50, training=small),
            "iris, 500": Study("iris", scaling, models=5500, training_runs=500, held_out_runs=500,
                               training=small),
            "iris, 5000": Study("iris", scaling, models=5500, training_runs=5000,
                                held_out_runs=500, training=small),
            "digits": Study("digits", _digits(width, channels, coupling, narrow.get("digits")),
                            models=1280, training_runs=1024, held_out_runs=256, training=training,
                            refit={"steps": 360, "rate": 0.1, "temperature": 2.0}),
            "sine networks, one start": Study("sirens_shared", sirens,
                                              training=small, refit=refit, **drawn),
            "sine networks, own starts": Study("sirens_own", sirens,
                                               training=small, refit=refit, **drawn),
            "MNIST sine networks": Study("mnist_sirens", _mnist_sirens(width, 64),
                                         zoo_size=size if full else "small", training=small,
                                         **drawn),
        },
        seeds=3 if full else 1,
    )  # fmt: skip


def _smoke() -> Config:
    training = Training(steps=10, batch=8, sampler_steps=2)
    held_out = {"held-out networks": Row("held-out")}
    tiny = Row("diffusion", form="canonical", components=0, width=8, layers=1)
    asked = replace(tiny, ask=0.1, guidance=2.0, steps_after=2)
    aligned = "aligned interpolation"
    digits = Study(
        "digits", held_out | {"diffusion, asked": asked}, "tiny", training_runs=12, held_out_runs=8,
        training=training, count=8, diversity=6,
    )  # fmt: skip
    refitted = replace(tiny, form="refitted", components=2)
    sines = Study(
        "sirens_own",
        held_out | {aligned: Row("baseline", aligned), "diffusion, refitted": refitted},
        "tiny", training_runs=8, held_out_runs=6, training=training,
        refit={"steps": 3, "rate": 1e-3}, count=6, diversity=4, candidates=1,
    )  # fmt: skip
    by_class = replace(tiny, form="raw", components=2, by_class=True, guidance=2.0)
    gaussian = Row("baseline", "raw PCA Gaussian", by_class=True)
    mnist = Study(
        "mnist_sirens", held_out | {"PCA Gaussian of each class": gaussian, "diffusion by class": by_class},
        "tiny", training=training, count=10, diversity=4, candidates=1,
    )  # fmt: skip
    studies = {
        "digits": digits, "sine networks, own starts": sines, "MNIST sine networks": mnist,
    }  # fmt: skip
    return Config(studies=studies, resamples=10)
