/**
 * Programs against tests. The program's interpreter never sees what is expected; arguments go in as plain data,
 * results come out as plain data, and they are compared on this side.
 */
import { randomBytes } from 'node:crypto';
import { AnnealError } from '../../core/errors.js';
import { chooseSandboxes, type SandboxChoice, type SandboxChoiceOptions } from '../sandbox/choose.js';
import { isPlain, type Json, sameValue, showWire, toWire, type Wire } from '../sandbox/plain.js';
import { type Loan, type PoolOptions, SandboxPool } from '../sandbox/pool.js';
import {
  defaultLimits,
  type Fault,
  type Reply,
  type Sandbox,
  type SandboxLimits,
} from '../sandbox/sandbox.js';
import type { Ask } from '../sandbox/session.js';
import { samePrinted } from './compare-text.js';
import { extractCode } from './extract.js';
import { asScript } from './javascript-source.js';
import type { CodeProblem, CodeTest, CodeVerdict, Language, Share, TestResult } from './problem.js';
import { shuffled } from './split-tests.js';

export interface CodeVerifierOptions extends PoolOptions, SandboxChoiceOptions {
  limits?: Partial<SandboxLimits>;
}

export interface VerifyCodeOptions {
  /** The order of the tests; by default another one every time, so that no program can count on it. */
  seed?: string;
  /** The response is the program: nothing is extracted. */
  raw?: boolean;
  /** Default false: the tests after the first failure are skipped. For rewards of all or nothing. */
  stopAtFailure?: boolean;
}

/**
 * The interpreters of a language: fresh ones for programs, and ones that serve again for a problem's own
 * checks.
 */
interface Pools {
  sandbox: Sandbox;
  programs: SandboxPool;
  checks: SandboxPool;
}

/** Milliseconds that a program's tests may take together, beyond the sum of their limits. */
const overheadMs = 5000;

/** A sandbox whose interpreters serve again: they run a problem's checks, never a program. */
const forChecks = (sandbox: Sandbox): Sandbox => ({
  name: sandbox.name,
  language: sandbox.language,
  description: sandbox.description,
  slowdown: sandbox.slowdown,
  boot: async (limits) => {
    const interpreter = await sandbox.boot(limits);
    interpreter.reset ??= () => Promise.resolve();
    return interpreter;
  },
  close: () => sandbox.close(),
});

/**
 * Runs programs against tests in sandboxes and compares on this side: what a test expects never enters the
 * interpreter that runs the program. Close it when done.
 */
export class CodeVerifier {
  readonly choice: SandboxChoice;
  readonly limits: SandboxLimits;
  readonly #pools = new Map<Language, Pools>();

  private constructor(choice: SandboxChoice, options: CodeVerifierOptions) {
    this.choice = choice;
    this.limits = { ...defaultLimits, ...options.limits };
    for (const sandbox of choice.sandboxes) {
      if (this.#pools.has(sandbox.language)) continue;
      const limits = { ...this.limits, timeMs: this.limits.timeMs * sandbox.slowdown };
      this.#pools.set(sandbox.language, {
        sandbox,
        programs: new SandboxPool(sandbox, limits, options),
        checks: new SandboxPool(forChecks(sandbox), limits, { ...options, spare: 0 }),
      });
    }
  }

  /** Looks what sandboxes this machine can use; `describe()` says which were chosen. */
  static async open(options: CodeVerifierOptions = {}): Promise<CodeVerifier> {
    return new CodeVerifier(await chooseSandboxes(options), options);
  }

  /** One line for each sandbox that is used or that cannot be. */
  describe(): string {
    const used = [...this.#pools.values()].map(
      ({ sandbox }) => `${sandbox.language}: ${sandbox.description}`,
    );
    const missing = this.choice.unusable.map(({ name, reason }) => `${name}: not used, ${reason}`);
    return [...used, ...missing].join('\n');
  }

  /**
   * Runs the program of a response against all tests. Never rejects. Where the machine has no sandbox for the
   * language it abstains: a program is never run outside one.
   */
  async verify(
    problem: CodeProblem,
    response: string,
    options: VerifyCodeOptions = {},
  ): Promise<CodeVerdict> {
    const start = performance.now();
    const pools = this.#pools.get(problem.language);
    const found = options.raw
      ? { code: response, span: { start: 0, end: response.length }, rule: 'whole' as const }
      : extractCode(response, problem.language);
    // Everything that a verdict says besides the tests.
    const end = (verdict: CodeVerdict['verdict'], reason: string, tests: TestResult[] = []): CodeVerdict => ({
      verdict,
      reason,
      tests,
      ...shares(tests),
      ...(pools && { sandbox: pools.sandbox.name }),
      ...(found && {
        extracted: found.code,
        answer: { text: found.code, span: found.span, rule: found.rule },
      }),
      ms: performance.now() - start,
    });
    if (!pools) return end('abstain', 'no-sandbox');
    if (problem.tests.length === 0) return end('abstain', 'no-tests');
    if (!found) return end('incorrect', 'no-code');
    // The run owns the interpreters; whatever happens they go back.
    const run = new ProgramRun(pools, problem, found.code, options);
    try {
      const tests = await run.all();
      const failed = tests.find(({ status }) => status !== 'pass' && status !== 'skipped');
      if (tests.some(({ status }) => status === 'runner')) return end('abstain', 'runner', tests);
      if (failed) return end('incorrect', failed.status, tests);
      const isDone = tests.every(({ status }) => status === 'pass');
      return end(isDone ? 'correct' : 'incorrect', isDone ? 'all-passed' : 'timeout', tests);
    } catch (error) {
      return end('abstain', `runner: ${error instanceof Error ? error.message.split('\n')[0] : 'failed'}`);
    } finally {
      await run.release();
    }
  }

  /**
   * What a response's program gives for inputs, in one interpreter and in their order, without a comparison: for
   * probes of its behaviour. Programs that are tested by their output get the first argument as standard input.
   * Calls after the second that runs into its time limit are not made; each of them replies `timeout`.
   * @throws AnnealError where the machine has no sandbox for the language
   */
  async outputs(
    problem: CodeProblem,
    response: string,
    inputs: readonly (readonly Wire[])[],
    options: Pick<VerifyCodeOptions, 'raw'> = {},
  ): Promise<Reply[]> {
    const pools = this.#pools.get(problem.language);
    if (!pools)
      throw new AnnealError(`this machine has no sandbox for ${problem.language}: ${this.describe()}`);
    const code = options.raw ? response : extractCode(response, problem.language)?.code;
    if (code === undefined) return inputs.map(() => noProgram);
    const run = new ProgramRun(pools, problem, code, options);
    try {
      return await run.outputs(inputs);
    } finally {
      await run.release();
    }
  }

  /** Ends every sandbox; resolves when no process or thread is left. */
  async close(): Promise<void> {
    for (const { programs, checks } of this.#pools.values()) {
      await Promise.all([programs.close(), checks.close()]);
    }
    await Promise.all(this.choice.sandboxes.map((sandbox) => sandbox.close()));
  }
}

const noProgram: Fault = { ok: false, kind: 'compile', message: 'the response holds no program', ms: 0 };

function shares(tests: readonly TestResult[]): { visible: Share; hidden: Share } {
  const share = (visible: boolean): Share => {
    const own = tests.filter((one) => one.visible === visible);
    return { passed: own.filter(({ status }) => status === 'pass').length, total: own.length };
  };
  return { visible: share(true), hidden: share(false) };
}

/** One program's tests: in one interpreter as long as it lives, in a new one after it was ended. */
class ProgramRun {
  readonly #pools: Pools;
  readonly #problem: CodeProblem;
  readonly #source: string;
  readonly #options: VerifyCodeOptions;
  readonly #timeMs: number;
  #loan: Loan | undefined;
  #checks: Loan | undefined;
  /** What loading the program's definitions came to. */
  #loaded: Reply | undefined;

  constructor(pools: Pools, problem: CodeProblem, code: string, options: VerifyCodeOptions) {
    this.#pools = pools;
    this.#problem = problem;
    this.#source = problem.language === 'javascript' ? asScript(code) : code;
    this.#options = options;
    const { sandbox, programs } = pools;
    this.#timeMs = problem.timeMs ? problem.timeMs * sandbox.slowdown : programs.limits.timeMs;
  }

  /** All tests in a shuffled order, each with its own clock, within a budget for all of them. */
  async all(): Promise<TestResult[]> {
    const { tests } = this.#problem;
    const results: TestResult[] = [];
    // The sum of the limits and some: a program that needs all of each is slow, not endless.
    const budget = tests.length * this.#timeMs + overheadMs * this.#pools.sandbox.slowdown;
    let spent = 0;
    let stopped = false;
    for (const index of shuffled(tests.length, this.#options.seed ?? randomBytes(8).toString('hex'))) {
      const test = tests[index]!;
      const base = { test: index, visible: test.visible ?? true };
      if (stopped || spent > budget) {
        results.push({ ...base, status: 'skipped', ms: 0 });
        continue;
      }
      let outcome = await this.#perform(test);
      // A fault of ours is tried once more, in another interpreter.
      if (outcome.status === 'runner') outcome = await this.#perform(test);
      results.push({ ...base, ...outcome });
      spent += outcome.ms;
      stopped = outcome.status !== 'pass' && this.#options.stopAtFailure === true;
    }
    return results.sort((a, b) => a.test - b.test);
  }

  /** What the program gives for each input; see `CodeVerifier.outputs`. */
  async outputs(inputs: readonly (readonly Wire[])[]): Promise<Reply[]> {
    const isWhole = this.#problem.tests.some(({ kind }) => kind === 'output');
    const replies: Reply[] = [];
    let timeouts = 0;
    for (const args of inputs) {
      if (timeouts >= 2) {
        replies.push({ ok: false, kind: 'timeout', message: 'not called', ms: 0 });
        continue;
      }
      const fault = await this.#ready(!isWhole);
      const reply = fault ?? (isWhole ? await this.#run(String(args[0] ?? '')) : await this.#callEntry(args));
      if (!reply.ok && reply.kind === 'timeout') timeouts++;
      replies.push(reply);
    }
    return replies;
  }

  #run(stdin: string): Promise<Reply> {
    return this.#loan!.session.request({ op: 'run', source: this.#source, stdin }, { timeMs: this.#timeMs });
  }

  #callEntry(args: readonly Wire[]): Promise<Reply> {
    return this.#call({ name: this.#problem.entry ?? '', args: [...args], keywords: [] });
  }

  async release(): Promise<void> {
    // Ending the old processes is nobody's wait but the closing pool's.
    void this.#loan?.release().catch(() => {});
    if (this.#checks) await this.#checks.release();
  }

  /** A live interpreter, with the program's definitions where the test needs them. */
  async #ready(load: boolean): Promise<Reply | undefined> {
    if (this.#loan && !this.#loan.session.alive) {
      void this.#loan.release().catch(() => {});
      this.#loan = undefined;
    }
    if (!this.#loan) {
      this.#loaded = undefined;
      this.#loan = await this.#pools.programs.acquire();
    }
    if (!load) return undefined;
    const request = { op: 'load' as const, source: this.#source };
    this.#loaded ??= await this.#loan.session.request(request, { timeMs: this.#timeMs });
    return this.#loaded.ok ? undefined : this.#loaded;
  }

  /** One test. What the program gives comes back as plain data, and is compared here. */
  async #perform(test: CodeTest): Promise<Pick<TestResult, 'status' | 'message' | 'ms'>> {
    // Every test finds fresh globals: a program that counts its calls always makes its first. QuickJS takes a script's
    // declarations only once, and a new context would cost more than the test.
    if (this.#problem.language === 'python') this.#loaded = undefined;
    const fault = await this.#ready(test.kind !== 'output');
    if (fault && !fault.ok) return { status: fault.kind, message: fault.message, ms: fault.ms };
    if (test.kind === 'assertion') return this.#assert(test);
    if (test.kind === 'output') {
      const reply = await this.#run(test.input);
      if (!reply.ok) return { status: reply.kind, message: reply.message, ms: reply.ms };
      const isSame = samePrinted(String(reply.value), test.expected, test.input, test.compare);
      return { status: isSame ? 'pass' : 'wrong', ms: reply.ms };
    }
    const reply = await this.#call({
      name: test.name ?? this.#problem.entry ?? '',
      args: test.args.map((one: Json) => toWire(one)),
      keywords: Object.entries(test.keywords ?? {}).map(([key, one]) => [key, toWire(one)]),
      ...(test.changed !== undefined && { changed: test.changed }),
    });
    if (!reply.ok) return { status: reply.kind, message: reply.message, ms: reply.ms };
    if (!isPlain(reply.value)) return { status: 'not-plain', message: showWire(reply.value), ms: reply.ms };
    const isSame = sameValue(reply.value, toWire(test.expected), test.compare);
    return { status: isSame ? 'pass' : 'wrong', message: `got ${showWire(reply.value)}`, ms: reply.ms };
  }

  #call(call: Ask & { changed?: number }): Promise<Reply> {
    return this.#loan!.session.request({ op: 'call', ...call }, { timeMs: this.#timeMs });
  }

  /**
   * A test in Python: its statements run in a second interpreter, where the entry is a stand-in that asks
   * the program's interpreter for each call. Faults of the program are told from failures of the assertion.
   */
  async #assert(
    test: CodeTest & { kind: 'assertion' },
  ): Promise<Pick<TestResult, 'status' | 'message' | 'ms'>> {
    if (this.#problem.language !== 'python')
      return { status: 'runner', message: 'assertion tests are of Python', ms: 0 };
    if (this.#checks && !this.#checks.session.alive) {
      await this.#checks.release();
      this.#checks = undefined;
    }
    this.#checks ??= await this.#pools.checks.acquire();
    const entry = this.#problem.entry ?? '';
    let fault: Fault | undefined;
    let isWhole = true;
    let ms = 0;
    // Serves the stand-in: a call of the program, whose time is the program's.
    const answer = async (ask: Ask): Promise<Reply> => {
      const reply = await this.#call(ask);
      ms += reply.ms;
      if (!reply.ok) fault ??= reply;
      else if (!isPlain(reply.value)) {
        isWhole = false;
        return { ok: false, kind: 'runtime', message: 'not plain', ms: reply.ms };
      }
      return reply;
    };
    // Every name that the statements know the entry by.
    const proxies: [string, string][] = [entry, ...(test.aliases ?? [])].map((name) => [name, entry]);
    const request = { op: 'check' as const, source: test.source, support: test.support ?? '', proxies };
    const reply = await this.#checks.session.request(request, { timeMs: this.#timeMs, answer });
    ms += reply.ms;
    if (fault) return { status: fault.kind, message: fault.message, ms };
    if (!isWhole) return { status: 'not-plain', message: 'a result that is no plain value', ms };
    const passed: Wire | undefined = reply.ok ? reply.value : undefined;
    if (passed === true) return { status: 'pass', ms };
    if (!reply.ok && reply.kind !== 'runtime' && reply.kind !== 'timeout')
      return { status: 'runner', message: `the check: ${reply.message}`, ms };
    // The statements themselves fail on a result of another type: that is the program's doing.
    return { status: 'wrong', ms, ...(!reply.ok && { message: reply.message }) };
  }
}
