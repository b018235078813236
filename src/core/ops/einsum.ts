import { AnnealError } from '../errors.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { mul } from './elementwise.js';
import { matmul } from './matmul.js';
import { sum } from './reduce.js';
import { reshape, transpose } from './view.js';

/** A tensor whose axes have one-letter (or one-word) names. */
interface Named {
  tensor: Tensor;
  axes: readonly string[];
}

function sumOut(x: Named, keep: ReadonlySet<string>): Named {
  const gone = x.axes.flatMap((axis, i) => (keep.has(axis) ? [] : [i]));
  return gone.length === 0 ? x : { tensor: sum(x.tensor, gone), axes: x.axes.filter((a) => keep.has(a)) };
}

/** x with exactly `order`'s axes, in that order; axes that it lacks get size 1. */
function arrange(x: Named, order: readonly string[]): Tensor {
  const present = order.filter((axis) => x.axes.includes(axis));
  const turned = transpose(
    x.tensor,
    present.map((axis) => x.axes.indexOf(axis)),
  );
  return reshape(
    turned,
    order.map((axis) => (x.axes.includes(axis) ? x.tensor.shape[x.axes.indexOf(axis)]! : 1)),
  );
}

/** Contracts two operands with one batched matrix product. */
function contract(a: Named, b: Named, keep: ReadonlySet<string>): Named {
  const left = sumOut(a, new Set([...keep, ...b.axes]));
  const right = sumOut(b, new Set([...keep, ...a.axes]));
  const size = (axis: string) => {
    const from = left.axes.includes(axis) ? left : right;
    return from.tensor.shape[from.axes.indexOf(axis)]!;
  };
  const shared = left.axes.filter((axis) => right.axes.includes(axis));
  const batch = shared.filter((axis) => keep.has(axis));
  const inner = shared.filter((axis) => !keep.has(axis));
  const rows = left.axes.filter((axis) => !right.axes.includes(axis));
  const columns = right.axes.filter((axis) => !left.axes.includes(axis));
  const axes = [...batch, ...rows, ...columns];
  if (inner.length === 0) return { tensor: mul(arrange(left, axes), arrange(right, axes)), axes };
  const count = (list: readonly string[]) => list.reduce((n, axis) => n * size(axis), 1);
  const leading = batch.map(size);
  const x = reshape(arrange(left, [...batch, ...rows, ...inner]), [...leading, count(rows), count(inner)]);
  const y = reshape(arrange(right, [...batch, ...inner, ...columns]), [
    ...leading,
    count(inner),
    count(columns),
  ]);
  return { tensor: reshape(matmul(x, y), axes.map(size)), axes };
}

function nameAxes(equation: string, term: string, tensor: Tensor): Named {
  const axes = [...term];
  if (
    axes.length !== tensor.rank ||
    new Set(axes).size !== axes.length ||
    axes.some((a) => !/[a-zA-Z]/.test(a))
  ) {
    throw new AnnealError(
      `einsum "${equation}": term "${term}" must name each axis of ${formatShape(tensor.shape)} once, by a letter`,
    );
  }
  return { tensor, axes };
}

/**
 * Sum of products over named axes: `einsum('bqd,bkd->bqk', q, k)`. Each letter names an axis; letters
 * that are missing on the right are summed over. Operands are contracted from left to right.
 * @throws AnnealError on an equation that does not fit the operands.
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  const [inputs, output, extra] = equation.replaceAll(' ', '').split('->');
  const terms = inputs!.split(',');
  if (output === undefined || extra !== undefined || terms.length !== operands.length) {
    throw new AnnealError(`einsum "${equation}": needs the form "ab,bc->ac" with ${operands.length} terms`);
  }
  const named = operands.map((tensor, i) => nameAxes(equation, terms[i]!, tensor));
  const sizes = new Map<string, number>();
  for (const { tensor, axes } of named) {
    axes.forEach((axis, i) => {
      const known = sizes.get(axis);
      if (known !== undefined && known !== tensor.shape[i]) {
        throw new AnnealError(`einsum "${equation}": axis ${axis} has sizes ${known} and ${tensor.shape[i]}`);
      }
      sizes.set(axis, tensor.shape[i]!);
    });
  }
  const wanted = [...output];
  const unknown = wanted.find((axis, i) => !sizes.has(axis) || wanted.indexOf(axis) !== i);
  if (unknown) throw new AnnealError(`einsum "${equation}": output axis ${unknown} is unknown or repeated`);
  let result = named[0]!;
  named.slice(1).forEach((next, i) => {
    const later = named.slice(i + 2).flatMap((n) => n.axes);
    result = contract(result, next, new Set([...wanted, ...later]));
  });
  return arrange(sumOut(result, new Set(wanted)), wanted);
}

/** `b (h d) t` → [['b'], ['h','d'], ['t']] */
function parsePattern(pattern: string, side: string): string[][] {
  const groups: string[][] = [];
  let open: string[] | undefined;
  for (const token of side.match(/\(|\)|[A-Za-z_]\w*|1|\S/g) ?? []) {
    if (token === '(') open = [];
    else if (token === ')') {
      if (!open) throw new AnnealError(`rearrange "${pattern}": unbalanced parenthesis`);
      groups.push(open);
      open = undefined;
    } else if (token === '1') groups.push([]);
    else if (/^\w+$/.test(token)) {
      if (open) open.push(token);
      else groups.push([token]);
    } else throw new AnnealError(`rearrange "${pattern}": unexpected "${token}"`);
  }
  if (open) throw new AnnealError(`rearrange "${pattern}": unbalanced parenthesis`);
  return groups;
}

/**
 * Reshape and transpose by named axes, in the notation of einops:
 * `rearrange(x, 'b t (h d) -> b h t d', { h: 8 })`.
 * @throws AnnealError where the pattern does not fit the shape.
 */
export function rearrange(x: Tensor, pattern: string, sizes: Readonly<Record<string, number>> = {}): Tensor {
  const [from, to, extra] = pattern.split('->');
  const problem = (what: string) =>
    new AnnealError(`rearrange "${pattern}" of ${formatShape(x.shape)}: ${what}`);
  if (to === undefined || extra !== undefined) throw problem('needs one "->"');
  const left = parsePattern(pattern, from!);
  const right = parsePattern(pattern, to);
  if (left.length !== x.rank) throw problem(`the left side names ${left.length} axes`);
  const known = new Map(Object.entries(sizes));
  left.forEach((group, i) => {
    const open = group.filter((name) => !known.has(name));
    const product = group.reduce((n, name) => n * (known.get(name) ?? 1), 1);
    if (open.length > 1) throw problem(`give the sizes of all but one of (${group.join(' ')})`);
    const rest = x.shape[i]! / product;
    if (open.length === 1 ? !Number.isInteger(rest) : product !== x.shape[i]) {
      throw problem(`(${group.join(' ')}) does not make up ${x.shape[i]}`);
    }
    if (open.length === 1) known.set(open[0]!, rest);
  });
  const before = left.flat();
  const after = right.flat();
  if ([...before].sort().join() !== [...after].sort().join() || new Set(before).size !== before.length) {
    throw problem('both sides must name the same axes, each once');
  }
  const split = reshape(
    x,
    before.map((name) => known.get(name)!),
  );
  const turned = transpose(
    split,
    after.map((name) => before.indexOf(name)),
  );
  return reshape(
    turned,
    right.map((group) => group.reduce((n, name) => n * known.get(name)!, 1)),
  );
}
