import { pathLayout, pathWorkLayout } from '../core/ops/path-layout.js';
import { gp } from './instructions.js';
import { acrossLanes } from './lanes.js';
import { firstOfLeft, moveRow } from './path-attend.js';
import { eachCrossing, PathBlocksOf, type PathCode, rowsOf, vectorsOf } from './path-layout.js';
import { type Block, lanes, type Slot, TileAssembler } from './tile-assembler.js';

const { rbx, r10 } = gp;
const running = 16;

/** Names of the tensors, in order: inputs, then outputs. */
const names = [
  'q',
  'k',
  'v',
  'w',
  'beta',
  'y',
  'stats',
  'kept',
  'g',
  'toQ',
  'toK',
  'toV',
  'toW',
  'toBeta',
  'work',
] as const;
type Tensors = Record<(typeof names)[number], Slot>;

/**
 * Machine code of the gradients of PaTH attention, a head a task: scores are computed again block by block, then the gradients
 * go down the tree of halves, and then through the blocks.
 */
export function compilePathGradient(code: PathCode): Uint8Array {
  return TileAssembler.compile(names.length, (t, slots, head) => {
    const tensors = Object.fromEntries(names.map((name, i) => [name, slots[i]!])) as Tensors;
    const kept = new PathBlocksOf(t, code, pathLayout(code), tensors.kept, head);
    const work = new PathBlocksOf(t, code, pathWorkLayout(code), tensors.work, head);
    const pass = { t, code, tensors, head, kept, work };
    scoresPass(pass);
    descend(pass);
    blocksPass(pass);
  });
}

interface Pass {
  t: TileAssembler;
  code: PathCode;
  tensors: Tensors;
  head: Slot;
  kept: PathBlocksOf;
  work: PathBlocksOf;
}

/** Gradients of values, edges and local scores. */
function scoresPass({ t, code, tensors, head, kept, work }: Pass): void {
  const { length, d, dv, block: c } = code;
  const { n, levels } = kept.layout;
  const { a } = t;
  const vectors = vectorsOf(code);
  const [i, j, first, last] = [0, 0, 0, 0].map(() => t.slot()) as [Slot, Slot, Slot, Slot];
  const [turned, turnedG, turnedY] = [t.buffer(d, c), t.buffer(dv, c), t.buffer(dv, c)];
  const [shares, toShares] = [t.buffer(c, c), t.buffer(c, c)];
  const delta = t.buffer(1, c);
  const rows = (tensor: Slot, number: Slot, width: number) => rowsOf(t, code, tensor, head, number, width);
  const headBlock = (tensor: Slot, size: number, ld: number) => t.block(tensor, [[head, size]], ld);
  t.clear(headBlock(tensors.toV, length * dv, dv), length, dv);
  // Edges and transforms come first in the layout.
  const cleared = work.layout.local / d;
  if (cleared > 0) t.clear(headBlock(tensors.work, work.layout.size, d), cleared, d);

  /** Shares from scores, and the gradient of the scores over `toShares`. */
  const differentiate = (scores: Block, isDiagonal: boolean, to: Block) => {
    t.loadConstants();
    const stat = (which: number) =>
      t.block(
        tensors.stats,
        [
          [head, 2 * length],
          [i, c],
        ],
        c,
        which * length,
      );
    moveRow(t, 'load', stat(0), vectors);
    moveRow(t, 'load', stat(1), vectors, 8);
    moveRow(t, 'load', delta, vectors, 12);
    t.eachRow(c, [scores, toShares, shares, to], (at) => {
      if (isDiagonal) t.columnsFrom(rbx, vectors, false);
      for (let x = 0; x < vectors; x++) {
        const kept = isDiagonal ? { mask: 1 + x, zero: true } : {};
        a.vector('load', 0, 0, at(0, x));
        a.vector('sub', 0, 0, running + x);
        t.exp(1, 0, 2);
        a.vector('mul', 1, 1, 8 + x, kept);
        a.vector('store', 1, 0, at(2, x));
        a.vector('load', 2, 0, at(1, x), kept);
        a.vector('sub', 2, 2, 12 + x);
        a.vector('mul', 2, 2, 1);
        a.vector('store', 2, 0, at(3, x));
      }
    });
  };
  const values = (number: Slot, isDiagonal: boolean) => {
    t.product(rows(tensors.v, number, dv), turnedG, toShares, {
      m: c,
      n: c,
      k: dv,
      mode: 'set',
      ...(isDiagonal ? { triangle: 'upperC' } : {}),
    });
  };
  const toValues = (number: Slot, isDiagonal: boolean) => {
    t.product(shares, rows(tensors.g, i, dv), rows(tensors.toV, number, dv), {
      m: c,
      n: dv,
      k: c,
      mode: 'add',
      ...(isDiagonal ? { triangle: 'upperA' } : {}),
    });
  };

  t.loop(i, 0, n, () => {
    t.transpose(rows(tensors.g, i, dv), turnedG, c, dv);
    t.transpose(rows(tensors.y, i, dv), turnedY, c, dv);
    for (let x = 0; x < vectors; x++) a.vector('xor', running + x, running + x, running + x);
    t.eachRow(dv, [turnedG, turnedY], (at) => {
      for (let x = 0; x < vectors; x++) {
        a.vector('load', x, 0, at(0, x));
        a.vector('fma231', running + x, x, at(1, x));
      }
    });
    moveRow(t, 'store', delta, vectors);
    values(i, true);
    differentiate(kept.local(i), true, work.local(i));
    toValues(i, true);
    for (let level = 0; level < levels; level++) {
      t.ifBit(i, level, () => {
        const queries = kept.edge(level, i);
        t.transpose(queries, turned, c, d);
        firstOfLeft(t, i, level, first);
        t.combine(last, first, [], 2 ** level);
        t.loop(j, first, last, () => {
          const keys = kept.edge(level, j);
          t.product(keys, turned, shares, { m: c, n: c, k: d, mode: 'set' });
          values(j, false);
          differentiate(shares, false, toShares);
          toValues(j, false);
          const product = { m: c, n: d, k: c, mode: 'add' } as const;
          t.product(toShares, queries, work.edge(level, j), product);
          t.product(toShares, keys, work.edge(level, i), { ...product, transA: true });
        });
      });
    }
  });
}

/** From the top level down: gradients of the queries and keys at the edges of their own blocks (in toQ and toK), and of transforms. */
function descend({ t, code, tensors, head, kept, work }: Pass): void {
  const { length, d, block: c } = code;
  const { n, levels } = kept.layout;
  const turned = t.buffer(d, d);
  const carried = t.buffer(c, d);
  const i = t.slot();
  const [toQ, toK] = [tensors.toQ, tensors.toK];
  for (const tensor of [toQ, toK]) t.clear(t.block(tensor, [[head, length * d]], d), length, d);
  const rows = (tensor: Slot, number: Slot) => rowsOf(t, code, tensor, head, number, d);
  const addEdge = (tensor: Slot, level: number, number: Slot) => {
    const to = rows(tensor, number);
    t.copy(to, to, c, d, work.edge(level, number));
  };
  for (let level = levels - 1; level >= 0; level--) {
    if (level === levels - 1) {
      t.loop(i, 0, n, () =>
        t.ifBit(
          i,
          level,
          () => addEdge(toQ, level, i),
          () => addEdge(toK, level, i),
        ),
      );
      continue;
    }
    if (level + 2 < levels) spread(t, d, kept, work, level, turned);
    const product = { m: c, n: d, k: d, mode: 'set' } as const;
    eachCrossing(t, kept.layout, level, false, {
      begin(side, across) {
        if (side === 'right') t.transpose(kept.transform(level, across), turned, d, d);
      },
      block(side, number, across) {
        const to = rows(side === 'left' ? toK : toQ, number);
        const [own, by] = [
          kept.edge(level, number),
          side === 'left' ? kept.transform(level, across) : turned,
        ];
        const [A, B] = side === 'left' ? [to, own] : [own, to];
        t.product(A, B, work.transform(level, across), { m: d, n: d, k: c, transA: true, mode: 'add' });
        t.product(to, by, carried, product);
        t.copy(carried, to, c, d, work.edge(level, number));
      },
      unneeded(side, number) {
        addEdge(side === 'left' ? toK : toQ, level, number);
      },
    });
  }
}

/** Gradients of the transforms of two halves from that of their product. */
function spread(
  t: TileAssembler,
  d: number,
  kept: PathBlocksOf,
  work: PathBlocksOf,
  level: number,
  turned: Block,
): void {
  const [group, left, right] = [t.slot(), t.slot(), t.slot()];
  const product = { m: d, n: d, k: d, mode: 'add' } as const;
  t.loop(group, 1, Math.ceil(kept.layout.n / 2 ** (level + 1)) - 1, () => {
    t.combine(left, 0, [[group, 2]]);
    t.combine(right, left, [], 1);
    const whole = work.transform(level + 1, group);
    t.transpose(kept.transform(level, left), turned, d, d);
    t.product(whole, turned, work.transform(level, right), product);
    t.product(kept.transform(level, right), whole, work.transform(level, left), { ...product, transA: true });
  });
}

/** Through the blocks: gradients of q, k, w and β. */
function blocksPass({ t, code, tensors, head, kept, work }: Pass): void {
  const { d, block: c } = code;
  const { n, levels } = kept.layout;
  const { a } = t;
  const i = t.slot();
  const width = d + c;
  const wide = () => t.buffer(c, width);
  const square = () => t.buffer(c, c);
  const across = () => t.buffer(d, c);
  const [turnedW, turnedQ, turnedK, turnedU] = [across(), across(), across(), across()];
  const [turnedLocal, turnedY, products, toCrossing, toProducts] = [
    square(),
    square(),
    square(),
    square(),
    square(),
  ];
  const [scaled, to, solved] = [wide(), wide(), wide()];
  const turnedP = t.buffer(d, d);
  const [u, y] = [scaled, t.within(scaled, 0, d)];
  const [toU, toY] = [to, t.within(to, 0, d)];
  const [fromU, fromY] = [solved, t.within(solved, 0, d)];
  const hasTransforms = levels > 1;
  const cc = { m: c, n: c } as const;
  const cd = { m: c, n: d } as const;

  t.loop(i, 0, n, () => {
    const rows = (tensor: Slot, ld = d) => rowsOf(t, code, tensor, head, i, ld);
    const [Q, K, W, betas] = [rows(tensors.q), rows(tensors.k), rows(tensors.w), rows(tensors.beta, 1)];
    const [toQ, toK, toW, toBeta] = [
      rows(tensors.toQ),
      rows(tensors.toK),
      rows(tensors.toW),
      rows(tensors.toBeta, 1),
    ];
    const [M, V, toLocal] = [kept.crossing(i), kept.solution(i), work.local(i)];
    t.eachRow(c, [V, scaled, { ...betas, ld: 1 }], (at) => {
      a.vector('broadcast', 0, 0, at(2, 0));
      for (let x = 0; x < width / lanes; x++) {
        a.vector('mul', 1, 0, at(0, x));
        a.vector('store', 1, 0, at(1, x));
      }
    });
    t.transpose(W, turnedW, c, d);
    t.transpose(toQ, turnedQ, c, d);
    t.transpose(toK, turnedK, c, d);
    t.transpose(u, turnedU, c, d);
    t.transpose(y, turnedY, c, c);
    t.transpose(toLocal, turnedLocal, c, c);
    t.product(W, turnedW, products, { ...cc, k: d, mode: 'set', triangle: 'lowerC' });
    // The products of directions and queries.
    t.clear(toCrossing, c, c);
    t.product(u, turnedQ, toCrossing, { ...cc, k: d, mode: 'negate', triangle: 'upperC' });
    t.product(y, toLocal, toCrossing, { ...cc, k: c, mode: 'sub', triangle: 'lowerA' });
    t.keepTriangle(toCrossing, c, 'upper');
    // The solution of the triangular system, and its right side.
    t.clear(toY, c, c);
    t.product(W, turnedK, toY, { ...cc, k: d, mode: 'negate', triangle: 'lowerC' });
    t.product(M, turnedLocal, toY, { ...cc, k: c, mode: 'sub', triangle: 'upperA' });
    t.product(M, toQ, toU, { ...cd, k: c, mode: 'negate', triangle: 'upperA' });
    t.product(y, toK, toW, { ...cd, k: c, mode: 'negate', triangle: 'lowerA' });
    if (hasTransforms) {
      t.ifNotBelow(i, 1, () => {
        t.ifBelow(i, n - 1, () => {
          const toP = work.transform(0, i);
          t.product(W, toP, toU, { ...cd, k: d, mode: 'sub' });
          t.transpose(toP, turnedP, d, d);
          t.product(u, turnedP, toW, { ...cd, k: d, mode: 'sub' });
        });
      });
    }
    t.solve(products, to, to, solved, betas, { rows: c, columns: width, transposed: true });
    t.eachRow(c, [to, V, { ...toBeta, ld: 1 }], (at) => {
      a.vector('xor', 0, 0, 0);
      for (let x = 0; x < width / lanes; x++) {
        a.vector('load', 1, 0, at(0, x));
        a.vector('fma231', 0, 1, at(1, x));
      }
      acrossLanes(a, 'add', 0, 1);
      a.vector('storeScalar', 0, 0, { base: r10 }, { bits: 128 });
    });
    t.clear(toProducts, c, c);
    t.product(fromU, turnedU, toProducts, { ...cc, k: d, mode: 'negate', triangle: 'lowerC' });
    t.product(fromY, turnedY, toProducts, { ...cc, k: c, mode: 'sub', triangle: 'lowerC' });
    t.keepTriangle(toProducts, c, 'strictlyLower');
    t.keepTriangle(fromY, c, 'strictlyLower');
    t.copy(toW, toW, c, d, fromU);
    t.product(toProducts, W, toW, { ...cd, k: c, mode: 'add', triangle: 'lowerA' });
    t.product(toProducts, W, toW, { ...cd, k: c, transA: true, mode: 'add', triangle: 'upperA' });
    t.product(toCrossing, Q, toW, { ...cd, k: c, mode: 'add', triangle: 'upperA' });
    t.product(fromY, K, toW, { ...cd, k: c, mode: 'add', triangle: 'lowerA' });
    t.product(toLocal, K, toQ, { ...cd, k: c, transA: true, mode: 'add', triangle: 'lowerA' });
    t.product(toCrossing, W, toQ, { ...cd, k: c, transA: true, mode: 'add', triangle: 'lowerA' });
    t.product(toLocal, Q, toK, { ...cd, k: c, mode: 'add', triangle: 'upperA' });
    t.product(fromY, W, toK, { ...cd, k: c, transA: true, mode: 'add', triangle: 'upperA' });
  });
}
