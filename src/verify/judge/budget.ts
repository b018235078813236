import { AnnealError } from '../../core/errors.js';
import { JudgeError } from './chat.js';

/** What judges may spend; absent: without limit. */
export interface BudgetLimits {
  /** Calls, failed ones and retries included. */
  calls?: number;
  /** Tokens of prompts and replies together. */
  tokens?: number;
}

/** What has been spent. */
export interface Spent {
  calls: number;
  tokens: number;
}

const check = (name: string, value: number | undefined) => {
  if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) return;
  throw new AnnealError(`the judge's budget of ${name} is ${value}; pass a whole number`);
};

/**
 * Budget of calls and tokens; one object may be shared by several judges. A call reserves the most that it can cost
 * before it is made, so that calls which run at the same time cannot overrun the budget together, and pays what
 * it did cost afterwards.
 */
export class JudgeBudget {
  readonly limits: Readonly<BudgetLimits>;
  #calls = 0;
  #tokens = 0;
  #reserved = 0;
  #running = 0;
  #wakers: (() => void)[] = [];

  /** @throws AnnealError for a limit that is no whole number. */
  constructor(limits: BudgetLimits = {}) {
    check('calls', limits.calls);
    check('tokens', limits.tokens);
    this.limits = limits;
  }

  get spent(): Spent {
    return { calls: this.#calls, tokens: this.#tokens };
  }

  /**
   * Takes one call and `most` tokens out of the budget. Where only what running calls have reserved stands in the
   * way, waits for them.
   * @returns pays what the call did cost, and gives the rest back
   * @throws JudgeError (`budget`) where the budget does not suffice
   */
  async reserve(most: number, item?: string): Promise<(tokens: number) => void> {
    const { calls = Number.POSITIVE_INFINITY, tokens = Number.POSITIVE_INFINITY } = this.limits;
    for (;;) {
      if (this.#calls >= calls) throw this.#exhausted(`${calls} calls`, item);
      if (this.#tokens + this.#reserved + most <= tokens) break;
      if (this.#running === 0 || this.#tokens + most > tokens)
        throw this.#exhausted(`${tokens} tokens`, item);
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
    this.#calls++;
    this.#running++;
    this.#reserved += most;
    return (used) => {
      this.#running--;
      this.#reserved -= most;
      this.#tokens += used;
      for (const wake of this.#wakers.splice(0)) wake();
    };
  }

  #exhausted(what: string, item?: string): JudgeError {
    const spent = `${this.#calls} calls and ${this.#tokens} tokens are spent`;
    return new JudgeError('budget', `the judge's budget of ${what} does not suffice (${spent}); raise it`, {
      item,
    });
  }
}
