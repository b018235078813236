import { describe, expect, it } from 'vitest';
import { AnnealError, grad, int32, program, Rng, sum } from '../../src/index.js';
import type { Transformer } from '../../src/models/lm/transformer.js';
import { parametersOf } from '../../src/nn/module.js';
import { randomTokens, tinyModel } from '../generate/support.js';

const promptLengths = [5, 1, 8];
const owners = [0, 2, 2, 1, 0];
const room = 8;
const length = 6;

/** Two ways to compute the same: prompts apart, and whole rows. Returns hidden states and all gradients of a loss. */
async function both(model: Transformer) {
  const rng = new Rng(3);
  const prompts = promptLengths.map((n) => randomTokens(rng, n));
  const rows = owners.map(() => randomTokens(rng, length));
  const { dim } = model.config;
  const signs = Float32Array.from(rng.normal(owners.length * length * dim, 0, 1));
  const parameters = [...parametersOf(model).values()].filter(({ name }) => !name.startsWith('head'));
  const outputs = (hidden: ReturnType<typeof model.hidden>, loss: ReturnType<typeof sum>) => ({
    hidden,
    ...Object.fromEntries(grad(loss, parameters).map((g, i) => [parameters[i]!.name, g])),
  });
  const shared = program(
    {
      tokens: int32([owners.length, length]),
      prompts: int32([prompts.length, room]),
      lengths: int32([prompts.length]),
      owners: int32([owners.length]),
      signs: [owners.length, length, dim],
    },
    (inputs) => {
      const { tokens, signs: factors } = inputs;
      const hidden = model.hidden(tokens, {
        prompts: { tokens: inputs.prompts, lengths: inputs.lengths, owners: inputs.owners },
      });
      return outputs(hidden, sum(hidden.mul(factors)));
    },
  );
  const promptTokens = new Int32Array(prompts.length * room).fill(7);
  prompts.forEach((prompt, i) => {
    promptTokens.set(prompt, i * room);
  });
  const a = await shared({
    tokens: Int32Array.from(rows.flat()),
    prompts: promptTokens,
    lengths: Int32Array.from(promptLengths),
    owners: Int32Array.from(owners),
    signs,
  });
  const whole = room + length;
  const plain = program(
    { tokens: int32([owners.length, whole]), signs: [owners.length, whole, dim] },
    (inputs) => {
      const hidden = model.hidden(inputs.tokens);
      return outputs(hidden, sum(hidden.mul(inputs.signs)));
    },
  );
  const wholeTokens = new Int32Array(owners.length * whole);
  const wholeSigns = new Float32Array(owners.length * whole * dim);
  owners.forEach((owner, row) => {
    const start = promptLengths[owner]!;
    wholeTokens.set([...prompts[owner]!, ...rows[row]!], row * whole);
    wholeSigns.set(signs.subarray(row * length * dim, (row + 1) * length * dim), (row * whole + start) * dim);
  });
  const b = await plain({ tokens: wholeTokens, signs: wholeSigns });
  const expected = owners.flatMap((owner, row) => {
    const start = (row * whole + promptLengths[owner]!) * dim;
    return [...b.hidden.data.subarray(start, start + length * dim)];
  });
  shared.dispose();
  plain.dispose();
  return { a, b, expected };
}

const distance = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return largest;
};

describe('prompts that rows share', () => {
  it.each([
    ['rotary positions and grouped queries', {}],
    ['learned positions', { positions: 'learned', norm: 'layer', context: 14 }],
    ['norms of queries and keys, biases', { qkNorm: true, qkvBias: true }],
    ['no positions', { positions: 'none', tied: true }],
  ] as const)('give the hidden states and gradients of whole rows, with %s', async (_, overrides) => {
    const { a, b, expected } = await both(tinyModel(overrides));
    expect(distance(a.hidden.data, expected)).toBeLessThan(2e-5);
    for (const name of Object.keys(b)) {
      if (name === 'hidden') continue;
      const [x, y] = [a[name as 'hidden'].data, b[name as 'hidden'].data];
      const scale = Math.max(...Array.from(y, Math.abs));
      expect(scale, name).toBeGreaterThan(0);
      expect(distance(x, y) / scale, name).toBeLessThan(2e-5);
    }
  });

  it('need attention that only looks at keys and values', async () => {
    for (const overrides of [
      { attention: 'stick-breaking' },
      { keyConvolution: 3 },
      { attention: 'fox' },
    ] as const) {
      const model = tinyModel(overrides);
      expect(model.sharesPrompts).toBe(false);
      await expect(both(model)).rejects.toThrow(/cannot share prompts; give it whole rows/);
      await expect(both(model)).rejects.toBeInstanceOf(AnnealError);
    }
    expect(tinyModel().sharesPrompts).toBe(true);
  });
});
