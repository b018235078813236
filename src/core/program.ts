import type { NodeTime } from '../runtime/backend.js';
import { type CompiledProgram, compileProgram, type TracedProgram } from './compile.js';
import { backendOf, inOrder, isBusy } from './device.js';
import { allocate, type DType, dtypeOf, dtypes, type TypedArray } from './dtype.js';
import { AnnealError } from './errors.js';
import { guardFinite, raiseNonFinite } from './finite.js';
import { toFloat16 } from './float16.js';
import { makeNode } from './op.js';
import { inputOp } from './ops/leaf.js';
import { type ProgramReport, programText, reportOf } from './report.js';
import { formatShape, type Shape } from './shape.js';
import { Tensor } from './tensor.js';
import { Value } from './value.js';
import { tracing } from './variable.js';

/** Type of a program's input; `null` sizes are learned from each call. */
export interface InputType {
  readonly dtype: DType;
  readonly shape: readonly (number | null)[];
}

/** An input: its type, or just a shape for float32. */
export type InputSpec = InputType | readonly (number | null)[];

const inputType =
  (dtype: DType) =>
  (shape: readonly (number | null)[]): InputType => ({ dtype, shape });
/** A float32 input. */
export const float32 = inputType('float32');
/** A float64 input. */
export const float64 = inputType('float64');
/** An int32 input: tokens, classes, indices. */
export const int32 = inputType('int32');
/** A bool input, fed as a Uint8Array of 0 and 1. */
export const bool = inputType('bool');

/** What a call passes for one input. A typed array is used without a copy and must not change during the call. */
export type Feed = TypedArray | Value | number;

/** Options of `program`. */
export interface ProgramOptions {
  /** For messages and profiles. */
  name?: string;
  /** Device by name; default: that of `configure`. */
  device?: string;
  /**
   * Cuts the leading axis of every input into this many equal parts, which run one after the other:
   * activations stay small enough for the cache. What passes through `accumulate()` (gradients in an optimiser's
   * `minimize`, scalar outputs) is the mean over the parts. Default 1.
   */
  microBatches?: number;
  /** `finite`: a NaN or infinity anywhere stops the call with the op that made it, and no variable changes. Slow. */
  check?: 'finite';
}

/** A traced and compiled function over tensors. */
export interface Program<In extends string, Out extends string> {
  /** Runs off the main thread. Calls take effect in their order. */
  (feeds: Readonly<Record<In, Feed>>): Promise<Record<Out, Value>>;
  /** Runs on the calling thread; the program must have been compiled for these shapes (`await p.compile(feeds)`). */
  runSync(feeds: Readonly<Record<In, Feed>>): Record<Out, Value>;
  /** Traces and compiles for the shapes of `feeds` without running; returns what was built. */
  compile(feeds: Readonly<Record<In, Feed>>): Promise<ProgramReport>;
  /** The optimised graph of the last compilation, one line per node. */
  text(): string;
  /** Sizes, costs and compile time of the last compilation. */
  report(): ProgramReport;
  /** Time per op over some runs, slowest first. Variables change as in ordinary runs. */
  profile(feeds: Readonly<Record<In, Feed>>, repeats?: number): Promise<NodeTime[]>;
  /** Frees the compiled graphs now instead of at garbage collection. */
  dispose(): void;
}

interface Entry {
  names: readonly string[];
  outputs: readonly Tensor[];
  compiled: CompiledProgram;
  guards: readonly Tensor[];
  report: ProgramReport;
}

const specType = (spec: InputSpec): InputType => ('dtype' in spec ? spec : { dtype: 'float32', shape: spec });

/** Shape of a feed: sizes of the spec, with `null`s from the value's shape or, where there is one, from its length. */
function feedShape(name: string, type: InputType, feed: Feed): number[] {
  const expected = `${dtypes[type.dtype].short}[${type.shape.map((d) => d ?? '?').join(',')}]`;
  const fail = (got: string) => new AnnealError(`input "${name}": expected ${expected}, got ${got}`);
  if (feed === undefined || feed === null) throw fail('nothing');
  if (feed instanceof Value) {
    const fits =
      feed.shape.length === type.shape.length && feed.shape.every((d, i) => (type.shape[i] ?? d) === d);
    if (!fits || feed.dtype !== type.dtype)
      throw fail(`${dtypes[feed.dtype].short}${formatShape(feed.shape)}`);
    return [...feed.shape];
  }
  const length = typeof feed === 'number' ? 1 : feed.length;
  if (typeof feed !== 'number' && dtypeOf(feed) !== type.dtype) throw fail(feed.constructor.name);
  const open = type.shape.filter((d) => d === null).length;
  if (open > 1) throw fail('data whose shape is not known; pass a Value, or leave one size open');
  const known = type.shape.reduce<number>((n, d) => n * (d ?? 1), 1);
  const rest = open === 1 ? length / known : 1;
  if (!Number.isInteger(rest) || known * rest !== length) throw fail(`${length} elements`);
  return type.shape.map((d) => d ?? rest);
}

function feedData(type: InputType, feed: Feed): TypedArray {
  if (feed instanceof Value) return feed.data;
  if (typeof feed !== 'number') return feed;
  if (type.dtype === 'float16') return toFloat16(Float32Array.of(feed));
  const data = allocate(type.dtype, 1);
  data[0] = feed;
  return data;
}

function checkOutputs(outputs: unknown, label: string): Map<string, Tensor> {
  if (outputs instanceof Promise)
    throw new AnnealError(`${label}: the body is async; tracing needs a plain function`);
  const entries = Object.entries(outputs ?? {});
  for (const [name, t] of entries) {
    if (!(t instanceof Tensor)) throw new AnnealError(`${label}: output "${name}" is no tensor`);
  }
  return new Map(entries as [string, Tensor][]);
}

class Compiler {
  private readonly entries = new Map<string, Promise<Entry>>();
  private readonly ready = new Map<string, Entry>();
  private last: Entry | undefined;
  private readonly types: [string, InputType][];
  readonly label: string;
  private readonly parts: number;

  constructor(
    inputs: Readonly<Record<string, InputSpec>>,
    private readonly body: (inputs: Record<string, Tensor>) => Record<string, Tensor>,
    private readonly options: ProgramOptions,
  ) {
    this.types = Object.entries(inputs).map(([name, spec]) => [name, specType(spec)]);
    this.label = options.name ?? (body.name || 'program');
    this.parts = options.microBatches ?? 1;
    if (!Number.isInteger(this.parts) || this.parts < 1) {
      throw new AnnealError(`${this.label}: microBatches must be a positive integer, not ${this.parts}`);
    }
  }

  private shapes(feeds: Readonly<Record<string, Feed>>): number[][] {
    for (const name of Object.keys(feeds)) {
      if (!this.types.some(([known]) => known === name)) {
        throw new AnnealError(
          `${this.label}: unknown input "${name}"; it has: ${this.types.map(([n]) => n).join(', ')}`,
        );
      }
    }
    return this.types.map(([name, type]) => feedShape(name, type, feeds[name]!));
  }

  private trace(shapes: readonly Shape[]): TracedProgram & { guards: readonly Tensor[] } {
    const inputs = new Map<string, Tensor>();
    this.types.forEach(([name, { dtype }], i) => {
      let shape = shapes[i]!;
      if (this.parts > 1) {
        const size = (shape[0] ?? Number.NaN) / this.parts;
        if (!Number.isInteger(size)) {
          throw new AnnealError(
            `${this.label}: input "${name}" ${formatShape(shape)} does not divide into ${this.parts} micro-batches`,
          );
        }
        shape = [size, ...shape.slice(1)];
      }
      inputs.set(
        name,
        makeNode(inputOp as never, [], { dtype, shape }, { payload: name, region: undefined }).outputs[0]!,
      );
    });
    return tracing((trace) => {
      const outputs = checkOutputs(this.body(Object.fromEntries(inputs)), this.label);
      const traced = { inputs, outputs, assignments: trace.assignments };
      if (this.options.check !== 'finite') return { ...traced, guards: [] };
      if (this.parts > 1)
        throw new AnnealError(
          `${this.label}: check: 'finite' does not work with microBatches yet; use one of them`,
        );
      return guardFinite(traced);
    });
  }

  private async build(shapes: readonly Shape[]): Promise<Entry> {
    const start = performance.now();
    const backend = await backendOf(this.options.device);
    const began = performance.now();
    const traced = this.trace(shapes);
    const middle = performance.now();
    const compiled = await compileProgram(traced, backend, this.label, this.parts);
    const times = { load: began - start, trace: middle - began, compile: performance.now() - middle };
    return {
      names: [...traced.outputs.keys()],
      outputs: [...traced.outputs.values()],
      compiled,
      guards: traced.guards,
      report: reportOf(compiled, this.parts, times),
    };
  }

  entry(feeds: Readonly<Record<string, Feed>>): Promise<Entry> {
    const shapes = this.shapes(feeds);
    const key = shapes.join('|');
    let promise = this.entries.get(key);
    if (!promise) {
      promise = this.build(shapes);
      this.entries.set(key, promise);
      promise.then(
        (entry) => {
          this.ready.set(key, entry);
          this.last = entry;
        },
        () => this.entries.delete(key),
      );
    }
    return promise;
  }

  entrySync(feeds: Readonly<Record<string, Feed>>): Entry {
    const entry = this.ready.get(this.shapes(feeds).join('|'));
    if (!entry)
      throw new AnnealError(`${this.label}: not compiled for these shapes; await compile() or a call first`);
    return entry;
  }

  /** Each phase's feeds, in the order of its runs. */
  feeds(feeds: Readonly<Record<string, Feed>>): TypedArray[][] {
    const data = this.types.map(([name, type]) => feedData(type, feeds[name]!));
    if (this.parts === 1) return [data];
    const cut = (part: number) =>
      data.map((array) =>
        array.subarray((part * array.length) / this.parts, ((part + 1) * array.length) / this.parts),
      );
    return Array.from({ length: this.parts }, (_, part) => cut(part));
  }

  results(entry: Entry, arrays: readonly TypedArray[]): Record<string, Value> {
    raiseNonFinite(entry.guards, entry.names, arrays);
    const values: Record<string, Value> = {};
    for (let i = 0; i < entry.names.length - (entry.guards.length > 0 ? 1 : 0); i++) {
      const t = entry.outputs[i]!;
      values[entry.names[i]!] = new Value(arrays[i]!, t.shape, t.dtype);
    }
    return values;
  }

  latest(): Entry {
    if (!this.last) throw new AnnealError(`${this.label}: not compiled yet; await compile() or a call first`);
    return this.last;
  }

  dispose(): void {
    for (const entry of this.ready.values())
      for (const { executable } of entry.compiled.phases) executable.release();
    this.entries.clear();
    this.ready.clear();
  }
}

async function run(entry: Entry, feeds: readonly TypedArray[][]): Promise<TypedArray[]> {
  const { phases, accumulators } = entry.compiled;
  const [batch, update] = phases;
  if (!update) return batch!.executable.run(feeds[0]!);
  try {
    for (const part of feeds) await batch!.executable.run(part);
    return await update.executable.run([]);
  } catch (error) {
    for (const sum of accumulators) sum.data.fill(0);
    throw error;
  }
}

function runSync(entry: Entry, feeds: readonly TypedArray[][]): TypedArray[] {
  const [batch, update] = entry.compiled.phases;
  if (!update) return batch!.executable.runSync(feeds[0]!);
  for (const part of feeds) batch!.executable.runSync(part);
  return update.executable.runSync([]);
}

/**
 * A function over tensors, traced once per input shapes and then only run:
 *
 * ```ts
 * const step = program({ x: [null, 784], y: int32([null]) }, ({ x, y }) => {
 *   const loss = crossEntropy(x.matmul(w), y);
 *   sgd(0.1).minimize(loss, [w]);
 *   return { loss };
 * });
 * const { loss } = await step({ x: images, y: labels });
 * ```
 *
 * The body sees symbolic tensors. Variables that it assigns change after each run; a run that fails
 * changes none of those that are double-buffered (all but accumulators and optimiser moments).
 */
export function program<
  I extends Readonly<Record<string, InputSpec>>,
  O extends Record<string, Tensor> = Record<never, Tensor>,
>(
  inputs: I,
  body: (inputs: { [K in keyof I]: Tensor }) => O,
  options: ProgramOptions = {},
): Program<Extract<keyof I, string>, Extract<keyof O, string>> {
  const compiler = new Compiler(inputs, body as never, options);
  type Feeds = Readonly<Record<string, Feed>>;
  const call = async (feeds: Feeds) => {
    const entry = compiler.entry(feeds);
    const data = compiler.feeds(feeds);
    return inOrder(async () => {
      const ready = await entry;
      return compiler.results(ready, await run(ready, data));
    });
  };
  return Object.assign(call, {
    async compile(feeds: Feeds) {
      return (await compiler.entry(feeds)).report;
    },
    runSync(feeds: Feeds) {
      if (isBusy()) throw new AnnealError(`${compiler.label}: runSync while a program runs; await it first`);
      const entry = compiler.entrySync(feeds);
      return compiler.results(entry, runSync(entry, compiler.feeds(feeds)));
    },
    text: () => programText(compiler.latest().compiled),
    report: () => compiler.latest().report,
    async profile(feeds: Feeds, repeats = 5) {
      const entry = await compiler.entry(feeds);
      const parts = compiler.feeds(feeds);
      return inOrder(async () => {
        const times: NodeTime[] = [];
        for (const [i, { executable }] of entry.compiled.phases.entries()) {
          times.push(...(await executable.profile(i === 0 ? parts[0]! : [], repeats)));
        }
        return times.sort((a, b) => b.ms - a.ms);
      });
    },
    dispose: () => compiler.dispose(),
  }) as never;
}
