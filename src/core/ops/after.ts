import { type Attributes, defineOp, type PrimitiveDeclaration } from '../op.js';
import type { Tensor } from '../tensor.js';

const afterOp = defineOp({
  name: 'after',
  view: true,
  flops: () => 0,
  infer: ([x]) => [x!],
  vjp: (_context, [g]) => [g],
  lower(b, node) {
    // ONNX has no control dependencies. An empty slice of the signal, appended to a shape, is one:
    // the reshape cannot run before the signal, and costs nothing.
    const empty = b.emit('Slice', [
      b.emit('Reshape', [b.inputs[1]!, b.ints([-1])]),
      b.ints([0]),
      b.ints([0]),
      b.ints([0]),
    ]);
    const nothing = b.emit('Cast', [empty], { to: 7 });
    const shape = b.emit('Concat', [b.ints(node.outputs[0]!.shape), nothing], { axis: 0 });
    b.result('Reshape', [b.inputs[0]!, shape], { allowzero: true });
  },
  evaluate: ([x]) => [x!.data],
  cases: [{ inputs: [[2, 3], [4]] }],
} as PrimitiveDeclaration<Attributes>);

/**
 * x, but computed (or taken) only after `signal` exists: keeps nodes of the backward pass from running with the
 * forward pass, and what hangs on constants alone from being computed once and kept.
 */
export const after = (x: Tensor, signal: Tensor): Tensor => afterOp.apply([x, signal], {})[0]!;
