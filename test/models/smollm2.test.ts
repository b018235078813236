import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { int32, program } from '../../src/index.js';
import { type LanguageModelBundle, loadLanguageModel } from '../../src/models/lm/load.js';

const shared = fileURLToPath(new URL('../../../shared/models/', import.meta.url));
const file = `${shared}SmolLM2-135M-Instruct.Q4_1.gguf`;
const isThere = existsSync(file);
if (!isThere) console.warn(`skipped: ${file} is not there, the pretrained model cannot be checked`);

interface Golden {
  logits: {
    ids: number[];
    token_logprobs: (number | null)[];
    last_top_ids: number[];
    last_top_logits: number[];
    last_logits_mean: number;
    last_first_8: number[];
  }[];
  greedy: { ids: number[]; new_ids: number[] }[];
  chat: { prompt_ids: number[]; new_ids: number[]; min_top1_top2_gap: number }[];
}

/** Logits of every position of one sequence, [T · vocabulary]. Padding on the right changes nothing before it. */
function forwardOf({ model }: LanguageModelBundle, length = 96) {
  const run = program({ tokens: int32([1, length]) }, ({ tokens }) => ({ logits: model.forward(tokens) }));
  return async (ids: readonly number[]) => {
    const tokens = new Int32Array(length);
    tokens.set(ids);
    const { logits } = await run({ tokens });
    return (logits.data as Float32Array).subarray(0, (ids.length * logits.data.length) / length);
  };
}

/** Log-probability of each token after those before it. */
function logprobsOf(logits: Float32Array, ids: readonly number[]): number[] {
  const width = logits.length / ids.length;
  return ids.slice(1).map((id, i) => {
    const row = logits.subarray(i * width, (i + 1) * width);
    const max = row.reduce((a, b) => Math.max(a, b));
    return row[id]! - max - Math.log(row.reduce((sum, v) => sum + Math.exp(v - max), 0));
  });
}

const bestTwo = (row: Float32Array): [id: number, gap: number] => {
  let best = 0;
  let second = Number.NEGATIVE_INFINITY;
  row.forEach((v, i) => {
    if (v > row[best]!) [best, second] = [i, row[best]!];
    else if (i !== best && v > second) second = v;
  });
  return [best, row[best]! - second];
};

describe.skipIf(!isThere)('SmolLM2-135M-Instruct from its GGUF file', async () => {
  if (!isThere) return;
  /** Recorded from transformers on PyTorch, float32. */
  const golden = JSON.parse(readFileSync(`${shared}smollm2-golden.json`, 'utf8')) as Golden;
  const bundle = await loadLanguageModel(file);
  const forward = forwardOf(bundle);

  it('is read as what it is', () => {
    expect(bundle.name).toBe('SmolLM2-135M-Instruct.Q4_1');
    expect(bundle.endTokens).toEqual([2]);
    expect(bundle.chatTemplate).toContain('<|im_start|>');
    expect(bundle.tokenizer.size).toBe(49152);
    expect(bundle.model.config).toMatchObject({
      dim: 576,
      layers: 30,
      heads: 9,
      kvHeads: 3,
      ropeBase: 1e5,
      tied: true,
    });
  });

  it.each(golden.logits.map((g) => [g.ids.length, g] as const))(
    '%i tokens: logits and logprobs of an independent implementation',
    async (length, { ids, token_logprobs: want, ...last }) => {
      const logits = await forward(ids);
      logprobsOf(logits, ids).forEach((logprob, i) => {
        expect(Math.abs(logprob - want[i + 1]!)).toBeLessThan(2e-3);
      });
      const row = logits.subarray((length - 1) * 49152);
      last.last_top_ids.forEach((id, i) => {
        expect(Math.abs(row[id]! - last.last_top_logits[i]!)).toBeLessThan(2e-3);
      });
      last.last_first_8.forEach((v, i) => {
        expect(Math.abs(row[i]! - v)).toBeLessThan(2e-3);
      });
      expect(row.reduce((a, b) => a + b, 0) / row.length).toBeCloseTo(last.last_logits_mean, 3);
    },
  );

  it('continues greedily with the same tokens, also after a chat prompt', async () => {
    const paths = [
      ...golden.greedy.map((g) => [g.ids, g.new_ids] as const),
      ...golden.chat.map((g) => [g.prompt_ids, g.new_ids] as const),
    ];
    // One pass over prompt and continuation has every choice that was made on the way.
    for (const [prompt, answer] of paths) {
      const ids = [...prompt, ...answer];
      const logits = await forward(ids);
      for (const [i, token] of answer.entries()) {
        const at = prompt.length + i - 1;
        const [best, gap] = bestTwo(logits.subarray(at * 49152, (at + 1) * 49152));
        if (gap < 1e-2) break;
        expect(best).toBe(token);
      }
    }
  });
});
