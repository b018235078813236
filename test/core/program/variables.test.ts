import { describe, expect, it } from 'vitest';
import { AnnealError, program, type Tensor, tensor, variable, zeros } from '../../../src/index.js';
import { floats, named, rejection } from './helpers.js';

describe('variables', () => {
  it('are shared by programs', async () => {
    const w = named('w', [1, 2]);
    const grow = program({ x: [2] }, ({ x }) => {
      w.assign(w.add(x));
      return {};
    });
    const twice = program({}, () => ({ y: w.mul(2) }));
    await grow({ x: floats(10, 20) });
    expect((await twice({})).y.toArray()).toEqual([22, 44]);
    await grow({ x: floats(1, 1) });
    expect((await twice({})).y.toArray()).toEqual([24, 46]);
    w.set([0, -1]);
    expect((await twice({})).y.toArray()).toEqual([0, -2]);
    expect(twice.runSync({}).y.toArray()).toEqual([0, -2]);
  });

  it('are read as copies', async () => {
    const w = named('w', [1]);
    const before = w.read();
    await program({}, () => {
      w.assign(w.add(1));
      return {};
    })({});
    expect([before, w.read()]).toEqual([floats(1), floats(2)]);
    expect(() => w.set([1, 2])).toThrow('set: w has 1 elements, the new value 2');
  });

  it('start with any value that constants and variables determine', () => {
    const w = named('w', [1, 2]);
    expect(variable(w.mul(3).add(tensor([1, 1]))).read()).toEqual(floats(4, 7));
    expect(variable(zeros([2, 2])).read()).toEqual(floats(0, 0, 0, 0));
    // Integers divide as they do at run time.
    expect(variable(tensor(Int32Array.of(5, -5)).div(2).mul(2)).read()).toEqual(Int32Array.of(4, -4));
  });

  it('refuse assignments outside of a trace, twice, and of another type', async () => {
    const w = named('w', [1, 2]);
    expect(() => w.assign(w)).toThrow('w can be assigned only while a program is traced; use set()');
    const twice = program({}, () => {
      w.assign(w.add(1));
      w.assign(w.add(2));
      return {};
    });
    await expect(twice.compile({})).rejects.toThrow('assign: w is assigned twice in one program');
    const wrong = program({}, () => {
      w.assign(tensor([[1, 2]]));
      return {};
    });
    await expect(wrong.compile({})).rejects.toThrow('assign: w is float32[2], its new value float32[1,2]');
    expect(w.read()).toEqual(floats(1, 2));
  });
});

describe('t.value()', () => {
  it('computes from constants and variables, now', async () => {
    const w = named('w', [1, 2]);
    const y = w.mul(tensor([[3], [4]]));
    expect((await y.value()).toArray()).toEqual([
      [3, 6],
      [4, 8],
    ]);
    w.set([0, 1]);
    expect((await y.sum().value()).item()).toBe(7);
    expect((await tensor(5).value()).toArray()).toBe(5);
    expect((await w.value()).toArray()).toEqual([0, 1]);
  });

  it('has numbers that take part in arithmetic', async () => {
    const value = await tensor(2).value();
    expect(Number(value) + 1).toBe(3);
    expect(`${value}`).toBe('2');
    expect(String(await tensor([1, 2]).value())).toBe('float32[2]');
    await expect(
      tensor([1, 2])
        .value()
        .then((v) => v.item()),
    ).rejects.toThrow('item: the value has shape [2], not one element; read .data');
  });

  it('refuses tensors that depend on an input', async () => {
    let kept: Tensor | undefined;
    await program({ x: [1] }, ({ x }) => {
      kept = x.add(1);
      return { kept };
    })({ x: 1 });
    const error = await rejection(kept!.value());
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toContain('input "x"');
  });
});
