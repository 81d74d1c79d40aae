"""Settings of every test: four CPU devices, float64, exact products, fixed seeds, no x64 in docs.

They are set before jax touches a device, and hold for `tests/` and for the doctests of `wsljax/`
alike, which way ever pytest is called.
"""

import os
import random
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest

# Hundreds of small programs are each run a few times: compiling them is what takes time, so it is done quickly.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
# Processes that share the cores must not wait on each other's threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")

# The same examples in every run and on every machine.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")


def _group(item: pytest.Item | None) -> str | None:
    """The case a test is about, for tests that are parametrised by the `name` of one."""
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("name") if callspec else None
    return f"{item.path.stem}:{name}" if isinstance(name, str) else None


THINNED = ("applications", "generation", "representation", "symmetry", "understanding")


def _leave_out_most_cases(items):
    """Of a test over many cases two of three are slow: compiling all of them takes hours.

    The registry of architectures has its own rule.
    """
    seen: dict[tuple, int] = {}
    for item in items:
        folder = Path(item.path).relative_to(item.config.rootpath).parts[:2]
        of_pillar = folder[0] == "tests" and folder[1] in THINNED
        if getattr(item, "callspec", None) and of_pillar and item.path.stem != "test_architectures":
            test = (item.path, item.originalname)
            seen[test] = seen.get(test, -1) + 1
            if seen[test] % 3:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All tests of one case follow each other, in one process, as they share what was compiled."""
    _leave_out_most_cases(items)
    first: dict[str, int] = {}
    order = [first.setdefault(_group(item) or item.nodeid, i) for i, item in enumerate(items)]
    items[:] = [item for _, item in sorted(zip(order, items), key=lambda pair: pair[0])]
    for item in items:
        if _group(item):
            item.add_marker(pytest.mark.xdist_group(_group(item)))


CASES_BETWEEN_CLEARINGS = 8
_cases_done = 0


def pytest_runtest_teardown(item, nextitem):
    """Compiled programs are kept by jax for ever, some ten megabytes a case: let go of them."""
    global _cases_done
    if _group(item) and _group(item) != _group(nextitem):
        _cases_done += 1
        if _cases_done % CASES_BETWEEN_CLEARINGS == 0:
            jax.clear_caches()


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Randomness goes by explicit keys; what escapes that rule is at least the same each time."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def settings_of_a_user(request):
    """A doctest shows what a user sees, who has float32; no test leaves a setting changed."""
    before = jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion
    if isinstance(request.node, pytest.DoctestItem):
        with jax.enable_x64(False):
            yield
    else:
        yield
    assert before == (jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
