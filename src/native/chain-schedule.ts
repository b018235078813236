import type { KernelRequest } from '../runtime/backend.js';
import type { Asking } from './block-operator.js';
import type { Call } from './chain-kernel.js';
import { isAttention, onRows, type Step } from './chain-links.js';

/** A kernel and how it is run on a block of rows of fixed shapes. */
export interface BlockWork extends Pick<Call, 'task' | 'tasks' | 'parameters'> {
  /** A product, each of whose tasks can ask for the keys and values of a pair, if it asks at all. */
  isProduct?: boolean;
}

/** A kernel for a block of rows; a product may ask for keys and values meanwhile. */
export type WorkOf = (request: KernelRequest, asking?: Asking) => BlockWork | undefined;

/** Where a value of the chain is: a tensor of the operator, and a place in it. */
export interface Place {
  tensor: number;
  offset: number;
  /** Bytes from row to row; 0 for what all rows share. */
  stride: number;
}

/** Some consecutive rows. */
interface Rows {
  start: number;
  count: number;
}

/** Rows of a block are a multiple of this, but for the last. */
const unit = 4;
/** Fewest rows of a block: its products read all weights from the outer caches. */
const fewestOfBlock = 12;
/** Fewest rows of a block that is worth two halves. */
const fewestOfPair = 48;

const cutInto = (rows: number, parts: number): Rows[] =>
  Array.from({ length: parts }, (_, i) => {
    const at = (part: number) => (part === parts ? rows : Math.round((rows * part) / parts / unit) * unit);
    return { start: at(i), count: at(i + 1) - at(i) };
  });

/** A block of rows for each thread, or fewer, so that none is too short. Results do not depend on it. */
export const cutRows = (rows: number, threads: number): Rows[] =>
  cutInto(rows, Math.max(1, Math.min(threads, Math.floor(rows / fewestOfBlock))));

/** The parts of a block that are computed in turns: while one multiplies, the other attends. */
export const halvesOf = ({ start, count }: Rows): Rows[] =>
  cutInto(count, count < fewestOfPair ? 1 : 2).map((half) => ({ ...half, start: start + half.start }));

/**
 * The calls for a block of rows. Attention waits for memory, which is idle while weights are multiplied that lie in the caches.
 * So the block's two halves take turns: each panel of products of one half asks for the keys and values of some
 * rows and heads of the other, which attend next, when these have come as far as the second-level cache.
 */
export function scheduleBlock(
  steps: readonly Step[],
  places: ReadonlyMap<string, Place>,
  rows: Rows,
  workOf: WorkOf,
): Call[] {
  return new Schedule(steps, places, workOf).block(rows);
}

class Schedule {
  readonly #calls: Call[] = [];

  constructor(
    readonly steps: readonly Step[],
    readonly places: ReadonlyMap<string, Place>,
    readonly workOf: WorkOf,
  ) {}

  block(rows: Rows): Call[] {
    const [first, second] = halvesOf(rows) as [Rows, Rows | undefined];
    if (!second) {
      for (const step of this.steps) this.#whole(step, first);
      return this.#calls;
    }
    const attentions = this.steps.filter(isAttention);
    const places = attentions.map((step) => this.steps.indexOf(step));
    // What lies between the attentions, and before and behind them.
    const between = [0, ...places.map((at) => at + 1)].map((from, i) => this.steps.slice(from, places[i]));
    for (const step of between[0]!) this.#whole(step, first);
    attentions.forEach((attention, i) => {
      this.#interleave(between[i]!, second, attention, first);
      const isLast = i === attentions.length - 1;
      this.#interleave(between[i + 1]!, first, attention, second);
      if (isLast) for (const step of between[i + 1]!) this.#whole(step, second);
    });
    return this.#calls;
  }

  /** All of a node's work on some rows. */
  #whole(step: Step, rows: Rows): void {
    const work = this.#work(step, rows);
    this.#calls.push({ ...work, first: 0, tensors: this.#tensors(step, rows) });
  }

  #work({ request }: Step, { count }: Rows, asking?: Asking): BlockWork {
    const work = this.workOf(onRows(request, count), asking);
    if (!work) throw new Error(`no kernel for ${count} rows of ${request.kind}`);
    return work;
  }

  #place(name: string, { start }: Rows) {
    const { tensor, offset, stride } = this.places.get(name)!;
    return { tensor, offset: offset + start * stride };
  }
  #tensors = ({ link }: Step, rows: Rows) =>
    [...link.inputs, ...link.outputs].map((name) => this.#place(name, rows));

  /** Nodes on some rows, and between their panels attention on others. */
  #interleave(steps: readonly Step[], rows: Rows, attention: Step, others: Rows): void {
    const whole = this.#work(attention, others);
    const { tensors, ...attend } = { ...whole, tensors: this.#tensors(attention, others) };
    const [, kvHeads, capacity, size] = attention.request.inputs[1]!.shape as [
      number,
      number,
      number,
      number,
    ];
    const pairs = whole.tasks;
    // As many of the products' tasks as there are pairs ask for one, keys and values; but not all pairs may have a task.
    let next = 0;
    const attendUpTo = (pair: number) => {
      if (pair > next) this.#calls.push({ ...attend, first: next, tasks: pair - next, tensors });
      next = pair;
    };
    for (const step of steps) {
      if (!this.#work(step, rows).isProduct) {
        this.#whole(step, rows);
        continue;
      }
      const asking = { firstRun: 2 * next, runsOfTask: 2, runs: 2 * pairs, kvHeads, capacity, size };
      const product = this.#work(step, rows, asking);
      const caches = attention.link.inputs.slice(1, 4).map((name) => this.#place(name, others));
      const operands = [...this.#tensors(step, rows), ...caches];
      for (let task = 0; task < product.tasks; task++) {
        this.#calls.push({ ...product, first: task, tasks: 1, tensors: operands });
        attendUpTo(Math.min(pairs, next + 1));
      }
    }
    attendUpTo(pairs);
  }
}
