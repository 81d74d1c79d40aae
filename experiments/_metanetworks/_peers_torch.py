"""The torch side of a comparison: a published network trained on the networks of our rows.

Run in an interpreter that has torch. One line of JSON comes in, see `peers.request`; networks come in an
npz file. Lines of JSON go out: one an evaluation, and at the end what was trained, or `skipped` and why
the repository cannot do it. Answers to the test networks, given once by the parameters that were best on
the validation networks, go to another npz file. The recipe is that of our rows: AdamW, warm-up over a
tenth of the steps, cosine, gradients clipped to a norm of 1, evaluations every so many steps. With more
than one learning rate each is trained with in full, and validation chooses.
"""

import copy
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where `_peers` is

from _peers.build import peer as published  # noqa: E402
from _peers.recipe import better, rate  # noqa: E402
from _peers.tasks import Learner, Networks, Task  # noqa: E402

PARTS = ("training", "validation", "test")
SELECT = {
    "classification": ("accuracy", True),
    "regression": ("r2", True),
    "editing": ("mse", False),
}
TOGETHER = 128
"""Networks that are measured together."""


class Part(NamedTuple):
    networks: Networks
    targets: torch.Tensor


class Job:
    """One published network, its data and its recipe."""

    def __init__(self, what: dict[str, Any]):
        self.what, self.kind = what, what["kind"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with np.load(what["data"]) as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        self.arrays = {name: a.to(self.device) for name, a in self.arrays.items()}
        self.parts = [self.part(name) for name in PARTS]
        self.task = Task(self.kind, what["out"], what["channels"], what["layers"], what["augment"])
        self.recipe = what["training"]
        if self.task.augment and self.kind == "editing":
            raise NotImplementedError("random changes of networks would need other targets")

    def part(self, name: str) -> Part:
        found = self.arrays
        count = sum(key.startswith(f"{name}/weights") for key in found)
        weights, biases = (
            [found[f"{name}/{leaves}/{i}"] for i in range(count)]
            for leaves in ("weights", "biases")
        )
        return Part(Networks(weights, biases, found.get(f"{name}/tanh")), found[f"{name}/targets"])

    def learner(self, seed: int) -> Learner:
        """The network, drawn; its lazy parts are made by a first run."""
        torch.manual_seed(seed)
        what = published(self.what["peers"], self.what["peer"])
        learner = what.learner(self.task, self.parts[0].networks, **self.what["options"])
        learner.net.to(self.device).eval()
        with torch.no_grad():
            learner.forward(learner.net, self.parts[0].networks.take(slice(2)))
        return learner

    def edited(self, learner: Learner, x: Networks) -> Networks:
        weights, biases = learner.forward(learner.net, x)
        both = ((x.weights, weights), (x.biases, biases))
        return Networks(*([a + d for a, d in zip(*pair, strict=True)] for pair in both))

    def drawn(self, x: Networks) -> torch.Tensor:
        """What sine networks draw: `(networks, points, channels)`."""
        h = self.arrays["points"].expand(len(x.biases[0]), -1, -1)
        last = len(x.weights) - 1
        for i, (w, b) in enumerate(zip(x.weights, x.biases, strict=True)):
            h = torch.baddbmm(b[:, None], h, w)
            if i < last:
                h = torch.sin(self.what["drawing"]["frequencies"][i] * h)
        return h + self.what["drawing"]["offset"]

    def loss(self, learner: Learner, x: Networks, y: torch.Tensor) -> torch.Tensor:
        if self.kind == "editing":
            return torch.mean((self.drawn(self.edited(learner, x)) - y) ** 2)
        answers = learner.forward(learner.net, x)
        if self.kind == "classification":
            return torch.nn.functional.cross_entropy(answers, y.long())
        if learner.loss == "bce":
            return torch.nn.functional.binary_cross_entropy(answers, y)
        return torch.mean((answers - y) ** 2)

    def batches(self, seed: int) -> Iterator[tuple[Networks, torch.Tensor]]:
        """Training networks in a new order each epoch, what does not fill a batch left out."""
        networks, targets = self.parts[0]
        draws, size, noise = (
            torch.Generator().manual_seed(seed),
            self.recipe["batch"],
            self.what["noise"],
        )
        if size > len(targets):
            raise ValueError(f"a batch of {size} from {len(targets)} networks")
        while True:
            order = torch.randperm(len(targets), generator=draws)
            for at in range(0, len(order) - size + 1, size):
                index = order[at : at + size].to(self.device)
                x = networks.take(index)
                if noise:
                    x = x.map(lambda a: a * (1 + noise * torch.randn_like(a)))
                yield x, targets[index]

    @torch.no_grad()
    def answers(self, learner: Learner, part: Part) -> list[torch.Tensor]:
        """To all networks of a part: one tensor, or all weights and biases of what they became."""
        learner.net.eval()
        found = []
        for at in range(0, len(part.targets), TOGETHER):
            x = part.networks.take(slice(at, at + TOGETHER))
            if self.kind == "editing":
                new = self.edited(learner, x)
                found.append([*new.weights, *new.biases])
            else:
                found.append([learner.forward(learner.net, x)])
        return [torch.cat(pieces) for pieces in zip(*found, strict=True)]

    @torch.no_grad()
    def score(self, learner: Learner, part: Part) -> float:
        """By which the best evaluation is kept."""
        answers, y = self.answers(learner, part), part.targets
        if self.kind == "editing":
            count = len(part.networks.weights)
            total = 0.0
            for at in range(0, len(y), TOGETHER):
                piece = [a[at : at + TOGETHER] for a in answers]
                drawn = self.drawn(Networks(piece[:count], piece[count:]))
                total += float(torch.sum((drawn - y[at : at + TOGETHER]) ** 2))
            return total / y.numel()
        if self.kind == "classification":
            return float((answers[0].argmax(-1) == y).double().mean())
        rest = torch.sum((answers[0] - y) ** 2)
        return float(1 - rest / torch.sum((y - y.mean()) ** 2))

    def train(self, seed: int, peak: float | None, say: Any) -> dict[str, Any]:
        """One training; the best parameters, their score on validation, and what it took."""
        learner = self.learner(seed)
        peak = learner.rate if peak is None else peak
        name, largest = SELECT[self.kind]
        steps, every = self.recipe["steps"], self.recipe["every"]
        parameters = [p for p in learner.net.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, weight_decay=self.recipe["weight_decay"])
        batches, history = self.batches(seed), []
        best, kept, total, since = None, copy.deepcopy(learner.net.state_dict()), 0.0, 0
        start, wall, processor = time.perf_counter(), 0.0, 0.0
        for step in range(steps):
            began = time.perf_counter(), time.process_time()
            x, y = next(batches)
            learner.net.train()
            optimiser.param_groups[0]["lr"] = rate(step, steps, peak)
            optimiser.zero_grad(set_to_none=True)
            loss = self.loss(learner, learner.change(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            total, since = total + float(loss.detach()), since + 1
            wall += time.perf_counter() - began[0]
            processor += time.process_time() - began[1]
            if (step + 1) % every == 0 or step + 1 == steps:
                score = self.score(learner, self.parts[1])
                history.append({"step": step + 1, "loss": total / since, name: score})
                say(history[-1] | {"learning_rate": peak})
                total, since = 0.0, 0
                if better(score, best, largest):
                    best, kept = score, copy.deepcopy(learner.net.state_dict())
        return {
            "learner": learner, "kept": kept, "best": best, "history": history, "learning_rate": peak,
            "parameters": sum(p.numel() for p in parameters), "step_seconds": wall / steps,
            "step_processor_seconds": processor / steps,
            "seconds": time.perf_counter() - start,
        }  # fmt: skip

    def run(self, say: Any) -> dict[str, Any]:
        """Train with every learning rate; the one that was best on validation answers the test."""
        largest = SELECT[self.kind][1]
        chosen, tried = None, []
        for peak in self.what["rates"] or [self.recipe["learning_rate"]]:
            found = self.train(self.what["seed"], None if peak == "own" else float(peak), say)
            tried.append({"learning_rate": found["learning_rate"], "validation": found["best"]})
            score = float("nan") if found["best"] is None else found["best"]
            if chosen is None or better(score, chosen["best"], largest):
                chosen = found
        learner = chosen.pop("learner")
        learner.net.load_state_dict(chosen.pop("kept"))
        answers = self.answers(learner, self.parts[2])
        np.savez(self.what["answers"], *(a.cpu().numpy() for a in answers))
        return {k: v for k, v in chosen.items() if k != "best"} | {
            "tried": tried, "torch": torch.__version__, "device": str(self.device),
        }  # fmt: skip


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    what = json.loads(sys.stdin.readline())
    if what["threads"]:
        torch.set_num_threads(what["threads"])
    try:
        say({"done": Job(what).run(say)})
    except NotImplementedError as e:
        say({"skipped": str(e)})


if __name__ == "__main__":
    main()
