import { describe, expect, it } from 'vitest';
import { Generator, score, scoreTop } from '../../src/generate/index.js';
import { int32, program, Rng } from '../../src/index.js';
import { applyLora, removeLora } from '../../src/nn/lora.js';
import { naiveGreedy, randomTokens, tinyModel } from './support.js';

const model = tinyModel();
const rng = new Rng(5);
const sequences = [2, 1, 17, 40, 3, 96, 16, 0].map((n) => randomTokens(rng, n));

/** Log-softmax of each row of the logits, in float64 on the host. */
async function reference(tokens: readonly number[]): Promise<Float64Array[]> {
  const shape = [1, tokens.length];
  const forward = program({ tokens: int32(shape) }, (inputs) => ({ logits: model.forward(inputs.tokens) }));
  const { logits } = await forward({ tokens: Int32Array.from(tokens) });
  return tokens.map((_, i) => {
    const row = Float64Array.from(logits.data.subarray(i * 33, (i + 1) * 33));
    const max = Math.max(...row);
    const normalizer = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
    return row.map((x) => x - normalizer);
  });
}

describe('score', () => {
  it.each([16, 64, 1024])(
    'equals log-softmax of a forward pass, in passes of %i tokens',
    async (batchTokens) => {
      const scored = await score(model, sequences, { batchTokens });
      for (const [i, tokens] of sequences.entries()) {
        expect(scored[i]!.length).toBe(Math.max(0, tokens.length - 1));
        if (tokens.length < 2) continue;
        const rows = await reference(tokens);
        for (const [j, value] of scored[i]!.entries()) {
          expect(Math.abs(value - rows[j]![tokens[j + 1]!]!)).toBeLessThan(1e-5);
        }
      }
    },
  );

  it('finds the most likely tokens at every place', async () => {
    const [scored] = await scoreTop(model, [sequences[3]!], 4);
    const rows = await reference(sequences[3]!);
    expect(scored!.top.length).toBe(39);
    for (const [j, list] of scored!.top.entries()) {
      const ranked = [...rows[j]!.keys()].sort((a, b) => rows[j]![b]! - rows[j]![a]!);
      expect(list.map((one) => one.token)).toEqual(ranked.slice(0, 4));
      for (const { token, logprob } of list) expect(Math.abs(logprob - rows[j]![token]!)).toBeLessThan(1e-5);
    }
  });

  it('refuses what is no sequence of the model', async () => {
    await expect(score(model, [[1, 33]])).rejects.toThrow(/token 1 of sequence 0 is 33/);
    await expect(score(model, [[1], new Int32Array(97)])).rejects.toThrow(/sequence 1 has 97 tokens/);
    await expect(scoreTop(model, [[1, 2]], 34)).rejects.toThrow(/top is 34/);
  });
});

describe('a model that changes', () => {
  it('is followed by its generator: new weights, an adapter, none again', async () => {
    const own = tinyModel();
    const generator = new Generator(own, { slots: 2 });
    const generate = async () => {
      const [one] = await generator.generate([{ prompt: [1, 2, 3], maxTokens: 12, temperature: 0 }]);
      return [...one!.tokens];
    };
    const naive = () => naiveGreedy(own, [1, 2, 3], 12);
    const before = await generate();
    expect(before).toEqual(await naive());
    for (const lora of applyLora(own, { rank: 2 }).values()) lora.loraB.set(lora.loraB.data.map(() => 0.5));
    const adapted = await generate();
    expect(adapted).toEqual(await naive());
    expect(adapted).not.toEqual(before);
    removeLora(own);
    expect(await generate()).toEqual(before);
    const embedding = own.embedding as unknown as { weight: { data: Float32Array } };
    embedding.weight.data.reverse();
    const changed = await generate();
    expect(changed).toEqual(await naive());
    expect(changed).not.toEqual(before);
    await generator.close();
  });
});
