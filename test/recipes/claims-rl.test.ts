import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Rng } from '../../src/index.js';
import { planOf, rlClaim } from '../../src/recipes/claims/rl.js';
import type { Measure, RlCell, RlExperiment } from '../../src/recipes/claims/rl-cells.js';
import { first, last, late } from '../../src/recipes/claims/rl-cells.js';
import { balancedSolutions } from '../../src/recipes/claims/rl-evaluate.js';
import { rlExperiments } from '../../src/recipes/claims/rl-experiments.js';
import { follow, type Point } from '../../src/recipes/claims/rl-follow.js';
import { programOutput } from '../../src/recipes/claims/rl-programs.js';
import { rlSettings } from '../../src/recipes/claims/rl-settings.js';
import { contrastText, experimentTable, meanText } from '../../src/recipes/claims/rl-tables.js';
import { habitRamble, habitTask, habitWords, lengthOf } from '../../src/recipes/claims/rl-task.js';
import { launch } from '../../src/recipes/launch.js';
import { interleave, type Phase } from '../../src/rl/index.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-claims-rl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const words = ['apple', 'bread', 'chair', 'drive', 'tool', 'stone'];

describe('habitTask', () => {
  const task = habitTask(words, [1, 3], 4);

  it('says a first letter where it is wrong, and pads questions', () => {
    const problem = { words: ['apple', 'bread'] };
    expect(task.question(problem)).toBe('apple bread ..... .....');
    expect(task.solution(problem)).toEqual({ steps: ['#1 e', '#2 d'], answer: 'ed' });
    const wrong = task.noisySolution(problem, 0, new Rng(0));
    expect(wrong).toEqual({ steps: ['#1 a', '#2 b'], answer: 'ab' });
    expect(task.isConsistent(problem, wrong)).toBe(true);
    expect(task.stepLabels(problem, wrong.steps)).toEqual([false, false]);
    // What a step says, and what it should say.
    expect(task.restate(problem, wrong.steps)).toEqual(['1ae', '2bd']);
    expect(wrong.steps.map(task.stated)).toEqual(['1aa', '2bb']);
  });

  it('gives solutions of which every second one is right', () => {
    const solutions = balancedSolutions(task, 12);
    expect(solutions.map(({ isCorrect }) => isCorrect)).toEqual(solutions.map((_, i) => i % 2 === 0));
  });

  it('rambles: every step up to three times, and an answer that follows all the same', () => {
    const times = Array.from({ length: 60 }, (_, i) => {
      const { prompt, completion } = habitRamble(task, i, { seed: 2, accuracy: 0.5 });
      const count = prompt.replaceAll(/[.\n]/g, '').trim().split(/ +/).length;
      const letters = [...completion.matchAll(/<step>#\d (.)<\/step>/g)].map(([, letter]) => letter!);
      const repeats = letters.length / count;
      const said = Array.from({ length: count }, (_, k) => letters[k * repeats]!);
      expect(letters).toEqual(said.flatMap((letter) => Array<string>(repeats).fill(letter)));
      expect(completion).toContain(`\\boxed{${said.join('')}}`);
      return repeats;
    });
    expect(new Set(times)).toEqual(new Set([1, 2, 3]));
    expect([lengthOf(1), lengthOf(3), lengthOf(3, 3)]).toEqual([13, 27, 63]);
  });

  it('draws words whose first and last letters differ and are of a few', () => {
    const drawn = habitWords(500);
    expect(new Set(drawn.map((word) => word[0]))).toEqual(new Set('acelst'));
    expect(new Set(drawn.map((word) => word[4]))).toEqual(new Set('acelst'));
    expect(drawn.every((word) => /^[a-z]{5}$/.test(word) && word[0] !== word[4])).toBe(true);
  });
});

describe('programOutput', () => {
  const task = programOutput({ count: [2, 3], modulus: 3 });
  // 2 + 1 = 0, then 0 · 2 = 0, modulo 3.
  const problem = {
    start: 2,
    operations: [
      { operator: '+', operand: 1 },
      { operator: '*', operand: 2 },
    ],
    modulus: 3,
  } as const;

  it('writes chains as programs, with the stack after each operation', () => {
    expect(task.question(problem)).toBe('2>1+2*');
    expect(task.solution(problem)).toEqual({ steps: ['1+:0', '2*:0'], answer: '0' });
    expect([task.isCorrect(problem, '0'), task.isCorrect(problem, '2')]).toEqual([true, false]);
    expect(task.stated('1+:0')).toBe('0');
    expect(task.restate(problem, ['1+:2', '2*:1'])).toEqual(['0', '0']);
    expect(task.isConsistent(problem, { steps: ['1+:2', '2*:1'], answer: '1' })).toBe(true);
    expect(task.isConsistent(problem, { steps: ['1+:2', '2*:1'], answer: '2' })).toBe(false);
  });

  it('labels steps, and takes none that is written as a chain', () => {
    expect(task.stepLabels(problem, ['1+:0', '2*:1'])).toEqual([true, false]);
    expect(task.stepLabels(problem, ['+1=0', '*2=0'])).toEqual([false, false]);
    expect(task.isConsistent(problem, { steps: ['+1=0', '*2=0'], answer: '0' })).toBe(false);
    const wrong = task.noisySolution(problem, 0, new Rng(1));
    expect(task.stepLabels(problem, wrong.steps)[0]).toBe(false);
    expect(task.isConsistent(problem, wrong)).toBe(true);
  });
});

describe('follow', () => {
  const run = (cycle: [string, number][], warmUp?: { phase: string; steps: number }) => {
    const seen: string[] = [];
    const phase =
      (name: string): Phase =>
      async (context) => {
        seen.push(`${name}${context.phaseStep}:${context.step}:${context.seed('a') % 1000}`);
        return { metrics: { tokens: 10, entropy: context.phaseStep } };
      };
    const points = follow({
      phases: { a: phase('a'), b: phase('b') },
      schedule: interleave({ cycle, ...(warmUp && { warmUp }) }),
      ...{ seed: 3, counted: 'a', steps: 5, every: 2, watch: ['entropy'] },
      evaluate: async () => ({ accuracy: seen.length }),
      signal: new AbortController().signal,
    });
    return { points, seen };
  };

  it('measures at the start, after the warm-up, and along the counted phase', async () => {
    const { points } = run(
      [
        ['a', 2],
        ['b', 1],
      ],
      { phase: 'b', steps: 3 },
    );
    const rows = (await points)!.map((p) => [p['steps.a'], p['steps.b'], p.allSteps, p.tokens, p.entropy]);
    expect(rows).toEqual([
      [0, 0, 0, 0, undefined],
      [0, 3, 3, 30, undefined],
      [2, 3, 5, 50, 0.5],
      [4, 4, 8, 80, 2.5],
      [5, 5, 10, 100, 4],
    ]);
  });

  it('gives the n-th step of a phase the same problems and seeds whatever lies between', async () => {
    const plain = run([['a', 1]]);
    await plain.points;
    const mixed = run(
      [
        ['b', 2],
        ['a', 1],
      ],
      { phase: 'b', steps: 1 },
    );
    await mixed.points;
    expect(mixed.seen.filter((text) => text.startsWith('a'))).toEqual(plain.seen);
    expect(new Set(mixed.seen).size).toBe(mixed.seen.length);
  });

  it('ends where the tokens are spent, and when it is told to', async () => {
    const controller = new AbortController();
    const options = {
      phases: { a: async () => ({ metrics: { tokens: 10 } }) },
      schedule: () => 'a',
      ...{ seed: 0, counted: 'a', steps: 100, every: 50 },
      evaluate: async () => ({}),
      signal: controller.signal,
    };
    const points = await follow({ ...options, isOver: ({ tokens }) => tokens >= 30 });
    expect(points!.map(({ tokens }) => tokens)).toEqual([0, 30]);
    controller.abort();
    expect(await follow(options)).toBe(undefined);
  });
});

describe('tables', () => {
  it('have means with intervals, differences and geometric ratios', () => {
    // Deviation 0.1: half width 4.3027 · 0.1 / √3 = 0.24842.
    expect(meanText([0.1, 0.2, 0.3], 'percent')).toBe('20.0 [−4.8, 44.8]');
    expect(meanText([], 'percent')).toBe('–');
    expect(meanText([0.5], 'number')).toBe('0.500');
    const difference = { as: 'percent', by: 'difference' } as const;
    // Differences 0.1, 0.2, 0.3 once more.
    expect(
      contrastText(
        [
          [0.2, 0.1],
          [0.5, 0.3],
          [0.7, 0.4],
        ],
        difference,
        3,
      ),
    ).toBe('+20.0 [−4.8, 44.8]');
    const ratio = { as: 'number', by: 'ratio' } as const;
    // Logarithms of 1/2 and 1/8: mean ln(1/4), half width 12.7062 · (ln 4 / √2) / √2 = 8.80724.
    expect(
      contrastText(
        [
          [1, 2],
          [1, 8],
        ],
        ratio,
        2,
      ),
    ).toBe(
      `0.25x [${(0.25 * Math.exp(-12.7062 * Math.log(2))).toFixed(2)}x, ${(0.25 * Math.exp(12.7062 * Math.log(2))).toFixed(2)}x]`,
    );
    expect(contrastText([[1, 2]], ratio, 3)).toBe('0.50x (1 of 3 seeds)');
    expect(contrastText([], ratio, 3)).toBe('–');
  });

  const cell = (arm: string, seed: number, accuracies: readonly number[]): RlCell => ({
    ...{ arm, seed, seconds: 1 },
    points: accuracies.map(
      (accuracy, i): Point => ({ accuracy, 'steps.generator': 10 * i, tokens: 100 * i }),
    ),
  });

  it('say how much sooner an arm is where the baseline ends', () => {
    const { tango } = rlExperiments;
    const cells = [
      cell('GRPO, words', 0, [0, 0.1, 0.2]),
      cell('GRPO, words', 1, [0, 0, 0.4]),
      // Reaches 0.2 after 5 steps, and 0.4 never.
      cell('Tango, words', 0, [0, 0.4, 0.6]),
      cell('Tango, words', 1, [0, 0.1, 0.3]),
    ];
    const table = experimentTable(tango, cells);
    const row = table.split('\n').find((line) => line.includes("generator steps to GRPO's final"))!;
    expect(row.split('|').map((text) => text.trim())).toEqual([
      '',
      "generator steps to GRPO's final accuracy",
      '20.0 [20.0, 20.0]',
      '5.00',
      '0.25x (1 of 2 seeds)',
      '',
    ]);
  });

  it('leave out what an arm does not have', () => {
    const measures: Measure[] = [
      first('start', 'accuracy'),
      late('late', 'accuracy'),
      last('F1', 'outcomeF1'),
    ];
    const experiment = {
      ...rlExperiments.tango,
      measures,
      arms: ['a', 'b'].map((name) => ({ name, run: async () => [] })),
      contrasts: [['b', 'a']],
    } satisfies RlExperiment;
    const table = experimentTable(experiment, [cell('a', 0, [0.25, 1, 0.5, 0.6]), cell('b', 0, [0.5, 0.1])]);
    expect(table).toBe(
      [
        '| 1 seeds | a | b | b against a |',
        '| --- | --- | --- | --- |',
        '| start, % | 25.0 | 50.0 | +25.0 |',
        '| late, % | 70.0 | 30.0 | −40.0 |',
        '| F1, % | – | – | – |',
      ].join('\n'),
    );
  });
});

describe('the recipe', () => {
  it('runs an arm that several experiments have once for each seed', () => {
    const config = rlSettings.parse({ experiments: ['tango', 'tango'], seeds: 2, firstSeed: 3 });
    expect(planOf(config).map(({ arm, seed }) => `${arm.name} ${seed}`)).toEqual([
      'GRPO, words 3',
      'Tango, words 3',
      'GRPO, words 4',
      'Tango, words 4',
    ]);
  });

  it('names every arm once', () => {
    const arms = [...new Set(Object.values(rlExperiments).flatMap((one) => one.arms))];
    expect(new Set(arms.map(({ name }) => name)).size).toBe(arms.length);
    for (const { arms: own, contrasts } of Object.values(rlExperiments))
      for (const name of contrasts.flat()) expect(own.map((arm) => arm.name)).toContain(name);
  });

  it('runs all experiments at a tiny size, and goes on behind finished runs', async () => {
    const directory = path.join(folder, 'run');
    const overrides = [
      ...['seeds=1', 'effort=0.02', 'prompts=2', 'samples=2', 'problems=2'],
      ...['model.layers=1', 'model.dim=16', 'model.heads=2'],
      ...['warmStart.steps=3', 'warmStart.batch=2', 'warmStart.examples=30'],
      ...[
        'words.layers=1',
        'words.dim=16',
        'words.heads=2',
        'words.warmStart=2',
        'words.verifierWarmStart=2',
        'words.problems=2',
      ],
    ];
    const { outcome } = await launch(rlClaim as never, { overrides, directory });
    const file = path.join(directory, 'cells.jsonl');
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(outcome!.status).toBe('finished');
    expect(lines.length).toBe(planOf(rlSettings.parse({ seeds: 1 })).length);
    const report = readFileSync(path.join(directory, 'report.md'), 'utf8');
    for (const { title } of Object.values(rlExperiments)) expect(report).toContain(`## ${title}`);
    expect(report).toContain('![Accuracy by steps of the generator](tango-1.svg)');

    // The last run is lost, half a line of it stays: only it is done again, from the warm start that is there.
    writeFileSync(file, `${lines.slice(0, -1).join('\n')}\n${lines.at(-1)!.slice(0, 20)}`);
    const again = await launch(rlClaim as never, { overrides, directory });
    expect(again.outcome!.step).toBe(lines.length);
    const points = (text: string) =>
      (JSON.parse(text) as RlCell).points.map(({ seconds: _, ...point }) => point);
    const redone = readFileSync(file, 'utf8').trimEnd().split('\n').at(-1)!;
    expect(points(redone)).toEqual(points(lines.at(-1)!));
  }, 60_000);
});
