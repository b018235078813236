import { buildCommand, buildRouteMap } from '@stricli/core';
import { numberBetween, text } from './arguments.js';
import {
  count,
  json,
  listening,
  number,
  optionalCount,
  optionalNumber,
  optionalText,
  said,
} from './flags.js';
import { verify } from './verify-routes.js';

// Functions are loaded when their command runs: `anneal --help` reads this file and nothing of the library.

const run = buildCommand({
  loader: async () => (await import('./commands/run.js')).run,
  parameters: {
    positional: {
      kind: 'array',
      minimum: 1,
      parameter: { brief: 'A recipe, then its settings as key=value', parse: String, placeholder: 'recipe' },
    },
    flags: {
      dir: optionalText('Run directory (default: runs/RECIPE, with a suffix that depends on the settings)'),
      config: optionalText('JSON file with settings; key=value goes over it'),
      restart: said('Delete what the run directory holds and start over'),
      dryRun: said('Print the config and the derived numbers, then exit'),
      tensorboard: said('Also write TensorBoard event files'),
      json,
    },
  },
  docs: {
    brief: 'Run a recipe, or continue it',
    fullDescription: [
      'Runs a recipe: prints the resolved config and the derived numbers, then trains in a run directory.',
      'Ctrl-C saves and exits; the same command continues where it stopped, bit for bit.',
      '',
      '  anneal run moby-dick',
      '  anneal run lm data=book.txt model.layers=2 steps=500',
      '',
      '`anneal recipes` lists the recipes, `anneal recipes NAME` the settings of one.',
    ].join('\n'),
    customUsage: [
      '<recipe> [key=value]... [--dir DIR] [--config FILE] [--restart] [--dry-run] [--tensorboard] [--json]',
    ],
  },
});

const recipes = buildCommand({
  loader: async () => (await import('./commands/recipes.js')).recipes,
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'A recipe', parse: text, placeholder: 'name', optional: true }],
    },
    flags: { json },
  },
  docs: { brief: 'List the recipes, or the settings of one' },
});

const directory = { brief: 'Run directory', parse: text, placeholder: 'dir' } as const;

const runs = buildRouteMap({
  routes: {
    list: buildCommand({
      loader: async () => (await import('./commands/runs.js')).list,
      parameters: {
        positional: {
          kind: 'array',
          parameter: { ...directory, brief: 'Run directory, or a directory of run directories' },
        },
        flags: { json },
      },
      docs: { brief: 'List the runs in a directory (default: runs)' },
    }),
    show: buildCommand({
      loader: async () => (await import('./commands/runs.js')).show,
      parameters: { positional: { kind: 'tuple', parameters: [directory] }, flags: { json } },
      docs: { brief: 'Show the config, the curves and the end of a run' },
    }),
    compare: buildCommand({
      loader: async () => (await import('./commands/runs.js')).compare,
      parameters: { positional: { kind: 'array', minimum: 1, parameter: directory }, flags: { json } },
      docs: { brief: 'Show in what settings and results runs differ' },
    }),
  },
  docs: { brief: 'List, show and compare runs' },
});

const model = {
  brief: 'Run directory, model directory or .gguf file',
  parse: text,
  placeholder: 'model',
} as const;
const texts = (brief: string, placeholder: string, minimum = 0) =>
  ({ kind: 'array', minimum: minimum + 1, parameter: { brief, parse: String, placeholder } }) as const;

const packed = said("Keep a .gguf file's blocks packed in memory: smaller and faster, a little less exact");

const sampling = {
  tokens: count('Most tokens to generate', '256'),
  temperature: number('Divides the logits; 0 takes the likeliest token', '0.8', numberBetween(0, 100)),
  topP: number('Keeps the likeliest tokens that reach this probability together', '1', numberBetween(0, 1)),
  topK: count('Keeps this many of the likeliest tokens; 0 keeps all', '0', 0),
  minP: number('Keeps tokens at least this fraction as likely as the likeliest', '0', numberBetween(0, 1)),
  seed: optionalCount('Same seed, same text (default: new each time)', 0),
} as const;

const sample = buildCommand({
  loader: async () => (await import('./commands/sample.js')).sample,
  parameters: {
    positional: texts('A model, then texts to continue (default: standard input)', 'model'),
    flags: {
      ...sampling,
      packed,
      samples: count('Continuations of each prompt', '1'),
      stop: {
        kind: 'parsed',
        brief: 'Ends a text before this string',
        optional: true,
        variadic: true,
        parse: text,
      },
      json,
    },
    aliases: { n: 'samples' },
  },
  docs: {
    brief: 'Let a model continue texts',
    fullDescription: [
      'Lets a model continue texts. MODEL is a run directory, a model directory or a .gguf file. One continuation is',
      'streamed; several, or --json, are printed when all are done.',
      '',
      '  anneal sample runs/moby-dick "Call me Ishmael." --tokens 200',
    ].join('\n'),
    customUsage: [
      '<model> [prompt]... [--tokens N] [--temperature T] [--top-p P] [--seed S] [-n N] [--json]',
    ],
  },
});

const chat = buildCommand({
  loader: async () => (await import('./commands/chat.js')).chat,
  parameters: {
    positional: { kind: 'tuple', parameters: [model] },
    flags: {
      ...sampling,
      packed,
      system: optionalText('System message'),
    },
  },
  docs: {
    brief: 'Talk to a model that has a chat template',
    fullDescription: [
      'Talks to a model that has a chat template. Answers are streamed; Ctrl-C stops an answer, /reset begins a new',
      'conversation, /exit or Ctrl-D leaves. Lines from a pipe are taken as messages.',
    ].join('\n'),
  },
});

const evaluate = buildCommand({
  loader: async () => (await import('./commands/evaluate.js')).evaluateModel,
  parameters: {
    positional: texts('A model, then tasks, each with its settings as key=value', 'model', 1),
    flags: {
      limit: optionalCount('Only the first items of each task'),
      samples: optionalCount('Answers to each item; several give pass@k'),
      temperature: optionalNumber('Of answers (default: 0; with several samples 0.8)', numberBetween(0, 100)),
      tokens: optionalCount('Most tokens of an answer (default: what the task says)'),
      seed: optionalCount('Of the samples (default: 0)', 0),
      slots: optionalCount('Answers that are written together (default: 16)'),
      packed,
      plain: said('Ask without the chat template'),
      records: optionalText('JSONL file for the record of each item'),
      json,
    },
    aliases: { n: 'samples' },
  },
  docs: {
    brief: 'Measure a model on tasks',
    fullDescription: [
      'Measures a model on tasks. Settings follow their task:',
      '',
      '  anneal eval MODEL perplexity file=book.txt',
      '  anneal eval MODEL gsm8k file=test.jsonl shots=4 choice file=quiz.jsonl --limit 200',
      '',
      'gsm8k       grade-school mathematics: the final number counts (file, shots, shotsFile, maxTokens)',
      'jsonl       questions of your own with reference answers (file, prompt, reference, match, system, stop)',
      'choice      multiple choice by log-likelihood (file, prompt, choices, answer, delimiter)',
      'perplexity  perplexity and bits per byte of text files (file, context, stride)',
    ].join('\n'),
    customUsage: ['<model> (<task> [key=value]...)... [--limit N] [--samples N] [--records FILE] [--json]'],
  },
});

const serve = buildCommand({
  loader: async () => (await import('./commands/serve.js')).serve,
  parameters: {
    positional: { kind: 'tuple', parameters: [model] },
    flags: {
      ...listening('8000'),
      slots: count('Sequences that are decoded together', '8'),
      queue: count('Sequences that may wait for a slot; more are refused', '64', 0),
      capacity: optionalCount('Most tokens of a prompt and its completion (default: the context)', 2),
      packed,
      name: optionalText('What clients call the model (default: its file name)'),
    },
  },
  docs: {
    brief: 'Serve a model to OpenAI clients',
    fullDescription: [
      'Serves a model over HTTP as the OpenAI API: /v1/models, /v1/completions, /v1/chat/completions, and /health and',
      '/metrics. Ctrl-C finishes the requests that run; a second one ends them.',
      '',
      '  anneal serve model.gguf --port 8000 --key secret',
    ].join('\n'),
  },
});

const exportModel = buildCommand({
  loader: async () => (await import('./commands/export.js')).exportModel,
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [model, { brief: 'Folder to write to', parse: text, placeholder: 'dir' }],
    },
    flags: {
      to: {
        kind: 'enum',
        values: ['onnx', 'safetensors'],
        brief: 'onnx: for onnxruntime and transformers.js; safetensors: for transformers',
      },
      json,
    },
  },
  docs: {
    brief: 'Write a model in the format of other libraries',
    fullDescription: [
      'Writes a model in the format of other libraries, with its tokenizer and settings:',
      '',
      '  anneal export runs/moby-dick out --to safetensors',
    ].join('\n'),
  },
});

const info = buildCommand({
  loader: async () => (await import('./commands/info.js')).info,
  parameters: { positional: { kind: 'tuple', parameters: [model] }, flags: { json } },
  docs: { brief: 'Show the size and config of a model' },
});

const tokenize = buildCommand({
  loader: async () => (await import('./commands/info.js')).tokenize,
  parameters: { positional: texts('A model, then texts', 'model', 1), flags: { json } },
  docs: { brief: 'Show the tokens of texts', customUsage: ['<model> <text>... [--json]'] },
});

/** Every command by name. */
export const routes = {
  run,
  recipes,
  runs,
  sample,
  chat,
  eval: evaluate,
  verify,
  serve,
  export: exportModel,
  info,
  tokenize,
} as const;
