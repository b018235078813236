import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  grad,
  interpret,
  type PathOptions,
  pathAttention,
  program,
  Rng,
  stickBreakingAttention,
  sum,
  type Tensor,
  tensor,
} from '../../src/index.js';

interface Shape {
  batch: number;
  heads: number;
  kvHeads: number;
  length: number;
  d: number;
  dv: number;
}
interface Arrays {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  w: Float64Array;
  beta: Float64Array;
  gate: Float64Array;
}

const names = ['q', 'k', 'v', 'w', 'beta'] as const;
const shapesOf = ({ batch: b, heads: h, kvHeads: g, length: l, d, dv }: Shape) => ({
  q: [b, h, l, d],
  k: [b, g, l, d],
  v: [b, g, l, dv],
  w: [b, g, l, d],
  beta: [b, g, l],
  gate: [b, h, l],
});

function random(shape: Shape, seed: number): Arrays {
  const rng = new Rng(seed);
  const draw = (s: readonly number[]) => Float64Array.from(rng.normal(s.reduce((a, b) => a * b)));
  const shapes = shapesOf(shape);
  const w = draw(shapes.w);
  for (let i = 0; i < w.length; i += shape.d) {
    const norm = Math.hypot(...w.subarray(i, i + shape.d));
    for (let j = 0; j < shape.d; j++) w[i + j]! /= norm;
  }
  return {
    q: draw(shapes.q),
    k: draw(shapes.k),
    v: draw(shapes.v),
    w,
    beta: draw(shapes.beta).map((x) => 2 / (1 + Math.exp(-x))),
    gate: draw(shapes.gate).map((x) => -Math.log1p(Math.exp(-x))),
  };
}

/** Equation 2 of the paper, literally: every key is transformed by every later position, one after the other. */
function literal(
  shape: Shape,
  a: Arrays,
  options: { gate?: boolean; gateScale?: number; documents?: number[] } = {},
): Float64Array {
  const { batch, heads, kvHeads, length, d, dv } = shape;
  const out = new Float64Array(batch * heads * length * dv);
  const scale = 1 / Math.sqrt(d);
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++) {
      const kv = b * kvHeads + Math.floor((h * kvHeads) / heads);
      const own = b * heads + h;
      const cache: number[][] = [];
      for (let i = 0; i < length; i++) {
        const w = a.w.subarray((kv * length + i) * d, (kv * length + i + 1) * d);
        for (const key of cache) {
          const dot = key.reduce((total, x, c) => total + x * w[c]!, 0) * a.beta[kv * length + i]!;
          for (let c = 0; c < d; c++) key[c]! -= dot * w[c]!;
        }
        cache.push(Array.from(a.k.subarray((kv * length + i) * d, (kv * length + i + 1) * d)));
        const q = a.q.subarray((own * length + i) * d, (own * length + i + 1) * d);
        let gates = 0;
        const logits = new Array<number>(i + 1).fill(Number.NEGATIVE_INFINITY);
        for (let j = i; j >= 0; j--) {
          if (options.documents && options.documents[i] !== options.documents[j]) break;
          logits[j] =
            scale * cache[j]!.reduce((total, x, c) => total + x * q[c]!, 0) +
            (options.gateScale ?? 1) * gates;
          if (options.gate) gates += a.gate[own * length + j]!;
        }
        const top = Math.max(...logits);
        const e = logits.map((x) => Math.exp(x - top));
        const all = e.reduce((x, y) => x + y);
        e.forEach((share, j) => {
          for (let c = 0; c < dv; c++)
            out[(own * length + i) * dv + c]! += (share / all) * a.v[(kv * length + j) * dv + c]!;
        });
      }
    }
  return out;
}

const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - b[i]!)), 0);

const tensors = (shape: Shape, a: Arrays) =>
  Object.fromEntries(
    names.map((name) => [name, tensor(a[name], shapesOf(shape)[name], 'float64')]),
  ) as Record<(typeof names)[number], Tensor>;

function evaluate(shape: Shape, a: Arrays, options: PathOptions = {}): Float64Array {
  const t = tensors(shape, a);
  return interpret([pathAttention(t.q, t.k, t.v, t.w, t.beta, options)])[0]!.data as Float64Array;
}

describe('pathAttention', () => {
  const shape: Shape = { batch: 2, heads: 4, kvHeads: 2, length: 11, d: 4, dv: 3 };

  it('is the literal definition for any sizes and block size', () => {
    fc.assert(
      fc.property(
        fc.record({
          batch: fc.integer({ min: 1, max: 2 }),
          kvHeads: fc.integer({ min: 1, max: 2 }),
          group: fc.integer({ min: 1, max: 3 }),
          length: fc.integer({ min: 1, max: 20 }),
          d: fc.integer({ min: 1, max: 6 }),
          dv: fc.integer({ min: 1, max: 5 }),
          blockSize: fc.integer({ min: 1, max: 24 }),
          seed: fc.nat(),
        }),
        ({ group, blockSize, seed, ...sizes }) => {
          const random_: Shape = { ...sizes, heads: group * sizes.kvHeads };
          const a = random(random_, seed);
          expect(worst(evaluate(random_, a, { blockSize }), literal(random_, a))).toBeLessThan(1e-11);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('with gates is PaTH-FoX, in both conventions', () => {
    const a = random(shape, 3);
    const logGate = tensor(a.gate, shapesOf(shape).gate, 'float64');
    expect(
      worst(evaluate(shape, a, { logGate, blockSize: 4 }), literal(shape, a, { gate: true })),
    ).toBeLessThan(1e-12);
    const scaled = evaluate(shape, a, { logGate, gateScale: 'attention', blockSize: 4 });
    expect(worst(scaled, literal(shape, a, { gate: true, gateScale: 0.5 }))).toBeLessThan(1e-12);
  });

  it('keeps packed documents apart', () => {
    const a = random(shape, 4);
    const documents = [0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 3];
    const mask = tensor(
      Float64Array.from({ length: 121 }, (_, i) =>
        documents[Math.floor(i / 11)] === documents[i % 11] ? 0 : -1e9,
      ),
      [1, 1, 11, 11],
      'float64',
    );
    expect(worst(evaluate(shape, a, { mask, blockSize: 4 }), literal(shape, a, { documents }))).toBeLessThan(
      1e-12,
    );
  });

  it('depends on what lies between two positions only: later and earlier tokens change nothing', () => {
    const long = random(shape, 5);
    const base = evaluate(shape, long, { blockSize: 4 });
    const changed = random(shape, 6);
    // Everything from position 7 on replaced: rows before it stay the same to the last bit of rounding.
    for (const name of names) {
      const per =
        long[name].length / (shape.batch * (name === 'q' ? shape.heads : shape.kvHeads) * shape.length);
      for (let i = 0; i < long[name].length; i++)
        if (Math.floor(i / per) % shape.length < 7) changed[name][i] = long[name][i]!;
    }
    const after = evaluate(shape, changed, { blockSize: 4 });
    base.forEach((x, i) => {
      if (Math.floor(i / shape.dv) % shape.length < 7) expect(after[i]).toBeCloseTo(x, 12);
    });
  });

  it('without reflections is attention without positions: a permutation of earlier keys changes nothing', () => {
    const one: Shape = { batch: 1, heads: 1, kvHeads: 1, length: 6, d: 3, dv: 2 };
    const a = random(one, 7);
    a.beta.fill(0);
    const swapped: Arrays = { ...a, k: a.k.slice(), v: a.v.slice() };
    const order = [3, 1, 4, 0, 2, 5];
    order.forEach((from, to) => {
      swapped.k.set(a.k.subarray(from * 3, from * 3 + 3), to * 3);
      swapped.v.set(a.v.subarray(from * 2, from * 2 + 2), to * 2);
    });
    const last = (y: Float64Array) => y.subarray(10);
    expect(worst(last(evaluate(one, a)), last(evaluate(one, swapped)))).toBeLessThan(1e-12);
  });

  it('stays right on identical tokens that reflect almost fully', async () => {
    const stress: Shape = { batch: 1, heads: 1, kvHeads: 1, length: 256, d: 32, dv: 4 };
    const a = random(stress, 8);
    for (let i = 0; i < a.w.length; i++) a.w[i] = a.w[i % 32]!;
    a.beta.fill(1.99);
    const shapes = shapesOf(stress);
    const run = program(
      Object.fromEntries(names.map((n) => [n, shapes[n]])) as Record<(typeof names)[number], number[]>,
      (t) => {
        const y = pathAttention(t.q, t.k, t.v, t.w, t.beta, { blockSize: 64 });
        return {
          y,
          g: grad(sum(y.mul(y)), [t.w, t.beta, t.k])
            .map((x) => sum(x.mul(x)))
            .reduce((x, z) => x.add(z)),
        };
      },
    );
    const { y, g } = await run(Object.fromEntries(names.map((n) => [n, Float32Array.from(a[n])])) as never);
    expect(worst(y.data, literal(stress, a))).toBeLessThan(1e-3);
    expect(Number.isFinite(g.item())).toBe(true);
  });

  it('in float32 stays within 3e-5 of the definition', async () => {
    const large: Shape = { batch: 1, heads: 2, kvHeads: 2, length: 300, d: 32, dv: 32 };
    const a = random(large, 9);
    const shapes = shapesOf(large);
    const run = program(
      Object.fromEntries(names.map((n) => [n, shapes[n]])) as Record<(typeof names)[number], number[]>,
      (t) => ({ y: pathAttention(t.q, t.k, t.v, t.w, t.beta) }),
    );
    const { y } = await run(Object.fromEntries(names.map((n) => [n, Float32Array.from(a[n])])) as never);
    expect(worst(y.data, literal(large, a))).toBeLessThan(3e-5);
  });

  it('has the gradients of finite differences for every input', () => {
    const small: Shape = { batch: 1, heads: 2, kvHeads: 1, length: 7, d: 3, dv: 2 };
    const a = random(small, 10);
    const weights = tensor(Float64Array.from(new Rng(11).normal(28)), [1, 2, 7, 2], 'float64');
    const loss = (arrays: Arrays, wrt?: boolean) => {
      const t = tensors(small, arrays);
      const logGate = tensor(arrays.gate, shapesOf(small).gate, 'float64');
      const out = sum(pathAttention(t.q, t.k, t.v, t.w, t.beta, { blockSize: 3, logGate }).mul(weights));
      const leaves = [...names.map((n) => t[n]), logGate];
      return wrt ? interpret(grad(out, leaves)).map((x) => x.data) : interpret([out]).map((x) => x.data);
    };
    const analytic = loss(a, true);
    ([...names, 'gate'] as (keyof Arrays)[]).forEach((name, n) => {
      for (let i = 0; i < a[name].length; i++) {
        const at = (by: number) => {
          const moved = a[name].slice();
          moved[i]! += by;
          return loss({ ...a, [name]: moved })[0]![0]!;
        };
        const numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        expect(Math.abs(analytic[n]![i]! - numeric), `${name}[${i}]`).toBeLessThan(
          1e-8 * Math.max(1, Math.abs(numeric)) + 1e-8,
        );
      }
    });
  });

  it('names what does not fit', () => {
    const t = tensors(shape, random(shape, 1));
    expect(() => pathAttention(t.q, t.k, t.v, t.v, t.beta)).toThrow('w must have the shape of k');
    expect(() => pathAttention(t.q, t.k, t.v, t.w, t.w)).toThrow('beta must be');
  });
});

describe('stickBreakingAttention', () => {
  const sizes = { b: 1, h: 2, d: 3, dv: 2 };
  const draw = (length: number, seed: number) => {
    const rng = new Rng(seed);
    const make = (size: number) =>
      tensor(
        Float64Array.from(rng.normal(sizes.b * sizes.h * length * size)),
        [sizes.b, sizes.h, length, size],
        'float64',
      );
    return [make(sizes.d), make(sizes.d), make(sizes.dv)] as const;
  };

  it.each([
    [5, false],
    [70, false],
    [150, true],
  ])('breaks the stick as defined, %d positions, current %s', (length, attendCurrent) => {
    const [q, k, v] = draw(length, length);
    const [y] = interpret([stickBreakingAttention(q, k, v, { attendCurrent })]);
    const data = (t: Tensor) => t.node.payload as Float64Array;
    for (let h = 0; h < sizes.h; h++)
      for (let i = 0; i < length; i++) {
        const row = (t: Tensor, at: number, size: number) =>
          data(t).subarray((h * length + at) * size, (h * length + at + 1) * size);
        let left = 1;
        const want = new Array<number>(sizes.dv).fill(0);
        for (let j = attendCurrent ? i : i - 1; j >= 0; j--) {
          const key = row(k, j, sizes.d);
          const z = row(q, i, sizes.d).reduce((total, x, c) => total + x * key[c]!, 0) / Math.sqrt(sizes.d);
          const share = left / (1 + Math.exp(-z));
          row(v, j, sizes.dv).forEach((x, c) => {
            want[c]! += share * x;
          });
          left -= share;
        }
        row(v, i, sizes.dv).forEach((x, c) => {
          want[c]! += left * x;
        });
        want.forEach((x, c) => {
          expect(y!.data[(h * length + i) * sizes.dv + c]).toBeCloseTo(x, 10);
        });
      }
  });

  it('gives the first token its own value', () => {
    const [q, k, v] = draw(3, 1);
    const [y] = interpret([stickBreakingAttention(q, k, v)]);
    expect(Array.from(y!.data.subarray(0, 2))).toEqual(
      Array.from((v.node.payload as Float64Array).subarray(0, 2)),
    );
  });

  it('of the last queries equals the last rows of all', () => {
    const [q, k, v] = draw(9, 2);
    const late = q.slice(null, null, [5, 9]);
    const [all, some] = interpret([stickBreakingAttention(q, k, v), stickBreakingAttention(late, k, v)]);
    for (let h = 0; h < 2; h++)
      for (let i = 0; i < 8; i++) expect(some!.data[h * 8 + i]).toBeCloseTo(all!.data[h * 18 + 10 + i]!, 13);
  });
});
