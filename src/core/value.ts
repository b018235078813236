import type { DType, TypedArray } from './dtype.js';
import { AnnealError } from './errors.js';
import { formatShape, type Shape } from './shape.js';

type Nested = number | Nested[];

/** A tensor's numbers on the host: what programs return. */
export class Value {
  constructor(
    /** Elements in row-major order. */
    readonly data: TypedArray,
    readonly shape: Shape,
    readonly dtype: DType,
  ) {}

  /**
   * The one element.
   * @throws AnnealError if there are several.
   */
  item(): number {
    if (this.data.length !== 1) {
      throw new AnnealError(
        `item: the value has shape ${formatShape(this.shape)}, not one element; read .data`,
      );
    }
    return this.data[0]!;
  }

  /** Nested arrays, for small values. */
  toArray(): Nested {
    const build = (depth: number, offset: number): Nested => {
      if (depth === this.shape.length) return this.data[offset]!;
      const stride = this.shape.slice(depth + 1).reduce((a, b) => a * b, 1);
      return Array.from({ length: this.shape[depth]! }, (_, i) => build(depth + 1, offset + i * stride));
    };
    return build(0, 0);
  }

  /** Lets one-element values take part in arithmetic: `loss < 2`. */
  valueOf(): number {
    return this.item();
  }

  toString(): string {
    return this.data.length === 1 ? String(this.data[0]) : `${this.dtype}${formatShape(this.shape)}`;
  }
}
