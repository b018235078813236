import { countUses, rewrite, topological } from '../graph.js';
import { swigluOp } from '../ops/joint-matmul.js';
import type { MatmulAttributes } from '../ops/matmul.js';
import { sameShape } from '../shape.js';
import type { Node, Tensor } from '../tensor.js';
import type { Pass } from './simplify.js';

/** x and w of a plain product of two matrices. */
function plainProduct({ op, inputs, attributes }: Node): readonly [Tensor, Tensor] | undefined {
  const { transA, transB, alpha, triangle } = attributes as MatmulAttributes;
  if (op.name !== 'matmul' || transA || transB || alpha !== 1 || triangle) return undefined;
  const [x, w] = inputs as [Tensor, Tensor];
  return x.rank === 2 && w.rank === 2 && x.dtype === 'float32' ? [x, w] : undefined;
}

/**
 * Makes silu(x·gate)·(x·up) one node where nothing else needs its parts. (In training the gradient does.) Only for
 * backends that may have an operator for it.
 */
export const gatedProducts: Pass = {
  name: 'gated',
  run(roots) {
    const uses = countUses(roots, topological(roots));
    const isOwn = (t: Tensor) => uses.get(t) === 1;
    return rewrite(roots, (node, inputs) => {
      if (node.op.name !== 'mul') return undefined;
      const at = inputs.findIndex(({ node: { op } }) => op.name === 'silu');
      if (at < 0) return undefined;
      const [activated, other] = [node.inputs[at]!, node.inputs[1 - at]!];
      if (activated.node.op.name !== 'silu' || ![activated, activated.node.inputs[0]!, other].every(isOwn))
        return undefined;
      const gate = plainProduct(inputs[at]!.node.inputs[0]!.node);
      const up = plainProduct(inputs[1 - at]!.node);
      if (!gate || !up || gate[0] !== up[0] || !sameShape(gate[1].shape, up[1].shape)) return undefined;
      return swigluOp.apply([gate[0], gate[1], up[1]], {});
    });
  },
};
