import type { KernelRequest } from '../runtime/backend.js';
import { maxTensors } from './custom-op.js';
import { gp } from './instructions.js';
import { lanes, type Slot, TileAssembler } from './tile-assembler.js';
import type { TileOperator } from './tile-operators.js';
import {
  chunkOf,
  PanelCompiler,
  type PanelProduct,
  panelColumns,
  panelVectors,
  pickTensor,
} from './tile-panel.js';
import { tileRows } from './tile-product.js';

const { r11, r15 } = gp;

/** Matrices of one size [rows, columns] that follow one another. */
interface Run {
  rows: number;
  columns: number;
  count: number;
  /** Rows of a task's block. */
  rowBlock: number;
}

/** W·keep + P·Y, or Y·P where Y is tall, for several W and Y; P is a stack of matrices [m, m]. */
export interface AddProductsCode {
  m: number;
  runs: readonly Run[];
  /** There is `keep`. */
  scaled: boolean;
}

const ceilTo = (value: number, unit: number) => Math.ceil(value / unit) * unit;
const countOf = ({ runs }: AddProductsCode) => runs.reduce((sum, { count }) => sum + count, 0);
const tasksOf = ({ rows, columns, rowBlock }: Run) =>
  Math.ceil(rows / rowBlock) * Math.ceil(columns / panelColumns);

/**
 * Machine code (AVX-512) of `task(frame, index)`, for tensors W, Y, P, keep, results. A task packs a panel of columns of the right
 * operand and goes down rows of the left one. W lies in the outer memory: what a tile adds to is asked for before its sums
 * are formed.
 */
export function compileAddProducts(code: AddProductsCode): Uint8Array {
  const tensors = 3 * countOf(code) + 1 + Number(code.scaled);
  return TileAssembler.compile(tensors, (t, slots, task) => {
    new AddProductsCompiler(t, code, slots, task).emit();
  });
}

class AddProductsCompiler {
  readonly #panels: PanelCompiler;
  readonly #place: PanelCompiler['place'];
  readonly #scratch: readonly [Slot, Slot, Slot, Slot];

  constructor(
    readonly t: TileAssembler,
    readonly code: AddProductsCode,
    readonly tensors: readonly Slot[],
    readonly task: Slot,
  ) {
    this.#scratch = [t.slot(), t.slot(), t.slot(), t.slot()];
    const result = { weight: false, beta: code.scaled, scale: false, addend: true };
    this.#panels = new PanelCompiler(t, result, chunkOf(code.m)!);
    this.#place = this.#panels.place;
  }

  emit(): void {
    const { t, code } = this;
    const count = countOf(code);
    if (code.scaled)
      this.#panels.setFactor('beta', 1, { base: this.tensors[2 * count + 1]!, offset: 0, ld: 1 });
    let [task, first] = [0, 0];
    for (const run of code.runs) {
      const [from, to, matrix] = [task, task + run.count * tasksOf(run), first];
      t.ifNotBelow(this.task, from, () => t.ifBelow(this.task, to, () => this.#run(run, from, matrix)));
      task = to;
      first += run.count;
    }
    this.#panels.emitFunctions();
  }

  /** A task of one run: its matrix, its block of rows and its panel. */
  #run(run: Run, firstTask: number, firstMatrix: number): void {
    const { t } = this;
    const { rows, columns, rowBlock } = run;
    const [matrix, rest, part, panel] = this.#scratch;
    t.combine(part, this.task, [], -firstTask);
    t.divide(part, tasksOf(run), matrix, rest);
    t.increase(matrix, firstMatrix);
    t.divide(rest, Math.ceil(columns / panelColumns), part, panel);
    const { column } = this.#place;
    t.combine(column, 0, [[panel, panelColumns]]);
    t.combine(this.#place.row, 0, [[part, rowBlock]]);
    t.combine(this.#place.end, this.#place.row, [], rowBlock);
    t.limit(this.#place.end, rows);
    this.#findMatrices(run, matrix);
    const narrow = (columns % panelColumns) / lanes;
    const whole = columns - narrow * lanes;
    if (whole > 0) t.ifBelow(column, whole, () => this.#panel(run, panelVectors));
    if (narrow > 0) t.ifNotBelow(column, whole, () => this.#panel(run, narrow));
  }

  #findMatrices({ rows, columns }: Run, matrix: Slot): void {
    const { t, code, tensors } = this;
    const { m } = code;
    const { a, b, c, addend } = this.#place;
    const count = countOf(code);
    const [left, right] = rows > columns ? [a, b] : [b, a];
    pickTensor(t, addend, tensors, matrix);
    pickTensor(t, left, tensors.slice(count), matrix);
    t.combine(right, tensors[2 * count]!, [[matrix, 4 * m * m]]);
    pickTensor(t, c, tensors.slice(-count), matrix);
  }

  #panel({ columns }: Run, vectors: number): void {
    const { t } = this;
    const { a } = t;
    const { m } = this.code;
    const product: PanelProduct = {
      k: m,
      a: { row: m, step: 1 },
      b: { ld: columns, turned: false },
      ldc: columns,
      vectors,
    };
    // Rows need not begin at a cache line's first byte, so there is one line more than vectors.
    const lines = [...Array(vectors).keys(), vectors - 1 / lanes].map((v) => 64 * v);
    this.#panels.chunks(product, (pass) => {
      this.#panels.startRows(product, this.#place.row);
      a.mov(r15, t.at(this.#place.end));
      a.sub(r15, t.at(this.#place.row));
      const again = a.here();
      if (pass.isFirst) {
        for (let row = 0; row < tileRows; row++)
          for (const line of lines) a.prefetch({ base: r11, offset: 4 * row * columns + line });
      }
      this.#panels.tile(product, vectors, pass);
      a.addImmediate(r15, -tileRows);
      a.jumpIf('notEqual', again);
    });
  }
}

/** Longest block of rows, and the shortest that is cut for the sake of more tasks. */
const longestBlock = 512;
const shortestBlock = 96;
/** Tasks enough for many threads, but not more: each packs its panel again. */
const enoughTasks = 32;
/** Smaller matrices are multiplied faster by ONNX Runtime. */
const fewestRows = 32;

/** Rows of a task's block, by shape alone. */
function rowBlockOf(rows: number, columns: number, count: number): number {
  let blocks = Math.ceil(rows / longestBlock);
  const panels = count * Math.ceil(columns / panelColumns);
  while (panels * blocks < enoughTasks && rows / blocks >= 2 * shortestBlock) blocks *= 2;
  return ceilTo(Math.ceil(rows / blocks), tileRows);
}

const same = (a: readonly number[] | undefined, b: readonly number[]) =>
  a !== undefined && a.length === b.length && a.every((dim, i) => dim === b[i]);

/** The operator for `addProducts`, or undefined where shapes do not fit. Emitted code trusts them. */
export function addProductsOperator({ kind, inputs, outputs }: KernelRequest): TileOperator | undefined {
  if (kind !== 'addProducts') return undefined;
  if ([...inputs, ...outputs].some(({ dtype }) => dtype !== 'float32')) return undefined;
  const count = outputs.length;
  const m = inputs[2 * count]?.shape.at(-1) ?? 0;
  if (inputs.length + count > maxTensors || m < fewestRows || chunkOf(m) === undefined) return undefined;
  const scaled = inputs.length === 2 * count + 2;
  if (!same(inputs[2 * count]!.shape, [count, m, m]) || (scaled && inputs.at(-1)!.shape.length > 0))
    return undefined;
  const runs: Run[] = [];
  for (const [i, { shape }] of outputs.entries()) {
    if (!same(inputs[i]?.shape, shape) || !same(inputs[count + i]?.shape, shape)) return undefined;
    if (shape.length !== 2 || Math.min(...shape) !== m || shape.some((dim) => dim % lanes !== 0))
      return undefined;
    const [rows, columns] = shape as [number, number];
    const last = runs.at(-1);
    if (last && last.rows === rows && last.columns === columns) last.count++;
    else runs.push({ rows, columns, count: 1, rowBlock: rowBlockOf(rows, columns, count) });
  }
  const code: AddProductsCode = { m, runs, scaled };
  return {
    code: `${kind}${JSON.stringify(code)}`,
    compile: () => compileAddProducts(code),
    tasks: runs.reduce((sum, run) => sum + run.count * tasksOf(run), 0),
    inPlace: outputs.map((_, i) => [i, i] as const),
  };
}
