import { describe, expect, it } from 'vitest';
import {
  configLines,
  derivedLines,
  duration,
  quantityText,
  scaled,
  words,
} from '../../src/recipes/format.js';

describe('numbers', () => {
  it.each<[number, string]>([
    [0, '0'],
    [7, '7'],
    [0.25, '0.25'],
    [999, '999'],
    [1000, '1.00 k'],
    [12345, '12.3 k'],
    [999_499, '999 k'],
    [999_500, '1.00 M'],
    [1.5e12, '1.50 T'],
    [-2e6, '-2.00 M'],
    [3e30, '3000000000000 E'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
  ])('%d is %s', (value, text) => {
    expect(scaled(value)).toBe(text);
  });

  it.each<[number, string]>([
    [0.04, '0.0 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [59.4, '59 s'],
    [59.6, '1 min 0 s'],
    [123, '2 min 3 s'],
    [3599.4, '59 min 59 s'],
    [3599.6, '1 h 0 min'],
    [7380, '2 h 3 min'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  it('have units', () => {
    const text = (value: number, unit: Parameters<typeof quantityText>[0]['unit']) =>
      quantityText({ name: '', value, unit });
    expect([
      text(807_040, ''),
      text(2.5, ''),
      text(512, 'bytes'),
      text(412e6, 'bytes'),
      text(13.9e9, 'FLOP'),
      text(90, 'seconds'),
      text(1.37034, 'nats'),
    ]).toEqual(['807,040', '2.50', '512 B', '412 MB', '13.9 GFLOP', '1 min 30 s', '1.370']);
    expect(words('tokensPerStep')).toBe('tokens per step');
  });
});

describe('a config', () => {
  const config = {
    data: ['a.txt'],
    steps: 3,
    model: { layers: 2, rope: { base: 100 } },
    sample: { prompt: 'a b' },
  };

  it('is printed by groups, as overrides are written', () => {
    expect(configLines(config, 60)).toEqual([
      '          data=["a.txt"] steps=3',
      '  model   layers=2 rope.base=100',
      '  sample  prompt="a b"',
    ]);
  });

  it('is broken into lines of the width', () => {
    const lines = configLines(config, 24);
    expect(lines).toEqual([
      '          data=["a.txt"]',
      '          steps=3',
      '  model   layers=2',
      '          rope.base=100',
      '  sample  prompt="a b"',
    ]);
  });

  it('stands beside what follows from it', () => {
    const derived = [
      { name: 'parameters', value: 1200, unit: '' },
      { name: 'memory', value: 2e9, unit: 'bytes' },
    ] as const;
    expect(derivedLines(derived)).toEqual(['  parameters 1,200 · memory 2.00 GB']);
  });
});
