import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dequantize, type GgmlType, ggmlTypes } from '../../src/checkpoint/ggml.js';
import type { TensorEntry } from '../../src/checkpoint/tensor-entry.js';
import { grad } from '../../src/core/autodiff.js';
import { interpret } from '../../src/core/interpret.js';
import { Variable } from '../../src/core/variable.js';
import { cast, crossEntropy, int32, program, Rng, randn, tensor, variable } from '../../src/index.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import { type PackableType, packTensors } from '../../src/models/lm/pack.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import { weightEntries } from '../../src/models/lm/weights.js';
import type { SwiGLU } from '../../src/nn/mlp.js';
import { modulesOf } from '../../src/nn/module.js';
import { toOutputMajor } from '../../src/nn/output-major.js';
import { PackedEmbedding, PackedLinear, PackedWeights, unpackData } from '../../src/nn/packed-linear.js';

const types: PackableType[] = ['Q4_0', 'Q4_1', 'Q4_K', 'Q8_0', 'Q6_K'];
/** Byte offsets of the float16 fields of a block. */
const halves: Partial<Record<GgmlType, readonly number[]>> = { Q4_1: [0, 2], Q4_K: [0, 2], Q6_K: [208] };

/** Blocks of random integers with scales around 2^-7: float16 bits 0x2000 to 0x23ff, both signs. */
function randomBlocks(type: GgmlType, count: number, rng: Rng): Uint8Array {
  const { bytes } = ggmlTypes[type];
  const out = Uint8Array.from(rng.uniform(count * bytes, 0, 256), Math.floor);
  for (let b = 0; b < count; b++) {
    for (const at of halves[type] ?? [0]) out[b * bytes + at + 1] = 0x20 | (out[b * bytes + at + 1]! & 0x83);
  }
  return out;
}

const relativeError = (got: ArrayLike<number>, want: ArrayLike<number>): number => {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    size += want[i]! ** 2;
  }
  return Math.sqrt(difference / size);
};

/** x · Wᵀ in float64. */
function product(x: ArrayLike<number>, w: ArrayLike<number>, inputs: number): Float64Array {
  const [rows, outputs] = [x.length / inputs, w.length / inputs];
  return Float64Array.from({ length: rows * outputs }, (_, i) => {
    const [r, o] = [Math.floor(i / outputs), i % outputs];
    let sum = 0;
    for (let k = 0; k < inputs; k++) sum += x[r * inputs + k]! * w[o * inputs + k]!;
    return sum;
  });
}

describe.each(types)('%s', (type) => {
  const inputs = 512;
  const outputs = 24;
  const rng = new Rng(types.indexOf(type));
  const bytes = randomBlocks(type, (outputs * inputs) / ggmlTypes[type].elements, rng);
  const weights = dequantize(bytes, type);
  const data = packTensors([{ bytes, outputs }], type, inputs);

  it('is kept: what is unpacked again is what the file means', () => {
    const back = unpackData(new PackedWeights(data));
    expect(relativeError(back, weights)).toBeLessThan(1e-7);
    expect(data.values.length).toBe((outputs * inputs * data.bits) / 8);
  });

  it('takes rows from several tensors, in another order', () => {
    const half = bytes.length / 2;
    const reversed = packTensors(
      [0, 1].map((i) => ({
        bytes: bytes.subarray(i * half, (i + 1) * half),
        outputs: outputs / 2,
        rowOf: (r: number) => outputs / 2 - 1 - r,
      })),
      type,
      inputs,
    );
    const rows = unpackData(new PackedWeights(reversed));
    const row = (r: number) => rows.subarray(r * inputs, (r + 1) * inputs);
    expect(relativeError(row(0), weights.subarray(11 * inputs, 12 * inputs))).toBeLessThan(1e-7);
    expect(relativeError(row(13), weights.subarray(22 * inputs, 23 * inputs))).toBeLessThan(1e-7);
  });

  it.each([1, 5])('products of %i rows: exact, or with activations of 8 bits', async (rows) => {
    const x = rng.normal(rows * inputs);
    const want = product(x, weights, inputs);
    for (const [coarse, tolerance] of [
      [false, 2e-6],
      [true, 1e-2],
    ] as const) {
      const layer = new PackedLinear(new PackedWeights(data, coarse));
      const { y } = await program({ x: [rows, inputs] }, (feeds) => ({ y: layer.apply(feeds.x) }))({ x });
      expect(relativeError(y.data, want), `coarse: ${coarse}`).toBeLessThan(tolerance);
    }
  });

  it('serves as an embedding and its transpose', async () => {
    const table = new PackedEmbedding(new PackedWeights(data, false));
    const run = program({ tokens: int32([2, 2]) }, ({ tokens }) => {
      const rows = table.apply(tokens);
      return { rows, logits: table.logits(rows) };
    });
    const tokens = [3, 0, 23, 3];
    const { rows, logits } = await run({ tokens: Int32Array.from(tokens) });
    const want = Float32Array.from(
      tokens.flatMap((t) => [...weights.subarray(t * inputs, (t + 1) * inputs)]),
    );
    expect(rows.shape).toEqual([2, 2, inputs]);
    expect(relativeError(rows.data, want)).toBeLessThan(1e-7);
    expect(relativeError(logits.data, product(want, weights, inputs))).toBeLessThan(2e-6);
  });
});

describe('PackedLinear', () => {
  const rng = new Rng(9);
  const bytes = randomBlocks('Q4_1', 12 * 2, rng);
  const weights = new PackedWeights(packTensors([{ bytes, outputs: 12 }], 'Q4_1', 64), false);

  it('shares one product between projections of the same input', async () => {
    const bias = variable(randn([4]));
    const [a, b] = [new PackedLinear(weights, undefined, [0, 8]), new PackedLinear(weights, bias, [8, 4])];
    const run = program({ x: [3, 64] }, ({ x }) => ({ a: a.apply(x), b: b.apply(x) }));
    const x = rng.normal(3 * 64);
    const got = await run({ x });
    expect(run.text().match(/packedMatmul/g)).toHaveLength(1);
    const all = product(x, unpackData(weights), 64);
    const part = (from: number, count: number) =>
      all.filter((_, i) => i % 12 >= from && i % 12 < from + count);
    expect(relativeError(got.a.data, part(0, 8))).toBeLessThan(2e-6);
    expect(
      relativeError(
        got.b.data,
        part(8, 4).map((v, i) => v + bias.data[i % 4]!),
      ),
    ).toBeLessThan(2e-6);
    expect(got.b.shape).toEqual([3, 4]);
  });

  it('passes gradients through to its input, for adapters in front of it', () => {
    const x = tensor(rng.normal(2 * 64) as Float32Array, [2, 64]);
    const layer = new PackedLinear(weights);
    const [dx] = grad(layer.apply(x).square().sum(), [x]);
    const w = unpackData(weights);
    const y = product(x.node.payload as Float32Array, w, 64);
    const want = Float64Array.from({ length: 128 }, (_, i) => {
      const [r, k] = [Math.floor(i / 64), i % 64];
      let sum = 0;
      for (let o = 0; o < 12; o++) sum += 2 * y[r * 12 + o]! * w[o * 64 + k]!;
      return sum;
    });
    expect(relativeError(interpret([dx!])[0]!.data, want)).toBeLessThan(1e-6);
  });

  it('has fixed weights: neither set nor assigned', () => {
    expect(weights.scales.trainable).toBe(false);
    expect(() => weights.scales.set(new Float32Array(24))).toThrow(
      /is fixed; compiled programs keep the value/,
    );
    const assigns = program({ x: [12, 2] }, ({ x }) => {
      weights.scales.assign(cast(x, 'float16'));
      return { x };
    });
    return expect(assigns({ x: new Float32Array(24) })).rejects.toThrow(/is fixed/);
  });

  it('refuses an input of another width', () => {
    expect(() => new PackedLinear(weights).apply(randn([2, 32]))).toThrow(/from 64 to 12 was given \[2,32\]/);
  });
});

describe('any packed matrix', () => {
  it('multiplies as its float weights do', async () => {
    const shapes = fc.record({
      type: fc.constantFrom<PackableType>('Q4_0', 'Q4_1', 'Q8_0'),
      outputs: fc.integer({ min: 1, max: 20 }),
      blocks: fc.integer({ min: 1, max: 5 }),
      rows: fc.integer({ min: 1, max: 4 }),
      seed: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(shapes, async ({ type, outputs, blocks, rows, seed }) => {
        const rng = new Rng(seed);
        const inputs = blocks * 32;
        const bytes = randomBlocks(type, outputs * blocks, rng);
        const layer = new PackedLinear(
          new PackedWeights(packTensors([{ bytes, outputs }], type, inputs), false),
        );
        const x = rng.normal(rows * inputs);
        const run = program({ x: [rows, inputs] }, (feeds) => ({ y: layer.apply(feeds.x) }));
        const { y } = await run({ x });
        run.dispose();
        expect(relativeError(y.data, product(x, dequantize(bytes, type), inputs))).toBeLessThan(1e-5);
      }),
      { numRuns: 25 },
    );
  });
});

describe('saving', () => {
  it('writes packed and output-major matrices in float32, under the names of ordinary ones', async () => {
    const config = { vocabulary: 40, dim: 64, layers: 1, heads: 2, hidden: 32, context: 16 };
    const model = new Transformer(config);
    const rng = new Rng(4);
    const packed = (outputs: number, inputs: number) =>
      new PackedWeights(
        packTensors([{ bytes: randomBlocks('Q4_1', (outputs * inputs) / 32, rng), outputs }], 'Q4_1', inputs),
      );
    const plain = new Map(weightEntries(model));
    const [table, joint] = [packed(40, 64), packed(64, 64)];
    model.embedding = new PackedEmbedding(table);
    const mlp = model.layers[0]!.mlp as SwiGLU;
    mlp.gate = new PackedLinear(joint, undefined, [0, 32]);
    mlp.up = new PackedLinear(joint, undefined, [32, 32]);
    toOutputMajor(model);
    const entries = weightEntries(model);
    expect([...entries.keys()].sort()).toEqual([...plain.keys()].sort());
    const dataOf = ({ data }: TensorEntry) => (typeof data === 'function' ? data() : data);
    const rows = unpackData(joint);
    const want = new Map([
      ['model.embed_tokens.weight', unpackData(table)],
      ['model.layers.0.mlp.gate_proj.weight', rows.subarray(0, 32 * 64)],
      ['model.layers.0.mlp.up_proj.weight', rows.subarray(32 * 64)],
    ]);
    for (const [name, entry] of entries) {
      expect(entry.shape, name).toEqual(plain.get(name)!.shape);
      expect(dataOf(entry), name).toEqual(want.get(name) ?? dataOf(plain.get(name)!));
    }
  });
});

const file = fileURLToPath(
  new URL('../../../shared/models/SmolLM2-135M-Instruct.Q4_1.gguf', import.meta.url),
);
const isThere = existsSync(file);
if (!isThere) console.warn(`skipped: ${file} is not there, packed weights of a real model cannot be checked`);

describe.skipIf(!isThere)('SmolLM2 with packed weights', () => {
  const length = 256;
  const text = readFileSync(new URL('../../LICENSE', import.meta.url), 'utf8').slice(500, 3500);

  /** Mean negative log-likelihood of a text in windows of 256 tokens. */
  async function lossOf(weights: 'float32' | 'packed'): Promise<{ loss: number; bytes: number }> {
    const { model, tokenizer } = await loadLanguageModel(file, { weights });
    const ids = tokenizer.encode(text);
    const run = program(
      { tokens: int32([1, length]), targets: int32([1, length]) },
      ({ tokens, targets }) => ({
        loss: crossEntropy(model.forward(tokens), targets),
      }),
    );
    const losses: number[] = [];
    for (let at = 0; at + length < ids.length; at += length) {
      const feeds = { tokens: ids.slice(at, at + length), targets: ids.slice(at + 1, at + length + 1) };
      losses.push((await run(feeds)).loss.item());
    }
    run.dispose();
    const bytes = [...modulesOf(model).values()]
      .flatMap((m) => Object.values(m))
      .reduce<number>((sum, v) => sum + (v instanceof Variable ? v.data.byteLength : 0), 0);
    return { loss: losses.reduce((a, b) => a + b, 0) / losses.length, bytes };
  }

  it('has the perplexity of float32 weights within 1 %, in a quarter of the memory', async () => {
    const exact = await lossOf('float32');
    const packed = await lossOf('packed');
    expect(Math.exp(packed.loss - exact.loss)).toBeLessThan(1.01);
    expect(Math.exp(packed.loss - exact.loss)).toBeGreaterThan(0.99);
    expect(packed.bytes / exact.bytes).toBeLessThan(0.25);
  });
});
