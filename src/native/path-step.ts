import { gp } from './instructions.js';
import { acrossLanes } from './lanes.js';
import { type Block, lanes, type Slot, TileAssembler } from './tile-assembler.js';

const { rax, rcx, rdx, rsi, rdi, rsp } = gp;

/** Sizes of a decoding step of PaTH attention: caches [rows, kvHeads, capacity, d] and [..., dv]. */
export interface PathStepCode {
  kvHeads: number;
  /** Query heads that share a key head, up to 4. */
  group: number;
  capacity: number;
  d: number;
  dv: number;
  scale: number;
}

/** Largest head size and group that the registers suffice for. */
export const pathStepLimits = { size: 128, group: 4 } as const;

/** Vector registers: k from 0 on, k·w, q·k from 9 on, β, q·w from 15 on, w from 20 on. */
const register = { along: 8, score: 9, other: 13, beta: 14, queries: 15, w: 20 } as const;

/**
 * Machine code of a decoding step, a row and key head a task: one pass over the cached keys gives every score and writes k - β(k·w)w back,
 * as q·(k - β(k·w)w) = q·k - β(k·w)(q·w); then softmax and a pass over the values.
 */
export function compilePathStep(code: PathStepCode): Uint8Array {
  const { kvHeads, group, capacity, d, dv, scale } = code;
  return TileAssembler.compile(11, (t, slots, task) => {
    const [q, k, v, w, beta, oldKeys, oldValues, lengths, y, newKeys, newValues] = slots as [
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
      Slot,
    ];
    const { a } = t;
    const vectors = d / lanes;
    const [row, head, length, total] = [t.slot(), t.slot(), t.slot(), t.slot()];
    t.divide(task, kvHeads, row, head);
    a.mov(rax, t.at(row));
    a.mov(rcx, t.at(lengths));
    a.mov32(rax, { base: rcx, index: rax, scale: 4 });
    a.store(t.at(length), rax);
    t.combine(total, length, [], 1);
    const own = (tensor: Slot, width: number, members = 1) =>
      t.block(tensor, [[task, members * width]], width);
    const keys = moveIfApart(t, oldKeys, newKeys, task, capacity, d);
    const values = moveIfApart(t, oldValues, newValues, task, capacity, dv);
    const scaled = t.buffer(group, d);
    const scores = Array.from({ length: group }, () => ({ ...t.buffer(1, capacity + 2 * lanes), ld: 1 }));

    // The queries times the scale, and their products with w and with the new key.
    const [Q, K, W] = [own(q, d, group), own(k, d), own(w, d)];
    t.pool.load(register.other, scale);
    t.eachRow(group, [Q, scaled], (at) => {
      for (let x = 0; x < vectors; x++) {
        a.vector('mul', 0, register.other, at(0, x));
        a.vector('store', 0, 0, at(1, x));
      }
    });
    t.address(rdx, W);
    for (let x = 0; x < vectors; x++) a.vector('load', register.w + x, 0, { base: rdx, offset: 64 * x });
    t.address(rdx, own(beta, 1));
    a.vector('broadcast', register.beta, 0, { base: rdx });
    const query = (g: number, x: number) => ({ base: rsp, offset: scaled.offset + 4 * (g * d + lanes * x) });
    for (let g = 0; g < group; g++) {
      const sum = register.queries + g;
      a.vector('xor', sum, sum, sum);
      for (let x = 0; x < vectors; x++) a.vector('fma231', sum, register.w + x, query(g, x));
      acrossLanes(a, 'add', sum, register.other);
    }
    /** Scores of the key in registers 0 …; the sums are in all lanes. */
    const products = () => {
      for (let g = 0; g < group; g++) {
        const sum = register.score + g;
        a.vector('mul', sum, 0, query(g, 0));
        for (let x = 1; x < vectors; x++) a.vector('fma231', sum, x, query(g, x));
        acrossLanes(a, 'add', sum, register.other);
      }
    };
    t.ifNotBelow(length, 1, () => {
      t.eachRow(length, [keys, ...scores], (at) => {
        for (let x = 0; x < vectors; x++) a.vector('load', x, 0, at(0, x));
        products();
        a.vector('mul', register.along, 0, register.w);
        for (let x = 1; x < vectors; x++) a.vector('fma231', register.along, x, register.w + x);
        acrossLanes(a, 'add', register.along, register.other);
        a.vector('mul', register.along, register.along, register.beta);
        for (let g = 0; g < group; g++) {
          a.vector('fnma231', register.score + g, register.along, register.queries + g);
          a.vector('storeScalar', register.score + g, 0, at(1 + g, 0), { bits: 128 });
        }
        for (let x = 0; x < vectors; x++) {
          a.vector('fnma231', x, register.along, register.w + x);
          a.vector('store', x, 0, at(0, x));
        }
      });
    });
    // The new token's key is not reflected by its own w.
    const behind = (cache: Block, width: number) => {
      const base = t.slot();
      t.combine(base, cache.base as Slot, [[length, 4 * width]]);
      return { base, offset: 0, ld: width };
    };
    t.copy(K, behind(keys, d), 1, d);
    t.copy(own(v, dv), behind(values, dv), 1, dv);
    t.address(rdx, K);
    for (let x = 0; x < vectors; x++) a.vector('load', x, 0, { base: rdx, offset: 64 * x });
    products();
    a.mov(rax, t.at(length));
    t.pool.load(register.other, Number.NEGATIVE_INFINITY);
    scores.forEach((list, g) => {
      const at = { base: rdx, index: rax, scale: 4 } as const;
      t.address(rdx, list);
      // What fills the last vector up counts for nothing.
      a.vector('store', register.other, 0, { ...at, offset: 4 });
      a.vector('storeScalar', register.score + g, 0, at, { bits: 128 });
    });
    const result = own(y, dv, group);
    scores.forEach((list, g) => {
      mix(t, code, list, total, values, t.within(result, g));
    });
  });
}

/** Block of a pair's cache in the result, which is filled from the old one where the two are not the same memory. */
function moveIfApart(
  t: TileAssembler,
  from: Slot,
  to: Slot,
  pair: Slot,
  capacity: number,
  width: number,
): Block {
  const { a } = t;
  const same = a.label();
  const [old, target] = [from, to].map((tensor) => t.block(tensor, [[pair, capacity * width]], width)) as [
    Block,
    Block,
  ];
  t.address(rsi, old);
  t.address(rdi, target);
  a.cmp(rsi, rdi);
  a.jumpIf('equal', same);
  a.movImmediate(rcx, (capacity * width) / 2);
  a.copyWords();
  a.bind(same);
  return target;
}

/** y = softmax(scores) · values. */
function mix(
  t: TileAssembler,
  { dv }: PathStepCode,
  scores: Block,
  total: Slot,
  values: Block,
  y: Block,
): void {
  const { a } = t;
  const count = t.slot();
  a.mov(rax, t.at(total));
  a.addImmediate(rax, lanes - 1);
  a.shiftRight(rax, Math.log2(lanes));
  a.store(t.at(count), rax);
  const list = { ...scores, ld: lanes };
  const [largest, sum] = [16, 17];
  t.pool.load(largest, Number.NEGATIVE_INFINITY);
  t.eachRow(count, [list], (at) => a.vector('max', largest, largest, at(0, 0)));
  acrossLanes(a, 'max', largest, 0);
  t.loadConstants();
  a.vector('xor', sum, sum, sum);
  t.eachRow(count, [list], (at) => {
    a.vector('load', 0, 0, at(0, 0));
    a.vector('sub', 0, 0, largest);
    t.exp(1, 0, 2);
    a.vector('add', sum, sum, 1);
    a.vector('store', 1, 0, at(0, 0));
  });
  acrossLanes(a, 'add', sum, 0);
  a.vector('div', sum, t.one, sum);
  const vectors = dv / lanes;
  for (let x = 0; x < vectors; x++) a.vector('xor', x, x, x);
  t.eachRow(total, [values, { ...scores, ld: 1 }], (at) => {
    a.vector('broadcast', 16, 0, at(1, 0));
    for (let x = 0; x < vectors; x++) a.vector('fma231', x, 16, at(0, x));
  });
  t.address(rdx, y);
  for (let x = 0; x < vectors; x++) {
    a.vector('mul', x, x, sum);
    a.vector('store', x, 0, { base: rdx, offset: 64 * x });
  }
}
