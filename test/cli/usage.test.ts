import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { application } from '../../src/cli/application.js';
import { AnnealError } from '../../src/core/errors.js';
import { anneal, inProcess, scratch } from '../support/command.js';

let cwd: string;
beforeAll(() => {
  cwd = scratch();
  writeFileSync(path.join(cwd, 'text.txt'), 'to be or not to be, that is the question. '.repeat(40));
  writeFileSync(path.join(cwd, 'no.json'), '{"steps": 1');
  writeFileSync(path.join(cwd, 'list.json'), '[1]');
  writeFileSync(path.join(cwd, 'settings.json'), '{"steps": 7, "model": {"layers": 2}}');
});

describe('help', () => {
  const commands = [
    'run',
    'recipes',
    'runs',
    'sample',
    'chat',
    'eval',
    'verify',
    'serve',
    'export',
    'info',
    'tokenize',
  ];

  it('of the program lists every command', async () => {
    const { code, out, err } = await anneal(['--help'], cwd);
    expect([code, err]).toEqual([0, '']);
    const listed = out.split('COMMANDS\n')[1]!.matchAll(/^ {2}(\w+)/gm);
    expect([...listed].map((match) => match[1])).toEqual(commands);
  });

  it.each([...commands, 'runs list', 'runs show', 'runs compare', 'verify bench'])('of %s', async (route) => {
    const { code, out, err } = await inProcess([...route.split(' '), '--help'], cwd);
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(new RegExp(`^USAGE\\n {2}anneal ${route}\\b`));
    expect(out).not.toContain('undefined');
  });

  it('is what the program prints without arguments', async () => {
    expect(await anneal([], cwd)).toEqual(await anneal(['--help'], cwd));
  });

  it('has the version beside it', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await anneal(['--version'], cwd)).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });
});

describe('a mistake of the user', () => {
  it.each<[string[], string]>([
    [['frobnicate'], 'there is no command "frobnicate"; `anneal --help` lists the commands'],
    [['rnu', 'lm'], 'there is no command "rnu"; did you mean run?'],
    [['run'], 'RECIPE is missing; --help shows the usage'],
    [['run', 'lmm'], 'there is no recipe "lmm"; did you mean lm?'],
    [
      ['run', 'lm'],
      'lm needs data=…: text, .jsonl or .parquet files, globs among them, or datasets: hf://datasets/owner/name (text or a JSON list of text)',
    ],
    [['run', 'lm', 'data=none.txt'], 'there is no file none.txt; check the path'],
    [['run', 'lm', 'data=*.csv'], 'no file matches *.csv; check the pattern'],
    [['run', 'lm', 'data=text.txt', 'layers=2'], 'lm has no setting "layers"; did you mean model.layers?'],
    [['run', 'lm', 'data=text.txt', 'steps=many'], 'steps must be a whole number ≥ 1, not "many"'],
    [
      ['run', 'lm', 'data=text.txt', 'tokenizer.kind=bpe', 'tokenizer.vocabulary=9'],
      'tokenizer.vocabulary must be a whole number ≥ 257, not "9"',
    ],
    [
      ['run', 'lm', 'data=text.txt', 'model.heads=3'],
      'model config: dim 128 does not divide into 3 heads; change one of them, or give headDim',
    ],
    [
      ['run', 'lm', 'data=text.txt', 'model.context=300'],
      'the validation text has 168 tokens, less than one window of model.context + 1 = 301; give more text, or a smaller context',
    ],
    [
      ['run', 'lm', '--config', 'gone.json'],
      'cannot read --config gone.json: it does not exist; check the path',
    ],
    [
      ['run', 'lm', '--config', 'no.json'],
      "--config no.json is no JSON: Expected ',' or '}' after property value in JSON at position 11",
    ],
    [['run', 'lm', '--config', 'list.json'], 'the config file must hold a JSON object, not [1]'],
    [
      ['run', 'lm', 'data=text.txt', 'model.context=16', '--dir', '.'],
      '. is no run directory and holds list.json; choose another with --dir',
    ],
    [
      ['run', 'lm', 'data=text.txt', 'model.context=16', '--dir', '.', '--restart'],
      '. is no run directory (it has no config.json); it is not deleted',
    ],
    [['run', 'lm', '--steps', '3'], 'there is no flag --steps; --help lists the flags'],
    [['run', 'lm', '--jsn'], 'there is no flag --jsn; did you mean --json?'],
    [['run', 'lm', '-x'], 'there is no flag -x; --help lists the flags'],
    [['recipes', 'nothing'], 'there is no recipe "nothing"; there are '],
    [['sample'], 'MODEL is missing; --help shows the usage'],
    [['sample', 'gone', 'x'], 'cannot read gone: it does not exist; check the path'],
    [['sample', 'text.txt', 'x'], 'text.txt is neither a model directory nor a .gguf file'],
    [['sample', 'm', '--tokens', '0'], '--tokens must be a whole number ≥ 1, not "0"'],
    [['sample', 'm', '--top-p', '2'], '--top-p must be a number from 0 to 1, not "2"'],
    [['sample', 'm', '--temperature', 'hot'], '--temperature must be a number from 0 to 100, not "hot"'],
    [['sample', 'm', '--seed'], '--seed needs a value'],
    [['sample', 'm', '--seed', '1', '--seed', '2'], '--seed is given twice, "1" and "2"'],
    [['chat', 'a', 'b'], '"b" is one argument too many; --help shows the usage'],
    [['eval', 'm'], 'MODEL is missing (2 are needed); --help shows the usage'],
    [['eval', 'm', 'gsm9k'], 'there is no task "gsm9k"; did you mean gsm8k?'],
    [
      ['eval', 'm', 'file=x'],
      '"file=x" belongs to no task; begin with one of gsm8k, jsonl, choice, perplexity',
    ],
    [['runs', 'list', 'gone'], 'gone is no folder that can be read; pass the folder that holds the runs'],
    [['runs', 'show', 'gone'], 'gone is not there; `anneal runs list` shows the runs'],
    [['runs', 'compare', '.'], 'comparing needs two runs, and . has 0'],
  ])('%j is answered in one sentence, with exit code 2', async (args, message) => {
    const { code, out, err } = await inProcess(args, cwd);
    expect(out).toBe('');
    expect(err.slice(0, message.length)).toBe(message);
    expect(err.trimEnd()).not.toContain('\n');
    expect(code).toBe(2);
  });

  it('is also a run directory that cannot be made', async () => {
    const { code, err } = await inProcess(
      ['run', 'lm', 'data=text.txt', 'model.context=16', '--dir', 'text.txt/run'],
      cwd,
    );
    expect([code, err]).toEqual([
      2,
      "cannot make text.txt/run: ENOTDIR: not a directory, mkdir 'text.txt/run'\n",
    ]);
  });

  it('leaves nothing behind', () => {
    expect(readdirSync(cwd).sort()).toEqual(['list.json', 'no.json', 'settings.json', 'text.txt']);
  });

  it('ends the process with 2, its sentence on standard error', async () => {
    const { code, out, err } = await anneal(['run', 'lm', 'data=none.txt'], cwd);
    expect([code, out, err]).toEqual([2, '', 'there is no file none.txt; check the path\n']);
  });

  it('is told from a defect by its class', () => {
    const codeOf = application.config.determineExitCode!;
    expect([codeOf(new AnnealError('x')), codeOf(new TypeError('x')), codeOf('x')]).toEqual([2, 1, 1]);
  });
});

describe('recipes', () => {
  it('are listed', async () => {
    const { out } = await inProcess(['recipes'], cwd);
    expect(out).toMatch(/^moby-dick +train a small language model on Moby Dick/);
    const list = JSON.parse((await inProcess(['recipes', '--json'], cwd)).out) as {
      name: string;
      summary: string;
    }[];
    expect(list.map((one) => one.name)).toEqual(expect.arrayContaining(['moby-dick', 'lm', 'shakespeare']));
    for (const { name, summary } of list) {
      // The list repeats the summary so that it need not load the recipe.
      const own = JSON.parse((await inProcess(['recipes', name, '--json'], cwd)).out) as { summary: string };
      expect(own.summary).toBe(summary);
    }
  });

  it('show their settings, with their own defaults', async () => {
    const { out } = await inProcess(['recipes', 'shakespeare'], cwd);
    expect(out).toMatch(/^ {2}model\.norm +"layer" +kind of normalisation \(one of rms, layer\)$/m);
    expect(out).toMatch(/^ {2}data +must be given +input\.txt of tiny Shakespeare \(text\)$/m);
  });
});

describe('run --dry-run', () => {
  it('prints the resolved config and what follows from it', async () => {
    const { code, out } = await anneal(
      ['run', 'lm', 'data=text.txt', 'model.context=16', 'steps=9', '--config', 'settings.json', '--dry-run'],
      cwd,
    );
    expect(code).toBe(0);
    expect(out).toContain('steps=9');
    expect(out).toMatch(/model +layers=2 dim=128 context=16/);
    // 15 characters; 2 layers of 4·128² + 3·128·352 weights and 2 gains, one more gain, and the table.
    expect(out).toContain(
      `parameters ${(2 * (4 * 128 ** 2 + 3 * 128 * 352 + 256) + 128 + 15 * 128).toLocaleString('en')}`,
    );
    expect(out).toContain('tokens per step 256');
  });

  it('prints the same as JSON', async () => {
    const args = ['run', 'lm', 'data=text.txt', 'model.context=16', '--dry-run', '--json'];
    const { out, err } = await anneal(args, cwd);
    const plan = JSON.parse(out);
    expect(err).toBe('');
    expect(out.trimEnd()).not.toContain('\n');
    expect(plan).toMatchObject({
      recipe: 'lm',
      status: 'planned',
      config: { data: 'text.txt', steps: 1000 },
    });
    expect(plan.derived).toMatchObject({ tokensPerStep: 256, trainingTokens: 1512 });
    expect(plan.directory).toMatch(/^runs\/lm-[0-9a-f]{6}$/);
  });
});
