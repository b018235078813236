import { dtypes } from '../core/dtype.js';
import type { JoinedKernel, KernelLink, KernelRequest, KernelType } from '../runtime/backend.js';
import { type Call, mostOfCall } from './chain-kernel.js';
import { isAttention, isByRow, onRows, rowsOf, type Step } from './chain-links.js';
import { cutRows, halvesOf, type Place, scheduleBlock, type WorkOf } from './chain-schedule.js';
import type { OperatorSpec } from './custom-op.js';

/** A chain: what takes the place of its links, and all tensors in the order of the operator's, inputs first. */
export interface Chain extends Pick<JoinedKernel, 'first' | 'count' | 'inputs' | 'outputs'> {
  inputTypes: readonly KernelType[];
  inPlace: OperatorSpec['inPlace'];
  /** Calls of each block of rows. */
  blocks: readonly (readonly Call[])[];
}

/** What the planner needs to know of its surroundings. */
export interface ChainContext {
  threads: number;
  /** Most tensors of an operator. */
  mostTensors: number;
  requestOf(operator: string): KernelRequest | undefined;
  workOf: WorkOf;
}

/** Fewest rows that pay: the weights are read once for every block, from the outer caches. */
const fewestRows = 64;
/** Most bytes of weights: they have to stay in the last cache from one step to the next. */
const mostShared = 2 ** 24;
const lineBytes = 64;
/** The operands that a product which asks for keys and values has more. */
const asked = 3;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const bytesOf = ({ dtype, shape }: KernelType) => dtypes[dtype].bytes * sizeOf(shape);

/**
 * Chains among nodes that follow one another: runs of nodes that work row by row, a step of decoding among them. A block of
 * rows goes through all of a chain while it is in the caches, and no thread waits for another in between. `reads` counts
 * how often each value is read in the whole graph.
 */
export function findChains(
  links: readonly KernelLink[],
  reads: ReadonlyMap<string, number>,
  context: ChainContext,
): Chain[] {
  const found: Chain[] = [];
  if (sharedBytes(links, context) > mostShared) return found;
  for (let first = 0; first < links.length; ) {
    const steps = longestRun(links.slice(first), context);
    if (steps.length > 1 && steps.some(isAttention))
      found.push({ ...planChain(steps, reads, context), first, count: steps.length });
    first += Math.max(1, steps.length);
  }
  return found;
}

/** Bytes of what all rows of nodes that work row by row need. */
function sharedBytes(links: readonly KernelLink[], { requestOf }: ChainContext): number {
  const bytes = new Map<string, number>();
  for (const { operator, inputs } of links) {
    const request = requestOf(operator);
    if (!request || rowsOf(request) === undefined) continue;
    inputs.forEach((name, i) => {
      if (!isByRow(request, i)) bytes.set(name, bytesOf(request.inputs[i]!));
    });
  }
  return [...bytes.values()].reduce((a, b) => a + b, 0);
}

/** The links from the first on that fit one chain. */
function longestRun(links: readonly KernelLink[], context: ChainContext): Step[] {
  const steps: Step[] = [];
  const made = new Set<string>();
  const tensors = new Set<string>();
  for (const link of links) {
    const request = context.requestOf(link.operator);
    const rows = request && rowsOf(request);
    if (!request || rows === undefined || rows < fewestRows) break;
    if (steps.length > 0 && rows !== rowsOf(steps[0]!.request)) break;
    const whole = link.inputs.filter((_, i) => !isByRow(request, i));
    // What all rows need has to be there before the first.
    if (whole.some((name) => made.has(name))) break;
    const fresh = new Set([...link.inputs, ...link.outputs].filter((name) => !tensors.has(name)));
    // One more for the memory in between.
    if (tensors.size + fresh.size + 1 > context.mostTensors) break;
    if (link.inputs.length + link.outputs.length + asked > mostOfCall) break;
    const parts = cutRows(rows, context.threads).flatMap(halvesOf);
    if (!parts.every(({ count }) => context.workOf(onRows(request, count)))) break;
    for (const name of fresh) tensors.add(name);
    for (const name of link.outputs) made.add(name);
    steps.push({ link, request });
  }
  return steps;
}

function planChain(
  steps: readonly Step[],
  reads: ReadonlyMap<string, number>,
  { threads, workOf }: ChainContext,
): Omit<Chain, 'first' | 'count'> {
  const { inputs, outputs, between, inPlace } = operandsOf(steps, reads);
  const rows = rowsOf(steps[0]!.request)!;
  const places = new Map<string, Place>();
  const strideOf = (type: KernelType) => bytesOf(type) / rows;
  inputs.forEach(({ name, type, isRows }, tensor) => {
    places.set(name, { tensor, offset: 0, stride: isRows ? strideOf(type) : 0 });
  });
  outputs.forEach(({ name, type }, i) => {
    places.set(name, { tensor: inputs.length + i, offset: 0, stride: strideOf(type) });
  });
  // Values that nothing else reads lie in one more result.
  const { offsets, bytes } = roomFor(steps, between);
  for (const { name, type } of between) {
    const offset = offsets.get(name)!;
    places.set(name, { tensor: inputs.length + outputs.length, offset, stride: strideOf(type) });
  }
  const work = { name: `${steps[0]!.link.outputs[0]}/work`, dtype: 'float32' as const, shape: [bytes / 4] };
  return {
    inputs: inputs.map(({ name }) => name),
    inputTypes: inputs.map(({ type }) => type),
    outputs: [...outputs.map(({ name, type }) => ({ name, ...type })), ...(bytes > 0 ? [work] : [])],
    inPlace,
    blocks: cutRows(rows, threads).map((block) => scheduleBlock(steps, places, block, workOf)),
  };
}

interface Operand {
  name: string;
  type: KernelType;
}

/**
 * Places for values that are passed on. One that has been read for the last time makes room for another of its size, so that
 * all stay in the caches: of the same size, because some rows are further than others, and each has to find its own place.
 */
function roomFor(steps: readonly Step[], between: readonly Operand[]) {
  const offsets = new Map<string, number>();
  const rooms: { offset: number; bytes: number; until: number }[] = [];
  let end = 0;
  for (const { name, type } of between) {
    const bytes = Math.ceil(bytesOf(type) / lineBytes) * lineBytes;
    const made = steps.findIndex(({ link }) => link.outputs.includes(name));
    const until = Math.max(
      made,
      steps.findLastIndex(({ link }) => link.inputs.includes(name)),
    );
    let room = rooms.find((one) => one.until < made && one.bytes === bytes);
    if (!room) {
      room = { offset: end, bytes, until };
      rooms.push(room);
      end += bytes;
    }
    room.until = until;
    offsets.set(name, room.offset);
  }
  return { offsets, bytes: end };
}

/** What a chain reads, what it is read for, and what is only passed on inside it. */
function operandsOf(steps: readonly Step[], reads: ReadonlyMap<string, number>) {
  const inputs = new Map<string, Operand & { isRows: boolean }>();
  const made = new Map<string, Operand>();
  const readInside = new Map<string, number>();
  const caches: [from: string, to: string][] = [];
  for (const step of steps) {
    const { link, request } = step;
    link.inputs.forEach((name, i) => {
      readInside.set(name, (readInside.get(name) ?? 0) + 1);
      const isRows = isByRow(request, i);
      if (!made.has(name) && !inputs.has(name)) inputs.set(name, { name, type: request.inputs[i]!, isRows });
    });
    link.outputs.forEach((name, i) => {
      made.set(name, { name, type: request.outputs[i]! });
    });
    // A step of decoding writes into its caches; nothing else is worth sharing memory for.
    if (isAttention(step)) for (const i of [1, 2]) caches.push([link.inputs[i]!, link.outputs[i]!]);
  }
  const isPassedOn = ({ name }: Operand) => (reads.get(name) ?? 0) <= (readInside.get(name) ?? 0);
  const all = [...made.values()];
  const outputs = all.filter((value) => !isPassedOn(value));
  const order = [...inputs.keys()];
  const inPlace = caches
    .map(([from, to]) => [order.indexOf(from), outputs.findIndex(({ name }) => name === to)] as const)
    .filter((pair) => !pair.includes(-1));
  return { inputs: [...inputs.values()], outputs, between: all.filter(isPassedOn), inPlace };
}
