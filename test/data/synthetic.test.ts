import { describe, expect, it } from 'vitest';
import {
  alternatingGroup,
  cups,
  flipFlop,
  repeatedRecall,
  SyntheticBatches,
  type SyntheticSequence,
} from '../../src/data/synthetic.js';
import { Rng } from '../../src/index.js';

const draw = (task: { sequence(n: number, rng: Rng): SyntheticSequence }, length: number, seed = 1) =>
  task.sequence(length, new Rng(seed));

describe('flip-flop', () => {
  it('reads what was written last, starts with write and ends with read', () => {
    for (let seed = 0; seed < 50; seed++) {
      const { tokens, targets, counts } = draw(flipFlop(0.5), 40, seed);
      let memory = -1;
      expect([tokens[0], tokens[38]]).toEqual([0, 1]);
      for (let i = 0; i < 40; i += 2) {
        const [instruction, bit] = [tokens[i]!, tokens[i + 1]!];
        expect(bit).toBeGreaterThanOrEqual(3);
        if (instruction === 0) memory = bit;
        if (instruction === 1) expect([bit, targets[i], counts[i]]).toEqual([memory, memory, 1]);
        else expect(counts[i]).toBe(0);
        expect(counts[i + 1]).toBe(0);
      }
    }
  });

  it('ignores as often as asked, and writes as often as it reads', () => {
    const { tokens } = draw(flipFlop(0.8), 20_000);
    const share = (kind: number) => tokens.filter((t, i) => i % 2 === 0 && t === kind).length / 10_000;
    expect(share(2)).toBeCloseTo(0.8, 1);
    expect(share(0)).toBeCloseTo(0.1, 1);
    expect(share(1)).toBeCloseTo(0.1, 1);
  });
});

describe('cups', () => {
  it('follows the ball', () => {
    // Swaps in order: 01 02 03 04 12 13 14 23 24 34, tokens 1 … 10.
    const pairs = ['01', '02', '03', '04', '12', '13', '14', '23', '24', '34'];
    const { tokens, targets, counts } = draw(cups(), 60);
    expect([tokens[0], counts[0]]).toEqual([0, 0]);
    const places = [0, 1, 2, 3, 4];
    for (let i = 1; i < 60; i++) {
      const [a, b] = [...pairs[tokens[i]! - 1]!].map(Number) as [number, number];
      [places[a], places[b]] = [places[b]!, places[a]!];
      expect([targets[i], counts[i]]).toEqual([places.indexOf(0), 1]);
    }
  });
});

describe('the word problem of A5', () => {
  it('has 60 elements, and inverse generators lead back', () => {
    const task = alternatingGroup();
    expect(task.vocabulary).toBe(60);
    const seen = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const { tokens, targets, counts } = draw(task, 50, seed);
      expect([tokens[0], counts[0]]).toEqual([6, 0]);
      for (let i = 1; i < 50; i++) {
        seen.add(targets[i]!);
        expect(tokens[i]).toBeLessThan(6);
        expect(counts[i]).toBe(1);
        // Generators come in pairs 2k, 2k+1 of inverses; after the start the product is element 0, the identity.
        if ((tokens[i]! ^ 1) === tokens[i - 1]!) expect(targets[i]).toBe(targets[i - 2]);
        // A 3-cycle three times is the identity.
        if (i >= 3 && tokens[i] === tokens[i - 1] && tokens[i] === tokens[i - 2])
          expect(targets[i]).toBe(targets[i - 3]);
      }
    }
    expect(seen.size).toBe(60);
  });
});

describe('repeated recall', () => {
  it.each([1, 2, 3])('recalls the value of %d occurrences before', (back) => {
    const { tokens, targets, counts } = draw(repeatedRecall(back, 4), 80);
    const history = new Map<number, number[]>();
    for (let i = 0; i < 80; i += 2) {
      const past = history.get(tokens[i]!) ?? [];
      expect(counts[i]).toBe(past.length >= back ? 1 : 0);
      if (counts[i]) expect(targets[i]).toBe(past[past.length - back]);
      history.set(tokens[i]!, [...past, tokens[i + 1]!]);
      expect(tokens[i + 1]).toBeGreaterThanOrEqual(4);
    }
  });
});

describe('SyntheticBatches', () => {
  it('continues where it was, and weighs what counts to a mean of 1', () => {
    const make = () => new SyntheticBatches(flipFlop(), { batch: 3, length: 16, seed: 4 });
    const [a, b] = [make(), make()];
    a.next();
    const second = a.next();
    b.restore(JSON.parse(JSON.stringify({ taken: 1, task: b.task.name })));
    const resumed = b.next();
    expect(Array.from(resumed.tokens.data)).toEqual(Array.from(second.tokens.data));
    const weights = Array.from(second.weights.data);
    expect(weights.reduce((x, y) => x + y) / weights.length).toBeCloseTo(1, 5);
    expect(a.state()).toEqual(b.state());
  });

  it('refuses the state of another task', () => {
    const cupsBatches = new SyntheticBatches(cups(), { batch: 1, length: 4 });
    expect(() => cupsBatches.restore({ taken: 0, task: 'other' })).toThrow('other');
  });

  it.each([
    () => flipFlop(2),
    () => cups(1),
    () => repeatedRecall(0),
    () => draw(flipFlop(), 5),
    () => draw(repeatedRecall(), 5),
  ])('refuses impossible settings', (make) => {
    expect(make).toThrow(/must be/);
  });
});
