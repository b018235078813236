/** Rewards of the recipe `grpo`: verifiers of answers, and programs against tests. */

import { AnnealError } from '../index.js';
import type { Answer, RewardFunction, Sample } from '../rl/index.js';
import {
  answerReward,
  CodeVerifier,
  choiceReward,
  codeReward,
  mathReward,
  numberVerifier,
  rewardOf,
  type SampleReward,
  textReward,
  verifierReward,
} from '../verify/index.js';
import type { Problem } from './grpo-problems.js';
import type { GrpoConfig } from './grpo-settings.js';

/** What scores samples in training and in evaluations. */
export interface Grader {
  reward: RewardFunction<Problem>;
  /** The answer of a sample, for pass@k and votes; what the verifier cannot tell counts as wrong. */
  answer(sample: Sample<Problem>): Promise<Answer>;
  close(): Promise<void>;
}

const rules: Readonly<Record<Exclude<GrpoConfig['reward'], 'code'>, () => SampleReward>> = {
  math: () => mathReward(),
  number: () => verifierReward(numberVerifier()),
  choice: () => choiceReward(),
  text: () => textReward(),
  answer: () => answerReward(),
};

function graderOf(score: SampleReward, close: () => Promise<void>): Grader {
  return {
    reward: rewardOf(score),
    async answer(sample) {
      const { score: value, verdict } = await score(sample);
      const key = verdict.answer?.form ?? verdict.extracted ?? null;
      return { key, isCorrect: value !== null && value > 0 };
    },
    close,
  };
}

/**
 * Opens the reward that the settings name. Programs run in sandboxes only.
 * @throws AnnealError if the machine has no sandbox for a language of the problems
 */
export async function openGrader(
  { reward }: Pick<GrpoConfig, 'reward'>,
  heldOut: readonly Problem[],
): Promise<Grader> {
  if (reward !== 'code') return graderOf(rules[reward](), async () => undefined);
  const verifier = await CodeVerifier.open();
  const languages = new Set(verifier.choice.sandboxes.map(({ language }) => language));
  for (const { problem } of heldOut) {
    const { language } = problem as { language: 'python' | 'javascript' };
    if (languages.has(language)) continue;
    await verifier.close();
    throw new AnnealError(`reward=code: no sandbox for ${language} here: ${verifier.describe()}`);
  }
  return graderOf(codeReward({ verifier }), () => verifier.close());
}
