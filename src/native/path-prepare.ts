import { pathLayout } from '../core/ops/path-layout.js';
import { gp } from './instructions.js';
import { eachCrossing, PathBlocksOf, type PathCode, rowsOf } from './path-layout.js';
import { type Block, TileAssembler } from './tile-assembler.js';

const { r8, rbx } = gp;

/** Adds 1 to the diagonal of a square block. */
function addIdentity(t: TileAssembler, block: Block, size: number): void {
  const { a } = t;
  t.pool.load(1, 1);
  t.eachRow(size, [block], () => {
    const element = { base: r8, index: rbx, scale: 4 } as const;
    a.vector('broadcast', 0, 0, element);
    a.vector('add', 0, 0, 1);
    a.vector('storeScalar', 0, 0, element, { bits: 128 });
  });
}

/**
 * Machine code of PaTH's preparation, a head a task: from q, k, w [., length, d] and β [., length] what `PathLayout` describes. Within
 * a block as in sections 3.2 and 3.3 of the paper, with a triangular solve in the place of the inverse; then up the tree.
 */
export function compilePathPrepare(code: PathCode): Uint8Array {
  const { d, block: c } = code;
  const layout = pathLayout(code);
  const { n, levels } = layout;
  return TileAssembler.compile(5, (t, [q, k, w, beta, kept], head) => {
    const blocks = new PathBlocksOf(t, code, layout, kept!, head);
    const i = t.slot();
    const [turnedW, turnedQ, turnedK] = [0, 0, 0].map(() => t.buffer(d, c)) as [Block, Block, Block];
    const products = t.buffer(c, c);
    const right = t.buffer(c, d + c);
    const scaled = t.buffer(c, d + c);
    const keyPart = t.within(right, 0, d);
    const [u, y] = [scaled, t.within(scaled, 0, d)];

    /** Ql = Q - Mᵀ U or Kr = K - Yᵀ W. */
    const carried = (from: Block, to: Block, factors: Block, by: Block, triangle: 'lowerA' | 'upperA') => {
      t.copy(from, to, c, d);
      t.product(factors, by, to, { m: c, n: d, k: c, transA: true, mode: 'sub', triangle });
    };
    t.loop(i, 0, n, () => {
      const [Q, K, W] = [q, k, w].map((tensor) => rowsOf(t, code, tensor!, head, i, d)) as [
        Block,
        Block,
        Block,
      ];
      const betas = rowsOf(t, code, beta!, head, i, 1);
      t.transpose(W, turnedW, c, d);
      t.transpose(Q, turnedQ, c, d);
      t.transpose(K, turnedK, c, d);
      const square = { m: c, n: c, k: d, mode: 'set' } as const;
      t.product(W, turnedW, products, { ...square, triangle: 'lowerC' });
      const crossing = blocks.crossing(i);
      t.clear(crossing, c, c);
      t.product(W, turnedQ, crossing, { ...square, triangle: 'upperC' });
      t.keepTriangle(crossing, c, 'upper');
      t.copy(W, right, c, d);
      t.clear(keyPart, c, c);
      t.product(W, turnedK, keyPart, { ...square, triangle: 'lowerC' });
      t.keepTriangle(keyPart, c, 'strictlyLower');
      t.solve(products, right, blocks.solution(i), scaled, betas, {
        rows: c,
        columns: d + c,
        transposed: false,
      });
      const local = blocks.local(i);
      t.clear(local, c, c);
      t.product(K, turnedQ, local, { ...square, triangle: 'upperC' });
      t.product(y, crossing, local, { m: c, n: c, k: c, transA: true, mode: 'sub', triangle: 'upperA' });
      if (levels === 0) return;
      t.ifBit(
        i,
        0,
        () => {
          carried(Q, blocks.edge(0, i), crossing, u, 'lowerA');
          if (levels > 1) carried(K, blocks.other(i), y, W, 'upperA');
        },
        () => {
          carried(K, blocks.edge(0, i), y, W, 'upperA');
          if (levels > 1) carried(Q, blocks.other(i), crossing, u, 'lowerA');
        },
      );
      if (levels < 2) return;
      // Nothing ever crosses the first block or the last.
      t.ifNotBelow(i, 1, () => {
        t.ifBelow(i, n - 1, () => {
          const transform = blocks.transform(0, i);
          t.product(W, u, transform, { m: d, n: d, k: c, transA: true, mode: 'negate' });
          addIdentity(t, transform, d);
        });
      });
    });
    climb(t, code, blocks);
  });
}

/** Carries queries and keys to the edges of larger and larger halves, and multiplies the transforms of halves. */
function climb(t: TileAssembler, { d, block: c }: PathCode, blocks: PathBlocksOf): void {
  const { layout } = blocks;
  const { n, levels } = layout;
  const turned = t.buffer(d, d);
  const product = { m: c, n: d, k: d, mode: 'set' } as const;
  for (let level = 0; level + 1 < levels; level++) {
    eachCrossing(t, layout, level, false, {
      begin(side, across) {
        if (side === 'left') t.transpose(blocks.transform(level, across), turned, d, d);
      },
      block(side, i, across, isOdd) {
        const by = side === 'left' ? turned : blocks.transform(level, across);
        const next = blocks.edge(level + 1, i);
        // In an odd pair the queries are wanted next, else the keys; the others wait.
        if ((side === 'left') === isOdd) {
          t.copy(blocks.other(i), next, c, d);
          t.product(blocks.edge(level, i), by, blocks.other(i), product);
        } else t.product(blocks.edge(level, i), by, next, product);
      },
      unneeded(side, i, isOdd) {
        if ((side === 'left') === isOdd) t.copy(blocks.other(i), blocks.edge(level + 1, i), c, d);
      },
    });
    if (level + 2 >= levels) continue;
    const [group, left, right] = [t.slot(), t.slot(), t.slot()];
    t.loop(group, 1, Math.ceil(n / 2 ** (level + 1)) - 1, () => {
      t.combine(left, 0, [[group, 2]]);
      t.combine(right, left, [], 1);
      t.product(
        blocks.transform(level, right),
        blocks.transform(level, left),
        blocks.transform(level + 1, group),
        {
          m: d,
          n: d,
          k: d,
          mode: 'set',
        },
      );
    });
  }
}
