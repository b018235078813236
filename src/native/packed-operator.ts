import type { KernelRequest } from '../runtime/backend.js';
import type { OperatorSpec } from './custom-op.js';
import type { InstructionSet } from './instructions.js';
import { type PackedCode, packedLayout, packedParameter, tileOutputs } from './packed-layout.js';

/** A product with packed weights for fixed shapes: its machine code's variant and the rest of an operator. */
export interface PackedOperator extends Pick<OperatorSpec, 'tasks' | 'parameters' | 'inPlace'> {
  code: PackedCode;
  set: InstructionSet;
  /** Rows that a task takes at most: there is room for so many on its stack. */
  rowBlock: number;
}

/** Quantised rows of a task: they stay in the second-level cache. */
const stackBytes = 2 ** 17;
const mostRows = 32;
/** Rows up to which a kernel was measured as faster than ONNX Runtime's operator. */
const fasterUpTo: Readonly<Record<InstructionSet, number>> = { avx512: Number.POSITIVE_INFINITY, avx2: 16 };
/** About how many bytes of weights a task reads: handing it out is little beside that. */
const taskBytes = 2 ** 16;
/** Outputs of the smallest task of several rows: each task rounds them anew, which takes as long as some 20 outputs. */
const fewestOutputs = { oneRow: 64, manyRows: 128 };
/** Tasks enough for many threads. */
const enoughTasks = 32;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** The code for a request whose types and shapes fit together; undefined otherwise. Emitted code trusts them. */
function codeOf({ kind, inputs, outputs, attributes }: KernelRequest): PackedCode | undefined {
  const { bits, block } = attributes;
  const [x, values, scales, minima] = inputs;
  const y = outputs[0];
  if (kind !== 'packedMatmul' || !x || !values || !scales || !y || outputs.length !== 1) return undefined;
  if (inputs.length > 4 || x.shape.length === 0 || values.shape.length !== 3) return undefined;
  const isKnown =
    (bits === 4 && block === 32) || (bits === 8 && (block === 32 || block === 16) && minima === undefined);
  if (!isKnown) return undefined;
  const length = x.shape.at(-1)!;
  const [rows, blocks] = values.shape as [number, number, number];
  const isHalf = scales.dtype === 'float16';
  const fits =
    x.dtype === 'float32' &&
    y.dtype === 'float32' &&
    values.dtype === 'uint8' &&
    (isHalf || scales.dtype === 'float32') &&
    length % 32 === 0 &&
    length === blocks * block &&
    values.shape[2] === (block * bits) / 8 &&
    same(scales.shape, [rows, blocks]) &&
    (minima === undefined || (minima.dtype === scales.dtype && same(minima.shape, scales.shape))) &&
    same(y.shape, [...x.shape.slice(0, -1), rows]);
  return fits ? { bits, block, inputs: length, hasMinima: minima !== undefined, isHalf } : undefined;
}

/** How the work is cut: by rows, and by outputs as long as there are few tasks. */
function blocksOf(rows: number, outputs: number, layout: ReturnType<typeof packedLayout>) {
  const room = Math.max(1, Math.min(mostRows, Math.floor(stackBytes / layout.rowBytes)));
  const rowBlock = Math.ceil(rows / Math.ceil(rows / room));
  const rowBlocks = Math.ceil(rows / rowBlock);
  const wanted = Math.min(
    enoughTasks / rowBlocks,
    (outputs * layout.weightRowBytes) / taskBytes,
    outputs / (rows === 1 ? fewestOutputs.oneRow : fewestOutputs.manyRows),
  );
  // Powers of two, which threads share evenly.
  const parts = 2 ** Math.max(0, Math.round(Math.log2(wanted)));
  const outputBlock = tileOutputs * Math.ceil(outputs / parts / tileOutputs);
  return { rowBlock, rowBlocks, outputBlock, outputBlocks: Math.ceil(outputs / outputBlock) };
}

/**
 * The operator for `packedMatmul` (x, values, scales and perhaps minima), with activations rounded to 8 bits, or undefined
 * where the types or shapes of a request are not what it is made for, or the plain operator is as fast (unless `always`).
 */
export function packedOperator(
  request: KernelRequest,
  set: InstructionSet,
  always = false,
): PackedOperator | undefined {
  const code = codeOf(request);
  if (!code) return undefined;
  const outputs = request.inputs[1]!.shape[0]!;
  const rows = sizeOf(request.inputs[0]!.shape) / Math.max(1, code.inputs);
  if (code.inputs === 0 || rows === 0 || outputs < tileOutputs) return undefined;
  if (!(always || rows <= fasterUpTo[set])) return undefined;
  const layout = packedLayout(code, set);
  if (layout.rowBytes > stackBytes) return undefined;
  const { rowBlock, rowBlocks, outputBlock, outputBlocks } = blocksOf(rows, outputs, layout);
  const parameters = new BigInt64Array(new ArrayBuffer(128));
  for (const [name, value] of Object.entries({ rows, outputs, rowBlock, outputBlock, outputBlocks })) {
    parameters[packedParameter[name as keyof typeof packedParameter]] = BigInt(value);
  }
  return { code, set, rowBlock, tasks: rowBlocks * outputBlocks, parameters, inPlace: [] };
}
