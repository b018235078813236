import type { LowerBuilder } from '../../onnx/lower.js';
import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { formatShape, type Shape, sameShape, sizeOf } from '../shape.js';
import type { Node, Tensor, TensorType } from '../tensor.js';
import { attentionParts } from './attention.js';
import { add, greater, where } from './elementwise.js';
import { arange, takeAlongAxis } from './indexing.js';
import { scalar } from './leaf.js';
import { maskedScore } from './masks.js';
import { broadcastTo, reshape, zerosLike } from './view.js';

function checkWrite([cache, update, lengths]: readonly TensorType[]): void {
  checkDTypes([cache!, update!], floats);
  const [b, h, s, d] = cache!.shape;
  const [, , t] = update!.shape;
  if (cache!.shape.length !== 4 || !sameShape(update!.shape, [b!, h!, t!, d!]) || t! > s!) {
    throw new AnnealError(
      `the cache must be [rows, heads, capacity, size] and what is written [rows, heads, length, size] with length up to capacity, not ${formatShape(cache!.shape)} and ${formatShape(update!.shape)}`,
    );
  }
  if (lengths!.dtype !== 'int32' || !sameShape(lengths!.shape, [b!])) {
    throw new AnnealError(`lengths must be int32${formatShape([b!])}, one per row of the cache`);
  }
}

/** Positions lengths[b] + t as int32 [B, 1, T, 1]. */
const writtenPositions = (lengths: Tensor, t: number): Tensor =>
  add(reshape(lengths, [-1, 1, 1, 1]), reshape(arange(t), [1, 1, t, 1]));

/** (row, head) of every vector of an update, flat: the leading part of a scatter's indices. */
function rowsAndHeads(b: number, h: number, t: number): Int32Array {
  const pairs = new Int32Array(b * h * t * 2);
  for (let i = 0; i < b * h * t; i++) {
    pairs[2 * i] = Math.floor(i / (h * t));
    pairs[2 * i + 1] = Math.floor(i / t) % h;
  }
  return pairs;
}

/** The cache after a write; its lowering scatters, so that a cache that is bound in place is not copied. */
const cacheWriteOp = defineOp({
  name: 'cacheWrite',
  infer(inputs) {
    checkWrite(inputs);
    return [inputs[0]!];
  },
  flops: () => 0,
  vjp({ inputs: [, update, lengths], needs }, [g]) {
    if (!g) return [];
    const [, , t] = update!.shape as [number, number, number, number];
    const positions = broadcastTo(writtenPositions(lengths!, t), update!.shape);
    return [
      needs(0) ? cacheWrite(g, zerosLike(update!), lengths!) : undefined,
      needs(1) ? takeAlongAxis(g, positions, 2) : undefined,
    ];
  },
  lower(b, node) {
    const [rows, heads, t] = node.inputs[1]!.shape as [number, number, number, number];
    const at = b.emit('Unsqueeze', [b.cast(b.inputs[2]!, 'int64'), b.ints([1, 2, 3])]);
    const steps = Array.from({ length: t }, (_, i) => i);
    const positions = b.emit('Add', [at, b.vectorOf(steps, 'int64', [1, 1, t, 1])]);
    const spread = b.emit('Expand', [positions, b.ints([rows, heads, t, 1])]);
    const pairs = b.vectorOf([...rowsAndHeads(rows, heads, t)], 'int64', [rows, heads, t, 2]);
    const indices = b.emitAll('Concat', [pairs, spread], { attributes: { axis: -1 } })[0]!;
    b.result('ScatterND', [b.inputs[0]!, indices, b.inputs[1]!]);
  },
  evaluate([cache, update, lengths]) {
    const [, h, t, d] = update!.shape as [number, number, number, number];
    const s = cache!.shape[2]!;
    const result = Float64Array.from(cache!.data);
    update!.data.forEach((value, i) => {
      const row = Math.floor(i / (h * t * d));
      const head = Math.floor(i / (t * d)) % h;
      const position = lengths!.data[row]! + (Math.floor(i / d) % t);
      result[((row * h + head) * s + position) * d + (i % d)] = value;
    });
    return [result];
  },
  cases: [
    { inputs: [[2, 2, 5, 3], [2, 2, 2, 3], { shape: [2], dtype: 'int32', values: [3, 0] }] },
    { inputs: [[3, 1, 4, 2], [3, 1, 1, 2], { shape: [3], dtype: 'int32', values: [2, 0, 3] }] },
  ],
});

/**
 * `cache` [rows, heads, capacity, size] with `update` [rows, heads, T, size] written over positions
 * lengths[b] … lengths[b]+T-1 of row b. The caller sees to it that they lie within the capacity.
 */
export const cacheWrite = (cache: Tensor, update: Tensor, lengths: Tensor): Tensor =>
  cacheWriteOp.apply([cache, update, lengths], {})[0]!;

type CachedAttributes = { scale: number };

/** [B, heads, T, d] as [B, T, heads·d]: what the runtime's operator wants. A reshape alone where T is 1. */
function packHeads(b: LowerBuilder, name: string, [rows, heads, t, d]: Shape): string {
  const turned = t === 1 ? name : b.emit('Transpose', [name], { perm: [0, 2, 1, 3] });
  return b.emit('Reshape', [turned, b.ints([rows!, t!, heads! * d!])]);
}

/**
 * ONNX Runtime's GroupQueryAttention, which writes into the cache that it reads where both are bound to the
 * same memory, and reads no more of it than the longest row has. With several new tokens it takes one row only.
 */
function lowerGrouped(b: LowerBuilder, node: Node, scale: number): boolean {
  const [q, k] = node.inputs as [Tensor, Tensor];
  const [rows, heads, t, d] = q.shape as [number, number, number, number];
  const isSupported = b.allowsMicrosoft && q.dtype === 'float32' && d % 8 === 0 && (t === 1 || rows === 1);
  if (!isSupported || !sameShape(node.inputs[2]!.shape, k.shape)) return false;
  const [query, key, value] = [0, 1, 2].map((i) => packHeads(b, b.inputs[i]!, node.inputs[i]!.shape));
  const lengths = b.inputs[5]!;
  // The operator counts from the last new token: total length minus one.
  const last = t === 1 ? lengths : b.emit('Add', [lengths, b.vectorOf([t - 1], 'int32')]);
  const longest = b.emit('ReduceMax', [lengths], { keepdims: 0 });
  const total = b.emit('Add', [longest, b.scalar(t, 'int32')]);
  const [keys, values] = [1, 2].map((i) => b.outputs[i] || b.fresh('present'));
  const mixed = b.fresh('mixed');
  b.emitAll('GroupQueryAttention', [query!, key!, value!, b.inputs[3]!, b.inputs[4]!, last, total], {
    domain: 'com.microsoft',
    attributes: { num_heads: heads, kv_num_heads: k.shape[1]!, scale: { float: scale } },
    outputs: [mixed, keys!, values!],
  });
  if (!b.outputs[0]) return true;
  if (t === 1) b.emitAll('Reshape', [mixed, b.ints([rows, heads, 1, d])], { outputs: [b.outputs[0]] });
  else {
    const split = b.emit('Reshape', [mixed, b.ints([rows, t, heads, d])]);
    b.emitAll('Transpose', [split], { attributes: { perm: [0, 2, 1, 3] }, outputs: [b.outputs[0]] });
  }
  return true;
}

/** A case with zeros where the caches are unwritten: what a returned cache holds there is unspecified. */
function cachedCase(
  [b, h, kv, t]: readonly [number, number, number, number],
  d: number,
  s: number,
  lengths: readonly number[],
): OpCase<CachedAttributes> {
  const cache = (phase: number) =>
    Array.from({ length: b * kv * s * d }, (_, i) => {
      const isWritten = Math.floor(i / d) % s < lengths[Math.floor(i / (kv * s * d))]!;
      return isWritten ? Math.fround(Math.sin(1 + i + phase)) : 0;
    });
  const shape = [b, kv, s, d];
  return {
    inputs: [
      [b, h, t, d],
      [b, kv, t, d],
      [b, kv, t, d],
      { shape, values: cache(0) },
      { shape, values: cache(0.5) },
      { shape: [b], dtype: 'int32', values: lengths },
    ],
    attributes: { scale: 0.6 },
  };
}

const cachedAttentionOp = defineOp<CachedAttributes>({
  name: 'cachedAttention',
  infer([q, k, v, keys, values, lengths]) {
    checkDTypes([q!, k!, v!, keys!, values!], floats);
    checkWrite([keys!, k!, lengths!]);
    checkWrite([values!, v!, lengths!]);
    const [b, h, t, d] = q!.shape as [number, number, number, number];
    const fits = q!.shape.length === 4 && sameShape(k!.shape, [b, k!.shape[1]!, t, d]);
    if (!fits || !sameShape(keys!.shape.slice(0, 3), values!.shape.slice(0, 3))) {
      throw new AnnealError(
        'q, k and v must agree in rows, length and head size, and both caches in their capacity',
      );
    }
    if (h % k!.shape[1]! !== 0)
      throw new AnnealError(`${h} query heads are no multiple of ${k!.shape[1]} key heads`);
    return [{ dtype: q!.dtype, shape: [b, h, t, v!.shape[3]!] }, keys!, values!];
  },
  flops: ([q, , v, keys]) =>
    2 * sizeOf(q!.shape.slice(0, 3)) * keys!.shape[2]! * (q!.shape[3]! + v!.shape[3]!),
  decompose([q, k, v, keys, values, lengths], { scale }) {
    const [, , t] = q!.shape as [number, number, number, number];
    const s = keys!.shape[2]!;
    const [nextKeys, nextValues] = [cacheWrite(keys!, k!, lengths!), cacheWrite(values!, v!, lengths!)];
    // Token t of row b sees positions up to lengths[b] + t; what lies beyond is unwritten or stale.
    const hidden = greater(reshape(arange(s), [1, 1, 1, s]), writtenPositions(lengths!, t));
    const mask = where(hidden, scalar(maskedScore, q!.dtype), 0);
    return [attentionParts(q!, nextKeys, nextValues, mask, scale), nextKeys, nextValues];
  },
  lower: (b, node, { scale }) => lowerGrouped(b, node, scale),
  cases: [
    cachedCase([2, 4, 2, 1], 8, 6, [3, 0]),
    cachedCase([1, 2, 2, 3], 8, 7, [2]),
    cachedCase([1, 4, 1, 4], 8, 4, [0]),
    cachedCase([3, 4, 2, 2], 4, 6, [1, 4, 0]),
    cachedCase([2, 2, 2, 1], 4, 3, [2, 1]),
  ],
});

/** Options of `cachedAttention`. */
export interface CachedAttentionOptions {
  /** Factor on the scores. Default: 1/sqrt(head size). */
  scale?: number;
}

/**
 * Attention of T new tokens a row to all that the row has seen. Row b holds `lengths[b]` tokens; the keys
 * `k` and values `v` [B, Hkv, T, d] of the new ones are written behind them into the caches [B, Hkv, S, d], and
 * query t of `q` [B, H, T, d] sees positions 0 … lengths[b] + t.
 *
 * Returns the result [B, H, T, d] and both caches as they are afterwards; assigned to the variables that
 * were passed in, they are written in place. What a returned cache holds past position lengths[b] + T - 1
 * is unspecified. Precondition: lengths[b] + T ≤ S in every row.
 */
export function cachedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  keyCache: Tensor,
  valueCache: Tensor,
  lengths: Tensor,
  options: CachedAttentionOptions = {},
): [y: Tensor, keyCache: Tensor, valueCache: Tensor] {
  const { scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1) } = options;
  const [y, keys, values] = cachedAttentionOp.apply([q, k, v, keyCache, valueCache, lengths], { scale });
  return [y!, keys!, values!];
}
