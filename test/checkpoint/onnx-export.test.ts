import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { encodeOnnx, exportOnnx, traceOnnx, writeOnnx } from '../../src/checkpoint/onnx-export.js';
import {
  attention,
  gelu,
  int32,
  layerNorm,
  program,
  randn,
  rmsNorm,
  softmax,
  tensor,
  variable,
} from '../../src/index.js';
import { exportLanguageModel, traceLanguageModel } from '../../src/models/lm/export.js';
import { Transformer } from '../../src/models/lm/transformer.js';

const folder = await mkdtemp(path.join(tmpdir(), 'anneal-onnx-'));
const child = fileURLToPath(new URL('onnx-child.mjs', import.meta.url));

interface Feed {
  type: 'float32' | 'int64' | 'int32';
  dims: number[];
  data: number[];
}
type Feeds = Record<string, Feed | { from: number; output: string }>;

/** What the official binding makes of a file. */
function runOfficial(model: string, runs: Feeds[]): Record<string, Feed>[] {
  const { stdout, stderr, status } = spawnSync(process.execPath, [child], {
    input: JSON.stringify({ model, runs }),
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(stderr);
  return (JSON.parse(stdout) as { results: Record<string, Feed>[] }).results;
}

function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number): void {
  expect(got.length).toBe(want.length);
  const scale = Math.max(...Array.from(want, Math.abs), 1e-3);
  for (let i = 0; i < want.length; i++) {
    expect(Math.abs(got[i]! - want[i]!), `[${i}] ${got[i]} against ${want[i]}`).toBeLessThan(
      tolerance * scale,
    );
  }
}

describe('exportOnnx', () => {
  const w = variable(randn([6, 8]), { name: 'w' });
  const gain = variable(randn([8]), { name: 'gain' });
  const bias = variable(randn([8]), { name: 'bias' });
  /** Composites, a reshape over a dynamic axis, attention. */
  const body = ({ x }: Record<'x', Parameters<typeof gelu>[0]>) => {
    const h = gelu(rmsNorm(layerNorm(x!.matmul(w), gain, bias), gain));
    const [b, t] = h.shape as [number, number];
    const heads = h.reshape([b, t, 2, 4]).transpose([0, 2, 1, 3]);
    const y = attention(heads, heads, heads)
      .transpose([0, 2, 1, 3])
      .reshape([b * t, 8]);
    return { y: softmax(y, -1), h };
  };
  const input = { x: { shape: ['batch', 'length', 6] } };

  it('gives standard operators that the official binding runs at any size', async () => {
    const file = path.join(folder, 'plain.onnx');
    await exportOnnx(file, input, body);
    const sizes = [
      [1, 1],
      [2, 3],
      [5, 17],
    ] as const;
    const feeds = sizes.map(([b, t]) => ({
      type: 'float32' as const,
      dims: [b, t, 6],
      data: [...Array(b * t * 6)].map((_, i) => Math.sin(i)),
    }));
    const results = runOfficial(
      file,
      feeds.map((x) => ({ x })),
    );
    for (const [i, { dims, data }] of feeds.entries()) {
      const own = await program({ x: dims }, body)({ x: Float32Array.from(data) });
      expect(results[i]!.y!.dims).toEqual([dims[0]! * dims[1]!, 8]);
      expectClose(results[i]!.y!.data, own.y.data, 2e-6);
      expectClose(results[i]!.h!.data, own.h.data, 2e-6);
    }
  });

  it('names no domain but the standard one, no functions, and every dynamic size', () => {
    const { model, weights } = traceOnnx(input, body);
    expect(model.opsets).toEqual({ '': 23 });
    expect(model.functions).toEqual([]);
    expect(model.graph.nodes.every(({ domain, overload }) => !domain && !overload)).toBe(true);
    expect(model.graph.inputs[0]!.shape).toEqual(['batch', 'length', 6]);
    expect(model.graph.outputs.map(({ shape }) => shape)).toEqual([
      ['batch * length', 8],
      ['batch', 'length', 8],
    ]);
    expect([...weights.keys()].sort()).toEqual(['bias', 'gain', 'w']);
  });

  it('needs no dynamic size', () => {
    const fixed = traceOnnx({ x: { shape: [2, 3, 6] } }, body);
    expect(fixed.model.graph.nodes.some(({ op }) => op === 'Shape')).toBe(false);
    expect(encodeOnnx(fixed).length).toBeGreaterThan(4 * 48);
  });

  it('computes ranges and sums of sizes, and refuses what has no formula', () => {
    const spec = { x: { shape: ['n'] }, y: { shape: ['m'] } };
    const positions = traceOnnx(spec, ({ x, y }, { n }) => ({
      z: x
        .add(tensor(Int32Array.from({ length: n! }, (_, i) => i)).cast('float32'))
        .sum()
        .add(y.sum()),
    }));
    expect(positions.model.graph.nodes.some(({ op }) => op === 'Range')).toBe(true);
    const squares = () =>
      traceOnnx(spec, ({ x }, { n }) => ({
        z: x.add(tensor(Int32Array.from({ length: n! }, (_, i) => i * i)).cast('float32')),
      }));
    expect(squares).toThrow(
      /cannot be exported for any n, m: a constant of Cast .* has no formula.*fix a size/s,
    );
    const branch = () => traceOnnx(spec, ({ x }, { n }) => ({ z: n! > 3 ? x.add(1) : x.mul(2).add(1) }));
    expect(branch).toThrow(/differs between sizes; fix a size/);
  });

  it('puts large weights into a file beside the model', async () => {
    const file = path.join(folder, 'outside', 'model.onnx');
    await writeOnnx(file, traceOnnx(input, body), 64);
    expect((await readdir(path.dirname(file))).sort()).toEqual(['model.onnx', 'model.onnx_data']);
    expect((await readFile(`${file}_data`)).length).toBe(4 * (48 + 8 + 8));
    const x = { type: 'float32' as const, dims: [1, 2, 6], data: [...Array(12).keys()] };
    const own = await program({ x: [1, 2, 6] }, body)({ x: Float32Array.from(x.data) });
    expectClose(runOfficial(file, [{ x }])[0]!.h!.data, own.h.data, 2e-6);
  });

  it('refuses two variables of one name', () => {
    const again = variable(randn([8]), { name: 'gain' });
    expect(() => traceOnnx({ x: { shape: [8] } }, ({ x }) => ({ y: x.mul(gain).add(again) }))).toThrow(
      'two variables are called "gain"',
    );
  });
});

describe('a language model as an ONNX decoder', () => {
  const model = new Transformer({
    ...{ vocabulary: 50, dim: 48, layers: 2, heads: 6, kvHeads: 2, hidden: 96, context: 64 },
    qkNorm: true,
    qkvBias: true,
    tied: false,
  });
  const ids = [3, 7, 9, 11, 2, 49, 0];
  const ints = (data: number[], dims: number[]): Feed => ({ type: 'int64', dims, data });
  const empty: Feed = { type: 'float32', dims: [1, 2, 0, 8], data: [] };
  const parts = [0, 1].flatMap((layer) => ['key', 'value'].map((part) => `${layer}.${part}`));

  it('has the inputs and outputs that transformers.js feeds', () => {
    const { graph } = traceLanguageModel(model).model;
    expect(graph.inputs.slice(0, 4).map(({ name, dtype, shape }) => [name, dtype, ...shape])).toEqual([
      ['input_ids', 'int64', 'batch_size', 'sequence_length'],
      ['attention_mask', 'int64', 'batch_size', 'total_sequence_length'],
      ['position_ids', 'int64', 'batch_size', 'sequence_length'],
      ['past_key_values.0.key', 'float32', 'batch_size', 2, 'past_sequence_length', 8],
    ]);
    expect(graph.outputs.slice(0, 2).map(({ name, shape }) => [name, ...shape])).toEqual([
      ['logits', 'batch_size', 'sequence_length', 50],
      ['present.0.key', 'batch_size', 2, 'total_sequence_length', 8],
    ]);
  });

  it('gives our logits in the official binding: whole, token by token, and padded on the left', async () => {
    const home = path.join(folder, 'decoder');
    const file = path.join(home, 'onnx', 'model.onnx');
    const { CharacterTokenizer } = await import('../../src/data/character-tokenizer.js');
    const tokenizer = new CharacterTokenizer([...'abc']);
    await exportLanguageModel(home, { model, tokenizer, endTokens: [2] });
    expect((await readdir(home)).sort()).toEqual([
      ...['config.json', 'generation_config.json', 'onnx', 'tokenizer.json', 'tokenizer_config.json'],
    ]);
    const positions = (from: number, n: number) => Array.from({ length: n }, (_, i) => from + i);
    const whole: Feeds = {
      input_ids: ints(ids, [1, 7]),
      attention_mask: ints(Array(7).fill(1), [1, 7]),
      position_ids: ints(positions(0, 7), [1, 7]),
      ...Object.fromEntries(parts.map((p) => [`past_key_values.${p}`, empty])),
    };
    const prompt: Feeds = {
      ...whole,
      input_ids: ints(ids.slice(0, 4), [1, 4]),
      attention_mask: ints(Array(4).fill(1), [1, 4]),
      position_ids: ints(positions(0, 4), [1, 4]),
    };
    const step = (i: number): Feeds => ({
      input_ids: ints([ids[i]!], [1, 1]),
      attention_mask: ints(Array(i + 1).fill(1), [1, i + 1]),
      position_ids: ints([i], [1, 1]),
      ...Object.fromEntries(
        parts.map((p) => [`past_key_values.${p}`, { from: i - 3, output: `present.${p}` }]),
      ),
    });
    const twice: Feed = { ...empty, dims: [2, 2, 0, 8] };
    const padded: Feeds = {
      input_ids: ints([0, 0, ...ids.slice(0, 5), ...ids], [2, 7]),
      attention_mask: ints([0, 0, ...Array(12).fill(1)], [2, 7]),
      position_ids: ints([0, 0, ...positions(0, 5), ...positions(0, 7)], [2, 7]),
      ...Object.fromEntries(parts.map((p) => [`past_key_values.${p}`, twice])),
    };
    const results = runOfficial(file, [whole, prompt, step(4), step(5), step(6), padded]);
    const run = program({ tokens: int32([1, 7]) }, ({ tokens }) => ({ logits: model.forward(tokens) }));
    const own = [...(await run({ tokens: Int32Array.from(ids) })).logits.data];
    expectClose(results[0]!.logits!.data, own, 5e-6);
    expectClose(results[1]!.logits!.data, own.slice(0, 200), 5e-6);
    for (const i of [4, 5, 6])
      expectClose(results[i - 2]!.logits!.data, own.slice(50 * i, 50 * i + 50), 5e-6);
    expect(results[4]!['present.1.value']!.dims).toEqual([1, 2, 7, 8]);
    expectClose(results[5]!.logits!.data.slice(100, 350), own.slice(0, 250), 5e-6);
    expectClose(results[5]!.logits!.data.slice(350), own, 5e-6);
  });
});
