import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Transformer } from '../../src/models/lm/transformer.js';
import {
  oracleVerifier,
  type Policy,
  reinforce,
  solutionExample,
  type TangoOptions,
  tangoPhases,
  verificationExample,
} from '../../src/rl/index.js';
import { warmStart } from '../../src/rl/warm-start.js';
import { readEvents } from '../../src/train/index.js';
import { compile } from '../support/compiled.js';
import type { TangoKill } from './tango-child.js';
import { type Coin, smallPolicy, coinTask as task, tokenizer } from './tango-support.js';

type Options = TangoOptions<Coin>;
const folder = mkdtempSync(path.join(tmpdir(), 'anneal-tango-'));
afterAll(() => rmSync(folder, { recursive: true }));

const optionsOf = (generator: Policy, verifier: Policy, change: Partial<Options> = {}): Options => ({
  generator: { policy: generator, maxTokens: 40, prompts: 4, samples: 4 },
  verifier: { policy: verifier, maxTokens: 40, prompts: 4, samples: 4 },
  task,
  seed: 3,
  warmUp: 1,
  cycle: [2, 1],
  updates: 10,
  ...change,
});

type Pair = { generator: Policy; verifier: Policy };
const newPair = (): Pair => ({ generator: smallPolicy(1), verifier: smallPolicy(2) });
const weightsOf = (policy: Policy) => [...policy.parameters.values()].flatMap(({ data }) => [...data]);

/** Weights that write the format and know a little: what reinforcement begins with. Learnt once. */
async function learnFormat(): Promise<Pair> {
  const pair = newPair();
  const range = Array.from({ length: 256 }, (_, i) => i);
  const loop = { steps: 60, batch: 8, lr: 1e-2, progress: false } as const;
  const noisy = { seed: 90, accuracy: 0.4 };
  const solutions = range.map((i) => solutionExample(task, i, noisy));
  const verifications = range.map((i) => verificationExample(task, i, { ...noisy, verifierAccuracy: 0.6 }));
  await warmStart(pair.generator.model as Transformer, tokenizer, solutions, loop);
  await warmStart(pair.verifier.model as Transformer, tokenizer, verifications, loop);
  return pair;
}
let learnt: Promise<Pair> | undefined;

/** New policies with those weights. */
async function warmPair(): Promise<Pair> {
  learnt ??= learnFormat();
  const [source, pair] = [await learnt, newPair()];
  for (const name of ['generator', 'verifier'] as const)
    for (const [key, { data }] of source[name].parameters)
      (pair[name].parameters.get(key)!.data as Float32Array).set(data as Float32Array);
  return pair;
}

const run = (
  options: Options,
  policies: { generator: Policy; verifier: Policy },
  steps: number,
  directory?: string,
) =>
  reinforce({
    policies,
    ...tangoPhases(options),
    steps,
    seed: 5,
    config: {},
    progress: false,
    ...(directory && { directory, save: { every: 2 } }),
  });

interface Event {
  kind: string;
  step: number;
  metrics: Record<string, number>;
}
const eventsOf = (directory: string): Event[] =>
  readFileSync(path.join(directory, 'events.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Event);

describe('the schedule', () => {
  const [generator, verifier] = [smallPolicy(1), smallPolicy(2)];
  const phasesOf = (change: Partial<Options>, n = 10) => {
    const { schedule } = tangoPhases(optionsOf(generator, verifier, change));
    return Array.from({ length: n }, (_, step) => schedule(step)[0]).join('');
  };

  it('warms the verifier up, then has three generator steps for each of the verifier', () => {
    expect(phasesOf({ warmUp: 2, cycle: [3, 1] })).toBe('vvgggvgggv');
    expect(phasesOf({ warmUp: 0, cycle: [1, 1] }, 4)).toBe('gvgv');
    // The paper's: of 440 steps 300 are the generator's.
    const { warmUp, cycle, ...paper } = optionsOf(generator, verifier);
    const { schedule } = tangoPhases(paper);
    const all = Array.from({ length: 440 }, (_, step) => schedule(step));
    expect([all.indexOf('generator'), all.filter((phase) => phase === 'generator').length]).toEqual([
      40, 300,
    ]);
    // Sixty generator updates are over at step 119.
    expect(all.slice(0, 119).filter((phase) => phase === 'generator').length).toBe(60);
  });

  it('has one phase where a policy is fixed', () => {
    expect(phasesOf({ fixed: 'generator' }, 3)).toBe('vvv');
    expect(phasesOf({ fixed: 'verifier' }, 3)).toBe('ggg');
    expect(phasesOf({ scripted: oracleVerifier(task) }, 3)).toBe('ggg');
  });

  it.each<[Partial<Options>, string]>([
    [{ warmUp: -1 }, 'tango: warmUp is -1'],
    [{ cycle: [0, 1] }, 'tango: cycle is 0, 1'],
    [{ verifications: 0 }, 'tango: verifications is 0'],
    [{ formatWeight: Number.NaN }, 'tango: formatWeight is NaN'],
    [{ fixed: 'generator', scripted: oracleVerifier(task) }, 'neither policy would learn'],
    [{ generator: { policy: generator, maxTokens: 0 } }, 'tango: generator.maxTokens is 0'],
    [{ verifier: { policy: verifier, maxTokens: 9, oversample: 0.5 } }, 'verifier.oversample is 0.5'],
  ])('refuses %j', (change, message) => {
    expect(() => tangoPhases(optionsOf(generator, verifier, change))).toThrow(message);
  });

  it('refuses a policy without a tokenizer', () => {
    const { rollout, logprobs, update, updates, loss } = generator;
    const mute = { rollout, logprobs, update, updates, loss, tokenizer: undefined };
    const options = optionsOf(generator, verifier, { generator: { policy: mute, maxTokens: 9 } });
    expect(() => tangoPhases(options)).toThrow('the generator has no tokenizer');
  });
});

describe('a run', () => {
  it('trains both in turn; the log, the table and the weights say so', async () => {
    const directory = path.join(folder, 'run');
    const policies = await warmPair();
    const before = { generator: weightsOf(policies.generator), verifier: weightsOf(policies.verifier) };
    const result = await run(optionsOf(policies.generator, policies.verifier), policies, 6, directory);
    // v gg v gg
    expect(result.updates.generator).toBeLessThanOrEqual(4);
    expect(result.updates.generator).toBeGreaterThan(1);
    expect(result.updates.verifier).toBeGreaterThan(0);
    expect(weightsOf(policies.generator)).not.toEqual(before.generator);
    expect(weightsOf(policies.verifier)).not.toEqual(before.verifier);
    const steps = eventsOf(directory).filter(({ kind }) => kind === 'train');
    expect(steps.map(({ metrics }) => metrics.alpha !== undefined)).toEqual([
      false,
      true,
      true,
      false,
      true,
      true,
    ]);
    const [first, second] = [steps[0]!.metrics, steps[1]!.metrics];
    expect(second.alpha).toBeCloseTo(0.1, 12);
    expect(second.wellFormed).toBeGreaterThan(0.4);
    expect(first.verifierFormat).toBeGreaterThan(0.4);
    for (const name of ['outcomeF1', 'stepF1', 'outcomeBalancedAccuracy', 'aligned']) {
      expect(first[name]).toBeGreaterThanOrEqual(0);
      expect(second[name]).toBeLessThanOrEqual(1);
    }
    // What the sampler said is what the trainer computes.
    expect(second.sampleDifference).toBeLessThan(1e-4);
    const tables = readdirSync(path.join(directory, 'rollouts')).sort();
    expect(tables.length).toBe(6);
    const rows = (name: string) =>
      readFileSync(path.join(directory, 'rollouts', name), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    const generated = rows('step-2.jsonl');
    expect(generated.length).toBe(16);
    expect(generated.filter((row) => row.reward === 1).length / 16).toBeCloseTo(second.accuracy!, 12);
    // Malformed ones were not verified.
    for (const row of generated) expect(row.verdicts.length).toBe(row.isWellFormed ? 1 : 0);
    const verified = rows('step-1.jsonl');
    expect(verified.length).toBe(16);
    const mean = verified.reduce((total, row) => total + row.reward, 0) / 16;
    expect(mean).toBeCloseTo(first.reward!, 6);
    for (const { final, isCorrect, rewards } of verified)
      expect(rewards.correctness).toBe(final === isCorrect ? 1 : 0);
  });

  it('resumes bit for bit, class weights included', async () => {
    const make = async () => {
      const policies = await warmPair();
      return { policies, options: optionsOf(policies.generator, policies.verifier) };
    };
    const whole = await make();
    await run(whole.options, whole.policies, 5, path.join(folder, 'whole'));
    const first = await make();
    await run(first.options, first.policies, 2, path.join(folder, 'parts'));
    const second = await make();
    await run(second.options, second.policies, 5, path.join(folder, 'parts'));
    for (const name of ['generator', 'verifier'] as const)
      expect(weightsOf(second.policies[name])).toEqual(weightsOf(whole.policies[name]));
    const last = (name: string) => {
      const { metrics } = eventsOf(path.join(folder, name))
        .filter(({ kind }) => kind === 'train')
        .at(-1)!;
      return Object.fromEntries(Object.entries(metrics).filter(([key]) => !key.startsWith('ms.')));
    };
    expect(last('parts')).toEqual(last('whole'));
  });

  it('is killed with kill -9 in each phase and goes on to the same log, tables and policies', async () => {
    const start = path.join(folder, 'start');
    const warm = await warmPair();
    for (const [name, policy] of Object.entries(warm)) await policy.save(path.join(start, name));
    const compiled = compile('test/rl/tango-child.ts');
    const child = (name: string, kill?: TangoKill) => {
      const settings = JSON.stringify({ directory: path.join(folder, name), start, kill });
      const { signal, stderr } = spawnSync(process.execPath, [compiled.program, settings], {
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      return signal;
    };
    try {
      expect(child('unbroken')).toBeNull();
      // Steps 0, 3 and 6 are the verifier's; checkpoints are written every 2 steps.
      const kills: TangoKill[] = [
        { step: 0, at: 'update' },
        { step: 1, at: 'judge' },
        { step: 3, at: 'judge' },
        { step: 5, at: 'update' },
      ];
      for (const kill of kills) expect(child('broken', kill)).toBe('SIGKILL');
      expect(child('broken')).toBeNull();
    } finally {
      compiled.remove();
    }
    // `readEvents` leaves out what was done anew after a restart.
    const logOf = async (name: string) =>
      (await readEvents(path.join(folder, name))).events.flatMap((event) => {
        if (event.kind !== 'train') return [];
        const { step, phase, updates, metrics = {} } = event;
        const kept = Object.entries(metrics).filter(([key]) => !key.startsWith('ms.'));
        return [{ step, phase, updates, metrics: Object.fromEntries(kept) }];
      });
    expect((await logOf('unbroken')).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(await logOf('broken')).toEqual(await logOf('unbroken'));
    const filesOf = (name: string) =>
      ['checkpoints/step-7/generator', 'checkpoints/step-7/verifier', 'rollouts'].flatMap((part) =>
        readdirSync(path.join(folder, name, part)).map((file) => [
          file,
          readFileSync(path.join(folder, name, part, file), 'base64'),
        ]),
      );
    expect(filesOf('unbroken').length).toBeGreaterThan(10);
    expect(filesOf('broken')).toEqual(filesOf('unbroken'));
  }, 240_000);

  it('survives a generator and a verifier that never follow a format', async () => {
    const policies = { generator: smallPolicy(3), verifier: smallPolicy(4) };
    const directory = path.join(folder, 'noise');
    await run(optionsOf(policies.generator, policies.verifier), policies, 3, directory);
    const steps = eventsOf(directory).filter(({ kind }) => kind === 'train');
    // No verdict, no reward, no variance: no update of the verifier, and the log says so.
    expect(steps[0]!.metrics).toMatchObject({ reward: 0, zeroVariance: 1, updates: 0, parsed: 0 });
    expect(policies.verifier.updates).toBe(0);
    expect(steps[1]!.metrics).toMatchObject({ accuracy: 0, wellFormed: 0, verifierTokens: 0 });
  });

  it('is GRPO with a constant alpha of 0, and needs no verifications', async () => {
    const policies = await warmPair();
    const directory = path.join(folder, 'grpo');
    const change: Partial<Options> = { fixed: 'verifier', alpha: { kind: 'constant', start: 0 } };
    await run(optionsOf(policies.generator, policies.verifier, change), policies, 2, directory);
    for (const { kind, metrics } of eventsOf(directory)) {
      if (kind === 'train') expect(metrics).toMatchObject({ alpha: 0, verifierTokens: 0, stepReward: 0 });
    }
    expect(policies.verifier.updates).toBe(0);
  });

  it.each(['rloo', 'reinforce++'] as const)(
    'runs with %s, a scripted oracle, and several verdicts',
    async (advantage) => {
      const policies = await warmPair();
      const directory = path.join(folder, advantage);
      const change: Partial<Options> = { advantage, scripted: oracleVerifier(task), verifications: 2 };
      await run(optionsOf(policies.generator, policies.verifier, change), policies, 2, directory);
      const steps = eventsOf(directory).filter(({ kind }) => kind === 'train');
      for (const { metrics } of steps) expect(metrics).toMatchObject({ stepF1: 1, hackGap: 0, updates: 1 });
    },
  );

  it('chooses solutions of both outcomes for the verifier where more are sampled', async () => {
    const policies = await warmPair();
    const options = optionsOf(policies.generator, policies.verifier, {
      fixed: 'generator',
      verifier: { policy: policies.verifier, maxTokens: 40, prompts: 4, samples: 2, oversample: 8 },
    });
    const directory = path.join(folder, 'oversampled');
    await run(options, policies, 2, directory);
    const steps = eventsOf(directory).filter(({ kind }) => kind === 'train');
    expect(steps.some(({ metrics }) => metrics.solutionAccuracy === 0.5)).toBe(true);
    expect(policies.generator.updates).toBe(0);
  });
});
