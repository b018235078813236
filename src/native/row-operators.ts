import type { KernelRequest } from '../runtime/backend.js';
import type { Formula } from './formula.js';
import * as formulas from './formulas.js';
import { rowParameters } from './row-kernel.js';

/** An operator over elements or rows: a formula, and how its work is cut. */
export interface RowOperator {
  /** Names the machine code: operators that share it differ in shapes only. */
  code: string;
  formula(): Formula;
  causal: boolean;
  tasks: number;
  parameters: BigInt64Array<ArrayBuffer>;
  inPlace: readonly (readonly [number, number])[];
}

/** Elements of a task: large beside the cost of handing it out, small beside the second-level cache. */
const taskElements = 16384;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** How many rows a task takes: as many as asked for, or a good number for their length. */
const rowsPerTask = ({ block }: KernelRequest['attributes'], columns: number): number =>
  block ?? Math.max(1, Math.floor(taskElements / Math.max(1, columns)));

interface Kind {
  formula(numbers: formulas.Numbers): Formula;
  /** Inputs that have the shape of the first, as do matrix outputs; the others are rows, columns or scalars. */
  matrices: readonly number[];
  /** Works row by row along the last axis; else on a flat array. */
  byRow?: true;
  /** Size of the other inputs, from rows and columns. */
  others?: Readonly<Record<number, 'row' | 'column' | 'scalar'>>;
  /** Shape of the outputs, in order: like input 0, or one row a task. */
  outputs: readonly ('matrix' | 'sums')[];
  inPlace: readonly (readonly [number, number])[];
}

const kinds: Readonly<Record<string, Kind>> = {
  geluTanh: { formula: formulas.geluTanh, matrices: [0], outputs: ['matrix'], inPlace: [[0, 0]] },
  geluTanhGrad: {
    formula: formulas.geluTanhGrad,
    matrices: [0, 1, 2],
    outputs: ['matrix'],
    inPlace: [[2, 0]],
  },
  silu: { formula: formulas.silu, matrices: [0], outputs: ['matrix'], inPlace: [[0, 0]] },
  siluGrad: { formula: formulas.siluGrad, matrices: [0, 1], outputs: ['matrix'], inPlace: [[1, 0]] },
  adamw: {
    formula: formulas.adamw,
    matrices: [0, 1, 2, 3],
    others: { 4: 'scalar', 5: 'scalar', 6: 'scalar', 7: 'scalar' },
    outputs: ['matrix', 'matrix', 'matrix'],
    inPlace: [
      [0, 0],
      [1, 1],
      [2, 2],
    ],
  },
  momentum: {
    formula: formulas.momentum,
    matrices: [0, 1],
    outputs: ['matrix', 'matrix'],
    inPlace: [
      [0, 0],
      [1, 1],
    ],
  },
  rmsNorm: {
    formula: formulas.rmsNorm,
    byRow: true,
    matrices: [0],
    others: { 1: 'row' },
    outputs: ['matrix'],
    inPlace: [[0, 0]],
  },
  rmsNormGrad: {
    formula: formulas.rmsNormGrad,
    byRow: true,
    matrices: [0, 3],
    others: { 1: 'row', 2: 'column' },
    outputs: ['matrix', 'sums'],
    inPlace: [[3, 0]],
  },
  softmax: { formula: formulas.softmax, byRow: true, matrices: [0], outputs: ['matrix'], inPlace: [[0, 0]] },
  softmaxGrad: {
    formula: formulas.softmaxGrad,
    byRow: true,
    matrices: [0, 1],
    outputs: ['matrix'],
    inPlace: [[1, 0]],
  },
  scoresGrad: {
    formula: formulas.scoresGrad,
    byRow: true,
    matrices: [0, 1],
    others: { 2: 'column' },
    outputs: ['matrix'],
    inPlace: [[1, 0]],
  },
};

/** Do the shapes of a request fit the kind? Emitted code trusts them. */
function fits(
  kind: Kind,
  { inputs, outputs, attributes }: KernelRequest,
  rows: number,
  columns: number,
): boolean {
  const total = rows * columns;
  const sizes = { row: columns, column: rows, scalar: 1 };
  const count = kind.matrices.length + Object.keys(kind.others ?? {}).length;
  if (inputs.length !== count || outputs.length !== kind.outputs.length) return false;
  if ([...inputs, ...outputs].some(({ dtype }) => dtype !== 'float32')) return false;
  const tasks = Math.ceil(rows / rowsPerTask(attributes, columns));
  return (
    kind.matrices.every((i) => sizeOf(inputs[i]!.shape) === total) &&
    Object.entries(kind.others ?? {}).every(
      ([i, what]) => sizeOf(inputs[Number(i)]!.shape) === sizes[what],
    ) &&
    outputs.every(({ shape }, i) =>
      kind.outputs[i] === 'sums'
        ? shape.length === 2 && shape[0] === tasks && shape[1] === columns
        : sizeOf(shape) === total,
    )
  );
}

/** The operator for a request, or undefined where there is none. */
export function rowOperator(request: KernelRequest): RowOperator | undefined {
  const kind = Object.hasOwn(kinds, request.kind) ? kinds[request.kind]! : undefined;
  const shape = request.inputs[0]?.shape;
  if (!kind || !shape) return undefined;
  const columns = kind.byRow ? (shape.at(-1) ?? 1) : sizeOf(shape);
  const rows = kind.byRow ? sizeOf(shape.slice(0, -1)) : 1;
  if (!fits(kind, request, rows, columns)) return undefined;
  const { causal = 0, queries = 1, shift = 0, block: _block, ...numbers } = request.attributes;
  const isCausal = causal === 1;
  // Each row needs a column of its own, and rows have to come in whole matrices.
  if (isCausal && !(kind.byRow && shift >= 0 && queries + shift === columns && rows % queries === 0))
    return undefined;
  const total = rows * columns;
  // A flat array is cut into tasks of one "row" each.
  const cut = kind.byRow ? columns : taskElements;
  const perTask = kind.byRow ? rowsPerTask(request.attributes, columns) : 1;
  const built: formulas.Numbers = request.kind.startsWith('rmsNorm') ? { ...numbers, columns } : numbers;
  return {
    code: `${request.kind}${JSON.stringify(built)}${isCausal}`,
    formula: () => kind.formula(built),
    causal: isCausal,
    tasks: total === 0 ? 0 : Math.ceil(total / (cut * perTask)),
    parameters: rowParameters(total, perTask, cut, queries, shift),
    inPlace: kind.inPlace,
  };
}
