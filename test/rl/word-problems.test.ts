import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/core/errors.js';
import { type WordOperator, wordProblems } from '../../src/rl/tasks/word-problems.js';

/** Reads a story as a person would, sentence by sentence: the number that is asked for, and the operations. */
function solve(question: string): { answer: number; operators: WordOperator[] } {
  const sentences = question.split(/(?<=[.?]) /);
  const operators: WordOperator[] = [];
  const owned = new Map<string, number>();
  let share: number | undefined;
  const patterns: [RegExp, (groups: string[]) => void][] = [
    [
      /^(\w+) has (\d+) \w+ with (\d+) \w+ in each\.$/,
      ([who, a, b]) => {
        owned.set(who!, Number(a) * Number(b));
        operators.push('*');
      },
    ],
    [
      /^(\w+) has (\d+) times as many \w+ as (\w+)\.$/,
      ([who, n, other]) => {
        owned.set(who!, owned.get(other!)! * Number(n));
        operators.push('*');
      },
    ],
    [
      /^(\w+) has (\d+) (more|fewer) \w+ than (\w+)\.$/,
      ([who, n, which, other]) => {
        owned.set(who!, owned.get(other!)! + (which === 'more' ? Number(n) : -Number(n)));
        operators.push(which === 'more' ? '+' : '-');
      },
    ],
    [/^(\w+) has (\d+) \w+\.$/, ([who, n]) => owned.set(who!, Number(n))],
    [
      /^(?:Then )?(\w+) (?:buys|finds) (\d+) more \w+\.$/,
      ([who, n]) => {
        owned.set(who!, owned.get(who!)! + Number(n));
        operators.push('+');
      },
    ],
    [
      /^\w+ gives (\w+) (\d+) more \w+\.$/,
      ([who, n]) => {
        owned.set(who!, owned.get(who!)! + Number(n));
        operators.push('+');
      },
    ],
    [
      /^(\w+) (?:loses|sells|gives) (\d+) (?:of the \w+|of them|\w+ to \w+)\.$/,
      ([who, n]) => {
        owned.set(who!, owned.get(who!)! - Number(n));
        operators.push('-');
      },
    ],
    [
      /^(\w+) shares the \w+ equally among (\d+) friends\.$/,
      ([who, n]) => {
        share = owned.get(who!)! / Number(n);
        operators.push('/');
      },
    ],
  ];
  let answer = Number.NaN;
  for (const sentence of sentences) {
    const asked = /^How many \w+ does (?:(\w+) have now|each friend get)\?$/.exec(sentence);
    if (asked) {
      answer = asked[1] === undefined ? share! : owned.get(asked[1])!;
      continue;
    }
    const found = patterns.find(([pattern]) => pattern.test(sentence));
    if (!found) throw new Error(`no pattern fits "${sentence}"`);
    found[1](found[0].exec(sentence)!.slice(1));
  }
  return { answer, operators };
}

describe('word problems', () => {
  it('are what they were: three that were worked out by hand', () => {
    const at = (index: number) => wordProblems({ operations: [1, 3] }).problem(1, index);
    expect(at(0)).toEqual({
      question: 'Ben has 12 pencils. Ben sells 9 of them. How many pencils does Ben have now?',
      answer: 3,
      steps: ['12 - 9 = 3'],
      operators: ['-'],
    });
    expect(at(2)).toEqual({
      question:
        'Ben has 8 marbles. Ben buys 9 more marbles. Ben sells 14 of them. Ben shares the marbles equally among 3 friends. How many marbles does each friend get?',
      answer: 1,
      steps: ['8 + 9 = 17', '17 - 14 = 3', '3 / 3 = 1'],
      operators: ['+', '-', '/'],
    });
    expect(at(4)).toMatchObject({
      answer: 135,
      steps: ['17 + 10 = 27', '27 * 5 = 135'],
    });
  });

  it('have the answer that their sentences tell, and a calculation that leads there', () => {
    const ranges = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 0, max: 2 }));
    const operators = fc
      .subarray(['+', '-', '*', '/'] as const, { minLength: 1 })
      .filter((list) => list.includes('+') || list.includes('*'));
    fc.assert(
      fc.property(fc.nat(), fc.nat(), ranges, operators, (seed, index, [low, more], allowed) => {
        const operations = [low, Math.min(3, low + more)] as const;
        const { question, answer, steps, operators } = wordProblems({
          operations,
          operators: allowed,
        }).problem(seed, index);
        expect(solve(question)).toEqual({ answer, operators });
        expect(Number.isInteger(answer) && answer > 0).toBe(true);
        expect(steps.length).toBeGreaterThanOrEqual(operations[0]);
        expect(steps.length).toBeLessThanOrEqual(operations[1]);
        expect(operators.every((one) => allowed.includes(one))).toBe(true);
        let value: number | undefined;
        steps.forEach((step, i) => {
          const [, left, operator, right, result] = /^(\d+) (.) (\d+) = (\d+)$/.exec(step)!;
          const [a, b] = [Number(left), Number(right)];
          if (value !== undefined) expect(a).toBe(value);
          value = { '+': a + b, '-': a - b, '*': a * b, '/': a / b }[operator as WordOperator];
          expect([operator, Number(result)]).toEqual([operators[i], value]);
        });
        expect(value).toBe(answer);
      }),
      { numRuns: 300 },
    );
  });

  it('are a pure function of seed and index, and rarely the same', () => {
    const first = Array.from({ length: 200 }, (_, i) => wordProblems().problem(5, i));
    const again = Array.from({ length: 200 }, (_, i) => wordProblems().problem(5, 199 - i)).reverse();
    expect(again).toEqual(first);
    expect(new Set(first.map(({ question }) => question)).size).toBeGreaterThan(195);
    expect(wordProblems().problem(6, 0)).not.toEqual(first[0]);
    // All operations occur, and none nearly always.
    for (const operator of ['+', '-', '*', '/'] as const) {
      const share = first.filter(({ operators }) => operators.includes(operator)).length / 200;
      expect(share).toBeGreaterThan(0.1);
      expect(share).toBeLessThan(0.8);
    }
  });

  it.each([
    [{ operations: [0, 1] }, 'operations is 0 to 1; pass integers from 1 on'],
    [{ operations: [2, 4] }, 'operations is 2 to 4; at most 3 can be told'],
    [{ numbers: [1, 5] }, 'numbers is 1 to 5; pass integers from 2 on'],
    [{ factors: [3, 2] }, 'factors is 3 to 2; pass integers from 2 on, the smaller first'],
    [{ operators: ['-', '/'] }, 'operators are -, /; there must be + or *'],
  ] as const)('with %j are refused', (options, message) => {
    expect(() => wordProblems(options as never)).toThrow(AnnealError);
    expect(() => wordProblems(options as never)).toThrow(message);
  });
});
