/** Measuring the policy of the recipe `grpo` on held-out problems. */
import { evaluatePolicy, type Policy } from '../rl/index.js';
import type { RunEvent } from '../train/index.js';
import type { ProblemSource } from './grpo-problems.js';
import type { Grader } from './grpo-rewards.js';
import type { GrpoConfig } from './grpo-settings.js';

/** Seed of the answers: the same at every evaluation, so that they differ by the weights alone. */
const answerSeed = 1;

/** The standard error of a mean over problems. */
function standardError(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return Math.sqrt(squares / Math.max(1, values.length - 1) / values.length);
}

/**
 * `accuracy` (avg@n) with its standard error over problems, `answered`, `truncated`, the mean `length`, and with
 * several samples pass@k and maj@k.
 */
export async function measure(
  config: GrpoConfig,
  policy: Policy,
  { heldOut }: ProblemSource,
  grader: Grader,
  endTokens: readonly number[],
  signal: AbortSignal,
): Promise<Record<string, number>> {
  const { samples, temperature } = config.evaluate;
  const right = new Array<number>(heldOut.length).fill(0);
  let [tokens, truncated] = [0, 0];
  const metrics = await evaluatePolicy(policy, heldOut, {
    ...{ samples, seed: answerSeed, signal },
    maxTokens: config.maxTokens,
    temperature: temperature ?? (samples > 1 ? config.temperature : 0),
    stopTokens: endTokens,
    answer: async (sample) => {
      const answer = await grader.answer(sample);
      if (answer.isCorrect) right[sample.group]! += 1 / samples;
      tokens += sample.tokens.length;
      if (sample.finishReason === 'length') truncated++;
      return answer;
    },
  });
  const count = heldOut.length * samples;
  return {
    ...metrics,
    standardError: standardError(right),
    length: tokens / count,
    truncated: truncated / count,
  };
}

/** The likeliest answers to the first held-out problems, each under its question. */
export async function showAnswers(
  config: GrpoConfig,
  policy: Policy,
  { heldOut }: ProblemSource,
  endTokens: readonly number[],
): Promise<string> {
  const samples = await policy.rollout(heldOut.slice(0, config.sample.count), {
    ...{ samples: 1, temperature: 0, seed: answerSeed },
    maxTokens: config.maxTokens,
    stopTokens: endTokens,
  });
  return samples.map(({ example, text }) => `> ${example.question}\n${text}\n`).join('\n');
}

const percent = (value: number, error: number) =>
  `${(100 * value).toFixed(1)} ± ${(100 * error).toFixed(1)} %`;

/** What the first and the last evaluation of a run say. */
export function beforeAndAfter(events: readonly RunEvent[]): Record<string, string> {
  const evaluations = events.filter((event) => event.kind === 'evaluate');
  const [first, last] = [evaluations[0], evaluations.at(-1)];
  const shown = (metrics: Readonly<Record<string, number | null>>) =>
    percent(metrics.accuracy ?? Number.NaN, metrics.standardError ?? Number.NaN);
  if (!first || !last) return {};
  const before = { before: shown(first.metrics) };
  return first === last ? before : { ...before, after: shown(last.metrics) };
}
