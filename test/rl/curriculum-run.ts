import { adamW } from '../../src/index.js';
import {
  adjustableRate,
  type CurriculumPhaseOptions,
  curriculumPhase,
  type Policy,
  perSample,
  type ReinforceOptions,
  type Stage,
} from '../../src/rl/index.js';
import { promptsAt, stop, tinyPolicy } from './tiny-run.js';

/** Tokens that the two domains want. */
const wants = { math: 5, code: 8 };

/** Solved where a completion has at least two of the wanted token. */
const wantsToken = (token: number, onCall?: (step: number) => void) =>
  perSample<number>(({ tokens }, { step }) => {
    onCall?.(step);
    return tokens.filter((one) => one === token).length >= 2 ? 1 : 0;
  });

const stage = (name: string, domain: string, rest: Partial<Stage>): Stage => ({
  name,
  domain,
  maxTokens: 5,
  groupSize: 4,
  temperature: 1,
  lr: 0.02,
  batch: 2,
  length: { steps: 2 },
  ...rest,
});

/** Growing length; a filter that is scored at the border; another domain with another rate; epochs that are scored anew. */
export const tinyStages: readonly Stage[] = [
  stage('math-1', 'math', {}),
  stage('math-2', 'math', { maxTokens: 7, prompts: { atMost: 3, of: 4 }, rescore: true, lr: 0.01 }),
  stage('code-1', 'code', {
    groupSize: { from: 4, to: 6 },
    temperature: { from: 0.8, to: 1 },
    length: { epochs: 2 },
    epochFilter: { atMost: 3, of: 4, scores: 'fresh' },
    overlong: { kind: 'mask' },
  }),
];

export type KillAt = { step: number; at: 'reward' | 'score' | 'update' };

/** A run through `tinyStages`; it ends itself by SIGKILL at a point of a step. */
export function curriculumRun(kill?: KillAt, change: Partial<CurriculumPhaseOptions> = {}) {
  const rate = adjustableRate(0.5);
  const policy = tinyPolicy(1, { optimizer: adamW({ lr: rate.schedule, clipNorm: 1, weightDecay: 0 }) });
  const die = (step: number, at: KillAt['at']) => {
    if (kill?.step === step && kill.at === at) process.kill(process.pid, 'SIGKILL');
  };
  let isScoring = true;
  const domain = (name: keyof typeof wants, first: number) => ({
    prompts: promptsAt(first, 0, 5),
    reward: wantsToken(wants[name], (step) => die(step, isScoring ? 'score' : 'reward')),
    sampling: { stopTokens: [stop] },
  });
  const made = curriculumPhase({
    policy,
    rate,
    stages: tinyStages,
    domains: { math: domain('math', 100), code: domain('code', 200) },
    seed: 4,
    entropy: { baseline: 1 },
    ...change,
  });
  const options: ReinforceOptions<{ policy: Policy }> = {
    policies: { policy },
    phases: {
      curriculum: async (context) => {
        isScoring = made.curriculum.pending() !== undefined;
        const report = await made.phase(context);
        die(context.step, 'update');
        return report;
      },
    },
    state: made.state,
    isOver: made.isOver,
    steps: made.mostSteps,
    seed: 9,
    save: { every: 1, keep: 20 },
    config: {},
    progress: false,
  };
  return { options, policy, rate, ...made };
}
