import { gp } from './instructions.js';
import { type Block, lanes, type Slot, TileAssembler } from './tile-assembler.js';

const { rcx, rdx, rbx } = gp;

/** Sizes and settings of a stick-breaking kernel: queries [heads · group, length, d], keys [heads, length, d], values of dv. */
export interface StickCode {
  length: number;
  d: number;
  dv: number;
  /** Positions of a block, 16 to 64; divides the length. */
  block: number;
  /** Query heads that share a key head. */
  group: number;
  scale: number;
  attendCurrent: boolean;
  remainder: boolean;
}

/** Registers of a pass: running products or sums of up to four vectors of queries, and constants. */
const running = 16;
const zero = 15;
const limit = 14;

/**
 * Shares of keys are computed with keys along the rows and 16 queries in a vector, so what is left of the sticks is a running
 * product from one row to the next: σ(z)·r, then r ← (1 - σ(z))·r. No logarithm is taken.
 */
class StickCompiler {
  readonly #vectors: number;
  readonly #carry: Block;
  constructor(
    readonly t: TileAssembler,
    readonly code: StickCode,
  ) {
    this.#vectors = code.block / lanes;
    this.#carry = t.buffer(1, code.block);
  }

  /** Queries times the scale, and the same transposed. */
  scaled(q: Block, to: Block, turned: Block): void {
    const { t } = this;
    const { block, d, scale } = this.code;
    t.pool.load(0, scale);
    t.eachRow(block, [q, to], (at) => {
      for (let v = 0; v < d / lanes; v++) {
        t.a.vector('mul', 1, 0, at(0, v));
        t.a.vector('store', 1, 0, at(1, v));
      }
    });
    t.transpose(to, turned, block, d);
  }

  /** Block `number` of the rows of one of the heads that a tensor [., length, width] holds. */
  rows = (tensor: Slot, head: Slot, number: Slot, width: number): Block => {
    const { length, block } = this.code;
    const terms = [
      [head, length * width],
      [number, block * width],
    ] as const;
    return this.t.block(tensor, terms, width);
  };

  get carry(): Block {
    return this.#carry;
  }

  /** Puts vectors of a row of numbers into the running registers, or back. */
  move(way: 'load' | 'store', row: Block): void {
    this.t.address(rdx, row);
    for (let v = 0; v < this.#vectors; v++)
      this.t.a.vector(way, running + v, 0, { base: rdx, offset: 64 * v });
  }
  /** All sticks are whole. */
  start(): void {
    for (let v = 0; v < this.#vectors; v++) this.t.pool.load(running + v, 1);
    this.move('store', this.#carry);
  }

  /** Masks of the queries that see a row's key, in a block on the diagonal; the row's number is in a register. */
  masks(row: number): void {
    this.t.columnsFrom(row, this.#vectors, !this.code.attendCurrent);
  }

  /** Scores z → shares, from the last key to the first; `sigmas`: where σ(z) goes, if wanted. */
  shares(z: Block, shares: Block, sigmas: Block | undefined, isDiagonal: boolean): void {
    const { t, code } = this;
    const { a } = t;
    t.loadConstants();
    a.vector('xor', zero, zero, zero);
    t.pool.load(limit, 80);
    this.move('load', this.#carry);
    t.eachRow(
      code.block,
      sigmas ? [z, shares, sigmas] : [z, shares],
      (at) => {
        if (isDiagonal) {
          a.lea(rdx, { base: rcx, offset: -1 });
          this.masks(rdx);
        }
        for (let v = 0; v < this.#vectors; v++) {
          const [e, x, n] = [3 * v, 3 * v + 1, 3 * v + 2];
          a.vector('sub', x, zero, at(0, v));
          a.vector('min', x, limit, x);
          t.exp(e, x, n);
          a.vector('add', x, e, t.one);
          a.vector('div', x, t.one, x);
          a.vector('mul', e, e, x);
          if (isDiagonal) {
            // Keys that are not seen take nothing.
            a.vector('load', x, 0, x, { mask: 1 + v, zero: true });
            a.vector('load', n, 0, t.one);
            a.vector('load', n, 0, e, { mask: 1 + v });
            a.vector('load', e, 0, n);
          }
          if (sigmas) a.vector('store', x, 0, at(2, v));
          a.vector('mul', x, x, running + v);
          a.vector('store', x, 0, at(1, v));
          a.vector('mul', running + v, running + v, e);
        }
      },
      { backwards: true },
    );
    this.move('store', this.#carry);
  }

  /** to += factor of each row · from. */
  addRows(to: Block, from: Block, factors: Block): void {
    const { t, code } = this;
    t.eachRow(code.block, [to, from, { ...factors, ld: 1 }], (at) => {
      t.a.vector('broadcast', 0, 0, at(2, 0));
      for (let v = 0; v < code.dv / lanes; v++) {
        t.a.vector('load', 1, 0, at(0, v));
        t.a.vector('fma231', 1, 0, at(1, v));
        t.a.vector('store', 1, 0, at(0, v));
      }
    });
  }

  /** acc += G∘A and z = G∘A - σ(z)·acc along the keys, with acc in the running registers; see the op's rule. */
  scoreGradients(g: Block, shares: Block, z: Block, isDiagonal: boolean): void {
    const { t, code } = this;
    const { a } = t;
    t.eachRow(code.block, [g, shares, z], (at) => {
      if (isDiagonal) this.masks(rbx);
      for (let v = 0; v < this.#vectors; v++) {
        // Beyond the diagonal nothing was computed.
        a.vector('load', v, 0, at(0, v), isDiagonal ? { mask: 1 + v, zero: true } : {});
        a.vector('mul', v, v, at(1, v));
        a.vector('add', running + v, running + v, v);
        a.vector('load', 4 + v, 0, at(2, v));
        a.vector('fnma231', v, 4 + v, running + v);
        a.vector('store', v, 0, at(2, v));
      }
    });
  }
}

/**
 * Machine code for the result [., length, dv], what is left of each stick [., length], and what was left when the sticks
 * came to each block [., blocks, length]; a task is a block of queries of a head.
 */
export function compileStick(code: StickCode): Uint8Array {
  const { length, d, dv, block, group, remainder } = code;
  const n = length / block;
  return TileAssembler.compile(6, (t, [q, k, v, y, rests, carries], task) => {
    const s = new StickCompiler(t, code);
    const [head, i, kvHead, unused, j] = [0, 0, 0, 0, 0].map(() => t.slot()) as Slot[];
    t.divide(task, n, head!, i!);
    t.divide(head!, group, kvHead!, unused!);
    const scaled = t.buffer(block, d);
    const turned = t.buffer(d, block);
    const z = t.buffer(block, block);
    s.scaled(s.rows(q!, head!, i!, d), scaled, turned);
    s.start();
    const result = s.rows(y!, head!, i!, dv);
    const tile = (number: Slot, isDiagonal: boolean) => {
      t.product(s.rows(k!, kvHead!, number, d), turned, z, {
        m: block,
        n: block,
        k: d,
        mode: 'set',
        ...(isDiagonal ? { triangle: 'upperC' } : {}),
      });
      s.move('load', s.carry);
      s.move(
        'store',
        t.block(
          carries!,
          [
            [head!, n * length],
            [number, length],
            [i!, block],
          ],
          block,
        ),
      );
      s.shares(z, z, undefined, isDiagonal);
      t.product(z, s.rows(v!, kvHead!, number, dv), result, {
        m: block,
        n: dv,
        k: block,
        transA: true,
        mode: isDiagonal ? 'set' : 'add',
        ...(isDiagonal ? { triangle: 'lowerA' } : {}),
      });
    };
    tile(i!, true);
    t.loopDown(j!, i!, 0, () => tile(j!, false));
    s.move('load', s.carry);
    s.move('store', s.rows(rests!, head!, i!, 1));
    if (remainder) s.addRows(result, s.rows(v!, kvHead!, i!, dv), s.carry);
  });
}

/**
 * Machine code for the gradients of q, k and v from q, k, v, that of the result, and the other results of the forward pass; a task
 * is a key head. Scores are computed again, a block at a time.
 */
export function compileStickGrad(code: StickCode): Uint8Array {
  const { length, d, dv, block, group, remainder, scale } = code;
  const n = length / block;
  const vectors = block / lanes;
  return TileAssembler.compile(9, (t, [q, k, v, g, rests, carries, toQ, toK, toV], kvHead) => {
    const { a } = t;
    const s = new StickCompiler(t, code);
    const [head, member, i, j] = [0, 0, 0, 0].map(() => t.slot()) as Slot[];
    const scaled = t.buffer(block, d);
    const turned = t.buffer(d, block);
    const turnedGradient = t.buffer(dv, block);
    const turnedValues = t.buffer(dv, block);
    const z = t.buffer(block, block);
    const shares = t.buffer(block, block);
    const toShares = t.buffer(block, block);
    const sums = t.buffer(1, block);
    t.clear(t.block(toK!, [[kvHead, length * d]], d), length, d);
    t.clear(t.block(toV!, [[kvHead, length * dv]], dv), length, dv);

    const tile = (number: Slot, isDiagonal: boolean) => {
      const keys = s.rows(k!, kvHead, number, d);
      const triangle = (what: 'upperC' | 'upperA' | 'lowerA') => (isDiagonal ? { triangle: what } : {});
      t.product(keys, turned, z, { m: block, n: block, k: d, mode: 'set', ...triangle('upperC') });
      s.move(
        'load',
        t.block(
          carries!,
          [
            [head!, n * length],
            [number, length],
            [i!, block],
          ],
          block,
        ),
      );
      s.move('store', s.carry);
      s.shares(z, shares, z, isDiagonal);
      t.product(s.rows(v!, kvHead, number, dv), turnedGradient, toShares, {
        m: block,
        n: block,
        k: dv,
        mode: 'set',
        ...triangle('upperC'),
      });
      s.move('load', sums);
      s.scoreGradients(toShares, shares, z, isDiagonal);
      s.move('store', sums);
      t.product(shares, s.rows(g!, head!, i!, dv), s.rows(toV!, kvHead, number, dv), {
        m: block,
        n: dv,
        k: block,
        mode: 'add',
        ...triangle('upperA'),
      });
      t.product(z, scaled, s.rows(toK!, kvHead, number, d), {
        m: block,
        n: d,
        k: block,
        mode: 'add',
        ...triangle('upperA'),
      });
      t.product(z, keys, s.rows(toQ!, head!, i!, d), {
        m: block,
        n: d,
        k: block,
        transA: true,
        mode: 'add',
        ...triangle('lowerA'),
      });
    };

    /** What the remainder's gradient adds to every sum: r·(g·own value). */
    const startSums = () => {
      for (let x = 0; x < vectors; x++) a.vector('xor', running + x, running + x, running + x);
      if (remainder) {
        t.transpose(s.rows(v!, kvHead, i!, dv), turnedValues, block, dv);
        for (let x = 0; x < vectors; x++) a.vector('xor', running + x, running + x, running + x);
        t.eachRow(dv, [turnedGradient, turnedValues], (at) => {
          for (let x = 0; x < vectors; x++) {
            a.vector('load', x, 0, at(0, x));
            a.vector('fma231', running + x, x, at(1, x));
          }
        });
        t.address(rdx, s.rows(rests!, head!, i!, 1));
        for (let x = 0; x < vectors; x++)
          a.vector('mul', running + x, running + x, { base: rdx, offset: 64 * x });
      }
      s.move('store', sums);
    };

    t.loop(member!, 0, group, () => {
      t.combine(head!, member!, [[kvHead, group]]);
      t.loop(i!, 0, n, () => {
        s.scaled(s.rows(q!, head!, i!, d), scaled, turned);
        t.transpose(s.rows(g!, head!, i!, dv), turnedGradient, block, dv);
        startSums();
        const result = s.rows(toQ!, head!, i!, d);
        t.clear(result, block, d);
        t.loop(j!, 0, i!, () => tile(j!, false));
        tile(i!, true);
        t.pool.load(0, scale);
        t.eachRow(block, [result], (at) => {
          for (let x = 0; x < d / lanes; x++) {
            a.vector('mul', 1, 0, at(0, x));
            a.vector('store', 1, 0, at(0, x));
          }
        });
        if (remainder)
          s.addRows(s.rows(toV!, kvHead, i!, dv), s.rows(g!, head!, i!, dv), s.rows(rests!, head!, i!, 1));
      });
    });
  });
}
