"""The torch side of the metanet bench: a published network built from its own repository, run on demand.

Run in an interpreter that has torch. One line of JSON comes in: the folder of the checkouts, the peer,
the weight shapes of a plain chain `(in, out, *kernel)`, channels, networks, threads. One line of JSON
goes out: parameters and what was built, or why it was not. Then for every line that comes in a step is
run (zeroed gradients, forward, loss, backward) and its seconds go out.

`matrix` instead of a network: the dense matrix of one linear layer with one channel.
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where `_peers` is

from _peers.build import peer as published  # noqa: E402
from _peers.tasks import Shapes  # noqa: E402


def matrix(peer, shapes: Shapes, number: int) -> dict:
    """The linear part of a layer as a flat matrix, for so many draws of its parameters.

    The matrix is linear in the parameters: enough draws show the span of all layers of its form.
    """
    layer, apply = peer.linear(shapes)
    sizes = [torch.Size(s).numel() for s in shapes] + [s[1] for s in shapes]
    units = torch.eye(sum(sizes), dtype=torch.float64)
    zero = torch.zeros(1, sum(sizes), dtype=torch.float64)

    def run(flat):
        parts = flat.split(sizes, dim=1)
        weights = [p.reshape(-1, *s) for p, s in zip(parts, shapes)]
        weights, biases = apply(weights, list(parts[len(shapes) :]))
        return torch.cat([y.flatten(1) for y in [*weights, *biases]], dim=1)

    draws = []
    with torch.no_grad():
        for _ in range(number):
            for p in layer.parameters():
                torch.nn.init.normal_(p)
            draws.append((run(units) - run(zero)).T.tolist())
    return {"matrices": draws}


def main() -> None:
    torch.manual_seed(0)
    what = json.loads(sys.stdin.readline())
    torch.set_num_threads(what["threads"])
    shapes = [tuple(s) for s in what["shapes"]]
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    try:
        peer = published(what["peers"], what["peer"])
        if what.get("matrix"):
            print(json.dumps(matrix(peer, shapes, what["matrix"])), file=out, flush=True)
            return
        net, forward = peer.network(shapes, what["channels"], what["layers"], what["networks"])
        loss = torch.mean(torch.square(forward(net)))  # lazy parts are made in the first run
        loss.backward()
    except Exception as e:  # noqa: BLE001 - whatever a peer cannot do is reported, not raised
        reason = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        print(json.dumps({"skipped": reason[:300]}), file=out, flush=True)
        return
    answer = {"parameters": sum(p.numel() for p in net.parameters()), "torch": torch.__version__}
    print(json.dumps(answer), file=out, flush=True)
    now = {"wall": time.perf_counter, "cpu": time.process_time}[what["clock"]]
    for _ in sys.stdin:
        start = now()
        net.zero_grad(set_to_none=True)
        torch.mean(torch.square(forward(net))).backward()
        print(json.dumps(now() - start), file=out, flush=True)


if __name__ == "__main__":
    main()
