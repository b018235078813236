import { adamW, Rng } from '../../src/index.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import {
  ClassWeights,
  type GrpoOptions,
  grpoPhase,
  interleave,
  Policy,
  type PolicyOptions,
  perSample,
  type ReinforceOptions,
  type RewardParts,
} from '../../src/rl/index.js';

/** Token that ends a completion, and the one that most rewards here want. */
export const stop = 1;
export const wanted = 5;

/** A policy over twelve tokens, the same numbers for the same seed. */
export function tinyPolicy(seed = 1, options: Partial<PolicyOptions> = {}): Policy {
  const model = new Transformer(
    {
      vocabulary: 12,
      dim: 16,
      layers: 1,
      heads: 2,
      kvHeads: 2,
      headDim: 8,
      hidden: 24,
      context: 48,
      tied: false,
    },
    { rng: new Rng(seed) },
  );
  return new Policy(model, {
    optimizer: adamW({ lr: 0.02, clipNorm: 1, weightDecay: 0 }),
    slots: 8,
    ...options,
  });
}

/** Prompts of a step: some tokens that depend on step and round alone. */
export const promptsAt = (step: number, round = 0, count = 3) =>
  Array.from({ length: count }, (_, i) => ({
    prompt: new Rng(7, 'prompts')
      .split(step)
      .split(round)
      .split(i)
      .integers(3 + i, 2, 12),
    example: i,
  }));

/** Share of the completion's tokens that are the wanted one. */
export const shareOfWanted = perSample<number>(
  ({ tokens }) => tokens.filter((token) => token === wanted).length / tokens.length,
);

/** Settings of a phase that learns to say the wanted token. */
export const grpoOptions = (
  policy: Policy,
  changes: Partial<GrpoOptions<number>> = {},
): GrpoOptions<number> => ({
  policy,
  prompts: (step, round) => promptsAt(step, round),
  reward: shareOfWanted,
  samples: 4,
  maxTokens: 6,
  sampling: { stopTokens: [stop] },
  ...changes,
});

/** Where a run ends itself by SIGKILL. */
export interface KillPoint {
  step: number;
  at: 'reward' | 'update' | 'evaluate' | 'save';
}

const die = () => process.kill(process.pid, 'SIGKILL');

/**
 * Two policies that learn in turn, with class weights and a reference: everything that a checkpoint must hold. The first
 * says the wanted token; the second avoids it, and is weighed by how often it fails.
 */
export function pairOptions(steps: number, kill?: KillPoint) {
  const speaker = tinyPolicy(1, {
    reference: 'initial',
    loss: { kl: { coefficient: 0.01, estimator: 'k3' } },
  });
  const critic = tinyPolicy(2, { loss: { entropy: 0.01 } });
  const balance = new ClassWeights();
  const dieAt = (step: number, at: KillPoint['at']) => {
    if (kill?.step === step && kill.at === at) die();
  };
  const rewards: RewardParts<number> = {
    wanted: (samples, context) => {
      dieAt(context.step, 'reward');
      return shareOfWanted(samples, context);
    },
    short: { reward: perSample(({ tokens }) => 1 - tokens.length / 6), weight: 0.25 },
  };
  const speak = grpoPhase(grpoOptions(speaker, { reward: rewards, updatesPerRollout: 2 }));
  const judge = grpoPhase<number>({
    ...grpoOptions(critic),
    advantage: 'rloo',
    reward: {
      other: perSample(async (sample, context) => {
        dieAt(context.step, 'reward');
        return sample.tokens.includes(wanted) ? 0 : 1;
      }),
    },
    zeroVariance: { resample: 1 },
  });
  // Dies between the update and the log's line about it.
  const killed =
    (phase: typeof speak): typeof speak =>
    async (context) => {
      const report = await phase(context);
      const labels = Array.from({ length: 5 }, (_, i) => i < context.seed('labels') % 5);
      const { positive } = balance.weigh(labels);
      dieAt(context.step, 'update');
      return { ...report, metrics: { ...report.metrics, positive } };
    };
  const policies = {
    speaker,
    critic: {
      parameters: critic.parameters,
      get updates() {
        return critic.updates;
      },
      save: async (folder: string) => {
        await critic.save(folder);
        dieAt(speaker.updates / 2 + critic.updates, 'save');
      },
      restore: (folder: string) => critic.restore(folder),
    },
  };
  const options: ReinforceOptions<typeof policies> = {
    policies,
    phases: { speak: killed(speak), judge: killed(judge) },
    schedule: interleave({
      warmUp: { phase: 'judge', steps: 2 },
      cycle: [
        ['speak', 2],
        ['judge', 1],
      ],
    }),
    seed: 3,
    steps,
    state: { balance },
    evaluate: {
      every: 2,
      metric: 'share',
      run: async ({ step }) => {
        dieAt(step, 'evaluate');
        const samples = await speaker.rollout(promptsAt(-1), { samples: 4, maxTokens: 6, seed: 1 });
        const shares = await shareOfWanted(samples, { step, signal: new AbortController().signal });
        return { share: shares.reduce<number>((a, b) => a + b!, 0) / shares.length };
      },
    },
    save: { every: 2, keep: 2 },
    config: { steps },
    progress: false,
  };
  return { options, speaker, critic };
}
