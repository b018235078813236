import { afterEach, describe, expect, it } from 'vitest';
import { Generator, score } from '../../src/generate/index.js';
import { configure, Rng } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { toOutputMajor } from '../../src/nn/index.js';
import { tinyModel } from './support.js';

afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

/** Sizes for which there are kernels of decoding: heads of 16 in groups, whole panels, matrices beyond the smallest. */
const sizes = { dim: 256, heads: 16, kvHeads: 8, headDim: 16, hidden: 256, context: 150, vocabulary: 130 };

describe.each(detectSupport().sets)('generation by kernels in %s', (set) => {
  it.each([
    ['many rows', 70, false],
    ['one row, whose weights are stored by outputs', 1, true],
  ] as const)('gives the logprobs of a whole pass by plain operators: %s', async (_, rows, isTurned) => {
    const rng = new Rng(rows);
    // Some rows fill their part of the cache, past the end of a block of keys.
    const requests = Array.from({ length: rows }, (_, seed) => ({
      prompt: Array.from(rng.split(String(seed)).uniform(1 + (seed % 40)), (v) => Math.floor(130 * v)),
      maxTokens: rows === 1 || seed % 35 === 3 ? 140 : 5 + (seed % 9),
      seed,
    }));
    configure({ native: true });
    replaceKernels({ set });
    const model = tinyModel(sizes);
    if (isTurned) toOutputMajor(model);
    const generator = new Generator(model, { slots: rows });
    const results = await generator.generate(requests);
    await generator.close();
    configure({ native: false });
    const sequences = requests.map(({ prompt }, i) => [...prompt, ...results[i]!.tokens]);
    const scored = await score(tinyModel(sizes), sequences);
    let worst = 0;
    for (const [i, { logprobs }] of results.entries()) {
      const expected = scored[i]!.subarray(requests[i]!.prompt.length - 1);
      expect(logprobs.length).toBe(expected.length);
      logprobs.forEach((value, j) => {
        worst = Math.max(worst, Math.abs(value - expected[j]!));
      });
    }
    expect(worst).toBeLessThan(1e-5);
  });
});
