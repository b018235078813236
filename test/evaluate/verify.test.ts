import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { contains, exactMatch, finalNumber, normalizeText, sameNumber } from '../../src/evaluate/verify.js';

describe('finalNumber', () => {
  it.each([
    ['He pays 3*4 = <<3*4=12>>12 dollars.\n#### 12', '12'],
    ['#### 1,234', '1,234'],
    ['#### -5', '-5'],
    ['#### $18.50 in all', '$18.50'],
    ['#### 12 apples and 3 pears', '12'],
    ['first #### 1 then #### 2', '2'],
    ['so 10-5', '5'],
    ['from 7 to -3', '-3'],
    ['is −4.', '−4'],
    ['the answer is 42.', '42'],
    ['costs $1,000,000.', '$1,000,000'],
    ['it is .75', '.75'],
    ['pick 1,2', '2'],
    ['1,2345', '2345'],
    ['#### none, but 7 before', '7'],
    ['(3)-2', '2'],
  ])('of %j is %s', (text, expected) => {
    expect(finalNumber(text)).toBe(expected);
  });

  it('of a text without numbers is undefined, and a marker without one falls back on the text', () => {
    expect(finalNumber('no idea')).toBeUndefined();
    expect(finalNumber('')).toBeUndefined();
    expect(finalNumber('it is 7\n####')).toBe('7');
  });
});

describe('sameNumber', () => {
  it.each([
    ['The answer is $1,000.00.', '#### 1000', 'correct'],
    ['#### 18.0', '18', 'correct'],
    ['0.333', '#### 0.3333', 'incorrect'],
    ['-18', '#### 18', 'incorrect'],
    ['no number', '#### 18', 'incorrect'],
    ['18', 'no reference', 'abstain'],
    ['', '', 'abstain'],
  ] as const)('%j against %j: %s', async (answer, reference, verdict) => {
    expect((await sameNumber(answer, reference, undefined)).verdict).toBe(verdict);
  });
});

describe('texts', () => {
  it('are normalised', () => {
    expect(normalizeText('  New\n\tYork ')).toBe('new york');
    expect(normalizeText('Don’t, stop! 3.5', { ignorePunctuation: true })).toBe('don’t stop 3.5');
    expect(normalizeText('A', { ignoreCase: false })).toBe('A');
    // Composed and decomposed é.
    expect(normalizeText('caf\u0065\u0301')).toBe(normalizeText('caf\u00e9'));
  });

  it('match exactly or by containing', async () => {
    expect(await exactMatch()('Paris ', 'paris', undefined)).toEqual({
      verdict: 'correct',
      extracted: 'paris',
    });
    expect((await exactMatch()('Paris.', 'paris', undefined)).verdict).toBe('incorrect');
    expect((await exactMatch({ ignorePunctuation: true })('Paris.', 'paris', undefined)).verdict).toBe(
      'correct',
    );
    expect((await exactMatch({ ignoreCase: false })('Paris', 'paris', undefined)).verdict).toBe('incorrect');
    expect((await contains()('It is Paris, France', 'PARIS', undefined)).verdict).toBe('correct');
    expect((await contains()('It is Rome', 'Paris', undefined)).verdict).toBe('incorrect');
    expect((await contains()('anything', ' ', undefined)).verdict).toBe('abstain');
  });
});

const solutions = fileURLToPath(
  new URL('../../../shared/data/gsm8k_model_solutions.dev.jsonl', import.meta.url),
);
const hasSolutions = existsSync(solutions);
if (!hasSolutions) console.log(`skipped: labelled model solutions of GSM8K need ${solutions}`);

describe.skipIf(!hasSolutions)('labelled model solutions of GSM8K', () => {
  it('are judged as their label says', async () => {
    const items = readFileSync(solutions, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const wrong: string[] = [];
    for (const { id, gold, completion, expected } of items) {
      const { verdict } = await sameNumber(completion, gold, undefined);
      if ((verdict === 'correct') !== expected) wrong.push(id);
    }
    expect(items.length).toBeGreaterThan(1000);
    expect(wrong).toEqual([]);
  });
});
