"""A GPT in PyTorch eager that trains on given weights and batches: `nanogpt_torch.py JOB_FOLDER`.

The architecture of nanoGPT (learned positions, LayerNorm, fused query-key-value projection, GELU, tied head), written
anew, with what the other side has: LayerNorm with a bias, linear layers without, GELU in its tanh form. The job is
that of bench/lm/training-job.ts; weights of linear layers are [in, out] there and [out, in] here.
Requests: `train` runs the next `steps` steps, `evaluate` gives the mean loss over the validation windows.
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from line_protocol import serve


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim, self.heads = c["dim"], c["heads"]
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-5), nn.LayerNorm(dim, eps=1e-5)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x):
        b, t, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(dim, dim=2)
        q, k, v = (y.view(b, t, self.heads, dim // self.heads).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).contiguous().view(b, t, dim))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embedding = nn.Embedding(c["vocabulary"], c["dim"])
        self.positions = nn.Embedding(c["context"], c["dim"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.LayerNorm(c["dim"], eps=1e-5)

    def forward(self, x, y):
        hidden = self.embedding(x) + self.positions.weight[: x.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        logits = F.linear(self.norm(hidden), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def target_of(model, name):
    """The tensor, in the orientation of the file, that a weight of the job goes into."""
    parts = name.split(".")
    if parts[0] != "layers":
        return getattr(getattr(model, parts[0]), parts[1])
    block, rest = model.layers[int(parts[1])], ".".join(parts[2:])
    norms = {"attentionNorm": block.norm1, "mlpNorm": block.norm2}
    if parts[2] in norms:
        return getattr(norms[parts[2]], parts[3])
    if rest in ("attention.q.weight", "attention.k.weight", "attention.v.weight"):
        return block.qkv.weight.chunk(3)["qkv".index(parts[3])].t()
    return {"attention.o.weight": block.o, "mlp.up.weight": block.up, "mlp.down.weight": block.down}[rest].weight.t()


@torch.no_grad()
def load_weights(model, job, folder):
    values = torch.from_numpy(np.fromfile(folder / "weights.bin", dtype=np.float32))
    offset = 0
    for spec in job["parameters"]:
        count = int(np.prod(spec["shape"]))
        target_of(model, spec["name"]).copy_(values[offset : offset + count].view(spec["shape"]))
        offset += count
    assert offset == sum(p.numel() for p in model.parameters()), "the job's weights are not those of this model"


def optimizer_of(model, job):
    o = job["optimizer"]
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": o["weightDecay"]}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=1e-8, fused=True)


def rate(job, step):
    """Half a cosine from the first step on, times a linear rise."""
    o, steps = job["optimizer"], job["steps"]
    cosine = o["finalLr"] + (o["lr"] - o["finalLr"]) / 2 * (1 + math.cos(math.pi * min(step / steps, 1)))
    return cosine * min((step + 1) / o["warmup"], 1)


def pairs(file, config):
    """Batches as (inputs, targets)."""
    tokens = np.fromfile(file, dtype=np.int32).astype(np.int64)
    return torch.from_numpy(tokens).view(-1, 2, config["batch"], config["context"])


def main(folder):
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    model = Gpt(job["config"])
    load_weights(model, job, folder)
    optimizer = optimizer_of(model, job)
    batches = pairs(folder / "batches.bin", job["config"])
    validation = pairs(folder / "validation.bin", job["config"])
    done = 0

    def train(request):
        nonlocal done
        losses = []
        start = time.perf_counter()
        for _ in range(request["steps"]):
            for group in optimizer.param_groups:
                group["lr"] = rate(job, done)
            loss = model(*batches[done])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), job["optimizer"]["clipNorm"])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            done += 1
        return {"type": "trained", "seconds": time.perf_counter() - start, "losses": losses}

    @torch.no_grad()
    def evaluate(_):
        return {"type": "evaluated", "loss": float(np.mean([model(*pair).item() for pair in validation]))}

    about = f"PyTorch {torch.__version__} eager, {job['threads']} threads"
    serve(about, {"train": train, "evaluate": evaluate})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
