"""A function is data: settings in, networks out, the same after JSON; and it says what it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry, zoo

KEY = jax.random.key(0)
BASE = zoo.Function("mlp", {"widths": (4, 6, 3)})

#: One line adds an architecture to every test below: the function, and the sizes of its unit sets.
CASES = {
    "mlp": (zoo.Function("mlp", {"widths": (4, 6, 5, 3), "std": 2.0}), (6, 5)),
    "mlp_choice": (zoo.Function("mlp", {"widths": (4, 6, 3), "activation": ("relu", "sine")}), (6,)),
    "mlp_no_bias": (zoo.Function("mlp", {"widths": (4, 6, 3), "bias": False}), (6,)),
    "cnn": (zoo.Function("cnn", {"input_shape": (9, 9, 2), "channels": (4, 5)}), (4, 5)),
    "cnn_pool": (
        zoo.Function("cnn", {"input_shape": (8, 8, 1), "channels": (4,), "stride": 1, "padding": 1,
                             "pooling": "max", "head": "flatten", "dense_widths": (6, 10)}),
        (4, 6),
    ),
    "cnn_residual": (
        zoo.Function("cnn", {"input_shape": (6, 6, 1), "channels": (4, 4, 4), "stride": 1,
                             "padding": "SAME", "residual": (-1, 0, 1), "activation": "tanh"}),
        (4,),
    ),
    "siren": (zoo.Function("siren", {"widths": (2, 6, 5, 3), "offset": 0.5}), (6, 5)),
    "field": (zoo.Function("field", {"widths": (3, 6, 1), "octaves": 2, "output": "sigmoid"}), (6,)),
    "nerf": (zoo.Function("nerf", {"widths": (6, 5), "samples": 4, "octaves": 1}), (6, 5)),
    "lstm": (zoo.Function("recurrent", {"tokens": 5, "hidden": 4, "head": "each", "outputs": 5}), (4, 4)),
    "gru": (zoo.Function("recurrent", {"cell": "gru", "features": 3, "hidden": 4, "layers": 1}), (4,)),
    "rnn": (zoo.Function("recurrent", {"cell": "rnn", "features": 3, "hidden": 4, "layers": 1}), (4,)),
    "gpt": (
        zoo.Function("transformer", {"tokens": 7, "width": 8, "heads": 2, "mlp_width": 6, "layers": 1,
                                     "causal": True, "head": "each", "outputs": 7}),
        (2, 4, 4, 6, 8),
    ),
    "vit": (
        zoo.Function("transformer", {"image": (8, 8, 1), "width": 8, "heads": 2, "mlp_width": 6,
                                     "layers": 1, "head": "class"}),
        (2, 4, 4, 6, 8),
    ),
    "lora": (zoo.lora_function(BASE, BASE.init({}, key=KEY), rank=2), (2, 2)),
}  # fmt: skip


def made(name):
    function, sizes = CASES[name]
    row = {column: jnp.int32(0) for column in function.reads}
    params = function.init(row, key=KEY)
    if name == "lora":  # it starts as the base; move away from that
        params = jax.tree.map(lambda w: w + 0.3 * jax.random.normal(KEY, w.shape), params)
    shape = (5, *(6 if n is None else n for n in function.input_shape))
    if function.input_dtype == jnp.int32:
        x = jax.random.randint(KEY, shape, 0, 5)
    else:
        x = jax.random.normal(KEY, shape)
    return function, sizes, row, params, x


@pytest.mark.parametrize("name", CASES)
def test_json_keeps_the_function(name):
    function, _, row, params, x = made(name)
    again = zoo.Function.from_json(json.loads(json.dumps(function.to_json())))
    assert again == function and hash(again) == hash(function)
    y = function.apply(params, x, row)
    assert len(y) == 5 and jnp.all(jnp.isfinite(y)) and jnp.std(y) > 0
    np.testing.assert_array_equal(again.apply(params, x, row), y)


@pytest.mark.parametrize("name", CASES)
def test_samples_do_not_see_each_other(name):
    function, _, row, params, x = made(name)
    y = function.apply(params, x, row)
    np.testing.assert_allclose(function.apply(params, x[2:3], row), y[2:3], rtol=2e-4, atol=1e-5)
    moved = x.at[0].set(x[1])
    np.testing.assert_allclose(function.apply(params, moved, row)[1:], y[1:], rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_its_symmetry_is_found(name):
    function, sizes, row, params, x = made(name)
    spec = function.infer(params, row, kinds=("permutation",))
    assert sorted(units.size for units in spec.units) == sorted(sizes)
    run = lambda p, x: function.apply(p, x, row)  # noqa: E731
    changes = symmetry.check(run, params, spec, x, key=KEY)
    assert max(changes.values()) < 1e-4
    if function.reads:  # what holds for every choice
        assert function.infer(params).axes == spec.axes


@pytest.mark.parametrize("name", CASES)
def test_a_population_of_it_runs_as_its_networks(name):
    function, _, row, _, x = made(name)
    params = jax.vmap(lambda key: function.init(row, key=key))(jax.random.split(KEY, 3))
    columns = {name: jnp.zeros(3, jnp.int32) for name in function.reads} or {"a": jnp.zeros(3)}
    population = zoo.Population(params, columns, function=function)
    y = jax.jit(lambda p, x: p.apply(x))(population, x)
    for i in range(3):
        one = function.apply(population[i], x, population.row(i))
        np.testing.assert_allclose(y[i], one, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["VALID", "SAME", 0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [(3, 3), (2, 5)])
def test_a_convolution_is_a_convolution(padding, stride, window):
    from wsljax.zoo.architectures.cnn import convolve

    x = jax.random.normal(KEY, (2, 11, 13, 3))
    kernel = jax.random.normal(KEY, (*window, 3, 4))
    around = padding if isinstance(padding, str) else [(padding, padding)] * 2
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = convolve({"kernel": kernel}, x, stride, padding)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_small_cnn_zoo_has_4970_weights_and_a_siren_1185():
    count = lambda f: sum(w.size for w in jax.tree.leaves(f.init({}, key=KEY)))  # noqa: E731
    assert count(zoo.Function("cnn")) == 4970
    assert count(zoo.Function("siren")) == 1185


STARTS = {  # limits of kernel and bias in the layers of 2-6-5-3 with a frequency of 20
    "siren": [(1 / 2, 2**-0.5), (1 / 20, 6**-0.5), ((6 / 5) ** 0.5 / 20, 5**-0.5)],
    "dws": [(3**0.5 / 20, 0), (1 / 20, 0), (5**-0.5, 5**-0.5)],
}


@pytest.mark.parametrize("initialiser", STARTS)
def test_sine_networks_start_uniformly_within_the_limits_of_their_initialiser(initialiser):
    settings = {"widths": (2, 6, 5, 3), "frequency": 20.0, "initialiser": initialiser}
    function = zoo.Function("siren", settings)
    params = jax.vmap(lambda key: function.init({}, key=key))(jax.random.split(KEY, 500))
    for i, (kernel, bias) in enumerate(STARTS[initialiser]):
        for name, limit in (("kernel", kernel), ("bias", bias)):
            found = params[f"dense_{i}"][name]
            assert jnp.max(jnp.abs(found)) <= limit * (1 + 1e-6)
            np.testing.assert_allclose(jnp.std(found), limit / 3**0.5, rtol=0.05)


def test_sine_networks_start_in_ways_that_are_known():
    with pytest.raises(ValueError, match="initialiser"):
        zoo.Function("siren", {"initialiser": "he_normal"}).init({}, key=KEY)


def test_padding_and_other_settings_matter():
    x = jax.random.normal(KEY, (2, 28, 28, 1))
    valid, padded = zoo.Function("cnn"), zoo.Function("cnn", {"padding": 1})
    params = valid.init({}, key=KEY)
    assert jnp.max(jnp.abs(valid.apply(params, x) - padded.apply(params, x))) > 1e-3


def test_an_empty_ray_is_the_background():
    function = zoo.Function("nerf", {"widths": (4,), "octaves": 0, "background": 0.25})
    params = function.init({}, key=KEY)
    dark = params["dense_1"] | {"bias": jnp.array([0.0, 0, 0, -100.0])}
    rays = jax.random.normal(KEY, (3, 6))
    y = function.apply(params | {"dense_1": dark}, rays)
    np.testing.assert_allclose(y, 0.25, atol=1e-6)
    solid = params["dense_1"] | {"bias": jnp.array([0.0, 0, 0, 1e4])}
    near = function.apply(params | {"dense_1": solid}, rays)
    assert jnp.all((near > 0) & (near < 1)) and jnp.std(near) > 0


def test_exported_functions_run_without_their_source():
    pytest.importorskip("flatbuffers")

    def apply(params, x, row):
        return jnp.where(row["code"] == 1, jnp.tanh(x @ params[0]), x @ params[0]) + params[1]

    params = [jnp.ones((3, 2)), jnp.zeros(2)]
    function = zoo.export_function(apply, params, jnp.ones((1, 3)), {"code": jnp.int32(0)})
    again = zoo.Function.from_json(json.loads(json.dumps(function.to_json())))
    assert again == function and again.reads == ("code",) and again.input_shape == (3,)
    for code in (0, 1):
        y = again.apply(params, 2 * jnp.ones((7, 3)), {"code": code})
        np.testing.assert_allclose(
            y, apply(params, 2 * jnp.ones((7, 3)), {"code": code}), rtol=1e-6
        )
    stacked = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params)
    population = zoo.Population(stacked, {"code": jnp.array([0, 1])}, function=again)
    assert population.apply(jnp.ones((4, 3))).shape == (2, 4, 2)
    with pytest.raises(ValueError, match=r"reads \['code'\]"):
        again.apply(params, jnp.ones((7, 3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.Function("mlpp"), "unknown architecture 'mlpp'; there are .*mlp"),
        (lambda: zoo.Function("mlp", {"wide": 3}), "settings of 'mlp'.*wide"),
        (lambda: zoo.Function("mlp", {"widths": (3,)}), "two at least"),
        (lambda: zoo.Function("mlp", {"std": jnp.ones(3)}), "JSON"),
        (lambda: zoo.Function("mlp", {"activation": "rely"}), "'rely'"),
        (lambda: zoo.Function("cnn", {"stride": (1, 2)}), "2 entries for 3 convolutions"),
        (lambda: zoo.Function("cnn", {"residual": (0, 1, 2)}), "an earlier one"),
        (lambda: zoo.Function("cnn", {"input_shape": (4, 4, 1)}), "smaller than the window"),
        (lambda: zoo.Function("recurrent", {}), "either `tokens` or `features`"),
        (lambda: zoo.Function("transformer", {"tokens": 3, "width": 9}), "do not divide"),
        (lambda: zoo.lora_function(BASE, BASE.init({}, key=KEY), targets="nothing"), "nothing to adapt"),
        (lambda: zoo.Function.from_json({"name": "x"}), "neither 'architecture' nor 'exported'"),
    ],
)  # fmt: skip
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_inputs_and_rows_are_checked():
    function = CASES["mlp_choice"][0]
    params = function.init({}, key=KEY)
    with pytest.raises(ValueError, match=r"reads \['activation'\] from a network's row"):
        function.apply(params, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"takes a batch \(n, 4\); the inputs are \(4,\)"):
        function.apply(params, jnp.ones(4), {"activation": 0})
    with pytest.raises(AttributeError, match="frozen"):
        function.settings_ = 3


def test_a_grid_trains_each_architecture_and_keeps_the_rows():
    x = jax.random.normal(KEY, (30, 2))
    y = (x[:, 0] > 0).astype(jnp.int32)
    functions = zoo.function_grid("mlp", widths=[(2, 3, 2), (2, 4, 4, 2)])
    chosen = [functions[0], functions[1], functions[1], functions[0]]
    hyper = {"learning_rate": [0.1, 0.01, 0.02, 0.05], "steps": [4, 8, 6, 5]}
    logs = []
    zoos = zoo.train_grid(chosen, "cross_entropy", (x, y), hyper, key=KEY, batch_size=4,
                          log=lambda done, metrics: logs.append(done))  # fmt: skip
    assert [z.columns["row"].tolist() for z in zoos] == [[0, 3], [1, 2]]
    assert [z.function for z in zoos] == functions
    assert logs == sorted(logs) and logs[-1] == 2 * 5 + 2 * 8
    alone = zoo.train(functions[1], "cross_entropy", (x, y),
                      {"learning_rate": [0.02], "steps": [6], "seed": [2]}, key=KEY, batch_size=4)  # fmt: skip
    for a, b in zip(jax.tree.leaves(zoos[1][1]), jax.tree.leaves(alone[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="3 functions for 4 rows"):
        zoo.train_grid(chosen[:3], "cross_entropy", (x, y), hyper, key=KEY)


@pytest.mark.parametrize(
    "name", sorted({"lecun_normal", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform"})
)
def test_initial_kernels_are_those_of_jax(name):
    from wsljax.zoo.architectures.common import INITIALISERS, in_one_draw

    ours = in_one_draw(KEY, lambda draw: INITIALISERS[name](draw((300, 200))))
    theirs = getattr(jax.nn.initializers, name)()(KEY, (300, 200), jnp.float32)
    for q in (0.0, 0.1, 0.5, 0.9, 1.0):
        np.testing.assert_allclose(np.quantile(ours, q), np.quantile(theirs, q), atol=2e-3)


def test_an_orthogonal_kernel_is_orthogonal_and_one_draw_repeats_nothing():
    from wsljax.zoo.architectures.common import INITIALISERS, in_one_draw

    for shape in ((8, 5), (5, 8), (6, 6)):
        a, b = in_one_draw(
            KEY, lambda draw, s=shape: [INITIALISERS["orthogonal"](draw(s)) for _ in "ab"]
        )
        a, b = (x if shape[0] >= shape[1] else x.T for x in (a, b))
        np.testing.assert_allclose(a.T @ a, np.eye(min(shape)), atol=1e-5)
        assert np.abs(a - b).max() > 0.1
