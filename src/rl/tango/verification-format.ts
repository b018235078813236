import { clampScore, isOnlySteps, stepSpans } from './solution-format.js';

/** A verifier's output, read. */
export interface ParsedVerification {
  /** One a step, true = correct; undefined unless there are exactly K blocks with one verdict each, and K > 0. */
  readonly verdicts: readonly boolean[] | undefined;
  /** Verdict of each `<step>` block as it stands; undefined for a block that does not end in one. */
  readonly blocks: readonly (boolean | undefined)[];
  /** The verdict on the whole solution; undefined if there is none that can be read. */
  readonly final: boolean | undefined;
  /** How many blocks there are beside K: as many and all with a verdict, fewer, more, or some without a verdict. */
  readonly alignment: 'perfect' | 'missing' | 'extra' | 'unread';
  /** RL Tango's format score of a verifier, 0 to 1. */
  readonly format: number;
}

/** What a verifier writes about one step: its analysis and its verdict. */
export interface StepVerdict {
  readonly analysis: string;
  readonly isCorrect: boolean;
}

const box = (isCorrect: boolean) => `\\boxed{${isCorrect ? 'CORRECT' : 'INCORRECT'}}`;

/** The text of a verification in the format that is asked for. */
export function formatVerification(steps: readonly StepVerdict[], isCorrect: boolean): string {
  const body = steps.map((step) => `<step>${step.analysis}${box(step.isCorrect)}</step>`).join('');
  const final = `<final_verification>${box(isCorrect)}</final_verification>`;
  return `<step_verification>${body}</step_verification>${final}`;
}

const verdict = String.raw`\\box(?:ed)?\{(CORRECT|INCORRECT)\}`;
const endsInVerdict = new RegExp(`${verdict}\\.?\\s*$`, 'i');
/** Directly inside its tag: no text or white space before it, at most a full stop and white space after it. */
const finalBlock = new RegExp(`<final_verification>${verdict}\\.?\\s*</final_verification>`, 'i');
const bodyBlock = /<step_verification>(.*?)<\/step_verification>/s;
const whole =
  /^<step_verification>(.*?)<\/step_verification>\s*<final_verification>(.*?)<\/final_verification>$/s;
const tags = /<\/?(?:step_verification|final_verification)>/;

/** The verdict that a text ends in. */
function verdictAtEnd(text: string): boolean | undefined {
  const found = endsInVerdict.exec(text)?.[1];
  return found === undefined ? undefined : found.toUpperCase() === 'CORRECT';
}

/**
 * Verdicts of the blocks of a body. A block that holds another opening tag was never closed where it should have been;
 * its verdict could belong to either, so it has none.
 */
const blocksOf = (body: string): (boolean | undefined)[] =>
  stepSpans(body).map(({ text }) => (text.includes('<step>') ? undefined : verdictAtEnd(text)));

function alignmentOf(blocks: readonly (boolean | undefined)[], k: number): ParsedVerification['alignment'] {
  if (blocks.length < k) return 'missing';
  if (blocks.length > k) return 'extra';
  return blocks.includes(undefined) ? 'unread' : 'perfect';
}

function formatScore(text: string, k: number, isCountChecked: boolean): number {
  const match = whole.exec(text.trim());
  if (!match || tags.test(match[1]!) || tags.test(match[2]!)) return 0;
  const [, body, final] = match;
  const steps = stepSpans(body!);
  const blocks = blocksOf(body!);
  const isAligned = blocks.length === k && !blocks.includes(undefined);
  const hasSteps = steps.length > 0;
  let score = 1;
  if (verdictAtEnd(final!) === undefined) score -= 0.8;
  if (!hasSteps || (isCountChecked && !isAligned)) score -= 0.8;
  if (!isOnlySteps(body!, steps)) score -= 0.4;
  return clampScore(score);
}

/**
 * Reads a verification of a solution with `k` steps (RL Tango, 2505.15034). Only the verifier's own output goes in, so
 * that nothing a solution says can be taken for a verdict. Chatter around the blocks does not hinder reading; it makes
 * the format score 0.
 *
 * Stricter than the released code in one point: there is one verdict a `<step>` block. There a verdict of the next
 * block can stand in for a missing one, and K verdicts of K + 1 blocks then belong to the wrong steps.
 * @param options.solutionFormat format score of the solution: below 0.6 the number of steps does not enter this one's
 */
export function parseVerification(
  text: string,
  k: number,
  { solutionFormat = 1 }: { solutionFormat?: number } = {},
): ParsedVerification {
  const body = bodyBlock.exec(text);
  const blocks = body ? blocksOf(body[1]!) : [];
  const alignment = alignmentOf(blocks, k);
  // After the steps, so that a final verdict which is quoted in an analysis is not taken for the real one.
  const after = body ? text.slice(body.index + body[0].length) : text;
  const final = finalBlock.exec(after)?.[1];
  return {
    verdicts: alignment === 'perfect' && k > 0 ? (blocks as boolean[]) : undefined,
    blocks,
    final: final === undefined ? undefined : final.toUpperCase() === 'CORRECT',
    alignment,
    format: formatScore(text, k, solutionFormat >= 0.6),
  };
}
