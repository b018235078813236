/** Several verifiers as one. */
import { AnnealError } from '../../core/errors.js';
import type { Outcome, Verdict, Verifier, VerifyItem } from '../verdict.js';
import { JudgeError } from './chat.js';

/** A verdict of several verifiers, with what each of those that were asked said. */
export interface EnsembleVerdict extends Verdict {
  members: { name: string; verdict: Outcome; reason: string }[];
}

/** A verifier made of others. */
export interface EnsembleVerifier extends Verifier {
  verify(item: VerifyItem): Promise<EnsembleVerdict>;
}

/** Verifiers that were asked, and their verdicts. */
type Said = { name: string; verdict: Verdict };

function together(base: Verdict, reason: string, said: readonly Said[]): EnsembleVerdict {
  return {
    ...base,
    reason,
    ms: said.reduce((sum, { verdict }) => sum + verdict.ms, 0),
    members: said.map(({ name, verdict }) => ({ name, verdict: verdict.verdict, reason: verdict.reason })),
  };
}

export interface RulesThenJudgeOptions {
  /** Words of the rules after which the judge is asked. Default: `incorrect` and `abstain`. */
  after?: readonly Outcome[];
}

/**
 * Rules first; a judge is asked only where they do not say `correct`. Rules are seldom wrong when they accept, and
 * often when they reject, so this costs few calls (TinyV, 2505.14625). An abstention of the judge leaves the
 * rules' word standing.
 */
export function rulesThenJudge(
  rules: Verifier,
  judge: Verifier,
  { after = ['incorrect', 'abstain'] }: RulesThenJudgeOptions = {},
): EnsembleVerifier {
  return {
    name: `${rules.name}, then ${judge.name}`,
    async verify(item) {
      const first = { name: rules.name, verdict: await rules.verify(item) };
      if (!after.includes(first.verdict.verdict))
        return together(first.verdict, first.verdict.reason, [first]);
      const second = { name: judge.name, verdict: await judge.verify(item) };
      const { verdict, reason } = second.verdict;
      if (verdict === 'abstain') return together(first.verdict, first.verdict.reason, [first, second]);
      // What the rules extracted stays useful, whoever decides.
      return together({ ...first.verdict, verdict }, reason, [first, second]);
    },
  };
}

/**
 * What more of several verifiers say; all are asked at once. Abstentions count for neither side; a tie, or nobody
 * who decides, is an abstention.
 * @throws AnnealError for less than two verifiers
 */
export function majority(verifiers: readonly Verifier[]): EnsembleVerifier {
  if (verifiers.length < 2)
    throw new AnnealError(`majority of ${verifiers.length} verifiers; pass at least two, better three`);
  return {
    name: `majority of ${verifiers.map(({ name }) => name).join(', ')}`,
    async verify(item) {
      const said = await Promise.all(
        verifiers.map(async (one) => ({ name: one.name, verdict: await one.verify(item) })),
      );
      const votes = (outcome: Outcome) => said.filter(({ verdict }) => verdict.verdict === outcome).length;
      const [yes, no] = [votes('correct'), votes('incorrect')];
      const winner: Outcome = yes > no ? 'correct' : no > yes ? 'incorrect' : 'abstain';
      const { extracted } = said.find(({ verdict }) => verdict.extracted !== undefined)?.verdict ?? {};
      const base = { verdict: winner, reason: '', ms: 0, ...(extracted !== undefined && { extracted }) };
      return together(base, yes === no ? (yes > 0 ? 'tie' : 'all-abstain') : `majority-${yes}-${no}`, said);
    },
  };
}

/**
 * Turns failures of a judge into abstentions (`judge-unreachable`, `judge-budget`, …), each of which `onFailure` gets
 * to see. For long runs that may lose some items; how many they lost is for `onFailure` to count.
 */
export function tolerant(verifier: Verifier, onFailure: (error: JudgeError) => void): Verifier {
  return {
    name: verifier.name,
    async verify(item) {
      const start = performance.now();
      try {
        return await verifier.verify(item);
      } catch (error) {
        if (!(error instanceof JudgeError)) throw error;
        onFailure(error);
        return { verdict: 'abstain', reason: `judge-${error.failure}`, ms: performance.now() - start };
      }
    },
  };
}
