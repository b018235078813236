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

/** What becomes of the sums of a tile: scale·(weight·sums + beta·addend), each as far as it is there. */
export interface PanelResult {
  weight: boolean;
  beta: boolean;
  scale: boolean;
  addend: boolean;
}

const factorIndex = { weight: 0, beta: 1, scale: 2 } as const;
/** Registers of the factors, beyond the sums. */
const factorRegister = { weight: 31, beta: 30, scale: 29 } as const;
export type PanelFactor = keyof typeof factorIndex;

/** Which chunk of the inner dimension it is. */
export interface PanelPass {
  isFirst: boolean;
  isLast: boolean;
}

/** Where the panel is and which rows are wanted of it, as numbers, and the addresses of the matrices. */
export interface PanelPlace {
  column: Slot;
  row: Slot;
  /** Behind the last row. */
  end: Slot;
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
  /** To be set by the caller. */
  readonly place: PanelPlace;
  readonly step: Slot;
  readonly #from: Slot;

  constructor(
    readonly t: TileAssembler,
    readonly result: PanelResult,
    longest: number,
  ) {
    this.place = {
      column: t.slot(),
      row: t.slot(),
      end: t.slot(),
      a: t.slot(),
      b: t.slot(),
      c: t.slot(),
      addend: t.slot(),
    };
    this.#packed = t.buffer(longest, panelColumns);
    this.#factors = t.buffer(1, lanes);
    this.step = t.slot();
    this.#from = t.slot();
  }

  /** Sets a factor to a number, times one in memory. */
  setFactor(factor: PanelFactor, value: number, times?: Block): void {
    const { t } = this;
    t.pool.load(0, value);
    if (times) {
      t.address(rcx, times);
      t.a.vector('mul', 0, 0, { base: rcx }, { spread: true });
    }
    t.address(rcx, t.within(this.#factors, 0, factorIndex[factor]));
    t.a.vector('storeScalar', 0, 0, { base: rcx }, { bits: 128 });
  }

  /** Packs chunk after chunk of the panel and has `rows` multiply what rows there are. */
  chunks(product: PanelProduct, rows: (pass: PanelPass) => void): void {
    const { t, step } = this;
    const chunk = chunkOf(product.k)!;
    const last = product.k - chunk;
    const pass = (isFirst: boolean, isLast: boolean) => {
      this.#pack(product, chunk);
      rows({ isFirst, isLast });
    };
    t.set(step, 0);
    pass(true, last === 0);
    if (last === 0) return;
    if (last > chunk) {
      t.loop(step, chunk, last, () => {
        pass(false, false);
        t.increase(step, chunk - 1);
      });
    }
    t.set(step, last);
    pass(false, true);
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
  tile(product: PanelProduct, vectors: number, pass: PanelPass): void {
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
    this.#call(`finish ${vectors} ${ldc} ${JSON.stringify(pass)}`, (label) =>
      this.#finish(label, vectors, ldc, pass),
    );
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

  /** Function: stores what becomes of a tile's sums at r10; the addend is at r11. Earlier chunks have been stored without the scale. */
  #finish(label: Label, vectors: number, ldc: number, { isFirst, isLast }: PanelPass): void {
    const { a } = this.t;
    const { result } = this;
    const { weight, beta, scale } = factorRegister;
    const hasAddend = isFirst && result.addend;
    const uses = { weight: result.weight, beta: hasAddend && result.beta, scale: isLast && result.scale };
    a.align(64);
    a.bind(label);
    for (const name of Object.keys(uses) as PanelFactor[])
      if (uses[name])
        a.vector('broadcast', factorRegister[name], 0, { base: rdx, offset: 4 * factorIndex[name] });
    for (let i = 0; i < tileRows * vectors; i++) {
      const offset = 4 * Math.floor(i / vectors) * ldc + 64 * (i % vectors);
      const to = { base: r10, offset };
      const added = hasAddend ? { base: r11, offset } : to;
      if (uses.beta) {
        if (uses.weight) a.vector('mul', i, i, weight);
        a.vector('fma231', i, beta, added);
      } else if (hasAddend || !isFirst) {
        if (uses.weight) a.vector('fma213', i, weight, added);
        else a.vector('add', i, i, added);
      } else if (uses.weight) a.vector('mul', i, i, weight);
      if (uses.scale) a.vector('mul', i, i, scale);
      a.vector('store', i, 0, to);
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
