/**
 * Where in a response its answer stands. Verifiers lose more right answers to extraction than to comparison, so
 * every common way of marking an answer has a rule, and the rules are ranked.
 */
import type { Extracted } from '../verdict.js';
import { closing, type Formula, formulas, lastPlaces, lowerAscii } from './scan.js';

export interface ExtractOptions {
  /**
   * Default true: the last box comes before "answer: …" phrases that stand after it. Only an explicit "final
   * answer" or `####` after the box overrules it. With false the rightmost of all wins.
   */
  boxedFirst?: boolean;
  /** UTF-16 units of the end of a text that are searched for phrases; default 20 000. Boxes are found anywhere. */
  maxChars?: number;
}

/** A place where an answer may be, without its span's text. */
export type Candidate = Omit<Extracted, 'form'>;

/** What follows a closed thinking block; the whole text where there is none, or nothing after it. */
export function afterThinking(text: string): { text: string; start: number } {
  for (const tag of ['</think>', '</thinking>', '</reasoning>', '<|end_of_thought|>']) {
    const at = text.lastIndexOf(tag);
    if (at < 0) continue;
    const start = at + tag.length;
    if (/\S/.test(text.slice(start))) return { text: text.slice(start), start };
    return { text: text.slice(0, at), start: 0 };
  }
  return { text, start: 0 };
}

/** A box with the places of its content and of the whole command. */
interface Box {
  text: string;
  /** Content. */
  start: number;
  end: number;
  /** With the command. */
  outerStart: number;
  outerEnd: number;
}

/** The box whose command ends at `nameEnd`: with braces, or one word without. */
function boxAt(text: string, outerStart: number, nameEnd: number): Box | undefined {
  let open = nameEnd;
  while (text[open] === ' ' || text[open] === '\n') open++;
  if (text[open] === '{') {
    const close = closing(text, open, Math.min(text.length, open + 20_000));
    // A response that was cut off inside its box: what is left of the line.
    const line = text.indexOf('\n', open);
    const end = close >= 0 ? close : line >= 0 ? line : text.length;
    return {
      text: text.slice(open + 1, end),
      start: open + 1,
      end,
      outerStart,
      outerEnd: close >= 0 ? end + 1 : end,
    };
  }
  const plain = /^[^\s$,.;]{1,30}/.exec(text.slice(open, open + 30));
  if (!plain || open === nameEnd) return undefined;
  const end = open + plain[0].length;
  return { text: plain[0], start: open, end, outerStart, outerEnd: end };
}

/** "\boxed{1} and \boxed{2}", "\boxed{1}, $\boxed{2}$": nothing but separators between. */
const isSeparator = (between: string) =>
  between.length <= 40 &&
  /^(?:\s|\$|\\[()[\]]|,|;|\\[,;]|\\q?quad|and|or|&|\\text\s*\{\s*,?\s*(?:and|or)\s*\})*$/.test(between);

/** The last boxes of a text: several that only separators part are one answer. */
function lastBoxes(text: string): Candidate | undefined {
  const places = lastPlaces(text, ['\\boxed', '\\fbox'], 12);
  const boxes: Box[] = [];
  for (const { at, end } of places) {
    const box = boxAt(text, at, end);
    if (box && /[^\s{}$]/.test(box.text)) {
      const next = boxes[0];
      // A box around a box: the inner one was found first.
      if (next && box.outerEnd > next.outerStart) continue;
      if (next && !isSeparator(text.slice(box.outerEnd, next.outerStart))) break;
      boxes.unshift(box);
    }
  }
  const last = boxes.at(-1);
  if (!last) return undefined;
  // The same box twice is one answer.
  const texts = [...new Set(boxes.map((box) => box.text.trim()))];
  if (texts.length === 1)
    return { text: last.text, span: { start: last.start, end: last.end }, rule: 'boxed' };
  return { text: texts.join(' , '), span: { start: boxes[0]!.start, end: last.end }, rule: 'boxed' };
}

// Phrases that announce the answer, whatever stood in a box before them.
const finalCues = ['final answer is', 'final answer', '####', 'final result is'];
// Phrases that announce an answer; a box before them counts for more.
const answerCues = [
  'answer is',
  'answer:',
  '\na:',
  '\nans:',
  'answers are',
  'answer**',
  'answer',
  'result is',
  '答案是',
  '答案',
];

/** Start and end of what stands after a phrase: to the end of its sentence, or the next line where it ends one. */
function sentenceAfter(text: string, from: number): [number, number] {
  let start = from;
  // Colons, quotes, markdown, and "is" after "final answer".
  for (;;) {
    const skip = /^(?:[\s:*"'“”`=\\]|is\b|are\b|to [a-z ]{1,40} is\b)/.exec(text.slice(start, start + 60));
    if (!skip || (skip[0] === '\\' && !/^\\["'\s]/.test(text.slice(start, start + 2)))) break;
    start += skip[0].length;
  }
  const opening = /^(?:\\\[|\$\$|\\\(|\$)/.exec(text.slice(start, start + 2));
  if (opening) {
    const [first] = formulas(text.slice(start, start + 4000));
    if (first && first.outerStart === 0) start += 0;
    const inner = first?.outerStart === 0 ? start + first.outerEnd : start;
    return [start, sentenceEnd(text, inner)];
  }
  return [start, sentenceEnd(text, start)];
}

/** Where a sentence ends: at a line, a special token, or a full stop that a capital or the end follows. */
function sentenceEnd(text: string, from: number): number {
  const stop = /\n|<\||\.\s+(?=[A-Z])|\. ?$|\.?\s*I hope/g;
  stop.lastIndex = from;
  return stop.exec(text.slice(0, from + 2000))?.index ?? Math.min(text.length, from + 2000);
}

/** Formulas at the end of a sentence: the last one, with those before it that only separators part from it. */
function lastFormulas(
  text: string,
  found: readonly Formula[],
): { text: string; start: number; end: number } | undefined {
  const last = found.at(-1);
  if (!last) return undefined;
  let first = found.length - 1;
  while (first > 0 && isSeparator(text.slice(found[first - 1]!.outerEnd, found[first]!.outerStart))) first--;
  const joined = found.slice(first).map((one) => one.text.trim());
  // A formula with its unit, "$5$ cm" or "$28\%$ of", is read with what follows it elsewhere.
  return { text: joined.join(' , '), start: found[first]!.start, end: last.end };
}

/** Ways to read a sentence that holds an answer, best first. */
function fromSentence(text: string, start: number, end: number, rule: string): Candidate[] {
  const sentence = text.slice(start, end).replace(/[\s.*"'`”]+$/, '');
  if (!/[\p{L}\p{N}∞∅{}()[\]<>]/u.test(sentence)) return [];
  const found: Candidate[] = [];
  const push = (from: number, content: string) => {
    if (content.trim() !== '')
      found.push({ text: content, span: { start: start + from, end: start + from + content.length }, rule });
  };
  const inside = formulas(sentence);
  const [first] = inside;
  if (first && first.outerStart === 0) {
    const run = lastFormulas(sentence, leading(sentence, inside));
    if (run) found.push({ text: run.text, span: { start: start + run.start, end: start + run.end }, rule });
  }
  // "The largest $n$ is 34": the rest after the last verb, where it is short.
  const verb = lastPlaces(lowerAscii(sentence), [' is ', ' are ', ' equals ', ' be '], 1)[0];
  const isPlain = inside.length === 0 || (verb && inside.every((one) => one.outerEnd <= verb.end));
  if (!first || first.outerStart > 0) {
    if (verb && isPlain) push(verb.end, sentence.slice(verb.end));
    const run = lastFormulas(sentence, inside);
    if (run && !(verb && isPlain))
      found.push({ text: run.text, span: { start: start + run.start, end: start + run.end }, rule });
  }
  push(0, sentence);
  return found;
}

/** The formulas at the beginning of a sentence that belong together. */
function leading(sentence: string, found: readonly Formula[]): Formula[] {
  let count = 1;
  while (
    count < found.length &&
    isSeparator(sentence.slice(found[count - 1]!.outerEnd, found[count]!.outerStart))
  )
    count++;
  return found.slice(0, count);
}

// Digits with thousands separators, decimals, and decimals without a leading zero.
const number = String.raw`(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+`;
// The same with sign, currency, exponent, denominator and percent.
const plainNumber = new RegExp(
  String.raw`(?<![\p{L}\d])[-−+]?[$€£¥]?[-−]?(?:${number})(?:[eE][-+]?\d{1,4}\b)?(?:\s?\/\s?(?:${number}))?(?:\s?(?:\\?%|percent\b))?`,
  'gu',
);

/** The last number of a text, a fraction or percentage as a whole. */
export function lastNumber(text: string, offset = 0): Candidate | undefined {
  const from = Math.max(0, text.length - 4000);
  const found = [...text.slice(from).matchAll(plainNumber)].at(-1);
  if (!found) return undefined;
  let [written] = found;
  let start = from + found.index;
  // "not equal to 7" says what the answer is not.
  if (
    /\b(?:not|never|neither|isn't)(?: [a-z]{1,12}){0,2} $/i.test(text.slice(Math.max(0, start - 40), start))
  )
    return undefined;
  // A minus after an operand subtracts: "10-5" ends with 5.
  if (/^[-−+]/.test(written) && /[\p{L}\p{N})\]%]\s?$/u.test(text.slice(Math.max(0, start - 2), start))) {
    written = written.slice(1);
    start++;
  }
  return {
    text: written,
    span: { start: offset + start, end: offset + start + written.length },
    rule: 'number',
  };
}

/** The last formula and the last number, the later one first; a number inside of the formula is part of it. */
function lastOf(tail: string, inside: readonly Formula[], cut: number): Candidate[] {
  const run = lastFormulas(tail, inside);
  const formula: Candidate | undefined = run && {
    text: run.text,
    span: { start: cut + run.start, end: cut + run.end },
    rule: 'math',
  };
  const number = lastNumber(tail, cut);
  const isLater = formula && number && number.span.start >= formula.span.end;
  return (isLater ? [number, formula] : [formula, number]).filter((one) => one !== undefined);
}

/**
 * Places of a text where its answer may be, best first: boxes, "final answer" and `####` (the rightmost of
 * these), other answer phrases, the whole of a short text, the last formula, the last number. Linear in the length.
 */
export function candidates(text: string, options: ExtractOptions = {}): Candidate[] {
  const { boxedFirst = true, maxChars = 20_000 } = options;
  const visible = afterThinking(text);
  const body = visible.text;
  const cut = Math.max(0, body.length - maxChars);
  const tail = body.slice(cut);
  const lower = lowerAscii(tail);
  const box = lastBoxes(body);
  const boxStart = box?.span.start ?? -1;
  const after = (cues: readonly string[], minimum: number) =>
    lastPlaces(lower, cues, 2)
      .filter(({ at }) => cut + at > minimum)
      .flatMap(({ end }) => fromSentence(body, ...sentenceAfter(body, cut + end), 'final-answer'));
  const found: Candidate[] = [];
  found.push(...after(boxedFirst ? finalCues : [...finalCues, ...answerCues], boxStart));
  if (box) found.push(box);
  else {
    found.push(...after(answerCues, -1));
    const isShort = body.trim().length <= 400 && !/\n\s*\n|[.\p{L}]\s*\n\s*\p{L}{2}/u.test(body.trim());
    const inside = formulas(tail);
    const whole = body.trim();
    // A bare answer, or one formula and nothing else.
    if (isShort && whole !== '') {
      const start = body.indexOf(whole);
      // A sentence says its answer after its last verb.
      if (/(?:^| )(?:is|are|equals) /.test(whole))
        found.push(...fromSentence(body, start, start + whole.length, 'sentence'));
      found.push({ text: whole, span: { start, end: start + whole.length }, rule: 'whole' });
    }
    found.push(...lastOf(tail, inside, cut));
  }
  return found.map((one) => ({
    ...one,
    span: { start: one.span.start + visible.start, end: one.span.end + visible.start },
  }));
}
