import type { Tokenizer } from '../../data/tokenizer.js';
import type { PhaseContext } from '../phases.js';
import type { Prompt } from '../rollout.js';
import type { Sample } from '../sample.js';
import { tokenAt, tokenEnds } from '../token-ends.js';
import type { ResolvedTango, TangoPlayer, TangoTask } from './options.js';
import { type ParsedSolution, parseSolution } from './solution-format.js';

/** A generator's response with everything that rules say about it. */
export interface Response<P> {
  readonly sample: Sample<P>;
  readonly problem: P;
  readonly solution: ParsedSolution;
  readonly isCorrect: boolean;
  /** Ended by itself, in the strict form, steps and answer as the task wants them. */
  readonly isWellFormed: boolean;
  /** Index of each step's last token. */
  readonly ends: Int32Array;
  /** Gold labels of its steps, where the task has them. */
  readonly labels: readonly boolean[] | undefined;
}

/** How a player is sampled: its own settings, ending at the end of text unless they say otherwise. */
export function samplingOf({ policy, maxTokens, sampling = {} }: TangoPlayer) {
  const { endOfText } = policy.tokenizer!;
  const stopTokens = endOfText === undefined ? [] : [endOfText];
  return { stopTokens, ...sampling, maxTokens };
}

/** A text as a prompt. Tags in it are text: special tokens cannot be forged. */
export const promptOf = <E>(tokenizer: Tokenizer, text: string, example: E): Prompt<E> => ({
  prompt: tokenizer.encode(text),
  example,
});

async function judge<P>(sample: Sample<P>, task: TangoTask<P>, tokenizer: Tokenizer): Promise<Response<P>> {
  const { example: problem, text, tokens, finishReason } = sample;
  const solution = parseSolution(text);
  const steps = solution.steps.map((step) => step.text);
  const { answer } = solution;
  const isConsistent = () => task.isConsistent?.(problem, { steps, answer: answer! }) ?? true;
  const ends = tokenEnds(tokenizer, tokens);
  return {
    sample,
    problem,
    solution,
    isCorrect: answer !== undefined && (await task.isCorrect(problem, answer)),
    isWellFormed: finishReason === 'stop' && solution.isWellFormed && isConsistent(),
    ends: Int32Array.from(solution.steps, ({ end }) => tokenAt(ends, end)),
    labels: task.stepLabels?.(problem, steps),
  };
}

/**
 * Samples responses to fresh problems of a step and judges them by rule.
 * @param count problems; `samples` responses of each, in the order of problems
 */
export async function sampleResponses<P>(
  options: ResolvedTango<P>,
  context: PhaseContext,
  task: TangoTask<P>,
  count: number,
  samples: number,
): Promise<Response<P>[]> {
  const { generator, prompts, seed } = options;
  const tokenizer = generator.policy.tokenizer!;
  // Steps take disjoint runs of indices, whatever the numbers of problems of the phases are.
  const stride = 1 << 16;
  const asked = Array.from({ length: count }, (_, i) => {
    const problem = task.problem(seed, context.step * stride + i);
    return promptOf(tokenizer, prompts.generator(task.question(problem)), problem);
  });
  const sampled = await generator.policy.rollout(asked, {
    ...samplingOf(generator),
    samples,
    seed: context.seed('responses'),
    signal: context.signal,
  });
  context.signal.throwIfAborted();
  return Promise.all(sampled.map((sample) => judge(sample, task, tokenizer)));
}
