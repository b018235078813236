import { describe, expect, it } from 'vitest';
import {
  difficultyOf,
  filterByLength,
  majorityVote,
  passesFilter,
  problemFlaws,
} from '../../src/rl/acereason/curate.js';
import { Curriculum, type CurriculumStep } from '../../src/rl/acereason/curriculum.js';
import { EntropyWatch } from '../../src/rl/acereason/entropy-watch.js';
import { decontaminate, deduplicate, ngramsOf } from '../../src/rl/acereason/overlap.js';
import { aceReasonStages, type Stage } from '../../src/rl/acereason/stages.js';

describe('decontamination', () => {
  const text = (item: string) => item;
  it('removes what shares n words with a benchmark, whatever the marks between them', () => {
    const benchmark = ['Find the sum of all positive integers n less than 100.', 'Short one?'];
    const items = [
      'FIND the sum, of all positive integers: n less... now more', // nine words in a row
      'Find the sum of all positive integers below 100.', // seven, then another
      'A short one? No.',
      'short  ONE',
      '',
    ];
    const { kept, removed } = decontaminate(items, benchmark, { n: 9, text });
    expect(removed).toEqual([
      { item: items[0], ngram: 'find the sum of all positive integers n less', benchmark: 0 },
      { item: items[3], ngram: 'short one', benchmark: 1 },
    ]);
    expect(kept).toEqual([items[1], items[2], items[4]]);
    // Fourteen words, for code, are a longer match: only whole equality is left of the first.
    expect(decontaminate(items, benchmark, { n: 14, text }).removed.map(({ item }) => item)).toEqual([
      items[3],
    ]);
  });

  it('cuts texts into n-grams', () => {
    expect(ngramsOf('a b-c D', 3)).toEqual(['a b c', 'b c d']);
    expect(ngramsOf('x²+é', 1)).toEqual(['x²', 'é']);
    expect(ngramsOf('a b', 3)).toEqual(['a b']);
    expect(ngramsOf('…', 3)).toEqual([]);
    expect(() => decontaminate([], [], { n: 0, text })).toThrow('n-grams of 0 words');
  });

  it('keeps the first of equal statements and sources', () => {
    const items = [
      { text: 'one two three', url: 'a' },
      { text: 'zero one two three', url: 'b' },
      { text: 'four five six', url: 'a' },
      { text: 'four five six', url: undefined },
      { text: 'seven eight nine', url: undefined },
    ];
    const kept = deduplicate(items, { n: 3, text: (item) => item.text, source: (item) => item.url });
    expect(kept).toEqual([items[0], items[3], items[4]]);
  });
});

describe('curation', () => {
  it.each([
    ['Compute the sum of the first ten primes.', '129', []],
    ['Solve: (a) 2x = 4, (b) find x squared of it.', '4', ['multi-part']],
    ['Which is prime? (A) 4 (B) 5 (C) 6 (D) 8', 'B', ['multiple-choice']],
    ['True or false: every prime number is odd.', 'false', ['true-false']],
    ['Prove that the square root of two is irrational.', '', ['proof']],
    ['In the figure shown, find the angle at vertex B.', '30', ['figure']],
    ['Найдите сумму первых десяти простых чисел.', '129', ['not-english']],
    ['What is 2?', '2', ['too-short']],
    ['Write down the first digits of the number pi.', '3'.repeat(101), ['long-answer']],
    ['$\\frac{1}{2} + \\frac{1}{3} + \\frac{1}{4}$', '13/12', []],
  ])('flaws of %j', (problem, answer, flaws) => {
    expect(problemFlaws(problem, answer)).toEqual(flaws);
  });

  it('keeps what a majority agrees on', () => {
    const isEqual = (a: string, b: string) => Number(a) === Number(b);
    const vote = (answers: (string | null)[], reference = '7') => majorityVote(answers, reference, isEqual);
    expect(vote(['7', '7.0', '8', null])).toEqual({ answer: '7', votes: 2, attempts: 4, agrees: true });
    expect(vote(['8', '8', '7'])).toMatchObject({ answer: '8', agrees: false });
    // A shared first place is no majority, and so are no answers.
    expect(vote(['7', '8'])).toEqual({ answer: undefined, votes: 1, attempts: 2, agrees: false });
    expect(vote([null, null])).toEqual({ answer: undefined, votes: 0, attempts: 2, agrees: false });
  });

  it('filters by passes, as a share of the attempts', () => {
    const hard = { atMost: 6, of: 16 };
    expect([6, 7].map((passes) => passesFilter({ passes, of: 16 }, hard))).toEqual([true, false]);
    expect([3, 4].map((passes) => passesFilter({ passes, of: 8 }, hard))).toEqual([true, false]);
    const band = { atLeast: 1, atMost: 4, of: 8 };
    expect([0, 1, 4, 5].map((passes) => passesFilter({ passes, of: 8 }, band))).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect([difficultyOf({ passes: 8, of: 8 }), difficultyOf({ passes: 0, of: 8 })]).toEqual([0, 8]);
  });

  it('drops short ones and thins those above', () => {
    const items = [1999, ...Array.from({ length: 200 }, () => 2000), 4000, 9000];
    const tokens = (n: number) => n;
    const kept = filterByLength(items, { tokens, keep: 0.25, seed: 1 });
    expect(kept.slice(-2)).toEqual([4000, 9000]);
    expect(Math.abs(kept.length - 2 - 50)).toBeLessThan(20);
    expect(filterByLength(items, { tokens, keep: 0.25, seed: 1 })).toEqual(kept);
    expect(filterByLength(items, { tokens, keep: 0, seed: 1 })).toEqual([4000, 9000]);
  });
});

const lengths = {
  'math-1': { steps: 3 },
  'math-2': { steps: 2 },
  'math-3': { steps: 2 },
  'code-1': { steps: 2 },
  'code-2': { epochs: 3 },
  'math-4': { steps: 1 },
} as const;

describe("AceReason's table", () => {
  const stages = aceReasonStages({ lengths });
  it('is the paper’s', () => {
    expect(
      stages.map(({ name, domain, maxTokens, groupSize, temperature, lr, prompts, batch }) => [
        name,
        domain,
        maxTokens,
        groupSize,
        temperature,
        lr,
        prompts ?? 'all',
        batch,
      ]),
    ).toEqual([
      ['math-1', 'math', 8192, 8, 1, 1e-6, 'all', 128],
      ['math-2', 'math', 16384, 16, 1, 1e-6, 'all', 128],
      ['math-3', 'math', 24576, 16, 1, 1e-6, { atMost: 6, of: 16 }, 128],
      ['code-1', 'code', 24576, 8, 0.6, 5e-6, { atLeast: 3, of: 8 }, 128],
      ['code-2', 'code', 32768, { from: 8, to: 16 }, { from: 0.6, to: 1 }, 5e-6, 'all', 128],
      ['math-4', 'math', 32768, 16, 1, 1e-6, { atMost: 6, of: 16 }, 128],
    ]);
    expect(stages[4]!.epochFilter).toEqual({ atMost: 7, of: 8, scores: 'fresh' });
    expect(aceReasonStages({ lengths, model: '14b' })[3]!.prompts).toEqual({ atLeast: 1, of: 8 });
    expect(aceReasonStages({ lengths, scaleTokens: (n) => n / 128 })[0]!.maxTokens).toBe(64);
  });

  /** Drives a curriculum with made-up passes; restores it from JSON before every call when `isInterrupted`. */
  function drive(isInterrupted: boolean) {
    const options = { pools: { math: 20, code: 12 }, seed: 5 };
    const make = () => new Curriculum(aceReasonStages({ lengths, batch: 4 }), options);
    let curriculum = make();
    const log: (CurriculumStep | { scored: readonly number[]; of: number; domain: string })[] = [];
    for (;;) {
      if (isInterrupted) {
        const state = JSON.parse(JSON.stringify(curriculum.save()));
        curriculum = make();
        curriculum.restore(state);
      }
      const request = curriculum.pending();
      if (request) {
        log.push({ scored: request.items, of: request.of, domain: request.domain });
        // Item i is solved i times, as far as there are attempts.
        curriculum.score(
          request,
          request.items.map((item) => Math.min(item, request.of)),
        );
        continue;
      }
      const step = curriculum.current();
      if (!step) return log;
      log.push(step);
      curriculum.advance(step.items.map(() => 1));
    }
  }

  it('runs stage by stage, scoring where a filter needs it', () => {
    const log = drive(false);
    const names = log.map((one) =>
      'scored' in one ? `score ${one.domain} ${one.scored.length}/${one.of}` : one.stage,
    );
    expect(names).toEqual([
      ...['math-1', 'math-1', 'math-1', 'math-2', 'math-2', 'score math 20/16', 'math-3', 'math-3'],
      // Solved at least 3 of 8: items 3 … 11.
      ...['score code 12/8', 'code-1', 'code-1'],
      // Three epochs of three steps; after each, those that are left are scored again. Items 8 … 11 leave after the first.
      ...[
        'code-2',
        'code-2',
        'code-2',
        'score code 12/8',
        'code-2',
        'code-2',
        'score code 8/8',
        'code-2',
        'code-2',
      ],
      ...['score math 20/16', 'math-4'],
    ]);
    const steps = log.filter((one): one is CurriculumStep => 'stage' in one);
    const of = (name: string) => steps.filter((one) => one.stage === name);
    expect(
      of('math-3')
        .flatMap(({ items }) => items)
        .every((item) => item <= 6),
    ).toBe(true);
    expect(
      of('code-1')
        .flatMap(({ items }) => items)
        .every((item) => item >= 3),
    ).toBe(true);
    expect(of('code-2').map(({ groupSize }) => groupSize)).toEqual([8, 8, 8, 12, 12, 16, 16]);
    expect(of('code-2').map(({ temperature }) => temperature)).toEqual([0.6, 0.6, 0.6, 0.8, 0.8, 1, 1]);
    const lastEpoch = of('code-2')
      .slice(-2)
      .flatMap(({ items }) => items);
    expect([...lastEpoch].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    // An epoch has each prompt once, in another order than the next.
    const [first, second] = [of('code-2').slice(0, 3), of('code-2').slice(3, 5)];
    expect(new Set(first.flatMap(({ items }) => items)).size).toBe(12);
    expect(second.flatMap(({ items }) => items)).not.toEqual(lastEpoch);
  });

  it('resumes anywhere', () => {
    expect(drive(true)).toEqual(drive(false));
  });
});

describe('a curriculum', () => {
  const stage: Stage = {
    name: 'one',
    domain: 'math',
    maxTokens: 10,
    groupSize: 4,
    temperature: 1,
    lr: 1e-3,
    batch: 2,
    length: { epochs: 3 },
  };
  const make = (change: Partial<Stage>, pools = { math: 5 }) =>
    new Curriculum([{ ...stage, ...change }], { pools, seed: 1 });

  it('leaves out what was solved in the last epoch, by its own rollouts', () => {
    const curriculum = make({ epochFilter: { atMost: 3, of: 4 }, length: { epochs: 9 } });
    const seen: number[][] = [];
    for (let step = curriculum.current(); step; step = curriculum.current()) {
      seen.push([...step.items]);
      expect(curriculum.pending()).toBeUndefined();
      // Even prompts are always solved.
      curriculum.advance(step.items.map((item) => (item % 2 === 0 ? 4 : 1)));
    }
    // What an epoch leaves out keeps its place; solved ones go, and 1 and 3 stay for the rest.
    expect(new Set(seen.slice(-2).flat())).toEqual(new Set([1, 3]));
    expect(curriculum.scores('math').filter(Boolean).length).toBe(5);
  });

  it('ends a stage in which nothing is left to learn, but not one that has nothing at all', () => {
    const curriculum = make({ epochFilter: { atMost: 3, of: 4 }, batch: 5 });
    curriculum.advance([4, 4, 4, 4, 4]);
    expect(curriculum.current()).toBeUndefined();
    expect(() => curriculum.advance()).toThrow('it is over');
    const scores = { math: Array.from({ length: 5 }, () => ({ passes: 4, of: 4 })) };
    const hard = { ...stage, prompts: { atMost: 2, of: 4 } };
    expect(() => new Curriculum([hard], { pools: { math: 5 }, seed: 1, scores })).toThrow(
      'stage "one": no prompt of "math" is left after its filter; widen it',
    );
  });

  it('asks for scores only where there are none, unless it scores anew', () => {
    const scores = { math: [{ passes: 1, of: 4 }, null, { passes: 4, of: 4 }, null, { passes: 2, of: 8 }] };
    const filtered = { ...stage, prompts: { atMost: 2, of: 4 } };
    const pending = (change: Partial<Stage>) =>
      new Curriculum([{ ...filtered, ...change }], { pools: { math: 5 }, seed: 1, scores }).pending();
    expect(pending({})).toEqual({ domain: 'math', items: [1, 3], of: 4 });
    expect(pending({ rescore: true })!.items).toEqual([0, 1, 2, 3, 4]);
    const curriculum = new Curriculum([filtered], { pools: { math: 5 }, seed: 1, scores });
    expect(() => curriculum.current()).toThrow('stage "one" waits for scores');
    curriculum.score(curriculum.pending()!, [2, 3]);
    const items = [0, 1].map(() => {
      const step = curriculum.current()!;
      curriculum.advance();
      return step.items;
    });
    // 0, 1 and 4 are left; a batch of two is an epoch.
    expect(new Set(items.flat()).size).toBeGreaterThanOrEqual(2);
    for (const item of items.flat()) expect([0, 1, 4]).toContain(item);
  });

  it.each<[Partial<Stage>, string]>([
    [{ maxTokens: 0 }, 'stage "one": maxTokens is 0'],
    [{ groupSize: 1 }, 'stage "one": groupSize is 1'],
    [{ groupSize: { from: 8, to: 0.5 } }, 'groupSize is 8 to 0.5'],
    [{ temperature: 0 }, 'temperature is 0'],
    [{ lr: Number.NaN }, 'lr is NaN'],
    [{ length: { steps: 0 } }, 'its length is 0'],
    [{ prompts: { atMost: 17, of: 16 } }, 'a filter is 0 to 17 of 16'],
    [{ domain: 'code' }, 'there are no prompts of domain "code", only of math'],
  ])('refuses %j', (change, message) => {
    expect(() => make(change)).toThrow(message);
  });

  it('refuses what does not fit', () => {
    const curriculum = make({});
    expect(() => curriculum.advance([1])).toThrow('1 pass counts for 2 prompts');
    expect(() => curriculum.restore({ stage: 0 })).toThrow('this is no state of it');
    expect(() => new Curriculum([], { pools: {}, seed: 0 })).toThrow('needs at least one stage');
  });
});

describe('the entropy watch', () => {
  it('compares an average with the beginning', () => {
    const watch = new EntropyWatch({ baseline: 2, decay: 0.5 });
    expect(watch.observe(1)).toEqual({ average: 1, ratio: 1, status: 'ok' });
    expect(watch.observe(2)).toEqual({ average: 1.5, ratio: 1, status: 'ok' });
    expect(watch.observe(0.5)).toMatchObject({ average: 1, status: 'ok' });
    expect(watch.observe(Number.NaN)).toMatchObject({ average: 1 });
    expect(watch.observe(0.25)).toMatchObject({ average: 0.625, status: 'collapsed' });
    const copy = new EntropyWatch({ baseline: 2, decay: 0.5 });
    copy.restore(JSON.parse(JSON.stringify(watch.save())));
    expect(copy.observe(9)).toEqual(watch.observe(9));
    expect(copy.observe(9)).toMatchObject({ status: 'exploded' });
    expect(() => copy.restore(null)).toThrow('is no state of it');
    expect(() => new EntropyWatch({ low: 1 })).toThrow('EntropyWatch: low 1');
  });
});
