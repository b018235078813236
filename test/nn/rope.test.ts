import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { int32, interpret, program, tensor } from '../../src/index.js';
import { Rope, type RopeScaling, ropeFrequencies } from '../../src/nn/index.js';

interface Recorded {
  headDim: number;
  base: number;
  scaling: RopeScaling;
  frequencies: number[];
  factor: number;
}

const { rope } = JSON.parse(readFileSync(new URL('../golden/transformer.json', import.meta.url), 'utf8')) as {
  rope: Recorded[];
};

describe('rotary frequencies agree with transformers', () => {
  it.each(rope.map((r) => [JSON.stringify(r.scaling), r] as const))('%s', (_name, recorded) => {
    const { frequencies, factor } = ropeFrequencies(recorded);
    expect(Math.abs(factor - recorded.factor)).toBeLessThan(1e-12);
    expect(frequencies.length).toBe(recorded.frequencies.length);
    // transformers computes in float32.
    recorded.frequencies.forEach((want, i) => {
      expect(Math.abs(frequencies[i]! / want - 1), `frequency ${i}`).toBeLessThan(1e-6);
    });
  });

  it('are those of the paper without scaling', () => {
    const { frequencies, factor } = ropeFrequencies({ headDim: 8 });
    expect([...frequencies]).toEqual([1, 10000 ** -0.25, 10000 ** -0.5, 10000 ** -0.75]);
    expect(factor).toBe(1);
  });

  it('need an even head size and a known scaling', () => {
    expect(() => ropeFrequencies({ headDim: 7 })).toThrow(/head size 7 is odd/);
    const scaling = { type: 'ntk', factor: 2 } as never;
    expect(() => ropeFrequencies({ headDim: 8, scaling })).toThrow(/"ntk" is unknown; use linear, llama3/);
  });
});

describe('rotary tables', () => {
  it('of chosen positions are rows of the table of all', async () => {
    const rope = new Rope({ headDim: 6, base: 100, scaling: { type: 'linear', factor: 2 } });
    const { cos, sin } = rope.upTo(9);
    const positions = Int32Array.of(8, 0, 3, 3, 5, 1);
    const run = program({ positions: int32([2, 3]) }, ({ positions }) => {
      const { cos, sin } = rope.at(positions, 20);
      return { cos, sin };
    });
    const rows = await run({ positions });
    expect(rows.cos.shape).toEqual([2, 1, 3, 3]);
    const all = interpret([cos, sin]).map(({ data }) => data);
    positions.forEach((p, i) => {
      for (let j = 0; j < 3; j++) {
        const angle = (p / 2) * 100 ** (-j / 3);
        expect(rows.cos.data[i * 3 + j]).toBe(Math.fround(Math.cos(angle)));
        expect(rows.cos.data[i * 3 + j]).toBe(all[0]![p * 3 + j]);
        expect(rows.sin.data[i * 3 + j]).toBe(all[1]![p * 3 + j]);
      }
    });
    run.dispose();
  });

  it('are not met by a walk over variables', () => {
    const rope = new Rope({ headDim: 4 });
    rope.at(tensor(Int32Array.of(1), [1, 1]), 4);
    expect(Object.entries(rope)).toEqual([]);
  });
});
