"""A population is one stacked pytree with columns, and stays so under every operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.zoo import Population
from wsljax.zoo.population import concatenate


@pytest.fixture
def population(key):
    params = {"dense": {"kernel": jax.random.normal(key, (5, 3, 2)), "act": jnp.tanh}}
    columns = {"accuracy": np.linspace(0.1, 0.9, 5), "optimiser": [0, 1, 1, 0, 1]}
    return Population(params, columns, labels={"optimiser": ("sgd", "adam")})


def test_networks_and_parts(population):
    kernel = population.params["dense"]["kernel"]
    assert len(population) == 5
    np.testing.assert_array_equal(population[-1]["dense"]["kernel"], kernel[-1])
    assert population[0]["dense"]["act"] is jnp.tanh
    assert len(list(population)) == 5
    for index in ([4, 0], slice(1, 3), np.array([True, False, True, False, False])):
        part = population.take(index)
        np.testing.assert_array_equal(
            part.params["dense"]["kernel"],
            kernel[np.array(index)] if not isinstance(index, slice) else kernel[index],
        )
        np.testing.assert_array_equal(
            part.columns["accuracy"], population.columns["accuracy"][index]
        )
        assert part.labels == population.labels
    assert len(population.take([])) == 0
    assert population.label("optimiser") == ["sgd", "adam", "adam", "sgd", "adam"]


def test_it_goes_through_jax_as_data(population):
    spec = symmetry.parse({"w": jnp.zeros((3, 2))}, {"w": "_ h"})
    small = Population({"w": jnp.ones((4, 3, 2))}, {"a": jnp.arange(4.0)}, spec)
    doubled = jax.jit(lambda p: jax.tree.map(lambda leaf: 2 * leaf, p))(small)
    assert isinstance(doubled, Population) and doubled.spec == spec
    np.testing.assert_array_equal(doubled.columns["a"], [0, 2, 4, 6])
    rows = jax.vmap(lambda params, row: params["w"].sum() + row["a"])(small.params, small.columns)
    np.testing.assert_array_equal(rows, [6, 7, 8, 9])


def test_columns_and_specs_are_added(population):
    more = population.with_columns({"loss": jnp.ones(5)}, {"loss": ("none",)})
    assert list(more.columns) == ["accuracy", "optimiser", "loss"]
    assert dict(more.labels) == {"optimiser": ("sgd", "adam"), "loss": ("none",)}
    assert "loss" not in population.columns
    assert population.with_spec("any").spec == "any"


def test_concatenation(population):
    both = concatenate([population, population.take([1])])
    assert len(both) == 6 and both.label("optimiser")[-1] == "adam"
    kernel = population.params["dense"]["kernel"]
    np.testing.assert_array_equal(both[5]["dense"]["kernel"], kernel[1])
    with pytest.raises(ValueError, match="population 1 has another tree"):
        concatenate([population, Population({"w": jnp.ones((2, 1))}, {})])
    with pytest.raises(ValueError, match="empty"):
        concatenate([])


def test_the_table_says_what_there_is(population):
    table = repr(population)
    assert "5 networks with 6 parameters each" in table
    assert "0.1 to 0.9, median 0.5" in table and "sgd 2, adam 3" in table


def test_errors_name_the_leaf(population):
    with pytest.raises(ValueError, match=r"b/kernel has shape \(3, 2\), but a has shape \(4,\)"):
        Population({"a": jnp.ones(4), "b": {"kernel": jnp.ones((3, 2))}}, {})
    with pytest.raises(ValueError, match=r"column 'accuracy' has shape \(\)"):
        Population({"a": jnp.ones(4)}, {"accuracy": 0.5})
    with pytest.raises(IndexError, match="network 5 of a population of 5"):
        population[5]
    with pytest.raises(ValueError, match=r"mask has shape \(3,\)"):
        population.take([True, False, True])
    with pytest.raises(KeyError, match="'accuracy' has no labels"):
        population.label("accuracy")
