"""The benchmark's GPT in PyTorch: `gpt_torch.py JOB_FOLDER [--compile]`.

Reads the job that bench/engine/gpt.ts wrote and speaks the protocol of bench/protocol.ts: one JSON
object a line, `run` and `memory` requests on stdin, replies on stdout. Steps are timed in here.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, config, eps):
        super().__init__()
        dim, self.heads = config["dim"], config["heads"]
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.up = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x):
        batch, context, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, context, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, context, dim))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, config, eps):
        super().__init__()
        dim, vocab = config["dim"], config["vocab"]
        self.tokens = nn.Embedding(vocab, dim)
        self.positions = nn.Embedding(config["context"], dim)
        self.blocks = nn.ModuleList(Block(config, eps) for _ in range(config["layers"]))
        self.norm = nn.RMSNorm(dim, eps=eps)
        self.head = nn.Linear(dim, vocab, bias=False)

    def forward(self, x, y):
        hidden = self.tokens(x) + self.positions.weight
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.head(self.norm(hidden))
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def load_weights(model, job, folder):
    """Copies weights.bin into the model; linear layers are [in, out] there and [out, in] here."""
    values = torch.from_numpy(np.fromfile(folder / "weights.bin", dtype=np.float32))
    modules = dict(model.named_modules())
    offset = 0
    with torch.no_grad():
        for spec in job["parameters"]:
            count = int(np.prod(spec["shape"]))
            value = values[offset : offset + count].view(spec["shape"])
            module = modules[spec["name"]]
            module.weight.copy_(value.t() if isinstance(module, nn.Linear) else value)
            offset += count


def load_batches(job, folder):
    config = job["config"]
    tokens = np.fromfile(folder / "tokens.bin", dtype=np.int32).astype(np.int64)
    pairs = torch.from_numpy(tokens).view(job["batches"], 2, config["batch"], config["context"])
    return [(pair[0].contiguous(), pair[1].contiguous()) for pair in pairs]


def peak_mb():
    """Peak resident memory in MB; VmHWM, since ru_maxrss starts at the size of the process that forked us."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmHWM in /proc/self/status")


def reply(**message):
    print(json.dumps(message), flush=True)


def build(folder, compiled):
    """Returns (step, about, compile milliseconds); `step(x, y)` trains once and returns the loss."""
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    model = Gpt(job["config"], job["normEpsilon"])
    load_weights(model, job, folder)
    adam = job["adamW"]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=adam["learningRate"],
        betas=(adam["beta1"], adam["beta2"]),
        eps=adam["epsilon"],
        weight_decay=adam["weightDecay"],
        fused=True,
    )
    batches = load_batches(job, folder)
    forward, compile_ms = model, None
    if compiled:
        start = time.perf_counter()
        forward = torch.compile(model)
        forward(*batches[0]).backward()
        optimizer.zero_grad()
        compile_ms = (time.perf_counter() - start) * 1e3

    def step(index):
        loss = forward(*batches[index % len(batches)])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    about = f"PyTorch {torch.__version__} {'torch.compile' if compiled else 'eager'}, {job['threads']} threads"
    return step, about, compile_ms


def main():
    step, about, compile_ms = build(Path(sys.argv[1]), "--compile" in sys.argv[2:])
    reply(type="ready", about=about, compileMs=compile_ms)
    done = 0
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "stop":
            break
        if request["op"] == "memory":
            reply(type="memory", peakMB=peak_mb())
            continue
        ms, losses = [], []
        end = time.perf_counter() + request["budgetMs"] / 1e3
        while len(ms) < request["steps"] or time.perf_counter() < end:
            start = time.perf_counter()
            losses.append(step(done))
            ms.append((time.perf_counter() - start) * 1e3)
            done += 1
        reply(type="ran", ms=ms, losses=losses)


if __name__ == "__main__":
    main()
