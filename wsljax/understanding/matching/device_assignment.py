"""Linear assignment as one jitted program: an auction for prices, shortest paths for what it leaves open.

The auction (D. P. Bertsekas, Ann. Oper. Res. 14, 1988) lets all rows without a column bid at once, in
rounds of matrix operations that suit accelerators, with bids that become finer. It is stopped early: its
price wars are about the last few rows. *Any* prices are a feasible dual, so from them exact shortest
augmenting paths (R. Jonker, A. Volgenant, Computing 38, 1987) finish the job: each row first takes the column
it likes best at these prices, and a path is searched for the few that collide.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

FINENESS = (0.1, 0.02, 0.004, 0.0008)
"""Least raise of a bid in each phase of the auction, relative to the spread of the costs."""
ROUNDS = 40
"""Rounds of each phase, at most."""


def assign_on_device(cost: jax.Array, prices: jax.Array | None = None) -> jax.Array:
    """The column of each row at least total cost.

    Args:
        cost: ``(rows, columns)``, floating, no more rows than columns.
        prices: ``(columns,)`` to start from, as of a similar problem; then there is no auction.

    Returns:
        ``(rows,)`` of int32.

    Example:
        >>> import jax.numpy as jnp
        >>> assign_on_device(jnp.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])).tolist()
        [1, 0, 2]
    """
    rows, columns = cost.shape
    if columns == 0 or rows == 0:
        return jnp.zeros((rows,), jnp.int32)
    if rows < columns:  # rows that do not care
        cost = jnp.concatenate([cost, jnp.zeros((columns - rows, columns), cost.dtype)])
    cost = jnp.nan_to_num(cost)  # a search over what is not a number would not end
    cost = cost - cost.min(-1, keepdims=True)
    if prices is None:
        prices = auction_prices(cost)
    return _shortest_paths(cost, prices)[:rows]


def auction_prices(cost: jax.Array) -> jax.Array:
    """Prices of the columns of a square matrix, after a few phases of an auction."""
    spread = jnp.max(cost) - jnp.min(cost)
    raises = jnp.maximum(jnp.asarray(FINENESS, cost.dtype) * spread, 1e-30)
    prices = jnp.zeros((cost.shape[-1],), cost.dtype)
    return jax.lax.scan(lambda p, r: (_phase(cost, p, r), None), prices, raises)[0]


def _phase(cost: jax.Array, prices: jax.Array, raise_by: jax.Array) -> jax.Array:
    n = cost.shape[-1]
    people = jnp.arange(n)
    nobody = jnp.asarray(n, jnp.int32)

    def bid(state):
        prices, owner, turn = state
        holds = jnp.zeros((n + 1,), bool).at[owner].set(True)[:n]
        value = -cost - prices
        first = jnp.argmax(value, -1)
        best = jnp.take_along_axis(value, first[:, None], -1)[:, 0]
        second = jnp.max(jnp.where(people == first[:, None], -jnp.inf, value), -1)
        second = jnp.where(jnp.isfinite(second), second, best)
        offer = jnp.where(holds, -jnp.inf, prices[first] + best - second + raise_by)
        highest = jnp.full((n,), -jnp.inf, cost.dtype).at[first].max(offer)
        wins = (offer == highest[first]) & ~holds
        winner = (
            jnp.full((n,), n, jnp.int32).at[first].min(jnp.where(wins, people, n).astype(jnp.int32))
        )
        sold = winner < n
        return (
            jnp.where(sold, highest, prices),
            jnp.where(sold, winner, owner),
            turn + 1,
        )

    def goes_on(state):
        _, owner, turn = state
        return (turn < ROUNDS) & jnp.any(owner == nobody)

    state = (prices, jnp.full((n,), n, jnp.int32), 0)
    return jax.lax.while_loop(goes_on, bid, state)[0]


def _shortest_paths(cost: jax.Array, prices: jax.Array) -> jax.Array:
    """Exact, from any prices; ``cost`` is square."""
    n = cost.shape[-1]
    index = jnp.arange(n, dtype=jnp.int32)
    duals = -prices
    liked = jnp.argmin(cost - duals, -1).astype(jnp.int32)
    row_of = jnp.full((n,), n, jnp.int32).at[liked].min(index)  # of each column; n for none
    column_of = jnp.where(row_of[liked] == index, liked, n)

    def augment(state):
        duals, row_of, column_of = state
        start = jnp.argmin(column_of != n).astype(jnp.int32)  # the first row without a column

        def grow(path):
            length, came, done, last, _ = path
            row = row_of[last]
            # reduced costs along the row, from the length of the path so far
            through = length[last] + (cost[row] - duals) - (cost[row, last] - duals[last])
            better = ~done & (through < length)
            length = jnp.where(better, through, length)
            came = jnp.where(better, row, came)
            return reach(length, came, done)

        def reach(length, came, done):
            nearest = jnp.argmin(jnp.where(done, jnp.inf, length)).astype(jnp.int32)
            return length, came, done.at[nearest].set(True), nearest, row_of[nearest] == n

        reduced = cost[start] - duals
        path = reach(reduced - reduced.min(), jnp.full((n,), start), jnp.zeros((n,), bool))
        # in a batch the finished ones go on with the others: they have no free column to reach
        searching = lambda p: ~p[4] & ~jnp.all(p[2])  # noqa: E731
        length, came, done, last, _ = jax.lax.while_loop(searching, grow, path)
        duals = duals + jnp.where(done, length - length[last], 0)

        def turn_back(state):
            column, row_of, column_of, count = state
            row = came[column]
            following = column_of[row]
            row_of, column_of = row_of.at[column].set(row), column_of.at[row].set(column)
            return following, row_of, column_of, jnp.where(row == start, 0, count - 1)

        walk = (last, row_of, column_of, jnp.asarray(n))
        _, row_of, column_of, _ = jax.lax.while_loop(lambda w: w[3] > 0, turn_back, walk)
        return duals, row_of, column_of

    state = (duals, row_of, column_of)
    return jax.lax.while_loop(lambda s: jnp.any(s[2] == n), augment, state)[2]
