"""Records how transformers renders chat templates, and which tokens it counts as the assistant's, into chat.json.

Run from the repository root:

    pip install transformers==5.24.0 jinja2 && python test/golden/record_chat.py

`templates` are written in the manner of published models. An entry of `rendered` is { template, messages, tools,
prompt (with generation prompt), text (without) }. An entry of `masked` also has the tokens of the byte tokenizer of
tokenizer.json, with `special` as its special tokens, and transformers' mask, for templates with generation tags.
"""

import json
import pathlib

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<s>', '</s>', '<|eot|>']

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
    " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Spread over lines, with white space control, as newer templates are.
BLOCKS = """{{- bos_token }}
{%- if tools %}
    {{- '<|im_start|>system\\nTools: ' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- endif %}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- '<call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '<|eot|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# No generation prompt: the instruction's end asks for the answer.
INST = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
# Drops the reasoning of earlier answers.
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'].split('</think>')[-1] }}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GENERATION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GENERATION_BLOCKS = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
        {{- message.content + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
"""
templates = {
    'chatml': CHATML,
    'blocks': BLOCKS,
    'inst': INST,
    'plain': PLAIN,
    'thinking': THINKING,
    'generation': GENERATION,
    'generation-blocks': GENERATION_BLOCKS,
}

pair = [{'role': 'user', 'content': 'What is 2 + 2?'}, {'role': 'assistant', 'content': '4.'}]
turns = [*pair, {'role': 'user', 'content': 'And 3?\n\nSay so.'}, {'role': 'assistant', 'content': ' 5, of course.'}]
system = [{'role': 'system', 'content': 'Be "brief" & kind.'}, *turns]
tool = {
    'type': 'function',
    'function': {'name': 'add', 'parameters': {'type': 'object', 'properties': {'a': {'type': 'number'}}}},
}
called = [
    {'role': 'user', 'content': 'Add 1 <and> 2'},
    {
        'role': 'assistant',
        'content': None,
        'tool_calls': [{'type': 'function', 'function': {'name': 'add', 'arguments': {'a': 1, 'b': 'é'}}}],
    },
    {'role': 'tool', 'content': '3'},
    {'role': 'assistant', 'content': 'It is 3.'},
]
thought = [{'role': 'user', 'content': 'Hm?'}, {'role': 'assistant', 'content': '<think>x</think>yes'}]
cases = [
    *[(name, messages, None) for name in ('chatml', 'blocks', 'plain', 'generation') for messages in (pair, turns, system)],
    *[('inst', messages, None) for messages in (pair, turns)],
    ('blocks', called, [tool]),
    ('thinking', thought, None),
    ('thinking', [*thought, *thought], None),
]

here = pathlib.Path(__file__)
file = json.loads(here.with_name('tokenizer.json').read_text())['bytes']['file']
first = dict(file['added_tokens'][0])
file['added_tokens'] = [{**first, 'id': 256 + i, 'content': name} for i, name in enumerate(SPECIAL)]
fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(file)), bos_token='<s>', eos_token='</s>')


def rendered(name, messages, tools):
    def text(generation):
        return fast.apply_chat_template(
            messages, tools=tools, chat_template=templates[name], tokenize=False, add_generation_prompt=generation
        )

    return {'template': name, 'messages': messages, 'tools': tools, 'prompt': text(True), 'text': text(False)}


def masked(name, messages):
    out = fast.apply_chat_template(
        messages, chat_template=templates[name], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return {'template': name, 'messages': messages, 'tokens': out['input_ids'], 'mask': out['assistant_masks']}


result = {
    'templates': templates,
    'special': SPECIAL,
    'rendered': [rendered(*case) for case in cases],
    'masked': [masked(name, one) for name in ('generation', 'generation-blocks') for one in (pair, turns, system)],
}
here.with_name('chat.json').write_text(json.dumps(result, separators=(',', ':')) + '\n')
