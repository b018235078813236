"""Records what the `gguf` package (llama.cpp's own Python reader) makes of random blocks of every type that Anneal reads.

    pip install gguf numpy && python test/golden/record_gguf.py

Writes test/golden/gguf.json: per type the bytes (base64), the float32 values (base64, little-endian), and a small GGUF
file with one tensor of each type.
"""

import base64
import json
import os
import tempfile

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Byte offsets of the float16 fields in a block: random bits there would be infinities and NaN.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208], "Q5_0": [0]}
rng = np.random.default_rng(7)


def blocks(name: str, count: int) -> np.ndarray:
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    if name in ("F32", "F16", "BF16"):
        values = rng.normal(size=count * 16).astype(np.float32)
        if name == "F32":
            return values.view(np.uint8)
        if name == "F16":
            return values.astype(np.float16).view(np.uint8)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    raw = rng.integers(0, 256, size=(count, size), dtype=np.uint8)
    for at in HALVES[name]:
        # From subnormal to large, both signs.
        scales = (rng.normal(size=count) * 10.0 ** rng.integers(-7, 2, size=count)).astype(np.float16)
        raw[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    return raw.reshape(-1)


def encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def main() -> None:
    types = []
    path = os.path.join(tempfile.mkdtemp(), "all.gguf")
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("test.number", 7)
    writer.add_array("test.words", ["a", "b"])
    for name in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]:
        kind = GGMLQuantizationType[name]
        raw = blocks(name, 4)
        values = dequantize(raw.reshape(1, -1), kind).astype(np.float32).reshape(-1)
        types.append({"type": name, "bytes": encode(raw), "values": encode(values)})
        writer.add_tensor(f"{name}.weight", raw.reshape(2, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open(path, "rb") as file:
        whole = base64.b64encode(file.read()).decode()
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "gguf.json"), "w") as out:
        json.dump({"types": types, "file": whole}, out)
        out.write("\n")


main()
