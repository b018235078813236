import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as anneal from '../../src/index.js';
import {
  type InputType,
  interpret,
  program,
  Tensor,
  type TypedArray,
  tensor,
  type Value,
  vjp,
  zerosLike,
} from '../../src/index.js';

/** A recorded tensor, float32 by default; null is NaN. */
interface Golden {
  dtype?: 'float32' | 'float64' | 'int32' | 'bool';
  shape: number[];
  data: (number | null)[];
}

/** One call recorded by test/golden/record.py, whose docstring describes the fields. */
interface Entry {
  op: string;
  args: unknown[];
  inputs: Golden[];
  outputs: Golden[];
  cotangents: (Golden | null)[];
  grads: (Golden | null)[];
}

/** The gradient of an entry's gradients: with respect to its float inputs, then to its cotangents. */
interface SecondEntry extends Pick<Entry, 'op' | 'args' | 'inputs' | 'cotangents'> {
  seeds: Golden[];
  grads: Golden[];
}

const read = <T>(name: string): T[] =>
  JSON.parse(readFileSync(new URL(`../golden/${name}`, import.meta.url), 'utf8')) as T[];

/** Largest error of a float relative to the largest magnitude of its tensor. Integers and bools are exact. */
const tolerance = 2e-6;
/** The same for the reference interpreter: float64, but with the scalars of formulas rounded to float32. */
const referenceTolerance = 1e-7;
/** The same for second derivatives, whose terms cancel more. */
const secondTolerance = 4e-6;
/** Ops whose float32 formula is worse conditioned than that. */
const looser: Readonly<Record<string, number>> = {
  // The gradient is exp(x - y), and float32 has y near 100 to 4e-6.
  logSumExp: 1e-5,
};

const api: Readonly<Record<string, unknown>> = anneal;

/** The argument with tensors in the places of "$i". */
function resolve(argument: unknown, inputs: readonly Tensor[]): unknown {
  if (typeof argument === 'string' && argument.startsWith('$')) return inputs[Number(argument.slice(1))]!;
  if (Array.isArray(argument)) return argument.map((item) => resolve(item, inputs));
  if (typeof argument !== 'object' || argument === null) return argument;
  return Object.fromEntries(Object.entries(argument).map(([key, item]) => [key, resolve(item, inputs)]));
}

/** The results of the entry's function as a list, whether it returns a tensor, an array or a record. */
function call({ op, args }: Pick<Entry, 'op' | 'args'>, inputs: readonly Tensor[]): Tensor[] {
  const f = api[op] as (...args: unknown[]) => Tensor | Tensor[] | Record<string, Tensor>;
  const result = f(...args.map((argument) => resolve(argument, inputs)));
  return result instanceof Tensor ? [result] : Object.values(result);
}

function feed({ dtype = 'float32', data }: Golden): TypedArray {
  const numbers = data.map((x) => x ?? Number.NaN);
  if (dtype === 'bool') return Uint8Array.from(numbers);
  return dtype === 'int32' ? Int32Array.from(numbers) : Float32Array.from(numbers);
}

/** A result: of the runtime, or of the interpreter. */
type Result = Pick<Value, 'dtype' | 'shape'> & { data: ArrayLike<number> };

function expectClose(actual: Result, golden: Golden, relative: number, label: string): void {
  const { dtype = 'float32', shape } = golden;
  expect({ dtype: actual.dtype, shape: actual.shape }, label).toEqual({ dtype, shape });
  const largest = golden.data.reduce<number>((most, x) => Math.max(most, Math.abs(x ?? 0)), 0);
  const allowed = dtype === 'int32' || dtype === 'bool' ? 0 : relative * largest;
  golden.data.forEach((x, i) => {
    const got = actual.data[i]!;
    const fits = x === null ? Number.isNaN(got) : Math.abs(got - x) <= allowed;
    if (!fits)
      expect.fail(`${label}, element ${i}: ${got}, PyTorch has ${x ?? 'NaN'}; allowed error ${allowed}`);
  });
}

/** Runs a program over tensors by name. */
async function run(
  tensors: Readonly<Record<string, Golden>>,
  body: (inputs: Readonly<Record<string, Tensor>>) => Record<string, Tensor>,
): Promise<Record<string, Value>> {
  const types: Record<string, InputType> = {};
  const feeds: Record<string, TypedArray> = {};
  for (const [name, golden] of Object.entries(tensors)) {
    types[name] = { dtype: golden.dtype ?? 'float32', shape: golden.shape };
    feeds[name] = feed(golden);
  }
  const step = program(types, body);
  try {
    return await step(feeds);
  } finally {
    step.dispose();
  }
}

/** Record of the entries that are not null, under numbered names. */
const numbered = <T>(prefix: string, list: readonly (T | null | undefined)[]): Record<string, T> =>
  Object.fromEntries(list.flatMap((item, i) => (item ? [[`${prefix}${i}`, item]] : [])));

/** The tensors of these numbers under a prefix. */
const pick = (t: Readonly<Record<string, Tensor>>, prefix: string, indices: readonly number[]) =>
  indices.map((i) => t[`${prefix}${i}`]!);

const present = (list: readonly unknown[]) => list.flatMap((item, i) => (item ? [i] : []));

/**
 * By the reference interpreter; then by the runtime: outputs alone (together, and each by itself), gradients
 * alone, and all at once. What a program returns decides what it fuses and which outputs its nodes have.
 */
async function check(entry: Entry): Promise<void> {
  const relative = looser[entry.op] ?? tolerance;
  const operands = [...entry.inputs.keys()];
  const wanted = present(entry.grads);
  const seeded = present(entry.cotangents);
  const differentiable = wanted.length > 0 && seeded.length > 0;
  const tensors = { ...numbered('in', entry.inputs), ...numbered('seed', entry.cotangents) };
  const expected = {
    ...numbered('out', entry.outputs),
    ...(differentiable ? numbered('grad', entry.grads) : {}),
  };

  const everything = (t: Readonly<Record<string, Tensor>>): Record<string, Tensor> => {
    const outputs = call(entry, pick(t, 'in', operands));
    if (!differentiable) return numbered('out', outputs);
    const wrt = pick(t, 'in', wanted);
    const seeds = pick(t, 'seed', seeded);
    const grads = vjp(
      seeded.map((i) => outputs[i]!),
      wrt,
      seeds,
    );
    const named = wanted.map((i, k) => [`grad${i}`, grads[k] ?? zerosLike(wrt[k]!)] as const);
    return { ...numbered('out', outputs), ...Object.fromEntries(named) };
  };

  const all = Object.keys(expected);
  const outputs = all.filter((name) => name.startsWith('out'));
  const grads = all.filter((name) => name.startsWith('grad'));
  const subsets = [outputs, ...(outputs.length > 1 ? outputs.map((name) => [name]) : [])];
  if (differentiable) subsets.push(grads, all);
  const constants = Object.entries(tensors).map(([name, golden]) => {
    return [name, tensor(feed(golden), golden.shape, golden.dtype)] as const;
  });
  const reference = everything(Object.fromEntries(constants));
  interpret(all.map((name) => reference[name]!)).forEach((value, i) => {
    expectClose(value, expected[all[i]!]!, referenceTolerance, `${all[i]} of the reference interpreter`);
  });
  for (const names of subsets) {
    const values = await run(tensors, (t) => {
      const made = everything(t);
      expect(Object.keys(made)).toEqual(all);
      return Object.fromEntries(names.map((name) => [name, made[name]!]));
    });
    for (const name of names) {
      expectClose(values[name]!, expected[name]!, relative, `${name} of a program that returns ${names}`);
    }
  }
}

async function checkSecond(entry: SecondEntry): Promise<void> {
  const floating = present(entry.inputs.map(({ dtype }) => !dtype));
  const seeded = present(entry.cotangents);
  const tensors = {
    ...numbered('in', entry.inputs),
    ...numbered('cotangent', entry.cotangents),
    ...numbered('seed', entry.seeds),
  };
  const values = await run(tensors, (t) => {
    const outputs = call(entry, pick(t, 'in', [...entry.inputs.keys()]));
    const wrt = pick(t, 'in', floating);
    const cotangents = pick(t, 'cotangent', seeded);
    const first = vjp(
      seeded.map((i) => outputs[i]!),
      wrt,
      cotangents,
    );
    const leaves = [...wrt, ...cotangents];
    const grads = vjp(
      first.map((g, i) => g ?? zerosLike(wrt[i]!)),
      leaves,
      pick(t, 'seed', [...entry.seeds.keys()]),
    );
    return numbered(
      'grad',
      grads.map((g, i) => g ?? zerosLike(leaves[i]!)),
    );
  });
  entry.grads.forEach((golden, i) => {
    expectClose(values[`grad${i}`]!, golden, secondTolerance, `second gradient ${i}`);
  });
}

function title(i: number, { op, args, inputs }: Pick<Entry, 'op' | 'args' | 'inputs'>): string {
  const shapes = inputs.map(({ dtype, shape }) => `${dtype ?? ''}[${shape}]`);
  const rest = args.filter((argument) => !/^\$\d$/.test(String(argument)));
  return [`${i} ${op}(${shapes.join(', ')})`, ...rest.map((item) => JSON.stringify(item))].join(' ');
}

describe('ops and their gradients agree with PyTorch', () => {
  for (const [i, entry] of read<Entry>('ops.json').entries()) it(title(i, entry), () => check(entry));
});

describe('gradients of gradients agree with PyTorch', () => {
  for (const [i, entry] of read<SecondEntry>('second.json').entries()) {
    it(title(i, entry), () => checkSecond(entry));
  }
});
