import { AnnealError } from '../core/errors.js';
import type { OnnxAttribute, OnnxModel, OnnxNode, OnnxTensor, OnnxValue } from './model.js';

/** A size that is known only when the model runs: `input`'s axis `axis` has it. */
export interface Dimension {
  name: string;
  input: string;
  axis: number;
  /** Its value in each of the models that are compared. */
  values: readonly number[];
}

/** factor · Π (Σ terms): what a number of a graph can depend on. */
interface Expression {
  factor: number;
  /** Each a sum of dimensions, with signs. */
  sums: readonly (readonly { sign: 1 | -1; dimension: number }[])[];
}

const constantExpression = (factor: number): Expression => ({ factor, sums: [] });

/** Sums that sizes are made of: a dimension, two of them added, or subtracted. */
function sumsOf(count: number): Expression['sums'][number][] {
  const single = Array.from({ length: count }, (_, dimension) => [{ sign: 1 as const, dimension }]);
  const pairs = single.flatMap(([a], i) =>
    single.flatMap(([b], j) => [
      ...(i < j ? [[a!, b!]] : []),
      ...(i !== j ? [[a!, { sign: -1 as const, dimension: b!.dimension }]] : []),
    ]),
  );
  return [...single, ...pairs];
}

/** Turns the same graph, lowered at several sizes, into one graph for every size. */
export class Unifier {
  private readonly candidates: Expression[];
  private readonly nodes: OnnxNode[] = [];
  private readonly initializers = new Map<string, OnnxTensor>();
  private readonly computed = new Map<string, string>();

  constructor(
    private readonly models: readonly OnnxModel[],
    private readonly dimensions: readonly Dimension[],
  ) {
    const sums = sumsOf(dimensions.length);
    // The simplest explanation first: one sum, then products of two, then of three dimensions.
    const products: Expression['sums'][] = sums.map((s) => [s]);
    for (const [i, a] of sums.entries()) for (const b of sums.slice(i + 1)) products.push([a, b]);
    const single = sums.slice(0, dimensions.length);
    for (const [i, a] of single.entries())
      for (const [j, b] of single.slice(i + 1).entries())
        for (const c of single.slice(i + j + 2)) products.push([a, b, c]);
    this.candidates = products.map((s) => ({ factor: 1, sums: s }));
  }

  /**
   * The graph for every size. Shapes and other integers that differ between the models are computed from the inputs.
   * @throws AnnealError if the graphs differ in more than that: some part is made for one size only.
   */
  run(): OnnxModel {
    const [first, ...others] = this.models as [OnnxModel, ...OnnxModel[]];
    const graphs = this.models.map(({ graph }) => graph);
    for (const { graph } of others) {
      const isAlike = graph.nodes.length === first.graph.nodes.length;
      if (!isAlike) throw this.#differs('the number of its nodes');
    }
    const constants = graphs.map(({ initializers }) => new Map(initializers.map((t) => [t.name, t])));
    const body = first.graph.nodes.map((_, i) =>
      this.#node(
        graphs.map((g) => g.nodes[i]!),
        constants,
      ),
    );
    const values = (kind: 'inputs' | 'outputs') =>
      first.graph[kind].map((_, i) => this.#value(graphs.map((g) => g[kind][i]!)));
    return {
      ...first,
      graph: {
        ...first.graph,
        nodes: [...this.nodes, ...body],
        inputs: values('inputs'),
        outputs: values('outputs'),
        initializers: [...this.initializers.values()],
        valueInfo: [],
      },
    };
  }

  /** The expression that has these values; undefined if there is none. */
  #explain(values: readonly number[]): Expression | undefined {
    const [first] = values;
    if (values.every((v) => v === first)) return constantExpression(first!);
    for (const { sums } of this.candidates) {
      const products = values.map((_, k) => sums.reduce((p, sum) => p * this.#sum(sum, k), 1));
      const factor = values[0]! / products[0]!;
      if (Number.isInteger(factor) && values.every((v, k) => v === factor * products[k]!))
        return { factor, sums };
    }
    return undefined;
  }

  #sum(sum: Expression['sums'][number], k: number): number {
    return sum.reduce(
      (total, { sign, dimension }) => total + sign * this.dimensions[dimension]!.values[k]!,
      0,
    );
  }

  #node(nodes: readonly OnnxNode[], constants: readonly Map<string, OnnxTensor>[]): OnnxNode {
    const [first] = nodes as [OnnxNode];
    if (nodes.some(({ op, inputs }) => op !== first.op || inputs.length !== first.inputs.length))
      throw this.#differs(`node ${first.name}`);
    const inputs = first.inputs.map((_, i) => {
      const names = nodes.map((n) => n.inputs[i]!);
      const tensors = names.map((name, k) => constants[k]!.get(name));
      if (tensors.every((t) => t !== undefined)) return this.#constant(tensors as OnnxTensor[], first);
      if (names.some((name) => name !== names[0])) throw this.#differs(`an operand of node ${first.name}`);
      return names[0]!;
    });
    const attributes = JSON.stringify(first.attributes);
    if (nodes.some((n) => JSON.stringify(n.attributes) !== attributes))
      throw this.#differs(`the attributes of node ${first.name}`);
    return { ...first, inputs };
  }

  /** Name of a constant that the models hold: itself where they agree, else what computes it. */
  #constant(tensors: readonly OnnxTensor[], user: OnnxNode): string {
    const [first] = tensors as [OnnxTensor];
    if (!(first.raw instanceof Uint8Array) || tensors.every((t) => sameTensor(t, first)))
      return this.#keep(first);
    const numbers = tensors.map(integersOf);
    const fail = () =>
      this.#differs(
        `a constant of ${user.op} (${user.name}), which depends on the size in a way that has no formula`,
      );
    if (numbers.some((n) => n === undefined)) throw fail();
    const lists = numbers as number[][];
    const sameLength = lists.every((n) => n.length === lists[0]!.length);
    const name = sameLength ? this.#vector(lists, first) : this.#range(tensors, lists);
    if (name === undefined) throw fail();
    return name;
  }

  #keep(tensor: OnnxTensor): string {
    const key =
      tensor.raw instanceof Uint8Array && tensor.raw.length <= 256 ? contentKey(tensor) : tensor.name;
    let kept = this.initializers.get(key);
    if (!kept) {
      // Names of small constants may belong to others in another model.
      const name = tensor.raw instanceof Uint8Array ? `constant${this.initializers.size}` : tensor.name;
      kept = { ...tensor, name };
      this.initializers.set(key, kept);
    }
    return kept.name;
  }

  /** Integers each of which is an expression, in a tensor whose own shape does not vary. */
  #vector(lists: readonly number[][], { dtype, dims }: OnnxTensor): string | undefined {
    const parts: string[] = [];
    for (let i = 0; i < lists[0]!.length; i++) {
      const expression = this.#explain(lists.map((n) => n[i]!));
      if (!expression) return undefined;
      parts.push(this.#compute(expression));
    }
    const key = `[${parts.join()}]:${dtype}:${dims.join()}`;
    return this.#once(key, () => {
      const joined = parts.length === 1 ? parts[0]! : this.#emit('Concat', parts, { axis: int(0) });
      const shaped = dims.length === 1 ? joined : this.#emit('Reshape', [joined, this.#ints(dims)]);
      return dtype === 'int64' ? shaped : this.#cast(shaped, dtype);
    });
  }

  /** 0, 1, … n-1 along the one axis that varies. */
  #range(tensors: readonly OnnxTensor[], lists: readonly number[][]): string | undefined {
    const [first] = tensors as [OnnxTensor];
    if (!lists.every((n) => n.every((v, i) => v === i))) return undefined;
    const count = this.#explain(lists.map((n) => n.length));
    if (!count || tensors.some((t) => t.dims.length !== first.dims.length)) return undefined;
    const axes = first.dims.map((_, axis) => this.#explain(tensors.map((t) => t.dims[axis]!)));
    if (axes.some((a) => a === undefined)) return undefined;
    const shape = axes.map((a) => this.#compute(a!));
    return this.#once(`range:${this.#compute(count)}:${first.dtype}:${shape.join()}`, () => {
      const end = this.#emit('Reshape', [this.#compute(count), this.#ints([])]);
      const range = this.#emit('Range', [this.#scalar(0), end, this.#scalar(1)]);
      const target = shape.length === 1 ? shape[0]! : this.#emit('Concat', shape, { axis: int(0) });
      const shaped = first.dims.length === 1 ? range : this.#emit('Reshape', [range, target]);
      return first.dtype === 'int64' ? shaped : this.#cast(shaped, first.dtype);
    });
  }

  /** Name of an int64[1] with the value of an expression. */
  #compute({ factor, sums }: Expression): string {
    if (sums.length === 0) return this.#ints([factor]);
    return this.#once(`compute:${JSON.stringify({ factor, sums })}`, () => {
      const product = sums.map((sum) => this.#total(sum)).reduce((a, b) => this.#emit('Mul', [a, b]));
      return factor === 1 ? product : this.#emit('Mul', [product, this.#ints([factor])]);
    });
  }

  #total(sum: Expression['sums'][number]): string {
    return this.#once(`sum:${JSON.stringify(sum)}`, () => {
      const [first, ...rest] = sum.map(({ dimension }) => this.#size(dimension));
      return rest.reduce((a, b, i) => this.#emit(sum[i + 1]!.sign > 0 ? 'Add' : 'Sub', [a, b]), first!);
    });
  }

  #size(dimension: number): string {
    return this.#once(`size:${dimension}`, () => {
      const { input, axis } = this.dimensions[dimension]!;
      return this.#emit('Shape', [input], { start: int(axis), end: int(axis + 1) });
    });
  }

  #cast(input: string, dtype: OnnxTensor['dtype']): string {
    const to = { int32: 6, float32: 1, float64: 11, int64: 7, float16: 10, bool: 9, uint8: 2 }[dtype];
    return this.#emit('Cast', [input], { to: int(to) });
  }

  #ints(values: readonly number[]): string {
    // An empty list is the shape of a scalar.
    const raw = new Uint8Array(BigInt64Array.from(values, (v) => BigInt(v)).buffer);
    return this.#keep({ name: '', dtype: 'int64', dims: [values.length], raw });
  }

  #scalar(value: number): string {
    return this.#keep({
      name: '',
      dtype: 'int64',
      dims: [],
      raw: new Uint8Array(BigInt64Array.of(BigInt(value)).buffer),
    });
  }

  #once(key: string, make: () => string): string {
    let name = this.computed.get(key);
    if (name === undefined) {
      name = make();
      this.computed.set(key, name);
    }
    return name;
  }

  #emit(op: string, inputs: readonly string[], attributes: Record<string, OnnxAttribute> = {}): string {
    const name = `size${this.nodes.length}`;
    this.nodes.push({ op, inputs, outputs: [name], attributes, name: `${name}#${op}` });
    return name;
  }

  /** An input or output with names for the sizes that vary. */
  #value(values: readonly OnnxValue[]): OnnxValue {
    const [first] = values as [OnnxValue];
    const shape = first.shape.map((_, axis) => {
      const sizes = values.map((v) => v.shape[axis] as number);
      const expression = this.#explain(sizes);
      if (!expression) throw this.#differs(`the shape of "${first.name}"`);
      return expression.sums.length === 0 ? expression.factor : this.#write(expression);
    });
    return { ...first, shape };
  }

  #write({ factor, sums }: Expression): string {
    const write = (sum: Expression['sums'][number]) =>
      sum
        .map(
          ({ sign, dimension }, i) =>
            `${i > 0 ? (sign > 0 ? ' + ' : ' - ') : ''}${this.dimensions[dimension]!.name}`,
        )
        .join('');
    return [...(factor === 1 ? [] : [String(factor)]), ...sums.map(write)].join(' * ');
  }

  #differs(what: string): AnnealError {
    const names = this.dimensions.map(({ name }) => name).join(', ');
    return new AnnealError(
      `the graph cannot be exported for any ${names}: ${what} differs between sizes; fix a size`,
    );
  }
}

const int = (value: number): OnnxAttribute => ({ kind: 'int', value });

const contentKey = ({ dtype, dims, raw }: OnnxTensor) =>
  `${dtype}:${dims.join()}:${(raw as Uint8Array).join()}`;

function sameTensor(a: OnnxTensor, b: OnnxTensor): boolean {
  if (a.dtype !== b.dtype || a.dims.join() !== b.dims.join()) return false;
  const [x, y] = [a.raw as Uint8Array, b.raw as Uint8Array];
  return x.length === y.length && x.every((byte, i) => byte === y[i]);
}

/** Elements of an integer tensor; undefined for others. */
function integersOf({ dtype, raw }: OnnxTensor): number[] | undefined {
  const bytes = Uint8Array.from(raw as Uint8Array);
  if (dtype === 'int64') return Array.from(new BigInt64Array(bytes.buffer), Number);
  return dtype === 'int32' ? [...new Int32Array(bytes.buffer)] : undefined;
}
