"""`wsljax._compat` on whichever jax is installed, against what the traced code plainly says."""

import math
import re
import textwrap
import types
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import _compat

X = jnp.arange(1.0, 4.0)


def _eqns(fn, *args, name):
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(fn)(*args))
    found = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == name]
    assert found, f"{name} not among {[eqn.primitive.name for eqn in jaxpr.eqns]}"
    return found


# -- open_jaxpr ------------------------------------------------------------------------------------


def test_open_jaxpr_pairs_constants_with_their_variables():
    table = np.arange(9.0).reshape(3, 3)
    jaxpr, consts = _compat.open_jaxpr(jax.make_jaxpr(lambda x: x @ jnp.asarray(table))(X))
    assert len(consts) == len(jaxpr.constvars)
    assert len(jaxpr.invars) == 1
    for var, value in zip(jaxpr.constvars, consts):
        assert var.aval.shape == np.shape(value)
        np.testing.assert_array_equal(value, table)


def test_open_jaxpr_can_be_opened_again():
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jnp.sin)(X))
    again, _ = _compat.open_jaxpr(jaxpr)
    assert again.eqns == jaxpr.eqns


def test_opened_jaxpr_evaluates_to_the_function():
    """Interpret equation by equation: the pieces `open_jaxpr` returns are complete."""
    offset = np.array([0.5, -1.0, 2.0])

    def fn(x):
        return jnp.sum(jnp.tanh(x * 2.0 + offset))

    jaxpr, consts = _compat.open_jaxpr(jax.make_jaxpr(fn)(X))
    env = {**dict(zip(jaxpr.constvars, consts)), **dict(zip(jaxpr.invars, [X]))}

    def read(atom):
        return atom.val if isinstance(atom, _compat.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out]))
    np.testing.assert_allclose(read(jaxpr.outvars[0]), fn(X), rtol=1e-12)


def test_open_jaxpr_refuses_what_is_not_traced():
    with pytest.raises(TypeError, match="expected a jaxpr.*got function"):
        _compat.open_jaxpr(lambda x: x)


def test_literals_and_variables_are_told_apart():
    (eqn,) = _eqns(lambda x: x * 2.0, X, name="mul")
    var, literal = eqn.invars
    assert isinstance(var, _compat.Var) and not isinstance(var, _compat.Literal)
    assert isinstance(literal, _compat.Literal) and not isinstance(literal, _compat.Var)


# -- sub_jaxprs ------------------------------------------------------------------------------------


@jax.custom_jvp
def _doubled(x):
    return 2 * x


_doubled.defjvp(lambda primals, tangents: (_doubled(*primals), 2 * tangents[0]))


@jax.custom_vjp
def _tripled(x):
    return 3 * x


_tripled.defvjp(lambda x: (_tripled(x), None), lambda _, g: (3 * g,))


def _identity(x):
    return x


CARRIERS = {
    "jit": (lambda x: jax.jit(jnp.sin)(x), 1),
    "checkpoint": (lambda x: jax.checkpoint(jnp.sin)(x), 1),
    "custom_jvp": (_doubled, 1),
    "custom_vjp": (_tripled, 1),
    "scan": (lambda x: jax.lax.scan(lambda c, y: (c + y, c * y), 0.0, x), 1),
    "while": (lambda x: jax.lax.while_loop(lambda c: c[0] < 9, lambda c: c + 1, x), 2),
    "cond": (lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), 2),
    "switch": (lambda x: jax.lax.switch(x[0].astype(int), [jnp.sin, jnp.cos, jnp.tan], x), 3),
    "linear solve": (
        lambda x: jax.lax.custom_linear_solve(lambda v: 2 * v, x, lambda _, b: b / 2),
        2,
    ),
    "arithmetic": (lambda x: x + x * x, 0),
}


@pytest.mark.parametrize("fn, count", CARRIERS.values(), ids=CARRIERS.keys())
def test_sub_jaxprs_finds_every_one(fn, count):
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(fn)(X))
    found = [(name, sub) for eqn in jaxpr.eqns for name, sub in _compat.sub_jaxprs(eqn)]
    assert len(found) == count
    assert len({name for name, _ in found}) == count
    for _, sub in found:
        inner, _ = _compat.open_jaxpr(sub)
        assert all(isinstance(v, _compat.Var) for v in inner.invars)


def test_sub_jaxprs_needs_no_names():
    """A parameter called anything, in any nesting: only its structure counts."""
    traced = jax.make_jaxpr(jnp.sin)(X)

    class Eqn:
        params = {"width": 3, "whatever": [(traced, None), {"deep": traced}], "fn": math.sin}

    assert [name for name, _ in _compat.sub_jaxprs(Eqn())] == [
        "whatever[0][0]",
        "whatever[1]['deep']",
    ]


# -- operands of loops -----------------------------------------------------------------------------


@pytest.mark.parametrize("consts", [0, 1, 3])
@pytest.mark.parametrize("carries", [0, 1, 2])
@pytest.mark.parametrize("xs", [0, 1, 2])
@pytest.mark.parametrize("ys", [0, 1, 2])
def test_scan_split(consts, carries, xs, ys):
    """Constants, carries and scanned arrays of several ranks, all alike in size, are told apart."""
    n = 2
    shapes = [(), (n,), (n, n), (n, n, n)]

    def make(count, offset):
        return [jnp.full(shapes[(i + offset) % 4], 1.0 + i + offset) for i in range(count)]

    def fn(const, carry, scanned):
        def body(carry, x):
            total = sum(jnp.sum(v) for v in [*const, *carry, *x]) + 1.0
            return [c + total for c in carry], [total * jnp.ones(shapes[i % 4]) for i in range(ys)]

        return jax.lax.scan(body, carry, scanned, length=n)

    scanned = [jnp.stack([x] * n) for x in make(xs, 1)]
    (eqn,) = _eqns(fn, make(consts, 0), make(carries, 2), scanned, name="scan")
    split = _compat.scan_split(eqn)
    assert split == (consts, carries, xs, ys)
    if "num_consts" in eqn.params:
        assert split[:2] == (eqn.params["num_consts"], eqn.params["num_carry"])


def test_scan_split_after_differentiation_and_batching():
    def run(w, xs):
        return jax.lax.scan(lambda c, x: (jnp.tanh(c @ w + x), c), jnp.ones(3), xs)[0].sum()

    args = jnp.eye(3), jnp.ones((5, 3))
    batched = jnp.stack([args[0]] * 4), jnp.stack([args[1]] * 4)
    scans = _eqns(jax.grad(run), *args, name="scan")
    scans += _eqns(jax.vmap(jax.grad(run)), *batched, name="scan")
    assert len(scans) >= 4
    for eqn in scans:
        split = _compat.scan_split(eqn)
        assert split.num_consts + split.num_carry + split.num_xs == len(eqn.invars)
        assert split.num_carry + split.num_ys == len(eqn.outvars)
        carry_in = eqn.invars[split.num_consts : split.num_consts + split.num_carry]
        carry_out = eqn.outvars[: split.num_carry]
        assert [v.aval.shape for v in carry_in] == [v.aval.shape for v in carry_out]
        for x in eqn.invars[split.num_consts + split.num_carry :]:
            assert x.aval.shape[0] == eqn.params["length"]
        if "num_consts" in eqn.params:
            assert split[:2] == (eqn.params["num_consts"], eqn.params["num_carry"])


@pytest.mark.parametrize("cond_consts", [0, 2])
@pytest.mark.parametrize("body_consts", [0, 1])
@pytest.mark.parametrize("carries", [1, 3])
def test_while_split(cond_consts, body_consts, carries):
    def fn(limits, steps, carry):
        return jax.lax.while_loop(
            lambda c: jnp.sum(c[0]) < sum(limits, jnp.array(9.0)),
            lambda c: [v + sum(steps, jnp.array(1.0)) for v in c],
            carry,
        )

    limits = [jnp.array(float(i)) for i in range(cond_consts)]
    steps = [jnp.array(1.0 + i) for i in range(body_consts)]
    (eqn,) = _eqns(fn, limits, steps, [jnp.zeros(2)] * carries, name="while")
    assert _compat.while_split(eqn) == (cond_consts, body_consts, carries)


def test_loop_of_another_shape_is_refused():
    """Operands that cannot be matched with the body are never guessed at."""
    (eqn,) = _eqns(lambda x: jax.lax.scan(lambda c, y: (c + y, c * y), 0.0, x), X, name="scan")

    class Other:
        primitive, params, outvars = eqn.primitive, eqn.params, eqn.outvars
        source_info = eqn.source_info
        invars = eqn.invars[:-1]

    with pytest.raises(NotImplementedError, match=r"scan at .*test_compat\.py:\d+"):
        _compat.scan_split(Other())

    class Shuffled(Other):
        invars = [eqn.invars[1], eqn.invars[0]]

    with pytest.raises(NotImplementedError, match="cannot tell"):
        _compat.scan_split(Shuffled())


# -- source lines, tracers, precision --------------------------------------------------------------


def test_source_line_names_file_line_and_function(tmp_path):
    file = tmp_path / "model.py"
    file.write_text(
        textwrap.dedent(
            """\
            import jax.numpy as jnp

            def layer(x):
                y = jnp.sin(x)
                return y * y
            """
        )
    )
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    sin, mul = jax.make_jaxpr(scope["layer"])(X).eqns
    assert _compat.source_line(sin) == f"{file}:4 (layer)"
    assert _compat.source_line(mul) == f"{file}:5 (layer)"


def test_source_line_is_in_the_code_of_the_user_not_inside_a_package(tmp_path, monkeypatch):
    from flax import linen as nn

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.py"
    file.write_text("def apply(layer, params, x):\n    return layer.apply(params, x)\n")
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    layer = nn.Dense(2)
    params = layer.init(jax.random.key(0), X)
    (eqn,) = _eqns(lambda p, x: scope["apply"](layer, p, x), params, X, name="dot_general")
    assert _compat.source_line(eqn) == "net.py:2 (apply)"


def test_source_line_falls_back_to_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "some_package.py"
    package.parent.mkdir()
    package.write_text("import jax\neqn = jax.make_jaxpr(lambda x: x + 1)(1.0).eqns[0]\n")
    scope = {}
    exec(compile(package.read_text(), str(package), "exec"), scope)
    monkeypatch.setattr(_compat, "_INSTALLED", re.compile(""))  # every file is in a package
    assert _compat.source_line(scope["eqn"]) == f"{package}:2 (<lambda>)"


def test_source_line_is_never_where_inference_was_asked_for():
    """A model all of whose code is in a package: the line is in there, not in this test."""
    from flax import linen as nn

    def infer(fn, *args):
        return jax.make_jaxpr(fn)(*args)

    inside = str(Path(_compat.__file__).parent / "symmetry" / "infer.py")
    infer = types.FunctionType(infer.__code__.replace(co_filename=inside), globals())
    layer = nn.Dense(2)
    params = layer.init(jax.random.key(0), X)
    jaxpr, _ = _compat.open_jaxpr(infer(layer.apply, params, X))
    lines = {_compat.source_line(eqn) for eqn in jaxpr.eqns}
    assert lines and all("flax" in line for line in lines), lines


def test_source_line_without_a_source():
    class Eqn:
        source_info = None

    assert _compat.source_line(Eqn()) == "unknown source"


def test_is_tracer():
    seen = []
    jax.jit(lambda x: seen.append(_compat.is_tracer(x)) or x)(X)
    jax.vmap(lambda x: seen.append(_compat.is_tracer(x)) or x)(X)
    jax.grad(lambda x: seen.append(_compat.is_tracer(x)) or x)(1.0)
    assert seen == [True, True, True]
    values = X, np.ones(2), 1.0, None, jax.ShapeDtypeStruct((), int)
    assert not any(map(_compat.is_tracer, values))


def test_enable_x64_is_local():
    before = jax.config.jax_enable_x64
    with jax.enable_x64(False):
        assert jnp.ones(1).dtype == jnp.float32
        with _compat.enable_x64():
            assert jnp.ones(1).dtype == jnp.float64
            assert jax.jit(lambda x: x / 3)(1.0).dtype == jnp.float64
        assert jnp.ones(1).dtype == jnp.float32
        with pytest.raises(KeyError), _compat.enable_x64():
            raise KeyError
        assert jnp.ones(1).dtype == jnp.float32
    assert jax.config.jax_enable_x64 == before


# -- paths -----------------------------------------------------------------------------------------


class _Value(eqx.Module):
    value: jax.Array
    gain: jax.Array


def test_paths_of_plain_trees():
    tree = {"a": [1.0, (2.0, {"b": 3.0})], "value": 4.0}
    assert _compat.leaf_paths(tree) == ["a/0", "a/1/0", "a/1/1/b", "value"]
    assert _compat.leaf_paths(5.0) == [""]
    assert _compat.leaf_paths({"a": None}) == []


def test_paths_of_linen():
    from flax import linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.MultiHeadDotProductAttention(num_heads=1, name="att")(x))

    params = jax.eval_shape(Net().init, jax.random.key(0), jnp.ones((2, 4)))["params"]
    paths = _compat.leaf_paths(params)
    assert {"Dense_0/kernel", "Dense_0/bias", "att/value/kernel"} <= set(paths)
    assert paths == [_compat.key_path_str(path) for path, _ in jax.tree.leaves_with_path(params)]


def test_paths_of_nnx_leave_out_the_variable():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(2, 3, rngs=rngs)
            self.rest = nnx.List([nnx.Linear(3, 3, rngs=rngs)])

    net = Net(nnx.Rngs(0))
    state = nnx.state(net, nnx.Param)
    expected = ["first/bias", "first/kernel", "rest/0/bias", "rest/0/kernel"]
    assert _compat.leaf_paths(state) == expected
    assert _compat.leaf_paths(nnx.to_pure_dict(state)) == expected
    for tree in (state, nnx.to_pure_dict(state)):
        flat = jax.tree.leaves_with_path(tree)
        assert [_compat.key_path_str(path) for path, _ in flat] == expected


def test_paths_of_equinox_keep_a_field_called_value():
    mlp = eqx.filter(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.is_array)
    names = ["0/weight", "0/bias", "1/weight", "1/bias"]
    assert _compat.leaf_paths(mlp) == [f"layers/{name}" for name in names]
    assert _compat.leaf_paths([_Value(X, X)]) == ["0/value", "0/gain"]


def test_two_leaves_with_one_path_are_refused():
    with pytest.raises(ValueError, match="two leaves have the path 'a/b'"):
        _compat.leaf_paths({"a": {"b": 1.0}, "a/b": 2.0})


# -- optional packages -----------------------------------------------------------------------------


def test_require_returns_the_module():
    assert _compat.require("json.decoder", extra="experiments").__name__ == "json.decoder"


def test_require_names_the_extra():
    with pytest.raises(ImportError, match=r"`absent_pkg` .*pip install \"wsljax\[flow\]\""):
        _compat.require("absent_pkg.sub", extra="flow")


def test_require_does_not_hide_a_broken_package(tmp_path, monkeypatch):
    (tmp_path / "broken_pkg.py").write_text("import absent_dependency_of_broken_pkg\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="absent_dependency_of_broken_pkg"):
        _compat.require("broken_pkg", extra="flow")


@pytest.mark.parametrize("shape", [(5, 5), (3, 8, 4), (2, 3, 6, 6), (40, 40)])
def test_orthonormal_columns_are_those_of_a_qr_decomposition(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    with _compat.enable_x64():
        q = np.asarray(jax.jit(_compat.orthonormal_columns)(x))
    wanted, r = np.linalg.qr(x)
    wanted = wanted * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    np.testing.assert_allclose(q, wanted, atol=1e-10)


def test_columns_that_are_nearly_dependent_are_orthogonal_all_the_same():
    x = np.random.default_rng(1).standard_normal((6, 1)) + 1e-3 * np.random.default_rng(
        2
    ).standard_normal((6, 4))
    q = np.asarray(_compat.orthonormal_columns(jax.numpy.asarray(x, "float32")))
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-5)
