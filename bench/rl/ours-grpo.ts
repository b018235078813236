/** Our side of the GRPO step: a model with starting weights, and everything that a run does in a step. */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { adamW, configure, Rng } from 'anneal';
import { Generator } from 'anneal/generate';
import { Transformer } from 'anneal/models';
import { grpoPhase, Policy, type Prompt, type RewardFunction, type TrainingSample } from 'anneal/rl';
import type { OpenSide } from '../lm/side.js';
import type { GrpoJob } from './job.js';

/** Readings of the memory that are averaged. */
const READINGS = 5;

/** Seconds that the main thread of this process has worked; NaN where the kernel does not say. */
function mainThreadSeconds(): number {
  try {
    const [nanoseconds] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ');
    return Number(nanoseconds) / 1e9;
  } catch {
    return Number.NaN;
  }
}

/** Resident memory after a garbage collection, in bytes. */
function residentBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage.rss();
}

/** Prompts of a step, the same for the same step. */
function promptsOf(job: GrpoJob, step: number): Prompt[] {
  const rng = new Rng(1).split(step);
  return Array.from({ length: job.prompts }, (_, i) => ({
    prompt: rng.split(i).integers(job.promptLength, 0, job.config.vocabulary),
    example: null,
  }));
}

function makePolicy(job: GrpoJob, layout?: 'shared' | 'rows'): Policy {
  return new Policy(new Transformer({ ...job.config, tied: false }, { rng: new Rng(1) }), {
    optimizer: adamW({ lr: job.learningRate, clipNorm: 1, weightDecay: 0 }),
    slots: job.prompts * job.samples,
    ...(layout && { layout }),
  });
}

/** The mean token id, which hardly ever gives two samples the same reward. */
const rewardOf =
  (job: GrpoJob): RewardFunction =>
  (samples) =>
    samples.map(({ tokens }) => tokens.reduce((a, b) => a + b, 0) / (tokens.length * job.config.vocabulary));

function stepsOf(job: GrpoJob, policy: Policy, stopTokens: readonly number[] = []) {
  const phase = grpoPhase({
    policy,
    prompts: (step) => promptsOf(job, step),
    reward: rewardOf(job),
    samples: job.samples,
    maxTokens: job.tokens,
    sampling: { stopTokens },
  });
  let step = 0;
  const { signal } = new AbortController();
  return () => {
    const seed = (): number => step;
    return phase({ step, phase: 'grpo', phaseStep: step++, policies: {}, seed, signal, emit: () => {} });
  };
}

/** Time of one update of random completions. */
async function updateSeconds(job: GrpoJob, layout: 'shared' | 'rows', repeats: number): Promise<number> {
  const policy = makePolicy(job, layout);
  const rng = new Rng(2);
  const count = job.prompts * job.samples;
  const prompts = promptsOf(job, 0);
  const batch = Array.from(
    { length: count },
    (_, i): TrainingSample => ({
      prompt: prompts[Math.floor(i / job.samples)]!.prompt,
      tokens: rng.integers(job.tokens, 0, job.config.vocabulary),
      advantages: new Float32Array(job.tokens).fill((i % job.samples) - 3.3),
      weights: new Float32Array(job.tokens).fill(1 / (count * job.tokens)),
    }),
  );
  const times: number[] = [];
  for (let i = 0; i < repeats + 2; i++) times.push((await policy.update(batch)).ms / 1000);
  await policy.dispose();
  return Math.min(...times.slice(2));
}

export const open: OpenSide = async (file) => {
  const job = JSON.parse(readFileSync(file, 'utf8')) as GrpoJob;
  configure({ threads: job.threads });
  const policy = makePolicy(job);
  const next = stepsOf(job, policy);
  const alone = new Generator(policy.model, { slots: job.prompts * job.samples });
  return {
    about: `anneal, ${job.threads} threads`,
    operations: {
      train: async ({ steps }) => {
        const [start, worked, blocked] = [performance.now(), mainThreadSeconds(), policy.sampling.blockedMs];
        const parts = { rollout: 0, update: 0 };
        for (let i = 0; i < Number(steps); i++) {
          const { metrics } = await next();
          if (metrics.tokens !== job.prompts * job.samples * job.tokens)
            throw new Error(`a step has learnt from ${metrics.tokens} tokens`);
          parts.rollout += metrics['ms.rollout']! / 1000;
          parts.update += metrics['ms.update']! / 1000;
        }
        const seconds = (performance.now() - start) / 1000;
        // Short decoding steps run on the main thread; they are no JavaScript.
        const native = (policy.sampling.blockedMs - blocked) / 1000;
        return { type: 'trained', seconds, ...parts, mainThread: mainThreadSeconds() - worked - native };
      },
      sample: async () => {
        const requests = Array.from({ length: job.prompts * job.samples }, (_, i) => ({
          prompt: [i % job.config.vocabulary],
          maxTokens: job.tokens,
          seed: i,
        }));
        const start = performance.now();
        await alone.generate(requests);
        return { type: 'sampled', seconds: (performance.now() - start) / 1000 };
      },
      layouts: async ({ repeats }) => ({
        type: 'compared',
        shared: await updateSeconds(job, 'shared', Number(repeats)),
        rows: await updateSeconds(job, 'rows', Number(repeats)),
      }),
      // Completions end at one of a few tokens, so that their lengths, and with them the shapes of passes, differ.
      memory: async ({ steps }) => {
        const short = stepsOf(job, policy, [0, 1, 2, 3]);
        const goOn = async (count: number) => {
          for (let i = 0; i < count; i++) await short();
        };
        // Some readings: the allocator's pages come and go by a few percent.
        const read = async () => {
          let total = 0;
          for (let i = 0; i < READINGS; i++) {
            await goOn(10);
            total += residentBytes();
          }
          return total / READINGS;
        };
        await goOn(Number(steps) / 2);
        const before = await read();
        await goOn(Number(steps) - 10 * READINGS);
        return { type: 'grown', before, after: await read() };
      },
    },
  };
};
