import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openSafetensorsFile } from '../../src/checkpoint/safetensors-files.js';
import {
  AnnealError,
  adamW,
  groups,
  linear,
  mean,
  muon,
  Rng,
  rateAt,
  sgd,
  square,
  sum,
  warmup,
} from '../../src/index.js';
import { parametersOf } from '../../src/nn/module.js';
import {
  bestCheckpoint,
  checkpointSteps,
  lastCheckpoint,
  NonFiniteError,
  type RunEvent,
  readEvents,
  readState,
  seriesOf,
  type TrainOptions,
  train,
} from '../../src/train/index.js';
import { batchNumber, type inputs, type Mode, Network, optionsOf, Points } from './tiny.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'anneal-train-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let directories = 0;
const fresh = () => path.join(root, `run${directories++}`);

type Options = TrainOptions<typeof inputs>;

/** Runs with changed options and returns everything that can be looked at. */
async function run(mode: Mode, steps: number, changes: Partial<Options> = {}) {
  const events: RunEvent[] = [];
  const options = { ...optionsOf(mode, steps), onEvent: (event: RunEvent) => events.push(event), ...changes };
  const result = await train(options);
  const losses = seriesOf(events, 'train', 'loss').values;
  return { result, events, losses, network: options.parameters as Network };
}

const weightsOf = (network: Network) => [...parametersOf(network).values()].map((v) => [...v.read()]);
const kinds = (events: readonly RunEvent[]) => events.map(({ kind, step }) => `${kind} ${step}`);

describe('the order of the loop', () => {
  it('is evaluate, sample, save, step, with one round more than steps', async () => {
    const { events, result } = await run('plain', 5, {
      directory: fresh(),
      evaluate: { every: 2, run: async ({ step, isLast }) => ({ loss: step, last: Number(isLast) }) },
      sample: { every: 2, run: async ({ step }) => `text ${step}` },
      save: { every: 4 },
    });
    expect(kinds(events)).toEqual([
      'start 0',
      'evaluate 0',
      'train 1',
      'train 2',
      'evaluate 2',
      'sample 2',
      'train 3',
      'train 4',
      'evaluate 4',
      'sample 4',
      'save 4',
      'train 5',
      'evaluate 5',
      'sample 5',
      'save 5',
      'end 5',
    ]);
    expect(events.filter((e) => e.kind === 'evaluate').map((e) => e.metrics.last)).toEqual([0, 0, 0, 1]);
    expect(result).toMatchObject({ step: 5, reason: 'finished', best: { step: 0, value: 0 } });
  });

  it('reports the rate of each update, loss and gradient norm of its batch', async () => {
    const lr = warmup(3, linear(0.1, 0.01, 6));
    const { events, network } = await run('plain', 6, { optimizer: sgd(lr) });
    const rates = seriesOf(events, 'train', 'lr').values;
    rates.forEach((rate, i) => {
      expect(rate).toBeCloseTo(rateAt(lr, i), 7);
    });
    expect(seriesOf(events, 'train', 'gradNorm').values.every((norm) => norm > 0)).toBe(true);
    expect(weightsOf(network)).not.toEqual(weightsOf(new Network()));
  });

  it('ends early when patience runs out, and remembers it', async () => {
    const scores = [5, 3, 4, 3.5, 3, 1];
    const settings = {
      directory: fresh(),
      evaluate: {
        every: 10,
        patience: 3,
        run: async ({ step }: { step: number }) => ({ loss: scores[step / 10]! }),
      },
    };
    const { result, events } = await run('plain', 100, settings);
    expect(result).toMatchObject({ step: 40, reason: 'early stop', best: { step: 10, value: 3 } });
    expect(events.filter((e) => e.kind === 'evaluate').map((e) => e.isBest)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
    const again = await run('plain', 100, settings);
    expect(again.result).toMatchObject({
      step: 40,
      reason: 'early stop',
      best: { step: 10, value: 3 },
      resumedFrom: 40,
    });
    expect(kinds(again.events)).toEqual(['resume 40', 'end 40']);
    expect(weightsOf(again.network)).toEqual(
      weightsOf((await run('plain', 100, { ...settings, directory: fresh() })).network),
    );
  });

  it('keeps the last checkpoints and the best', async () => {
    const directory = fresh();
    const scores: Record<number, number> = { 0: 9, 5: 1, 10: 2, 15: 3, 20: 4 };
    const evaluate = {
      every: 5,
      metric: 'score',
      run: async ({ step }: { step: number }) => ({ score: scores[step]! }),
    };
    await run('plain', 20, { directory, evaluate, save: { every: 4, keep: 3 } });
    expect(await checkpointSteps(directory)).toEqual([5, 12, 16, 20]);
    expect(await bestCheckpoint(directory)).toBe(path.join(directory, 'checkpoints', 'step-5'));
    expect(await lastCheckpoint(directory)).toBe(path.join(directory, 'checkpoints', 'step-20'));
    const higher = fresh();
    await run('plain', 20, {
      directory: higher,
      evaluate: { ...evaluate, better: 'higher' },
      save: { every: 20 },
    });
    expect(await bestCheckpoint(higher)).toBeUndefined();
    expect((await readState(higher, 20)).best).toEqual({ step: 0, value: 9 });
  });
});

describe('batches', () => {
  it.each([2, 4, 8])('cut into %i give the same losses and weights to 1e-5', async (microBatches) => {
    const whole = await run('plain', 30);
    const cut = await run('plain', 30, { microBatches });
    cut.losses.forEach((loss, i) => {
      expect(Math.abs(loss - whole.losses[i]!)).toBeLessThan(1e-5);
    });
    const weights = weightsOf(whole.network).flat();
    const differences = weightsOf(cut.network)
      .flat()
      .map((w, i) => Math.abs(w - weights[i]!));
    expect(Math.max(...differences)).toBeLessThan(1e-5);
  });

  it('cut automatically: the choice changes nothing before the first step and is kept', async () => {
    const directory = fresh();
    const first = await run('all', 12, { directory, microBatches: 'auto' });
    const { microBatches } = first.result;
    expect([1, 2, 4, 8]).toContain(microBatches);
    const fixed = await run('all', 12, { microBatches });
    expect(first.losses).toEqual(fixed.losses);
    expect((await readState(directory, 12)).microBatches).toBe(microBatches);
    const again = await run('all', 12, { directory, microBatches: 'auto' });
    expect(again.result.microBatches).toBe(microBatches);
    const [note] = first.events.filter((e) => e.kind === 'note');
    expect(Object.keys((note!.data as { milliseconds: object }).milliseconds)).toContain(
      String(microBatches),
    );
  });

  it('are the same with and without preparing the next one early', async () => {
    const early = await run('plain', 15);
    const late = await run('plain', 15, { prefetch: false });
    expect(late.losses).toEqual(early.losses);
  });

  it('are asked for only after the step before where prefetch is off', async () => {
    const log: string[] = [];
    class Told extends Points {
      override next() {
        log.push(`batch ${this.n}`);
        return super.next();
      }
    }
    const onEvent = (e: RunEvent) => void (e.kind === 'train' && log.push(`step ${e.step}`));
    await run('plain', 3, { data: new Told(), prefetch: false, onEvent });
    expect(log).toEqual(['batch 0', 'step 1', 'batch 1', 'step 2', 'batch 2', 'step 3']);
    log.length = 0;
    await run('plain', 3, { data: new Told(), onEvent });
    expect(log).toEqual(['batch 0', 'batch 1', 'step 1', 'batch 2', 'step 2', 'step 3']);
  });
});

describe('the average of the weights', () => {
  it('follows its formula, is what evaluations see and what stays', async () => {
    const decay = 0.8;
    const history: number[][] = [];
    const network = new Network();
    const now = () => weightsOf(network).flat();
    const seen: number[][] = [];
    let expected = now();
    await run('plain', 12, {
      parameters: network,
      loss: network.loss,
      average: { decay },
      onEvent: (e) => void (e.kind === 'train' && history.push(now())),
      evaluate: { every: 4, run: async () => ({ loss: 0, evaluations: seen.push(now()) }) },
    });
    const averages = history.map((weights, t) => {
      const share = Math.max(1 - decay, 9 / (10 + t));
      expected = expected.map((e, i) => e + share * (weights[i]! - e));
      return expected;
    });
    for (const [i, step] of [4, 8, 12].entries()) {
      seen[i + 1]!.forEach((value, j) => {
        expect(Math.abs(value - averages[step - 1]![j]!)).toBeLessThan(1e-5);
      });
    }
    expect(now()).toEqual(seen.at(-1));
    expect(now()).not.toEqual(history.at(-1));
  });

  it('is the model of a checkpoint, with the trained weights beside it; or the other way round', async () => {
    const read = async (directory: string, file: string) => {
      const reader = await openSafetensorsFile(path.join(directory, 'checkpoints', 'step-6', file));
      const values = [...(await reader.readFloat32('hidden'))];
      await reader.close();
      return values;
    };
    const [used, beside] = [fresh(), fresh()];
    const settings = { save: { every: 6 } };
    await run('average', 6, { ...settings, directory: used });
    await run('average', 6, { ...settings, directory: beside, average: { decay: 0.95, evaluate: false } });
    expect(await read(used, 'model.safetensors')).toEqual(await read(beside, 'ema.safetensors'));
    expect(await read(used, 'trained.safetensors')).toEqual(await read(beside, 'model.safetensors'));
    expect(await read(used, 'model.safetensors')).not.toEqual(await read(beside, 'model.safetensors'));
  });
});

describe('a run that is taken up again', () => {
  it('after an abort equals one that was never interrupted', async () => {
    const directory = fresh();
    const whole = await run('all', 25);
    const controller = new AbortController();
    const onEvent = (e: RunEvent) => void (e.kind === 'train' && e.step === 9 && controller.abort());
    const first = await run('all', 25, { directory, signal: controller.signal, onEvent });
    expect(first.result).toMatchObject({ step: 9, reason: 'aborted' });
    const second = await run('all', 25, { directory });
    expect(second.result).toMatchObject({ step: 25, reason: 'finished', resumedFrom: 9 });
    const { events } = await readEvents(directory);
    expect(seriesOf(events, 'train', 'loss').values).toEqual(whole.losses);
    expect(seriesOf(events, 'evaluate', 'loss')).toMatchObject({
      ...seriesOf(whole.events, 'evaluate', 'loss'),
      times: expect.anything(),
    });
    expect(second.result.loss).toBe(whole.result.loss);
    expect(second.result.best).toEqual(whole.result.best);
    expect(weightsOf(second.network)).toEqual(weightsOf(whole.network));
  });

  it('with Muon for the matrices and AdamW for the rest equals one that was never interrupted', async () => {
    const directory = fresh();
    const mixed = () => ({
      optimizer: groups([
        { name: 'matrices', match: (p) => p.role === 'matrix', optimizer: muon({ lr: 0.02 }) },
        { name: 'rest', optimizer: adamW({ lr: 0.01 }) },
      ]),
    });
    const whole = await run('split', 12, mixed());
    const controller = new AbortController();
    const onEvent = (e: RunEvent) => void (e.kind === 'train' && e.step === 5 && controller.abort());
    await run('split', 12, { ...mixed(), directory, signal: controller.signal, onEvent });
    const second = await run('split', 12, { ...mixed(), directory });
    expect(second.losses).toEqual(whole.losses.slice(5));
    expect(weightsOf(second.network)).toEqual(weightsOf(whole.network));
    const rates = second.events.find((e) => e.kind === 'train')!.metrics;
    expect(Object.keys(rates!)).toEqual(['lr.matrices', 'lr.rest']);
  });

  it('restores state of the caller’s own', async () => {
    const directory = fresh();
    const rng = new Rng(3);
    const extra = {
      save: () => rng.state() as never,
      restore: (state: unknown) => void restored.push(state),
    };
    const restored: unknown[] = [];
    rng.next();
    await run('plain', 2, { directory, extra });
    await run('plain', 2, { directory, extra });
    expect(restored).toEqual([rng.state()]);
  });

  it('uses the caller’s own files for the model', async () => {
    const directory = fresh();
    const stored = new Map<string, number[][]>();
    const options = (network: Network): Partial<Options> => ({
      directory,
      parameters: network,
      loss: network.loss,
      modelFiles: {
        write: async (folder) => void stored.set(path.basename(folder), weightsOf(network)),
        read: async () => {
          const last = [...stored.values()].at(-1)!;
          [...parametersOf(network).values()].forEach((v, i) => {
            v.set(last[i]!);
          });
        },
      },
    });
    const first = new Network();
    await run('plain', 4, options(first));
    expect(existsSync(path.join(directory, 'checkpoints', 'step-4', 'model.safetensors'))).toBe(false);
    const second = new Network(99);
    await run('plain', 4, options(second));
    expect(weightsOf(second)).toEqual(weightsOf(first));
  });

  it('is refused with another config, naming the first key that differs', async () => {
    const directory = fresh();
    const config = { model: { layers: 2, dims: [4, 8] }, lr: 0.1 };
    await run('plain', 1, { directory, config });
    const attempt = (changed: Options['config'], resume = true) =>
      run('plain', 1, { directory, config: changed!, resume });
    await expect(attempt({ ...config, model: { layers: 2, dims: [4, 9] }, lr: 0.2 })).rejects.toThrow(
      `${directory} holds a run with another config: model.dims.1 is 8 there and 9 now; resume with the same config, or choose another directory`,
    );
    await expect(attempt({ ...config, seed: 1 })).rejects.toThrow('seed is nothing there and 1 now');
    await expect(attempt(config, false)).rejects.toThrow('already holds a run');
    await attempt({ lr: 0.1, model: { dims: [4, 8], layers: 2 } });
  });

  it('is refused in a directory that holds something else', async () => {
    await expect(run('plain', 1, { directory: root })).rejects.toThrow('is not empty and holds no run');
  });

  it('passes over a damaged checkpoint', async () => {
    const directory = fresh();
    const { truncateSync } = await import('node:fs');
    const whole = await run('plain', 12, { directory, save: { every: 5, keep: 3 } });
    truncateSync(path.join(directory, 'checkpoints', 'step-12', 'optimizer.safetensors'), 100);
    const again = await run('plain', 12, { directory, save: { every: 5, keep: 3 } });
    expect(again.result).toMatchObject({ resumedFrom: 10, step: 12 });
    expect(again.losses).toEqual(whole.losses.slice(10));
    expect(again.events[0]).toMatchObject({
      kind: 'note',
      text: expect.stringContaining('step-12 is damaged'),
    });
    expect(existsSync(path.join(directory, 'checkpoints', 'damaged-step-12'))).toBe(true);
  });
});

describe('a step that is not finite', () => {
  const poisoned = (directory: string | undefined): Partial<Options> => ({
    ...(directory === undefined ? {} : { directory }),
    data: new Points(7),
    save: { every: 5 },
  });

  it('is taken back: the state before it is saved, and the batch', async () => {
    const directory = fresh();
    const network = new Network();
    const good = await run('all', 7, { average: { decay: 0.95, evaluate: false } });
    const failure = await run('all', 20, {
      ...poisoned(directory),
      parameters: network,
      loss: network.loss,
    }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(NonFiniteError);
    const { message, step, batch } = failure as NonFiniteError;
    const file = path.join(directory, 'non-finite', 'step-8.safetensors');
    expect(message).toBe(
      `the loss of step 8 is not finite (loss NaN, gradient norm NaN); its batch is in ${file}, the last good state in ` +
        `${path.join(directory, 'checkpoints', 'step-7')}; lower the learning rate, clip the gradients, or look for bad values in the batch`,
    );
    expect(step).toBe(7);
    expect((batch.x as Float32Array)[7]).toBeNaN();
    expect(weightsOf(network)).toEqual(weightsOf(good.network));
    const reader = await openSafetensorsFile(file);
    expect(await reader.readFloat32('x')).toEqual(batch.x);
    expect(reader.tensors.get('y')).toMatchObject({ type: 'I32', shape: [8] });
    await reader.close();
    expect((await readState(directory, 7)).data).toEqual({ n: 7 });
    expect((await readEvents(directory)).events.at(-1)).toMatchObject({
      kind: 'end',
      reason: 'failed',
      step: 7,
    });
    // With a clean batch in its place the run goes on as if nothing had been.
    const on = await run('all', 20, { directory });
    const whole = await run('all', 20);
    expect(on.losses).toEqual(whole.losses.slice(7));
  });

  it('is found by its gradient, too', async () => {
    const network = new Network();
    // √ has an infinite slope at 0: the loss is fine, its gradient is not.
    const loss = ({ x, y }: Parameters<Network['loss']>[0]) =>
      network.loss({ x, y }).add(sum(square(network.bias)).sqrt());
    const before = weightsOf(network);
    await expect(run('plain', 5, { parameters: network, loss })).rejects.toThrow(
      /the gradient of step 1 is not finite/,
    );
    expect(weightsOf(network)).toEqual(before);
  });

  it('without the state before it names the last checkpoint', async () => {
    const directory = fresh();
    await expect(run('plain', 20, { ...poisoned(directory), keepPrevious: false })).rejects.toThrow(
      `the last good state in ${path.join(directory, 'checkpoints', 'step-5')}`,
    );
  });
});

describe('train', () => {
  it('counts the operations of all micro-batches of a step', async () => {
    const flops = async (mode: Mode) => {
      const [first] = (await run(mode, 0)).events.filter((e) => e.kind === 'start');
      return first!.flopsPerStep!;
    };
    const whole = await flops('plain');
    // Both products, forward and twice backward but for the gradient of the data: 2·8·(3·16·3 + 2·6·16) at least.
    expect(whole).toBeGreaterThan(2 * 8 * (3 * 16 * 3 + 2 * 6 * 16));
    expect((await flops('split')) / whole).toBeCloseTo(1, 0);
  });

  it('saves before it gives up on data that fails', async () => {
    const directory = fresh();
    class Vanishing extends Points {
      override next() {
        if (this.n === 6) throw new AnnealError('corpus.txt is gone');
        return super.next();
      }
    }
    await expect(
      run('plain', 20, { directory, data: new Vanishing(), save: { every: 100 } }),
    ).rejects.toThrow('corpus.txt is gone');
    expect(await checkpointSteps(directory)).toEqual([6]);
    const whole = await run('plain', 20);
    expect((await run('plain', 20, { directory, save: { every: 100 } })).losses).toEqual(
      whole.losses.slice(6),
    );
  });

  it('reports other scalars of the loss function, in training and evaluation', async () => {
    const network = new Network();
    const { events } = await run('split', 2, {
      parameters: network,
      loss: ({ x, y }, mode) => ({ loss: network.loss({ x, y }), size: mean(square(x)), [mode]: mean(x) }),
    });
    const size = batchNumber(0).x.reduce((a, v) => a + v * v, 0) / 48;
    expect(seriesOf(events, 'train', 'size').values[0]).toBeCloseTo(size, 5);
    const [first] = events.filter((e) => e.kind === 'evaluate');
    expect(Object.keys(first!.metrics)).toEqual(['loss', 'size', 'evaluate']);
  });

  it('trains only what is trainable, and stores everything', async () => {
    const directory = fresh();
    const network = new Network();
    const { variable, ones } = await import('../../src/index.js');
    const scale = variable(ones([3]), { trainable: false });
    await run('plain', 3, {
      directory,
      parameters: { network, scale },
      loss: ({ x, y }) => network.loss({ x, y }).mul(mean(scale)),
    });
    expect([...scale.data]).toEqual([1, 1, 1]);
    const reader = await openSafetensorsFile(
      path.join(directory, 'checkpoints', 'step-3', 'model.safetensors'),
    );
    expect([...reader.tensors.keys()].sort()).toEqual([
      'network.bias',
      'network.hidden',
      'network.out',
      'scale',
    ]);
    await reader.close();
  });

  it.each([
    [{ steps: -1 }, 'steps must be an integer of 0 or more, not -1'],
    [{ microBatches: 0 }, 'microBatches must be a positive integer, not 0'],
    [{ microBatches: 3 }, 'does not divide into 3 micro-batches'],
    [{ evaluate: { every: 0, batches: [] } }, 'evaluate.every must be a positive integer, not 0'],
    [{ evaluate: { every: 1 } }, 'evaluate needs batches'],
    [{ evaluate: { every: 1, batches: [] } }, 'there are no batches'],
    [{ evaluate: { every: 1, run: async () => ({ a: 1 }) } }, 'no metric "loss" among a'],
    [{ save: { every: 1.5 } }, 'save.every must be a positive integer, not 1.5'],
    [{ tensorBoard: true }, 'tensorBoard needs a directory'],
    [{ parameters: {} }, 'no trainable variable'],
    [{ average: { decay: 1 } }, 'must be in [0, 1), not 1'],
  ] as [Partial<Options>, string][])('refuses %o', async (changes, message) => {
    const attempt = run('plain', 2, changes);
    await expect(attempt).rejects.toThrow(message);
    await expect(attempt).rejects.toBeInstanceOf(AnnealError);
  });

  it('leaves no lock and writes a report', async () => {
    const directory = fresh();
    await run('plain', 30, {
      directory,
      sample: { every: 15, run: async () => 'a ```fenced``` sample' },
      tensorBoard: true,
    });
    expect(readdirSync(directory).sort()).toEqual(
      ['checkpoints', 'config.json', 'events.jsonl', 'figures', 'report.md', 'samples', 'tensorboard'].sort(),
    );
    expect(readdirSync(path.join(directory, 'samples')).sort()).toEqual(['step-15.txt', 'step-30.txt']);
    expect(readFileSync(path.join(directory, 'report.md'), 'utf8')).toContain(
      '````\na ```fenced``` sample\n````',
    );
  });

  it('with adamW follows the losses of a loop written by hand', async () => {
    const { program } = await import('../../src/index.js');
    const network = new Network();
    const optimizer = adamW({ lr: 0.01 });
    const { inputs: types } = await import('./tiny.js');
    const step = program(types, (batch) => {
      const loss = network.loss(batch);
      optimizer.minimize(loss, [...parametersOf(network).values()]);
      return { loss };
    });
    const byHand: number[] = [];
    for (let i = 0; i < 10; i++) byHand.push((await step(batchNumber(i))).loss.item());
    const { losses } = await run('plain', 10, { optimizer: adamW({ lr: 0.01 }) });
    losses.forEach((loss, i) => {
      expect(loss).toBeCloseTo(byHand[i]!, 6);
    });
  });
});
