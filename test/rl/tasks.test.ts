import words from '@nkzw/safe-word-list';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/core/random.js';
import { parseSolution } from '../../src/rl/tango/solution-format.js';
import { parseVerification } from '../../src/rl/tango/verification-format.js';
import { chainArithmetic } from '../../src/rl/tasks/chain-arithmetic.js';
import { countdown } from '../../src/rl/tasks/countdown.js';
import { solutionExample, verificationExample } from '../../src/rl/tasks/examples.js';
import { evaluateExpression } from '../../src/rl/tasks/expression.js';
import { lastLetter } from '../../src/rl/tasks/last-letter.js';
import { programParts, runProgram } from '../../src/rl/tasks/stack-machine.js';
import { stackPrograms } from '../../src/rl/tasks/stack-programs.js';
import { mixTasks, type StepTask } from '../../src/rl/tasks/task.js';

const small = { count: [2, 6], letters: [3, 8], words } as const;
const everyTask = {
  'last letters, status': lastLetter(small),
  'last letters, letter': lastLetter({ ...small, states: 'letter' }),
  chain: chainArithmetic({ count: [1, 6], modulus: 97 }),
  'chain, free steps': chainArithmetic({ count: [1, 6], steps: 'free' }),
  countdown: countdown(),
  'stack programs': stackPrograms({ length: [2, 4], loops: true }),
} as unknown as Record<string, StepTask>;

describe.each(Object.entries(everyTask))('%s', (_, task) => {
  const problems = Array.from({ length: 200 }, (_, index) => task.problem(7, index));

  it('is a pure function of seed and index', () => {
    expect(task.problem(7, 11)).toEqual(problems[11]);
    expect(task.problem(8, 11)).not.toEqual(problems[11]);
    expect(new Set(problems.map((problem) => task.question(problem))).size).toBeGreaterThan(120);
  });

  it('has gold solutions that are right in every way', () => {
    for (const problem of problems) {
      const solution = task.solution(problem);
      expect(task.isCorrect(problem, solution.answer)).toBe(true);
      expect(task.isConsistent(problem, solution)).toBe(true);
      expect(task.stepLabels(problem, solution.steps)).toEqual(solution.steps.map(() => true));
      expect(task.restate(problem, solution.steps)).toEqual(solution.steps.map((one) => task.stated(one)));
    }
  });

  it('is spelled with its alphabet', () => {
    const known = new Set(`${task.alphabet}${task.phrases.join('')}`);
    for (const problem of problems) {
      const rng = new Rng(3);
      for (const { steps, answer } of [task.solution(problem), task.noisySolution(problem, 0.3, rng)]) {
        const text = task.question(problem) + steps.join('') + answer;
        expect([...text].filter((character) => !known.has(character))).toEqual([]);
      }
    }
  });

  it('has noisy solutions of the right form, right as often as asked', () => {
    const rng = new Rng(5);
    const labels: boolean[] = [];
    for (const problem of problems) {
      const noisy = task.noisySolution(problem, 0.3, rng);
      expect(task.isConsistent(problem, noisy)).toBe(true);
      labels.push(task.stepLabels(problem, noisy.steps)[0]!);
      // An answer cannot be right by accident where no step is, except in a search for expressions or programs.
      const judged = task.stepLabels(problem, noisy.steps);
      if (judged.every(Boolean) && task.name !== 'countdown' && task.name !== 'stack-programs')
        expect(task.isCorrect(problem, noisy.answer)).toBe(true);
    }
    const share = labels.filter(Boolean).length / labels.length;
    // The first step has no errors before it. A program's trace is honest, whatever the instruction is.
    if (task.name !== 'stack-programs') expect(Math.abs(share - 0.3)).toBeLessThan(0.11);
  });

  it('judges anything without failing', () => {
    const problem = problems[0]!;
    const text = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...task.alphabet) }));
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), text, (steps, answer) => {
        expect(task.stepLabels(problem, steps).length).toBe(steps.length);
        expect(task.restate(problem, steps).length).toBe(steps.length);
        expect(typeof task.isCorrect(problem, answer)).toBe('boolean');
        expect(typeof task.isConsistent(problem, { steps, answer })).toBe('boolean');
      }),
    );
  });

  it('makes examples whose parts say what they should', () => {
    for (let index = 0; index < 40; index++) {
      const problem = task.problem(2, index);
      const gold = parseSolution(solutionExample(task, index, { seed: 2 }).completion);
      expect([gold.isWellFormed, task.isCorrect(problem, gold.answer!)]).toEqual([true, true]);
      const options = { seed: 2, accuracy: 0.5 };
      const noisy = parseSolution(solutionExample(task, index, options).completion);
      const example = verificationExample(task, index, options);
      const k = noisy.steps.length;
      // The verifier's example is about the same solution, and its verdicts are the gold labels.
      expect(example.prompt).toContain(solutionExample(task, index, options).completion);
      const read = parseVerification(example.completion, k);
      const labels = task.stepLabels(
        problem,
        noisy.steps.map((step) => step.text),
      );
      expect([read.format, read.verdicts, read.final]).toEqual([
        1,
        labels,
        task.isCorrect(problem, noisy.answer!),
      ]);
      const careless = verificationExample(task, index, { ...options, verifierAccuracy: 0 });
      const claimed = parseVerification(careless.completion, k);
      expect([claimed.format, claimed.final]).toEqual([1, claimed.verdicts!.every(Boolean)]);
    }
  });
});

describe('last letters', () => {
  const problem = { words: ['tree', 'house', 'cat'] };
  it('states what was put together so far', () => {
    const task = lastLetter(small);
    const status = (...letters: string[]) => letters.map((one) => `|Status|: ${one}`);
    expect(task.question(problem)).toBe('tree house cat');
    expect(task.solution(problem)).toEqual({ steps: status('e', 'ee', 'eet'), answer: 'eet' });
    expect(task.stepLabels(problem, status('e', 'ea', 'eat', 'eet'))).toEqual([true, false, false, false]);
    expect(task.restate(problem, status('e', 'ea'))).toEqual(['e', 'ee']);
    expect(task.isConsistent(problem, { steps: status('e', 'ea', 'eat'), answer: 'eat' })).toBe(true);
    expect(task.isConsistent(problem, { steps: status('e', 'ea', 'eat'), answer: 'eet' })).toBe(false);
    expect(task.isConsistent(problem, { steps: status('e', 'eet'), answer: 'eet' })).toBe(false);
    expect(task.isConsistent(problem, { steps: ['e', 'ee', 'eet'], answer: 'eet' })).toBe(false);
    expect([task.isCorrect(problem, 'eet'), task.isCorrect(problem, ' eet')]).toEqual([true, false]);
  });

  it('states one letter, numbered', () => {
    const task = lastLetter({ ...small, states: 'letter' });
    expect(task.solution(problem)).toEqual({ steps: ['#1 e', '#2 e', '#3 t'], answer: 'eet' });
    expect(task.stepLabels(problem, ['#1 e', '#2 a', '#3 t'])).toEqual([true, false, true]);
    expect(task.isConsistent(problem, { steps: ['#1 e', '#2 a', '#3 t'], answer: 'eat' })).toBe(true);
    expect(task.isConsistent(problem, { steps: ['#1 e', '#3 t', '#2 e'], answer: 'ete' })).toBe(false);
  });

  it('draws from the words that fit', () => {
    const task = lastLetter({ words: ['a', 'Big', 'cat', 'horse', 'it-is'], count: [1, 3], letters: [3, 4] });
    for (let i = 0; i < 20; i++) expect(new Set(task.problem(0, i).words)).toEqual(new Set(['cat']));
    expect(() => lastLetter({ words: ['Ox'], count: [1, 2], letters: [2, 3] })).toThrow(
      'lastLetter: none of 1 words has 2 to 3 letters; pass other words or letters',
    );
    expect(() => lastLetter({ ...small, count: [3, 2] })).toThrow('last-letter: count is 3 to 2; pass');
    const counts = Array.from({ length: 300 }, (_, i) => lastLetter(small).problem(1, i).words.length);
    expect([Math.min(...counts), Math.max(...counts)]).toEqual([2, 6]);
  });
});

describe('chains', () => {
  // 7 + 5 = 12 → 2; 2 · 3 = 6; 6 − 8 = −2 → 8
  const operations = [
    { operator: '+', operand: 5 },
    { operator: '*', operand: 3 },
    { operator: '-', operand: 8 },
  ] as const;
  const problem = { start: 7, operations, modulus: 10 };
  it('do one operation a step, in order', () => {
    const task = chainArithmetic({ count: [1, 3] });
    expect(task.question(problem)).toBe('7+5*3-8 mod 10');
    expect(task.solution(problem)).toEqual({ steps: ['+5=2', '*3=6', '-8=8'], answer: '8' });
    expect(task.stepLabels(problem, ['+5=3', '*3=6', '*3=9', '-8=8'])).toEqual([false, true, false, true]);
    expect(task.isConsistent(problem, { steps: ['+5=3', '*3=9', '-8=1'], answer: '1' })).toBe(true);
    expect(task.isConsistent(problem, { steps: ['+5*3=6', '-8=8'], answer: '8' })).toBe(false);
    expect(task.isConsistent(problem, { steps: ['+5=2', '*3=6'], answer: '6' })).toBe(false);
    expect(() => chainArithmetic({ count: [1, 3], modulus: 1 })).toThrow('modulus is 1; pass an integer');
  });

  it('do several where steps are free', () => {
    const task = chainArithmetic({ count: [1, 3], steps: 'free' });
    expect(task.isConsistent(problem, { steps: ['+5*3=6', '-8=8'], answer: '8' })).toBe(true);
    expect(task.stepLabels(problem, ['+5*3=6', '-8=8'])).toEqual([true, true]);
    expect(task.stepLabels(problem, ['+5*3-8+1=9'])).toEqual([false]);
    expect(task.isConsistent(problem, { steps: [], answer: '8' })).toBe(false);
  });
});

describe('countdown', () => {
  const task = countdown();
  const problem = { numbers: [3, 5, 2], target: 16, moves: [] };
  it.each([
    ['(3+5)*2', true],
    ['2 * (5 + 3)', true],
    ['3+5*2', false],
    ['16', false],
    ['(3+5)*2+0', false],
    ['(3+5)*2*2/2', false],
    ['(3+5)*', false],
    ['', false],
    ['35', false],
  ])('answer %j: %j', (answer, isCorrect) => {
    expect(task.isCorrect(problem, answer)).toBe(isCorrect);
  });

  it('judges each step by itself', () => {
    expect(task.stepLabels(problem, ['3+5=8', '8*2=16'])).toEqual([true, true]);
    // A wrong result is at hand from then on.
    expect(task.stepLabels(problem, ['3+5=9', '9*2=18'])).toEqual([false, true]);
    // Numbers that are used, or never were there.
    expect(task.stepLabels(problem, ['3+5=8', '3*2=6', '7+1=8'])).toEqual([true, false, false]);
    expect(task.stepLabels(problem, ['3-5=2', '5/2=2', '3+3=6'])).toEqual([false, false, false]);
    expect(task.isConsistent(problem, { steps: ['3+5=8', '8*2=16'], answer: '2*(3+5)' })).toBe(true);
    expect(task.isConsistent(problem, { steps: ['3+5=8', '8*2=16'], answer: '3+5*2' })).toBe(false);
  });

  it('reads expressions exactly', () => {
    const value = (text: string) => evaluateExpression(text)?.value;
    expect(value('1/3+1/6')).toEqual({ n: 1, d: 2 });
    expect(value('2-3-4')).toEqual({ n: -5, d: 1 });
    expect(value('8/4/2')).toEqual({ n: 1, d: 1 });
    expect(evaluateExpression('1/(2-2)')).toEqual({ value: undefined, numbers: [1, 2, 2] });
    for (const bad of ['', '1+', '(1', '1)', '2 3', '-1', '1..2', 'x', '('.repeat(500)])
      expect(evaluateExpression(bad)).toBeUndefined();
  });
});

describe('stack programs', () => {
  it.each([
    ['d*', 5, 25],
    ['3s-', 5, -2],
    ['3-', 5, 2],
    ['2o', 5, 5],
    ['7x', 5, 5],
    ['n', 0, 0],
    ['3[d+]', 5, 40],
    ['2[3[1+]]', 0, 6],
    ['0[x]', 5, 5],
  ])('%s on %i gives %i', (program, input, value) => {
    expect(runProgram(program, input)).toMatchObject({ ok: true, value });
  });

  it.each([
    ['+', 'underflow'],
    ['x', 'empty'],
    ['xx', 'underflow'],
    ['q', 'syntax'],
    ['3[', 'syntax'],
    [']', 'syntax'],
    ['9[9[9[1+]]]', 'step-limit'],
    ['9[9[9[9[]]]]', 'step-limit'],
    ['9[d*]', 'overflow'],
    ['9[9[dd]]', 'overflow'],
  ])('%s ends in %s', (program, reason) => {
    expect(runProgram(program, 9, { steps: 200 })).toMatchObject({ ok: false, reason });
  });

  it('end, whatever they are', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123dxson+-*[]'), maxLength: 60 }), (program) => {
        const result = runProgram(program, 7);
        expect(result.steps).toBeLessThanOrEqual(201);
        if (programParts(program)) expect(result).not.toMatchObject({ reason: 'syntax' });
      }),
    );
    expect(runProgram('['.repeat(600), 1)).toEqual({ ok: false, reason: 'syntax', steps: 0 });
  });

  it('have the same problems whatever tests judge them', () => {
    const options = { length: [2, 3] as const };
    const strong = stackPrograms(options);
    const weak = stackPrograms({ ...options, tests: 'weak' });
    const broken = stackPrograms({ ...options, tests: 'broken', share: 0.2 });
    let passes = 0;
    let refused = 0;
    for (let i = 0; i < 300; i++) {
      const [a, b, c] = [strong, weak, broken].map((task) => task.problem(4, i));
      expect([b!.shown, c!.program]).toEqual([a!.shown, a!.program]);
      // A program that only knows the first test: a false positive of the weak tests.
      const { output } = a!.shown[0]!;
      const cheat = output >= 0 && output <= 9 ? `${output}` : a!.program;
      if (weak.isCorrect(b!, cheat) && !strong.isCorrect(a!, cheat)) passes++;
      if (!broken.isCorrect(c!, a!.program)) refused++;
    }
    expect(passes).toBeGreaterThan(80);
    expect(refused / 300).toBeGreaterThan(0.13);
    expect(refused / 300).toBeLessThan(0.27);
  });

  it('trace the first example', () => {
    const task = stackPrograms({ length: [2, 3] });
    const tests = [{ input: 3, output: 7 }];
    const problem = { program: 'd+1+', shown: tests, judging: tests };
    expect(task.question(problem)).toBe('3>7');
    expect(task.solution(problem).steps).toEqual(['d:3,3', '+:6', '1:6,1', '+:7']);
    expect(task.stepLabels(problem, ['d:3,3', '+:7', '1:6,1'])).toEqual([true, false, true]);
    expect(task.stepLabels(problem, ['+:6'])).toEqual([false]);
    expect(task.isConsistent(problem, { steps: ['d:3,3', '+:6'], answer: 'd+1+' })).toBe(false);
  });
});

describe('a mixture', () => {
  it('draws from its parts in their proportions', () => {
    const part = (n: number, weight: number) => ({ task: lastLetter({ ...small, count: [n, n] }), weight });
    const task = mixTasks([part(1, 1), part(4, 3)]);
    const counts = Array.from({ length: 400 }, (_, i) => task.problem(6, i).words.length);
    expect(new Set(counts)).toEqual(new Set([1, 4]));
    expect(Math.abs(counts.filter((n) => n === 4).length / 400 - 0.75)).toBeLessThan(0.07);
    expect(task.problem(6, 3)).toEqual(task.problem(6, 3));
    expect(() => mixTasks([])).toThrow('mixTasks: weights are ; pass positive numbers');
  });
});
