import type { NodeTime, Slot } from '../runtime/backend.js';
import { type CompiledProgram, compileProgram, type TracedProgram } from './compile.js';
import { backendOf, inOrder, isBusy } from './device.js';
import type { TypedArray } from './dtype.js';
import { AnnealError } from './errors.js';
import { type Feed, feedData, feedShape, type InputSpec, type InputType, specType } from './feeds.js';
import { guardFinite, raiseNonFinite } from './finite.js';
import { makeNode } from './op.js';
import { inputOp } from './ops/leaf.js';
import { type ProgramReport, programText, reportOf } from './report.js';
import { formatShape, type Shape } from './shape.js';
import { Tensor } from './tensor.js';
import { Value } from './value.js';
import { tracing, type Variable } from './variable.js';

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
  /**
   * Keeps the value that each assigned variable had before the last call, for `undo`. Every variable is
   * double-buffered then: no slower, but optimiser moments take twice their memory. Default false.
   */
  keepPrevious?: boolean;
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
  /**
   * Gives every variable that the last call assigned the value it had before, exactly; once per call.
   * @throws AnnealError without `keepPrevious`, or if there is no call to take back.
   */
  undo(): void;
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

/** Variables with the arrays that held their values before a run. */
type Previous = { slot: Slot; data: TypedArray }[];

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
  /** What the last call assigned, with the arrays that held the values before it. */
  private undoable: Previous | undefined;
  private readonly types: [string, InputType][];
  private readonly names: ReadonlySet<string>;
  private recent:
    | { feeds: Record<string, { length: number; constructor: unknown }>; entry: Entry }
    | undefined;
  readonly label: string;
  private readonly parts: number;

  constructor(
    inputs: Readonly<Record<string, InputSpec>>,
    private readonly body: (inputs: Record<string, Tensor>) => Record<string, Tensor> | undefined,
    private readonly options: ProgramOptions,
  ) {
    this.types = Object.entries(inputs).map(([name, spec]) => [name, specType(spec)]);
    this.names = new Set(Object.keys(inputs));
    this.label = options.name ?? (body.name || 'program');
    this.parts = options.microBatches ?? 1;
    if (!Number.isInteger(this.parts) || this.parts < 1) {
      throw new AnnealError(`${this.label}: microBatches must be a positive integer, not ${this.parts}`);
    }
  }

  /**
   * The entry of the last call, if these feeds are typed arrays of the same kinds and lengths: then the
   * shapes are the same, and nothing has to be checked again.
   */
  private repeated(feeds: Readonly<Record<string, Feed>>): Entry | undefined {
    const { recent } = this;
    if (!recent) return undefined;
    let known = 0;
    for (const name in feeds) {
      const last = recent.feeds[name];
      const feed = feeds[name]!;
      if (typeof feed === 'number' || feed instanceof Value || feed === null) return undefined;
      if (last === undefined || feed.length !== last.length || feed.constructor !== last.constructor)
        return undefined;
      known++;
    }
    return known === this.types.length ? recent.entry : undefined;
  }

  private remember(feeds: Readonly<Record<string, Feed>>, entry: Entry): void {
    const kinds: Record<string, { length: number; constructor: unknown }> = {};
    for (const [name, feed] of Object.entries(feeds)) {
      if (typeof feed === 'number' || feed instanceof Value) return;
      kinds[name] = { length: feed.length, constructor: feed.constructor };
    }
    this.recent = { feeds: kinds, entry };
  }

  private shapes(feeds: Readonly<Record<string, Feed>>): number[][] {
    for (const name of Object.keys(feeds)) {
      if (!this.names.has(name)) {
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
      if (outputs.size + trace.assignments.size === 0) {
        throw new AnnealError(
          `${this.label}: the body returns no tensor and assigns no variable; nothing would run`,
        );
      }
      const traced = { inputs, outputs, assignments: trace.assignments };
      if (this.options.check !== 'finite') return { ...traced, guards: [] };
      if (this.parts > 1)
        throw new AnnealError(
          `${this.label}: check: 'finite' needs a program without microBatches; leave them out while you look for the value`,
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
    const compiled = await compileProgram(traced, backend, this.label, this.parts, this.options.keepPrevious);
    const times = { load: began - start, trace: middle - began, compile: performance.now() - middle };
    return {
      names: [...traced.outputs.keys()],
      outputs: [...traced.outputs.values()],
      compiled,
      guards: traced.guards,
      report: reportOf(compiled, this.parts, times),
    };
  }

  entry(feeds: Readonly<Record<string, Feed>>): Entry | Promise<Entry> {
    const repeated = this.repeated(feeds);
    if (repeated) return repeated;
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
          this.remember(feeds, entry);
        },
        () => this.entries.delete(key),
      );
    }
    return promise;
  }

  entrySync(feeds: Readonly<Record<string, Feed>>): Entry {
    const repeated = this.repeated(feeds);
    if (repeated) return repeated;
    const entry = this.ready.get(this.shapes(feeds).join('|'));
    if (!entry)
      throw new AnnealError(`${this.label}: not compiled for these shapes; await compile() or a call first`);
    this.remember(feeds, entry);
    return entry;
  }

  /** Each phase's feeds, in the order of its runs. */
  feeds(feeds: Readonly<Record<string, Feed>>): TypedArray[][] {
    // A call that fails changes nothing, so the one before it must not be taken back in its place.
    this.undoable = undefined;
    const data = this.types.map(([name, type]) => feedData(type, feeds[name]!));
    if (this.parts === 1) return [data];
    const cut = (part: number) =>
      data.map((array) =>
        array.subarray((part * array.length) / this.parts, ((part + 1) * array.length) / this.parts),
      );
    return Array.from({ length: this.parts }, (_, part) => cut(part));
  }

  /** Where the values of the variables lie that a run of `entry` will assign; not one is written in place. */
  previous({ compiled: { phases, accumulators } }: Entry): Previous | undefined {
    if (!this.options.keepPrevious) return undefined;
    const assigned = phases
      .at(-1)!
      .phase.slots.flatMap(({ slot, output }) =>
        output === undefined || accumulators.includes(slot as Variable) ? [] : [slot],
      );
    return assigned.map((slot) => ({ slot, data: slot.data }));
  }

  results(
    entry: Entry,
    arrays: readonly TypedArray[],
    previous: Previous | undefined,
  ): Record<string, Value> {
    this.undoable = previous;
    raiseNonFinite(entry.guards, entry.names, arrays);
    const values: Record<string, Value> = {};
    for (let i = 0; i < entry.names.length - (entry.guards.length > 0 ? 1 : 0); i++) {
      const t = entry.outputs[i]!;
      values[entry.names[i]!] = new Value(arrays[i]!, t.shape, t.dtype);
    }
    return values;
  }

  undo(): void {
    if (!this.options.keepPrevious) {
      throw new AnnealError(`${this.label}: undo needs the option keepPrevious: true`);
    }
    const previous = this.undoable;
    if (!previous) throw new AnnealError(`${this.label}: no call to undo; each can be taken back once`);
    this.undoable = undefined;
    for (const { slot, data } of previous) {
      // A backend that writes into a second buffer has the old value there; others made a new array.
      if (slot.spare === data) slot.spare = slot.data;
      slot.data = data;
    }
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
    this.recent = undefined;
  }
}

/** Forgets the micro-batches of a run that failed, which the next run would otherwise count again. */
function clear(accumulators: CompiledProgram['accumulators']): void {
  for (const sum of accumulators) sum.data.fill(0);
}

async function run(entry: Entry, feeds: readonly TypedArray[][]): Promise<TypedArray[]> {
  const { phases, accumulators } = entry.compiled;
  const [batch, update] = phases;
  if (!update) return batch!.executable.run(feeds[0]!);
  try {
    for (const part of feeds) await batch!.executable.run(part);
    return await update.executable.run([]);
  } catch (error) {
    clear(accumulators);
    throw error;
  }
}

function runSync(entry: Entry, feeds: readonly TypedArray[][]): TypedArray[] {
  const { phases, accumulators } = entry.compiled;
  const [batch, update] = phases;
  if (!update) return batch!.executable.runSync(feeds[0]!);
  try {
    for (const part of feeds) batch!.executable.runSync(part);
    return update.executable.runSync([]);
  } catch (error) {
    clear(accumulators);
    throw error;
  }
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
  body: (inputs: { [K in keyof I]: Tensor }) => O | undefined,
  options: ProgramOptions = {},
): Program<Extract<keyof I, string>, Extract<keyof O, string>> {
  const compiler = new Compiler(inputs, body as never, options);
  type Feeds = Readonly<Record<string, Feed>>;
  const call = async (feeds: Feeds) => {
    const entry = compiler.entry(feeds);
    const data = compiler.feeds(feeds);
    return inOrder(async () => {
      const ready = entry instanceof Promise ? await entry : entry;
      const previous = compiler.previous(ready);
      return compiler.results(ready, await run(ready, data), previous);
    });
  };
  return Object.assign(call, {
    async compile(feeds: Feeds) {
      return (await compiler.entry(feeds)).report;
    },
    runSync(feeds: Feeds) {
      if (isBusy()) throw new AnnealError(`${compiler.label}: runSync while a program runs; await it first`);
      const entry = compiler.entrySync(feeds);
      const previous = compiler.previous(entry);
      return compiler.results(entry, runSync(entry, compiler.feeds(feeds)), previous);
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
    undo() {
      if (isBusy()) throw new AnnealError(`${compiler.label}: undo while a program runs; await it first`);
      compiler.undo();
    },
    dispose: () => compiler.dispose(),
  }) as never;
}
