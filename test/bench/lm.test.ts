import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Contestant } from '../../bench/contestant.js';
import { type RunOptions, summarise } from '../../bench/harness.js';
import { streamCompletion } from '../../bench/lm/client.js';
import { findFile } from '../../bench/lm/data.js';
import { type DuelResult, duel } from '../../bench/lm/duel.js';
import { open } from '../../bench/lm/ours-training.js';
import { prompts } from '../../bench/lm/pretrained.js';
import { recipeRow, runRecipe } from '../../bench/lm/recipe-loss.js';
import { CLAIMS, ROW_IDS, speedRow } from '../../bench/lm/rows.js';
import { rowsOf } from '../../bench/lm/serving.js';
import { NANOGPT, writeTrainingJob } from '../../bench/lm/training-job.js';
import { lm } from '../../bench/lm.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-lm-bench-'));

/** A contestant in a few lines of JavaScript: `answer(request)` is what it replies. */
const scripted = (answer: string) => ({
  name: 'scripted',
  command: process.execPath,
  args: [
    '-e',
    `const say = (m) => console.log(JSON.stringify(m));
    say({ type: 'ready', about: 'scripted 1.0' });
    let turn = 0;
    require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
      const request = JSON.parse(line);
      if (request.op === 'stop') process.exit();
      turn++;
      ${answer}
    });`,
  ],
});

const turn = async (contestant: Contestant) => ({
  seconds: (await contestant.ask<{ type: string; seconds: number }>({ op: 'work' }, 'done')).seconds,
});

describe('the suite', () => {
  const options = (data: string | null): RunOptions => ({
    quick: true,
    // All rows that need a file; the others would start a process.
    wants: (id) => id !== 'sampling' && id !== 'first-step',
    data,
    log: () => {},
  });

  it('has the rows that are promised, with their bounds', () => {
    expect(Object.entries(CLAIMS).map(([id, { better, target }]) => [id, better, target])).toEqual([
      ['shakespeare-loss', 'lower', 1.88],
      ['shakespeare-loss-exact', 'lower', null],
      ['shakespeare-time', 'lower', 0.75],
      ['gpt6-loss-gap', 'lower', 0.01],
      ['sampling', 'higher', 2.5],
      ['smollm2-prompt', 'higher', 1.5],
      ['smollm2-decode', 'higher', 2.5],
      ['smollm2-q4-prompt', 'higher', 2],
      ['smollm2-q4-decode', 'higher', 1.2],
      ['smollm2-q4-perplexity', 'lower', 1],
      ['serve-16', 'higher', 5],
      ['serve-vs-transformers', 'higher', 2],
      ['serve-p95', 'lower', null],
      ['first-step', 'lower', 5],
    ]);
    expect(lm.ids).toEqual(ROW_IDS);
  });

  it('says of each row without its file which file that is, and where it was looked for', async () => {
    const rows = await lm.run(options(folder));
    expect(rows.map((row) => row.id)).toEqual(ROW_IDS.filter(options(null).wants));
    for (const row of rows) {
      expect([row.value, row.met]).toEqual([null, null]);
      expect(row.note).toBe(
        row.id.startsWith('s') && !row.id.startsWith('shakespeare')
          ? `SmolLM2-135M-Instruct.Q4_1.gguf is not in ${folder}`
          : `tinyshakespeare.txt is not in ${folder}`,
      );
    }
    const [first] = await lm.run({ ...options(null), wants: (id) => id === 'serve-16' });
    expect(first!.note).toBe(
      'needs SmolLM2-135M-Instruct.Q4_1.gguf: name the folder that holds it with --data DIR',
    );
  });

  it('looks for files in the folder and in its data and models', () => {
    const data = mkdtempSync(path.join(folder, 'found-'));
    mkdirSync(path.join(data, 'models'));
    writeFileSync(path.join(data, 'models', 'a.gguf'), '');
    expect(findFile(data, 'a.gguf')).toEqual({ file: path.join(data, 'models', 'a.gguf') });
    writeFileSync(path.join(data, 'a.gguf'), '');
    expect(findFile(data, 'a.gguf')).toEqual({ file: path.join(data, 'a.gguf') });
  });
});

describe('a duel', () => {
  it('lets both sides take turns after a warm-up that does not count', async () => {
    const result = await duel(
      {
        sides: [
          { side: 'ours', spec: scripted("say({ type: 'done', seconds: turn });") },
          { side: 'peer', spec: scripted("say({ type: 'done', seconds: 10 * turn });") },
        ],
        rounds: 3,
        turn,
        after: turn,
      },
      () => {},
    );
    expect(result.missing.size).toBe(0);
    expect(result.results.get('ours')!.samples.seconds!.values).toEqual([2, 3, 4]);
    expect(result.results.get('peer')!.samples.seconds!.values).toEqual([20, 30, 40]);
    expect(result.results.get('ours')!.after).toEqual({ seconds: 5 });
    const row = speedRow('sampling', result, { metric: 'seconds', peer: 'p', amount: 60, unit: 'tokens/s' });
    expect(row).toMatchObject({ value: 10, met: true, peer: 'scripted 1.0', repeats: 3, spread: 0 });
    expect(row.note).toBe('20 against 2 tokens/s');
  });

  it('goes on alone where a side is missing or dies, and says why', async () => {
    const absent = { ...scripted(''), requires: path.join(folder, 'absent') };
    const dying = scripted(
      "if (turn === 2) { console.error('out of memory'); process.exit(3); } say({ type: 'done', seconds: 1 });",
    );
    const sides = (spec: typeof absent) =>
      [
        { side: 'ours', spec: scripted("say({ type: 'done', seconds: 1 });") },
        { side: 'peer', spec },
      ] as const;
    const first = await duel({ sides: sides(absent), rounds: 2, turn }, () => {});
    expect(first.missing.get('peer')).toBe('scripted is not installed: run `npm run bench:peers`');
    expect(first.results.get('ours')!.samples.seconds!.values).toEqual([1, 1]);
    const second = await duel({ sides: sides(dying as typeof absent), rounds: 2, turn }, () => {});
    expect([...second.results.keys()]).toEqual(['ours']);
    const row = speedRow('smollm2-prompt', second, {
      metric: 'seconds',
      peer: 'PyTorch',
      amount: 1,
      unit: '',
    });
    expect(row).toMatchObject({ value: null, met: null, peer: 'PyTorch' });
    expect(row.note).toBe('PyTorch: scripted ended (exit code 3): out of memory');
  });

  it('gives the speed as how much longer the peer takes', () => {
    const side = (seconds: number[]) => ({ about: 'x', samples: { seconds: summarise(seconds) }, after: {} });
    const result: DuelResult = {
      results: new Map([
        ['ours', side([2, 2, 2])],
        ['peer', side([3, 3, 3])],
      ]),
      missing: new Map(),
    };
    const options = { metric: 'seconds', peer: 'p', amount: 512, unit: 'tokens/s' };
    expect(speedRow('smollm2-prompt', result, options)).toMatchObject({ value: 1.5, met: true });
    expect(speedRow('smollm2-decode', result, options)).toMatchObject({ value: 1.5, met: false });
  });
});

describe('rows of the server', () => {
  // Seconds a token in all streams together.
  const figures = {
    one: summarise([0.06, 0.06]),
    all: summarise([0.01, 0.01]),
    about: 'transformers 5',
    gaps: Array.from({ length: 101 }, (_, i) => i),
  };

  it('compare throughputs and give the long waits', () => {
    const [own, peer, p95] = rowsOf({ ...figures, peer: summarise([0.015, 0.015]) }, '');
    expect(own).toMatchObject({ id: 'serve-16', met: true, repeats: 2 });
    expect(own!.value).toBeCloseTo(6);
    expect(own!.note).toBe('100 against 16.7 tokens/s; prompts of 64 tokens, prompts included');
    expect(peer).toMatchObject({ id: 'serve-vs-transformers', met: false, peer: 'transformers 5' });
    expect(peer!.value).toBeCloseTo(1.5);
    expect(p95).toMatchObject({ id: 'serve-p95', value: 95, unit: 'ms', met: null, repeats: 101 });
  });

  it('do without the peer, and say why', () => {
    const [own, peer] = rowsOf({ ...figures, peer: undefined }, 'not installed');
    expect(own!.met).toBe(true);
    expect(peer).toMatchObject({ value: null, met: null, note: 'not installed' });
  });
});

describe('a training job', () => {
  const text = path.join(folder, 'text.txt');
  writeFileSync(text, 'To be, or not to be, that is the question:\n'.repeat(60));
  const setup = { ...NANOGPT, layers: 1, dim: 16, heads: 2, context: 8, batch: 4, steps: 20 };

  it('holds the weights, batches and validation windows that both sides train on', () => {
    const at = mkdtempSync(path.join(folder, 'job-'));
    const job = writeTrainingJob(at, setup, { text, threads: 2, gate: 10 });
    const ints = (name: string) => new Int32Array(new Uint8Array(readFileSync(path.join(at, name))).buffer);
    const size = 4 * 8;
    expect(ints('batches.bin').length).toBe(20 * 2 * size);
    const [x, y] = [ints('batches.bin').subarray(0, size), ints('batches.bin').subarray(size, 2 * size)];
    for (let row = 0; row < 4; row++) {
      expect([...x.subarray(row * 8 + 1, row * 8 + 8)]).toEqual([...y.subarray(row * 8, row * 8 + 7)]);
    }
    // A tenth of 2,580 characters, in whole batches of 32 targets.
    expect(ints('validation.bin').length).toBe(2 * size * Math.floor((258 - 1) / size));
    const weights = job.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(readFileSync(path.join(at, 'weights.bin')).length).toBe(4 * weights);
    expect(job.parameters.map(({ name }) => name)).toContain('layers.0.attention.q.weight');
  });

  it('is trained by our side in turns, through the loop of the library', async () => {
    const at = mkdtempSync(path.join(folder, 'run-'));
    writeTrainingJob(
      at,
      { ...setup, optimizer: { ...setup.optimizer, warmup: 2 } },
      { text, threads: 1, gate: 5 },
    );
    const { operations } = await open(at);
    type Trained = { losses: number[]; seconds: number };
    const ask = async (op: string, steps = 0) => (await operations[op]!({ op, steps })) as unknown;
    const first = (await ask('train', 5)) as Trained;
    const second = (await ask('train', 15)) as Trained;
    const { loss } = (await ask('evaluate')) as { loss: number };
    expect([first.losses.length, second.losses.length]).toEqual([5, 15]);
    expect(second.losses.at(-1)).toBeLessThan(first.losses[0]!);
    expect(first.seconds).toBeGreaterThan(0);
    expect(loss).toBeLessThan(first.losses[0]!);
    const events = readFileSync(path.join(at, 'run', 'events.jsonl'), 'utf8');
    expect(events.split('\n').filter((line) => line.includes('"train"'))).toHaveLength(20);
  });
});

describe('the recipe whose loss is promised', () => {
  const text = path.join(folder, 'recipe.txt');
  writeFileSync(text, 'To be, or not to be, that is the question:\n'.repeat(60));
  const small = ['steps=3', 'batch=2', 'model.layers=1', 'model.dim=16', 'model.heads=2', 'model.context=16'];

  it('is run by the command line, with its own settings but for what is given', async () => {
    const run = await runRecipe(text, small);
    expect(run).toMatchObject({ status: 'finished', step: 3 });
    expect(run.config).toMatchObject({ model: { positions: 'rope', mlp: 'gelu' }, optimizer: { lr: 2e-3 } });
    // 18 characters: an untrained model of them is near log 18 = 2.89.
    expect(run.summary.loss).toBeGreaterThan(1);
    expect(run.summary.loss).toBeLessThan(3);
    const again = await runRecipe(text, small);
    expect(again.summary.loss).toBe(run.summary.loss);
    const row = recipeRow(run);
    expect(row).toMatchObject({ id: 'shakespeare-loss', value: run.summary.loss, target: 1.88, repeats: 1 });
    expect(row.met).toBe(run.summary.loss <= 1.88);
    expect(row.note).toContain('after step 3, over the whole validation text');
    expect(row.note).toContain('positions rope instead of learned, peak rate 0.002 instead of 0.001');
  });

  it('passes on why it failed', async () => {
    await expect(runRecipe(path.join(folder, 'absent.txt'))).rejects.toThrow('absent.txt');
    await expect(runRecipe(text, ['steps=0'])).rejects.toThrow('steps');
  });
});

describe('prompts', () => {
  it('are ordinary tokens, other ones for each row and seed', () => {
    const all = [prompts(2, 64, 0), prompts(2, 64, 1)].flat();
    expect(new Set(all.map((row) => row.join())).size).toBe(4);
    expect(Math.min(...all.flat())).toBeGreaterThanOrEqual(100);
    expect(Math.max(...all.flat())).toBeLessThan(49152);
    expect(prompts(2, 64, 1)).toEqual(prompts(2, 64, 1));
  });
});

describe('the client of the server', () => {
  const pieces = (count: number) => [
    ...Array.from({ length: count }, (_, i) => ({ choices: [{ text: `${i}` }] })),
    { choices: [{ text: '', finish_reason: 'length' }] },
    { choices: [], usage: { completion_tokens: count } },
  ];
  let seen: Record<string, unknown> = {};
  const server = http.createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    seen = JSON.parse(body);
    if (seen.model === 'absent') return void response.writeHead(404).end('no such model');
    for (const piece of pieces(Number(seen.model))) {
      const event = `data: ${JSON.stringify(piece)}\n\n`;
      // An event may arrive in two parts.
      response.write(event.slice(0, 7));
      await new Promise((resolve) => setTimeout(resolve, 5));
      response.write(event.slice(7));
    }
    response.end('data: [DONE]\n\n');
  });
  const listening = new Promise<string>((resolve) =>
    server.listen(0, '127.0.0.1', () =>
      resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    ),
  );
  afterAll(() => void server.close());

  it('counts tokens and times what is between them', async () => {
    const { tokens, gaps } = await streamCompletion({ url: await listening, model: '6' }, [5, 6], 6, [2]);
    expect([tokens, gaps.length]).toEqual([6, 5]);
    // A late timer shortens the gap behind it: what is sure is the sum, of which the first token may miss a part.
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0);
    expect(gaps.reduce((sum, gap) => sum + gap, 0)).toBeGreaterThan(8);
    expect(seen).toMatchObject({ prompt: [5, 6], max_tokens: 6, stream: true, logit_bias: { 2: -100 } });
  });

  it('refuses a stream that ended early, and passes on what the server says', async () => {
    const url = await listening;
    await expect(streamCompletion({ url, model: '3' }, [5], 6, [])).rejects.toThrow(
      'a stream has 3 tokens instead of 6',
    );
    await expect(streamCompletion({ url, model: 'absent' }, [5], 6, [])).rejects.toThrow(
      'the server answered 404: no such model',
    );
  });
});
