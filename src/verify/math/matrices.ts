/** Matrices, with the arithmetic that answers leave undone carried out. */
import { apply, type Node } from './node.js';
import * as q from './rational.js';

export type Rows = readonly (readonly Node[])[];

/** The entries of a matrix, of sums, products and multiples of matrices; undefined for anything else. */
export function matrixValue(node: Node): Rows | undefined {
  if (node.kind === 'matrix') return node.rows;
  if (node.kind !== 'apply') return undefined;
  const [first, second] = node.args;
  const [a, b] = [first && matrixValue(first), second && matrixValue(second)];
  if (node.op === 'neg' && a) return a.map((row) => row.map((cell) => apply('neg', cell)));
  if (node.op === 'add' && a && b && a.length === b.length)
    return a.map((row, i) => row.map((cell, j) => apply('add', cell, b[i]![j] ?? cell)));
  if (node.op === 'mul' && a && b) return productOf(a, b);
  if (node.op === 'mul' && (a || b)) {
    const [rows, scale] = a ? [a, second!] : [b!, first!];
    return rows.map((row) => row.map((cell) => apply('mul', scale, cell)));
  }
  if (node.op === 'div' && a && !b) return a.map((row) => row.map((cell) => apply('div', cell, second!)));
  // Aᵀ; other powers of matrices are not carried out: no answer leaves them undone.
  if (node.op === 'pow' && a && second!.kind === 'symbol' && second!.name === 'T')
    return a[0]!.map((_, j) => a.map((row) => row[j]!));
  return undefined;
}

/** Rows times columns as sums of products; none where sizes do not fit, or of more than a hundred entries, each of them a tree. */
function productOf(a: Rows, b: Rows): Rows | undefined {
  if (a.length * (b[0]?.length ?? 0) > 100 || a.some((row) => row.length !== b.length)) return undefined;
  return a.map((row) =>
    b[0]!.map((_, j) =>
      row.map((cell, k) => apply('mul', cell, b[k]![j]!)).reduce((sum, one) => apply('add', sum, one)),
    ),
  );
}

/** A fraction in lowest terms, a root without square factors left out; other forms count as reduced. */
export function isReduced(node: Node): boolean {
  if (node.kind !== 'apply') return true;
  if (node.op === 'neg') return isReduced(node.args[0]!);
  if (node.op !== 'div') return true;
  // A fraction of anything but numbers has no lowest terms that one could insist on.
  const [n, d] = node.args;
  if (n?.kind !== 'number' || d?.kind !== 'number') return true;
  return (
    n.value.d === 1n &&
    d.value.d === 1n &&
    q.rational(n.value.n, d.value.n).d === d.value.n &&
    d.value.n !== 1n
  );
}
