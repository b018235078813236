import type { KernelRequest } from '../runtime/backend.js';
import type { OperatorSpec } from './custom-op.js';
import {
  type JointCode,
  jointParameter,
  jointRows,
  mostParts,
  mostSteps,
  partParameter,
} from './joint-kernel.js';

/** Products for fixed shapes: their machine code's variant and the rest of an operator. */
export interface JointOperator extends Pick<OperatorSpec, 'tasks' | 'parameters' | 'inPlace'> {
  code: JointCode;
}

/** With fewer rows a panel is not used often enough to pay for its packing. */
const fewestRows = 64;
const fewestSteps = 32;
/** Tasks enough for many threads, but not more: each packs its panel again. */
const enoughTasks = 32;
/** Rows of the smallest block that a panel is cut into for the sake of more tasks. */
const shortestBlock = 96;

const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** Columns of the tiles: those with which there is least to compute, among those that divide all parts. */
function vectorsFor(m: number, columns: readonly number[], gated: boolean): 3 | 4 | undefined {
  if (gated) return columns[0]! % 32 === 0 ? 4 : undefined;
  const fitting = ([4, 3] as const).filter((vectors) => columns.every((n) => n % (16 * vectors) === 0));
  const cost = (vectors: 3 | 4) => Math.ceil(m / jointRows({ vectors })) / vectors;
  return fitting.sort((a, b) => cost(a) - cost(b))[0];
}

/**
 * The operator for `jointMatmul` (x [m, k] times several [k, n], results side by side) or `swiglu` (silu(x·w₀)·(x·w₁)), or
 * undefined where the shapes do not fit its tiles. Emitted code trusts them.
 */
export function jointOperator({ kind, inputs, outputs }: KernelRequest): JointOperator | undefined {
  const gated = kind === 'swiglu';
  if (!gated && kind !== 'jointMatmul') return undefined;
  if ([...inputs, ...outputs].some(({ dtype }) => dtype !== 'float32') || outputs.length !== 1)
    return undefined;
  const [x, ...weights] = inputs.map(({ shape }) => shape);
  if (x?.length !== 2 || weights.length < 2 || weights.length > (gated ? 2 : mostParts)) return undefined;
  const [m, k] = x as [number, number];
  const columns = weights.map((shape) => shape[1] ?? 0);
  if (!weights.every((shape, i) => same(shape, [k, columns[i]!]) && columns[i]! > 0)) return undefined;
  if (gated && columns[0] !== columns[1]) return undefined;
  const total = gated ? columns[0]! : columns.reduce((a, b) => a + b, 0);
  if (!same(outputs[0]!.shape, [m, total])) return undefined;
  if (m < fewestRows || k < fewestSteps || k > mostSteps) return undefined;
  const vectors = vectorsFor(m, columns, gated);
  if (!vectors) return undefined;
  const code: JointCode = { parts: weights.length, gated, vectors };
  return { code, ...cut(code, m, k, columns, total), inPlace: [] };
}

/** Cuts the result by shape alone, so that the number of threads changes nothing. */
function cut(code: JointCode, m: number, k: number, columns: readonly number[], total: number) {
  const rows = jointRows(code);
  const width = 16 * code.vectors;
  const panels = total / (code.gated ? width / 2 : width);
  let rowBlocks = 1;
  while (panels * rowBlocks < enoughTasks && m / rowBlocks >= 2 * shortestBlock) rowBlocks *= 2;
  const rowBlock = Math.ceil(m / rowBlocks / rows) * rows;
  const parameters = new BigInt64Array(new ArrayBuffer(256));
  const numbers = {
    m,
    k,
    lda: 4 * k,
    ldc: 4 * total,
    panels,
    rowBlock,
    lastTile: m - rows,
    ahead: Math.ceil((k * rows) / rowBlock),
  };
  for (const [name, value] of Object.entries(numbers)) {
    parameters[jointParameter[name as keyof typeof numbers]] = BigInt(value);
  }
  let start = 0;
  columns.forEach((n, part) => {
    const at = jointParameter.parts + Object.keys(partParameter).length * part;
    const end = start + n / width;
    for (const [name, value] of Object.entries({ start, end, ldb: 4 * n })) {
      // A gated part has no panels of its own.
      const isUsed = !code.gated || name === 'ldb';
      parameters[at + partParameter[name as keyof typeof partParameter]] = BigInt(isUsed ? value : 0);
    }
    start = end;
  });
  return { parameters, tasks: panels * Math.ceil(m / rowBlock) };
}
