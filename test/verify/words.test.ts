import { describe, expect, it } from 'vitest';
import {
  answerTypeOf,
  answerVerifier,
  candidates,
  choicesOf,
  choiceVerifier,
  firstDecided,
  foldText,
  lettersOf,
  mathVerifier,
  numberVerifier,
  sameText,
  stateVerifier,
  textVerifier,
} from '../../src/verify/index.js';

describe('folding', () => {
  it('takes case, punctuation, articles, LaTeX and Unicode forms away', () => {
    expect(foldText('  The  \\text{Quick}, Brown-Fox! ')).toBe('quick brown-fox');
    expect(foldText('ﬁne Ａ１')).toBe('fine a1');
    expect(foldText('caf\u0065\u0301')).toBe(foldText('caf\u00e9'));
    expect(foldText('café', { ignoreAccents: true })).toBe('cafe');
    expect(foldText('A b', { ignoreCase: false, ignoreArticles: false })).toBe('A b');
  });

  it('keeps what tells answers apart', () => {
    expect(sameText('3.5', '35')).toBe(false);
    expect(sameText('-5', '5')).toBe(false);
    expect(sameText('09:01:10', '09:01:11')).toBe(false);
    expect(sameText('] )', ') ]')).toBe(false);
    expect(sameText('< >', '< > >')).toBe(false);
    expect(sameText('résumé', 'resume')).toBe(false);
    expect(sameText('', '')).toBe(false);
  });

  it('knows aliases', () => {
    expect(sameText('True', 'yes')).toBe(true);
    expect(sameText('no', 'yes')).toBe(false);
    expect(sameText('U.S.A.', 'united states', { aliases: { 'u.s.a.': ['United States'] } })).toBe(true);
    expect(sameText('three', '3')).toBe(true);
  });

  it('verifies', () => {
    const text = textVerifier();
    expect(text.verify({ answer: 'Paris.', reference: 'paris' }).verdict).toBe('correct');
    expect(text.verify({ answer: 'Rome', reference: 'paris' }).verdict).toBe('incorrect');
    expect(text.verify({ answer: 'x', reference: ' ' }).verdict).toBe('abstain');
  });
});

describe('letters', () => {
  it.each([
    ['B', 'B'],
    ['(B)', 'B'],
    ['B.', 'B'],
    ['B. circle', 'B'],
    ['(A) circle', 'A'],
    ['\\text{(C)}', 'C'],
    ['**D**', 'D'],
    ['A, C', 'AC'],
    ['C and A', 'AC'],
    ['ACD', 'ACD'],
    ['[A, B]', 'AB'],
    ['option E', 'E'],
    ['The correct answer is: B', undefined],
    ['A man', undefined],
    ['NASA', undefined],
    ['circle', undefined],
    ['', undefined],
    ['I think so', undefined],
  ])('of %j are %s', (text, expected) => {
    expect(lettersOf(text)?.join('')).toBe(expected);
  });

  it('are read with the options of a question', () => {
    const question = 'Which?\n(A) first\n(B) second\n(C) third';
    expect([...choicesOf(question)]).toEqual([
      ['A', 'first'],
      ['B', 'second'],
      ['C', 'third'],
    ]);
    expect([...choicesOf('Pick: (A) 1 (B) 2 (C) 3').values()]).toEqual(['1', '2', '3']);
    expect(choicesOf('A. only one').size).toBe(0);
    const choice = choiceVerifier();
    expect(choice.verify({ answer: '\\boxed{third}', reference: 'C', question }).verdict).toBe('correct');
    expect(choice.verify({ answer: '\\boxed{second}', reference: 'C', question }).verdict).toBe('incorrect');
  });

  it.each([
    ['So the answer is **(B)**.', 'B', 'correct'],
    ['The only invalid option is C.', 'C', 'correct'],
    ['The only invalid option is C.', 'D', 'incorrect'],
    ['…\n</think>\n\nK', 'K', 'correct'],
    ['**Answer:** BC', 'C', 'incorrect'],
    ['\\boxed{A, C}', 'AC', 'correct'],
    ['\\boxed{A}', 'AC', 'incorrect'],
    ['A lot of thought gave nothing', 'A', 'incorrect'],
  ])('%j against %s is %s', (answer, reference, verdict) => {
    expect(choiceVerifier().verify({ answer, reference }).verdict).toBe(verdict);
  });
});

describe('states', () => {
  it.each([
    ['The answer is \\boxed{ unknown}.', 'unknown', 'correct'],
    ['**Conclusion:** it follows. **Proved.**', 'proved', 'correct'],
    ['The answer is **no**.', 'No', 'correct'],
    ['\\boxed{\\text{disproved}}', 'proved', 'incorrect'],
    ['It may be yes or no', 'yes', 'incorrect'],
    ['\\boxed{True}', 'Yes', 'correct'],
    ['anything', 'blue', 'abstain'],
  ])('%j against %s is %s', (answer, reference, verdict) => {
    expect(stateVerifier().verify({ answer, reference }).verdict).toBe(verdict);
  });
});

describe('any answer', () => {
  it('is handed to the verifier of its kind', () => {
    expect(answerTypeOf('(B)')).toBe('choice');
    expect(answerTypeOf('Therefore, \\boxed{Yes}')).toBe('state');
    expect(answerTypeOf('R')).toBe('math');
    expect(answerTypeOf('\\frac12')).toBe('math');
    const rules = answerVerifier();
    expect(rules.verify({ answer: 'the final answer is 0.5', reference: '\\frac12' }).verdict).toBe(
      'correct',
    );
    const question = 'How many?\n(A) 0\n(B) 1\n(C) 2';
    expect(rules.verify({ answer: '\\boxed{B}', reference: '1', question }).reason).toBe('letter-of-value');
    expect(rules.verify({ answer: '\\boxed{C}', reference: '1', question }).verdict).toBe('incorrect');
    expect(
      answerVerifier({ type: 'text' }).verify({ answer: '\\boxed{Paris}', reference: 'paris' }).verdict,
    ).toBe('correct');
    const long = 'Because every even number that is larger than two is no prime number at all, it fails.';
    expect(rules.verify({ answer: '\\boxed{even numbers}', reference: long }).verdict).toBe('abstain');
  });

  it('is first decided by whoever can', () => {
    const both = firstDecided(numberVerifier(), textVerifier());
    expect(both.verify({ answer: '5', reference: 'five apples: 5' }).verdict).toBe('correct');
    expect(both.verify({ answer: 'Paris', reference: 'paris' })).toMatchObject({
      verdict: 'correct',
      reason: 'same-text',
    });
    const last = firstDecided(numberVerifier(), stateVerifier()).verify({ answer: 'x', reference: 'y' });
    expect(last.verdict).toBe('abstain');
  });
});

describe('extraction', () => {
  const best = (text: string, options = {}) => {
    const [first] = candidates(text, options);
    // Spans are of the text that was given.
    if (first && first.rule !== 'math' && !first.text.includes(' , '))
      expect(text.slice(first.span.start, first.span.end)).toBe(first.text);
    return first && `${first.rule}: ${first.text.trim()}`;
  };

  it.each([
    ['x \\boxed{\\frac{1}{\\sqrt{2}}} y', 'boxed: \\frac{1}{\\sqrt{2}}'],
    ['\\boxed{1} then \\boxed{2}', 'boxed: 2'],
    ['\\boxed{1} and \\boxed{2}', 'boxed: 1 , 2'],
    ['\\boxed{1}, $\\boxed{2}$, \\boxed{3}', 'boxed: 1 , 2 , 3'],
    ['\\boxed{5}, \\boxed{5}', 'boxed: 5'],
    ['\\boxed{\\{1\\} \\cup [2}', 'boxed: \\{1\\} \\cup [2'],
    ['cut off \\boxed{12', 'boxed: 12'],
    ['\\boxed{} \\boxed{7}', 'boxed: 7'],
    ['<think>\\boxed{1}</think> \\boxed{2}', 'boxed: 2'],
    ['<think>\\boxed{1}</think>', 'boxed: 1'],
    [
      '\\boxed{200} so far. Final Answer: The final answer is $300$. I hope it is correct.',
      'final-answer: 300',
    ],
    ['Final answer: 3. \\boxed{4}', 'boxed: 4'],
    ['steps\n#### 18', 'final-answer: 18'],
    ['**Answer:** 5', 'final-answer: 5'],
    ['It is unanswerable', 'sentence: unanswerable'],
    ['$1$, $2$', 'whole: $1$, $2$'],
  ])('of %j finds %s', (text, expected) => {
    expect(best(text)).toBe(expected);
  });

  it('without boxes first takes the rightmost', () => {
    const text = '\\boxed{1}. So the answer is 2';
    expect(best(text)).toBe('boxed: 1');
    expect(best(text, { boxedFirst: false })).toBe('final-answer: 2');
  });

  it('ends with the last number', () => {
    const prose = `${'We count them one by one.\n'.repeat(30)}That makes 3/4 of 12 apples`;
    expect(mathVerifier().verify({ answer: prose, reference: '12' }).verdict).toBe('correct');
    expect(best('', {})).toBeUndefined();
  });
});
