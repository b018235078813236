import { describe, expect, it } from 'vitest';
import { interleave, makeRow, median, quantile, ratio, summarise } from '../../bench/harness.js';
import { formatNumber, formatReport, formatTable } from '../../bench/report.js';

const base = { id: 'speed', what: 'speed against a peer', unit: 'x' } as const;

describe('met', () => {
  it.each([
    ['higher', 1.2, 1.1, true],
    ['higher', 1.1, 1.1, true],
    ['higher', 1.0, 1.1, false],
    ['lower', 0.5, 0.6, true],
    ['lower', 0.6, 0.6, true],
    ['lower', 0.7, 0.6, false],
  ] as const)('better %s: %d against %d is %s', (better, value, target, met) => {
    expect(makeRow({ ...base, better, value, target }).met).toBe(met);
  });

  it('is unknown without a value or without a target', () => {
    expect(makeRow({ ...base, better: 'higher', value: null, target: 1, note: 'no peer' }).met).toBeNull();
    expect(makeRow({ ...base, better: 'higher', value: 2 }).met).toBeNull();
  });

  it('treats a value that is not a number as missing', () => {
    const row = makeRow({ ...base, better: 'lower', value: Number.NaN, target: 1, note: 'the peer died' });
    expect(row).toMatchObject({ value: null, met: null });
  });

  it('refuses a missing value without a reason', () => {
    expect(() => makeRow({ ...base, better: 'higher', value: null })).toThrow('row speed has no value');
  });

  it('cannot be set by hand', () => {
    const spec = { ...base, better: 'higher', value: 0.5, target: 1, met: true } as const;
    expect(makeRow(spec).met).toBe(false);
  });

  it('has exactly the fields of the published format', () => {
    const row = makeRow({ ...base, better: 'higher', value: 1 });
    const fields = 'id what value unit better target met peer spread repeats note'.split(' ');
    expect(Object.keys(row)).toEqual(fields);
  });
});

describe('statistics', () => {
  it('interpolates quantiles of unsorted values', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(quantile([0, 10, 20, 30], 0.25)).toBe(7.5);
    expect(median([])).toBeNaN();
  });

  it('gives the interquartile range relative to the median as spread', () => {
    expect(summarise([8, 9, 10, 11, 12])).toMatchObject({ median: 10, spread: 0.2 });
    expect(summarise([5]).spread).toBe(0);
  });

  it('does not count drift that hits both sides of a ratio', () => {
    const [peer, ours] = [summarise([20, 30, 40]), summarise([10, 15, 20])];
    expect(ratio(peer, ours)).toEqual({ value: 2, spread: 0 });
  });

  it('lets contestants take turns', async () => {
    const turns: string[] = [];
    const turn = (name: string, value: number) => () => {
      turns.push(name);
      return value;
    };
    const pause = async () => void turns.push('pause');
    const samples = await interleave({ a: turn('a', 1), b: turn('b', 3) }, 2, pause);
    expect(turns).toEqual(['pause', 'a', 'pause', 'b', 'pause', 'a', 'pause', 'b']);
    expect([samples.a.median, samples.b.median]).toEqual([1, 3]);
  });
});

describe('report', () => {
  const rows = [
    makeRow({
      ...base,
      better: 'higher',
      value: 1.2345,
      target: 1.1,
      peer: 'PyTorch',
      spread: 0.034,
      repeats: 12,
    }),
    makeRow({ id: 'memory', what: 'memory', unit: 'x', better: 'lower', value: 0.71, target: 0.6 }),
    makeRow({
      id: 'jax',
      what: 'speed',
      unit: 'x',
      better: 'higher',
      value: null,
      target: 6,
      note: 'not installed',
    }),
    makeRow({ id: 'ms', what: 'step', unit: 'ms', better: 'lower', value: 1234.5 }),
  ];

  it('aligns columns and lists notes below', () => {
    expect(formatTable(rows)).toMatchInlineSnapshot(`
      "id      what                  value    target  met  spread  n   peer
      ------  --------------------  -------  ------  ---  ------  --  -------
      speed   speed against a peer  1.23 x   >= 1.1  yes  3 %     12  PyTorch
      memory  memory                0.71 x   <= 0.6  NO
      jax     speed                 -        >= 6    ?
      ms      step                  1235 ms

      jax: not installed"
    `);
  });

  it('counts met, missed and unmeasured targets, not the figures without one', () => {
    const machine = { cpu: 'A CPU', cores: 2, memoryGiB: 24, os: 'Linux', node: 'v20' };
    const text = formatReport({ suite: 'engine', machine, commit: 'abc', rows });
    expect(text.split('\n')[0]).toBe('engine: A CPU, 2 cores, 24 GiB, Node v20, commit abc');
    expect(text.split('\n').at(-1)).toBe('1 of 3 targets met, 1 missed, 1 not measured');
  });

  it.each([
    [1234.5, '1235'],
    [12.345, '12.3'],
    [1.2, '1.2'],
    [0, '0'],
    [0.00012, '1.2e-4'],
  ])('writes %d as %s', (value, text) => {
    expect(formatNumber(value)).toBe(text);
  });
});
