import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import { configure, int32, program, Rng, Variable } from '../../src/index.js';
import { Transformer } from '../../src/models/index.js';
import { type ChainContext, findChains } from '../../src/native/chain.js';
import { encodeCalls, mostOfCall } from '../../src/native/chain-kernel.js';
import { cutRows, halvesOf } from '../../src/native/chain-schedule.js';
import { detectSupport } from '../../src/native/cpu.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { KVCache } from '../../src/nn/index.js';
import type { KernelLink, KernelRequest } from '../../src/runtime/backend.js';

const sets: readonly string[] = detectSupport().sets;
const hasAvx512 = sets[0] === 'avx512';

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

interface Sizes {
  rows: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  dim: number;
  hidden: number;
  layers: number;
  capacity: number;
}

/** Logits of two steps of decoding with caches of random numbers, the caches then, and the kernels of the program. */
async function decode({ rows, heads, kvHeads, headDim, dim, hidden, layers, capacity }: Sizes) {
  const config = { vocabulary: 40, dim, layers, heads, kvHeads, headDim, hidden, context: capacity };
  const model = new Transformer(config, { rng: new Rng(3), std: 0.2 });
  const cache = new KVCache(model.cacheShape(), rows, capacity);
  // The same for a row, however many there are.
  cache.layers.forEach(({ keys, values }, layer) => {
    [keys, values].forEach(({ data, size }, i) => {
      for (let j = 0; j < size; j++) data[j] = Math.sin(1 + 12.9898 * j + layer + i / 2);
    });
  });
  const logits = new Variable(allocate('float32', rows * 40), 'float32', [rows, 40], { trainable: false });
  const step = program({ tokens: int32([rows, 1]), lengths: int32([rows]) }, ({ tokens, lengths }) => {
    logits.assign(model.forward(tokens, { cache: { cache, lengths } }).reshape([rows, 40]));
    return undefined;
  });
  const tokens = Int32Array.from({ length: rows }, (_, i) => (7 * i) % 40);
  // Rows of all lengths: empty, full but for two tokens, and any between.
  const lengths = Int32Array.from({ length: rows }, (_, i) => (i * 37) % (capacity - 1));
  const found: number[] = [];
  for (let i = 0; i < 2; i++) {
    await step({ tokens, lengths: lengths.map((n) => n + i) });
    found.push(...(logits.data as Float32Array));
  }
  const state = cache.layers.flatMap(({ keys, values }) => [keys.read(), values.read()]);
  return { logits: found, state, kernels: step.report().kernels };
}

function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
}

describe.runIf(hasAvx512)('a chain of the nodes of a step of decoding', () => {
  const small = { heads: 2, kvHeads: 2, headDim: 32, dim: 64, hidden: 96, layers: 2, capacity: 40 };
  it.each<[string, Sizes, number]>([
    // Two blocks of two halves each; one of odd length.
    ['128 rows', { ...small, rows: 128 }, 1],
    ['101 rows', { ...small, rows: 101 }, 1],
    // Two blocks that are too short for halves.
    ['64 rows', { ...small, rows: 64 }, 1],
    ['grouped queries, one layer', { ...small, rows: 96, heads: 4, kvHeads: 2, headDim: 16, layers: 1 }, 1],
    [
      'one key head, wide MLP',
      { ...small, rows: 130, heads: 4, kvHeads: 1, headDim: 64, dim: 128, hidden: 640 },
      1,
    ],
    // Keys and values that are longer than a tile has the time to ask for.
    ['long caches', { ...small, rows: 100, headDim: 64, dim: 128, capacity: 300, layers: 1 }, 1],
    // 12 layers have more tensors than an operator may have.
    ['many layers', { ...small, rows: 100, layers: 12, dim: 64 }, 2],
  ])('%s: as without kernels', async (_, sizes, chains) => {
    const mine = await decode(sizes);
    configure({ native: false });
    const plain = await decode(sizes);
    expect(mine.kernels).toMatchObject({ decodeAttention: sizes.layers, chain: chains });
    expect(plain.kernels).toEqual({});
    const largest = Math.max(...plain.logits.map(Math.abs));
    expect(worst(mine.logits, plain.logits) / largest).toBeLessThan(1e-5);
    for (const [i, cache] of mine.state.entries()) expect(worst(cache, plain.state[i]!)).toBeLessThan(2e-4);
  });

  it('needs 64 rows, and weights that stay in the caches', async () => {
    expect((await decode({ ...small, rows: 63 })).kernels.chain).toBeUndefined();
    const { kernels } = await decode({ ...small, rows: 64, dim: 512, hidden: 2816, layers: 1, capacity: 8 });
    expect(kernels).toMatchObject({ decodeAttention: 1, swiglu: 1 });
    expect(kernels.chain).toBeUndefined();
  });

  it('gives the same bits again, and for each row whatever the others are', async () => {
    const [a, b] = [await decode({ ...small, rows: 128 }), await decode({ ...small, rows: 128 })];
    expect(worst(a.logits, b.logits)).toBe(0);
    // Rows 0 … 99 have the same tokens, lengths and caches in both.
    const fewer = await decode({ ...small, rows: 100 });
    expect(worst(fewer.logits.slice(0, 100 * 40), a.logits.slice(0, 100 * 40))).toBe(0);
  });
});

describe('rows', () => {
  const counts = fc.record({
    rows: fc.integer({ min: 1, max: 700 }),
    threads: fc.integer({ min: 1, max: 70 }),
  });
  it('are all in one block and in one half of it, in order', () => {
    fc.assert(
      fc.property(counts, ({ rows, threads }) => {
        const blocks = cutRows(rows, threads);
        const halves = blocks.flatMap(halvesOf);
        let next = 0;
        for (const { start, count } of halves) {
          expect(start).toBe(next);
          expect(count).toBeGreaterThan(0);
          next += count;
        }
        expect(next).toBe(rows);
        expect(blocks.length).toBeLessThanOrEqual(threads);
        if (rows >= 24) for (const { count } of halves) expect(count).toBeGreaterThanOrEqual(8);
      }),
    );
  });

  it('are shared evenly', () => {
    expect(cutRows(128, 2)).toEqual([
      { start: 0, count: 64 },
      { start: 64, count: 64 },
    ]);
    expect(halvesOf({ start: 64, count: 64 })).toEqual([
      { start: 64, count: 32 },
      { start: 96, count: 32 },
    ]);
    expect(halvesOf({ start: 3, count: 47 })).toEqual([{ start: 3, count: 47 }]);
    expect(cutRows(64, 16).map(({ count }) => count)).toEqual([12, 12, 16, 12, 12]);
  });
});

describe('the plan of a chain', () => {
  const f32 = (...shape: number[]) => ({ dtype: 'float32' as const, shape });
  const i32 = (...shape: number[]) => ({ dtype: 'int32' as const, shape });
  const [rows, kvHeads, capacity, size] = [128, 2, 16, 32];
  const caches = f32(rows, kvHeads, capacity, size);
  const requests: Record<string, KernelRequest> = {
    norm: { kind: 'rmsNorm', attributes: {}, inputs: [f32(rows, 64), f32(64)], outputs: [f32(rows, 64)] },
    qkv: {
      kind: 'jointMatmul',
      attributes: {},
      inputs: [f32(rows, 64), f32(64, 64), f32(64, 64), f32(64, 64)],
      outputs: [f32(rows, 192)],
    },
    attend: {
      kind: 'decodeAttention',
      attributes: { heads: 2, scale: 1 },
      inputs: [f32(rows, 192), caches, caches, i32(rows), f32(capacity, 16), f32(capacity, 16)],
      outputs: [f32(rows, 64), caches, caches],
    },
    add: {
      kind: 'gemm',
      attributes: {},
      inputs: [f32(rows, 64), f32(64, 64), f32(rows, 64)],
      outputs: [f32(rows, 64)],
    },
    other: { kind: 'silu', attributes: {}, inputs: [f32(rows, 64)], outputs: [f32(rows, 64)] },
  };
  const link = (operator: string, inputs: string, outputs: string): KernelLink => ({
    operator,
    inputs: inputs.split(' '),
    outputs: outputs.split(' '),
  });
  const links = [
    link('norm', 'x gain', 'h'),
    link('qkv', 'h wq wk wv', 'p'),
    link('attend', 'p k v n cos sin', 'a k2 v2'),
    link('add', 'a wo x', 'y'),
  ];
  const reads = new Map([
    ['x', 2],
    ['y', 1],
    ['k2', 1],
    ['v2', 1],
    ...['h', 'p', 'a'].map((n) => [n, 1] as const),
  ]);
  const context: ChainContext = {
    threads: 2,
    mostTensors: 40,
    requestOf: (operator) => requests[operator],
    // Every kind has a number; a product has a task for each group of two tiles if it asks.
    workOf: ({ kind, outputs }, asking) => {
      const isProduct = kind === 'jointMatmul' || kind === 'gemm';
      const count = outputs[0]!.shape[0]!;
      const panels = outputs[0]!.shape[1]! / 64;
      const tasks = isProduct
        ? panels * (asking ? Math.ceil(count / 12) : 1)
        : kind === 'rmsNorm'
          ? 1
          : kvHeads * count;
      return {
        task: BigInt(Object.values(requests).findIndex((r) => r.kind === kind)),
        tasks,
        parameters: 0n,
        isProduct,
      };
    },
  };

  it('reads what it has not made, and gives what others read', () => {
    const [chain, ...rest] = findChains(links, reads, context);
    expect(rest).toEqual([]);
    expect(chain).toMatchObject({
      first: 0,
      count: 4,
      inputs: ['x', 'gain', 'wq', 'wk', 'wv', 'k', 'v', 'n', 'cos', 'sin', 'wo'],
      inPlace: [
        [5, 0],
        [6, 1],
      ],
    });
    // h, p and a lie in one more tensor, a where h was.
    expect(chain!.outputs.map(({ name, shape }) => [name, shape])).toEqual([
      ['k2', caches.shape],
      ['v2', caches.shape],
      ['y', [rows, 64]],
      ['h/work', [rows * (64 + 192)]],
    ]);
  });

  it('attends to every row and key head once, after its products and before those behind it', () => {
    const { blocks } = findChains(links, reads, context)[0]!;
    expect(blocks).toHaveLength(2);
    const seen = new Set<string>();
    blocks.forEach((calls, block) => {
      const attended = calls.filter(({ task }) => task === 2n);
      for (const { first, tasks, tensors } of attended) {
        // Where the block's rows begin in the projections, behind h.
        const start = (tensors[0]!.offset - 4 * 64 * rows) / (4 * 192);
        for (let i = first; i < first + tasks; i++)
          seen.add(`${start + Math.floor(i / kvHeads)}.${i % kvHeads}`);
      }
      const last = calls.findLastIndex(({ task }) => task === 1n);
      const adding = calls.findIndex(({ task }) => task === 3n);
      const upTo = (half: number, at: number) =>
        calls.slice(0, at).filter(({ task, tensors }) => {
          const start = (tensors[0]!.offset - 4 * 64 * rows) / (4 * 192);
          return task === 2n && start === 64 * block + 32 * half;
        });
      const sum = (list: typeof calls) => list.reduce((n, { tasks }) => n + tasks, 0);
      // The first half has attended when its products behind attention begin; the second has not begun before its own projections end.
      expect(sum(upTo(0, adding))).toBe(32 * kvHeads);
      expect(sum(upTo(1, last + 1))).toBe(0);
    });
    expect(seen.size).toBe(rows * kvHeads);
  });

  it.each<[string, KernelLink[], Partial<ChainContext>, number[][]]>([
    ['another kind between them', [links[0]!, link('other', 'h', 'i'), ...links.slice(1)], {}, [[2, 3]]],
    ['no attention', [links[0]!, links[1]!], {}, []],
    ['attention alone', [links[2]!], {}, []],
    ['weights that the chain makes', [...links, link('qkv', 'y y wk wv', 'q')], {}, [[0, 4]]],
    [
      'more tensors than there may be',
      [...links, link('norm', 'y gain2', 'z')],
      { mostTensors: 19 },
      [[0, 4]],
    ],
    ['no kernel for a block', links, { workOf: () => undefined }, []],
  ])('ends where it must: %s', (_, nodes, part, expected) => {
    const chains = findChains(nodes, reads, { ...context, ...part });
    expect(chains.map(({ first, count }) => [first, count])).toEqual(expected);
  });

  it('refuses a call with more tensors than a frame has room for', () => {
    const tensors = Array.from({ length: mostOfCall + 1 }, (_, tensor) => ({ tensor, offset: 0 }));
    expect(() => encodeCalls([{ task: 1n, first: 0, tasks: 1, parameters: 0n, tensors }])).toThrow(
      'too many tensors',
    );
  });
});
