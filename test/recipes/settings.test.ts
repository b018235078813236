import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { AnnealError } from '../../src/core/errors.js';
import { differences, flattened, resolveConfig } from '../../src/recipes/overrides.js';
import { recipe, section } from '../../src/recipes/recipe.js';
import { nearest, settingsOf } from '../../src/recipes/settings.js';

const config = z.strictObject({
  data: z.union([z.string(), z.array(z.string())]).describe('text files'),
  steps: z.int().min(1).default(100).describe('training steps'),
  seed: z.int().min(0).default(0).describe('seed'),
  tokenizer: z.enum(['char', 'byte']).default('char').describe('tokenizer'),
  microBatches: z
    .union([z.literal('auto'), z.int().min(1)])
    .default('auto')
    .describe('parts'),
  prompts: z.array(z.string()).default([]).describe('prompts'),
  stopAt: z.number().positive().optional().describe('loss at which to stop'),
  model: section({
    layers: z.int().min(1).max(100).default(4).describe('layers'),
    dim: z.int().min(1).default(128).describe('width'),
    tied: z.boolean().default(true).describe('tied head'),
    dropout: z.number().min(0).lt(1).default(0).describe('dropout'),
    rope: section({ base: z.number().positive().default(10000).describe('base') }),
  }).refine(({ dim, layers }) => dim % layers === 0, {
    message: 'must have a dim that layers divides',
  }),
});

const demo = recipe({
  name: 'demo',
  summary: 'a recipe for tests',
  config,
  derive: () => [],
  run: async () => ({ status: 'finished', step: 0, summary: {} }),
});

const resolve = (overrides: string[], file?: unknown) =>
  resolveConfig(demo, ['data=a.txt', ...overrides], file);
const messageOf = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(AnnealError);
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
};

describe('overrides', () => {
  it('leave the defaults of everything that they do not name', () => {
    expect(resolve([])).toEqual({
      data: 'a.txt',
      steps: 100,
      seed: 0,
      tokenizer: 'char',
      microBatches: 'auto',
      prompts: [],
      model: { layers: 4, dim: 128, tied: true, dropout: 0, rope: { base: 10000 } },
    });
  });

  it.each<[string, string, unknown]>([
    ['steps=7', 'steps', 7],
    ['steps=1e3', 'steps', 1000],
    ['model.layers=2', 'model.layers', 2],
    ['model.rope.base=.5', 'model.rope.base', 0.5],
    ['model.tied=false', 'model.tied', false],
    ['tokenizer=byte', 'tokenizer', 'byte'],
    ['microBatches=4', 'microBatches', 4],
    ['microBatches=auto', 'microBatches', 'auto'],
    ['prompts=["a","b = c"]', 'prompts', ['a', 'b = c']],
    ['prompts=[]', 'prompts', []],
    ['data=12', 'data', '12'],
    ['data=true', 'data', 'true'],
    ['data=a=b', 'data', 'a=b'],
    ['data="two\\nlines"', 'data', 'two\nlines'],
    ['data=["x.txt"]', 'data', ['x.txt']],
    ['data=', 'data', ''],
    ['stopAt=1.5', 'stopAt', 1.5],
    ['model={"layers":2,"rope":{"base":5}}', 'model.rope.base', 5],
  ])('%s', (override, path, value) => {
    expect(flattened(resolve([override])).get(path)).toEqual(value);
  });

  it('win over the config file, the last one over earlier ones', () => {
    const file = { steps: 5, model: { layers: 8, dim: 64 }, 'model.tied': false };
    const { steps, model } = resolve(['model.layers=2', 'model.layers=4'], file);
    expect([steps, model.layers, model.dim, model.tied]).toEqual([5, 4, 64, false]);
  });

  it.each<[string, string]>([
    ['layers=2', 'demo has no setting "layers"; did you mean model.layers?'],
    ['model.layres=2', 'demo has no setting "model.layres"; did you mean model.layers?'],
    ['Steps=2', 'demo has no setting "Steps"; did you mean steps?'],
    ['stpes=2', 'demo has no setting "stpes"; did you mean steps?'],
    ['elephants=2', 'demo has no setting "elephants"; `anneal recipes demo` lists its 12 settings'],
    ['steps.more=2', 'demo has no setting "steps.more"; `anneal recipes demo` lists its 12 settings'],
    ['__proto__.x=2', 'demo has no setting "__proto__.x"; `anneal recipes demo` lists its 12 settings'],
    ['constructor=2', 'demo has no setting "constructor"; `anneal recipes demo` lists its 12 settings'],
    ['model={"depth":2}', 'demo has no setting "model.depth"; `anneal recipes demo` lists its 12 settings'],
    ['steps=ten', 'steps must be a whole number ≥ 1, not "ten"'],
    ['steps=1.5', 'steps must be a whole number ≥ 1, not "1.5"'],
    ['steps=0', 'steps must be a whole number ≥ 1, not "0"'],
    ['steps=', 'steps must be a whole number ≥ 1, not ""'],
    ['model.layers=101', 'model.layers must be a whole number ≥ 1 and ≤ 100, not "101"'],
    ['model.dropout=1', 'model.dropout must be a number ≥ 0 and < 1, not "1"'],
    ['model.tied=yes', 'model.tied must be true or false, not "yes"'],
    ['tokenizer=word', 'tokenizer must be one of char, byte, not "word"'],
    ['microBatches=some', 'microBatches must be auto or a whole number ≥ 1, not "some"'],
    ['prompts=a', 'prompts must be a JSON list of text, not "a"'],
    ['stopAt=-1', 'stopAt must be a number > 0, not "-1"'],
    ['model=3', 'model is a group of settings, not one: set model.layers, model.dim, model.tied, …'],
    ['steps', '"steps" is no setting; write key=value, as in steps=100'],
    ['=5', '"=5" is no setting; write key=value, as in steps=100'],
    ['model.layers=3', 'model must have a dim that layers divides'],
  ])('refuse %s', (override, message) => {
    expect(messageOf(() => resolve([override]))).toBe(message);
  });

  it('name a setting that is missing', () => {
    expect(messageOf(() => resolveConfig(demo))).toBe(
      'demo needs data=…: text files (text or a JSON list of text)',
    );
  });

  it('check a config file like themselves', () => {
    expect(messageOf(() => resolve([], { model: { layers: '2' } }))).toBe(
      'model.layers must be a whole number ≥ 1 and ≤ 100, not "2"',
    );
    expect(messageOf(() => resolve([], []))).toBe('the config file must hold a JSON object, not []');
  });

  it('read back every config that they were written from', () => {
    const written = fc.record({
      steps: fc.integer({ min: 1, max: 1e9 }),
      data: fc.oneof(fc.string(), fc.array(fc.string())),
      prompts: fc.array(fc.string()),
      tokenizer: fc.constantFrom('char', 'byte'),
      microBatches: fc.oneof(fc.constant('auto'), fc.integer({ min: 1, max: 64 })),
      'model.dropout': fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      'model.tied': fc.boolean(),
      'model.rope.base': fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
    });
    fc.assert(
      fc.property(written, (values) => {
        const overrides = Object.entries(values).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
        const read = flattened(resolveConfig(demo, overrides));
        for (const [key, value] of Object.entries(values)) {
          // -0 has no JSON.
          expect(read.get(key)).toEqual(value === 0 ? 0 : value);
        }
      }),
    );
  });

  it('never accept a key that is not in the table', () => {
    const known = new Set(settingsOf(config).map((setting) => setting.path));
    fc.assert(
      fc.property(
        fc.string({ minLength: 1 }).filter((key) => !key.includes('=')),
        (key) => {
          fc.pre(!known.has(key) && !['model', 'model.rope'].includes(key));
          expect(messageOf(() => resolve([`${key}=1`]))).toContain('has no setting');
        },
      ),
    );
  });
});

describe('settings', () => {
  it('are listed with type, default and description', () => {
    expect(settingsOf(config).slice(0, 3)).toEqual([
      {
        path: 'data',
        type: 'text or a JSON list of text',
        default: undefined,
        required: true,
        description: 'text files',
      },
      {
        path: 'steps',
        type: 'a whole number ≥ 1',
        default: 100,
        required: false,
        description: 'training steps',
      },
      { path: 'seed', type: 'a whole number ≥ 0', default: 0, required: false, description: 'seed' },
    ]);
    expect(settingsOf(config).find((s) => s.path === 'stopAt')).toMatchObject({
      required: false,
      default: undefined,
    });
  });

  it('are compared by path', () => {
    expect(differences(resolve([]), resolve(['model.layers=2', 'prompts=["x"]', 'stopAt=2']))).toEqual([
      { path: 'prompts', before: [], after: ['x'] },
      { path: 'model.layers', before: 4, after: 2 },
      { path: 'stopAt', before: undefined, after: 2 },
    ]);
  });

  it.each<[string, string[]]>([
    ['optimzer', ['optimizer']],
    ['lm', ['lm']],
    ['zzz', []],
    ['dim', ['model.dim']],
  ])('nearest to %s', (name, expected) => {
    expect(nearest(name, ['optimizer', 'lm', 'model.dim', 'moby-dick'])).toEqual(expected);
  });
});

describe('recipe', () => {
  it.each(['', 'Two Words', '../x', 'a--b'])('refuses the name "%s"', (name) => {
    expect(() => recipe({ ...demo, name } as never)).toThrow(/is no name/);
  });
});
