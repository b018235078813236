import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type MathVerifierOptions, mathVerifier } from '../../src/verify/index.js';
import { cases } from './math-cases.js';

const plain = mathVerifier();
const verdict = (reference: string, answer: string, options?: MathVerifierOptions) =>
  (options ? mathVerifier(options) : plain).verify({ reference, answer }).verdict;

for (const [kind, list] of Object.entries(cases))
  describe(kind, () => {
    it.each(list.map(([reference, answer, isRight]) => ({ reference, answer, isRight })))(
      '$reference / $answer: $isRight',
      ({ reference, answer, isRight }) => {
        const found = verdict(reference, answer);
        if (isRight) expect(found).toBe('correct');
        else expect(found).not.toBe('correct');
      },
    );
  });

describe('toggles', () => {
  it('of tolerance', () => {
    expect(verdict('1/3', '0.333', { tolerance: 'exact' })).toBe('incorrect');
    expect(verdict('1/3', '0.333', { tolerance: { digits: 6 } })).toBe('incorrect');
    expect(verdict('1/3', '0.333333', { tolerance: { digits: 6 } })).toBe('correct');
    expect(verdict('100.0', '101', { tolerance: { relative: 0.02 } })).toBe('correct');
    expect(verdict('100.0', '103', { tolerance: { relative: 0.02 } })).toBe('incorrect');
    expect(verdict('3.14', '3.1', { tolerance: { rounded: 2 } })).toBe('correct');
    expect(verdict('3.14', '3.1')).toBe('incorrect');
    expect(verdict('12345.0', '12349', { tolerance: { significant: 3 } })).toBe('correct');
    // Rounded places say nothing of numbers below them.
    expect(verdict('0.00000001', '0.00000002', { tolerance: { digits: 6 } })).toBe('incorrect');
    // Exact numbers stay exact under any tolerance.
    expect(verdict('100', '101', { tolerance: { relative: 0.02 } })).toBe('incorrect');
  });

  it('of percent, units, order and sets', () => {
    expect(verdict('50\\%', '50', { percent: 'scale' })).toBe('incorrect');
    expect(verdict('50\\%', '0.5', { percent: 'number' })).toBe('incorrect');
    expect(verdict('5\\text{ m}', '5\\text{ kg}', { units: 'drop' })).toBe('correct');
    expect(verdict('1,2', '2,1', { order: 'ordered' })).toBe('incorrect');
    expect(verdict('(1,2)', '(2,1)', { order: 'unordered' })).toBe('correct');
    expect(verdict('(2,\\infty)', 'x>2', { setFromRelation: false })).toBe('incorrect');
    expect(verdict('x>2', '(2,\\infty)', { setFromRelation: false })).toBe('correct');
    expect(verdict('x=3', 'y=3', { strictSymbols: false })).toBe('correct');
    // Names are free, what they do is not: each keeps its part.
    expect(verdict('2x+y', '2a+b', { strictSymbols: false })).toBe('correct');
    expect(verdict('2x+y', '2y+x', { strictSymbols: false })).toBe('correct');
    expect(verdict('2x+y', 'a+2b', { strictSymbols: false })).toBe('incorrect');
    expect(verdict('x+x', 'a+b', { strictSymbols: false })).toBe('incorrect');
    expect(verdict('f(x)', 'f(y)', { strictSymbols: false })).toBe('correct');
    expect(verdict('f(x)', 'f(y)')).toBe('incorrect');
    expect(verdict('2x+y', '2a+b')).toBe('incorrect');
    expect(verdict('x^2', 'x^3', { strictSymbols: false })).toBe('incorrect');
    expect(verdict('1/2', '2/4', { requireReduced: true })).toBe('incorrect');
    expect(verdict('1/2', '\\frac12', { requireReduced: true })).toBe('correct');
  });
});

describe('notations that count', () => {
  const targets = ['latex'] as const;
  it.each([
    ['$9$', 'correct'],
    ['It is $9$.', 'correct'],
    ['We find \\(9\\).', 'correct'],
    ['\\boxed{9}', 'correct'],
    ['$$\n9\n$$', 'correct'],
    ['9', 'incorrect'],
    ['The answer is 9.', 'incorrect'],
    // Dollars at the ends of lines are no delimiters.
    ['It costs $ \n 9 \n $', 'incorrect'],
  ])('only formulas: %j', (answer, wanted) => {
    expect(verdict('$9$', answer, { targets })).toBe(wanted);
    expect(verdict('$9$', answer)).toBe('correct');
  });
});

describe('what other verifiers got wrong', () => {
  it.each([
    // Tiny numbers taken for equal.
    ['\\frac{1}{2^{99}}', '\\frac{1}{2^{98}}', 'incorrect'],
    ['\\frac{1}{2004!}', '\\frac{1}{2006!}', 'incorrect'],
    ['1 - \\frac{1}{\\mathrm{e}}', '1 + \\frac{1}{\\mathrm{e}}', 'incorrect'],
    // Only the last right side counted.
    ['5', '6 = 5', 'incorrect'],
    ['5', 'x = 4 = 5', 'incorrect'],
    // Equations in plain text reduced to [0].
    ['x + y = 3', 'x + y = 4', 'incorrect'],
    ['a + 3z = 0', '0', 'incorrect'],
    // Presentation.
    ['73', '**73**', 'correct'],
    ['13', '\\text{13}', 'correct'],
    ['4\\sqrt{2}', '4\\sqrt(2)', 'correct'],
    ['\\sqrt{\\frac1n}', '\\frac{1}{\\sqrt n}', 'correct'],
    // A subscript dropped, a hundredfold forgiven.
    ['x_2', '2', 'incorrect'],
    ['50', '0.5', 'incorrect'],
    // A lone brace, emptiness, echoes.
    ['5', '{', 'incorrect'],
    ['5', '', 'incorrect'],
    ['5', 'the final answer is', 'incorrect'],
  ] as const)('%s against %s is %s', (reference, answer, expected) => {
    expect(verdict(reference, answer)).toBe(expected);
  });

  it('a reference that is not understood is never rewarded', () => {
    for (const reference of ['', ' ', '\\frac{', '\\int_0^1 f(x', '\\begin{tikz}'])
      for (const answer of ['', '5', '\\boxed{5}', '{'])
        expect(verdict(reference, answer)).not.toBe('correct');
  });

  it('an answer far from the end counts', () => {
    const response = `#### 42\n${'This is how I found it. '.repeat(100)}`;
    expect(verdict('42', response)).toBe('correct');
    expect(verdict('42', `\\boxed{42} ${'x '.repeat(30_000)}`)).toBe('correct');
  });
});

describe('verdicts', () => {
  it('say what was read, where, and how', () => {
    const answer = 'We get $x = 2$. The final answer is $\\boxed{\\frac{2}{4}}$.';
    const found = plain.verify({ reference: '#### 0.5', answer });
    expect(found).toMatchObject({ verdict: 'correct', reason: 'equal-value', extracted: '\\frac{2}{4}' });
    const { start, end } = found.answer!.span;
    expect(answer.slice(start, end)).toBe('\\frac{2}{4}');
    expect(found.answer).toMatchObject({ rule: 'boxed', form: 'div(2, 4)' });
    expect(found.reference).toMatchObject({ text: '0.5', form: '1/2' });
    expect(found.ms).toBeGreaterThan(0);
  });

  it('are the same at every time', () => {
    for (const list of Object.values(cases))
      for (const [reference, answer] of list) {
        const [a, b] = [0, 1].map(() => ({ ...plain.verify({ reference, answer }), ms: 0 }));
        expect(a).toEqual(b);
      }
  });

  it('accept every decimal and fraction that equals a number, and none that differs', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -10_000, max: 10_000 }),
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 1, max: 9 }),
        (n, d, k) => {
          expect(verdict(`\\frac{${n}}{${d}}`, `${n * k}/${d * k}`)).toBe('correct');
          expect(verdict(`\\frac{${n}}{${d}}`, `\\frac{${n * k + 1}}{${d * k}}`)).toBe('incorrect');
          expect(verdict(`${n}`, `${n + k}`)).toBe('incorrect');
          expect(verdict((n / 1000).toFixed(3), `${n}/1000`)).toBe('correct');
        },
      ),
      { numRuns: 100 },
    );
  });

  it('accept polynomials however they are expanded, and none with another coefficient', () => {
    const root = fc.integer({ min: -9, max: 9 });
    fc.assert(
      fc.property(root, root, root, (a, b, c) => {
        const factors = `(x-(${a}))(x-(${b}))(x-(${c}))`;
        const expand = (shift: number) =>
          `x^3 + (${-(a + b + c)})x^2 + (${a * b + b * c + a * c})x + (${-a * b * c + shift})`;
        expect(verdict(factors, expand(0))).toBe('correct');
        expect(verdict(factors, expand(1))).toBe('incorrect');
      }),
      { numRuns: 30 },
    );
  });
});
