"""Tasks over sequences: formal languages, digits tile by tile, text character by character."""

from __future__ import annotations

import itertools

import numpy as np

from experiments._zoo import data as data
from experiments._zoo.tasks import Task, affine, of_samples, pooled

LETTERS = 4


def languages(
    folder, *, models, seed, count: int, offsets: int = 4, longest: int = 9, test: int = 2
) -> Task:
    """Words `a^(n+i) b^(n+j) c^(n+k) d^(n+l)`; a language of the family is its offsets i, j, k, l.

    A network is shown words of odd n and predicts the next token (0 is the beginning and the end, 1
    to 4 are the letters). It is measured on the words of the `test` largest even n, where the language
    determines the next token, which is from the first b on.

    Args:
        count: languages, at most.
        offsets: from 0 to below this number.
        longest: n of the longest word.
        test: words of each language that are measured.

    Raises:
        ValueError: no word is left to train on or to measure.
    """
    if longest < 2 or test < 1:
        raise ValueError(f"longest: {longest}, test: {test}; 2 and 1 at least.")
    every = np.array(list(itertools.product(range(offsets), repeat=LETTERS)), np.int32)
    rng = np.random.default_rng(seed)
    chosen = every[rng.permutation(len(every))[: min(count, models)]]
    length = LETTERS * (longest + offsets - 1) + 1
    words = np.stack([[_word(row + n, length) for n in range(1, longest + 1)] for row in chosen])
    x, y = np.where(words < 0, 0, words)[..., :-1], words[..., 1:]
    known = np.where(np.cumsum(x == 2, axis=-1) > 0, y, -1)
    shown, last = slice(0, None, 2), np.arange(1, longest, 2)[-test:]
    columns = {"offsets": chosen}
    own = (x[:, shown].astype(np.int32), y[:, shown].astype(np.int32))
    test_part = pooled(x[:, last].astype(np.int32), known[:, last])
    return Task("generated words", None, ("language", own), test_part, None, columns)


def tiled_digits(
    folder, *, models, seed, tasks: int, tile: int = 4, train: int = 200, test: int = 50, **options
) -> Task:
    """Digits turned by an angle, tile by tile, row by row; each task of the family has an angle.

    Args:
        tasks: angles, evenly spread over the circle, at most.
        tile: pixels a side.
        train, test: images of a task.
        **options: of `data.images`.
    """
    found = data.images(folder=folder, **options)
    tasks, rng = min(tasks, models), np.random.default_rng(seed)
    angles = np.arange(tasks) * 2 * np.pi / tasks
    arrays = []
    for part, count in (("train", train), ("test", test)):
        x, y = getattr(found, f"{part}_x"), getattr(found, f"{part}_y")
        chosen = np.stack([rng.permutation(len(x))[:count] for _ in range(tasks)])
        turned = [affine(x[chosen[k]], angles[k], 0.0, np.ones(2)) for k in range(tasks)]
        arrays.append((np.stack([tiles(x, tile) for x in turned]), y[chosen]))
    shown = pooled(arrays[0][0][:, :test], arrays[0][1][:, :test])
    columns = {"angle": angles.astype(np.float32)}
    return Task(found.source, None, ("task", arrays[0]), pooled(*arrays[1]), shown, columns)


def tiles(x: np.ndarray, tile: int) -> np.ndarray:
    """Images `(n, h, w, c)` as sequences `(n, tiles, tile * tile * c)`.

    >>> tiles(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, 1].tolist()
    [2.0, 3.0, 6.0, 7.0]
    """
    n, height, width, c = x.shape
    x = x.reshape(n, height // tile, tile, width // tile, tile, c).swapaxes(2, 3)
    return x.reshape(n, -1, tile * tile * c).astype(np.float32)


def characters(
    folder, *, models, seed, length: int = 32, test: int = 64, alphabet: int = 40
) -> Task:
    """English text, the next character; the last tenth of the text is the test part.

    Args:
        length: characters a sample.
        test: samples measured, at most.
        alphabet: the commonest characters; all others are one more.
    """
    written = data.text()
    common = sorted(set(written), key=lambda c: (-written.count(c), c))[: alphabet - 1]
    code = {c: i for i, c in enumerate(common)}
    codes = np.array([code.get(c, alphabet - 1) for c in written], np.int32)
    cut, parts = len(codes) * 9 // 10, []
    for piece, step in ((codes[:cut], length // 4), (codes[cut:], length)):
        starts = np.arange(0, len(piece) - length - 1, step)
        windows = piece[starts[:, None] + np.arange(length + 1)]
        parts += [windows[:, :-1], windows[:, 1:]]
    source = f"descriptions of scikit-learn, {len(codes)} characters"
    return of_samples(data.Samples(*parts[:2], parts[2][:test], parts[3][:test], source))


def _word(counts: np.ndarray, length: int) -> np.ndarray:
    """Begin, letters, end; -1 behind."""
    word = np.full(length + 1, -1)
    body = np.repeat(np.arange(1, LETTERS + 1), counts)
    word[: len(body) + 2] = [0, *body, 0]
    return word


TASKS = {"languages": languages, "tiled_digits": tiled_digits, "characters": characters}
