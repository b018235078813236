import { gp } from './instructions.js';
import { lanes, type Slot, TileAssembler } from './tile-assembler.js';
import {
  chunkOf,
  PanelCompiler,
  type PanelPass,
  type PanelProduct,
  panelColumns,
  panelVectors,
  pickTensor,
  takeTurns,
} from './tile-panel.js';
import { tileRows } from './tile-product.js';

const { rcx, r14, r15 } = gp;

/** How the operands of a product with a symmetric result lie in memory. */
export interface SymmetricOperands {
  /** Steps of the inner dimension. */
  k: number;
  /** A is stored as [k, m], not [m, k]. */
  turnedA: boolean;
  /** B is stored as [m, k], not [k, m]. */
  turnedB: boolean;
}

/** Products scale·(weight·A·B + C) + identity·I with symmetric results [m, m], all sizes known. */
export interface SymmetricCode {
  /** A multiple of 16. */
  m: number;
  /** Rows of the blocks that a panel of columns is cut into: a multiple of a panel's columns. */
  rowBlock: number;
  /**
   * Runs of matrices with equal operands. With one run, A and B are tensors of matrices; with `separate`, every matrix is a
   * tensor of its own that is both A and B.
   */
  runs: readonly (SymmetricOperands & { count: number })[];
  separate: boolean;
  weight: number;
  scale: number;
  identity: number;
  /** There is C, and there is a factor for each matrix beside the scale; the tensors follow in this order. */
  addend: boolean;
  scaled: boolean;
}

const matricesOf = ({ runs }: SymmetricCode) => runs.reduce((sum, { count }) => sum + count, 0);

/** Tasks for each matrix: a block of rows of a panel of columns. */
const tasksOf = ({ m, rowBlock }: SymmetricCode) => Math.ceil(m / panelColumns) * Math.ceil(m / rowBlock);

/** Tasks of an operator. */
export const symmetricTasks = (code: SymmetricCode): number => matricesOf(code) * tasksOf(code);

/**
 * Machine code (AVX-512) of `task(frame, index)`. A task packs a panel of B for a chunk of the inner dimension, goes down
 * the rows of A from the panel's diagonal on, and last copies what it computed across the diagonal by blocks of 16 x 16.
 * Tiles that the diagonal crosses have no more vectors of columns than they need.
 *
 * Tasks write apart, and their results depend on their operands only, so the number of threads does not change a bit.
 */
export function compileSymmetric(code: SymmetricCode): Uint8Array {
  const operands = code.separate ? matricesOf(code) : 2;
  const tensors = operands + Number(code.addend) + Number(code.scaled) + 1;
  return TileAssembler.compile(tensors, (t, slots, task) => {
    new SymmetricCompiler(t, code, slots, task).emit();
  });
}

class SymmetricCompiler {
  readonly #panels: PanelCompiler;
  readonly #place: PanelCompiler['place'];
  readonly #matrix: Slot;
  readonly #scratch: readonly [Slot, Slot, Slot];

  constructor(
    readonly t: TileAssembler,
    readonly code: SymmetricCode,
    readonly tensors: readonly Slot[],
    readonly task: Slot,
  ) {
    this.#matrix = t.slot();
    this.#scratch = [t.slot(), t.slot(), t.slot()];
    const result = {
      weight: code.weight !== 1,
      beta: false,
      scale: code.scaled || code.scale !== 1,
      addend: code.addend,
    };
    const longest = Math.max(...code.runs.map(({ k }) => chunkOf(k)!));
    this.#panels = new PanelCompiler(t, result, longest);
    this.#place = this.#panels.place;
  }

  emit(): void {
    const { t, code } = this;
    const { m } = code;
    const { column, c } = this.#place;
    this.#locate();
    t.ifBelow(column, this.#place.end, () => {
      t.combine(c, this.tensors.at(-1)!, [[this.#matrix, 4 * m * m]]);
      this.#findAddend();
      let first = 0;
      for (const run of code.runs) {
        const [from, to] = [first, first + run.count];
        t.ifNotBelow(this.#matrix, from, () => t.ifBelow(this.#matrix, to, () => this.#run(run)));
        first = to;
      }
    });
    this.#panels.emitFunctions();
  }

  /** The task's matrix, its panel's first column, and its rows. */
  #locate(): void {
    const { t, code, task } = this;
    const { m, rowBlock } = code;
    const [rest, panel, part] = this.#scratch;
    takeTurns(t, task, matricesOf(code), tasksOf(code), [this.#matrix, rest]);
    t.divide(rest, Math.ceil(m / panelColumns), part, panel);
    t.combine(this.#place.column, 0, [[panel, panelColumns]]);
    t.combine(this.#place.row, 0, [[part, rowBlock]]);
    t.combine(this.#place.end, this.#place.row, [], rowBlock);
    t.limit(this.#place.end, m);
  }

  /** C, and the factors of the matrix. */
  #findAddend(): void {
    const { t, code } = this;
    const own = this.tensors.slice(code.separate ? matricesOf(code) : 2, -1);
    if (code.addend) t.combine(this.#place.addend, own.shift()!, [[this.#matrix, 4 * code.m * code.m]]);
    this.#panels.setFactor('weight', code.weight);
    const scale = code.scaled ? t.block(own.shift()!, [[this.#matrix, 1]], 1) : undefined;
    this.#panels.setFactor('scale', code.scale, scale);
  }

  /** The task's block for the matrices of one run. */
  #run(operands: SymmetricOperands): void {
    const { t, code, tensors } = this;
    const { m } = code;
    const { a, b, column } = this.#place;
    if (code.separate) {
      for (const slot of [a, b]) pickTensor(t, slot, tensors, this.#matrix);
    } else {
      [a, b].forEach((slot, i) => {
        t.combine(slot, tensors[i]!, [[this.#matrix, 4 * m * operands.k]]);
      });
    }
    const narrow = (m % panelColumns) / lanes;
    const whole = m - narrow * lanes;
    if (whole > 0) t.ifBelow(column, whole, () => this.#panel(operands, panelVectors));
    if (narrow > 0) t.ifNotBelow(column, whole, () => this.#panel(operands, narrow));
  }

  #panel({ k, turnedA, turnedB }: SymmetricOperands, vectors: number): void {
    const { m, identity } = this.code;
    const product: PanelProduct = {
      k,
      a: turnedA ? { row: 1, step: m } : { row: k, step: 1 },
      b: { ld: turnedB ? k : m, turned: turnedB },
      ldc: m,
      vectors,
    };
    this.#panels.chunks(product, (pass) => this.#rows(product, pass));
    if (identity !== 0) this.#ifDiagonal(() => this.#addIdentity(vectors));
    this.#mirror(vectors);
  }

  /** Runs one of two bodies: does the block of rows hold the panel's diagonal? */
  #ifDiagonal(holds: () => void, holdsNot: () => void = () => {}): void {
    const { a } = this.t;
    if (this.code.rowBlock >= this.code.m) {
      holds();
      return;
    }
    const [otherwise, end] = [a.label(), a.label()];
    a.mov(rcx, this.t.at(this.#place.column));
    a.cmp(rcx, this.t.at(this.#place.row));
    a.jumpIf('less', otherwise);
    holds();
    a.jump(end);
    a.bind(otherwise);
    holdsNot();
    a.bind(end);
  }

  /** Multiplies the block's rows, from the diagonal on, by the packed panel. */
  #rows(product: PanelProduct, pass: PanelPass): void {
    const { t } = this;
    const { column } = this.#place;
    const tile = (vectors: number) => this.#panels.tile(product, vectors, pass);
    const rest = (from: Slot, behind: number) => {
      const done = t.a.label();
      t.a.mov(r15, t.at(this.#place.end));
      t.a.sub(r15, t.at(from));
      t.a.addImmediate(r15, -behind);
      t.a.jumpIf('notGreater', done);
      const again = t.a.here();
      tile(product.vectors);
      t.a.addImmediate(r15, -tileRows);
      t.a.jumpIf('notEqual', again);
      t.a.bind(done);
    };
    this.#ifDiagonal(
      () => {
        this.#panels.startRows(product, column);
        const rows = lanes * product.vectors;
        for (let at = 0; at < rows; at += tileRows) tile(Math.floor(at / lanes) + 1);
        rest(column, rows);
      },
      () => {
        this.#panels.startRows(product, this.#place.row);
        rest(this.#place.row, 0);
      },
    );
  }

  /** Adds to the panel's diagonal. */
  #addIdentity(vectors: number): void {
    const { t } = this;
    const { m, identity } = this.code;
    const [from] = this.#scratch;
    const lowest = { bits: 128 } as const;
    t.combine(from, this.#place.c, [[this.#place.column, 4 * (m + 1)]]);
    t.eachRow(lanes * vectors, [{ base: from, offset: 0, ld: m + 1 }], (at) => {
      t.a.vector('loadScalar', 0, 0, at(0, 0), lowest);
      t.a.vector('addScalar', 0, 0, t.pool.at(identity), lowest);
      t.a.vector('storeScalar', 0, 0, at(0, 0), lowest);
    });
  }

  /** Copies the block's rows below each square of 16 on the diagonal to the columns right of it. */
  #mirror(vectors: number): void {
    const { t } = this;
    const { m } = this.code;
    const { c, column } = this.#place;
    const [from, to, below] = this.#scratch;
    for (let v = 0; v < vectors; v++) {
      this.#ifDiagonal(
        () => t.combine(below, column, [], lanes * (v + 1)),
        () => t.set(below, this.#place.row),
      );
      const [again, done] = [t.a.label(), t.a.label()];
      t.a.bind(again);
      t.a.mov(r14, t.at(below));
      t.a.cmp(r14, t.at(this.#place.end));
      t.a.jumpIf('notLess', done);
      const square = (target: Slot, row: Slot, at: Slot, offset: number) =>
        t.combine(
          target,
          c,
          [
            [row, 4 * m],
            [at, 4],
          ],
          4 * lanes * offset,
        );
      square(from, below, column, v);
      square(to, column, below, v * m);
      t.transpose({ base: from, offset: 0, ld: m }, { base: to, offset: 0, ld: m }, lanes, lanes);
      t.increase(below, lanes);
      t.a.jump(again);
      t.a.bind(done);
    }
  }
}
