import { describe, expect, it } from 'vitest';
import {
  identity,
  mul,
  program,
  sum,
  type Tensor,
  tensor,
  type Variable,
  zeros,
} from '../../../src/index.js';
import { floats, named } from './helpers.js';

/** Small programs over variables a and b of [4, 6] with hand-written models of what they mean. */
interface Semantics {
  body: (a: Variable, b: Variable) => Record<string, Tensor>;
  /** From the old values: the new a and b and the outputs. */
  model: (a: number[], b: number[]) => { a: number[]; b: number[]; outputs?: Record<string, number[]> };
  /** Whether a's new value is written over its old one; undefined: it may or may not. */
  inPlace?: boolean;
}

const [rows, columns] = [4, 6];
const zip = (x: number[], y: number[], f: (x: number, y: number) => number) => x.map((v, i) => f(v, y[i]!));
const plus = (x: number[], y: number[]) => zip(x, y, (p, q) => p + q);
const scale = (x: number[], factor: number) => x.map((v) => v * factor);
/** x as [m, n], transposed. */
const turn = (x: number[], m: number, n: number) => x.map((_, i) => x[(i % m) * n + Math.floor(i / m)]!);
const times = (x: number[], y: number[], m: number, k: number, n: number) =>
  Array.from({ length: m * n }, (_, i) => {
    let total = 0;
    for (let l = 0; l < k; l++) total += x[Math.floor(i / n) * k + l]! * y[l * n + (i % n)]!;
    return total;
  });
const square = Array.from({ length: columns * columns }, (_, i) => ((i * 7) % 11) / 8 - 0.5);
const constantSquare = () => tensor(Float32Array.from(square), [columns, columns]);

const semantics: Record<string, Semantics> = {
  'a ← a + b': {
    body: (a, b) => {
      a.assign(a.add(b));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b }),
    inPlace: true,
  },
  'a ← a + b, and a returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { old: a };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { old: a } }),
    inPlace: false,
  },
  'a ← a + b, and 2a returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { double: a.mul(2) };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { double: scale(a, 2) } }),
    inPlace: false,
  },
  'a ← a + b, and the new value returned': {
    body: (a, b) => {
      const next = a.add(b);
      a.assign(next);
      return { next };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { next: plus(a, b) } }),
  },
  'a ← 2a + b - a': {
    body: (a, b) => {
      a.assign(a.mul(2).add(b).sub(a));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b }),
    inPlace: true,
  },
  swap: {
    body: (a, b) => {
      a.assign(b);
      b.assign(a);
      return {};
    },
    model: (a, b) => ({ a: b, b: a }),
    inPlace: false,
  },
  'swap with arithmetic': {
    body: (a, b) => {
      a.assign(b.add(1));
      b.assign(a.mul(2));
      return {};
    },
    model: (a, b) => ({ a: b.map((v) => v + 1), b: scale(a, 2) }),
  },
  'Fibonacci: a ← b, b ← a + b': {
    body: (a, b) => {
      a.assign(b);
      b.assign(a.add(b));
      return {};
    },
    model: (a, b) => ({ a: b, b: plus(a, b) }),
  },
  'a ← a + b, b ← a - b': {
    body: (a, b) => {
      a.assign(a.add(b));
      b.assign(a.sub(b));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b: zip(a, b, (x, y) => x - y) }),
  },
  'b ← a + b read through the new a': {
    body: (a, b) => {
      const next = a.add(b);
      a.assign(next);
      b.assign(next.mul(b));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b: zip(plus(a, b), b, (x, y) => x * y) }),
  },
  'one value for both': {
    body: (a, b) => {
      const next = a.add(b);
      a.assign(next);
      b.assign(next);
      return { next };
    },
    model: (a, b) => ({ a: plus(a, b), b: plus(a, b), outputs: { next: plus(a, b) } }),
    inPlace: false,
  },
  'a ← a': {
    body: (a) => {
      a.assign(a);
      return {};
    },
    model: (a, b) => ({ a, b }),
    inPlace: false,
  },
  'a ← constant': {
    body: (a) => {
      a.assign(zeros([rows, columns]).add(3));
      return { old: a };
    },
    model: (a, b) => ({ a: a.map(() => 3), b, outputs: { old: a } }),
    inPlace: false,
  },
  'a ← identity of identity of b': {
    body: (a, b) => {
      a.assign(identity(identity(b)));
      return {};
    },
    model: (_, b) => ({ a: b, b }),
  },
  'a reshaped is returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { flat: a.reshape([rows * columns]) };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { flat: a } }),
    inPlace: false,
  },
  'a transposed is returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { turned: a.transpose() };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { turned: turn(a, rows, columns) } }),
    inPlace: false,
  },
  'a view of a view of a is read after': {
    body: (a, b) => {
      const view = a.reshape([columns, rows]).reshape([2, 12]).transpose();
      a.assign(a.sub(b));
      return { y: view.mul(3).exp().log() };
    },
    model: (a, b) => ({
      a: zip(a, b, (x, y) => x - y),
      b,
      outputs: { y: scale(turn(a, 2, 12), 3) },
    }),
    inPlace: false,
  },
  'a ← a + b with b a view of a': {
    body: (a, b) => {
      a.assign(a.add(a.reshape([columns, rows]).transpose()));
      return { b };
    },
    model: (a, b) => ({ a: plus(a, turn(a, columns, rows)), b, outputs: { b } }),
  },
  'a ← a · its column sums': {
    body: (a) => {
      a.assign(a.mul(a.sum(0)));
      return {};
    },
    model: (a, b) => {
      const sums = a
        .slice(0, columns)
        .map((_, j) => a.reduce((s, v, i) => (i % columns === j ? s + v : s), 0));
      return { a: a.map((v, i) => v * sums[i % columns]!), b };
    },
    inPlace: true,
  },
  'a ← b·S + a': {
    body: (a, b) => {
      a.assign(b.matmul(constantSquare()).add(a));
      return {};
    },
    model: (a, b) => ({ a: plus(times(b, square, rows, columns, columns), a), b }),
    inPlace: true,
  },
  'a ← a·S + a': {
    body: (a) => {
      a.assign(a.matmul(constantSquare()).add(a));
      return {};
    },
    model: (a, b) => ({ a: plus(times(a, square, rows, columns, columns), a), b }),
    inPlace: false,
  },
  'a ← (reshaped a)ᵀ·S + a': {
    body: (a) => {
      a.assign(a.reshape([columns, rows]).transpose().matmul(constantSquare()).add(a));
      return {};
    },
    model: (a, b) => ({ a: plus(times(turn(a, columns, rows), square, rows, columns, columns), a), b }),
    inPlace: false,
  },
  'momentum: b ← b/2 + a, a ← a - b': {
    body: (a, b) => {
      const next = b.mul(0.5).add(a);
      b.assign(next);
      a.assign(a.sub(next));
      return { norm: sum(mul(next, next)) };
    },
    model: (a, b) => {
      const next = plus(scale(b, 0.5), a);
      return {
        a: zip(a, next, (x, y) => x - y),
        b: next,
        outputs: { norm: [next.reduce((s, v) => s + v * v, 0)] },
      };
    },
  },
};

describe('assignments: reads see the values from before the run', () => {
  it.each(Object.keys(semantics))('%s', async (name) => {
    const { body, model, inPlace } = semantics[name]!;
    const start = (offset: number) =>
      Array.from({ length: rows * columns }, (_, i) => ((i * 5 + offset) % 13) / 8 - 0.5);
    let [a, b] = [start(1), start(4)];
    const [va, vb] = [named('a', a, [rows, columns]), named('b', b, [rows, columns])];
    const { data } = va;
    const run = program({}, () => body(va, vb), { name });
    const close = (got: ArrayLike<number>, want: number[], what: string) => {
      expect(got.length, what).toBe(want.length);
      const largest = Math.max(1, ...want.map(Math.abs));
      want.forEach((v, i) => {
        expect(Math.abs(got[i]! - v), `${what}[${i}]: ${got[i]} against ${v}`).toBeLessThan(4e-6 * largest);
      });
    };
    // Asynchronous and synchronous runs in turn; three, so that swapped buffers come round.
    for (let i = 0; i < 3; i++) {
      const want = model(a, b);
      const got: Record<string, { data: ArrayLike<number> }> = i === 1 ? run.runSync({}) : await run({});
      if (i === 0 && inPlace !== undefined) expect(va.data === data, 'written in place').toBe(inPlace);
      expect(Object.keys(got)).toEqual(Object.keys(want.outputs ?? {}));
      for (const [key, values] of Object.entries(want.outputs ?? {})) close(got[key]!.data, values, key);
      [a, b] = [want.a, want.b];
      close(va.read(), a, 'a');
      close(vb.read(), b, 'b');
    }
    run.dispose();
  });

  it('keeps the result of an earlier run as it was', async () => {
    const w = named('w', [1, 2]);
    const run = program({}, () => {
      const next = w.add(1);
      w.assign(next);
      return { w, next };
    });
    const first = await run({});
    await run({});
    expect([first.w.toArray(), first.next.toArray()]).toEqual([
      [1, 2],
      [2, 3],
    ]);
  });

  it('copies what is fed', async () => {
    const w = named('w', [0, 0]);
    const run = program({ x: [2] }, ({ x }) => {
      w.assign(x);
      return { x };
    });
    const feed = floats(1, 2);
    const { x } = await run({ x: feed });
    feed.fill(9);
    expect([w.read(), x.data]).toEqual([floats(1, 2), floats(1, 2)]);
  });
});
