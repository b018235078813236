import { type Answer, atK } from './at-k.js';
import type { Policy } from './policy.js';
import type { Prompt, RolloutOptions } from './rollout.js';
import type { Sample } from './sample.js';

/** Settings of `evaluatePolicy`. */
export interface PolicyEvaluation<E>
  extends Pick<
    RolloutOptions<E>,
    'samples' | 'maxTokens' | 'temperature' | 'topP' | 'topK' | 'minP' | 'stop' | 'stopTokens' | 'signal'
  > {
  /** The answer that a completion gives, and whether it is right. */
  answer: (sample: Sample<E>) => Answer | Promise<Answer>;
  /** For pass@k and maj@k. Default: the powers of 2 up to `samples`. */
  ks?: readonly number[];
  seed?: number;
}

const powersUpTo = (n: number): number[] =>
  Array.from({ length: Math.floor(Math.log2(n)) + 1 }, (_, i) => 2 ** i);

/**
 * Samples answers to a fixed set of prompts and measures `accuracy` (avg@n), `pass@k`, `maj@k`, and the share of
 * answers that were `answered` at all: metrics for `evaluate.run`. The same weights give the same numbers.
 */
export async function evaluatePolicy<E>(
  policy: Pick<Policy, 'rollout'>,
  prompts: readonly Prompt<E>[],
  { answer, ks, seed = 0, ...options }: PolicyEvaluation<E>,
): Promise<Record<string, number>> {
  const samples = await policy.rollout(prompts, { ...options, seed });
  const answers = await Promise.all(samples.map(async (sample) => answer(sample)));
  const n = options.samples;
  const items = prompts.map((_, i) => answers.slice(n * i, n * (i + 1)));
  const { average, pass, majority } = atK(items, ks ?? powersUpTo(n), { seed, draws: 100 });
  const metrics: Record<string, number> = {
    accuracy: average,
    answered: answers.filter(({ key }) => key !== null).length / answers.length,
  };
  for (const [k, value] of Object.entries(pass)) if (k !== '1') metrics[`pass@${k}`] = value;
  // One or two voters decide as one does.
  for (const [k, value] of Object.entries(majority)) if (Number(k) > 2) metrics[`maj@${k}`] = value;
  return metrics;
}
