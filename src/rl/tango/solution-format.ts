import type { Solution } from '../tasks/task.js';

/** A step in a response: what it says, and where it stands, tags included, in UTF-16 units. */
export interface StepSpan {
  readonly text: string;
  readonly start: number;
  /** Exclusive: the position after `</step>`. */
  readonly end: number;
}

/** A generator's response, read. */
export interface ParsedSolution {
  /** Lazily matched, not nested `<step>…</step>` spans, wherever they stand; their number is K. */
  readonly steps: readonly StepSpan[];
  /** The final answer: of the answer block, else of the last box of the text; undefined without a box. */
  readonly answer: string | undefined;
  /**
   * Whether it is exactly one `<think>` block of steps and nothing else, then `<answer>\boxed{…}</answer>`, and nothing
   * before, between or after but white space.
   */
  readonly isWellFormed: boolean;
  /** RL Tango's format score of a generator, 0 to 1. It is logged; its weight in the reward is 0. */
  readonly format: number;
}

/** The text of a solution in the format that is asked for. */
export const formatSolution = ({ steps, answer }: Solution): string =>
  `<think>${steps.map((step) => `<step>${step}</step>`).join('')}</think><answer>\\boxed{${answer}}</answer>`;

/** Contents of all `\boxed{…}` of a text, with balanced braces; a box that never closes is none. */
export function boxesOf(text: string): { text: string; start: number; end: number }[] {
  const boxes: { text: string; start: number; end: number }[] = [];
  const opening = '\\boxed{';
  for (let from = 0; ; ) {
    const start = text.indexOf(opening, from);
    if (start < 0) return boxes;
    let depth = 1;
    let at = start + opening.length;
    for (; at < text.length && depth > 0; at++) {
      if (text[at] === '{') depth++;
      else if (text[at] === '}') depth--;
    }
    if (depth === 0) boxes.push({ text: text.slice(start + opening.length, at - 1), start, end: at });
    from = depth === 0 ? at : start + opening.length;
  }
}

/** `<step>…</step>` spans of a text; those that stand in `text` at `offset`. */
export function stepSpans(text: string, offset = 0): StepSpan[] {
  return [...text.matchAll(/<step>(.*?)<\/step>/gs)].map((match) => {
    const start = offset + match.index;
    return { text: match[1]!, start, end: start + match[0].length };
  });
}

/** Whether a text is nothing but steps and white space, and none of them holds another opening tag. */
export function isOnlySteps(body: string, steps: readonly StepSpan[]): boolean {
  const rest = body.replace(/<step>.*?<\/step>/gs, '');
  return rest.trim() === '' && steps.every(({ text }) => !text.includes('<step>'));
}

/** What is in an element that occurs; the first one, lazily matched. */
function elementOf(text: string, name: string): string | undefined {
  return new RegExp(`<${name}>(.*?)</${name}>`, 's').exec(text)?.[1];
}

/** The box that an answer block consists of. */
function soleBox(body: string): string | undefined {
  const boxes = boxesOf(body);
  const trimmed = body.trim();
  const isAll = boxes.length === 1 && boxes[0]!.end - boxes[0]!.start === trimmed.length;
  return isAll ? boxes[0]!.text : undefined;
}

const structure = /^\s*<think>(.*?)<\/think>\s*<answer>(.*?)<\/answer>\s*$/s;
const countOf = (text: string, part: string) => text.split(part).length - 1;

function isStrict(text: string): boolean {
  const match = structure.exec(text);
  if (!match) return false;
  // Lazy bodies may still run over tags that repeat.
  const isOnce = ['<think>', '</think>', '<answer>', '</answer>'].every((tag) => countOf(text, tag) === 1);
  const steps = stepSpans(match[1]!);
  return isOnce && steps.length > 0 && isOnlySteps(match[1]!, steps) && soleBox(match[2]!) !== undefined;
}

/** Rounds away what 1 − 0.8 leaves beside 0.2, so that scores compare exactly. */
export const clampScore = (score: number): number => Math.max(0, Math.round(score * 10) / 10);

function formatScore(answerBlock: string | undefined, steps: number): number {
  if (answerBlock === undefined) return 0;
  const isBoxed = soleBox(answerBlock) !== undefined;
  return clampScore(1 - (isBoxed ? 0 : 0.8) - (steps === 0 ? 0.8 : steps < 3 ? 0.4 : 0));
}

/**
 * Reads a response (RL Tango, 2505.15034). Nothing in it can throw, and what the verifier's format would mean means
 * nothing here: a verdict that is boxed inside a step, or a `<final_verification>`, is text like any other.
 */
export function parseSolution(text: string): ParsedSolution {
  const steps = stepSpans(text);
  const answerBlock = elementOf(text, 'answer');
  const answer = boxesOf(answerBlock ?? text).at(-1)?.text;
  return { steps, answer, isWellFormed: isStrict(text), format: formatScore(answerBlock, steps.length) };
}
