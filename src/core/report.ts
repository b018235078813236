import type { CompiledProgram, Phase } from './compile.js';
import { dtypes, type TypedArray } from './dtype.js';
import { topological } from './graph.js';
import type { Saving } from './passes/index.js';
import { formatShape, sizeOf } from './shape.js';
import type { Node, Tensor, TensorType } from './tensor.js';

/** What a compiled program is made of, and costs per call. */
export interface ProgramReport {
  nodes: number;
  /** Floating-point operations of one call (a multiply-add is two). */
  flops: number;
  /** Bytes that nodes read and write, if nothing stays in a cache. */
  bytesMoved: number;
  /** Largest sum of intermediate tensors alive at once if each node runs as soon as its inputs exist, in bytes. */
  peakBytes: number;
  /** Bytes of the serialized models. */
  modelBytes: number;
  /** Nodes that each pass removed. */
  savings: readonly Saving[];
  /** Nodes that run as machine code emitted for this processor, by what they compute. */
  kernels: Readonly<Record<string, number>>;
  /** Milliseconds: starting the runtime, tracing with differentiation, and optimising, lowering and compiling. */
  times: { load: number; trace: number; compile: number };
}

const bytesOf = (t: TensorType) => sizeOf(t.shape) * dtypes[t.dtype].bytes;

/** Floating-point operations of one node. */
export function flopsOf(node: Node): number {
  if (node.op.flops) return node.op.flops(node.inputs, node.attributes, node.outputs);
  return node.inputs.length === 0 ? 0 : sizeOf(node.outputs[0]!.shape);
}

/** The nodes as a runtime may run them: each as soon as its inputs exist. */
function soonestOrder(order: readonly Node[]): Node[] {
  const waiting = new Map<Node, number>();
  const users = new Map<Node, Node[]>();
  for (const node of order) {
    const sources = new Set(node.inputs.map((t) => t.node));
    waiting.set(node, sources.size);
    for (const source of sources) users.set(source, [...(users.get(source) ?? []), node]);
  }
  const ready = order.filter((node) => waiting.get(node) === 0);
  // The list grows while it is walked.
  for (const node of ready) {
    for (const user of users.get(node) ?? []) {
      const left = waiting.get(user)! - 1;
      waiting.set(user, left);
      if (left === 0) ready.push(user);
    }
  }
  return ready;
}

/** Largest sum of live intermediates over the nodes in order; views share their source's memory. */
function peakOf(roots: readonly Tensor[], order: readonly Node[]): number {
  const lastUse = new Map<Tensor, number>();
  const owner = (t: Tensor): Tensor => (t.node.op.view ? owner(t.node.inputs[0]!) : t);
  order.forEach((node, i) => {
    for (const t of node.inputs) lastUse.set(owner(t), i);
  });
  for (const t of roots) lastUse.set(owner(t), order.length);
  const ends = new Map<number, number>();
  let live = 0;
  let peak = 0;
  order.forEach((node, i) => {
    if (node.inputs.length > 0 && !node.op.view) {
      for (const t of node.outputs) {
        const end = lastUse.get(t);
        if (end === undefined) continue;
        live += bytesOf(t);
        ends.set(end, (ends.get(end) ?? 0) + bytesOf(t));
      }
    }
    peak = Math.max(peak, live);
    live -= ends.get(i) ?? 0;
  });
  return peak;
}

function phaseCost({ roots, lowered }: Phase) {
  const order = topological(roots);
  const moved = (node: Node) =>
    node.op.view || node.inputs.length === 0
      ? 0
      : [...node.inputs, ...node.outputs].reduce((n, t) => n + bytesOf(t), 0);
  return {
    nodes: order.filter((node) => node.inputs.length > 0).length,
    flops: order.reduce((n, node) => n + flopsOf(node), 0),
    bytesMoved: order.reduce((n, node) => n + moved(node), 0),
    peakBytes: peakOf(roots, soonestOrder(order)),
    modelBytes: lowered.model.byteLength,
  };
}

/** Adds up the phases of a program; the first runs once per micro-batch. */
export function reportOf(
  compiled: CompiledProgram,
  microBatches: number,
  times: ProgramReport['times'],
): ProgramReport {
  const report: ProgramReport = {
    nodes: 0,
    flops: 0,
    bytesMoved: 0,
    peakBytes: 0,
    modelBytes: 0,
    savings: [],
    kernels: {},
    times,
  };
  const savings = new Map<string, number>();
  const kernels: Record<string, number> = {};
  compiled.phases.forEach(({ phase }, i) => {
    const cost = phaseCost(phase);
    const runs = i === 0 ? microBatches : 1;
    report.nodes += cost.nodes;
    report.flops += runs * cost.flops;
    report.bytesMoved += runs * cost.bytesMoved;
    report.peakBytes = Math.max(report.peakBytes, cost.peakBytes);
    report.modelBytes += cost.modelBytes;
    for (const { pass, nodes } of phase.savings) savings.set(pass, (savings.get(pass) ?? 0) + nodes);
    for (const [kind, nodes] of phase.lowered.kernelKinds) kernels[kind] = (kernels[kind] ?? 0) + nodes;
  });
  return { ...report, kernels, savings: [...savings].map(([pass, nodes]) => ({ pass, nodes })) };
}

const typeText = (t: TensorType) => `${dtypes[t.dtype].short}${formatShape(t.shape)}`;

function attributesText(node: Node): string {
  const shown = Object.entries(node.attributes).filter(([, v]) => v !== undefined && v !== false);
  return shown.length === 0
    ? ''
    : ` {${shown.map(([k, v]) => `${k}: ${Array.isArray(v) ? `[${v}]` : String(v)}`).join(', ')}}`;
}

/** One graph as text: `%3: f32[64,10] = matmul(x, w)`. Constants of one element appear by their value. */
export function graphText(names: ReadonlyMap<Tensor, string>, results: ReadonlyMap<string, Tensor>): string {
  const known = new Map(names);
  const lines: string[] = [];
  let next = 0;
  for (const node of topological([...results.values()])) {
    if (node.op.name === 'constant') {
      const t = node.outputs[0]!;
      known.set(t, t.size === 1 ? String((node.payload as TypedArray)[0]) : `constant ${typeText(t)}`);
      continue;
    }
    if (node.inputs.length === 0) continue;
    for (const t of node.outputs) known.set(t, `%${next++}`);
    const left = node.outputs.map((t) => `${known.get(t)}: ${typeText(t)}`).join(', ');
    lines.push(
      `${left} = ${node.op.name}(${node.inputs.map((t) => known.get(t)).join(', ')})${attributesText(node)}`,
    );
  }
  for (const [name, t] of results) lines.push(`${name} = ${known.get(t)}`);
  return lines.join('\n');
}

/** The optimised graphs of a program. */
export function programText(compiled: CompiledProgram): string {
  return compiled.phases
    .map(({ phase }, i) => {
      const short = (name: string) =>
        name
          .replace(/^(in|out)\./, '')
          .replace(/^var\.\d+\./, '')
          .replace(/^next\.\d+\.(.*)/, "$1'");
      const names = new Map(phase.inputs.map(({ name, tensor }) => [tensor, short(name)]));
      const results = new Map(phase.outputs.map(({ name, tensor }) => [short(name), tensor]));
      const title = compiled.phases.length > 1 ? `# ${i === 0 ? 'each micro-batch' : 'update'}\n` : '';
      return title + graphText(names, results);
    })
    .join('\n\n');
}
