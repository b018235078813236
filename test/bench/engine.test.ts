import { mkdtempSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Contestant } from '../../bench/contestant.js';
import { GPT4, GPT6, parameterSpecs, readJob, stepFlop, writeJob } from '../../bench/engine/gpt.js';
import { lossDifference, type RaceResult } from '../../bench/engine/race.js';
import { memoryRow, peakShareRow, speedRow } from '../../bench/engine/rows.js';
import { moduleSpecifiers } from '../../bench/engine/startup.js';
import { summarise } from '../../bench/harness.js';
import { parseReply, peakMemoryMB } from '../../bench/protocol.js';

/** A contestant in a few lines of JavaScript, run by node -e. */
const scripted = (script: string) => ({ name: 'scripted', command: process.execPath, args: ['-e', script] });

const result = (ms: number[], peakMB = 100, losses = [4, 3]) => ({
  about: 'someone',
  stepMs: summarise(ms),
  peakMB,
  compileMs: null,
  losses,
});

describe('the model', () => {
  it('has the parameters and FLOPs that the targets speak of', () => {
    const count = (config: typeof GPT4) =>
      parameterSpecs(config).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(count(GPT6) / 1e6).toBeCloseTo(10.77, 2);
    expect(count(GPT4) / 1e6).toBeCloseTo(0.81, 2);
    expect(stepFlop(GPT6) / 1e9).toBeCloseTo(279.8, 1);
    expect(stepFlop(GPT4) / 1e9).toBeCloseTo(3.97, 2);
  });

  it('is written once and read back by every contestant', () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-job-'));
    const written = writeJob(folder, GPT4, 2);
    const { job, weights, batch } = readJob(folder);
    expect(job).toEqual(written);
    expect([...weights.keys()]).toEqual(job.parameters.map(({ name }) => name));
    expect(new Set(weights.get('blocks.3.norm2'))).toEqual(new Set([1]));
    const head = weights.get('head')!;
    const deviation = Math.sqrt(head.reduce((sum, value) => sum + value * value, 0) / head.length);
    expect(deviation).toBeCloseTo(0.02, 3);
    const { x, y } = batch(0);
    expect([...x.subarray(1, GPT4.context)]).toEqual([...y.subarray(0, GPT4.context - 1)]);
    expect(Math.max(...x, ...y)).toBeLessThan(GPT4.vocab);
    expect(batch(job.batches)).toEqual(batch(0));
    expect(batch(1)).not.toEqual(batch(0));
  });
});

describe('a contestant', () => {
  it('answers in JSON lines among chatter', () => {
    expect(parseReply('{"type":"memory","peakMB":3}')).toEqual({ type: 'memory', peakMB: 3 });
    expect(parseReply('Hi there! Looks like you are running TensorFlow.js in Node.js')).toBeNull();
    expect(parseReply('{ not json')).toBeNull();
    expect(parseReply('{}')).toBeNull();
  });

  it('trains on request and stops', async () => {
    const script = `const say = (m) => console.log(JSON.stringify(m));
      console.log('hello'); say({ type: 'ready', about: 'x 1.0', compileMs: 7 });
      require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
        const request = JSON.parse(line);
        if (request.op === 'stop') process.exit();
        say(request.op === 'memory' ? { type: 'memory', peakMB: 5 } : { type: 'ran', ms: [request.steps], losses: [1] });
      });`;
    const contestant = await Contestant.start(scripted(script));
    if (!(contestant instanceof Contestant)) throw new Error(contestant.unavailable);
    expect([contestant.about, contestant.compileMs]).toEqual(['x 1.0', 7]);
    expect((await contestant.run(3, 0)).ms).toEqual([3]);
    expect(await contestant.peakMB()).toBe(5);
    await contestant.stop();
    expect(() => process.kill(contestant.pid, 0)).toThrow('ESRCH');
  });

  it('that is not installed is skipped with what to do', async () => {
    const started = await Contestant.start({ ...scripted(''), requires: '/nowhere/at/all' });
    expect(started).toEqual({ unavailable: 'scripted is not installed: run `npm run bench:peers`' });
  });

  it('that dies or cannot train is skipped with its own last words', async () => {
    const dead = await Contestant.start(scripted("console.error('no such module'); process.exit(3)"));
    expect(dead).toEqual({ unavailable: 'scripted ended (exit code 3): no such module' });
    const unable = await Contestant.start(
      scripted("console.log(JSON.stringify({ type: 'unavailable', reason: 'no gradient of gather' }))"),
    );
    expect(unable).toEqual({ unavailable: 'no gradient of gather' });
  });

  it('knows its peak memory', () => {
    expect(peakMemoryMB()).toBeGreaterThan(20);
  });
});

describe('rows of a race', () => {
  const outcome: RaceResult = {
    results: new Map([
      ['ours', result([10, 10, 10], 600)],
      ['eager', result([20, 21, 19], 1000, [4, 3.0002])],
    ]),
    missing: new Map([['compile', 'no compiler']]),
  };

  it('give speed as how much longer the peer takes', () => {
    const row = speedRow('gpt4', 'eager', 1.25, outcome);
    expect(row).toMatchObject({ id: 'gpt4-vs-eager', value: 2, met: true, repeats: 3, peer: 'someone' });
    expect(row.spread).toBeCloseTo(0.05);
  });

  it('have no value, but a reason, where a side is missing', () => {
    const row = speedRow('gpt4', 'compile', 1.05, outcome);
    expect(row).toMatchObject({
      value: null,
      met: null,
      peer: 'torch.compile',
      note: 'torch.compile: no compiler',
    });
  });

  it('compare memory and losses', () => {
    expect(memoryRow(outcome)).toMatchObject({ value: 0.6, met: true });
    expect(lossDifference(outcome)).toBeCloseTo(2e-4);
    expect(lossDifference({ results: new Map(), missing: new Map() })).toBeNull();
  });

  it('give the share of the peak from the step time', () => {
    const slow: RaceResult = { results: new Map([['ours', result([1000])]]), missing: new Map() };
    expect(peakShareRow(slow, 559.55).value).toBeCloseTo(50, 1);
    expect(peakShareRow(slow, null)).toMatchObject({ value: null, note: 'the peak could not be measured' });
  });
});

describe('imports of compiled code', () => {
  it('are found in declarations and literal import() calls, not in strings', () => {
    const source = [
      "import './register.js';",
      'import {\n  a,\n  b as c\n} from "koffi";',
      "import * as fs from 'node:fs';",
      "export { d } from './d.js';",
      "export * from 'other';",
      "export const name = 'from';",
      "const e = await import('onnxruntime-web');",
      "const f = `g\n  import h from 'quoted';`;",
      "export class K { why() { throw new Error('imported from nowhere'); } }",
    ].join('\n');
    const { declared, dynamic } = moduleSpecifiers(source);
    expect(declared.sort()).toEqual(['./d.js', './register.js', 'koffi', 'node:fs', 'other']);
    expect(dynamic).toEqual(['onnxruntime-web']);
  });
});
