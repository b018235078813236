import { AnnealError } from '../../core/errors.js';
import { answerVerifier } from '../answer.js';
import type { CodeVerifier, CodeVerifierOptions } from '../code/verifier.js';
import type { Verdict, Verifier } from '../verdict.js';
import type { AnswerItem, VerifyRow } from './rows.js';

/** The rules in this thread, each item with its own options: for few items, where starting threads costs more. */
export const inlineRules: Verifier = {
  name: 'rules',
  verify: (item: AnswerItem) => answerVerifier(item?.options).verify(item),
};

export interface RowVerifierOptions {
  /** Verifies answers: `inlineRules`, a `VerifierPool`, or either with a judge behind it. */
  answers: Verifier;
  /** How programs are run; false refuses rows with programs. Sandboxes are looked for when the first one comes. */
  code?: CodeVerifierOptions | false;
}

/** Verifies rows of every kind: answers by rules or a judge, programs in sandboxes. Close it when done. */
export class RowVerifier {
  readonly #options: RowVerifierOptions;
  #code: Promise<CodeVerifier> | undefined;

  constructor(options: RowVerifierOptions) {
    this.#options = options;
  }

  /**
   * @throws AnnealError for a program where those are refused
   * @throws JudgeError where a judge fails, not the row
   */
  async verify(row: VerifyRow, { signal }: { signal?: AbortSignal } = {}): Promise<Verdict> {
    if (row.kind === 'code') return (await this.#codeVerifier()).verify(row.problem, row.response);
    const { answers } = this.#options as { answers: WithSignal };
    return answers.verify(row.item, signal ? { signal } : {});
  }

  /** Which sandboxes are used, one line each; empty while no program has come. */
  async sandboxes(): Promise<string> {
    return this.#code ? (await this.#code).describe() : '';
  }

  /** Ends the sandboxes. The verifier of answers is its owner's to close. */
  async close(): Promise<void> {
    const code = await this.#code?.catch(() => undefined);
    await code?.close();
  }

  #codeVerifier(): Promise<CodeVerifier> {
    const { code = {} } = this.#options;
    if (code === false) throw new AnnealError('programs are not run here; leave rows of type "code" out');
    // On first use: most rows need no sandbox, and looking for one starts processes.
    this.#code ??= import('../code/verifier.js').then(({ CodeVerifier: Opened }) => Opened.open(code));
    return this.#code;
  }
}

/** Pools and judges take a signal; rules have no use for one and ignore it. */
type WithSignal = { verify(item: AnswerItem, options: { signal?: AbortSignal }): Verdict | Promise<Verdict> };
