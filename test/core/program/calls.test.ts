import { describe, expect, it } from 'vitest';
import { AnnealError, matmul, mul, program, sub, sum, tensor } from '../../../src/index.js';
import { floats, named, ramp, rejection } from './helpers.js';

describe('calls', () => {
  it('can be synchronous once compiled', async () => {
    const run = program({ x: [null] }, ({ x }) => ({ y: x.add(1) }), { name: 'inc' });
    expect(() => run.runSync({ x: floats(1) })).toThrow(
      'inc: not compiled for these shapes; await compile() or a call first',
    );
    expect(() => run.text()).toThrow('inc: not compiled yet; await compile() or a call first');
    expect(() => run.report()).toThrow('inc: not compiled yet; await compile() or a call first');
    await run.compile({ x: floats(1) });
    expect(run.runSync({ x: floats(1) }).y.item()).toBe(2);
    expect(() => run.runSync({ x: floats(1, 2) })).toThrow('inc: not compiled for these shapes');
    const pending = run({ x: floats(5) });
    expect(() => run.runSync({ x: floats(1) })).toThrow('inc: runSync while a program runs; await it first');
    expect((await pending).y.item()).toBe(6);
  });

  it('take effect in their order, across programs and their compilations', async () => {
    const w = named('w', [1]);
    const double = program({ x: [null] }, ({ x }) => {
      w.assign(w.mul(2).add(sum(x)));
      return { w };
    });
    const minus = program({}, () => {
      w.assign(sub(0, w));
      return { w };
    });
    // Each call with a new length compiles first; the others must still wait for it.
    const results = await Promise.all([
      double({ x: floats(1) }),
      minus({}),
      double({ x: floats(1, 1) }),
      double({ x: floats(3) }),
      minus({}),
      double({ x: floats(1, 1, 1) }),
    ]);
    expect(results.map((r) => r.w.item())).toEqual([1, 3, -3, -4, -5, 5]);
    expect(w.read()).toEqual(floats(13));
  });

  it('go on after one that fails', async () => {
    const w = named('w', [1]);
    const good = program({}, () => {
      w.assign(w.add(1));
      return {};
    });
    const bad = program({}, () => ({ y: matmul(w, tensor([1, 2])) }));
    const outcomes = await Promise.allSettled([good({}), bad({}), good({})]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(w.read()).toEqual(floats(3));
  });

  it('compile once for equal shapes', async () => {
    let traces = 0;
    const run = program({ x: [null] }, ({ x }) => {
      traces++;
      return { y: x.neg() };
    });
    await Promise.all([run({ x: ramp(2) }), run({ x: ramp(2) }), run.compile({ x: ramp(2) })]);
    await run({ x: ramp(2) });
    expect(traces).toBe(1);
    await run({ x: ramp(3) });
    expect(traces).toBe(2);
  });
});

describe('errors of the body', () => {
  it('name the op, both shapes and the line', async () => {
    const run = program({ x: [2, 3] }, ({ x }) => ({ y: matmul(x, tensor([[1, 2]])) }));
    const error = await rejection(run.compile({ x: ramp(6) }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(
      /^matmul\(float32\[2,3\], float32\[1,2\]\): inner sizes 3 and 1 differ \(\[2,3\] times \[1,2\]\) \(at .*test\/core\/program\/calls\.test\.ts:\d+:\d+\)$/,
    );
  });

  it('name the line of elementwise ops, through methods and functions', () => {
    const place =
      /shapes \[2\] and \[3\] do not broadcast.* \(at .*test\/core\/program\/calls\.test\.ts:\d+:\d+\)$/;
    expect(() => tensor([1, 2]).add(tensor([1, 2, 3]))).toThrow(place);
    expect(() => mul(tensor([1, 2]), tensor([1, 2, 3]))).toThrow(place);
  });

  it('refuse async bodies and results that are no tensors', async () => {
    const later = program({}, (async () => ({ y: tensor(1) })) as never, { name: 'later' });
    await expect(later.compile({})).rejects.toThrow(
      'later: the body is async; tracing needs a plain function',
    );
    const number = program({}, (() => ({ y: 3 })) as never, { name: 'number' });
    await expect(number.compile({})).rejects.toThrow('number: output "y" is no tensor');
  });

  it('refuse programs that do nothing', async () => {
    const nothing = program({ x: [1] }, () => ({}), { name: 'nothing' });
    const error = await rejection(nothing.compile({ x: floats(1) }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(/^nothing: /);
  });

  it('are thrown again by the next call, which traces again', async () => {
    let traces = 0;
    const run = program({}, () => {
      if (traces++ === 0) throw new Error('at first');
      return { y: tensor(1) };
    });
    await expect(run({})).rejects.toThrow('at first');
    expect((await run({})).y.item()).toBe(1);
  });
});
