import { allocate, type DType } from '../dtype.js';
import { AnnealError } from '../errors.js';
import { type Applicable, checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { broadcastShapes, formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, cast, div, equal, exp, logicalNot, maximum, mul, neg, sub, where } from './elementwise.js';
import { scatterAdd, takeAlongAxis } from './indexing.js';
import { constant, scalar } from './leaf.js';
import { matmul } from './matmul.js';
import { logSoftmax, softmax } from './nn.js';
import { mean, sum, unbroadcast } from './reduce.js';
import { broadcastTo, concat, expandDims, reshape, slice, split } from './view.js';

/** Constant matrix [rows, columns] of `f(row, column)`. */
function matrix(rows: number, columns: number, dtype: DType, f: (i: number, j: number) => number): Tensor {
  const data = allocate(dtype === 'float16' ? 'float32' : dtype, rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) data[i * columns + j] = f(i, j);
  const t = constant(data, [rows, columns], dtype === 'float16' ? 'float32' : dtype);
  return cast(t, dtype);
}

/** 1 on and below the diagonal shifted by `offset`, else 0 (NumPy's tri). */
export const lowerTriangle = (rows: number, columns = rows, offset = 0, dtype: DType = 'float32'): Tensor =>
  matrix(rows, columns, dtype, (i, j) => (j - i <= offset ? 1 : 0));
/** 1 on and above the diagonal shifted by `offset`, else 0. */
export const upperTriangle = (rows: number, columns = rows, offset = 0, dtype: DType = 'float32'): Tensor =>
  matrix(rows, columns, dtype, (i, j) => (j - i >= offset ? 1 : 0));
/** 1 where -below ≤ column - row ≤ above, else 0. */
export const bandMask = (
  rows: number,
  columns: number,
  below: number,
  above: number,
  dtype: DType = 'float32',
): Tensor => matrix(rows, columns, dtype, (i, j) => (j - i >= -below && j - i <= above ? 1 : 0));

/**
 * Score of a masked position: exp of it is exactly 0, and unlike -Infinity it stays finite in gradients.
 */
const masked = -1e9;

/** Additive causal mask: query i of `queries` sees keys up to i + keys - queries. */
export const causalMask = (queries: number, keys = queries, dtype: DType = 'float32'): Tensor =>
  matrix(queries, keys, dtype, (i, j) => (j - i <= keys - queries ? 0 : masked));

type AttentionAttributes = { causal: boolean; scale: number };

function checkAttention([q, k, v, mask]: readonly TensorType[]): [number[], number[]] {
  checkDTypes([q!, k!, v!], floats);
  if ([q!, k!, v!].some((t) => t.shape.length !== 4))
    throw new AnnealError('q, k and v must be [batch, heads, length, size]');
  const [batch, heads, queries, d] = q!.shape as [number, number, number, number];
  const [kb, kvHeads, keys, kd] = k!.shape as [number, number, number, number];
  if (kb !== batch || kd !== d || !sameShape(v!.shape.slice(0, 3), k!.shape.slice(0, 3))) {
    throw new AnnealError('q, k and v must agree in batch and head size, k and v in heads and length');
  }
  if (heads % kvHeads !== 0)
    throw new AnnealError(`${heads} query heads are no multiple of ${kvHeads} key heads`);
  const scores = [batch, heads, queries, keys];
  if (mask && !sameShape(broadcastShapes(mask.shape, scores), scores)) {
    throw new AnnealError(
      `mask ${formatShape(mask.shape)} does not broadcast to scores ${formatShape(scores)}`,
    );
  }
  return [[batch, heads, queries, v!.shape[3]!], scores];
}

/** [B, H, T, d] as [B, Hkv, H/Hkv, T, d]: heads that share keys become one more batch axis. */
function grouped(t: Tensor, kvHeads: number): Tensor {
  const [b, h, n, d] = t.shape as [number, number, number, number];
  return h === kvHeads ? t : reshape(t, [b, kvHeads, h / kvHeads, n, d]);
}

/** Keys or values [B, Hkv, S, d] with the axis that broadcasts over the queries' group, where there is one. */
const shared = (t: Tensor, heads: number): Tensor => (t.shape[1] === heads ? t : expandDims(t, 2));

const attentionOp = defineOp<AttentionAttributes>({
  name: 'attention',
  infer(inputs) {
    const [out, scores] = checkAttention(inputs);
    const { dtype } = inputs[0]!;
    return [
      { dtype, shape: out },
      { dtype, shape: scores },
    ];
  },
  // A causal score matrix is used below its diagonal only.
  flops: ([q, k, v], { causal }, [, p]) =>
    (2 * sizeOf(p!.shape) * (q!.shape[3]! + v!.shape[3]!) + 5 * sizeOf(p!.shape)) *
    (causal && q!.shape[2] === k!.shape[2] ? 0.5 : 1),
  decompose([q, k, v, mask], { causal, scale }) {
    const heads = q!.shape[1]!;
    const kvHeads = k!.shape[1]!;
    const [b, , t, s] = [...q!.shape.slice(0, 3), k!.shape[2]!] as [number, number, number, number];
    let scores = matmul(grouped(q!, kvHeads), shared(k!, heads), { transposeB: true, scale });
    if (causal && t > 1) scores = add(scores, causalMask(t, s, q!.dtype));
    if (mask)
      scores = add(scores, heads === kvHeads ? mask : grouped(broadcastTo(mask, [b, heads, t, s]), kvHeads));
    const p = softmax(scores, -1);
    const y = matmul(p, shared(v!, heads));
    return [reshape(y, [b, heads, t, v!.shape[3]!]), reshape(p, [b, heads, t, s])];
  },
  vjp({ inputs: [q, k, v, mask], outputs: [y, p], attributes: { scale }, needs }, [g, gp]) {
    if (!g && !gp) return [];
    const heads = q!.shape[1]!;
    const kvHeads = k!.shape[1]!;
    const probabilities = grouped(p!, kvHeads);
    let toP: Tensor | undefined;
    let delta: Tensor | undefined;
    if (g) {
      toP = matmul(grouped(g, kvHeads), shared(v!, heads), { transposeB: true });
      // Σ_s P·dP = Σ_d g·y: a sum over the head size instead of over the keys.
      delta = grouped(sum(mul(g, y!), -1, true), kvHeads);
    }
    if (gp) {
      const extra = grouped(gp, kvHeads);
      const extraDelta = sum(mul(extra, probabilities), -1, true);
      toP = toP ? add(toP, extra) : extra;
      delta = delta ? add(delta, extraDelta) : extraDelta;
    }
    const toScores = mul(probabilities, sub(toP!, delta!));
    const sumGroups = (t: Tensor, like: Tensor) => reshape(heads === kvHeads ? t : sum(t, 2), like.shape);
    return [
      needs(0) ? reshape(matmul(toScores, shared(k!, heads), { scale }), q!.shape) : undefined,
      needs(1)
        ? sumGroups(matmul(toScores, grouped(q!, kvHeads), { transposeA: true, scale }), k!)
        : undefined,
      g && needs(2)
        ? sumGroups(matmul(probabilities, grouped(g, kvHeads), { transposeA: true }), v!)
        : undefined,
      mask && needs(3) ? unbroadcast(reshape(toScores, p!.shape), mask.shape) : undefined,
    ];
  },
  cases: [
    {
      inputs: [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
        [1, 2, 3, 4],
      ],
      attributes: { causal: true, scale: 0.5 },
    },
    {
      inputs: [
        [2, 2, 2, 3],
        [2, 2, 5, 3],
        [2, 2, 5, 2],
      ],
      attributes: { causal: false, scale: 1 },
    },
    {
      inputs: [
        [1, 4, 2, 2],
        [1, 2, 3, 2],
        [1, 2, 3, 2],
      ],
      attributes: { causal: true, scale: 0.7 },
    },
    {
      inputs: [
        [1, 2, 2, 2],
        [1, 1, 3, 2],
        [1, 1, 3, 2],
        [2, 3],
      ],
      attributes: { causal: false, scale: 0.7 },
    },
  ],
});

/** Options of `attention`. */
export interface AttentionOptions {
  /** Query i sees keys up to i + keys - queries. */
  causal?: boolean;
  /** Added to the scores before the softmax; broadcasts to [batch, heads, queries, keys]. */
  mask?: Tensor;
  /** Factor on the scores. Default: 1/sqrt(head size). */
  scale?: number;
}

/**
 * Scaled dot-product attention: softmax(q kᵀ·scale + mask) v. `q` is [B, H, T, d], `k` [B, Hkv, S, d] and
 * `v` [B, Hkv, S, dv]; H is a multiple of Hkv (grouped-query attention). Returns [B, H, T, dv].
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { causal = false, mask, scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1) } = options;
  return attentionOp.apply(mask ? [q, k, v, mask] : [q, k, v], { causal, scale })[0]!;
}

type RotaryAttributes = { interleaved: boolean };
const rotaryCases: readonly OpCase<RotaryAttributes>[] = [
  {
    inputs: [
      [2, 3, 4],
      [3, 2],
      [3, 2],
    ],
    attributes: { interleaved: false },
  },
  {
    inputs: [
      [1, 2, 3, 6],
      [3, 3],
      [3, 3],
    ],
    attributes: { interleaved: true },
  },
];

const rotaryOp: Applicable<RotaryAttributes> = defineOp<RotaryAttributes>({
  name: 'rotary',
  infer([x, cos, sin]) {
    checkDTypes([x!, cos!, sin!], floats);
    const expected = [x!.shape.at(-2)!, x!.shape.at(-1)! / 2];
    if (!sameShape(cos!.shape, expected) || !sameShape(sin!.shape, expected)) {
      throw new AnnealError(`the tables must be [length, size/2] = ${formatShape(expected)}`);
    }
    return [x!];
  },
  flops: (_inputs, _attributes, [y]) => 3 * sizeOf(y!.shape),
  decompose([x, cos, sin], { interleaved }) {
    const half = x!.shape.at(-1)! / 2;
    if (!interleaved) {
      const [a, b] = split(x!, 2, -1) as [Tensor, Tensor];
      return [concat([sub(mul(a, cos!), mul(b, sin!)), add(mul(b, cos!), mul(a, sin!))], x!.rank - 1)];
    }
    const pairs = reshape(x!, [...x!.shape.slice(0, -1), half, 2]);
    const [a, b] = split(pairs, 2, -1).map((t) => reshape(t, [...x!.shape.slice(0, -1), half])) as [
      Tensor,
      Tensor,
    ];
    const turned = [sub(mul(a, cos!), mul(b, sin!)), add(mul(b, cos!), mul(a, sin!))].map((t) =>
      expandDims(t, -1),
    );
    return [reshape(concat(turned, -1), x!.shape)];
  },
  vjp({ inputs: [x, cos, sin], attributes, needs }, [g]) {
    if (!g) return [];
    // The rotation is orthogonal: its transpose turns by the opposite angle.
    const dx = needs(0) ? rotaryOp.apply([g, cos!, neg(sin!)], attributes)[0]! : undefined;
    if (!needs(1) && !needs(2)) return [dx];
    const [a, b] = halves(x!, attributes);
    const [ga, gb] = halves(g, attributes);
    return [
      dx,
      unbroadcast(add(mul(ga, a), mul(gb, b)), cos!.shape),
      unbroadcast(sub(mul(gb, a), mul(ga, b)), sin!.shape),
    ];
  },
  cases: rotaryCases,
});

/** The two coordinates of each rotated plane. */
function halves(x: Tensor, { interleaved }: RotaryAttributes): [Tensor, Tensor] {
  if (!interleaved) return split(x, 2, -1) as [Tensor, Tensor];
  const all = x.shape.slice(0, -1).map(() => null);
  return [slice(x, [...all, [0, null, 2]]), slice(x, [...all, [1, null, 2]])];
}

/**
 * Rotary position embedding (Su et al. 2021) of x [..., length, size], turned by the angles whose cosines and
 * sines are [length, size/2]. `interleaved` pairs neighbours (2i, 2i+1); the default pairs i with i + size/2.
 */
export const rotary = (x: Tensor, cos: Tensor, sin: Tensor, interleaved = false): Tensor =>
  rotaryOp.apply([x, cos, sin], { interleaved })[0]!;

/** Tables of `rotary` for positions start … start+length-1: angle(p, i) = p · base^(-2i/size). */
export function rotaryTables(
  length: number,
  size: number,
  base = 10000,
  start = 0,
): { cos: Tensor; sin: Tensor } {
  const angle = (p: number, i: number) => (start + p) * base ** ((-2 * i) / size);
  return {
    cos: matrix(length, size / 2, 'float32', (p, i) => Math.cos(angle(p, i))),
    sin: matrix(length, size / 2, 'float32', (p, i) => Math.sin(angle(p, i))),
  };
}

type CrossEntropyAttributes = { ignoreIndex: number | undefined };

/** Rows' losses, and the log-probabilities that the gradient needs. */
const crossEntropyOp = defineOp<CrossEntropyAttributes>({
  name: 'crossEntropy',
  infer([logits, targets]) {
    checkDTypes([logits!], floats);
    if (targets!.dtype !== 'int32') throw new AnnealError(`targets are ${targets!.dtype}, not int32`);
    if (logits!.shape.length !== 2 || !sameShape(logits!.shape.slice(0, 1), targets!.shape)) {
      throw new AnnealError('needs logits [n, classes] and targets [n]');
    }
    return [{ dtype: logits!.dtype, shape: targets!.shape }, logits!];
  },
  flops: (_inputs, _attributes, [, p]) => 5 * sizeOf(p!.shape),
  decompose([logits, targets], { ignoreIndex }) {
    const lp = logSoftmax(logits!, -1);
    if (ignoreIndex === undefined) {
      return [neg(reshape(takeAlongAxis(lp, expandDims(targets!, -1), -1), targets!.shape)), lp];
    }
    const ignored = equal(targets!, ignoreIndex);
    const safe = where(ignored, 0, targets!);
    const picked = reshape(takeAlongAxis(lp, expandDims(safe, -1), -1), targets!.shape);
    return [where(ignored, 0, neg(picked)), lp];
  },
  vjp({ inputs: [, targets], outputs: [, lp], attributes: { ignoreIndex } }, [g, glp]) {
    let toLogits: Tensor | undefined;
    if (g) {
      const ignored = ignoreIndex === undefined ? undefined : equal(targets!, ignoreIndex);
      const rows = expandDims(ignored ? where(ignored, 0, g) : g, -1);
      const safe = expandDims(ignored ? where(ignored, 0, targets!) : targets!, -1);
      toLogits = sub(mul(exp(lp!), rows), scatterAdd(safe, rows, lp!.shape[1]!, -1));
    }
    if (glp) {
      const through = sub(glp, mul(exp(lp!), sum(glp, -1, true)));
      toLogits = toLogits ? add(toLogits, through) : through;
    }
    return [toLogits];
  },
  cases: [
    {
      inputs: [[3, 5], { shape: [3], dtype: 'int32', values: [0, 4, 2] }],
      attributes: { ignoreIndex: undefined },
    },
    {
      inputs: [[4, 3], { shape: [4], dtype: 'int32', values: [2, -1, 0, -1] }],
      attributes: { ignoreIndex: -1 },
    },
  ],
});

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Targets with this value count neither in the sum nor in the mean. */
  ignoreIndex?: number;
  /** `mean` (default) over the targets that count, their `sum`, or the loss of each. */
  reduction?: 'mean' | 'sum' | 'none';
}

/**
 * Cross-entropy in nats between logits [..., classes] and int32 class numbers [...].
 * With every target ignored the mean is 0.
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex, reduction = 'mean' } = options;
  const flat = reshape(logits, [-1, logits.shape.at(-1)!]);
  const index = reshape(targets, [-1]);
  const rows = crossEntropyOp.apply([flat, index], { ignoreIndex })[0]!;
  if (reduction === 'none') return reshape(rows, targets.shape);
  if (reduction === 'sum') return sum(rows);
  if (ignoreIndex === undefined) return mean(rows);
  const counted = sum(cast(logicalNot(equal(index, ignoreIndex)), rows.dtype));
  return div(sum(rows), maximum(counted, 1));
}

const triInverseOp = defineOp({
  name: 'unitTriangularInverse',
  infer([x]: readonly TensorType[]) {
    checkDTypes([x!], floats);
    if (x!.shape.length < 2 || x!.shape.at(-1) !== x!.shape.at(-2))
      throw new AnnealError('needs square matrices');
    return [x!];
  },
  flops: (_inputs, _attributes, [y]) =>
    4 *
    sizeOf(y!.shape) *
    y!.shape.at(-1)! *
    Math.max(0, Math.ceil(Math.log2(Math.max(y!.shape.at(-1)!, 1))) - 1),
  decompose([x]: readonly Tensor[]) {
    const c = x!.shape.at(-1)!;
    const merge = (s: number) =>
      matrix(c, c, x!.dtype, (i, j) =>
        Math.floor(i / s) % 2 === 1 && Math.floor(j / s) === Math.floor(i / s) - 1 ? 1 : 0,
      );
    const identityMatrix = matrix(c, c, x!.dtype, (i, j) => (i === j ? 1 : 0));
    let y = sub(identityMatrix, mul(x!, merge(1)));
    // Each step turns the inverses of the s×s diagonal blocks into those of the 2s×2s blocks.
    for (let s = 2; s < c; s *= 2) y = sub(y, matmul(matmul(y, mul(x!, merge(s))), y));
    return [y];
  },
  vjp({ outputs: [y] }, [g]) {
    if (!g) return [];
    const c = y!.shape.at(-1)!;
    const full = matmul(matmul(y!, g, { transposeA: true }), y!, { transposeB: true, scale: -1 });
    return [mul(full, lowerTriangle(c, c, -1, y!.dtype))];
  },
  cases: [{ inputs: [[2, 5, 5]] }, { inputs: [[8, 8]] }, { inputs: [[1, 1]] }],
});

/**
 * Inverse of unit lower triangular matrices [..., n, n]. Only the part strictly below the diagonal is
 * read; the diagonal counts as 1. Masked merging of block inverses: unlike Neumann doubling it is stable
 * where the entries are near 2 (its intermediates are inverses of diagonal blocks).
 */
export const unitTriangularInverse = (x: Tensor): Tensor => triInverseOp.apply([x], {})[0]!;

/** Zeros of a shape. */
export const zeros = (shape: readonly number[], dtype: DType = 'float32'): Tensor =>
  broadcastTo(scalar(0, dtype), shape);
/** Ones of a shape. */
export const ones = (shape: readonly number[], dtype: DType = 'float32'): Tensor =>
  broadcastTo(scalar(1, dtype), shape);
/** A shape filled with one value. */
export const full = (shape: readonly number[], value: number, dtype: DType = 'float32'): Tensor =>
  broadcastTo(scalar(value, dtype), shape);
