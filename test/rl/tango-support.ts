import words from '@nkzw/safe-word-list';
import { adamW, Rng } from '../../src/index.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import {
  formatSolution,
  type LastLetterProblem,
  lastLetter,
  Policy,
  type PolicyOptions,
  parseSolution,
  parseVerification,
  protocolTokenizer,
  type Response,
  type Sample,
  type Solution,
  type StepTask,
  type Verification,
} from '../../src/rl/index.js';

export const task = lastLetter({ words, count: [2, 3], letters: [3, 4], states: 'letter' });
export const tokenizer = protocolTokenizer([task]);

/** A problem that needs no thought: two or three steps, each to say "a"; "b" is wrong, and so is what follows from it. */
export interface Coin {
  count: number;
}

const isA = (step: string) => step === 'a';
const spell = (steps: readonly string[]) => ({ steps, answer: steps.every(isA) ? 'a' : 'b' });

/** A task whose form is all there is to learn, so that tiny models write it after a moment of training. */
export const coinTask: StepTask<Coin> = {
  name: 'coin',
  alphabet: 'abcd',
  phrases: [],
  problem: (seed, index) => ({ count: new Rng(seed, 'coin').split(index).integers(1, 2, 4)[0]! }),
  question: ({ count }) => (count === 2 ? 'c' : 'd'),
  solution: ({ count }) => spell(Array.from({ length: count }, () => 'a')),
  noisySolution: ({ count }, accuracy, rng) =>
    spell(Array.from({ length: count }, () => (rng.next() < accuracy ? 'a' : 'b'))),
  isCorrect: (_, answer) => answer === 'a',
  isConsistent: ({ count }, { steps }) => steps.length === count && steps.every((one) => /^[ab]$/.test(one)),
  stepLabels: (_, steps) => steps.map(isA),
  stated: (step) => step,
  restate: (_, steps) => steps.map(() => 'a'),
};

/** An untrained model over the tasks' vocabulary, the same for the same seed. */
export function smallModel(seed: number, context = 160): Transformer {
  return new Transformer(
    {
      vocabulary: tokenizer.size,
      dim: 32,
      layers: 2,
      heads: 2,
      kvHeads: 2,
      headDim: 16,
      hidden: 64,
      context,
      tied: true,
    },
    { rng: new Rng(seed) },
  );
}

export function smallPolicy(seed: number, options: Partial<PolicyOptions> = {}): Policy {
  const optimizer = adamW({ lr: 1e-3, clipNorm: 1, weightDecay: 0 });
  return new Policy(smallModel(seed), { optimizer, tokenizer, slots: 16, ...options });
}

const problem: LastLetterProblem = { words: ['tree', 'cat'] };

/** A response that says given things; group and form as wanted. */
export function responseOf(
  solution: Solution | string,
  change: Partial<Response<LastLetterProblem>> & { group?: number } = {},
): Response<LastLetterProblem> {
  const text = typeof solution === 'string' ? solution : formatSolution(solution);
  const tokens = Int32Array.of(...tokenizer.encode(text), tokenizer.endOfText!);
  const parsed = parseSolution(text);
  // Each tag is a token: a step ends where the count of closing tags says.
  const closing = tokenizer.idOf('</step>')!;
  const ends = Int32Array.from([...tokens.keys()].filter((i) => tokens[i] === closing));
  const { group = 0, ...rest } = change;
  const sample = {
    group,
    example: problem,
    prompt: tokenizer.encode('tree cat\n'),
    tokens,
    text,
    finishReason: 'stop',
  } as Sample<LastLetterProblem>;
  return {
    sample,
    problem,
    solution: parsed,
    isCorrect: parsed.answer === 'et',
    isWellFormed: parsed.isWellFormed,
    ends,
    labels: task.stepLabels(
      problem,
      parsed.steps.map((step) => step.text),
    ),
    ...rest,
  };
}

export const verificationOf = (
  response: Response<LastLetterProblem>,
  text: string,
): Verification<LastLetterProblem> => ({
  response,
  parsed: parseVerification(text, response.solution.steps.length),
});
