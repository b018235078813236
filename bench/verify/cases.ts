/** Answers with references and what people say of them, from the files of `--data`. */
import { readFileSync } from 'node:fs';
import { answerVerifier, mathVerifier, type RuleVerifier, rowOptions } from 'anneal/verify';
import { findFile } from '../lm/data.js';

/** One answer that is to be verified. */
export interface Case {
  answer: string;
  reference: string;
  question?: string;
  /** It is right, according to the data. */
  isRight: boolean;
  verifier: RuleVerifier;
}

/** Cases, or why there are none. */
export type Cases = { cases: Case[] } | { reason: string };

// biome-ignore lint/suspicious/noExplicitAny: rows of several files
type Json = any;

/** The rows of a JSONL file, or why there are none. */
export function readRows(folder: string | null, name: string): { rows: Json[] } | { reason: string } {
  const found = findFile(folder, name);
  if ('reason' in found) return found;
  const lines = readFileSync(found.file, 'utf8').trim().split('\n');
  return { rows: lines.map((line) => JSON.parse(line) as Json) };
}

const math = mathVerifier();
const any = answerVerifier();

/** What a row of each file becomes. */
const readers: Record<SetName, { file: string; cases(row: Json): Case[] }> = {
  triples: {
    file: 'math_verify_triples.dev.jsonl',
    // Each case brings the options under which Math-Verify's own test expects its verdict.
    cases: ({ gold, answer, expected, config: { boxedFirst, ...config } }) => [
      {
        answer,
        reference: gold,
        isRight: expected,
        verifier: mathVerifier({
          // Its notations, among others: an answer that must be a formula is none without delimiters.
          ...rowOptions(config),
          tolerance: { digits: config.floatDigits as number },
          boxedFirst: boxedFirst as boolean,
        }),
      },
    ],
  },
  hardverify: {
    file: 'hardverify_math.dev.jsonl',
    cases: ({ gold, answer, expected }) => [{ answer, reference: gold, isRight: expected, verifier: math }],
  },
  verifybench: {
    file: 'verifybench_hard.dev.jsonl',
    cases: ({ answer, completion, question, gold_correct }) => [
      { answer: completion, reference: answer, question, isRight: gold_correct, verifier: any },
    ],
  },
  math500: {
    file: 'math500.jsonl',
    cases: ({ answer, solution }) => [
      { answer: solution, reference: answer, isRight: true, verifier: math },
      { answer: `\\boxed{${answer}}`, reference: solution, isRight: true, verifier: math },
    ],
  },
  gsm8k: {
    file: 'gsm8k_model_solutions.dev.jsonl',
    cases: ({ gold, completion, expected }) => [
      { answer: completion, reference: gold, isRight: expected, verifier: math },
    ],
  },
};

/** The sets, in the order of the rows. */
export const SETS = ['triples', 'hardverify', 'verifybench', 'math500', 'gsm8k'] as const;

/** Name of a set. */
export type SetName = (typeof SETS)[number];

/** The cases of a set. */
export function casesOf(folder: string | null, set: SetName): Cases {
  const { file, cases } = readers[set];
  const found = readRows(folder, file);
  return 'reason' in found ? found : { cases: found.rows.flatMap(cases) };
}
