"""Records what Hugging Face's tokenizers make of a character vocabulary with phrases: test/golden/phrases.json.

    python test/golden/record_phrases.py            (from the root of the repository)

Made with tokenizers 0.23.3. `file` is the tokenizer.json, written here and not by Anneal: three characters, phrases in
the model's vocabulary and as added tokens that are not special, an unknown token and an end of text.
"""

import json
import pathlib

from tokenizers import Tokenizer

PHRASES = ['<step>', '</step>', '\\boxed{', '\\boxed{a}', 'ab']
names = ['a', 'b', '}', *PHRASES, '<unk>', '<|end|>']


def added(content, special):
    return {
        'id': names.index(content), 'content': content, 'single_word': False, 'lstrip': False, 'rstrip': False,
        'normalized': False, 'special': special,
    }


file = {
    'version': '1.0', 'truncation': None, 'padding': None,
    'added_tokens': [*(added(p, False) for p in PHRASES), added('<unk>', True), added('<|end|>', True)],
    'normalizer': None, 'pre_tokenizer': None, 'post_processor': None, 'decoder': {'type': 'Fuse'},
    'model': {
        'type': 'BPE', 'dropout': None, 'unk_token': '<unk>', 'continuing_subword_prefix': None,
        'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False, 'ignore_merges': False,
        'vocab': {name: i for i, name in enumerate(names[:-1])}, 'merges': [],
    },
}
tokenizer = Tokenizer.from_str(json.dumps(file))
texts = ['<step>ab</step>', 'ba\\boxed{b}', '\\boxed{a}\\boxed{ab}', 'aab<stepb', 'x<step>yab', '']
encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
result = {
    'file': file, 'texts': texts, 'ids': encoded,
    'decoded': [tokenizer.decode(ids) for ids in encoded],
    'withEnd': tokenizer.encode('ab<|end|>', add_special_tokens=False).ids,
}
out = pathlib.Path(__file__).with_name('phrases.json')
out.write_text(json.dumps(result, separators=(',', ':')) + '\n')
