import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import { configure, matmul, program, Rng, type Tensor } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import type { InstructionSet } from '../../src/native/instructions.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { compileMatvec, matvecOperator } from '../../src/native/matvec-kernel.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sets: readonly InstructionSet[] = support.sets;

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });

/** x [1, k] · wᵀ, or w · x [k, 1], for w [n, k]; with a vector to add. */
function requestOf(n: number, k: number, matrixFirst: boolean, addend: boolean): KernelRequest {
  const inputs = matrixFirst ? [type(n, k), type(k, 1)] : [type(1, k), type(n, k)];
  if (addend) inputs.push(matrixFirst ? type(n, 1) : type(n));
  return {
    kind: addend ? 'gemm' : 'matmul',
    attributes: { transA: 0, transB: matrixFirst ? 0 : 1, alpha: 1, triangle: 0 },
    inputs,
    outputs: [matrixFirst ? type(n, 1) : type(1, n)],
  };
}

const array = (values: ArrayLike<number>) => {
  const data = allocate('float32', values.length) as Float32Array;
  data.set(Array.from(values));
  return data;
};

describe.each(sets)('a matrix times a vector in %s', (set) => {
  /** Runs the tasks from the last to the first; checks that nothing behind the result changes. */
  function run(n: number, k: number, matrixFirst: boolean, addend: boolean) {
    if (support.reason !== undefined) throw new Error(support.reason);
    const { koffi, install } = support;
    const operator = matvecOperator(requestOf(n, k, matrixFirst, addend))!;
    const task = koffi.decode(
      install(compileMatvec(operator.code, set)),
      koffi.proto('void', ['void *', 'size_t']),
    ) as (frame: BigUint64Array, index: number) => void;
    const rng = new Rng(n + k);
    const [w, x, c] = [array(rng.normal(n * k)), array(rng.normal(k)), array(rng.normal(n))];
    const y = array(Array(n + 40).fill(7));
    const frame = pointerArray(8);
    const operands = [...(matrixFirst ? [w, x] : [x, w]), ...(addend ? [c] : []), y];
    [operator.parameters, ...operands].forEach((operand, i) => {
      frame[i] = koffi.address(operand);
    });
    for (let i = operator.tasks - 1; i >= 0; i--) task(frame, i);
    expect(y.subarray(n).every((v) => v === 7)).toBe(true);
    return { w, x, c, y: y.subarray(0, n), tasks: operator.tasks };
  }

  // Whole groups of vectors, single ones behind them, and none but those; one task and many, the last one short.
  const sizes = [
    [2048, 16],
    [1000, 48],
    [515, 80],
    [512, 128],
    [301, 576],
    [23, 1536],
    [1, 32768],
    [3, 40000],
  ] as const;
  it.each(sizes)('%i x %i against float64', (n, k) => {
    for (const matrixFirst of [false, true]) {
      for (const addend of [false, true]) {
        const { w, x, c, y, tasks } = run(n, k, matrixFirst, addend);
        expect(tasks).toBe(Math.ceil(n / Math.max(1, Math.floor(32768 / k))));
        let worst = 0;
        for (let i = 0; i < n; i++) {
          let sum = addend ? c[i]! : 0;
          for (let j = 0; j < k; j++) sum += w[i * k + j]! * x[j]!;
          worst = Math.max(worst, Math.abs(y[i]! - sum));
        }
        expect(worst / Math.sqrt(k)).toBeLessThan(2e-6);
      }
    }
  });

  it('serves programs: as a row, as a column, with an addend in place', async () => {
    const shapes = { x: [1, 64], w: [700, 64], c: [1, 700] };
    const body = ({ x, w, c }: Record<string, Tensor>) => ({
      row: matmul(x!, w!, { transposeB: true }),
      column: matmul(w!, x!.reshape([64, 1])),
      sum: matmul(x!.sub(0.5), w!, { transposeB: true }).add(c!),
    });
    const rng = new Rng(4);
    const data = { x: rng.normal(64), w: rng.normal(700 * 64), c: rng.normal(700) };
    const results = async (native: boolean) => {
      configure({ native });
      replaceKernels({ set });
      const p = program(shapes, body);
      const values = await p(data);
      return { values, kernels: p.report().kernels };
    };
    const [mine, plain] = [await results(true), await results(false)];
    expect(mine.kernels).toEqual({ matmul: 2, gemm: 1 });
    for (const name of ['row', 'column', 'sum'] as const) {
      const expected = plain.values[name].data;
      mine.values[name].data.forEach((v, i) => {
        expect(Math.abs(v - expected[i]!), `${name} ${i}`).toBeLessThan(2e-5);
      });
    }
  });
});

describe('requests that are no product with one vector', () => {
  const good = requestOf(512, 128, false, true);
  it.each<[string, Partial<KernelRequest>]>([
    ['another kind', { kind: 'convolution' }],
    ['an operand too few', { inputs: good.inputs.slice(0, 2) }],
    ['two rows', { inputs: [type(2, 128), type(512, 128), type(512)], outputs: [type(2, 512)] }],
    ['a matrix that is not stored by rows', { attributes: { transB: 0 } }],
    ['a factor', { attributes: { ...good.attributes, alpha: 2 } }],
    ['vectors that are not whole', { inputs: [type(1, 120), type(512, 120), type(512)] }],
    ['inner sizes that differ', { inputs: [type(1, 112), type(512, 128), type(512)] }],
    ['an addend of another length', { inputs: [type(1, 128), type(512, 128), type(1)] }],
    ['a result of another length', { outputs: [type(1, 511)] }],
    ['float64', { outputs: [{ dtype: 'float64', shape: [1, 512] }] }],
    ['little work', { inputs: [type(1, 128), type(8, 128), type(8)], outputs: [type(1, 8)] }],
  ])('have no operator: %s', (_, change) => {
    expect(matvecOperator(good)).toBeDefined();
    expect(matvecOperator({ ...good, ...change })).toBeUndefined();
  });
});
