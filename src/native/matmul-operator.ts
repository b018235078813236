import type { KernelRequest } from '../runtime/backend.js';
import type { OperatorSpec } from './custom-op.js';
import {
  longestChunk,
  longestPackedChunk,
  type MatmulCode,
  matmulParameter,
  packedRows,
  rowsOf,
} from './matmul-layout.js';

/** A product for fixed shapes: its machine code's variant and the rest of an operator. */
export interface MatmulOperator extends Pick<OperatorSpec, 'tasks' | 'parameters' | 'inPlace'> {
  code: MatmulCode;
}

interface Sizes {
  batch: number;
  m: number;
  n: number;
  k: number;
}

/** Below so many multiply-adds the work is done before it is handed out. */
const smallest = 2 ** 15;
/** With fewer rows a panel of the right operand is not used often enough to pay for its packing. */
const fewestRows = { plain: 64, transposed: 16 };
/** Rows of the smallest block that a product is cut into for the sake of more tasks. */
const shortestBlock = 96;
/** Columns that exist among those that tiles compute: ONNX Runtime has narrower tiles for odd numbers of them. */
const smallestShare = 0.8;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** The sizes of a request whose shapes fit together; undefined otherwise. Emitted code trusts them. */
function sizesOf({ inputs, outputs, attributes }: KernelRequest): Sizes | undefined {
  const [a, b] = inputs.map(({ shape }) => shape);
  const y = outputs[0]?.shape;
  if (!a || !b || !y || outputs.length !== 1 || a.length < 2 || b.length < 2 || y.length < 2)
    return undefined;
  const last = (shape: readonly number[], isTurned: boolean) => {
    const [rows, columns] = shape.slice(-2) as [number, number];
    return isTurned ? [columns, rows] : [rows, columns];
  };
  const [rows, k] = last(a, attributes.transA === 1) as [number, number];
  const [depth, n] = last(b, attributes.transB === 1) as [number, number];
  const batchOf = (shape: readonly number[]) => shape.slice(0, -2);
  if (depth !== k || !same(y, [...batchOf(a), rows, n])) return undefined;
  // Rows of all matrices are one long matrix where the right operand is the same for all.
  if (b.length === 2 && attributes.transA !== 1) return { batch: 1, m: sizeOf(a.slice(0, -1)), n, k };
  return same(batchOf(a), batchOf(b)) ? { batch: sizeOf(batchOf(a)), m: rows, n, k } : undefined;
}

/** Columns of the tiles: those that leave the fewest lanes idle. */
function vectorsFor(n: number): 3 | 4 {
  const padded = (vectors: number) => Math.ceil(n / (16 * vectors)) * vectors;
  return padded(4) < padded(3) ? 4 : 3;
}

/** Whether emitted code was measured to be as fast as ONNX Runtime's operator, or faster. */
function isWorthwhile({ batch, m, n, k }: Sizes, { transA, vectors }: MatmulCode): boolean {
  const share = n / ceilTo(Math.max(1, n), 16 * vectors);
  const rows = transA ? fewestRows.transposed : fewestRows.plain;
  return m >= rows && share >= smallestShare && batch * m * n * k >= smallest;
}

const ceilTo = (value: number, unit: number) => Math.ceil(value / unit) * unit;

/** Rows of a block where blocks above a diagonal are left out. */
const triangleBlock = 64;
/** Tasks enough for many threads, but not more: each packs its part of the right operand again. */
const enoughTasks = 32;

/** How the result is cut into blocks: by rows, by columns, and along the inner dimension. Never by threads. */
function blocksOf({ batch, m, n, k }: Sizes, code: MatmulCode) {
  // Whole blocks are left out, so they have to be small.
  const isLeftOut = code.triangle !== undefined;
  const most = isLeftOut ? triangleBlock : packedRows;
  const longest = code.transA ? longestPackedChunk : longestChunk;
  const strip = 2 * rowsOf(code);
  const panel = 16 * code.vectors;
  const count = (rowBlocks: number, columnBlock: number) => batch * rowBlocks * Math.ceil(n / columnBlock);
  let rowBlocks = 1;
  let columnBlock = panel;
  if (code.transA) {
    // A left operand that has to be packed is packed for several panels.
    rowBlocks = Math.max(1, Math.ceil(m / (Math.floor(most / strip) * strip)));
    columnBlock = (count(rowBlocks, 4 * panel) < enoughTasks ? 2 : 4) * panel;
  } else {
    if (isLeftOut) rowBlocks = Math.max(1, Math.ceil(m / (Math.floor(most / strip) * strip)));
    while (count(rowBlocks, columnBlock) < enoughTasks && m / rowBlocks >= 2 * shortestBlock) rowBlocks *= 2;
  }
  return {
    rowBlock: ceilTo(Math.max(1, Math.ceil(m / rowBlocks)), strip),
    columnBlock,
    chunk: Math.ceil(k / Math.max(1, Math.ceil(k / longest))),
  };
}

/** How far the last column that counts is from the diagonal, in the first row. */
function shiftOf({ m, n, k }: Sizes, { triangle, transA }: Pick<MatmulCode, 'triangle' | 'transA'>): number {
  if (triangle === 'result') return n - m;
  if (triangle === 'left') return transA ? m - k : k - m;
  return 0;
}

function parametersOf(sizes: Sizes, code: MatmulCode, alpha: number, addendRows: boolean) {
  const { m, n, k } = sizes;
  const { rowBlock, columnBlock, chunk } = blocksOf(sizes, code);
  const [rowBlocks, columnBlocks] = [Math.ceil(m / rowBlock), Math.ceil(n / columnBlock)];
  const bytes = 4;
  const values: Record<keyof typeof matmulParameter, number> = {
    m,
    n,
    k,
    lda: bytes * (code.transA ? m : k),
    ldb: bytes * (code.transB ? k : n),
    ldc: bytes * n,
    rowBlocks,
    columnBlocks,
    rowBlock,
    columnBlock,
    alpha: new Int32Array(Float32Array.of(alpha).buffer)[0]!,
    ldAddend: addendRows ? bytes * n : 0,
    batchA: bytes * m * k,
    batchB: bytes * k * n,
    batchC: bytes * m * n,
    batchAddend: addendRows ? bytes * m * n : 0,
    chunk,
    shift: shiftOf(sizes, code),
  };
  const parameters = new BigInt64Array(new ArrayBuffer(256));
  for (const [name, index] of Object.entries(matmulParameter)) {
    parameters[index] = BigInt(values[name as keyof typeof values]);
  }
  return { parameters, tasks: sizes.batch * rowBlocks * columnBlocks };
}

/**
 * The operator for `matmul` or `gemm` (a product, with an addend of the result's shape or one row of it), or
 * undefined where shapes do not fit it or the plain operator is as fast (unless `always`).
 */
export function matmulOperator(request: KernelRequest, always = false): MatmulOperator | undefined {
  const { kind, inputs, outputs, attributes } = request;
  if (kind !== 'matmul' && kind !== 'gemm') return undefined;
  const addend = kind === 'gemm' ? inputs[2] : undefined;
  if (inputs.length !== (kind === 'gemm' ? 3 : 2)) return undefined;
  if ([...inputs, ...outputs].some(({ dtype }) => dtype !== 'float32')) return undefined;
  const sizes = sizesOf(request);
  if (!sizes) return undefined;
  const isFull = addend !== undefined && same(addend.shape, outputs[0]!.shape);
  if (addend && !isFull && !(same(addend.shape, [sizes.n]) || same(addend.shape, [1, sizes.n])))
    return undefined;
  const alpha = attributes.alpha ?? 1;
  const transA = attributes.transA === 1;
  const wanted = ([undefined, 'result', 'left'] as const)[attributes.triangle ?? 0];
  const code: MatmulCode = {
    transA,
    triangle: shiftOf(sizes, { triangle: wanted, transA }) >= 0 ? wanted : undefined,
    transB: attributes.transB === 1,
    scaled: alpha !== 1,
    addend: addend !== undefined,
    vectors: vectorsFor(sizes.n),
  };
  if (!always && !isWorthwhile(sizes, code)) return undefined;
  return { code, ...parametersOf(sizes, code, alpha, isFull), inPlace: isFull ? [[2, 0]] : [] };
}
