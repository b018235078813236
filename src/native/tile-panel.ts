import type { Label } from './assembler.js';
import { gp } from './instructions.js';
import { type Block, lanes, type Slot, type TileAssembler } from './tile-assembler.js';
import { emitTile, tileRows } from './tile-product.js';

const { rcx, rdx, rsi, rdi, r8, r10, r11 } = gp;

/** Vectors of 16 columns in a panel: with the 8 rows of a tile they fill 24 of the 32 registers with sums. */
export const panelVectors = 3;
export const panelColumns = lanes * panelVectors;

const longestChunk = 384;
const shortestChunk = 64;

/** Steps that a panel is packed for at a time: whole blocks of 16 that divide the inner dimension. Undefined: there are none. */
export function chunkOf(k: number): number | undefined {
  if (k % lanes !== 0 || k === 0) return undefined;
  for (let chunk = Math.min(k, longestChunk); chunk >= Math.min(k, shortestChunk); chunk -= lanes) {
    if (k % chunk === 0) return chunk;
  }
  return undefined;
}

/**
 * matrix and rest of a task among `perMatrix` for each of so many matrices. Pairs of matrices take turns: two threads that
 * go on in step have one each in their caches.
 */
export function takeTurns(
  t: TileAssembler,
  task: Slot,
  matrices: number,
  perMatrix: number,
  [matrix, rest]: readonly [Slot, Slot],
): void {
  const paired = matrices - (matrices % 2);
  const half = t.slot();
  t.ifBelow(task, paired * perMatrix, () => {
    t.divide(task, 2 * perMatrix, matrix, rest);
    t.divide(rest, 2, rest, half);
    t.combine(matrix, half, [[matrix, 2]]);
  });
  t.ifNotBelow(task, paired * perMatrix, () => {
    t.set(matrix, paired);
    t.combine(rest, task, [], -paired * perMatrix);
  });
}

/** slot = the tensor with such a number: the slots of tensors lie one behind the other. */
export function pickTensor(t: TileAssembler, slot: Slot, tensors: readonly Slot[], number: Slot): void {
  t.a.mov(rcx, t.at(number));
  t.a.mov(rcx, { base: gp.rsp, index: rcx, scale: 8, offset: tensors[0]!.at });
  t.a.store(t.at(slot), rcx);
}

/** A product A·B = C of which a panel of columns is computed: how its operands lie in memory, in floats. */
export interface PanelProduct {
  /** Inner dimension. */
  k: number;
  /** From row to row, and from step to step, of A. */
  a: { row: number; step: number };
  /** From step to step of B, whose rows are its steps; or from column to column of a B whose rows are its columns. */
  b: { ld: number; turned: boolean };
  /** From row to row of C. */
  ldc: number;
  /** Columns of the panel, in vectors. */
  vectors: number;
}

/** What becomes of the sums of a tile: alpha·sums + beta·addend, each as far as it is there. */
export interface PanelResult {
  alpha: boolean;
  beta: boolean;
  addend: boolean;
}

/** Where the panel is, as numbers, and the addresses of the matrices. */
export interface PanelPlace {
  column: Slot;
  a: Slot;
  b: Slot;
  c: Slot;
  addend: Slot;
}

/**
 * Panels of products: a panel of B is packed for a chunk of the inner dimension, and tiles of 8 rows are multiplied by it. The
 * caller says which rows, and where what it adds lies.
 */
export class PanelCompiler {
  /** Subroutines, emitted in the end. */
  readonly #functions = new Map<string, { label: Label; emit(label: Label): void }>();
  readonly #packed: Block;
  readonly #factors: Block;
  readonly step: Slot;
  readonly #from: Slot;

  constructor(
    readonly t: TileAssembler,
    readonly result: PanelResult,
    readonly place: PanelPlace,
    longest: number,
  ) {
    this.#packed = t.buffer(longest, panelColumns);
    this.#factors = t.buffer(1, lanes);
    this.step = t.slot();
    this.#from = t.slot();
  }

  /** Sets alpha (0) or beta (1) to a number, times one in memory. */
  setFactor(index: 0 | 1, value: number, times?: Block): void {
    const { t } = this;
    t.pool.load(0, value);
    if (times) {
      t.address(rcx, times);
      t.a.vector('mul', 0, 0, { base: rcx }, { spread: true });
    }
    t.address(rcx, t.within(this.#factors, 0, index));
    t.a.vector('storeScalar', 0, 0, { base: rcx }, { bits: 128 });
  }

  /** Packs chunk after chunk of the panel and has `rows` multiply what rows there are, first chunk or not. */
  chunks(product: PanelProduct, rows: (isFirst: boolean) => void): void {
    const { t, step } = this;
    const chunk = chunkOf(product.k)!;
    t.set(step, 0);
    this.#pack(product, chunk);
    rows(true);
    if (product.k === chunk) return;
    t.loop(step, chunk, product.k, () => {
      this.#pack(product, chunk);
      rows(false);
      t.increase(step, chunk - 1);
    });
  }

  #packedFor = ({ vectors }: PanelProduct): Block => ({ ...this.#packed, ld: lanes * vectors });

  #pack(product: PanelProduct, chunk: number): void {
    const { t } = this;
    const { b, vectors } = product;
    const { column, b: base } = this.place;
    const from = { base: this.#from, offset: 0, ld: b.ld };
    t.combine(this.#from, base, [
      [column, 4 * (b.turned ? b.ld : 1)],
      [this.step, 4 * (b.turned ? 1 : b.ld)],
    ]);
    if (b.turned) {
      t.transpose(from, this.#packedFor(product), lanes * vectors, chunk);
      return;
    }
    t.eachRow(chunk, [from, this.#packedFor(product)], (at) => {
      for (let v = 0; v < vectors; v++) t.a.vector('load', v, 0, at(0, v));
      for (let v = 0; v < vectors; v++) t.a.vector('store', v, 0, at(1, v));
    });
  }

  /** r8, r10, r11 = A, C and the addend at a row, rdx = the factors: what `tile` wants, and moves on. */
  startRows({ a, ldc }: PanelProduct, row: Slot): void {
    const { t } = this;
    const { column, c, addend } = this.place;
    const place = (register: number, base: Slot, terms: readonly (readonly [Slot, number])[]) => {
      t.combine(this.#from, base, terms);
      t.a.mov(register, t.at(this.#from));
    };
    place(r8, this.place.a, [
      [row, 4 * a.row],
      [this.step, 4 * a.step],
    ]);
    const terms = [
      [row, 4 * ldc],
      [column, 4],
    ] as const;
    place(r10, c, terms);
    if (this.result.addend) place(r11, addend, terms);
    t.address(rdx, this.#factors);
  }

  /** A tile of 8 rows with so many vectors of columns, stored. r9, rbx, rbp and r12 to r15 stay as they are. */
  tile(product: PanelProduct, vectors: number, isFirst: boolean): void {
    const { a } = this.t;
    const { ldc, k } = product;
    const [rowBytes, stepBytes, packedBytes] = [
      4 * product.a.row,
      4 * product.a.step,
      4 * this.#packedFor(product).ld,
    ];
    a.mov(rsi, r8);
    this.t.address(rdi, this.#packed);
    a.movImmediate(rcx, chunkOf(k)!);
    this.#call(`tile ${vectors} ${rowBytes} ${stepBytes} ${packedBytes}`, (label) =>
      emitTile(a, label, vectors, rowBytes, stepBytes, packedBytes),
    );
    this.#call(`finish ${vectors} ${ldc} ${isFirst}`, (label) => this.#finish(label, vectors, ldc, isFirst));
    a.addImmediate(r8, tileRows * rowBytes);
    a.addImmediate(r10, 4 * tileRows * ldc);
    if (this.result.addend) a.addImmediate(r11, 4 * tileRows * ldc);
  }

  #call(key: string, emit: (label: Label) => void): void {
    let found = this.#functions.get(key);
    if (!found) {
      found = { label: this.t.a.label(), emit };
      this.#functions.set(key, found);
    }
    this.t.a.callLabel(found.label);
  }

  /** Function: stores the sums of a tile at r10: alpha times them, plus beta times what is at r11, or plus the earlier chunks. */
  #finish(label: Label, vectors: number, ldc: number, isFirst: boolean): void {
    const { a } = this.t;
    const { alpha, beta, addend } = this.result;
    const [alphas, betas] = [31, 30];
    a.align(64);
    a.bind(label);
    if (alpha) a.vector('broadcast', alphas, 0, { base: rdx });
    if (isFirst && addend && beta) a.vector('broadcast', betas, 0, { base: rdx, offset: 4 });
    for (let i = 0; i < tileRows * vectors; i++) {
      const offset = 4 * Math.floor(i / vectors) * ldc + 64 * (i % vectors);
      const [earlier, added] = [
        { base: r10, offset },
        { base: r11, offset },
      ];
      if (!isFirst && alpha) a.vector('fma213', i, alphas, earlier);
      else if (!isFirst) a.vector('add', i, i, earlier);
      else {
        if (alpha) a.vector('mul', i, i, alphas);
        if (addend && beta) a.vector('fma231', i, betas, added);
        else if (addend) a.vector('add', i, i, added);
      }
      a.vector('store', i, 0, earlier);
    }
    a.ret();
  }

  /** Puts the subroutines here, where nothing runs into them. */
  emitFunctions(): void {
    const { a } = this.t;
    const over = a.label();
    a.jump(over);
    for (const { label, emit } of this.#functions.values()) emit(label);
    a.bind(over);
  }
}
