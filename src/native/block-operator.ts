import type { KernelRequest } from '../runtime/backend.js';
import {
  type BlockProductCode,
  blockParameter,
  blockTile,
  mostParts,
  partParameter,
} from './block-layout.js';
import type { OperatorSpec } from './custom-op.js';

/** Products of a block of rows for fixed shapes. A task is a panel of columns. */
export interface BlockOperator extends Pick<OperatorSpec, 'tasks' | 'parameters'> {
  code: BlockProductCode;
}

/** Keys and values that a product asks for, in runs: those of a pair of a row and a key head are two. */
export interface Asking {
  firstRun: number;
  runsOfTask: number;
  runs: number;
  kvHeads: number;
  capacity: number;
  size: number;
}

/** With fewer steps than are unrolled, or more than the second-level cache holds of a panel, it does not pay. */
const fewestSteps = 32;
const mostSteps = 2048;
const bytes = 4;

const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** Operands of the kinds that are taken here. */
function operandsOf({ kind, inputs, attributes }: KernelRequest) {
  const [x, ...rest] = inputs.map(({ shape }) => shape);
  if (!x) return undefined;
  const gated = kind === 'swiglu';
  if (gated || kind === 'jointMatmul') return { x, weights: rest, addend: undefined, gated };
  const { transA, transB, alpha = 1, triangle } = attributes;
  if (kind !== 'gemm' || transA || transB || triangle || alpha !== 1) return undefined;
  return { x, weights: rest.slice(0, 1), addend: rest[1], gated };
}

/**
 * The product for a block of rows of a chain: `jointMatmul`, `swiglu`, or `gemm` without attributes; undefined where the
 * shapes do not fit its tiles. Emitted code trusts them.
 */
export function blockOperator(request: KernelRequest, asking?: Asking): BlockOperator | undefined {
  const operands = operandsOf(request);
  const [output] = request.outputs;
  if (!operands || !output || request.outputs.length !== 1) return undefined;
  if ([...request.inputs, output].some(({ dtype }) => dtype !== 'float32')) return undefined;
  const { x, weights, addend, gated } = operands;
  const [m, k] = x as [number, number];
  const columns = weights.map((shape) => shape[1] ?? 0);
  const most = gated ? 2 : mostParts;
  if (x.length !== 2 || weights.length === 0 || weights.length > most || (gated && weights.length !== 2))
    return undefined;
  const unit = (16 * blockTile.vectors) / (gated ? 2 : 1);
  if (!weights.every((shape, i) => same(shape, [k, columns[i]!]) && columns[i]! % unit === 0))
    return undefined;
  if (gated && columns[0] !== columns[1]) return undefined;
  const total = gated ? columns[0]! : columns.reduce((a, b) => a + b, 0);
  if (total === 0 || !same(output.shape, [m, total])) return undefined;
  const isFull = addend !== undefined && same(addend, output.shape);
  if (addend && !isFull && !same(addend, [total]) && !same(addend, [1, total])) return undefined;
  if (m < blockTile.rows || k < fewestSteps || k > mostSteps) return undefined;
  const tail = m % blockTile.rows;
  const asks = asking !== undefined;
  const code: BlockProductCode = { parts: weights.length, gated, addend: addend !== undefined, tail, asks };
  const tiles = Math.floor(m / blockTile.rows);
  const groups = asks ? Math.ceil((tiles + Math.sign(tail)) / 2) : 1;
  const numbers: Partial<Record<keyof typeof blockParameter, number>> = {
    tiles,
    groups,
    k,
    lda: bytes * k,
    ldc: bytes * total,
    ldAddend: isFull ? bytes * total : 0,
    ...(asking && {
      firstRun: asking.firstRun,
      runsOfTask: asking.runsOfTask,
      runs: asking.runs,
      kvHeads: asking.kvHeads,
      pairBytes: bytes * asking.capacity * asking.size,
      head: bytes * asking.size,
      rounds: Math.floor(k / 4),
    }),
  };
  return { code, parameters: parametersOf(numbers, columns, unit), tasks: (total / unit) * groups };
}

function parametersOf(
  numbers: Partial<Record<keyof typeof blockParameter, number>>,
  columns: readonly number[],
  unit: number,
): BigInt64Array<ArrayBuffer> {
  const parameters = new BigInt64Array(new ArrayBuffer(256));
  for (const [name, value] of Object.entries(numbers)) {
    parameters[blockParameter[name as keyof typeof blockParameter]] = BigInt(value);
  }
  let start = 0;
  columns.forEach((n, part) => {
    const at = blockParameter.parts + Object.keys(partParameter).length * part;
    const end = start + n / unit;
    for (const [name, value] of Object.entries({ start, end, ldb: bytes * n })) {
      parameters[at + partParameter[name as keyof typeof partParameter]] = BigInt(value);
    }
    start = end;
  });
  return parameters;
}
