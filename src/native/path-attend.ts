import { pathLayout } from '../core/ops/path-layout.js';
import { gp } from './instructions.js';
import { PathBlocksOf, type PathCode, rowsOf, vectorsOf } from './path-layout.js';
import { type Block, lanes, type Slot, TileAssembler } from './tile-assembler.js';

const { rax, rbx, rdx } = gp;
/** Registers of running maxima or sums of up to four vectors of queries. */
const running = 16;
const spare = 12;

/** Slot = the first block of the half to the left of block i's half, at a level. */
export function firstOfLeft(t: TileAssembler, i: Slot, level: number, to: Slot): void {
  const { a } = t;
  a.mov(rax, t.at(i));
  if (level > 0) a.shiftRight(rax, level);
  a.addImmediate(rax, -1);
  if (level > 0) a.shiftLeft(rax, level);
  a.store(t.at(to), rax);
}

/** Loads or stores vectors of a row of numbers, in the running registers. */
export function moveRow(
  t: TileAssembler,
  way: 'load' | 'store',
  row: Block,
  vectors: number,
  first = running,
): void {
  t.address(rdx, row);
  for (let v = 0; v < vectors; v++) t.a.vector(way, first + v, 0, { base: rdx, offset: 64 * v });
}

/** Rows of y times the row's number. */
function scaleRows(t: TileAssembler, y: Block, factors: Block, rows: number, columns: number): void {
  t.eachRow(rows, [y, { ...factors, ld: 1 }], (at) => {
    t.a.vector('broadcast', 0, 0, at(1, 0));
    for (let v = 0; v < columns / lanes; v++) {
      t.a.vector('mul', 1, 0, at(0, v));
      t.a.vector('store', 1, 0, at(0, v));
    }
  });
}

/**
 * Machine code of the second half: from what was prepared and v the result [., length, dv], and for each query the largest score and 1
 * over the sum of exponentials [., 2, length]. A task is a block of queries of a head; keys come a block at a time, with the
 * softmax running along (Dao et al. 2022), keys in rows and 16 queries in a vector.
 */
export function compilePathAttend(code: PathCode): Uint8Array {
  const { length, d, dv, block: c } = code;
  const layout = pathLayout(code);
  const { n, levels } = layout;
  const vectors = vectorsOf(code);
  return TileAssembler.compile(4, (t, [kept, v, y, stats], task) => {
    const { a } = t;
    const [head, i, j, first] = [0, 0, 0, 0].map(() => t.slot()) as [Slot, Slot, Slot, Slot];
    t.divide(task, n, head, i);
    const blocks = new PathBlocksOf(t, code, layout, kept!, head);
    const turned = t.buffer(d, c);
    const shares = t.buffer(c, c);
    const [largest, sums, factors] = [0, 0, 0].map(() => t.buffer(1, c)) as [Block, Block, Block];
    const result = rowsOf(t, code, y!, head, i, dv);

    const absorb = (scores: Block, number: Slot, isDiagonal: boolean) => {
      // The largest score so far.
      if (isDiagonal) for (let x = 0; x < vectors; x++) t.pool.load(running + x, Number.NEGATIVE_INFINITY);
      else moveRow(t, 'load', largest, vectors);
      if (isDiagonal) t.pool.load(spare, Number.NEGATIVE_INFINITY);
      t.eachRow(c, [scores], (at) => {
        if (isDiagonal) t.columnsFrom(rbx, vectors, false);
        for (let x = 0; x < vectors; x++) {
          if (isDiagonal) {
            a.vector('load', x, 0, spare);
            a.vector('load', x, 0, at(0, x), { mask: 1 + x });
            a.vector('max', running + x, running + x, x);
          } else a.vector('max', running + x, running + x, at(0, x));
        }
      });
      t.loadConstants();
      if (!isDiagonal) {
        // What was summed so far shrinks by the change.
        t.address(rdx, largest);
        for (let x = 0; x < vectors; x++) {
          a.vector('load', 1, 0, { base: rdx, offset: 64 * x });
          a.vector('sub', 1, 1, running + x);
          t.exp(4 + x, 1, 2);
        }
        moveRow(t, 'store', factors, vectors, 4);
        t.address(rdx, sums);
        for (let x = 0; x < vectors; x++) a.vector('mul', 8 + x, 4 + x, { base: rdx, offset: 64 * x });
      } else for (let x = 0; x < vectors; x++) a.vector('xor', 8 + x, 8 + x, 8 + x);
      moveRow(t, 'store', largest, vectors);
      t.eachRow(c, [scores, shares], (at) => {
        if (isDiagonal) t.columnsFrom(rbx, vectors, false);
        for (let x = 0; x < vectors; x++) {
          a.vector('load', 0, 0, at(0, x));
          a.vector('sub', 0, 0, running + x);
          t.exp(1, 0, 2);
          if (isDiagonal) a.vector('load', 1, 0, 1, { mask: 1 + x, zero: true });
          a.vector('add', 8 + x, 8 + x, 1);
          a.vector('store', 1, 0, at(1, x));
        }
      });
      moveRow(t, 'store', sums, vectors, 8);
      if (!isDiagonal) scaleRows(t, result, factors, c, dv);
      t.product(shares, rowsOf(t, code, v!, head, number, dv), result, {
        m: c,
        n: dv,
        k: c,
        transA: true,
        mode: isDiagonal ? 'set' : 'add',
        ...(isDiagonal ? { triangle: 'lowerA' } : {}),
      });
    };

    absorb(blocks.local(i), i, true);
    for (let level = 0; level < levels; level++) {
      t.ifBit(i, level, () => {
        t.transpose(blocks.edge(level, i), turned, c, d);
        firstOfLeft(t, i, level, first);
        const last = t.slot();
        t.combine(last, first, [], 2 ** level);
        t.loop(j, first, last, () => {
          t.product(blocks.edge(level, j), turned, shares, { m: c, n: c, k: d, mode: 'set' });
          absorb(shares, j, false);
        });
      });
    }
    moveRow(t, 'load', sums, vectors, 0);
    t.pool.load(4, 1);
    for (let x = 0; x < vectors; x++) a.vector('div', x, 4, x);
    moveRow(t, 'store', factors, vectors, 0);
    const row = (which: number) =>
      t.block(
        stats!,
        [
          [head, 2 * length],
          [i, c],
        ],
        c,
        which * length,
      );
    moveRow(t, 'store', row(1), vectors, 0);
    moveRow(t, 'load', largest, vectors, 0);
    moveRow(t, 'store', row(0), vectors, 0);
    scaleRows(t, result, factors, c, dv);
  });
}
