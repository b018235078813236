/**
 * What a verifier found. `abstain` says that it could not tell: a reward must drop such an item, and an
 * evaluation must report it as missing coverage, never as a wrong answer.
 */
export type Outcome = 'correct' | 'incorrect' | 'abstain';

/** Part of a text, in UTF-16 units: `text.slice(start, end)`. */
export interface Span {
  start: number;
  end: number;
}

/** What a verifier read out of one side. */
export interface Extracted {
  /** As written. */
  text: string;
  /** Where it stands in the text that was given; several boxes read as one list span from the first to the last. */
  span: Span;
  /** The rule that found it: `boxed`, `final-answer`, `hashes`, `math`, `number`, `whole`, … */
  rule: string;
  /** Its normal form, once understood. */
  form?: string;
}

export interface Verdict {
  verdict: Outcome;
  /** Why, as a short stable code: `equal-exact`, `different-value`, `no-answer`, `work-limit`, … */
  reason: string;
  /** The answer's extracted text, for reports. */
  extracted?: string;
  answer?: Extracted;
  reference?: Extracted;
  /** Milliseconds of work. The clock starts when the work starts, so waiting in a queue counts for nothing. */
  ms: number;
}

/** One thing to verify. */
export interface VerifyItem {
  /** A final answer, or a whole response that holds one. */
  answer: string;
  /** The reference: a final answer or a whole solution. */
  reference: string;
  /** What was asked, for verifiers that use it (choices with their texts, judges). */
  question?: string;
}

/** Anything that judges answers: rules at once, judges and sandboxes in their own time. */
export interface Verifier {
  readonly name: string;
  /**
   * Never throws and never rejects, whatever the texts: a failure of the verifier itself is an abstention. The one
   * exception is a judge that cannot be reached, which rejects with a `JudgeError`.
   */
  verify(item: VerifyItem): Verdict | Promise<Verdict>;
}

/** A verifier that needs nothing but the two texts: synchronous, deterministic, free of side effects. */
export interface RuleVerifier extends Verifier {
  verify(item: VerifyItem): Verdict;
}

/** How much one verification may cost. */
export interface Limits {
  /**
   * Units of work (about a microsecond each) before the verifier abstains. Counted, not timed: the same item
   * gets the same verdict on any machine under any load. Default 100 000.
   */
  work?: number;
  /** Safety net in milliseconds for what counting misses; default 1000. Reached only on a very slow machine. */
  deadlineMs?: number;
}

/** Thrown inside a verifier where its budget ends; callers of a verifier never see it. */
export class LimitReached extends Error {
  readonly reason: 'work-limit' | 'deadline';

  constructor(reason: 'work-limit' | 'deadline') {
    super(reason);
    this.reason = reason;
  }
}

/** Cooperative budget: the verifier's loops spend from it, and it throws `LimitReached` when nothing is left. */
export class Budget {
  #left: number;
  #sinceCheck = 0;
  readonly #end: number;

  constructor({ work = 100_000, deadlineMs = 1000 }: Limits = {}) {
    this.#left = work;
    this.#end = performance.now() + deadlineMs;
  }

  /** Takes `units` of work, about a microsecond each. */
  spend(units = 1): void {
    this.#left -= units;
    if (this.#left < 0) throw new LimitReached('work-limit');
    // Asking for the time costs more than a unit.
    this.#sinceCheck += units;
    if (this.#sinceCheck < 1000) return;
    this.#sinceCheck = 0;
    if (performance.now() > this.#end) throw new LimitReached('deadline');
  }
}

/** What the body of a rule verifier returns: the verdict without the time. */
export type Finding = Omit<Verdict, 'ms' | 'extracted'>;

/**
 * Makes a verifier from a function: hands it a budget, takes the time, and turns everything thrown, a stack
 * overflow included, into an abstention.
 */
export function ruleVerifier(
  name: string,
  find: (item: VerifyItem, budget: Budget) => Finding,
  limits: Limits = {},
): RuleVerifier {
  return {
    name,
    verify(item) {
      const start = performance.now();
      const done = (finding: Finding): Verdict => ({
        ...finding,
        ...(finding.answer && { extracted: finding.answer.text }),
        ms: performance.now() - start,
      });
      if (typeof item?.answer !== 'string' || typeof item.reference !== 'string')
        return done({ verdict: 'abstain', reason: 'not-a-text' });
      try {
        return done(find(item, new Budget(limits)));
      } catch (error) {
        if (error instanceof LimitReached) return done({ verdict: 'abstain', reason: error.reason });
        return done({
          verdict: 'abstain',
          reason: error instanceof RangeError ? 'too-large' : 'verifier-error',
        });
      }
    },
  };
}

/**
 * The first verifier's word where it is not an abstention, else the next one's, and so on; the last
 * abstention where all abstain. Times add up.
 */
export function firstDecided(...verifiers: [RuleVerifier, ...RuleVerifier[]]): RuleVerifier {
  return {
    name: verifiers.map(({ name }) => name).join(', then '),
    verify(item) {
      let ms = 0;
      let last: Verdict | undefined;
      for (const one of verifiers) {
        last = one.verify(item);
        ms += last.ms;
        if (last.verdict !== 'abstain') break;
      }
      return { ...last!, ms };
    },
  };
}
