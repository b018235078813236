import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { beforeEach, describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import type { Backend } from '../../src/runtime/backend.js';
import { createNodeBackend } from '../../src/runtime/node/backend.js';
import { loadOrt, type OrtApi } from '../../src/runtime/node/ort-api.js';
import {
  accumulator,
  collectGarbage,
  constant,
  floats,
  node,
  port,
  ramp,
  rejection,
  slot,
  spec,
} from './models.js';

let backend: Backend;
beforeEach(async () => {
  backend = await createNodeBackend('cpu', { threads: 2 });
});

/** A chain of matrix products that takes some 100 ms. */
const slow = () => {
  const side = 700;
  const nodes = Array.from({ length: 12 }, (_, i) => node('MatMul', [i ? `p${i}` : 'a', 'a'], [`p${i + 1}`]));
  return spec('slow', nodes, [port('a', [side, side])], [port('p12', [side, side])]);
};
const slowFeed = new Float32Array(700 * 700);

describe('queue', () => {
  it('refuses synchronous runs while an asynchronous one is pending', async () => {
    const add = await backend.compile(accumulator(slot([1], [0]), 'add'));
    const run = add.run([floats(1)]);
    expect(() => add.runSync([floats(1)])).toThrow('add: runSync while an asynchronous run is pending');
    await run;
    expect(add.runSync([floats(1)])).toEqual([floats(2)]);
  });

  it('goes on after a failed run', async () => {
    const add = await backend.compile(accumulator(slot([1], [0]), 'add'));
    const runs = [add.run([floats(1)]), add.run([floats(1, 2)]), add.run([floats(1)])];
    const outcomes = await Promise.allSettled(runs);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(add.runSync([floats(1)])).toEqual([floats(3)]);
  });

  it('is idle when every run has ended, those started meanwhile included', async () => {
    const variable = slot([1], [0]);
    const add = await backend.compile(accumulator(variable, 'add'));
    void add.run([floats(1)]).then(() => add.run([floats(1)]));
    void add.run([floats(1)]);
    await backend.idle();
    expect(variable.data).toEqual(floats(3));
    expect(backend.stats().runs).toBe(3);
  });

  it('does not hold up the event loop, nor compilations', async () => {
    const program = await backend.compile(slow());
    const order: string[] = [];
    const run = program.run([slowFeed]).then(() => order.push('run'));
    await backend.compile(accumulator(slot([1], [0]), 'add')).then(() => order.push('compile'));
    await run;
    expect(order).toEqual(['compile', 'run']);
  });

  it('compiles many programs at once', async () => {
    const variable = slot([1], [0]);
    const specs = Array.from({ length: 300 }, () => accumulator(variable, 'add'));
    const programs = await Promise.all(specs.map((one) => backend.compile(one)));
    for (const program of programs) program.runSync([floats(1)]);
    expect(variable.data).toEqual(floats(300));
    for (const program of programs) program.release();
  });
});

describe('release', () => {
  it('ends the program and what it held', async () => {
    const program = await backend.compile(slow());
    const add = await backend.compile(accumulator(slot([2000], ramp(2000)), 'add'));
    await add.run([ramp(2000)]);
    expect(backend.stats()).toEqual({ executables: 2, liveBytes: 16000, runs: 1 });
    program.release();
    program.release();
    add.release();
    expect(backend.stats().executables).toBe(0);
    expect((await rejection(add.run([ramp(2000)]))).message).toBe('add: run after release');
    expect(() => add.runSync([ramp(2000)])).toThrow('add: run after release');
    expect((await rejection(add.profile([ramp(2000)], 1))).message).toBe('add: run after release');
  });

  it('lets accepted runs end', async () => {
    const program = await backend.compile(slow());
    const runs = [program.run([slowFeed]), program.run([slowFeed])];
    program.release();
    expect(backend.stats().executables).toBe(1);
    expect((await Promise.all(runs)).map(([result]) => result!.length)).toEqual([490_000, 490_000]);
    expect(backend.stats()).toEqual({ executables: 0, liveBytes: 0, runs: 2 });
  });

  it('happens by itself when nothing refers to a program or a variable any more', async () => {
    await (async () => {
      const add = await backend.compile(accumulator(slot([2000], ramp(2000)), 'add'));
      await add.run([ramp(2000)]);
      expect(backend.stats().executables).toBe(1);
    })();
    // Finalizers run some time after a collection; variables are found dead only after their programs.
    for (let i = 0; i < 20 && backend.stats().liveBytes > 0; i++) await collectGarbage();
    expect(backend.stats()).toEqual({ executables: 0, liveBytes: 0, runs: 1 });
  });
});

/** Has `onCall` run before each call of a C function; the functions are plain properties. Returns the undoing. */
function countCalls(name: keyof OrtApi, onCall: () => void): () => void {
  const api = loadOrt().api as Record<string, unknown>;
  const original = api[name] as (...args: unknown[]) => unknown;
  api[name] = (...args: unknown[]) => {
    onCall();
    return original(...args);
  };
  return () => {
    api[name] = original;
  };
}

describe('native handles', () => {
  it('are all released', async () => {
    const handles = { values: 0, options: 0 };
    const restore = [
      countCalls('CreateTensorWithDataAsOrtValue', () => handles.values++),
      countCalls('ReleaseValue', () => handles.values--),
      countCalls('CreateSessionOptions', () => handles.options++),
      countCalls('ReleaseSessionOptions', () => handles.options--),
    ];
    await (async () => {
      const variable = slot([2000], ramp(2000));
      const add = await backend.compile(accumulator(variable, 'add'));
      const small = await backend.compile(accumulator(slot([2], [1, 2]), 'small'));
      for (let i = 0; i < 5; i++) await add.run([ramp(2000)]);
      variable.data = allocate('float32', 2000);
      add.runSync([ramp(2000)]);
      await add.profile([ramp(2000)], 2);
      small.runSync([floats(1, 2)]);
      await rejection(add.run([ramp(3)]));
      await rejection(backend.compile({ ...accumulator(variable, 'junk'), model: new Uint8Array(4) }));
      expect(handles.values).toBeGreaterThan(0);
      add.release();
      small.release();
    })();
    for (let i = 0; i < 20 && handles.values > 0; i++) await collectGarbage();
    for (const undo of restore) undo();
    expect(handles).toEqual({ values: 0, options: 0 });
  });
});

describe('profile', () => {
  it('sums kernel times by node and changes variables like ordinary runs', async () => {
    const variable = slot([50_000], new Float32Array(50_000));
    const add = await backend.compile(accumulator(variable, 'add'));
    const folders = () => readdirSync(tmpdir()).filter((name) => name.startsWith('anneal-profile-'));
    const before = folders();
    const times = await add.profile([new Float32Array(50_000).fill(1)], 5);
    expect(times.find(({ node }) => node === 'next')).toMatchObject({ op: 'Add', calls: 5 });
    expect(times.every(({ ms }) => ms > 0)).toBe(true);
    // Five runs and the warm-up.
    expect(variable.data[0]).toBe(6);
    expect(folders()).toEqual(before);
    expect(backend.stats()).toMatchObject({ executables: 1, runs: 6 });
  });
});

describe('a thousand programs', () => {
  /** Each holds 256 KB of constants, so that a leak of all would be 250 MB. */
  const constants = constant('k', [65_536], ramp(65_536) as unknown as number[]);
  const one = () =>
    backend.compile(
      spec('one', [node('Mul', ['x', 'k'], ['y'])], [port('x', [1])], [port('y', [65_536])], [constants]),
    );
  const bound = 60 * 2 ** 20;

  /** Growth of resident memory from the 200th to the 1,000th program, in bytes. */
  async function growth(each: (i: number) => Promise<void>): Promise<number> {
    let start = 0;
    for (let i = 0; i < 1000; i++) {
      await each(i);
      if (i % 50 === 0) await collectGarbage();
      if (i === 200) start = process.memoryUsage().rss;
    }
    await collectGarbage();
    return process.memoryUsage().rss - start;
  }

  it('leave no memory behind when released', { timeout: 120_000 }, async () => {
    const grown = await growth(async () => {
      const program = await one();
      await program.run([floats(2)]);
      program.release();
    });
    expect(backend.stats()).toMatchObject({ executables: 0, liveBytes: 0 });
    expect(grown).toBeLessThan(bound);
  });

  it('leave no memory behind when dropped', { timeout: 120_000 }, async () => {
    const grown = await growth(async () => {
      await (await one()).run([floats(2)]);
    });
    for (let i = 0; i < 20 && backend.stats().executables > 0; i++) await collectGarbage();
    expect(backend.stats()).toMatchObject({ executables: 0, liveBytes: 0 });
    expect(grown).toBeLessThan(bound);
  });
});
