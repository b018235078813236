import { topological } from '../graph.js';
import type { Tensor } from '../tensor.js';
import { gatedProducts } from './gated.js';
import {
  algebra,
  commonSubexpressions,
  constantFolding,
  gemm,
  markers,
  matmulLayout,
  type Pass,
} from './simplify.js';

export type { Pass } from './simplify.js';

/** How many nodes a pass removed (negative: added). */
export interface Saving {
  pass: string;
  nodes: number;
}

/** The passes, in the order in which they run. `hasKernels`: the backend may have operators of its own. */
export const passes = (keepAccumulate = false, hasKernels = false): readonly Pass[] => [
  markers(keepAccumulate),
  constantFolding,
  algebra,
  commonSubexpressions,
  matmulLayout,
  gemm,
  algebra,
  commonSubexpressions,
  ...(hasKernels ? [gatedProducts] : []),
];

/** Runs the passes; dead code goes by itself, since a graph is what its roots depend on. */
export function optimize(
  roots: readonly Tensor[],
  list: readonly Pass[] = passes(),
): { roots: Tensor[]; savings: Saving[] } {
  let current = [...roots];
  let count = topological(current).length;
  const savings: Saving[] = [];
  for (const pass of list) {
    current = pass.run(current);
    const next = topological(current).length;
    const same = savings.find((s) => s.pass === pass.name);
    if (same) same.nodes += count - next;
    else savings.push({ pass: pass.name, nodes: count - next });
    count = next;
  }
  return { roots: current, savings };
}
