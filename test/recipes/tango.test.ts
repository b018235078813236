import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { launch } from '../../src/recipes/launch.js';
import { tango } from '../../src/recipes/tango.js';
import { makeGame } from '../../src/recipes/tango-players.js';
import { curveOf, firstReach } from '../../src/recipes/tango-report.js';
import { tangoSettings } from '../../src/recipes/tango-settings.js';
import { formatSolution, formatVerification, shortPrompts } from '../../src/rl/index.js';
import type { RunEvent } from '../../src/train/index.js';

describe('where a curve reaches a value', () => {
  it('is found between two evaluations, linearly', () => {
    expect(firstReach([0, 10, 20], [0.1, 0.2, 0.6], 0.4)).toBeCloseTo(15, 12);
  });
  it('is the start if it begins there, and nowhere if it never does', () => {
    expect(firstReach([0, 10], [0.5, 0.1], 0.4)).toBe(0);
    expect(firstReach([0, 10], [0.1, 0.3], 0.4)).toBeUndefined();
  });
});

it('counts steps of both policies, with updates or without, and their time alone', () => {
  const train = (phase: string, ms: number) => ({
    phase,
    time: 0,
    step: 1,
    kind: 'train',
    loss: 0,
    lr: 0,
    gradNorm: 0,
    ms,
    rate: 1,
  });
  const evaluated = (accuracy: number) => ({
    ...{ time: 9e9, step: 1, kind: 'evaluate', isBest: false, ms: 1e6 },
    metrics: { accuracy },
  });
  const events = [
    evaluated(0.1),
    train('generator', 1500),
    train('generator', 500),
    train('verifier', 1000),
    evaluated(0.4),
  ] as RunEvent[];
  expect(curveOf(events)).toEqual({
    generatorSteps: [0, 2],
    allSteps: [0, 3],
    seconds: [0, 3],
    metrics: { accuracy: [0.1, 0.4] },
  });
});

it.each(['letter', 'status'] as const)('has room for the longest texts of its task: %s', async (states) => {
  const config = tangoSettings.parse({ task: { words: [9, 9], letters: [6, 6], states } });
  const { task, tokenizer, solutionTokens, verificationTokens, context } = await makeGame(config);
  for (let i = 0; i < 20; i++) {
    const problem = task.problem(1, i);
    const gold = task.solution(problem);
    const solution = formatSolution(gold);
    const analyses = task.restate(problem, gold.steps).map((analysis) => ({ analysis, isCorrect: false }));
    const verification = formatVerification(analyses, false);
    const asked = shortPrompts.verifier(task.question(problem), solution, gold.steps.length);
    // Each text and the token that ends it.
    expect(tokenizer.encode(solution).length + 1).toBeLessThanOrEqual(solutionTokens);
    expect(tokenizer.encode(verification).length + 1).toBeLessThanOrEqual(verificationTokens);
    expect(tokenizer.encode(asked).length + verificationTokens).toBeLessThanOrEqual(context);
  }
});

describe('a tiny run', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'anneal-tango-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const overrides = [
    'steps=2',
    'baseline=2',
    'warmUp=1',
    'cycle=[1,1]',
    'task.words=[2,2]',
    'model={"layers":1,"dim":16,"heads":2}',
    'warmStart={"steps":2,"verifierSteps":3,"batch":2,"examples":40,"words":[2,2]}',
    'generator={"prompts":2,"samples":2}',
    'verifier={"prompts":2,"samples":2,"oversample":1,"words":[2,2]}',
    'evaluate={"every":1,"problems":4}',
  ];
  const options = () => ({ overrides, directory: path.join(folder, 'run') });

  it('goes through warm starts and both arms to a report, and a second start adds nothing', async () => {
    const { outcome } = await launch(tango as never, options());
    expect(outcome).toMatchObject({ status: 'finished' });
    const report = readFileSync(path.join(folder, 'run', 'report.md'), 'utf8');
    expect(report).toContain('| greedy accuracy, start → end |');
    expect(report).toMatch(/\| steps of both \| \d+ \| \d+ \|/);
    for (const part of ['warm-start-generator', 'warm-start-verifier', 'grpo', 'tango'])
      expect(existsSync(path.join(folder, 'run', part, 'events.jsonl'))).toBe(true);
    const before = readFileSync(path.join(folder, 'run', 'tango', 'rollouts', 'step-1.jsonl'), 'utf8');
    await launch(tango as never, options());
    expect(readFileSync(path.join(folder, 'run', 'report.md'), 'utf8')).toBe(report);
    expect(readFileSync(path.join(folder, 'run', 'tango', 'rollouts', 'step-1.jsonl'), 'utf8')).toBe(before);
  }, 120_000);
});
