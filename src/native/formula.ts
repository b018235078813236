/** What a value is made from, and by what: `tensor` kinds read operands, `sum` and `max` run over a row. */
export type Kind =
  | 'constant'
  | 'matrix'
  | 'row'
  | 'column'
  | 'scalar'
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'minimum'
  | 'maximum'
  | 'fma'
  | 'fnma'
  | 'sqrt'
  | 'round'
  | 'scale'
  | 'sumOf'
  | 'maxOf';

/** How often a value is computed: once a task, once a row, or for every column. */
export type Level = 'task' | 'row' | 'column';
const levels = ['task', 'row', 'column'] as const;

/** A value of a formula. Equal values are one object. */
export interface Value {
  readonly id: number;
  readonly kind: Kind;
  readonly operands: readonly Value[];
  /** The constant, or the number of the tensor that is read. */
  readonly number: number;
  readonly level: Level;
  /** How many reductions lie behind one another to get here. */
  readonly depth: number;
}

type Operand = Value | number;

/** Where a value goes: a matrix, one number a row, or sums over the rows of each task. */
export interface Result {
  readonly to: 'matrix' | 'column' | 'columnSums';
  readonly tensor: number;
  readonly value: Value;
}

const ownLevel: Partial<Record<Kind, Level>> = {
  matrix: 'column',
  row: 'column',
  column: 'row',
  sumOf: 'row',
  maxOf: 'row',
};

/** exp(r) for |r| ≤ ln 2 / 2, highest power first (Cephes, expf.c); 1 ulp. */
export const expCoefficients = [
  1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 1,
];
/** ln 2 as a short float and the rest, so that n·ln 2 is exact in the first. */
export const ln2 = [0.693359375, -2.1219444e-4] as const;

/**
 * Arithmetic on the rows of matrices, to be compiled into one pass (or one per reduction) over memory.
 * Tensors go by number, inputs first and outputs behind them. A flat array is a matrix of any row length.
 */
export class Formula {
  readonly #known = new Map<string, Value>();
  readonly results: Result[] = [];

  #value(kind: Kind, operands: readonly Value[], number = 0): Value {
    // -0 and 0 differ, and NaN equals itself.
    const key = `${kind}(${operands.map((v) => v.id)})${Object.is(number, -0) ? '-0' : number}`;
    let found = this.#known.get(key);
    if (!found) {
      const highest = Math.max(0, ...operands.map((v) => levels.indexOf(v.level)));
      const level = ownLevel[kind] ?? levels[highest]!;
      const depth = Math.max(0, ...operands.map((v) => v.depth)) + (kind.endsWith('Of') ? 1 : 0);
      found = { id: this.#known.size, kind, operands, number, level, depth };
      this.#known.set(key, found);
    }
    return found;
  }
  #lift = (x: Operand): Value => (typeof x === 'number' ? this.#value('constant', [], Math.fround(x)) : x);

  /** Element at the current row and column. */
  matrix = (tensor: number) => this.#value('matrix', [], tensor);
  /** Element of a vector, by the column. */
  row = (tensor: number) => this.#value('row', [], tensor);
  /** Element of a vector, by the row. */
  column = (tensor: number) => this.#value('column', [], tensor);
  /** The only element. */
  scalar = (tensor: number) => this.#value('scalar', [], tensor);

  /** a + b; a product is fused into it. */
  add(a: Operand, b: Operand): Value {
    const [x, y] = [this.#lift(a), this.#lift(b)];
    if (x.kind === 'mul') return this.#value('fma', [...x.operands, y]);
    if (y.kind === 'mul') return this.#value('fma', [...y.operands, x]);
    return this.#value('add', [x, y]);
  }
  /** a - b; a product b is fused into it. */
  sub(a: Operand, b: Operand): Value {
    const [x, y] = [this.#lift(a), this.#lift(b)];
    return y.kind === 'mul' ? this.#value('fnma', [...y.operands, x]) : this.#value('sub', [x, y]);
  }
  mul = (a: Operand, b: Operand) => this.#value('mul', [this.#lift(a), this.#lift(b)]);
  div = (a: Operand, b: Operand) => this.#value('div', [this.#lift(a), this.#lift(b)]);
  /** The smaller; b where one is NaN. */
  minimum = (a: Operand, b: Operand) => this.#value('minimum', [this.#lift(a), this.#lift(b)]);
  /** The larger; b where one is NaN. */
  maximum = (a: Operand, b: Operand) => this.#value('maximum', [this.#lift(a), this.#lift(b)]);
  sqrt = (a: Operand) => this.#value('sqrt', [this.#lift(a)]);

  /** e^x: exact 0 and infinity at the ends, NaN for NaN. */
  exp(x: Operand): Value {
    // The variable is the second operand, or a NaN would be clamped away.
    const clamped = this.minimum(89, this.maximum(-104, x));
    const n = this.#value('round', [this.mul(clamped, Math.LOG2E)]);
    const r = this.sub(this.sub(clamped, this.mul(n, ln2[0])), this.mul(n, ln2[1]));
    const [first, ...rest] = expCoefficients as [number, ...number[]];
    const p = rest.reduce<Value>((sum, c) => this.add(this.mul(sum, r), c), this.#lift(first));
    return this.#value('scale', [p, n]);
  }
  /** 1/(1 + e^-x). */
  sigmoid = (x: Operand) => this.div(1, this.add(this.exp(this.sub(0, x)), 1));
  /** The same, and one minus that without cancellation. */
  sigmoidPair(x: Operand): { value: Value; rest: Value } {
    // Beyond 80 the exponential would become infinite, and `rest` infinity times zero.
    const e = this.exp(this.minimum(80, this.sub(0, x)));
    const value = this.div(1, this.add(e, 1));
    return { value, rest: this.mul(e, value) };
  }

  /** Sum over the row. */
  sumOf = (x: Value) => this.#value('sumOf', [x]);
  /** Largest of the row; NaNs may be ignored. */
  maxOf = (x: Value) => this.#value('maxOf', [x]);

  /** Writes a matrix. */
  write(tensor: number, value: Value): void {
    this.results.push({ to: 'matrix', tensor, value });
  }
  /** Writes one number a row. */
  writeColumn(tensor: number, value: Value): void {
    this.results.push({ to: 'column', tensor, value });
  }
  /** Adds the rows of each task up; the result has a row per task. */
  writeColumnSums(tensor: number, value: Value): void {
    this.results.push({ to: 'columnSums', tensor, value });
  }
}
