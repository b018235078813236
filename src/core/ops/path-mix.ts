import { vjp } from '../autodiff.js';
import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add } from './elementwise.js';
import { causalMask, zeros } from './masks.js';
import { matmul } from './matmul.js';
import { pathLayout, pathWorkLayout } from './path-layout.js';
import { pathBlocks, pathLogitsOp } from './path-logits.js';
import { softmax } from './softmax.js';
import { reshape } from './view.js';

type MixAttributes = { block: number };

/** Sizes of the operands q [N, L, d] and v [N, L, dv], as the kernels want them. */
function sizesOf([q, , v]: readonly TensorType[], { block }: MixAttributes) {
  const [heads, length, d] = q!.shape as [number, number, number];
  return { heads, length, d, dv: v!.shape[2]!, block };
}

function check([q, k, v, w, beta]: readonly TensorType[], { block }: MixAttributes): void {
  checkDTypes([q!, k!, v!, w!, beta!], floats);
  const [heads, length] = q!.shape as [number, number, number];
  if (length % block !== 0) throw new AnnealError(`blocks of ${block} do not divide ${length} positions`);
  for (const [t, shape] of [
    [k!, q!.shape],
    [w!, q!.shape],
    [v!, [heads, length, v!.shape[2]!]],
    [beta!, [heads, length]],
  ] as const) {
    if (!sameShape(t.shape, shape)) throw new AnnealError(`an operand must be ${formatShape(shape)}`);
  }
}

/** The result by ordinary ops. */
function mixed([q, k, v, w, beta]: readonly Tensor[], { block: c }: MixAttributes): Tensor {
  const [heads, length, d] = q!.shape as [number, number, number];
  const n = length / c;
  const blocked = (t: Tensor) => reshape(t, [heads, n, c, d]);
  const blocks = pathBlocks(blocked(q!), blocked(k!), blocked(w!), reshape(beta!, [heads, n, c]));
  const { queries, keys, transforms, local } = blocks;
  const logits = pathLogitsOp.apply([queries, keys, transforms, local], {})[0]!;
  return matmul(softmax(add(logits, causalMask(length, length, q!.dtype)), -1), v!);
}

/**
 * PaTH attention of heads [N, L, d] that keeps no scores: results are y, and what its gradient reads besides: what was prepared (see
 * `PathLayout`), and the largest score and 1 over the sum of exponentials of each query. Kernels compute the last two; without
 * kernels they are unused.
 */
export const pathMixOp = defineOp<MixAttributes>({
  name: 'pathMix',
  infer(inputs, attributes) {
    check(inputs, attributes);
    const { heads, length, dv, ...sizes } = sizesOf(inputs, attributes);
    const { dtype } = inputs[0]!;
    return [
      { dtype, shape: [heads, length, dv] },
      { dtype, shape: [heads, Math.max(1, pathLayout({ length, ...sizes }).size)] },
      { dtype, shape: [heads, 2, length] },
    ];
  },
  flops(inputs, attributes) {
    const { heads, length, d, dv, block } = sizesOf(inputs, attributes);
    const { levels } = pathLayout({ length, d, block });
    // Half of the scores and of the products with values; the blocks; both crossings and the transforms at each level.
    return heads * length * (length * (d + dv) + 2 * block * (5 * d + block) + 2 * d * d * (levels + 1));
  },
  decompose(inputs, attributes) {
    const { heads, length, ...sizes } = sizesOf(inputs, attributes);
    const { dtype } = inputs[0]!;
    const kept = Math.max(1, pathLayout({ length, ...sizes }).size);
    return [mixed(inputs, attributes), zeros([heads, kept], dtype), zeros([heads, 2, length], dtype)];
  },
  vjp({ inputs, outputs: [y, kept, stats], attributes }, [g]) {
    return g ? pathMixGradOp.apply([...inputs, y!, stats!, kept!, g], attributes) : [];
  },
  lower(b, node, attributes) {
    const { d, dv, length, block } = sizesOf(node.inputs, attributes);
    const [q, k, v, w, beta] = node.inputs.map((type, i) => ({ name: b.inputs[i]!, type }));
    const [y, kept, stats] = node.outputs.map((type, i) => ({ name: b.outputs[i] || b.fresh('kept'), type }));
    const sizes = { d, dv, length, block };
    return (
      b.kernel('pathPrepare', sizes, [q!, k!, w!, beta!], [kept!]) !== undefined &&
      b.kernel('pathAttend', sizes, [kept!, v!], [y!, stats!]) !== undefined
    );
  },
  cases: [
    {
      inputs: [[2, 6, 3], [2, 6, 3], [2, 6, 2], [2, 6, 3], { shape: [2, 6], low: 0.1, high: 1.9 }],
      attributes: { block: 2 },
    },
    {
      inputs: [[1, 3, 2], [1, 3, 2], [1, 3, 2], [1, 3, 2], { shape: [1, 3], low: 0.1, high: 1.9 }],
      attributes: { block: 3 },
    },
  ],
});

/** Gradients of q, k, v, w and beta from these, all results of `pathMix`, and the gradient of its first. */
const pathMixGradOp = defineOp<MixAttributes>({
  name: 'pathMixGrad',
  infer: ([q, k, v, w, beta]) => [q!, k!, v!, w!, beta!],
  flops(inputs, attributes) {
    const { heads, length, d, dv, block } = sizesOf(inputs, attributes);
    const { levels } = pathLayout({ length, d, block });
    return (
      heads * length * (length * (3 * d + 2 * dv) + 4 * block * (5 * d + block) + 4 * d * d * (levels + 1))
    );
  },
  decompose([q, k, v, w, beta, , , , g], attributes) {
    const operands = [q!, k!, v!, w!, beta!];
    return vjp([mixed(operands, attributes)], operands, [g!]) as Tensor[];
  },
  lower(b, node, attributes) {
    const { heads, d, dv, length, block } = sizesOf(node.inputs, attributes);
    const inputs = node.inputs.map((type, i) => ({ name: b.inputs[i]!, type }));
    const shape = [heads, Math.max(1, pathWorkLayout({ d, length, block }).size)];
    const work = { name: b.fresh('work'), type: { dtype: node.inputs[0]!.dtype, shape } };
    const outputs = node.outputs.map((type, i) => ({ name: b.outputs[i] || b.fresh('unused'), type }));
    return b.kernel('pathGrad', { d, dv, length, block }, inputs, [...outputs, work]) !== undefined;
  },
  cases: [
    {
      inputs: [
        [1, 4, 3],
        [1, 4, 3],
        [1, 4, 2],
        [1, 4, 3],
        { shape: [1, 4], low: 0.1, high: 1.9 },
        [1, 4, 2],
        [1, 2, 4],
        [1, 1],
        [1, 4, 2],
      ],
      attributes: { block: 2 },
      gradient: false,
    },
  ],
});

/** Whether kernels exist for these sizes, and in blocks of how many positions. */
export function pathBlock(length: number, d: number, dv: number): number | undefined {
  if (d % 16 !== 0 || dv % 16 !== 0 || length < 16) return undefined;
  // Short sequences, and those that would be padded much, in smaller blocks.
  return [64, 32, 16].find((c) => length % c === 0) ?? (length > 256 ? 64 : length > 64 ? 32 : 16);
}
