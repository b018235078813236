/**
 * The conversation with an interpreter that runs foreign code. Whatever the program writes must not pass for the
 * harness: every message carries a nonce, and one without it ends the session.
 */
import { randomBytes } from 'node:crypto';
import type { Wire } from './plain.js';
import type { Fault, FaultKind, Interpreter, Reply, SandboxLimits } from './sandbox.js';

/** A call that a checking interpreter wants made in the program's interpreter. */
export interface Ask {
  name: string;
  args: Wire[];
  keywords: [string, Wire][];
}

/** What is sent; `op` is the harness's own vocabulary. */
export interface Request {
  op: 'load' | 'call' | 'run' | 'check' | 'value';
  [field: string]: unknown;
}

interface Incoming {
  nonce?: unknown;
  begun?: true;
  value?: Wire;
  error?: FaultKind;
  message?: string;
  ask?: Ask;
}

/** Milliseconds that an interpreter has to take a request up before the machine counts as broken. */
const patienceMs = 30_000;

const faults = new Set<unknown>(['compile', 'runtime', 'memory', 'output-limit', 'exit', 'tamper']);

/**
 * One program's conversation with one interpreter: a request at a time, each with a deadline that starts when
 * the interpreter says that it begins. Every reply must carry the session's nonce; anything else on the
 * channel is tampering, and ends the session.
 */
export class Session {
  readonly #interpreter: Interpreter;
  readonly #limits: SandboxLimits;
  // 128 bits, unknown to the program: the harness keeps it in a closure.
  readonly #nonce = randomBytes(16).toString('hex');
  // The request that waits for its reply, and who serves its calls.
  #settle: ((reply: Reply) => void) | undefined;
  #answer: ((ask: Ask) => Promise<Reply>) | undefined;
  #timer: NodeJS.Timeout | undefined;
  // When the interpreter said that it begins; 0 before.
  #begun = 0;
  #timeMs = 0;
  // Why the session has ended; every later request gets the same.
  #over: Fault | undefined;
  /** The request before: one at a time. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(interpreter: Interpreter, limits: SandboxLimits) {
    this.#interpreter = interpreter;
    this.#limits = limits;
    interpreter.onLine = (line) => this.#receive(line);
    interpreter.onEnd = (kind, message) => this.#end(kind, message);
  }

  /** Whether the interpreter still answers. */
  get alive(): boolean {
    return this.#over === undefined;
  }

  /**
   * Sends a request and waits for its reply. Never rejects. `answer` serves the calls that a check makes
   * of the program; their time does not count as the check's own.
   */
  request(
    body: Request,
    options: { timeMs?: number; answer?: (ask: Ask) => Promise<Reply> } = {},
  ): Promise<Reply> {
    const turn = this.#last.then(() => this.#send(body, options));
    this.#last = turn;
    return turn;
  }

  #send(body: Request, options: { timeMs?: number; answer?: (ask: Ask) => Promise<Reply> }): Promise<Reply> {
    if (this.#over) return Promise.resolve(this.#over);
    const timeMs = options.timeMs ?? this.#limits.timeMs;
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#answer = options.answer;
      this.#begun = 0;
      this.#arm(patienceMs, 'runner', 'the interpreter did not take the request up');
      this.#timeMs = timeMs;
      this.#interpreter.send(JSON.stringify({ ...body, nonce: this.#nonce, timeMs }));
    });
  }

  /**
   * Starts the clock anew. What runs into it is killed: an interpreter that was late once is not trusted
   * again.
   */
  #arm(ms: number, kind: FaultKind, message: string) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#end(kind, message);
      void this.#interpreter.kill();
    }, ms);
  }

  /** One line of the channel. Everything that is not exactly what was asked for is tampering. */
  #receive(line: string) {
    // After the end, and between requests, nobody listens.
    if (this.#over || !this.#settle) return this.#tampered('a message that nothing asked for');
    if (line.length > 4 * this.#limits.outputBytes + 4096) {
      this.#end('output-limit', 'the result is larger than the output limit');
      return void this.#interpreter.kill();
    }
    let incoming: Incoming;
    try {
      incoming = JSON.parse(line) as Incoming;
    } catch {
      return this.#tampered('a message that is not JSON');
    }
    if (incoming?.nonce !== this.#nonce) return this.#tampered('a message without the nonce');
    if (incoming.begun) return this.#begin();
    if (incoming.ask && this.#answer) return void this.#serve(incoming.ask);
    const ms = performance.now() - this.#begun;
    if (incoming.value !== undefined) return this.#reply({ ok: true, value: incoming.value, ms });
    if (!faults.has(incoming.error)) return this.#tampered('a message of no known form');
    const message = String(incoming.message ?? '').slice(0, 500);
    this.#reply({ ok: false, kind: incoming.error!, message, ms });
  }

  /** The program's time starts here, not where the request was sent. */
  #begin() {
    if (this.#begun > 0) return this.#tampered('a second beginning');
    this.#begun = performance.now();
    this.#arm(this.#timeMs, 'timeout', `ran longer than ${this.#timeMs} ms`);
  }

  /** Passes a check's call on; the check's own clock stands still meanwhile. */
  async #serve(ask: Ask) {
    clearTimeout(this.#timer);
    const reply = await this.#answer!(ask);
    if (this.#over) return;
    this.#arm(this.#timeMs, 'timeout', `the check ran longer than ${this.#timeMs} ms`);
    this.#interpreter.send(JSON.stringify(reply.ok ? { value: reply.value } : { fault: reply.kind }));
  }

  #reply(reply: Reply) {
    clearTimeout(this.#timer);
    const settle = this.#settle;
    this.#settle = undefined;
    settle?.(reply);
  }

  #tampered(message: string) {
    if (this.#over) return;
    this.#end('tamper', message);
    void this.#interpreter.kill();
  }

  /** Ends the session with a fault; the first one stands. */
  #end(kind: FaultKind, message: string) {
    if (this.#over) return;
    const ms = this.#begun ? performance.now() - this.#begun : 0;
    this.#over = { ok: false, kind, message, ms };
    this.#reply(this.#over);
  }
}
