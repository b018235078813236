import { AnnealError } from '../errors.js';
import { type CompositeDeclaration, checkDTypes, defineOp, floats } from '../op.js';
import { broadcastShapes, formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, exp, mul, neg, sigmoid, softplus, sub } from './elementwise.js';
import { lowerTriangle, maskedScore, matrix, upperTriangle, zeros } from './masks.js';
import { matmul } from './matmul.js';
import { cumsum, sum, unbroadcast } from './reduce.js';
import { pad, slice } from './slice.js';
import { broadcastTo, expandDims, reshape } from './view.js';

type StickAttributes = { scale: number; attendCurrent: boolean; remainder: boolean };

/** Keys that are summed by one product with a triangle of ones. */
const blockSize = 64;

/**
 * Running sums along the last axis, each element included: a product with a triangle of ones inside blocks,
 * and running sums of the few totals of blocks. ONNX Runtime's own CumSum works on one element after the other.
 */
function runningSums(x: Tensor, reverse: boolean): Tensor {
  const length = x.shape.at(-1)!;
  const c = Math.min(blockSize, length);
  const n = Math.ceil(length / c);
  const triangle = (reverse ? lowerTriangle : upperTriangle)(c, c, 0, x.dtype);
  if (n === 1) return matmul(x, triangle);
  const lead = x.shape.slice(0, -1);
  const fill = n * c - length;
  const sides = [...lead.map(() => [0, 0] as [number, number]), [0, fill] as [number, number]];
  const blocks = reshape(fill === 0 ? x : pad(x, sides), [...lead, n, c]);
  const within = matmul(blocks, triangle);
  const edge = reverse ? 0 : c - 1;
  const totals = slice(within, [...lead.map(() => null), null, [edge, edge + 1]]);
  const before = cumsum(reshape(totals, [...lead, n]), -1, { exclusive: true, reverse });
  const sums = reshape(add(within, expandDims(before, -1)), [...lead, n * c]);
  return fill === 0 ? sums : slice(sums, [...lead.map(() => null), [0, length]]);
}

/** [B, H, T, d] as [B, Hkv, group, T, d]. */
const grouped = (t: Tensor, kvHeads: number): Tensor => {
  const [b, h, n, d] = t.shape as [number, number, number, number];
  return reshape(t, [b, kvHeads, h / kvHeads, n, d]);
};
const shared = (t: Tensor): Tensor => expandDims(t, 2);

/** Masked scores z [B, Hkv, group, T, S]. */
function scoresOf([q, k, , mask]: readonly Tensor[], { scale, attendCurrent }: StickAttributes): Tensor {
  const [kvHeads, keys] = [k!.shape[1]!, k!.shape[2]!];
  const [b, heads, queries] = q!.shape as [number, number, number];
  const last = keys - queries - (attendCurrent ? 0 : 1);
  const causal = matrix(queries, keys, q!.dtype, (i, j) => (j - i <= last ? 0 : maskedScore));
  const z = add(matmul(grouped(q!, kvHeads), shared(k!), { transposeB: true, scale }), causal);
  if (!mask) return z;
  return add(z, grouped(broadcastTo(mask, [b, heads, queries, keys]), kvHeads));
}

/** The value at each query's own position, [B, Hkv, 1, T, dv]. */
const ownValues = (v: Tensor, queries: number): Tensor => {
  const keys = v.shape[2]!;
  return shared(queries === keys ? v : slice(v, [null, null, [keys - queries, keys]]));
};

function check([q, k, v, mask]: readonly TensorType[]): void {
  checkDTypes([q!, k!, v!], floats);
  if ([q!, k!, v!].some((t) => t.shape.length !== 4))
    throw new AnnealError('q, k and v must be [batch, heads, length, size]');
  const [batch, heads, queries, d] = q!.shape as [number, number, number, number];
  const [kb, kvHeads, keys, kd] = k!.shape as [number, number, number, number];
  if (kb !== batch || kd !== d || !sameShape(v!.shape.slice(0, 3), k!.shape.slice(0, 3)))
    throw new AnnealError('q, k and v must agree in batch and head size, k and v in heads and length');
  if (heads % kvHeads !== 0)
    throw new AnnealError(`${heads} query heads are no multiple of ${kvHeads} key heads`);
  if (queries > keys) throw new AnnealError(`${queries} queries have no own position among ${keys} keys`);
  const scores = [batch, heads, queries, keys];
  if (mask && !sameShape(broadcastShapes(mask.shape, scores), scores))
    throw new AnnealError(
      `mask ${formatShape(mask.shape)} does not broadcast to scores ${formatShape(scores)}`,
    );
}

const stickBreakingOp = defineOp<StickAttributes>({
  name: 'stickBreaking',
  infer(inputs) {
    check(inputs);
    const [q, k, v] = inputs as [TensorType, TensorType, TensorType];
    const lead = q.shape.slice(0, 3);
    const { dtype } = q;
    return [
      { dtype, shape: [...lead, v.shape[3]!] },
      { dtype, shape: [...lead, k.shape[2]!] },
      { dtype, shape: lead },
    ];
  },
  flops: ([q, k, v], _attributes, [, a]) =>
    sizeOf(a!.shape) * (q!.shape[3]! + v!.shape[3]! + Math.min(blockSize, k!.shape[2]!) + 4),
  decompose([q, k, v, mask], attributes) {
    const z = scoresOf(mask ? [q!, k!, v!, mask] : [q!, k!, v!], attributes);
    // log A = z - Σ over this key and the later ones of softplus(z): log σ(z) and log(1 - σ) of those after it.
    const broken = runningSums(softplus(z), true);
    const a = exp(sub(z, broken));
    const rest = exp(neg(slice(broken, [null, null, null, null, [0, 1]])));
    let y = matmul(a, shared(v!));
    if (attributes.remainder) y = add(y, mul(rest, ownValues(v!, q!.shape[2]!)));
    const [b, heads, queries] = q!.shape as [number, number, number];
    return [
      reshape(y, [b, heads, queries, v!.shape[3]!]),
      reshape(a, [b, heads, queries, k!.shape[2]!]),
      reshape(rest, [b, heads, queries]),
    ];
  },
  /** With G = ∂A and ρ = ∂r: dz = G∘A - σ(z)∘(Σ over this key and the earlier ones of G∘A + r·ρ). Scores are computed again. */
  vjp({ inputs, outputs: [, a, r], attributes, needs }, [g, ga, gr]) {
    if (!g && !ga && !gr) return [];
    const [q, k, v, mask] = inputs as [Tensor, Tensor, Tensor, Tensor | undefined];
    const kvHeads = k.shape[1]!;
    const [b, heads, queries] = q.shape as [number, number, number];
    const share = grouped(a!, kvHeads);
    const rest = grouped(expandDims(r!, -1), kvHeads);
    const toY = g && grouped(g, kvHeads);
    const own = ownValues(v, queries);
    const toA = total([toY && matmul(toY, shared(v), { transposeB: true }), ga && grouped(ga, kvHeads)]);
    const toRest = total([
      attributes.remainder && toY ? sum(mul(toY, own), -1, true) : undefined,
      gr && grouped(expandDims(gr, -1), kvHeads),
    ]);
    const moved = toA && mul(toA, share);
    const sums = total([moved && runningSums(moved, false), toRest && mul(rest, toRest)])!;
    const turned = mul(sigmoid(scoresOf(inputs, attributes)), sums);
    const toZ = moved ? sub(moved, turned) : neg(turned);
    const { scale } = attributes;
    const overGroup = (t: Tensor) => sum(t, 2);
    let toV: Tensor | undefined;
    if (toY && needs(2)) {
      toV = overGroup(matmul(share, toY, { transposeA: true }));
      if (attributes.remainder) {
        const fill = v.shape[2]! - queries;
        toV = add(
          toV,
          pad(overGroup(mul(rest, toY)), [
            [0, 0],
            [0, 0],
            [fill, 0],
            [0, 0],
          ]),
        );
      }
    }
    return [
      needs(0) ? reshape(matmul(toZ, shared(k), { scale }), q.shape) : undefined,
      needs(1) ? overGroup(matmul(toZ, grouped(q, kvHeads), { transposeA: true, scale })) : undefined,
      toV,
      mask && needs(3) ? unbroadcast(reshape(toZ, [b, heads, queries, k.shape[2]!]), mask.shape) : undefined,
    ];
  },
  cases: [
    {
      inputs: [
        [2, 2, 3, 4],
        [2, 2, 3, 4],
        [2, 2, 3, 2],
      ],
      attributes: { scale: 0.7, attendCurrent: false, remainder: true },
    },
    {
      inputs: [
        [1, 4, 2, 3],
        [1, 2, 4, 3],
        [1, 2, 4, 3],
        [2, 4],
      ],
      attributes: { scale: 1, attendCurrent: true, remainder: true },
    },
    {
      inputs: [
        [1, 1, 3, 2],
        [1, 1, 3, 2],
        [1, 1, 3, 2],
      ],
      attributes: { scale: 1, attendCurrent: false, remainder: false },
    },
  ],
});

/** Positions of a block of the kernels: the largest that divides the length; undefined: the kernels do not fit. */
export function stickBlock(length: number, d: number, dv: number): number | undefined {
  return d % 16 === 0 && dv % 16 === 0 ? [64, 32, 16].find((c) => length % c === 0) : undefined;
}

/** Attributes as a kernel gets them: numbers. */
const numbersOf = ({ scale, attendCurrent, remainder }: StickAttributes) => ({
  scale,
  attendCurrent: Number(attendCurrent),
  remainder: Number(remainder),
});

/**
 * Stick-breaking attention that keeps no scores: results are y, what is left of the sticks [B, H, L], and what was left of them
 * when they came to each block of keys [B, H, blocks, L]. Kernels compute the last and read it; without kernels it is unused.
 */
const stickMixOp = defineOp<StickAttributes>({
  name: 'stickBreakingMix',
  infer(inputs) {
    check(inputs);
    const [q, , v] = inputs as [TensorType, TensorType, TensorType];
    const [b, h, length, d] = q.shape as [number, number, number, number];
    const { dtype } = q;
    const block = stickBlock(length, d, v.shape[3]!) ?? length;
    return [
      { dtype, shape: [b, h, length, v.shape[3]!] },
      { dtype, shape: [b, h, length] },
      { dtype, shape: [b, h, length / block, length] },
    ];
  },
  flops: ([q, , v]) => sizeOf(q!.shape.slice(0, 3)) * q!.shape[2]! * (q!.shape[3]! + v!.shape[3]! + 4),
  decompose(inputs, attributes) {
    const [y, , rest] = stickBreakingOp.apply(inputs, attributes);
    const [b, h, length, d] = inputs[0]!.shape as [number, number, number, number];
    const blocks = length / (stickBlock(length, d, inputs[2]!.shape[3]!) ?? length);
    return [y!, rest!, zeros([b, h, blocks, length], y!.dtype)];
  },
  vjp({ inputs, outputs: [, rest, carries], attributes }, [g, gr]) {
    if (!g && !gr) return [];
    const [q, k, v] = inputs as [Tensor, Tensor, Tensor];
    // The kernels know the gradient of the result only.
    if (gr) {
      const outputs = stickBreakingOp.apply(inputs, attributes);
      return stickRule({ inputs, outputs, attributes, needs: () => true }, [g, undefined, gr]);
    }
    return stickGradOp.apply([q, k, v, g!, rest!, carries!], attributes);
  },
  lower(b, node, attributes) {
    const inputs = node.inputs.map((type, i) => ({ name: b.inputs[i]!, type }));
    const outputs = node.outputs.map((type, i) => ({
      type,
      ...(b.outputs[i] ? { name: b.outputs[i] } : {}),
    }));
    return b.kernel('stickBreaking', numbersOf(attributes), inputs, outputs) !== undefined;
  },
  cases: [
    {
      inputs: [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
        [1, 2, 3, 2],
      ],
      attributes: { scale: 0.7, attendCurrent: false, remainder: true },
    },
  ],
});

const stickRule = (stickBreakingOp as CompositeDeclaration<StickAttributes>).vjp!;

/** Gradients of q, k and v from these, the gradient of the result, and the other results of `stickBreakingMix`. */
const stickGradOp = defineOp<StickAttributes>({
  name: 'stickBreakingGrad',
  infer: ([q, k, v]) => [q!, k!, v!],
  flops: ([q, , v]) => 2.5 * sizeOf(q!.shape.slice(0, 3)) * q!.shape[2]! * (q!.shape[3]! + v!.shape[3]!),
  decompose([q, k, v, g], attributes) {
    const inputs = [q!, k!, v!];
    const outputs = stickBreakingOp.apply(inputs, attributes);
    return stickRule({ inputs, outputs, attributes, needs: () => true }, [g!]).slice(0, 3) as Tensor[];
  },
  lower: (b, node, attributes) => b.resultKernel(node, 'stickBreakingGrad', numbersOf(attributes)),
  cases: [
    {
      inputs: [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
        [1, 2, 3, 2],
        [1, 2, 3, 2],
        [1, 2, 3],
        [1, 2, 1, 3],
      ],
      attributes: { scale: 0.7, attendCurrent: false, remainder: true },
      gradient: false,
    },
  ],
});

const total = (list: readonly (Tensor | undefined)[]): Tensor | undefined =>
  list.reduce((a, b) => (a && b ? add(a, b) : (a ?? b)), undefined);

/**
 * The same for the new tokens of a cache: queries [B, H, T, d] over all its keys and values [B, Hkv, S, ...], of which
 * `mask` [B, 1, T, S] leaves the ones before each query, and the queries' own values `own` [B, Hkv, T, dv].
 */
export function brokenStick(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  own: Tensor,
  mask: Tensor,
  scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1),
): Tensor {
  const kvHeads = keys.shape[1]!;
  const products = matmul(grouped(q, kvHeads), shared(keys), { transposeB: true, scale });
  const z = add(products, expandDims(mask, 1));
  const broken = runningSums(softplus(z), true);
  const rest = exp(neg(slice(broken, [null, null, null, null, [0, 1]])));
  const y = add(matmul(exp(sub(z, broken)), shared(values)), mul(rest, shared(own)));
  return reshape(y, [...q.shape.slice(0, 3), values.shape[3]!]);
}

/** Options of `stickBreakingAttention`. */
export interface StickBreakingOptions {
  /** Factor on the scores. Default 1/√d. */
  scale?: number;
  /** A query may attend to its own position. Default false, as published. */
  attendCurrent?: boolean;
  /** What is left of the stick goes to the query's own value. Default true, as in the authors' models. */
  remainder?: boolean;
  /** Added to the scores; broadcasts to [B, H, T, S]: keeps packed documents apart. */
  mask?: Tensor;
}

/**
 * Stick-breaking attention (Tan et al. 2024): going back from a query, each key breaks off the share σ(q·k) of
 * what is left of a stick of length 1. No softmax and no positions: nearer keys come first.
 *
 * q is [B, H, T, d], k [B, Hkv, S, d], v [B, Hkv, S, dv]; the queries are the last T of the S positions. Returns
 * [B, H, T, dv]. Its gradient has a closed form and keeps only the shares.
 * @throws AnnealError if shapes do not fit.
 */
export function stickBreakingAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: StickBreakingOptions = {},
): Tensor {
  const {
    scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1),
    attendCurrent = false,
    remainder = true,
    mask,
  } = options;
  const inputs = mask ? [q, k, v, mask] : [q, k, v];
  const isSquare = q.rank === 4 && v.rank === 4 && q.shape[2] === k.shape[2] && q.dtype === 'float32';
  if (!mask && isSquare && stickBlock(q.shape[2]!, q.shape[3]!, v.shape[3]!) !== undefined)
    return stickMixOp.apply(inputs, { scale, attendCurrent, remainder })[0]!;
  return stickBreakingOp.apply(inputs, { scale, attendCurrent, remainder })[0]!;
}
