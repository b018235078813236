import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import {
  grpoPhase,
  interleave,
  type Phase,
  type Policy,
  perSample,
  type ReinforceOptions,
  reinforce,
  stepsUntil,
} from '../../src/rl/index.js';
import { checkpointSteps, type RunEvent, readEvents, seriesOf } from '../../src/train/index.js';
import { grpoOptions, pairOptions, promptsAt, shareOfWanted, tinyPolicy } from './tiny-run.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-reinforce-'));
const policies: Policy[] = [];
const make = (seed = 1): Policy => {
  const policy = tinyPolicy(seed);
  policies.push(policy);
  return policy;
};
afterAll(async () => {
  for (const policy of policies) await policy.dispose();
  rmSync(folder, { recursive: true, force: true });
});
let runs = 0;
const directory = () => path.join(folder, `run-${runs++}`);
const weightsOf = (policy: Policy) => [...policy.parameters.values()].flatMap((p) => [...p.data]);

type One = { policy: Policy };
/** A run of one policy. */
const single = (policy: Policy, changes: Partial<ReinforceOptions<One>> = {}): ReinforceOptions<One> => ({
  policies: { policy },
  phases: { grpo: grpoPhase(grpoOptions(policy)) },
  steps: 4,
  seed: 1,
  progress: false,
  handleSignals: false,
  ...changes,
});

describe('interleave', () => {
  it('warms up, then repeats its cycle', () => {
    const schedule = interleave({
      warmUp: { phase: 'v', steps: 2 },
      cycle: [
        ['g', 3],
        ['v', 1],
      ],
    });
    expect(Array.from({ length: 11 }, (_, step) => schedule(step)).join('')).toBe('vvgggvgggvg');
    // Tango's 440 steps: 40 of warm-up, 300 of the generator, 100 more of the verifier.
    const tango = interleave({
      warmUp: { phase: 'v', steps: 40 },
      cycle: [
        ['g', 3],
        ['v', 1],
      ],
    });
    expect(stepsUntil(tango, 'g', 300)).toBe(439);
    expect(stepsUntil(tango, 'v', 140)).toBe(440);
  });

  it('refuses what is no schedule', () => {
    expect(() => interleave({ cycle: [] })).toThrow('empty');
    expect(() => interleave({ cycle: [['g', 0]] })).toThrow('g has 0 steps');
    expect(() => stepsUntil(() => 'g', 'v', 1, 100)).toThrow('fewer than 1 steps of "v"');
  });
});

describe('reinforce', () => {
  it('runs phases in turn, each with its own policy, count and seeds', async () => {
    const seen: { phase: string; step: number; phaseStep: number; seed: number }[] = [];
    const note: Phase<{ a: Policy; b: Policy }> = async ({ phase, step, phaseStep, seed }) => {
      seen.push({ phase, step, phaseStep, seed: seed('x', 1) });
      expect(seed('x', 1)).toBe(seed('x', 1));
      expect(seed('x', 2)).not.toBe(seed('x', 1));
      return { metrics: { reward: step } };
    };
    const events: RunEvent[] = [];
    const result = await reinforce({
      policies: { a: make(1), b: make(2) },
      phases: { first: note, second: note },
      schedule: interleave({
        cycle: [
          ['first', 2],
          ['second', 1],
        ],
      }),
      steps: 5,
      progress: false,
      onEvent: (event) => events.push(event),
    });
    expect(seen.map(({ phase, phaseStep }) => `${phase} ${phaseStep}`)).toEqual([
      'first 0',
      'first 1',
      'second 0',
      'first 2',
      'first 3',
    ]);
    expect(new Set(seen.map(({ seed }) => seed)).size).toBe(5);
    expect(seen.every(({ seed }) => Number.isSafeInteger(seed) && seed >= 0)).toBe(true);
    expect(result).toMatchObject({ step: 5, reason: 'finished', updates: { a: 0, b: 0 } });
    expect(seriesOf(events, 'train', 'reward', 'second').steps).toEqual([3]);
  });

  it('writes log, tables, checkpoints of a single policy where a model lies, and a report with curves', async () => {
    const where = directory();
    const result = await reinforce(
      single(make(), {
        directory: where,
        steps: 6,
        save: { every: 2, keep: 1 },
        evaluate: { every: 3, metric: 'x', run: async ({ step }) => ({ x: step === 3 ? 9 : step }) },
        sample: { every: 3, run: async () => 'a completion' },
        tensorBoard: true,
      }),
    );
    expect(result.best).toEqual({ step: 3, value: 9 });
    expect(result.metrics).toEqual({ x: 6 });
    expect(await checkpointSteps(where)).toEqual([3, 6]);
    for (const file of ['model.safetensors', 'optimizer.safetensors', 'policy.json', 'state.json'])
      expect(existsSync(path.join(where, 'checkpoints', 'step-6', file)), file).toBe(true);
    const table = readFileSync(path.join(where, 'rollouts', 'step-6.jsonl'), 'utf8')
      .trim()
      .split('\n');
    expect(table.length).toBe(12);
    expect(Object.keys(JSON.parse(table[0]!))).toEqual([
      'group',
      'prompt',
      'completion',
      'tokens',
      'finishReason',
      'reward',
      'rewards',
      'advantage',
      'isUsed',
    ]);
    const { events } = await readEvents(where);
    expect(seriesOf(events, 'train', 'reward').values.every(Number.isFinite)).toBe(true);
    const last = events.findLast((event) => event.kind === 'train');
    expect(last).toMatchObject({ phase: 'grpo', updates: { policy: 6 } });
    const report = readFileSync(path.join(where, 'report.md'), 'utf8');
    for (const part of [
      'grpo: reward',
      'train-reward.svg',
      'train-entropy.svg',
      'evaluate-x.svg',
      'a completion',
    ])
      expect(report).toContain(part);
    expect(existsSync(path.join(where, 'figures', 'train-zeroVariance.svg'))).toBe(true);
    expect(readFileSync(path.join(where, 'samples', 'step-3.txt'), 'utf8')).toBe('a completion\n');
  });

  it('writes every n-th table, or none', async () => {
    const [some, none] = [directory(), directory()];
    await reinforce(single(make(), { directory: some, rollouts: { every: 2 }, report: false }));
    expect([1, 2, 3, 4].map((n) => existsSync(path.join(some, 'rollouts', `step-${n}.jsonl`)))).toEqual([
      false,
      true,
      false,
      true,
    ]);
    await reinforce(single(make(), { directory: none, rollouts: false, report: false }));
    expect(existsSync(path.join(none, 'rollouts'))).toBe(false);
  });

  it('shows the reward of each phase in its line', async () => {
    let text = '';
    const stream = { isTTY: false, write: (more: string) => (text += more) };
    const { options, speaker, critic } = pairOptions(4);
    policies.push(speaker, critic);
    await reinforce({ ...options, progress: { stream, every: 2 } });
    expect(text).toMatch(/step 4\/4 {2}judge reward [\d.]+ .*speak reward [\d.]+ .*tokens\/s .*left\n/);
    expect(text).toContain('step 4  evaluation  share');
  });

  it('saves when it is stopped, and goes on to the same weights', async () => {
    const [whole, parts] = [make(), directory()];
    await reinforce(single(whole, { steps: 5 }));
    const end = new AbortController();
    const stopped = await reinforce(
      single(make(), {
        steps: 5,
        directory: parts,
        signal: end.signal,
        onEvent: (event) => event.kind === 'train' && event.step === 2 && end.abort(),
      }),
    );
    expect(stopped).toMatchObject({ reason: 'aborted', step: 2, updates: { policy: 2 } });
    expect(await checkpointSteps(parts)).toEqual([1, 2]);
    const policy = make();
    const rest = await reinforce(single(policy, { steps: 5, directory: parts }));
    expect(rest).toMatchObject({ reason: 'finished', resumedFrom: 2, step: 5 });
    expect(weightsOf(policy)).toEqual(weightsOf(whole));
    const { events } = await readEvents(parts);
    expect(seriesOf(events, 'train', 'reward').steps).toEqual([1, 2, 3, 4, 5]);
  });

  it('takes back a step that was stopped in its middle', async () => {
    const end = new AbortController();
    const policy = make();
    const reward = perSample<number>(async (sample, context) => {
      if (context.step === 1) end.abort();
      return (await shareOfWanted([sample], context))[0]!;
    });
    const where = directory();
    const options = { phases: { grpo: grpoPhase(grpoOptions(policy, { reward })) }, directory: where };
    const result = await reinforce(single(policy, { ...options, signal: end.signal, report: false }));
    expect(result).toMatchObject({ reason: 'aborted', step: 1, updates: { policy: 1 } });
    expect(await checkpointSteps(where)).toEqual([1]);
  });

  it('saves before it gives up on a reward that fails; with the reward mended it goes on as if nothing had happened', async () => {
    const [whole, where] = [make(), directory()];
    await reinforce(single(whole));
    const broken = make();
    const reward = perSample<number>(async (sample, context) => {
      if (context.step === 3) return Number.NaN;
      return (await shareOfWanted([sample], context))[0]!;
    });
    const failing = single(broken, {
      phases: { grpo: grpoPhase(grpoOptions(broken, { reward })) },
      directory: where,
      save: { every: 100 },
    });
    await expect(reinforce(failing)).rejects.toThrow(/reward "reward" is NaN on sample 0 of prompt \d/);
    expect(await checkpointSteps(where)).toEqual([3]);
    const { events } = await readEvents(where);
    expect(events.at(-1)).toMatchObject({ kind: 'end', reason: 'failed', step: 3 });
    const mended = make();
    const result = await reinforce(single(mended, { directory: where, save: { every: 100 } }));
    expect(result.resumedFrom).toBe(3);
    expect(weightsOf(mended)).toEqual(weightsOf(whole));
  });

  it('does not save weights that a failed phase has half updated', async () => {
    const policy = make();
    const where = directory();
    const grpo = grpoPhase(grpoOptions(policy));
    const phases = {
      grpo: (async (context) => {
        const report = await grpo(context);
        if (context.step === 2) throw new Error('after the update');
        return report;
      }) as Phase<One>,
    };
    const failing = single(policy, { phases, directory: where, save: { every: 1 } });
    await expect(reinforce(failing)).rejects.toThrow('after the update');
    expect(await checkpointSteps(where)).toEqual([1, 2]);
    const { events } = await readEvents(where);
    const note = events.find((event) => event.kind === 'note');
    expect(note).toMatchObject({ text: expect.stringContaining('failed after an update of policy') });
  });

  it('puts back state that a failed phase has changed', async () => {
    let counter = 0;
    const state = {
      counter: {
        save: () => counter,
        restore: (value: unknown) => {
          counter = value as number;
        },
      },
    };
    const count: Phase<One> = async ({ step }) => {
      counter++;
      if (step === 2) throw new AnnealError('no');
      return { metrics: {} };
    };
    await expect(reinforce(single(make(), { phases: { count }, state }))).rejects.toThrow('no');
    expect(counter).toBe(2);
  });

  it('passes over a damaged checkpoint of several policies', async () => {
    const where = directory();
    const first = pairOptions(4);
    await reinforce({ ...first.options, directory: where, report: false });
    writeFileSync(path.join(where, 'checkpoints', 'step-4', 'critic', 'optimizer.safetensors'), 'nothing');
    const again = pairOptions(4);
    policies.push(first.speaker, first.critic, again.speaker, again.critic);
    const result = await reinforce({ ...again.options, directory: where, report: false });
    expect(result.resumedFrom).toBe(2);
    expect(existsSync(path.join(where, 'checkpoints', 'damaged-step-4'))).toBe(true);
    expect(weightsOf(again.speaker)).toEqual(weightsOf(first.speaker));
    expect(weightsOf(again.critic)).toEqual(weightsOf(first.critic));
  });

  it.each([
    [{ phases: {} }, 'there are no phases'],
    [{ policies: {} as never }, 'there are no policies'],
    [{ policies: { '../x': undefined } as never }, 'a policy is named "../x"'],
    [{ evaluate: { every: 1, patience: 2, run: async () => ({}) } }, 'patience needs evaluate.metric'],
    [{ steps: -1 }, 'reinforce: steps must be an integer of 0 or more'],
    [{ rollouts: { every: 0 } }, 'rollouts.every'],
    [{ schedule: () => 'other' }, 'gives "other" for step 0; the phases are grpo'],
    [{ phases: { a: async () => ({ metrics: {} }), b: async () => ({ metrics: {} }) } }, 'pass a schedule'],
    [{ phases: { a: async () => ({ metrics: { reward: '1' as never } }) } }, 'its metric "reward" is 1'],
    [{ evaluate: { every: 1, metric: 'y', run: async () => ({ x: 1 }) } }, 'no metric "y" among x'],
  ] as [Partial<ReinforceOptions<One>>, string][])('refuses %o', async (changes, message) => {
    await expect(reinforce(single(policies[0]!, changes))).rejects.toThrow(message);
  });
});

describe('prompts of the tests', () => {
  it('are a function of step and round', () => {
    expect(promptsAt(3, 1)).toEqual(promptsAt(3, 1));
    expect(promptsAt(3, 1)).not.toEqual(promptsAt(3, 2));
  });
});
