"""The torch side of the zoo bench: seconds to train a population by `torch.func`, to standard output."""

import json
import sys
import time

import torch
from torch.func import functional_call, grad, stack_module_state, vmap


class Siren(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            [torch.nn.Linear(*s) for s in ((2, 32), (32, 32), (32, 1))]
        )

    def forward(self, x):
        x = torch.sin(30 * self.layers[0](x))
        return self.layers[2](torch.sin(30 * self.layers[1](x)))


def cnn():
    conv, relu = torch.nn.Conv2d, torch.nn.ReLU
    return torch.nn.Sequential(
        conv(1, 16, 3, 2), relu(), conv(16, 16, 3, 2), relu(), conv(16, 16, 3, 2), relu(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 10),
    )  # fmt: skip


def mlp():
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    return torch.nn.Sequential(linear(64, 16), relu(), linear(16, 16), relu(), linear(16, 10))


CASES = {
    "siren 2-32-32-1": (Siren, (784, 2), None),
    "cnn 4970": (cnn, (512, 1, 28, 28), 64),
    "mlp 64-16-16-10": (mlp, (1437, 64), 64),
}


def main(case: str, models: int, steps: int) -> float:
    make, shape, batch = CASES[case]
    nets = [make() for _ in range(models)]
    params, _ = stack_module_state(nets)
    params = {name: value.detach() for name, value in params.items()}
    x = torch.randn(shape)
    y = torch.randn(models, shape[0], 1) if batch is None else torch.randint(0, 10, shape[:1])
    net = nets[0]

    def loss(params, x, y):
        out = functional_call(net, params, (x,))
        if batch is None:
            return torch.mean((out - y) ** 2)
        return torch.nn.functional.cross_entropy(out, y)

    axes = (0, None, 0) if batch is None else (0, 0, 0)
    gradient = vmap(grad(loss), in_dims=axes)
    first = {name: torch.zeros_like(p) for name, p in params.items()}
    second = {name: torch.zeros_like(p) for name, p in params.items()}

    def run(count):
        for step in range(1, count + 1):
            if batch is None:
                grads = gradient(params, x, y)
            else:
                chosen = torch.randint(0, shape[0], (models, batch))
                grads = gradient(params, x[chosen], y[chosen])
            for name, g in grads.items():
                first[name].mul_(0.9).add_(g, alpha=0.1)
                second[name].mul_(0.999).addcmul_(g, g, value=0.001)
                root = (second[name] / (1 - 0.999**step)).sqrt_().add_(1e-8)
                params[name] = params[name] - 1e-3 * first[name] / (1 - 0.9**step) / root

    run(2)
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(main(**json.loads(sys.argv[1])))
