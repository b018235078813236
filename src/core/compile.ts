import { type GraphInput, type GraphOutput, type LoweredGraph, lowerGraph } from '../onnx/graph.js';
import type { Backend, Executable, Kernels, Port, SlotBinding, WeightBinding } from '../runtime/backend.js';
import { kernelsOf } from './device.js';
import { allocate } from './dtype.js';
import { AnnealError, atUserFrame } from './errors.js';
import { rewrite, topological } from './graph.js';
import { accumulate, add, identity, mul } from './ops/elementwise.js';
import { zerosLike } from './ops/view.js';
import { optimize, passes, type Saving } from './passes/index.js';
import { formatShape } from './shape.js';
import type { Node, Tensor } from './tensor.js';
import { Variable } from './variable.js';

/** A traced program before compilation. */
export interface TracedProgram {
  inputs: ReadonlyMap<string, Tensor>;
  outputs: ReadonlyMap<string, Tensor>;
  assignments: ReadonlyMap<Variable, Tensor>;
}

/** One graph of a program; a program with micro-batches has two: the batch's and the update's. */
export interface Phase {
  inputs: GraphInput[];
  outputs: GraphOutput[];
  slots: SlotBinding[];
  /** Fixed variables, which are part of the compiled graph. */
  weights: WeightBinding[];
  roots: readonly Tensor[];
  lowered: LoweredGraph;
  savings: readonly Saving[];
}

/** What running a program needs. */
export interface CompiledProgram {
  phases: readonly { phase: Phase; executable: Executable }[];
  /** Sums over micro-batches, to be cleared if a run fails between them. */
  accumulators: readonly Variable[];
}

const isElementwise = (node: Node) => ['add', 'sub', 'mul', 'div', 'identity'].includes(node.op.name);

/** The nodes that read `leaf` or a view of it, whose memory the runtime may share. */
function readersOf(leaf: Tensor, consumers: ReadonlyMap<Tensor, readonly Node[]>): Node[] {
  const found: Node[] = [];
  for (const node of consumers.get(leaf) ?? []) {
    found.push(node);
    if (node.op.view) for (const t of node.outputs) found.push(...readersOf(t, consumers));
  }
  return found;
}

/** The tensor whose memory `t` may share. */
const memoryOf = (t: Tensor): Tensor => (t.node.op.view ? memoryOf(t.node.inputs[0]!) : t);

/** Ops that update an input, reading each place before they write it: output → the input it may replace. */
const updatedInputs: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  cachedAttention: { 1: 3, 2: 4 },
  decodeAttention: { 1: 1, 2: 2 },
  pathStep: { 1: 5, 2: 6 },
  cacheWrite: { 0: 0 },
};
/** The same where each output may replace the input of its number. */
const updatesAll: ReadonlySet<string> = new Set(['adamw', 'momentum', 'addProducts']);

/** `next` may be written over the memory of `leaf` while its node reads it: each element is read before. */
function readsBeforeWriting(next: Tensor, leaf: Tensor): boolean {
  const { node } = next;
  const { name } = node.op;
  const updated = updatesAll.has(name) ? next.index : updatedInputs[name]?.[next.index];
  if (updated !== undefined)
    return node.inputs.every((t, i) => (i === updated ? t === leaf : memoryOf(t) !== leaf));
  const safe = (t: Tensor, i: number) => {
    if (node.op.name === 'gemm' && i < 2) return memoryOf(t) !== leaf;
    return t === leaf ? t.size === node.outputs[0]!.size : memoryOf(t) !== leaf;
  };
  return (node.op.name === 'gemm' || isElementwise(node)) && node.inputs.every(safe);
}

/**
 * Whether the new value of a variable may be written straight over its old one: every reader of the old
 * value must have run before the writer, in any order that respects the data.
 */
export function isSafeInPlace(
  leaf: Tensor,
  next: Tensor,
  consumers: ReadonlyMap<Tensor, readonly Node[]>,
  position: ReadonlyMap<Node, number>,
  results: ReadonlySet<Tensor>,
): boolean {
  const readers = readersOf(leaf, consumers);
  if (readers.length === 0) return true;
  const first = Math.min(...readers.map((node) => position.get(node)!));
  const before = new Set<Tensor>();
  const stack: Tensor[] = [next];
  while (stack.length > 0) {
    const t = stack.pop()!;
    if (before.has(t)) continue;
    before.add(t);
    // Nothing earlier than the first reader can lie between it and the writer.
    if (position.get(t.node)! >= first) stack.push(...t.node.inputs);
  }
  return readers.every((node) => {
    if (node === next.node) return readsBeforeWriting(next, leaf);
    return node.outputs.every((t) => before.has(t) || !(consumers.has(t) || results.has(t)));
  });
}

/** Lowers one graph and decides how each variable takes part in it. */
function makePhase(
  kernels: Kernels | undefined,
  inputs: ReadonlyMap<string, Tensor>,
  outputs: ReadonlyMap<string, Tensor>,
  assignments: ReadonlyMap<Variable, Tensor>,
  isKept: (variable: Variable) => boolean = () => false,
): Phase {
  const targets = [...assignments.keys()];
  const { roots, savings } = optimize(
    [...outputs.values(), ...assignments.values()],
    passes(false, kernels !== undefined),
  );
  const order = topological(roots);
  const position = new Map(order.map((node, i) => [node, i]));
  const consumers = new Map<Tensor, Node[]>();
  for (const node of order) {
    for (const t of new Set(node.inputs)) {
      const list = consumers.get(t);
      if (list) list.push(node);
      else consumers.set(t, [node]);
    }
  }
  const read = order.flatMap(({ payload }) => (payload instanceof Variable ? [payload] : []));
  const rootSet = new Set(roots);
  const graphInputs: GraphInput[] = [...inputs].map(([name, tensor]) => ({ name: `in.${name}`, tensor }));
  const graphOutputs: GraphOutput[] = [...outputs.keys()].map((name, i) => ({
    name: `out.${name}`,
    tensor: roots[i]!,
  }));
  const fixed = [...new Set(read)].filter((v) => v.fixed);
  const weights = fixed.map((slot, i) => ({ name: `weight.${i}.${slot.name}`, slot }));
  const slots = [...new Set([...read, ...targets])]
    .filter((v) => !v.fixed)
    .map((slot, i): SlotBinding => {
      const reads = read.includes(slot) && (consumers.has(slot) || rootSet.has(slot));
      if (reads) graphInputs.push({ name: `var.${i}.${slot.name}`, tensor: slot });
      const at = targets.indexOf(slot);
      const next = at < 0 ? undefined : roots[outputs.size + at]!;
      if (next) graphOutputs.push({ name: `next.${i}.${slot.name}`, tensor: next });
      const shared = next !== undefined && roots.filter((r) => r === next).length > 1;
      return {
        slot,
        input: reads ? `var.${i}.${slot.name}` : undefined,
        output: next ? `next.${i}.${slot.name}` : undefined,
        inPlace:
          next !== undefined &&
          !shared &&
          !isKept(slot) &&
          !rootSet.has(slot) &&
          isSafeInPlace(slot, next, consumers, position, rootSet),
      };
    });
  return {
    inputs: graphInputs,
    outputs: graphOutputs,
    slots,
    weights,
    roots,
    lowered: lowerGraph(
      graphInputs,
      graphOutputs,
      'ort',
      kernels,
      weights.map(({ name, slot }) => ({ name, tensor: slot })),
    ),
    savings,
  };
}

/** Tensors that depend on an input of the program without passing an accumulation mark. */
function batchTensors(roots: readonly Tensor[]): Set<Tensor> {
  const found = new Set<Tensor>();
  for (const node of topological(roots)) {
    const depends =
      node.op.name === 'input' || (node.op.name !== 'accumulate' && node.inputs.some((t) => found.has(t)));
    if (depends) for (const t of node.outputs) found.add(t);
  }
  return found;
}

/** Accumulates scalar outputs by themselves; anything else that belongs to one micro-batch is refused. */
function accumulateOutputs(
  outputs: ReadonlyMap<string, Tensor>,
  assignments: ReadonlyMap<Variable, Tensor>,
): Map<string, Tensor> {
  const batch = batchTensors([...outputs.values(), ...assignments.values()]);
  for (const [variable, next] of assignments) {
    if (batch.has(next)) {
      throw new AnnealError(
        `${variable.name} is assigned a value of a single micro-batch; pass it through accumulate()${atUserFrame(next.node.origin)}`,
      );
    }
  }
  return new Map(
    [...outputs].map(([name, t]) => {
      if (!batch.has(t)) return [name, t];
      if (t.size === 1 && t.dtype === 'float32') return [name, accumulate(t)];
      throw new AnnealError(
        `output "${name}" ${t.dtype}${formatShape(t.shape)} belongs to a single micro-batch; return a scalar, or run without microBatches`,
      );
    }),
  );
}

/**
 * Cuts a program at its accumulation marks: the first phase runs once per micro-batch and adds to
 * accumulators, the second runs once and reads their means.
 */
function splitPhases(
  kernels: Kernels | undefined,
  traced: TracedProgram,
  count: number,
  keepPrevious: boolean,
): { phases: Phase[]; accumulators: Variable[] } {
  const outputs = accumulateOutputs(traced.outputs, traced.assignments);
  const { roots } = optimize([...outputs.values(), ...traced.assignments.values()], passes(true));
  const sums = new Map<Variable, Tensor>();
  const meanOf = new Map<Tensor, Tensor>();
  const cut = rewrite(roots, (node) => {
    if (node.op.name !== 'accumulate') return undefined;
    const source = node.inputs[0]!;
    let mean = meanOf.get(source);
    if (!mean) {
      const { dtype, shape, size } = source;
      const sum = new Variable(allocate(dtype, size), dtype, shape, {
        name: `sum${sums.size}`,
        trainable: false,
      });
      sums.set(sum, add(sum, source));
      mean = mul(sum, 1 / count);
      meanOf.set(source, mean);
    }
    return [mean];
  });
  const names = [...outputs.keys()];
  const updates = new Map([...traced.assignments.keys()].map((v, i) => [v, cut[names.length + i]!]));
  for (const sum of sums.keys()) updates.set(sum, identity(zerosLike(sum)));
  const results = new Map(names.map((name, i) => [name, cut[i]!]));
  return {
    phases: [
      makePhase(kernels, traced.inputs, new Map(), sums),
      makePhase(kernels, new Map(), results, updates, (v) => keepPrevious && !sums.has(v)),
    ],
    accumulators: [...sums.keys()],
  };
}

const ports = (list: readonly (GraphInput | GraphOutput)[], prefix: string): Port[] =>
  list.flatMap(({ name, tensor }) =>
    name.startsWith(prefix) ? [{ name, dtype: tensor.dtype, shape: tensor.shape }] : [],
  );

/** Optimises, lowers and compiles a traced program. `keepPrevious`: no variable is written in place. */
export async function compileProgram(
  traced: TracedProgram,
  backend: Backend,
  label: string,
  microBatches: number,
  keepPrevious = false,
): Promise<CompiledProgram> {
  const kernels = kernelsOf(backend);
  const { phases, accumulators } =
    microBatches > 1
      ? splitPhases(kernels, traced, microBatches, keepPrevious)
      : {
          phases: [makePhase(kernels, traced.inputs, traced.outputs, traced.assignments, () => keepPrevious)],
          accumulators: [],
        };
  const executables = await Promise.all(
    phases.map((phase) =>
      backend.compile({
        label,
        model: phase.lowered.model,
        inputs: ports(phase.inputs, 'in.'),
        outputs: ports(phase.outputs, 'out.'),
        slots: phase.slots,
        weights: phase.weights,
        kernels: phase.lowered.kernels,
      }),
    ),
  );
  return { phases: phases.map((phase, i) => ({ phase, executable: executables[i]! })), accumulators };
}
