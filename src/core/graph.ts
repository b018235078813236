import { makeNode } from './op.js';
import type { Node, Tensor } from './tensor.js';

/**
 * The nodes that `roots` depend on, inputs before users, in a fixed order. The walk does not enter `stop`.
 */
export function topological(roots: readonly Tensor[], stop?: ReadonlySet<Node>): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>(stop);
  // An explicit stack: graphs of deep models overflow the call stack.
  const stack: [Node, number][] = [];
  for (const root of roots) {
    if (seen.has(root.node)) continue;
    seen.add(root.node);
    stack.push([root.node, 0]);
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const next = top[0].inputs[top[1]++];
      if (next === undefined) {
        order.push(top[0]);
        stack.pop();
      } else if (!seen.has(next.node)) {
        seen.add(next.node);
        stack.push([next.node, 0]);
      }
    }
  }
  return order;
}

/** How many operands (and roots) each tensor is. */
export function countUses(roots: readonly Tensor[], order: readonly Node[]): Map<Tensor, number> {
  const uses = new Map<Tensor, number>();
  const count = (t: Tensor) => uses.set(t, (uses.get(t) ?? 0) + 1);
  for (const node of order) node.inputs.forEach(count);
  roots.forEach(count);
  return uses;
}

/** A node like `node`, with other inputs. */
export function cloneNode(node: Node, inputs: readonly Tensor[], recompute = node.recompute): Node {
  const { origin, payload, region } = node;
  return makeNode(node.op, inputs, node.attributes, { origin, payload, region, recompute });
}

/**
 * Rebuilds a graph from its leaves to its roots. `visit` sees each node with its rebuilt inputs and may
 * return other tensors for its outputs; otherwise the node is kept, or copied where an input changed.
 */
export function rewrite(
  roots: readonly Tensor[],
  visit: (node: Node, inputs: readonly Tensor[]) => readonly Tensor[] | undefined,
): Tensor[] {
  const done = new Map<Tensor, Tensor>();
  for (const node of topological(roots)) {
    const inputs = node.inputs.map((t) => done.get(t)!);
    let outputs = visit(node, inputs);
    if (!outputs) {
      const same = inputs.every((t, i) => t === node.inputs[i]);
      outputs = same ? node.outputs : cloneNode(node, inputs).outputs;
    }
    node.outputs.forEach((t, i) => {
      done.set(t, outputs[i]!);
    });
  }
  return roots.map((t) => done.get(t)!);
}
