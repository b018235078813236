"""A tiny random Llama with a PEFT adapter, and what transformers and PEFT compute with them.

    python test/golden/record_lora.py                 writes tiny-llama/, peft-adapter/ and lora.json beside this file
    python test/golden/record_lora.py --check DIR     logits with the adapter of DIR (one that Anneal wrote), compared

Needs torch, transformers, tokenizers and peft; recorded with 2.15.0, 5.24.0, 0.23.3 and 0.21.2.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

here = Path(__file__).parent
base_dir = here / "tiny-llama"
adapter_dir = here / "peft-adapter"
TOKENS = [[5, 77, 200, 13, 42, 256, 3, 99, 280, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
TEXT = """The cat sat on the mat. The dog ran to the park, and the cat followed the dog.
What is 12 plus 30? It is 42. How many apples are there? There are seven apples and three pears.
Paris is the capital of France; Rome is the capital of Italy. Question: Answer: yes or no.
"""
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|endoftext|>", chat_template=CHAT
    )


def make_base():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=2, initializer_range=0.25,
    )
    model = LlamaForCausalLM(config).float().eval()
    model.save_pretrained(base_dir)
    make_tokenizer().save_pretrained(base_dir)
    return model


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor(TOKENS)).logits


def main():
    base = make_base()
    plain = logits_of(base)
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_alpha=12, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], lora_dropout=0.0,
        task_type="CAUSAL_LM", alpha_pattern={"down_proj": 6},
    )
    model = get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.2)
    model.save_pretrained(adapter_dir)
    (adapter_dir / "README.md").unlink(missing_ok=True)
    adapted = logits_of(model)
    merged = logits_of(model.merge_and_unload())
    assert (merged - adapted).abs().max() < 1e-4
    last = lambda x: [[round(v, 6) for v in row[-1].tolist()] for row in x]
    json.dump(
        {"tokens": TOKENS, "plain": last(plain), "adapted": last(adapted)},
        open(here / "lora.json", "w"),
    )
    print("adapted differs from plain by", (adapted - plain).abs().max().item())


def check(directory):
    base = AutoModelForCausalLM.from_pretrained(base_dir).float().eval()
    model = PeftModel.from_pretrained(base, directory).eval()
    ours = torch.tensor(json.load(open(Path(directory) / "logits.json")))
    theirs = logits_of(model)[:, -1]
    print("largest difference of logits:", (ours - theirs).abs().max().item())
    assert (ours - theirs).abs().max() < 1e-4


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["--check"] else main()
