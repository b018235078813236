import type { KernelRequest } from '../runtime/backend.js';
import type { OperatorSpec } from './custom-op.js';
import { type DecodeCode, decodeParameter, largestGroup } from './decode-blocks.js';

/** A step of decoding for fixed shapes: its machine code's variant and the rest of an operator. */
export interface DecodeOperator extends Pick<OperatorSpec, 'tasks' | 'parameters' | 'inPlace'> {
  code: DecodeCode;
}

/** Tasks enough for many threads to share the work evenly, with several pairs each where there are many. */
const enoughTasks = 32;

const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/**
 * The operator for `decodeAttention`: projections [rows, (H + 2·Hkv)·d], both caches [rows, Hkv, S, d], lengths int32
 * [rows], tables [positions, d/2] → [rows, H·d] and both caches. Undefined for other types, heads whose size is no
 * multiple of 16, and tables that end before the caches do. Emitted code trusts the shapes. `mostOfTask`: most pairs of a row and
 * a key head in a task.
 */
export function decodeOperator(
  { kind, inputs, outputs, attributes }: KernelRequest,
  mostOfTask = Number.POSITIVE_INFINITY,
): DecodeOperator | undefined {
  if (kind !== 'decodeAttention' || inputs.length !== 6 || outputs.length !== 3) return undefined;
  const types = [...inputs, ...outputs].map(({ dtype }) => dtype);
  if (types.some((dtype, i) => dtype !== (i === 3 ? 'int32' : 'float32'))) return undefined;
  const [projections, keys, values, lengths, cos, sin] = inputs.map(({ shape }) => shape) as number[][];
  const [result, nextKeys, nextValues] = outputs.map(({ shape }) => shape) as number[][];
  if (keys!.length !== 4 || ![values!, nextKeys!, nextValues!].every((shape) => same(shape, keys!)))
    return undefined;
  const [rows, kvHeads, capacity, size] = keys as [number, number, number, number];
  const { heads = 0, scale = 0 } = attributes;
  const group = heads / kvHeads;
  const isGrouped = Number.isInteger(group) && group >= 1 && size % 16 === 0 && group * size <= largestGroup;
  if (!isGrouped || capacity < 1 || !same(lengths!, [rows])) return undefined;
  const width = (heads + 2 * kvHeads) * size;
  if (!same(projections!, [rows, width]) || !same(result!, [rows, heads * size])) return undefined;
  const positions = cos![0]!;
  if (!same(cos!, [positions, size / 2]) || !same(sin!, cos!) || positions < capacity) return undefined;
  const pairs = rows * kvHeads;
  const pairsPerTask = Math.min(mostOfTask, Math.max(1, Math.floor(pairs / enoughTasks)));
  const numbers: Record<keyof typeof decodeParameter, number> = {
    pairs,
    pairsPerTask,
    kvHeads,
    last: capacity - 1,
    projections: 4 * width,
    keyOffset: 4 * heads * size,
    valueOffset: 4 * kvHeads * size,
    result: 4 * heads * size,
    table: 2 * size,
    pair: 4 * capacity * size,
    scale: new Int32Array(Float32Array.of(scale).buffer)[0]!,
  };
  const parameters = new BigInt64Array(new ArrayBuffer(256));
  for (const [name, index] of Object.entries(decodeParameter)) {
    parameters[index] = BigInt(numbers[name as keyof typeof numbers]);
  }
  return {
    code: { size, group },
    tasks: Math.ceil(pairs / pairsPerTask),
    parameters,
    inPlace: [
      [1, 1],
      [2, 2],
    ],
  };
}
