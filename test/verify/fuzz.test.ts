import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  answerVerifier,
  choiceVerifier,
  mathVerifier,
  numberVerifier,
  stateVerifier,
  textVerifier,
} from '../../src/verify/index.js';

const verifiers = [
  mathVerifier(),
  answerVerifier(),
  choiceVerifier(),
  stateVerifier(),
  textVerifier(),
  numberVerifier(),
];

const repeated: readonly (readonly [string, number])[] = [
  ['(', 50_000],
  ['{', 50_000],
  ['\\boxed{', 20_000],
  ['\\boxed{1}', 20_000],
  ['\\frac{1}{', 10_000],
  ['$', 50_000],
  ['$1$', 20_000],
  [' ', 200_000],
  ['\n', 100_000],
  ['answer is ', 20_000],
  ['1,', 20_000],
  ['1,', 1500],
  ['-', 150],
  ['-', 20_000],
  ['\\', 50_000],
  [' and ', 20_000],
  ['word ', 40_000],
  ['\\pm 1', 40],
  ['\\pm 1+', 20],
  ['|', 3000],
  ['\\sqrt', 3000],
  ['\\{', 3000],
  ['(0,1)\\cup ', 200],
  ['\\sin ', 100],
  ['😀', 20_000],
  ['(A) ', 5000],
  ['x=', 2000],
  ['1<', 2000],
  ['<think>', 10_000],
  ['</think>', 10_000],
  ['x_', 2000],
  ['x^', 150],
  ['1/', 1000],
  ['%', 10_000],
  ['9', 100_000],
  ['x*', 1000],
  ['(1,2,3),', 200],
  ['#### ', 20_000],
  ['\ud800', 1000],
];
const whole = [
  '9^{9^{9^{9^9}}}',
  '2^2^2^2^2^2^2',
  '100000!',
  '3000!!!',
  '(x+1)^{100000}',
  '3^{20000}+1',
  '\\binom{100000}{50000}',
  'e^{e^{e^{e}}}',
  'e^{-e^{20}}',
  '\\sin(10^{30})',
  '1e999999',
  '1e-999999',
  '__proto__',
  'constructor',
  '\\constructor{1}',
  '\\toString',
  '\0\u0001',
  '\u202e5\u202c',
  `0.\\overline{${'1'.repeat(3000)}}`,
  Array(60).fill('2999!').join('+'),
  `\\begin{pmatrix}${'1&'.repeat(3000)}1\\end{pmatrix}`,
];

describe('verifiers', () => {
  it('never throw, whatever Unicode they are given', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 60 }),
      fc.string({ unit: 'grapheme', maxLength: 60 }),
    );
    const latex = fc
      .array(
        fc.constantFrom(
          '\\frac',
          '{',
          '}',
          '(',
          ')',
          '[',
          ']',
          '\\sqrt',
          '^',
          '_',
          '1',
          '2',
          'x',
          '+',
          '-',
          ',',
          '\\pm',
          '=',
          '<',
          '\\in',
          '\\cup',
          '\\boxed',
          '$',
          '&',
          '\\\\',
          '\\begin{pmatrix}',
          '\\end{pmatrix}',
          '|',
          '!',
          '%',
          '.',
          ' and ',
          '\\text{',
          ':',
          '0',
          'i',
          'e',
          '\\pi',
          '\\infty',
        ),
        { maxLength: 24 },
      )
      .map((parts) => parts.join(''));
    const any = fc.oneof(text, latex);
    fc.assert(
      fc.property(any, any, (answer, reference) => {
        for (const one of verifiers) {
          const { verdict, reason } = one.verify({ answer, reference, question: reference });
          expect(['correct', 'incorrect', 'abstain']).toContain(verdict);
          expect(reason).not.toBe('verifier-error');
        }
      }),
      { numRuns: 400 },
    );
  });

  it.each([
    ...repeated.map(([unit, count]) => [`${JSON.stringify(unit)} × ${count}`, unit.repeat(count)]),
    ...whole.map((one) => [one.slice(0, 40), one]),
  ])('end in time on %s, and reward nothing', (_, hostile) => {
    const start = performance.now();
    for (const one of verifiers) {
      // No fixed answer is in these, so that as a response they must not pass for this reference.
      expect(one.verify({ answer: hostile!, reference: '-271/828', question: hostile! }).verdict).not.toBe(
        'correct',
      );
      one.verify({ answer: '5', reference: hostile! });
      one.verify({ answer: `\\boxed{x+${hostile}}`, reference: `\\boxed{${hostile}}` });
    }
    // Eighteen verifications; the limit is generous for slow machines, and far below any runaway.
    expect(performance.now() - start).toBeLessThan(4000);
  });

  it('abstain on what is no text', () => {
    for (const item of [{}, { answer: 5, reference: '5' }, { answer: '5' }, null, undefined])
      for (const one of verifiers)
        expect(one.verify(item as never)).toMatchObject({ verdict: 'abstain', reason: 'not-a-text' });
  });

  it('keep to their budget: work is counted, the deadline is a net', () => {
    const item = { answer: '(x+y+z)^{60}', reference: '(z+y+x)^{30} (x+y+z)^{30}' };
    expect(mathVerifier({ work: 50 }).verify(item)).toMatchObject({
      verdict: 'abstain',
      reason: 'work-limit',
    });
    expect(
      mathVerifier({ deadlineMs: -1, work: 1e9 }).verify({ answer: '3000! x', reference: 'x 3000! + 1' }),
    ).toMatchObject({ verdict: 'abstain', reason: 'deadline' });
    expect(mathVerifier().verify(item).verdict).toBe('correct');
  });
});
