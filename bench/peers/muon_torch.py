"""torch.optim.Muon and AdamW on the matrices of a model: `muon_torch.py JOB.json`.

The job lists the matrices as [in, out]; here they are [out, in], as PyTorch stores them. Gradients are given, only
`optimizer.step()` is timed: the request `time` with `work` muon or adamw answers with its milliseconds.
torch.optim.Muon orthogonalises in bfloat16, five steps, the smaller side first.
"""

import json
import sys
import time
from pathlib import Path

import torch

from line_protocol import serve


def matrices(job):
    torch.manual_seed(1)
    found = []
    for spec in job["matrices"]:
        inputs, outputs = spec["shape"]
        parameter = torch.nn.Parameter(0.02 * torch.randn(outputs, inputs))
        parameter.grad = 1e-3 * torch.randn(outputs, inputs)
        found.append(parameter)
    return found


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    optimizers = {
        "muon": torch.optim.Muon(matrices(job), lr=0.02, weight_decay=0.0),
        "adamw": torch.optim.AdamW(matrices(job), lr=1e-3, fused=True),
    }
    for optimizer in optimizers.values():
        optimizer.step()

    def timed(request):
        start = time.perf_counter()
        optimizers[request["work"]].step()
        return {"type": "timed", "ms": (time.perf_counter() - start) * 1e3}

    serve(f"PyTorch {torch.__version__}, {job['threads']} threads", {"time": timed})


if __name__ == "__main__":
    main()
