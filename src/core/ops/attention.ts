import { AnnealError } from '../errors.js';
import { type CompositeDeclaration, checkDTypes, defineOp, floats } from '../op.js';
import { broadcastShapes, formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, mul, sub } from './elementwise.js';
import { causalMask } from './masks.js';
import { triangularProduct } from './matmul.js';
import { sum, unbroadcast } from './reduce.js';
import { perElement, sameType, softmax, softmaxGradOp } from './softmax.js';
import { broadcastTo, expandDims, reshape } from './view.js';

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

/** A mask that broadcasts to [B, H, T, S], for scores [B, Hkv, H/Hkv, T, S]; one that heads share stays as small as it is. */
function groupedMask(mask: Tensor, scores: readonly number[], kvHeads: number): Tensor {
  const heads = mask.rank < 3 ? 1 : mask.shape.at(-3)!;
  if (heads === 1) return mask.rank < 4 ? mask : expandDims(mask, 2);
  return grouped(broadcastTo(mask, [mask.rank < 4 ? 1 : mask.shape[0]!, ...scores.slice(1)]), kvHeads);
}

/** How a backend's operator tells which scores lie below the diagonal: matrices of `queries` rows, shifted. */
function triangle(scores: TensorType): { causal: number; queries: number; shift: number } {
  const [queries, keys] = scores.shape.slice(-2) as [number, number];
  return { causal: 1, queries, shift: keys - queries };
}

/** Softmax of scores [..., queries, keys] of which query i sees those up to i + keys - queries. */
const causalSoftmaxOp = defineOp({
  name: 'causalSoftmax',
  infer: sameType,
  flops: perElement(3),
  decompose([scores]: readonly Tensor[]) {
    const [queries, keys] = scores!.shape.slice(-2) as [number, number];
    return [softmax(add(scores!, causalMask(queries, keys, scores!.dtype)), -1)];
  },
  vjp: ({ outputs: [p] }, [g]) => [g && softmaxGradOp.apply([p!, g], { axis: p!.rank - 1 })[0]!],
  lower: (b, node) => b.resultKernel(node, 'softmax', triangle(node.outputs[0]!)),
  cases: [{ inputs: [[2, 3, 3]] }, { inputs: [[2, 5]] }, { inputs: [[1, 2, 2, 4]] }],
});

/** Gradient of the scores from the probabilities, their gradient, and the sum of the products of both in each row. */
const scoresGradOp = defineOp<{ causal: boolean }>({
  name: 'scoresGrad',
  infer: sameType,
  flops: perElement(2),
  decompose: ([p, g, delta]) => [mul(p!, sub(g!, delta!))],
  lower: (b, node, { causal }) =>
    b.resultKernel(node, 'scoresGrad', causal ? triangle(node.outputs[0]!) : {}),
  // Without the triangle: the reference multiplies whatever stands above the diagonal.
  cases: [
    {
      inputs: [
        [2, 3, 3],
        [2, 3, 3],
        [2, 3, 1],
      ],
      attributes: { causal: false },
    },
  ],
});

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
    const isCausal = causal && t > 1;
    let scores = triangularProduct(
      grouped(q!, kvHeads),
      shared(k!, heads),
      isCausal && !mask ? 'result' : undefined,
      { transposeB: true, scale },
    );
    if (mask) scores = add(scores, heads === kvHeads ? mask : groupedMask(mask, [b, heads, t, s], kvHeads));
    const p = isCausal ? causalSoftmaxOp.apply([scores], {})[0]! : softmax(scores, -1);
    const y = triangularProduct(p, shared(v!, heads), isCausal ? 'left' : undefined);
    return [reshape(y, [b, heads, t, v!.shape[3]!]), reshape(p, [b, heads, t, s])];
  },
  vjp({ inputs: [q, k, v, mask], outputs: [y, p], attributes: { causal, scale }, needs }, [g, gp]) {
    if (!g && !gp) return [];
    const heads = q!.shape[1]!;
    const kvHeads = k!.shape[1]!;
    const probabilities = grouped(p!, kvHeads);
    let toP: Tensor | undefined;
    let delta: Tensor | undefined;
    if (g) {
      toP = triangularProduct(grouped(g, kvHeads), shared(v!, heads), causal ? 'result' : undefined, {
        transposeB: true,
      });
      // Σ_s P·dP = Σ_d g·y: a sum over the head size instead of over the keys.
      delta = grouped(sum(mul(g, y!), -1, true), kvHeads);
    }
    if (gp) {
      const extra = grouped(gp, kvHeads);
      const extraDelta = sum(mul(extra, probabilities), -1, true);
      toP = toP ? add(toP, extra) : extra;
      delta = delta ? add(delta, extraDelta) : extraDelta;
    }
    const toScores = scoresGradOp.apply([probabilities, toP!, delta!], { causal })[0]!;
    const left = causal ? 'left' : undefined;
    const sumGroups = (t: Tensor, like: Tensor) => reshape(heads === kvHeads ? t : sum(t, 2), like.shape);
    return [
      needs(0)
        ? reshape(triangularProduct(toScores, shared(k!, heads), left, { scale }), q!.shape)
        : undefined,
      needs(1)
        ? sumGroups(triangularProduct(toScores, grouped(q!, kvHeads), left, { transposeA: true, scale }), k!)
        : undefined,
      g && needs(2)
        ? sumGroups(triangularProduct(probabilities, grouped(g, kvHeads), left, { transposeA: true }), v!)
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
    // A mask per row that the grouped heads share, and one per head.
    {
      inputs: [
        [2, 4, 2, 2],
        [2, 2, 3, 2],
        [2, 2, 3, 2],
        [2, 1, 2, 3],
      ],
      attributes: { causal: false, scale: 0.7 },
    },
    {
      inputs: [
        [2, 4, 2, 2],
        [2, 2, 3, 2],
        [2, 2, 3, 2],
        [4, 2, 3],
      ],
      attributes: { causal: true, scale: 0.7 },
    },
  ],
});

/** The same composition as `attention` in separate nodes, for the decompositions of other ops. */
export const attentionParts = (q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: number): Tensor =>
  (attentionOp as CompositeDeclaration<AttentionAttributes>).decompose([q, k, v, mask], {
    causal: false,
    scale,
  })[0]!;

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
