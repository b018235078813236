import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../../src/core/random.js';
import type { RunEvent } from '../../src/train/index.js';
import {
  anneal,
  type Ended,
  ended,
  inProcess,
  printed,
  program,
  scratch,
  start,
} from '../support/command.js';

const words = 'the whale sea ship captain said and of a to in that his it was'.split(' ');
const settings = [
  'data=text.txt',
  'batch=4',
  'microBatches=1',
  'model.layers=1',
  'model.dim=32',
  'model.context=32',
  'optimizer.lr=0.01',
  'evaluate.every=50',
  'sample.every=100',
  'sample.tokens=16',
  'save.every=20',
  'schedule.warmup=10',
];
const command = (...more: string[]) => ['run', 'lm', ...settings, 'steps=150', ...more];

let cwd: string;
let finished: Ended;
const at = (...parts: string[]) => path.join(cwd, ...parts);

const eventsOf = (directory: string): RunEvent[] =>
  readFileSync(at(directory, 'events.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as RunEvent);
/** Loss and gradient norm of each update; of one that was done twice, the last. */
const lossesOf = (directory: string) =>
  new Map(
    eventsOf(directory).flatMap((e) => (e.kind === 'train' ? [[e.step, [e.loss, e.gradNorm]] as const] : [])),
  );

beforeAll(async () => {
  cwd = scratch();
  const draws = new Rng(3).integers(2500, 0, words.length);
  writeFileSync(at('text.txt'), [...draws].map((i) => words[i]).join(' '));
  finished = await anneal(command('--dir', 'whole'), cwd);
});

describe('anneal run lm', () => {
  it('trains, and leaves a run directory', () => {
    expect(finished.err).toBe('');
    expect(finished.code).toBe(0);
    expect(JSON.parse(readFileSync(at('whole', 'config.json'), 'utf8'))).toMatchObject({
      recipe: 'lm',
      config: { data: 'text.txt', steps: 150, model: { layers: 1, tied: true } },
    });
    expect(JSON.parse(readFileSync(at('whole', 'derived.json'), 'utf8'))[0]).toEqual({
      name: 'parameters',
      // 4·32² of attention, 3·32·96 of the MLP, three gains, and the table.
      value: 4 * 32 ** 2 + 3 * 32 * 96 + 3 * 32 + new Set(words.join('')).size * 32 + 32,
      unit: '',
    });
    const kinds = eventsOf('whole').map((event) => event.kind);
    const count = (kind: string) => kinds.filter((one) => one === kind).length;
    expect([count('train'), count('evaluate'), count('sample'), count('end')]).toEqual([150, 4, 2, 1]);
    expect(readFileSync(at('whole', 'report.md'), 'utf8')).toContain('figures/loss.svg');
    expect(readFileSync(at('whole', 'figures', 'loss.svg'), 'utf8')).toMatch(/^<svg/);
  });

  it('learns the words', () => {
    // A new model knows nothing of its characters but, with a tied head, leans a little towards repeating the last:
    // its logit is dim · std = 0.64 above the others'. Of a text of random words, ln 16 nats a word remain.
    const evaluations = eventsOf('whole').filter((event) => event.kind === 'evaluate');
    const losses = evaluations.map((event) => event.metrics.perCharacter!);
    const uniform = Math.log(new Set(words.join(' ')).size);
    expect(losses[0]).toBeGreaterThan(uniform);
    expect(losses[0]).toBeLessThan(uniform + 0.1);
    expect(losses.at(-1)).toBeLessThan(1.3);
    expect(losses.at(-1)).toBeGreaterThan(Math.log(words.length) / 6);
  });

  it('draws the curve and says where the report is', () => {
    expect(finished.out).toMatch(/training loss, nats per token\n *[\d.]+ ┤[\u2800-\u28ff]/);
    expect(finished.out).toMatch(/loss [\d.]+ · .* · report whole\/report\.md\n$/);
  });

  it('has nothing left to do the second time', async () => {
    const before = eventsOf('whole').length;
    const { code, out } = await anneal(command('--dir', 'whole'), cwd);
    expect(code).toBe(0);
    expect(out).toContain('This run was finished before; --restart begins it anew.');
    expect(
      eventsOf('whole')
        .slice(before)
        .map((event) => event.kind),
    ).toEqual(['resume', 'end']);
  });

  it('stops at Ctrl-C and goes on with the same command, bit for bit', async () => {
    const child = start(command('--dir', 'cut'), cwd);
    await printed(child, /step \d+\/150/);
    child.kill('SIGINT');
    await ended(child);
    const { code, out, err } = child.output();
    expect([code, err]).toEqual([130, '']);
    const step = Number(
      /stopped after step (\d+) of 150; run the same command again to go on/.exec(out)?.[1],
    );
    expect(step).toBeGreaterThan(0);
    expect(step).toBeLessThan(150);
    expect(readdirSync(at('cut', 'checkpoints'))).toContain(`step-${step}`);

    const resumed = await anneal(command('--dir', 'cut'), cwd);
    expect([resumed.code, resumed.err]).toEqual([0, '']);
    expect(eventsOf('cut').filter((event) => event.kind === 'train').length).toBe(150);
    expect(lossesOf('cut')).toEqual(lossesOf('whole'));
    const weights = (run: string) => readFileSync(at(run, 'checkpoints', 'step-150', 'model.safetensors'));
    expect(weights('cut').equals(weights('whole'))).toBe(true);
  });

  it('is refused in a directory that another process is writing', async () => {
    const endless = ['run', 'lm', ...settings, 'steps=100000', '--dir', 'busy'];
    const child = start(endless, cwd);
    await printed(child, /evaluation/);
    const second = await anneal(endless, cwd);
    const restarted = await anneal([...endless, '--restart'], cwd);
    child.kill('SIGINT');
    await ended(child);
    for (const { code, err } of [second, restarted]) {
      expect(err).toBe(
        `busy is being written by process ${child.pid}; wait for it, stop it, or choose another directory\n`,
      );
      expect(code).toBe(2);
    }
    expect(child.output().code).toBe(130);
  });

  it('is refused in the directory of a run with other settings', async () => {
    const { code, err } = await anneal(command('--dir', 'whole', 'model.dim=64', 'seed=2'), cwd);
    expect(err).toBe(
      'whole holds a run with seed=0, not 2 (and 1 more); choose another with --dir, or begin anew with --restart\n',
    );
    expect(code).toBe(2);
    expect(lossesOf('whole').size).toBe(150);
  });

  it('finishes when nobody reads its output any more', async () => {
    const args = ['run', 'lm', ...settings, 'steps=20', '--dir', 'piped'];
    const line = `set -o pipefail; '${process.execPath}' '${program}' ${args.join(' ')} | head -n 1`;
    const { stdout, stderr } = await promisify(execFile)('bash', ['-c', line], { cwd });
    expect(stdout).toBe('lm: train a language model on text files\n');
    expect(stderr).toBe('');
    expect(eventsOf('piped').at(-1)).toMatchObject({ kind: 'end', reason: 'finished', step: 20 });
  });

  it('prints one JSON value with --json, and begins anew with --restart', async () => {
    const args = ['run', 'lm', ...settings, 'steps=20', 'seed=5', '--dir', 'piped', '--restart', '--json'];
    const { code, out, err } = await anneal(args, cwd);
    expect([code, err]).toEqual([0, '']);
    expect(JSON.parse(out)).toMatchObject({
      recipe: 'lm',
      directory: 'piped',
      config: { seed: 5 },
      status: 'finished',
      step: 20,
      summary: { report: 'piped/report.md' },
    });
    expect(eventsOf('piped').filter((event) => event.kind === 'start').length).toBe(1);
  });
});

describe('anneal runs', () => {
  it('lists them', async () => {
    const { out } = await inProcess(['runs', 'list', '.'], cwd);
    expect(out).toMatch(/^run +recipe +status +step +loss +evaluation +time\n/);
    expect(out).toMatch(/^whole +lm +finished +150\/150 +[\d.]+ +loss [\d.]+ perCharacter [\d.]+ +/m);
    const list = JSON.parse((await inProcess(['runs', 'list', '.', '--json'], cwd)).out) as {
      name: string;
    }[];
    expect(list.map((run) => run.name)).toEqual(expect.arrayContaining(['busy', 'cut', 'piped', 'whole']));
  });

  it('says so where there are none', async () => {
    expect((await inProcess(['runs', 'list'], cwd)).out).toContain('no runs here yet');
    expect((await inProcess(['runs', 'list', '--json'], cwd)).out).toBe('[]\n');
  });

  it('shows one, with its curve', async () => {
    const { out } = await inProcess(['runs', 'show', 'whole'], cwd);
    expect(out).toMatch(/^whole: lm, finished, step 150\/150, /);
    expect(out).toMatch(/┤[\u2800-\u28ff]/);
    const json = JSON.parse((await inProcess(['runs', 'show', 'whole', '--json'], cwd)).out);
    expect(json.curves.train.values).toEqual([...lossesOf('whole').values()].map(([loss]) => loss));
    expect(json.curves['evaluate.loss'].steps).toEqual([0, 50, 100, 150]);
  });

  it('compares them by what differs', async () => {
    const { out } = await inProcess(['runs', 'compare', 'whole', 'piped'], cwd);
    const rows = out
      .trimEnd()
      .split('\n')
      .map((line) => line.trim().split(/ {2,}/));
    expect(rows[0]).toEqual(['whole', 'piped']);
    expect(rows.slice(1, 3)).toEqual([
      ['steps', '150', '20'],
      ['seed', '0', '5'],
    ]);
    const json = JSON.parse((await inProcess(['runs', 'compare', 'whole', 'piped', '--json'], cwd)).out);
    expect(json.settings.map((one: { setting: string }) => one.setting)).toEqual(['steps', 'seed']);
  });
});

describe('the model of a run', () => {
  const sample = (...more: string[]) =>
    inProcess(['sample', 'whole', ...more, '--tokens', '20', '--seed', '4'], cwd);

  it('continues a text, the same for the same seed', async () => {
    const { code, out } = await sample('the sea ');
    expect(code).toBe(0);
    expect(out).toMatch(/^the sea [a-z ]{1,20}\n$/);
    expect((await sample('the sea ')).out).toBe(out);
    expect(
      (await inProcess(['sample', 'whole', 'the sea ', '--tokens', '20', '--seed', '5'], cwd)).out,
    ).not.toBe(out);
  });

  it('continues several texts several times, as JSON', async () => {
    const { out } = await sample('a ship', 'the', '-n', '2', '--json', '--stop', 'e');
    const lines = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map((line) => [line.prompt, line.seed])).toEqual([
      ['a ship', 4],
      ['a ship', 5],
      ['the', 4],
      ['the', 5],
    ]);
    for (const line of lines) {
      expect(line.text).not.toContain('e');
      expect(line.logprobs.length).toBe(line.tokens.length);
    }
  });

  it('reads its prompt from standard input', async () => {
    const args = ['sample', 'whole', '--tokens', '4', '--seed', '4'];
    const { code, out } = await anneal(args, cwd, 'captain ');
    expect(code).toBe(0);
    expect(out).toMatch(/^captain [a-z ]{4}\n$/);
  });

  it('is described, and its tokens are', async () => {
    expect(JSON.parse((await inProcess(['info', 'whole', '--json'], cwd)).out)).toMatchObject({
      config: { dim: 32, layers: 1, context: 32 },
      chatTemplate: null,
    });
    const { out } = await inProcess(['tokenize', 'whole', 'a sea', '--json'], cwd);
    expect(JSON.parse(out)).toMatchObject({ text: 'a sea', pieces: ['a', ' ', 's', 'e', 'a'] });
  });

  it('is measured', async () => {
    writeFileSync(at('held.txt'), 'the whale said that it was in the ship and of the sea');
    const args = ['eval', 'whole', 'perplexity', 'file=held.txt', '--records', 'records.jsonl', '--json'];
    const { code, out } = await inProcess(args, cwd);
    expect(code).toBe(0);
    const [task] = JSON.parse(out).tasks;
    expect(task.metrics.tokens.value).toBe(52);
    expect(task.metrics.nats.value).toBeLessThan(1.6);
    expect(JSON.parse(readFileSync(at('records.jsonl'), 'utf8')).nats).toBeCloseTo(
      task.metrics.nats.value,
      10,
    );
  });

  it('is exported to a directory that continues texts alike', async () => {
    const { code, out } = await inProcess(['export', 'whole', 'out', '--to', 'safetensors', '--json'], cwd);
    expect(code).toBe(0);
    expect(JSON.parse(out).files).toEqual(readdirSync(at('out')).sort());
    const again = await inProcess(['sample', 'out', 'the sea ', '--tokens', '20', '--seed', '4'], cwd);
    expect(again.out).toBe((await sample('the sea ')).out);
  });

  it('is exported as ONNX', async () => {
    const { code } = await inProcess(['export', 'whole', 'onnx', '--to', 'onnx'], cwd);
    expect(code).toBe(0);
    expect(existsSync(at('onnx', 'onnx', 'model.onnx'))).toBe(true);
    expect(existsSync(at('onnx', 'tokenizer.json'))).toBe(true);
  });

  it('has no chat template to talk by', async () => {
    const { code, err } = await inProcess(['chat', 'whole'], cwd);
    expect([code, err]).toEqual([2, 'whole has no chat template; `anneal sample whole` continues a text\n']);
  });

  it('is served until Ctrl-C', async () => {
    const child = start(['serve', 'whole', '--port', '0', '--key', 'secret', '--name', 'whale'], cwd);
    await printed(child, /serving whale at http\S+\/v1 /);
    const url = /at (http\S+)\/v1/.exec(child.output().out)![1]!;
    const body = JSON.stringify({ model: 'whale', prompt: 'the ', max_tokens: 5, seed: 1 });
    const post = (headers: Record<string, string>) =>
      fetch(`${url}/v1/completions`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', ...headers },
      });
    const refused = await post({});
    const answered = await post({ authorization: 'Bearer secret' });
    const answer = (await answered.json()) as { choices: { text: string }[] };
    child.kill('SIGINT');
    await ended(child);
    expect([refused.status, answered.status]).toEqual([401, 200]);
    expect(answer.choices[0]!.text).toHaveLength(5);
    expect(child.output().code).toBe(130);
  });
});
