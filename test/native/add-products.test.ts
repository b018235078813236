import { afterEach, describe, expect, it } from 'vitest';
import { configure, muon, program, Rng, tensor, type Variable, variable } from '../../src/index.js';
import { addProductsOperator } from '../../src/native/add-products.js';
import { detectSupport } from '../../src/native/cpu.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const rng = new Rng(5);
type Size = readonly [rows: number, columns: number];

function random(size: number, std = 1): Float32Array {
  const array = new Float32Array(new ArrayBuffer(Math.max(128, 4 * size)), 0, size);
  array.set(rng.normal(size).map((x) => std * x));
  return array;
}

const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });

function requestOf(m: number, sizes: readonly Size[], isScaled: boolean): KernelRequest {
  const matrices = sizes.map((size) => type(...size));
  const keep = isScaled ? [type()] : [];
  return {
    kind: 'addProducts',
    attributes: { count: sizes.length },
    inputs: [...matrices, ...matrices, type(sizes.length, m, m), ...keep],
    outputs: matrices,
  };
}

/** Runs all tasks in place over copies of `ws`; checks that nothing behind them changes. */
function run(
  request: KernelRequest,
  ws: readonly Float32Array[],
  others: readonly Float32Array[],
  isReversed = false,
): Float32Array[] {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { koffi, install } = support;
  const operator = addProductsOperator(request)!;
  const task = koffi.decode(install(operator.compile()), koffi.proto('void', ['void *', 'size_t'])) as (
    frame: BigUint64Array,
    index: number,
  ) => void;
  const results = ws.map((w) => {
    const copy = new Float32Array(new ArrayBuffer(4 * (w.length + 64))).fill(7);
    copy.set(w);
    return copy;
  });
  const tensors = [...results, ...others, ...results];
  const frame = pointerArray(tensors.length + 1);
  tensors.forEach((array, i) => {
    frame[1 + i] = koffi.address(array);
  });
  const order = [...Array(operator.tasks).keys()];
  for (const index of isReversed ? order.reverse() : order) task(frame, index);
  for (const [i, result] of results.entries())
    expect(result.subarray(ws[i]!.length).every((v) => v === 7)).toBe(true);
  return results.map((result, i) => result.slice(0, ws[i]!.length));
}

/** w·keep + p·y, or y·p where y is tall, in float64. */
function exact(
  m: number,
  [rows, columns]: Size,
  w: Float32Array,
  y: Float32Array,
  p: Float32Array,
  keep: number,
) {
  const isTall = rows > columns;
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) {
      let sum = keep * w[i * columns + j]!;
      for (let l = 0; l < m; l++)
        sum += isTall ? y[i * m + l]! * p[l * m + j]! : p[i * m + l]! * y[l * columns + j]!;
      result[i * columns + j] = sum;
    }
  return result;
}

const hasAvx512 = support.sets[0] === 'avx512';

describe.runIf(hasAvx512)('products added to several matrices', () => {
  // Panels of 48, 32 and 16 columns; one and several chunks, blocks of rows, matrices of a run and runs.
  it.each([
    [32, [[32, 48]]],
    [
      48,
      [
        [48, 48],
        [48, 64],
        [48, 64],
        [48, 64],
      ],
    ],
    [
      64,
      [
        [64, 192],
        [192, 64],
        [192, 64],
        [64, 64],
      ],
    ],
    [
      80,
      [
        [80, 256],
        [1104, 80],
      ],
    ],
    [416, [[416, 416]]],
  ] as [number, Size[]][])('on the smaller side %i', (m, sizes) => {
    for (const isScaled of [false, true]) {
      const request = requestOf(m, sizes, isScaled);
      const ws = sizes.map(([rows, columns]) => random(rows * columns));
      const ys = sizes.map(([rows, columns]) => random(rows * columns));
      const p = random(sizes.length * m * m);
      const keep = random(1);
      const others = [...ys, p, ...(isScaled ? [keep] : [])];
      const results = run(request, ws, others);
      sizes.forEach((size, i) => {
        const small = p.subarray(i * m * m, (i + 1) * m * m);
        const expected = exact(m, size, ws[i]!, ys[i]!, small, isScaled ? keep[0]! : 1);
        const error = expected.reduce((worst, v, at) => Math.max(worst, Math.abs(results[i]![at]! - v)), 0);
        expect(error / Math.sqrt(m)).toBeLessThan(3e-6);
      });
      // Tasks write apart: their order changes nothing, so neither does the number of threads.
      expect(run(request, ws, others, true)).toEqual(results);
    }
  });

  it('leave sizes alone that do not fit their tiles', () => {
    const find = (m: number, ...sizes: Size[]) => addProductsOperator(requestOf(m, sizes, false));
    expect(find(64, [64, 192])).toBeDefined();
    expect(find(64, [64, 200])).toBeUndefined();
    expect(find(64, [80, 192])).toBeUndefined();
    expect(find(16, [16, 192])).toBeUndefined();
    const request = requestOf(64, [[64, 192]], true);
    expect(
      addProductsOperator({ ...request, inputs: [...request.inputs.slice(0, -1), type(1)] }),
    ).toBeUndefined();
  });
});

describe.runIf(hasAvx512)("Muon's update by kernels", () => {
  afterEach(() => configure({ native: true }));

  it('is that of plain operators, for stacks of any mixture', async () => {
    configure({ threads: 2 });
    const sizes: Size[] = [
      [64, 192],
      [64, 64],
      [192, 64],
      [64, 192],
      [64, 256],
      [96, 96],
    ];
    const gradients = sizes.map(([rows, columns], i) =>
      tensor(random(rows * columns, 10 ** (i - 4)), [rows, columns]),
    );
    const start = sizes.map(([rows, columns]) => random(rows * columns, 0.1));
    const updated = async (native: boolean) => {
      configure({ native });
      const parameters = sizes.map((size, i) =>
        variable(tensor(start[i]!.slice(), [...size]), { name: `w${i}`, role: 'matrix' }),
      );
      const optimizer = muon({ lr: 0.1, weightDecay: 0.1 });
      const step = program({ x: [1] }, ({ x }) => {
        optimizer.apply(gradients, parameters);
        return { x: x.add(1) };
      });
      const x = new Float32Array(1);
      for (let i = 0; i < 3; i++) await step({ x });
      return { parameters, kernels: step.report().kernels };
    };
    const dataOf = (all: readonly Variable[]) => all.map(({ data }) => Array.from(data as Float32Array));
    const [mine, plain] = [await updated(true), await updated(false)];
    // Wide and tall ones in the Gram form; square ones of each size, in the direct one.
    expect(mine.kernels).toMatchObject({ momentum: 6, gramMatrices: 1, addProducts: 3 });
    expect(plain.kernels).toEqual({});
    const [a, b] = [dataOf(mine.parameters), dataOf(plain.parameters)];
    const worst = (x: readonly ArrayLike<number>[], y: readonly ArrayLike<number>[]) =>
      Math.max(
        ...x.map((values, i) =>
          Array.from(values).reduce((most, v, k) => Math.max(most, Math.abs(v - y[i]![k]!)), 0),
        ),
      );
    expect(worst(a, start)).toBeGreaterThan(0.05);
    expect(worst(a, b)).toBeLessThan(2e-5);
  });
});
