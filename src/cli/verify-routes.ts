import { buildCommand, buildRouteMap } from '@stricli/core';
import { text } from './arguments.js';
import { count, json, listening, optionalCount, optionalText, said } from './flags.js';

// As in routes.ts, implementations are loaded when they run.

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

const workers = optionalCount(
  'Threads of the rules, and programs at once (default: a thread a processor, at most 8)',
);
const deadline = count(
  "Longest time of a row in a thread, in seconds; its clock starts when the row's turn has come",
  '5',
);

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
      workers,
      deadline,
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
      '"extracted", "ms"} are written in the same order. In a row of the type "code" the gold is a problem.',
      '',
      '  anneal verify rows.jsonl --out verdicts.jsonl --workers 8',
    ].join('\n'),
    customUsage: [
      '<answer> --reference REF [--question Q] [--type T] [--judge MODEL]',
      '<rows.jsonl> --out FILE [--workers N] [--judge MODEL]',
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

const serve = buildCommand({
  loader: async () => (await import('./commands/verify-serve.js')).verifyServe,
  parameters: {
    positional: { kind: 'tuple', parameters: [] },
    flags: {
      ...listening('8001'),
      workers,
      deadline,
      maxBody: count('Largest body of a request in MiB', '16'),
      maxRows: count('Rows that may wait or run at once; more are refused', '10000'),
      noCode: said('Refuse programs'),
      ...judging,
    },
  },
  docs: {
    brief: 'Verify answers over HTTP',
    fullDescription: [
      'POST /verify takes a row as a JSON object, several as an array, or JSON Lines (content-type',
      'application/x-ndjson), whose verdicts are streamed in the same order. GET /health says how much waits.',
      '',
      '  anneal verify serve --port 8001 --workers 8',
      `  curl http://127.0.0.1:8001/verify -d '{"gold": "1/2", "answer": "It is \\\\boxed{0.5}"}'`,
      '  curl http://127.0.0.1:8001/verify -H "content-type: application/x-ndjson" --data-binary @rows.jsonl',
    ].join('\n'),
    customUsage: [
      '[--port N] [--host ADDRESS] [--workers N] [--deadline SECONDS] [--key KEY] [--judge MODEL]',
    ],
  },
});

const battery = buildCommand({
  loader: async () => (await import('./commands/verify-battery.js')).verifyBattery,
  parameters: {
    positional: { kind: 'tuple', parameters: [] },
    flags: { ...judging, seed: count('Another seed, other gibberish', '0', 0), json },
  },
  docs: {
    brief: 'Try whether a judge can be fooled',
    fullDescription: [
      'Shows a judge answers that hold no result: empty ones, gibberish, phrases, markup, injected verdicts. Reports which',
      'share of each it accepts, and beside it how it does on plain right and wrong answers.',
      '',
      '  anneal verify judge --judge http://127.0.0.1:8000/v1 --judge-model qwen3-8b',
    ].join('\n'),
    customUsage: ['--judge MODEL [--judge-model NAME] [--no-reference] [--votes N] [--seed N] [--json]'],
  },
});

/** `anneal verify ANSWER`, `anneal verify bench`, `anneal verify judge` and `anneal verify serve`. */
export const verify = buildRouteMap({
  routes: { answer, bench, judge: battery, serve },
  defaultCommand: 'answer',
  docs: { brief: 'Verify answers; measure verifiers; serve verdicts' },
});
