import { isFloat } from './dtype.js';
import { AnnealError, atUserFrame } from './errors.js';
import { cloneNode, topological } from './graph.js';
import { isComposite, withRegion } from './op.js';
import { after } from './ops/after.js';
import { add, identity } from './ops/elementwise.js';
import { scalar } from './ops/leaf.js';
import { zerosLike } from './ops/view.js';
import { formatShape, sameShape } from './shape.js';
import type { Node, Region, Tensor } from './tensor.js';

/**
 * Runs `body` and marks what it computes for recomputation: a gradient through it keeps only what goes
 * in and computes the rest again in the backward pass, which trades time for memory.
 */
export function checkpoint<T>(body: () => T): T {
  return withRegion(body);
}

const outermost = (region: Region): Region => {
  let top = region;
  while (top.parent) top = top.parent;
  return top;
};

let recomputations = 0;

/** Copies of a checkpointed region's nodes, made the first time the backward pass reaches it. */
class Recomputation {
  private readonly copies = new Map<Tensor, Tensor>();
  private readonly id = ++recomputations;

  constructor(
    private readonly region: Region,
    private readonly signal: Tensor,
  ) {}

  copy(wanted: Tensor): Tensor {
    // An explicit stack, as in `topological`: regions may be deeper than the call stack.
    const stack = [wanted];
    while (stack.length > 0) {
      const t = stack.at(-1)!;
      const missing = this.copies.has(t) ? [] : this.missingInputs(t);
      if (missing.length > 0) {
        stack.push(...missing);
        continue;
      }
      stack.pop();
      if (!this.copies.has(t)) this.add(t);
    }
    return this.copies.get(wanted)!;
  }

  private isInside({ region }: Node): boolean {
    return region !== undefined && outermost(region) === this.region;
  }

  private missingInputs({ node }: Tensor): Tensor[] {
    return this.isInside(node) ? node.inputs.filter((t) => !this.copies.has(t)) : [];
  }

  private add(t: Tensor): void {
    const { node } = t;
    if (!this.isInside(node)) {
      const isFree = node.inputs.length === 0 && node.op.name !== 'input';
      this.copies.set(t, isFree ? t : after(t, this.signal));
      return;
    }
    const inputs = node.inputs.map((input) => this.copies.get(input)!);
    const copy = cloneNode(node, inputs, this.id);
    node.outputs.forEach((output, i) => {
      this.copies.set(output, copy.outputs[i]!);
    });
  }
}

/** Tensors that depend on one of `wrt` through differentiable ops. */
function activeTensors(order: readonly Node[], wrt: readonly Tensor[]): Set<Tensor> {
  const active = new Set<Tensor>(wrt);
  for (const node of order) {
    const blocked = !isComposite(node.op) && node.op.vjp === null;
    if (blocked || !node.inputs.some((t) => active.has(t))) continue;
    for (const t of node.outputs) if (isFloat(t.dtype)) active.add(t);
  }
  return active;
}

/** Reverse rule of one node: its own, or that of its decomposition. */
function nodeVjp(
  node: Node,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  needs: (i: number) => boolean,
): readonly (Tensor | undefined)[] {
  const { op, attributes } = node;
  if (op.vjp) return op.vjp({ inputs, outputs, attributes, needs }, cotangents);
  if (!isComposite(op)) return [];
  // Stand-ins, one per operand: the gradient must stop at this node's inputs, even where one of them
  // depends on another or is the same tensor.
  const standIns = inputs.map(identity);
  const parts = op.decompose(standIns, attributes);
  const used = parts.flatMap((t, i) => (cotangents[i] ? [[t, cotangents[i]!] as const] : []));
  const wanted = standIns.filter((_, i) => needs(i));
  const within = new Set(inputs.map((t) => t.node));
  const grads = reverse(
    used.map((u) => u[0]),
    wanted,
    used.map((u) => u[1]),
    within,
  );
  let next = 0;
  return inputs.map((_, i) => (needs(i) ? grads[next++] : undefined));
}

function total(terms: readonly Tensor[] | undefined): Tensor | undefined {
  if (!terms || terms.length === 0) return undefined;
  return terms.reduce((a, b) => add(a, b));
}

/**
 * Vector-Jacobian product: the gradients of Σ outputs·cotangents with respect to `wrt`, which may be
 * any tensors of the graph; undefined where nothing depends on one. Reverse mode, built of ordinary ops, so it can be
 * differentiated again. Works only where a gradient is needed and adds only where paths meet.
 */
export function vjp(
  outputs: readonly Tensor[],
  wrt: readonly Tensor[],
  cotangents: readonly Tensor[],
): (Tensor | undefined)[] {
  outputs.forEach((y, i) => {
    if (!sameShape(y.shape, cotangents[i]!.shape)) {
      throw new AnnealError(
        `vjp: cotangent ${i} has shape ${formatShape(cotangents[i]!.shape)}, its output ${formatShape(y.shape)}`,
      );
    }
  });
  return reverse(outputs, wrt, cotangents);
}

/** The walk of `vjp`, which does not enter the nodes of `stop`. */
function reverse(
  outputs: readonly Tensor[],
  wrt: readonly Tensor[],
  cotangents: readonly Tensor[],
  stop?: ReadonlySet<Node>,
): (Tensor | undefined)[] {
  const order = topological(outputs, stop);
  const active = activeTensors(order, wrt);
  const terms = new Map<Tensor, Tensor[]>();
  const send = (t: Tensor, g: Tensor) => {
    const list = terms.get(t);
    if (list) list.push(g);
    else terms.set(t, [g]);
  };
  outputs.forEach((y, i) => {
    send(y, cotangents[i]!);
  });
  const regions = new Map<Region, Recomputation>();
  for (const node of order.reverse()) {
    if (!node.outputs.some((t) => active.has(t)) || node.inputs.length === 0) continue;
    if (!node.outputs.some((t) => terms.has(t))) continue;
    const grads = node.outputs.map((t) => {
      const g = active.has(t) ? total(terms.get(t)) : undefined;
      if (g) terms.set(t, [g]);
      return g;
    });
    let { inputs, outputs: values } = node;
    if (node.region) {
      const region = outermost(node.region);
      let known = regions.get(region);
      if (!known) {
        known = new Recomputation(region, grads.find((g) => g)!);
        regions.set(region, known);
      }
      const again = known;
      inputs = node.inputs.map((t) => again.copy(t));
      values = node.outputs.map((t) => again.copy(t));
    }
    const needs = (i: number) => active.has(node.inputs[i]!);
    nodeVjp(node, inputs, values, grads, needs).forEach((g, i) => {
      if (g && needs(i)) send(node.inputs[i]!, g);
    });
  }
  return wrt.map((t) => total(terms.get(t)));
}

/** Tensors by position or by name. */
export type TensorTree = readonly Tensor[] | Readonly<Record<string, Tensor>>;

/**
 * Gradients of a scalar with respect to tensors, in the structure of `wrt` (a tensor, an array or a
 * record). A tensor that the loss does not depend on gets zeros.
 * @throws AnnealError if `loss` is not a float scalar.
 */
export function grad(loss: Tensor, wrt: Tensor): Tensor;
export function grad<const T extends readonly Tensor[]>(loss: Tensor, wrt: T): { [K in keyof T]: Tensor };
export function grad<K extends string>(loss: Tensor, wrt: Readonly<Record<K, Tensor>>): Record<K, Tensor>;
export function grad(loss: Tensor, wrt: Tensor | TensorTree): unknown {
  if (loss.size !== 1 || !isFloat(loss.dtype)) {
    throw new AnnealError(
      `grad: the loss must be one float, not ${loss.dtype}${formatShape(loss.shape)}; reduce it with sum() or mean()${atUserFrame(loss.node.origin)}`,
    );
  }
  const isTensor = (x: Tensor | TensorTree): x is Tensor => 'node' in x && 'dtype' in x && !Array.isArray(x);
  const single = isTensor(wrt);
  const list: readonly Tensor[] = single ? [wrt] : Object.values(wrt);
  const one = loss.rank === 0 ? scalar(1, loss.dtype) : add(zerosLike(loss), 1);
  const grads = vjp([loss], list, [one]).map((g, i) => g ?? zerosLike(list[i]!));
  if (single) return grads[0];
  if (Array.isArray(wrt)) return grads;
  return Object.fromEntries(Object.keys(wrt).map((key, i) => [key, grads[i]]));
}

/** `f` and its gradient with respect to all its arguments: `valueAndGrad((w) => loss(w))(w)`. */
export function valueAndGrad<A extends readonly Tensor[]>(
  f: (...args: A) => Tensor,
): (...args: A) => { value: Tensor; grads: { [K in keyof A]: Tensor } } {
  return (...args) => {
    const value = f(...args);
    return { value, grads: grad(value, args) as { [K in keyof A]: Tensor } };
  };
}
