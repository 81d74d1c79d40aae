"""What holds of every foreign format: told by its files, read whole, flagged, refused if damaged."""

import shutil

import jax
import numpy as np
import pytest

from tests.zoo.foreign_files import MAKERS
from wsljax.interop.torch_file import TorchFileError
from wsljax.zoo.foreign import FOREIGN, ForeignZooError, read_foreign
from wsljax.zoo.population import ROLES, Population

NEEDS = {"inr2vec_h5": "h5py", "model_j": "safetensors", "lora": "safetensors"}
WITHOUT_FUNCTION = {"model_j", "lora", "weights2weights", "sane_tokens", "functa_npz"}


@pytest.fixture(params=sorted(MAKERS))
def name(request):
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    return request.param


def populations(read) -> list[Population]:
    return list(read.values()) if isinstance(read, dict) else [read]


def values(trees) -> np.ndarray:
    """All weights, sorted: whatever the order of axes, none is lost and none is invented."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(trees)]
    return np.sort(np.concatenate(leaves))


def test_every_format_has_a_maker():
    assert set(MAKERS) == set(FOREIGN)


def test_told_by_its_files_and_read_whole(tmp_path, name):
    made = MAKERS[name](tmp_path)
    found = populations(read_foreign(made.path, **made.options))
    assert sum(map(len, found)) == len(made.states)
    np.testing.assert_array_equal(values([p.params for p in found]), values(made.states))
    for population in found:
        assert population.columns["finite"].all()
        assert "run" in population.columns and dict(population.roles)["run"] == "lineage"
        assert set(dict(population.roles)) == set(population.columns)
        assert set(dict(population.roles).values()) <= set(ROLES)
        assert (population.function is None) == (name in WITHOUT_FUNCTION)


def test_functions_fit_the_weights_and_their_init_has_the_shapes_of_the_files(tmp_path, name):
    if name in WITHOUT_FUNCTION:
        pytest.skip("the base network is not in the files")
    made = MAKERS[name](tmp_path)
    for population in populations(read_foreign(made.path, **made.options)):
        function = population.function
        shape = tuple(3 if n is None else n for n in function.input_shape)
        x = jax.ShapeDtypeStruct((2, *shape), np.float32)
        out = jax.eval_shape(population.apply, x)
        assert out.shape[:2] == (len(population), 2)
        row = {name: column[0] for name, column in population.columns.items()}
        fresh = jax.eval_shape(lambda key, f=function, r=row: f.init(r, key=key), jax.random.key(1))
        shapes = jax.tree.map(lambda leaf: leaf.shape, population[0])
        assert jax.tree.map(lambda leaf: leaf.shape, fresh) == shapes
        assert type(function).from_json(function.to_json()) == function


def test_auto_equals_by_name(tmp_path, name):
    made = MAKERS[name](tmp_path)
    by_name = populations(read_foreign(str(made.path), name, **made.options))
    auto = populations(read_foreign(made.path, **made.options))
    assert all(map(same, by_name, auto))


def same(a: Population, b: Population) -> bool:
    trees = [(p.params, p.columns) for p in (a, b)]
    equal = jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), *trees)
    return all(jax.tree.leaves(equal)) and a.labels == b.labels


def spoil_second(i, state):
    if i == 1:
        first = next(iter(state))
        state[first] = state[first].copy()
        state[first].flat[0] = np.nan
    return state


def test_weights_that_are_not_finite_are_kept_and_flagged(tmp_path, name):
    made = MAKERS[name](tmp_path, spoil_second)
    found = populations(read_foreign(made.path, **made.options))
    flags = np.concatenate([population.columns["finite"] for population in found])
    assert len(flags) == len(made.states) and flags.sum() == len(flags) - 1
    kept = populations(read_foreign(made.path, drop_nonfinite=True, **made.options))
    assert sum(map(len, kept)) == len(flags) - 1
    assert all(np.isfinite(values(population.params)).all() for population in kept)


def widen_second(i, state):
    if i == 1:
        first = next(iter(state))
        state[first] = np.concatenate([state[first]] * 2)
    return state


def test_weights_of_another_shape_are_an_error_that_names_the_file(tmp_path, name):
    if name in ("smallcnnzoo", "weights2weights", "rnn_npy", "functa_npz"):
        with pytest.raises(ValueError):  # one matrix: such a row cannot even be written
            MAKERS[name](tmp_path, widen_second)
        return
    made = MAKERS[name](tmp_path, widen_second)
    with pytest.raises(ForeignZooError, match=str(tmp_path)):
        read_foreign(made.path, **made.options)


def test_files_cut_short_are_an_error_that_names_them(tmp_path, name):
    made = MAKERS[name](tmp_path)
    folder = made.path if made.path.is_dir() else made.path.parent
    endings = ".pth .pt .ckpt .npy .bin .h5 .safetensors .npz".split()
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    weights = [p for p in files if p.suffix in endings or p.name == "checkpoints"]
    if name == "weights2weights":
        weights = [folder / "all_weights.pt"]
    if name == "transformer_zoo":
        weights = [folder / "mnist" / "ab1_75_9000.pt"]
    if name == "nfn_siren":
        weights = [p for p in weights if "_aug" not in p.parent.name]
    file = weights[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises((ForeignZooError, TorchFileError), match=file.name):
        read_foreign(made.path, name, **made.options)


def test_an_empty_folder_is_an_error(tmp_path, name):
    with pytest.raises((ForeignZooError, FileNotFoundError, IsADirectoryError)):
        read_foreign(tmp_path, name, **MAKERS_OPTIONS.get(name, {}))


MAKERS_OPTIONS = {"functa_npz": {"plain": True}, "modelzoo_pt": {"plain": True}}


def test_unknown_paths_formats_and_options(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_foreign(tmp_path / "nowhere")
    with pytest.raises(ForeignZooError, match="(?s)none of the formats.*dws_inr: MNIST INRs"):
        read_foreign(tmp_path)
    with pytest.raises(ValueError, match="unknown format 'h6'.*smallcnnzoo"):
        read_foreign(tmp_path, "h6")
    with pytest.raises(ValueError, match=r"no options \['stepp'\]; it has: step, rows"):
        read_foreign(tmp_path, "smallcnnzoo", stepp=86)


def test_ambiguous_folders_are_not_guessed(tmp_path):
    MAKERS["dws_inr"](tmp_path)
    MAKERS["sane_tokens"](tmp_path)
    with pytest.raises(ForeignZooError, match="may be dws_inr, sane_tokens; say which"):
        read_foreign(tmp_path)


def test_the_order_of_a_listing_does_not_matter(tmp_path, name, monkeypatch):
    """File systems list in any order; splits that hang on it cannot be reproduced."""
    from pathlib import Path

    made = MAKERS[name](tmp_path)
    straight = populations(read_foreign(made.path, name, **made.options))
    for method in ("glob", "iterdir", "rglob"):
        original = getattr(Path, method)

        def backwards(self, *args, original=original):
            return iter(sorted(original(self, *args), reverse=True))

        monkeypatch.setattr(Path, method, backwards)
    turned = populations(read_foreign(made.path, name, **made.options))
    assert all(map(same, straight, turned))


def test_a_moved_folder_reads_alike(tmp_path, name):
    """Labels and parts come from parts of the layout, not from words somewhere in the path."""
    (tmp_path / "a").mkdir()
    made = MAKERS[name](tmp_path / "a")
    before = populations(read_foreign(made.path, name, **made.options))
    other = tmp_path / "training_test_3s_val"
    shutil.move(tmp_path / "a", other)
    path = other / made.path.relative_to(tmp_path / "a")
    after = populations(read_foreign(path, name, **made.options))
    assert all(map(same, before, after))
