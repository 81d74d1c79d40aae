"""One of two processes of `test_data.py`: the same run as there, half of every batch read by each."""

import json
import sys
from pathlib import Path

import jax


def main(port: str, folder: Path, number: int) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    jax.distributed.initialize(
        f"localhost:{port}", num_processes=2, process_id=number, initialization_timeout=120
    )
    import numpy as np

    from tests.train.test_data import fit
    from wsljax import train

    found = np.load(folder / "samples.npz")
    samples = found["x"], found["y"]
    widths = set()

    def read(rows):
        widths.add(len(rows))
        return tuple(a[rows] for a in samples)

    source, mesh = train.Source(50, read), train.make_mesh()
    assert mesh.size == 4
    with train.Checkpointer(folder / "store") as store:
        fit(source, mesh=mesh, steps=25, checkpointer=store)
        result = fit(source, mesh=mesh, checkpointer=store)
    (width,) = widths
    told = {"history": result.history, "rows_read": width}
    (folder / f"history_{number}.json").write_text(json.dumps(told))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
