import { beforeAll, describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import type { Backend, ExecutableSpec, Slot } from '../../src/runtime/backend.js';
import { createNodeBackend } from '../../src/runtime/node/backend.js';
import { accumulator, collectGarbage, floats, model, node, port, ramp, rejection, slot } from './models.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend('cpu', { threads: 2 });
});

/** w <- factor w + x, which does not commute: the result tells the order of the runs. */
function affine(variable: Slot, factor: number): ExecutableSpec {
  const [w, x, next] = [port('w', variable.shape), port('x', variable.shape), port('next', variable.shape)];
  const raw = new Uint8Array(floats(factor).buffer);
  const nodes = [node('Mul', ['w', 'k'], ['kw']), node('Add', ['kw', 'x'], ['next'])];
  return {
    label: `times ${factor}`,
    model: model(nodes, [x, w], [next], [{ name: 'k', dtype: 'float32', dims: [], raw }]),
    inputs: [x],
    outputs: [],
    slots: [{ slot: variable, input: 'w', output: 'next', inPlace: false }],
  };
}

/** w <- w + table[index], which fails at run time for an index outside of the table. */
function lookup(variable: Slot): ExecutableSpec {
  const [w, next] = [port('w', [2]), port('next', [2])];
  const [table, index] = [port('table', [3, 2]), port('index', [], 'int32')];
  const nodes = [node('Gather', ['table', 'index'], ['row']), node('Add', ['w', 'row'], ['next'])];
  return {
    label: 'lookup',
    model: model(nodes, [table, index, w], [next]),
    inputs: [table, index],
    outputs: [],
    slots: [{ slot: variable, input: 'w', output: 'next', inPlace: false }],
  };
}

describe.each([4, 3000])('a variable of %i elements', (length) => {
  it('swaps its two buffers with each run', async () => {
    const variable = slot([length], ramp(length));
    const before = variable.data;
    const add = await backend.compile(accumulator(variable, 'add'));
    const [sum] = await add.run([ramp(length)]);
    expect(variable.data).not.toBe(before);
    expect(variable.spare).toBe(before);
    expect(variable.data).toEqual(ramp(length, 2));
    expect(before).toEqual(ramp(length));
    expect(sum).toEqual(ramp(length, 2));

    add.runSync([ramp(length)]);
    expect(variable.data).toBe(before);
    expect(variable.data).toEqual(ramp(length, 3));
  });

  it('is written where it is if the binding says so', async () => {
    const variable = slot([length], ramp(length));
    const { data } = variable;
    const add = await backend.compile(accumulator(variable, 'add', true));
    await add.run([ramp(length)]);
    add.runSync([ramp(length)]);
    expect(variable.data).toBe(data);
    expect(variable.spare).toBeUndefined();
    expect(data).toEqual(ramp(length, 3));
  });

  it('may be replaced by the host between runs', async () => {
    const variable = slot([length], ramp(length));
    const add = await backend.compile(accumulator(variable, 'add'));
    await add.run([ramp(length)]);
    for (let round = 0; round < 3; round++) {
      variable.data = allocate('float32', length);
      variable.data.fill(round);
      await add.run([ramp(length)]);
      expect(variable.data.at(-1)).toBe(length - 1 + round);
    }
    variable.data.fill(1);
    expect(add.runSync([ramp(length)])[0]!.at(-1)).toBe(length);
  });

  it('is shared by several programs, whose runs happen in the order of the calls', async () => {
    const factors = [0.5, -0.75, 0.25];
    const variable = slot([length], new Float32Array(length).fill(1));
    const programs = await Promise.all(factors.map((factor) => backend.compile(affine(variable, factor))));
    let expected = 1;
    const runs: Promise<unknown>[] = [];
    for (let i = 0; i < 60; i++) {
      const choice = (i * i + 1) % 3;
      const x = i % 5;
      runs.push(programs[choice]!.run([new Float32Array(length).fill(x)]));
      expected = Math.fround(Math.fround(factors[choice]! * expected) + x);
    }
    await Promise.all(runs);
    expect(variable.data).toEqual(new Float32Array(length).fill(expected));
    await collectGarbage();
    expect(variable.data).toEqual(new Float32Array(length).fill(expected));
  });
});

describe('variables', () => {
  it('keep their value where a run fails', async () => {
    const variable = slot([2], [1, 2]);
    const program = await backend.compile(lookup(variable));
    const table = floats(10, 20, 30, 40, 50, 60);
    const { data } = variable;
    const error = await rejection(program.run([table, Int32Array.of(7)]));
    expect(error.message).toMatch(/^lookup: .*Gather.*out of data bounds|^lookup: .*indices element/s);
    expect(() => program.runSync([table, Int32Array.of(-9)])).toThrow(/^lookup: /);
    expect(variable.data).toBe(data);
    expect(data).toEqual(floats(1, 2));

    // The backend works on after a failure.
    await program.run([table, Int32Array.of(2)]);
    expect(variable.data).toEqual(floats(51, 62));
  });

  it('may be assigned without being read, and read without being assigned', async () => {
    const [source, target] = [slot([3], [1, 2, 3]), slot([3], [0, 0, 0])];
    const copy = await backend.compile({
      label: 'copy',
      model: model([node('Neg', ['s'], ['t'])], [port('s', [3])], [port('t', [3])]),
      inputs: [],
      outputs: [],
      slots: [
        { slot: source, input: 's', output: undefined, inPlace: false },
        { slot: target, input: undefined, output: 't', inPlace: false },
      ],
    });
    expect(await copy.run([])).toEqual([]);
    expect(target.data).toEqual(floats(-1, -2, -3));
    expect(source.data).toEqual(floats(1, 2, 3));
    expect(source.spare).toBeUndefined();
  });

  it('may be scalars or have no elements', async () => {
    const scalar = slot([], [5]);
    await (await backend.compile(accumulator(scalar, 'scalar'))).run([floats(2)]);
    expect(scalar.data).toEqual(floats(7));
    const empty = slot([0, 4], []);
    const program = await backend.compile(accumulator(empty, 'empty'));
    expect(await program.run([new Float32Array(0)])).toEqual([new Float32Array(0)]);
    expect(empty.data).toEqual(new Float32Array(0));
  });

  it('cannot share a name with a result', async () => {
    const add = accumulator(slot([1], [0]), 'add');
    const before = backend.stats().executables;
    const error = await rejection(backend.compile({ ...add, outputs: [port('next', [1])] }));
    expect(error.message).toBe('add: next is bound twice');
    expect(backend.stats().executables).toBe(before);
  });

  it('are refused if native code cannot hold their memory', async () => {
    const variable: Slot = { dtype: 'float32', shape: [4], data: new Float32Array(4), spare: undefined };
    const program = await backend.compile(accumulator(variable, 'add'));
    expect((await rejection(program.run([floats(1, 2, 3, 4)]))).message).toMatch(/allocate\(\)/);
    variable.data = allocate('float32', 3);
    expect((await rejection(program.run([floats(1, 2, 3, 4)]))).message).toMatch(/3 elements, not 4/);
  });
});
