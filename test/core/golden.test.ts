import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as anneal from '../../src/index.js';
import { type Feed, type InputType, program, Tensor, type Value, vjp, zerosLike } from '../../src/index.js';

/** A recorded tensor; null is NaN. */
interface Golden {
  dtype: 'float32' | 'float64' | 'int32' | 'bool';
  shape: number[];
  data: (number | null)[];
}

/** One call recorded by test/golden/record.py; its docstring describes the fields. */
interface Entry {
  op: string;
  args: unknown[];
  inputs: Golden[];
  outputs: Golden[];
  cotangents: (Golden | null)[];
  grads: (Golden | null)[];
}

const entries: Entry[] = JSON.parse(
  readFileSync(new URL('../golden/ops.json', import.meta.url), 'utf8'),
) as Entry[];

/** Largest error of a float, relative to the largest magnitude of its tensor: the reference is float64. */
const tolerance = 2e-6;

const api: Readonly<Record<string, unknown>> = anneal;

/** The arguments with the tensors that "$i" stands for. */
function resolve(argument: unknown, inputs: readonly Tensor[]): unknown {
  if (typeof argument === 'string' && argument.startsWith('$')) return inputs[Number(argument.slice(1))]!;
  if (Array.isArray(argument)) return argument.map((item) => resolve(item, inputs));
  if (typeof argument !== 'object' || argument === null) return argument;
  return Object.fromEntries(Object.entries(argument).map(([key, item]) => [key, resolve(item, inputs)]));
}

/** The results of the entry's function as a list, whether it returns a tensor, an array or a record. */
function call({ op, args }: Entry, inputs: readonly Tensor[]): Tensor[] {
  const f = api[op] as (...args: unknown[]) => Tensor | Tensor[] | Record<string, Tensor>;
  const result = f(...args.map((argument) => resolve(argument, inputs)));
  return result instanceof Tensor ? [result] : Object.values(result);
}

function feed({ dtype, data }: Golden): Feed {
  const numbers = data.map((x) => x ?? Number.NaN);
  if (dtype === 'bool') return Uint8Array.from(numbers);
  return dtype === 'int32' ? Int32Array.from(numbers) : Float32Array.from(numbers);
}

function expectClose(actual: Value, golden: Golden, label: string): void {
  expect({ dtype: actual.dtype, shape: actual.shape }, label).toEqual({
    dtype: golden.dtype,
    shape: golden.shape,
  });
  const exact = golden.dtype === 'int32' || golden.dtype === 'bool';
  const largest = golden.data.reduce<number>((most, x) => Math.max(most, Math.abs(x ?? 0)), 0);
  const allowed = exact ? 0 : tolerance * largest;
  golden.data.forEach((x, i) => {
    const got = actual.data[i]!;
    const fits = x === null ? Number.isNaN(got) : Math.abs(got - x) <= allowed;
    if (!fits) {
      expect.fail(`${label}[${i}] is ${got}, PyTorch has ${x} (error ${Math.abs(got - x!)}, allowed ${allowed})`);
    }
  });
}

/** Runs a program over tensors by name. */
async function run(
  tensors: Readonly<Record<string, Golden>>,
  body: (inputs: Readonly<Record<string, Tensor>>) => Record<string, Tensor>,
): Promise<Record<string, Value>> {
  const types = Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape }]): [string, InputType] => [name, { dtype, shape }]),
  );
  const feeds = Object.fromEntries(Object.entries(tensors).map(([name, golden]) => [name, feed(golden)]));
  const step = program(types, body);
  try {
    return await step(feeds);
  } finally {
    step.dispose();
  }
}

const named = <T>(prefix: string, list: readonly T[]): Record<string, T> =>
  Object.fromEntries(list.map((item, i) => [`${prefix}${i}`, item]));

async function check(entry: Entry): Promise<void> {
  const inputs = named('in', entry.inputs);
  const outputsOf = (t: Readonly<Record<string, Tensor>>) => call(entry, entry.inputs.map((_, i) => t[`in${i}`]!));
  const forward = await run(inputs, (t) => named('out', outputsOf(t)));
  expect(Object.keys(forward)).toHaveLength(entry.outputs.length);
  entry.outputs.forEach((golden, i) => {
    expectClose(forward[`out${i}`]!, golden, `output ${i}`);
  });

  const wanted = entry.grads.flatMap((g, i) => (g ? [i] : []));
  const seeded = entry.cotangents.flatMap((c, i) => (c ? [i] : []));
  if (wanted.length === 0 || seeded.length === 0) return;
  const cotangents = Object.fromEntries(seeded.map((i) => [`seed${i}`, entry.cotangents[i]!]));
  const values = await run({ ...inputs, ...cotangents }, (t) => {
    const outputs = outputsOf(t);
    const wrt = wanted.map((i) => t[`in${i}`]!);
    const grads = vjp(
      seeded.map((i) => outputs[i]!),
      wrt,
      seeded.map((i) => t[`seed${i}`]!),
    );
    return {
      ...named('out', outputs),
      ...Object.fromEntries(wanted.map((i, k) => [`grad${i}`, grads[k] ?? zerosLike(wrt[k]!)])),
    };
  });
  entry.outputs.forEach((golden, i) => {
    expectClose(values[`out${i}`]!, golden, `output ${i} beside its gradient`);
  });
  for (const i of wanted) expectClose(values[`grad${i}`]!, entry.grads[i]!, `gradient of input ${i}`);
}

describe('ops agree with PyTorch', () => {
  for (const [i, entry] of entries.entries()) {
    const shapes = entry.inputs.map(({ dtype, shape }) => `${dtype === 'float32' ? '' : dtype}[${shape}]`);
    const statics = entry.args.filter((argument) => !/^\$\d$/.test(String(argument)));
    it(`${i}: ${entry.op}(${shapes.join(', ')}) ${statics.map((a) => JSON.stringify(a)).join(' ')}`.trim(), () =>
      check(entry));
  }
});
