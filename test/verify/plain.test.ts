import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { samePrinted } from '../../src/verify/code/compare-text.js';
import {
  canonical,
  isPlain,
  type Json,
  sameValue,
  toWire,
  type Wire,
} from '../../src/verify/sandbox/plain.js';

const int = (text: string): Wire => ['i', text];
const float = (text: string): Wire => ['f', text];

describe('plain values', () => {
  it.each<[Wire, Wire, boolean]>([
    [int('1'), float('1.0'), true],
    [int('1'), true, true],
    [int('0'), false, true],
    [int('2'), true, false],
    [int('9007199254740993'), float('9007199254740992'), false],
    [int('0x20000000000001'), int('9007199254740993'), true],
    [int('-0x10'), int('-16'), true],
    [float('nan'), float('NaN'), true],
    [float('inf'), float('Infinity'), true],
    [float('inf'), float('-inf'), false],
    [float('0.30000000000000004'), float('0.3'), false],
    ['1', int('1'), false],
    [null, false, false],
    [['t', [int('1')]], ['l', [int('1')]], true],
    [['l', [int('1'), int('2')]], ['l', [int('2'), int('1')]], false],
    [['s', [int('1'), int('2')]], ['s', [int('2'), float('1.0')]], true],
    [['s', [int('1')]], ['l', [int('1')]], false],
    [
      [
        'd',
        [
          ['a', int('1')],
          ['b', null],
        ],
      ],
      [
        'd',
        [
          ['b', null],
          ['a', int('1')],
        ],
      ],
      true,
    ],
    [['d', [['a', int('1')]]], ['d', [['a', int('2')]]], false],
    [['b', '6162'], 'ab', false],
    [['c', '1.0', '2.0'], ['c', '1', '2'], true],
    [['u'], null, false],
    [['x', 'AlwaysEqual'], ['x', 'AlwaysEqual'], false],
    [['l', [['x', 'Any']]], ['l', [int('1')]], false],
  ])('%j and %j: %s', (a, b, same) => {
    expect(sameValue(a, b)).toBe(same);
    expect(sameValue(b, a)).toBe(same);
  });

  it('compares with tolerance, order and types as asked', () => {
    expect(sameValue(float('0.30000000000000004'), float('0.3'), { tolerance: 1e-9 })).toBe(true);
    expect(sameValue(float('1.001'), int('1'), { tolerance: 1e-4 })).toBe(false);
    const [a, b] = [toWire([1, 2.5, 3]), toWire([3, 1, 2.5000001])];
    expect(sameValue(a, b, { unordered: true, tolerance: 1e-6 })).toBe(true);
    expect(sameValue(a, b, { unordered: true })).toBe(false);
    expect(sameValue(toWire([1, 1, 2]), toWire([1, 2, 2]), { unordered: true })).toBe(false);
    expect(sameValue(['t', []], ['l', []], { tuplesAreLists: false })).toBe(false);
    // A greedy match would pair 0.5 with 0.9 and leave 1.3 alone.
    const tolerant = { unordered: true, tolerance: 0.5 };
    expect(sameValue(toWire([0.9, 0.5]), toWire([0.5, 1.3]), tolerant)).toBe(true);
  });

  const json = fc.jsonValue({ noUnicodeString: false }) as fc.Arbitrary<Json>;

  it('equal themselves and what is written the same', () => {
    fc.assert(
      fc.property(json, (value) => {
        const wire = toWire(value);
        const again = JSON.parse(JSON.stringify(wire)) as Wire;
        expect(isPlain(wire)).toBe(true);
        expect(sameValue(wire, again)).toBe(true);
        expect(canonical(again)).toBe(canonical(wire));
      }),
      { numRuns: 200 },
    );
  });

  it('have equal canonical texts exactly when they are equal', () => {
    fc.assert(
      fc.property(json, json, (a, b) => {
        const [x, y] = [toWire(a), toWire(b)];
        expect(canonical(x) === canonical(y)).toBe(sameValue(x, y));
      }),
      { numRuns: 300 },
    );
  });
});

describe('printed text', () => {
  it.each<[string, string, object, boolean]>([
    ['1 2 \n3\n\n', '1 2\n3', {}, true],
    ['1  2', '1 2', {}, false],
    ['1 2\n', '1 2', { mode: 'exact' }, false],
    ['1.50 x\n', '1.5\nx', { mode: 'tokens' }, true],
    ['0.3333334', '0.3333333', { mode: 'tokens', tolerance: 1e-6 }, true],
    ['0.3333334', '0.3333333', { mode: 'tokens' }, false],
    ['9007199254740993', '9007199254740992', { mode: 'tokens', tolerance: 1 }, false],
    ['nan', 'NaN', { mode: 'tokens' }, false],
    ['Yes', 'yes', { mode: 'tokens' }, false],
    ['4', '', { checker: (output: string, input: string) => Number(output) === 2 * Number(input) }, true],
    ['5', '', { checker: () => 1 as unknown as boolean }, false],
    [
      '5',
      '',
      {
        checker: () => {
          throw new Error('bad');
        },
      },
      false,
    ],
  ])('%j against %j with %j: %s', (output, expected, options, same) => {
    expect(samePrinted(output, expected, '2', options)).toBe(same);
  });
});
