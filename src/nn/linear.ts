import { AnnealError } from '../core/errors.js';
import { add } from '../core/ops/elementwise.js';
import { concat } from '../core/ops/join.js';
import { jointMatmul } from '../core/ops/joint-matmul.js';
import { matmul } from '../core/ops/matmul.js';
import { formatShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { parameter } from './init.js';

/**
 * A map of the last axis, [..., inputs] → [..., outputs]. Layers hold projections rather than weights, so that a
 * model is fine-tuned or quantised by replacing properties.
 */
export interface Projection {
  readonly inputs: number;
  readonly outputs: number;
  apply(x: Tensor): Tensor;
}

/** Options of `Linear`. */
export interface LinearOptions {
  /** Adds a learned vector. Default false. */
  bias?: boolean;
  /** It writes into a residual stream, and so starts smaller in deeper models (see `initialize`). Default false. */
  residual?: boolean;
  /** What optimisers take it for: `head` maps to logits, `vector` is a stack of gates. Default `matrix`. */
  role?: 'matrix' | 'head' | 'vector';
}

/**
 * y = x · weight + bias, with `weight` [inputs, outputs]: the layout in which the product of one row streams the
 * weight contiguously. Zero until it is initialised or loaded.
 */
export class Linear implements Projection {
  readonly weight: Variable;
  readonly bias: Variable | undefined;
  readonly residual: boolean;

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    { bias = false, residual = false, role = 'matrix' }: LinearOptions = {},
  ) {
    this.weight = parameter([inputs, outputs], role);
    this.bias = bias ? parameter([outputs], 'vector') : undefined;
    this.residual = residual;
  }

  /** [..., inputs] → [..., outputs]. Throws AnnealError if the last axis of x is not `inputs`. */
  apply(x: Tensor): Tensor {
    checkInputs(this, x);
    const y = matmul(x, this.weight);
    return this.bias ? add(y, this.bias) : y;
  }
}

/** @throws AnnealError if the last axis of x is not what the projection takes. */
export function checkInputs({ inputs, outputs }: Projection, x: Tensor): void {
  if (x.shape.at(-1) === inputs) return;
  throw new AnnealError(
    `a projection from ${inputs} to ${outputs} was given ${formatShape(x.shape)}; its last axis must be ${inputs}`,
  );
}

/** A projection that computes some rows of a product with a weight that others share. */
export interface SharedProjection extends Projection {
  readonly weight: object;
  readonly bias?: Tensor | undefined;
  /** Its first output of the whole product, and how many. */
  readonly rows: readonly [start: number, count: number];
  /** The whole product, without a bias. */
  whole(x: Tensor): Tensor;
}

const isShared = (projection: Projection): projection is SharedProjection => 'whole' in projection;

/** Outputs of several projections of x side by side: the whole product where they share one, else joined. */
export function joint(projections: readonly Projection[], x: Tensor): Tensor {
  const shared = projections.filter(isShared);
  const [first] = shared;
  let end = 0;
  const isWhole =
    first !== undefined &&
    shared.length === projections.length &&
    shared.every((one) => {
      const follows = one.weight === first.weight && one.rows[0] === end && !one.bias;
      end += one.rows[1];
      return follows;
    });
  if (isWhole) {
    const all = first.whole(x);
    if (all.shape.at(-1) === end) return all;
  }
  const plain = projections.filter((one) => one instanceof Linear && !one.bias) as Linear[];
  if (plain.length === projections.length && x.rank === 2) {
    for (const one of plain) checkInputs(one, x);
    return jointMatmul(
      x,
      plain.map(({ weight }) => weight),
    );
  }
  return concat(
    projections.map((one) => one.apply(x)),
    -1,
  );
}
