import { buildCommand, buildRouteMap } from '@stricli/core';
import { text, wholeNumber } from './arguments.js';

// As in routes.ts, implementations are loaded when they run.

const said = (brief: string) => ({ kind: 'boolean', withNegated: false, brief, optional: true }) as const;
const optionalText = (brief: string) => ({ kind: 'parsed', brief, optional: true, parse: text }) as const;
const count = (brief: string, initial: string, least = 1) =>
  ({ kind: 'parsed', brief, default: initial, parse: wholeNumber(least) }) as const;
const optionalCount = (brief: string, least = 1) =>
  ({ kind: 'parsed', brief, optional: true, parse: wholeNumber(least) }) as const;

const json = said('Print JSON and nothing else');

/** Flags of judging models. */
const judging = {
  judge: optionalText('Judge by a model: address of an OpenAI-compatible API, or a local model'),
  judgeModel: optionalText('What the API calls the model'),
  keyFile: optionalText('File with the key of the API'),
  rulesFirst: said('Ask the judge only where the rules do not say correct'),
  noReference: said('Let the judge decide without the reference'),
  votes: count('Replies to each item, of which the majority counts', '1'),
  reply: {
    kind: 'enum',
    values: ['closing', 'lenient', 'paper'],
    default: 'closing',
    brief: "How replies are read: the closing line; else the last Yes or No; or as the paper's script does",
  },
  replyTokens: count('Most tokens of a reply', '2048'),
  concurrency: count('Items that are judged at once', '8'),
  timeout: count('Longest silence of the API in seconds', '120'),
  stream: said('Stream replies, so that long ones are not taken for silence'),
  cache: optionalText('Folder that keeps replies, so that nothing is asked twice'),
  budgetCalls: optionalCount('Most calls in all', 0),
  budgetTokens: optionalCount('Most tokens of prompts and replies in all', 0),
  packed: said("Keep a .gguf file's blocks packed in memory"),
} as const;

const kinds = ['auto', 'math', 'choice', 'state', 'text', 'code'] as const;

const answer = buildCommand({
  loader: async () => (await import('./commands/verify.js')).verify,
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'An answer, - for standard input, or a JSONL file', parse: text, placeholder: 'answer' },
      ],
    },
    flags: {
      reference: optionalText('The right answer; for code a JSON file with the problem and its tests'),
      question: optionalText('What was asked'),
      type: { kind: 'enum', values: kinds, default: 'auto', brief: 'What kind of answer it is' },
      out: optionalText('Verify the rows of a JSONL file, and write verdicts to this one'),
      ...judging,
      json,
    },
  },
  docs: {
    brief: 'Verify answers against references',
    fullDescription: [
      'Says whether an answer agrees with a reference: correct, incorrect, or abstain where that cannot be told. Both may be',
      'final answers or whole solutions.',
      '',
      "  anneal verify '\\boxed{1/2}' --reference 0.5",
      '  anneal verify --reference B --type choice -- "-x is (B)"',
      '  anneal verify program.py.txt --type code --reference problem.json',
      '',
      'A file has rows {"id", "gold", "answer", "question"?, "type"?, "config"?}; verdicts {"id", "verdict", "reason",',
      '"extracted", "ms"} are written in the same order:',
      '',
      '  anneal verify rows.jsonl --out verdicts.jsonl',
    ].join('\n'),
    customUsage: [
      '<answer> --reference REF [--question Q] [--type T] [--judge MODEL]',
      '<rows.jsonl> --out FILE [--judge MODEL]',
    ],
  },
});

const bench = buildCommand({
  loader: async () => (await import('./commands/verify-bench.js')).verifyBench,
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [
        {
          brief: 'File or folder of VerifyBench (default: from the Hugging Face Hub)',
          parse: text,
          placeholder: 'data',
          optional: true,
        },
      ],
    },
    flags: {
      set: { kind: 'enum', values: ['standard', 'hard'], optional: true, brief: 'Which set (default: hard)' },
      limit: optionalCount('Only the first items'),
      ...judging,
      records: optionalText('JSONL file for the record of each item'),
      offline: said('Use what was downloaded before'),
      revision: optionalText('Commit, tag or branch on the Hub'),
      json,
    },
  },
  docs: {
    brief: 'Measure a verifier on VerifyBench',
    fullDescription: [
      "Measures a verifier on VerifyBench or VerifyBench-Hard and shows it beside the paper's rows. Without --judge the",
      'rules are measured.',
      '',
      '  anneal verify bench',
      '  anneal verify bench --set standard --judge http://127.0.0.1:8000/v1 --judge-model qwen3-8b --cache replies',
      '  anneal verify bench verify_bench_hard.jsonl --judge model.gguf --rules-first --records out.jsonl',
    ].join('\n'),
    customUsage: ['[data] [--set standard|hard] [--judge MODEL] [--rules-first] [--records FILE] [--json]'],
  },
});

/** `anneal verify ANSWER` and `anneal verify bench`. */
export const verify = buildRouteMap({
  routes: { answer, bench },
  defaultCommand: 'answer',
  docs: { brief: 'Verify answers; measure verifiers' },
});
