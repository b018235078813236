import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { withoutSuperseded } from '../../src/train/events.js';
import {
  checkpointSteps,
  compareRuns,
  listRuns,
  RunDirectory,
  type RunEvent,
  readEvents,
  readRun,
  seriesOf,
} from '../../src/train/index.js';
import { firstDifference } from '../../src/train/run-directory.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'anneal-events-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const trained = (step: number, loss = step): RunEvent => ({
  time: 1000 * step,
  step,
  kind: 'train',
  loss,
  lr: 0.1,
  gradNorm: 1,
  ms: 10,
  rate: 1,
});
const evaluated = (step: number, loss: number | null): RunEvent => ({
  time: 0,
  step,
  kind: 'evaluate',
  metrics: { loss },
  isBest: false,
  ms: 1,
});
const resumed = (step: number): RunEvent => ({ time: 0, step, kind: 'resume', microBatches: 1 });
const note = (step: number): RunEvent => ({ time: 0, step, kind: 'note', text: 'x' });

describe('the event log', () => {
  it('counts the last word on each step', () => {
    const log = [
      trained(1),
      trained(2),
      evaluated(2, 5),
      trained(3),
      trained(4),
      note(4),
      resumed(2),
      trained(3, 30),
      trained(4, 40),
      trained(5, 50),
      resumed(4),
      evaluated(4, 7),
      trained(5, 500),
    ];
    const kept = withoutSuperseded(log);
    expect(seriesOf(kept, 'train', 'loss')).toEqual({
      steps: [1, 2, 3, 4, 5],
      values: [1, 2, 30, 40, 500],
      times: [1000, 2000, 3000, 4000, 5000],
    });
    expect(seriesOf(kept, 'evaluate', 'loss')).toMatchObject({ steps: [2, 4], values: [5, 7] });
    expect(kept.filter((e) => e.kind === 'note' || e.kind === 'resume').length).toBe(3);
  });

  it('of a run that began again from nothing forgets the first try', () => {
    const begun: RunEvent = {
      time: 0,
      step: 0,
      kind: 'start',
      microBatches: 1,
      parameters: 1,
      steps: 9,
      flopsPerStep: 1,
    };
    const kept = withoutSuperseded([
      begun,
      evaluated(0, 1),
      trained(1),
      begun,
      evaluated(0, 2),
      trained(1, 9),
    ]);
    expect(seriesOf(kept, 'train', 'loss').values).toEqual([9]);
    expect(seriesOf(kept, 'evaluate', 'loss').values).toEqual([2]);
  });

  it('gives every step once, in order, however often a run is killed and taken up', () => {
    // Each session takes up a step that the one before had reached, and does some more.
    const sessions = fc.array(fc.tuple(fc.nat(100), fc.integer({ min: 0, max: 20 })), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(sessions, (list) => {
        const log: RunEvent[] = [];
        const truth: number[] = [];
        for (const [i, [where, count]] of list.entries()) {
          const from = truth.length === 0 ? 0 : where % (truth.length + 1);
          if (i > 0) log.push(resumed(from));
          truth.length = from;
          for (let k = 1; k <= count; k++) {
            log.push(trained(from + k, 1000 * i + k));
            truth.push(1000 * i + k);
          }
        }
        const { steps, values } = seriesOf(withoutSuperseded(log), 'train', 'loss');
        expect(values).toEqual(truth);
        expect(steps).toEqual(truth.map((_, k) => k + 1));
      }),
    );
  });

  it('shows a value that JSON cannot hold as NaN', () => {
    const log = [evaluated(1, Number.POSITIVE_INFINITY), evaluated(2, 3)].map((e) =>
      JSON.parse(JSON.stringify(e)),
    );
    expect(seriesOf(log, 'evaluate', 'loss').values).toEqual([Number.NaN, 3]);
    expect(seriesOf(log, 'evaluate', 'absent').values).toEqual([]);
  });
});

describe('a run directory', () => {
  it.each([
    ['cut in the middle', '{"time":1,"step":2,"kind":"tr', 1],
    ['cut within a character', Buffer.from('{"text":"ü"').subarray(0, 10), 1],
    ['whole but without its end', '{"time":1,"step":2,"kind":"note","text":"x"}', 2],
  ])('repairs a last line that was %s', async (name, rest, count) => {
    const directory = path.join(root, name);
    const first = await RunDirectory.open(directory, {});
    first.append(1, { kind: 'note', text: 'ü' });
    await first.close();
    appendFileSync(path.join(directory, 'events.jsonl'), rest);
    const second = await RunDirectory.open(directory, {});
    expect(second.isResumed).toBe(true);
    second.append(3, { kind: 'note', text: 'y' });
    await second.close();
    const { events, badLines } = await readEvents(directory);
    expect(badLines).toBe(0);
    expect(events.map(({ step }) => step)).toEqual(count === 1 ? [1, 3] : [1, 2, 3]);
    expect(readFileSync(path.join(directory, 'events.jsonl'), 'utf8').endsWith('\n')).toBe(true);
  });

  it('counts damaged lines in the middle and reads the others', async () => {
    const directory = path.join(root, 'damaged');
    mkdirSync(directory);
    const lines = [JSON.stringify(trained(1)), '{"half', '42', JSON.stringify(trained(2))];
    writeFileSync(path.join(directory, 'events.jsonl'), `${lines.join('\n')}\n`);
    expect(await readEvents(directory)).toMatchObject({ events: [{ step: 1 }, { step: 2 }], badLines: 2 });
  });

  it('finishes what a killed process was doing to its checkpoints', async () => {
    const directory = path.join(root, 'leftovers');
    await (await RunDirectory.open(directory, {})).close();
    const folders = [
      'step-3',
      '.step-3.old',
      '.step-6.old',
      '.step-9.tmp',
      '.step-1.trash',
      'damaged-step-2',
    ];
    for (const name of folders) mkdirSync(path.join(directory, 'checkpoints', name), { recursive: true });
    await (await RunDirectory.open(directory, {})).close();
    // Step 6 was being replaced: its new version was not there yet, so the old one comes back.
    expect(await checkpointSteps(directory)).toEqual([3, 6]);
  });

  it('is refused where another machine holds it, whose processes cannot be seen', async () => {
    const directory = path.join(root, 'elsewhere');
    mkdirSync(directory);
    const lock = path.join(directory, 'lock');
    writeFileSync(lock, JSON.stringify({ pid: 1, started: '1', host: 'elsewhere 0' }));
    await expect(RunDirectory.open(directory, {})).rejects.toThrow(
      `${directory} is being written by process 1 on elsewhere, which cannot be seen from here; if that process is gone, delete ${lock}`,
    );
    // No process writes a lock in pieces, so one that is none is nobody's.
    writeFileSync(lock, '');
    await (await RunDirectory.open(directory, {})).close();
  });

  it('has one writer within a process, too', async () => {
    const directory = path.join(root, 'twice');
    const first = await RunDirectory.open(directory, {});
    await expect(RunDirectory.open(directory, {})).rejects.toThrow(`by process ${process.pid};`);
    await first.close();
    await (await RunDirectory.open(directory, {})).close();
  });

  it('says so in one sentence when it does not exist', async () => {
    await expect(readRun(path.join(root, 'absent'))).rejects.toThrow(
      /cannot read .*config\.json: it does not exist/,
    );
    await expect(listRuns(path.join(root, 'absent'))).rejects.toThrow('is no folder that can be read');
  });

  it('is listed, read and compared', async () => {
    const folder = path.join(root, 'runs');
    for (const [name, config, loss] of [
      ['one', { lr: 0.1, model: { layers: 2, heads: 4 } }, 3],
      ['two', { lr: 0.2, model: { layers: 2, heads: 4 }, seed: 1 }, 2],
    ] as const) {
      const directory = await RunDirectory.open(path.join(folder, name), config);
      directory.append(0, { kind: 'start', microBatches: 1, parameters: 7, steps: 9, flopsPerStep: 1 });
      for (const step of [1, 2]) {
        const { time: _, ...event } = trained(step, loss * step);
        directory.append(step, event as never);
      }
      const metrics = name === 'one' ? { loss, accuracy: 0.5 } : { loss };
      directory.append(2, { kind: 'evaluate', metrics, isBest: true, ms: 1 });
      if (name === 'one') directory.append(2, { kind: 'end', reason: 'interrupted', seconds: 1 });
      await directory.close();
    }
    const listed = await listRuns(folder);
    expect(listed.map(({ name, status, loss, seconds }) => ({ name, status, loss, seconds }))).toEqual(
      expect.arrayContaining([
        { name: 'one', status: 'interrupted', loss: 4.5, seconds: 0.02 },
        { name: 'two', status: 'running', loss: 3, seconds: 0.02 },
      ]),
    );
    expect(await readRun(path.join(folder, 'one'))).toMatchObject({
      step: 2,
      steps: 9,
      parameters: 7,
      badLines: 0,
    });
    const { differences, metrics } = await compareRuns(['one', 'two'].map((name) => path.join(folder, name)));
    expect(differences).toEqual([
      { key: 'lr', values: [0.1, 0.2] },
      { key: 'seed', values: [undefined, 1] },
    ]);
    expect(metrics).toEqual([
      { name: 'loss', values: [3, 2] },
      { name: 'accuracy', values: [0.5, undefined] },
    ]);
  });
});

describe('the first difference of two configs', () => {
  it.each([
    [{ a: 1, b: 2 }, { b: 2, a: 1 }, undefined],
    [{ a: [1, { b: 2 }] }, { a: [1, { b: 3 }] }, { key: 'a.1.b', a: 2, b: 3 }],
    [{ a: [1] }, { a: [1, 2] }, { key: 'a.1', a: undefined, b: 2 }],
    [{ a: null }, { a: {} }, { key: 'a', a: null, b: {} }],
    [{ a: [] }, { a: {} }, { key: 'a', a: [], b: {} }],
    [1, 2, { key: '', a: 1, b: 2 }],
  ] as const)('%o and %o', (a, b, expected) => {
    expect(firstDifference(a, b)).toEqual(expected);
  });
});
