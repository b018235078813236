import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseSandboxes } from '../../src/verify/sandbox/choose.js';
import { SandboxPool } from '../../src/verify/sandbox/pool.js';
import type { SandboxLimits, SandboxName } from '../../src/verify/sandbox/sandbox.js';
import { bridgeAttempts, javascriptAttempts, pythonAttempts } from './battery.js';

const timeMs = 400;
/** What a loaded machine may add to a time limit; the limit itself is asserted from below, exactly. */
const slack = 200 + 1500;

let folder: string;
let server: Server;
let visits = 0;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'anneal-battery-'));
  writeFileSync(path.join(folder, 'secret'), 'the secret');
  server = createServer((_, response) => {
    visits++;
    response.end('hello');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Processes that descend from this one and are alive: not what has ended and waits for its parent to notice. */
function descendants(): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state !== 'Z') parents.set(Number(name), Number(parent));
    } catch {
      // It ended while we looked.
    }
  }
  const isOurs = (pid: number): boolean =>
    pid === process.pid || (parents.has(pid) && isOurs(parents.get(pid)!));
  return [...parents.keys()].filter((pid) => pid !== process.pid && isOurs(pid));
}

const sampled = new Set([
  'file: read',
  'process: system',
  'network: connect',
  'memory bomb',
  'fork bomb',
  'infinite loop that catches everything',
  'output flood',
  'recursion without a limit',
]);

const names: SandboxName[] = ['bubblewrap', 'pyodide', 'quickjs'];
const choices = await Promise.all(names.map((name) => chooseSandboxes({ sandboxes: [name] })));

describe.each(names.map((name, i) => [name, choices[i]!] as const))('%s', (name, choice) => {
  const sandbox = choice.sandboxes[0];
  if (!sandbox) {
    if (process.env.CI && choice.unusable[0]!.reason.includes('not installed')) {
      it('is installed', () => expect.fail(choice.unusable[0]!.reason));
      return;
    }
    console.warn(`${name} is not tested: ${choice.unusable[0]!.reason}`);
    it.skip('holds everything in', () => {});
    return;
  }

  const memoryBytes = 2 ** 27;
  let pool: SandboxPool;
  let before: number[];
  beforeAll(() => {
    before = descendants();
    pool = new SandboxPool(sandbox, { timeMs, memoryBytes, outputBytes: 2 ** 18 }, { workers: 2, spare: 1 });
  });
  afterAll(async () => {
    await pool.close();
    await sandbox.close();
  });

  /** Loads a program and calls its function `f`. */
  async function attempt(source: string, limitMs = timeMs) {
    const loan = await pool.acquire();
    try {
      const loaded = await loan.session.request({ op: 'load', source }, { timeMs: limitMs });
      const reply = loaded.ok
        ? await loan.session.request({ op: 'call', name: 'f', args: [] }, { timeMs: limitMs })
        : loaded;
      const started = performance.now();
      await loan.release();
      return { reply, endMs: performance.now() - started };
    } finally {
      await loan.release();
    }
  }

  const attempts = {
    bubblewrap: pythonAttempts,
    quickjs: javascriptAttempts,
    // A boot takes most of a second, so one attempt of each kind.
    pyodide: (secret: string, port: number) => [
      ...bridgeAttempts(secret, port),
      ...pythonAttempts(secret, port).filter((one) => sampled.has(one.name)),
    ],
  }[name];
  // The secret's path and the port are known only once the test runs; names do not depend on them.
  it.each(attempts('', 0).map(({ name }, index) => [name, index] as const))('holds: %s', async (_, index) => {
    const { source, ends } = attempts(path.join(folder, 'secret'), (server.address() as AddressInfo).port)[
      index
    ]!;
    // What another limit must end gets the time for it on a loaded machine.
    const limitMs = ends.includes('timeout') ? timeMs : 10_000;
    // A machine that stands still makes everything late: how long it stood is measured beside, and allowed for.
    let stall = 0;
    let tick = performance.now();
    const watch = setInterval(() => {
      stall = Math.max(stall, performance.now() - tick - 20);
      tick = performance.now();
    }, 20);
    const { reply, endMs } = await attempt(source, limitMs);
    await new Promise((resolve) => setTimeout(resolve, 25));
    clearInterval(watch);
    const end = reply.ok
      ? reply.value === true
        ? 'contained'
        : `escaped: ${JSON.stringify(reply.value)}`
      : reply.kind;
    expect(ends, reply.ok ? '' : reply.message).toContain(end);
    expect(reply.ms).toBeLessThan(limitMs + slack + stall);
    if (end === 'timeout') expect(reply.ms).toBeGreaterThanOrEqual(limitMs - 5);
    expect(endMs).toBeLessThan(slack + stall);
    expect(visits).toBe(0);
    expect(readdirSync(folder)).toEqual(['secret']);
    expect(readFileSync(path.join(folder, 'secret'), 'utf8')).toBe('the secret');
  });

  it('replaces an interpreter that something ended while it waited', async () => {
    let boots = 0;
    const boot = async (limits: SandboxLimits) => {
      const interpreter = await sandbox.boot(limits);
      if (boots++ === 0) {
        await interpreter.kill();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return interpreter;
    };
    const { name: own, language, description, slowdown } = sandbox;
    const wrapped = { name: own, language, description, slowdown, boot, close: () => Promise.resolve() };
    const small = new SandboxPool(wrapped, pool.limits, { workers: 1, spare: 0 });
    const loan = await small.acquire();
    const reply = await loan.session.request({ op: 'value', source: '1 + 1' });
    expect(reply).toMatchObject({ ok: true, value: ['i', '2'] });
    await loan.release();
    await small.close();
    expect(boots).toBe(2);
  });

  it('still works afterwards, and leaves no process behind', async () => {
    const source = sandbox.language === 'python' ? 'def f(): return 6 * 7' : 'const f = () => 6 * 7';
    const { reply } = await attempt(source);
    expect(reply).toMatchObject({ ok: true, value: ['i', '42'] });
    await pool.close();
    // What was killed needs a moment to be gone from the table of processes.
    const left = () => descendants().filter((pid) => !before.includes(pid));
    for (let wait = 0; wait < 40 && left().length > 0; wait++) await new Promise((r) => setTimeout(r, 50));
    expect(left()).toEqual([]);
  });
});
