import { describe, expect, it } from 'vitest';
import {
  AnnealError,
  bool,
  cast,
  concat,
  float64,
  int32,
  matmul,
  program,
  sum,
  variable,
  zeros,
} from '../../../src/index.js';
import { floats, ramp, rejection } from './helpers.js';

describe('inputs', () => {
  it('learn open sizes from the data', async () => {
    const run = program({ x: [null, 3] }, ({ x }) => ({ y: x.sum(1) }));
    expect((await run({ x: ramp(6) })).y.toArray()).toEqual([6, 15]);
    expect((await run({ x: ramp(3) })).y.toArray()).toEqual([6]);
    expect(run.runSync({ x: ramp(6) }).y.shape).toEqual([2]);
    expect((await run({ x: new Float32Array(0) })).y.shape).toEqual([0]);
  });

  it('take values of other programs, whose shape is known', async () => {
    const make = program({ x: [4, 3] }, ({ x }) => ({ y: x.mul(2) }));
    const use = program({ a: [null, null] }, ({ a }) => ({ s: a.sum(0) }));
    const { y } = await make({ x: ramp(12) });
    expect((await use({ a: y })).s.toArray()).toEqual([44, 52, 60]);
    expect((await rejection(use.compile({ a: ramp(12) }))).message).toBe(
      'input "a": expected f32[?,?], got data whose shape is not known; pass a Value, or leave one size open',
    );
  });

  it('take numbers for scalars of every dtype', async () => {
    const run = program({ f: [], d: float64([]), i: int32([]), b: bool([]) }, ({ f, d, i, b }) => ({
      f: f.mul(2),
      d: d.mul(2),
      i: i.mul(2),
      b: cast(b, 'float32'),
    }));
    const { f, d, i, b } = await run({ f: 0.5, d: 0.1, i: 7, b: 1 });
    expect([f.item(), d.item(), i.item(), b.item()]).toEqual([1, 0.2, 14, 1]);
    expect([f.shape, f.dtype, d.dtype, i.dtype]).toEqual([[], 'float32', 'float64', 'int32']);
  });

  const run = program({ x: [2, 3], y: int32([null]) }, ({ x, y }) => ({ s: sum(x), t: sum(y) }), {
    name: 'run',
  });
  const y = Int32Array.of(1);
  it.each<[string, Record<string, unknown>, string]>([
    ['that are unknown', { x: ramp(6), y, z: y }, 'run: unknown input "z"; it has: x, y'],
    ['that are missing', { x: ramp(6) }, 'input "y": expected i32[?], got nothing'],
    ['of a wrong length', { x: ramp(5), y }, 'input "x": expected f32[2,3], got 5 elements'],
    ['of a wrong dtype', { x: new Float64Array(6), y }, 'input "x": expected f32[2,3], got Float64Array'],
    ['of a wrong integer type', { x: ramp(6), y: ramp(1) }, 'input "y": expected i32[?], got Float32Array'],
    ['that are a number', { x: 1, y }, 'input "x": expected f32[2,3], got 1 elements'],
  ])('%s are refused, as a rejection', async (_, feeds, message) => {
    const call = run(feeds as never);
    const error = await rejection(call);
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toBe(message);
    expect((await rejection(run.compile(feeds as never))).message).toBe(message);
  });

  it('refuse values of another shape or dtype', async () => {
    const { v } = await program({ x: [3, 2] }, ({ x }) => ({ v: x }))({ x: ramp(6) });
    expect((await rejection(run.compile({ x: v, y }))).message).toBe(
      'input "x": expected f32[2,3], got f32[3,2]',
    );
    expect((await rejection(run.compile({ x: ramp(6), y: v }))).message).toBe(
      'input "y": expected i32[?], got f32[3,2]',
    );
  });

  it('may be scalars and have no elements', async () => {
    const w = variable(zeros([0, 3]), { name: 'w' });
    const empty = program({ s: [], x: [2, 3], z: [0, 3] }, ({ s, x, z }) => {
      w.assign(w.mul(s));
      return {
        s,
        joined: concat([x, z, w]),
        none: z.add(s),
        total: sum(z),
        product: matmul(z, x.transpose()),
      };
    });
    const { s, joined, none, total, product } = await empty({ s: 2, x: ramp(6), z: new Float32Array(0) });
    expect([s.item(), s.shape]).toEqual([2, []]);
    expect(joined.toArray()).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect([none.shape, none.data, total.item(), product.shape]).toEqual([[0, 3], floats(), 0, [0, 2]]);
    expect(w.read()).toEqual(floats());
  });
});
