import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { cachedAttention } from './cached-attention.js';
import { gather } from './indexing.js';
import { split } from './join.js';
import { rotary } from './rotary.js';
import { reshape } from './view.js';

type DecodeAttributes = { heads: number; scale: number };

/** A case whose rows hold `lengths` tokens; zeros where the caches are unwritten. */
function decodeCase(
  heads: number,
  kvHeads: number,
  d: number,
  lengths: readonly number[],
): OpCase<DecodeAttributes> {
  const [rows, capacity] = [lengths.length, 6];
  const shape = [rows, kvHeads, capacity, d];
  const cache = (phase: number) =>
    Array.from({ length: rows * kvHeads * capacity * d }, (_, i) => {
      const isWritten = Math.floor(i / d) % capacity < lengths[Math.floor(i / (kvHeads * capacity * d))]!;
      return isWritten ? Math.fround(Math.sin(1 + i + phase)) : 0;
    });
  const angles = (f: (x: number) => number) =>
    Array.from({ length: (capacity * d) / 2 }, (_, i) =>
      Math.fround(f(Math.floor((2 * i) / d) * 0.7 ** (i % (d / 2)))),
    );
  return {
    inputs: [
      [rows, (heads + 2 * kvHeads) * d],
      { shape, values: cache(0) },
      { shape, values: cache(0.5) },
      { shape: [rows], dtype: 'int32', values: lengths },
      { shape: [capacity, d / 2], values: angles(Math.cos) },
      { shape: [capacity, d / 2], values: angles(Math.sin) },
    ],
    attributes: { heads, scale: 0.6 },
    gradient: false,
  };
}

const decodeAttentionOp = defineOp<DecodeAttributes>({
  name: 'decodeAttention',
  infer([qkv, keys, values, lengths, cos, sin], { heads }) {
    checkDTypes([qkv!, keys!, values!, cos!, sin!], floats);
    const [rows, kvHeads, , d] = keys!.shape as [number, number, number, number];
    const expected = [rows, (heads + 2 * kvHeads) * d];
    if (!sameShape(qkv!.shape, expected) || !sameShape(values!.shape, keys!.shape))
      throw new AnnealError(`the projections must be ${formatShape(expected)}, and both caches alike`);
    if (lengths!.dtype !== 'int32' || !sameShape(lengths!.shape, [rows]))
      throw new AnnealError(`lengths must be int32${formatShape([rows])}`);
    if (cos!.shape.at(-1) !== d / 2 || !sameShape(cos!.shape, sin!.shape))
      throw new AnnealError(`the rotary tables must be [positions, ${d / 2}]`);
    return [{ dtype: qkv!.dtype, shape: [rows, heads * d] }, keys!, values!];
  },
  flops: ([qkv, keys], { heads }) => 4 * qkv!.shape[0]! * heads * sizeOf(keys!.shape.slice(2)),
  decompose([qkv, keys, values, lengths, cos, sin], { heads, scale }) {
    const [rows, kvHeads, , d] = keys!.shape as [number, number, number, number];
    const parts = split(qkv!, [heads * d, kvHeads * d, kvHeads * d], 1);
    const [q, k, v] = parts.map((part) => reshape(part, [rows, -1, 1, d])) as [Tensor, Tensor, Tensor];
    const [c, s] = [cos!, sin!].map((table) => reshape(gather(table, lengths!), [rows, 1, 1, d / 2])) as [
      Tensor,
      Tensor,
    ];
    const [y, ...caches] = cachedAttention(rotary(q, c, s), rotary(k, c, s), v, keys!, values!, lengths!, {
      scale,
    });
    return [reshape(y, [rows, heads * d]), ...caches];
  },
  /** GroupQueryAttention takes the projections as they come out of one product, and rotates them itself. */
  lower(b, node, { heads, scale }) {
    if (b.resultKernel(node, 'decodeAttention', { heads, scale })) return true;
    const [qkv, keys] = node.inputs as [Tensor, Tensor];
    const [rows, kvHeads, , d] = keys.shape as [number, number, number, number];
    if (!b.allowsMicrosoft || qkv.dtype !== 'float32' || d % 16 !== 0) return false;
    const [packed, keyCache, valueCache, lengths, cos, sin] = b.inputs as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    const query = b.emit('Reshape', [packed, b.ints([rows, 1, qkv.shape[1]!])]);
    const total = b.emit('Add', [b.emit('ReduceMax', [lengths], { keepdims: 0 }), b.scalar(1, 'int32')]);
    const mixed = b.fresh('mixed');
    const [nextKeys, nextValues] = [1, 2].map((i) => b.outputs[i] || b.fresh('present'));
    b.emitAll('GroupQueryAttention', [query, '', '', keyCache, valueCache, lengths, total, cos, sin], {
      domain: 'com.microsoft',
      attributes: { num_heads: heads, kv_num_heads: kvHeads, scale: { float: scale }, do_rotary: 1 },
      outputs: [mixed, nextKeys!, nextValues!],
    });
    if (b.outputs[0]) b.emitAll('Reshape', [mixed, b.ints([rows, heads * d])], { outputs: [b.outputs[0]] });
    return true;
  },
  cases: [decodeCase(2, 1, 16, [3, 0]), decodeCase(4, 2, 16, [5]), decodeCase(2, 2, 32, [1, 4, 2])],
});

/** Head sizes that `decodeAttention` has a kernel for. */
export const canDecodeTogether = (headDim: number): boolean => headDim % 16 === 0;

/**
 * One step of decoding: rotation, write into the caches and attention at once. `qkv` [rows, (H + 2·Hkv)·d] holds the
 * projections of one new token a row, queries first; caches [rows, Hkv, S, d]; `lengths` int32 [rows] tokens are in
 * them; the rotary tables are [positions, d/2]. The same as `cachedAttention` of rotated heads, in one kernel.
 *
 * Returns the result [rows, H·d] and both caches as they are afterwards, written in place as there.
 */
export function decodeAttention(
  qkv: Tensor,
  keyCache: Tensor,
  valueCache: Tensor,
  lengths: Tensor,
  tables: { cos: Tensor; sin: Tensor },
  options: { heads: number; scale?: number },
): [y: Tensor, keyCache: Tensor, valueCache: Tensor] {
  const { heads, scale = 1 / Math.sqrt(keyCache.shape.at(-1) ?? 1) } = options;
  const inputs = [qkv, keyCache, valueCache, lengths, tables.cos, tables.sin];
  const [y, keys, values] = decodeAttentionOp.apply(inputs, { heads, scale });
  return [y!, keys!, values!];
}
