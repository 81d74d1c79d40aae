"""The torch side of the generation bench: a published generator from its own repository, run on demand.

Run in an interpreter that has torch. One line of JSON comes in: the folder of the checkouts, the peer (a key of
`PEERS`), sizes, threads. One line goes out: parameters, or why there is nothing to run. Then each line
that comes in, `{"do": "train"}` or `{"do": "sample", "networks": n}`, is done once and its seconds go out.

p-diff   `Neural-Network-Diffusion`: its 1-D convolutional denoiser on latents, its DDPM loss, its DDIM sampler, and the
         decoder of its autoencoder behind it
G.pt     `G.pt`: its transformer over pieces of weights, its DDPM loss for the network itself, its respaced sampler
"""

import contextlib
import importlib
import json
import sys
import time
from pathlib import Path

import torch


class PDiff:
    """Latents `(batch, latent)` of vectors of `weights` numbers."""

    def __init__(self, root: Path, what: dict):
        sys.path.insert(0, str(root / "Neural-Network-Diffusion"))
        denoiser = importlib.import_module("model.denoiser")
        self.diffusion = importlib.import_module("model.diffusion")
        vae = importlib.import_module("model.pdiff").OneDimVAE
        self.latent, self.batch, self.steps = what["latent"], what["batch"], what["steps"]
        self.net = denoiser.OneDimCNN(what["channels"], self.latent, what["kernel"])
        self.loss_of = self.diffusion.GaussianDiffusionTrainer(self.net, (1e-4, 0.02), 1000)
        self.decoder = vae(list(what["autoencoder"]), self.latent, what["weights"]).eval()
        self.x = torch.randn(self.batch, self.latent)

    def loss(self):
        return self.loss_of(self.x, 0.0)

    def sample(self, networks: int):
        sampler = self.diffusion.DDIMSampler(self.net.eval(), (1e-4, 0.02), 1000)
        latents = sampler(torch.randn(networks, self.latent), 0.0, steps=self.steps, eta=0.0)
        out = self.decoder.decode(latents)
        self.net.train()
        return out


class GPT:
    """Networks `(batch, weights)` beside their starts, and two metrics."""

    def __init__(self, root: Path, what: dict):
        sys.path.insert(0, str(root / "G.pt"))
        module = importlib.import_module("Gpt.models.transformer")

        def embed(self, x):  # theirs puts every number on a GPU
            x = x.reshape(len(x), -1, 1).float()
            angles = self.frequencies.view(1, 1, -1) * x
            return torch.cat([torch.sin(angles), torch.cos(angles), x], -1).flatten(1)

        module.FrequencyEmbedder.forward = embed
        create = importlib.import_module("Gpt.diffusion").create_diffusion
        sizes, self.batch = what["sizes"], what["batch"]
        self.weights = sum(sizes)
        self.net = module.Gpt(
            sizes,
            [str(n) for n in range(len(sizes))],
            absolute_loss_conditioning=True,
            max_freq_log2=14,
            n_layer=what["layers"],
            n_head=what["heads"],
            n_embd=what["width"],
            chunk_size=what["pieces"],
            split_policy="chunk_within_layer",
        )
        options = {"learn_sigma": False, "predict_xstart": True}
        self.diffusion = create(**options)
        self.respaced = create(**options, timestep_respacing=str(what["steps"]))
        self.x, self.start = torch.randn(2, self.batch, self.weights)

    def told(self, networks: int) -> dict:
        start = self.start[torch.arange(networks) % self.batch]
        metric = torch.ones(networks, 1)
        return {"loss_target": 0 * metric, "loss_prev": metric, "x_prev": start}

    def loss(self):
        t = torch.randint(1000, (self.batch,))
        found = self.diffusion.training_losses(self.net, self.x, t, self.told(self.batch))
        return found["loss"].mean()

    def sample(self, networks: int):
        self.net.eval()
        found = self.respaced.p_sample_loop(
            self.net,
            (networks, self.weights),
            clip_denoised=False,
            model_kwargs=self.told(networks),
            device="cpu",
        )
        self.net.train()
        return found


PEERS = {"p-diff": PDiff, "G.pt": GPT}


def main() -> None:
    torch.manual_seed(0)
    what = json.loads(sys.stdin.readline())
    torch.set_num_threads(what["threads"])
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints is no answer
        try:
            peer = PEERS[what["peer"]](Path(what["peers"]), what)
            optimiser = torch.optim.AdamW(peer.net.parameters(), lr=1e-3)
            assert torch.isfinite(peer.loss())
        except Exception as e:  # noqa: BLE001 - whatever a peer cannot do is reported, not raised
            reason = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
            print(json.dumps({"skipped": reason[:300]}), file=out, flush=True)
            return
        count = sum(p.numel() for p in peer.net.parameters())
        answer = {"parameters": count, "torch": torch.__version__}
        print(json.dumps(answer), file=out, flush=True)
        now = {"wall": time.perf_counter, "cpu": time.process_time}[what["clock"]]
        for line in sys.stdin:
            asked = json.loads(line)
            start = now()
            if asked.get("do") == "sample":
                with torch.no_grad():
                    assert peer.sample(asked["networks"]).shape[0] == asked["networks"]
            else:
                optimiser.zero_grad(set_to_none=True)
                peer.loss().backward()
                optimiser.step()
            print(json.dumps(now() - start), file=out, flush=True)


if __name__ == "__main__":
    main()
