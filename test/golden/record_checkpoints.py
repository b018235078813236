"""Records tiny Llama, Qwen2 and Qwen3 models as transformers saves them, with the logits that it computes.

    pip install torch transformers && python test/golden/record_checkpoints.py

Writes test/golden/checkpoints.json: per model its config.json, its model.safetensors (base64), tokens and logits.
"""

import base64
import json
import os
import tempfile

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

COMMON = {
    "vocab_size": 19,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 1000.0,
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**COMMON, rope_parameters=LLAMA3, tie_word_embeddings=False)),
    "llama tied in bfloat16": (LlamaForCausalLM, LlamaConfig(**COMMON, tie_word_embeddings=True)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=False)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**COMMON, head_dim=8, tie_word_embeddings=True)),
}


def main() -> None:
    models = []
    for name, (kind, config) in MODELS.items():
        torch.manual_seed(len(models))
        model = kind(config).eval()
        for parameter in model.parameters():
            # Biases and gains start at 0 and 1, where a mistake would not show.
            if parameter.ndim == 1:
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
        if "bfloat16" in name:
            model = model.to(torch.bfloat16)
        folder = tempfile.mkdtemp()
        model.save_pretrained(folder)
        tokens = torch.randint(0, 19, (2, 9))
        # Read again, since a conversion would have rounded the rotary frequencies, too.
        model = kind.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            logits = model(tokens).logits
        with open(os.path.join(folder, "model.safetensors"), "rb") as file:
            weights = base64.b64encode(file.read()).decode()
        with open(os.path.join(folder, "config.json")) as file:
            config_json = json.load(file)
        models.append(
            {
                "name": name,
                "config": config_json,
                "weights": weights,
                "tokens": tokens.flatten().tolist(),
                "logits": [round(v, 7) for v in logits.flatten().tolist()],
            }
        )
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "checkpoints.json"), "w") as out:
        json.dump(models, out)
        out.write("\n")


main()
