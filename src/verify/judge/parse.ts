/**
 * How a judge's reply is read.
 *
 * - `closing` (default): the last line must be the closing line, `Final Judgment: Yes` or `No`, and nothing else.
 * - `lenient`: the closing line; without one, the last Yes or No that stands as a word.
 * - `paper`: the last `Yes` or `No` anywhere, inside words too, as VerifyBench's own script reads replies. For
 *   figures that are to be compared with published ones.
 */
export type ReplyRule = 'closing' | 'lenient' | 'paper';

/** Reasoning that models write before their reply. One that never ends has no reply after it. */
const withoutReasoning = (reply: string): string => {
  const end = reply.lastIndexOf('</think>');
  if (end >= 0) return reply.slice(end + '</think>'.length);
  return /^\s*<think>/.test(reply) ? '' : reply;
};

/** Decoration around the words of the closing line: emphasis, headings, quotes, boxes, LaTeX's text. */
const plain = (line: string): string =>
  line
    .replace(/\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{/g, '')
    .replace(/[*_`#>"'“”‘’{}$[\]()\\]/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();

const closing = /^final judge?ment ?[:：] ?(yes|no) ?[.!。]?$/i;

/** The verdict of the last line that has letters or digits in it. */
function closingLine(reply: string): boolean | undefined {
  const last = reply.split(/\r\n|[\n\r\u2028\u2029]/).findLast((line) => /[\p{L}\p{N}]/u.test(line));
  const word = last === undefined ? undefined : closing.exec(plain(last))?.[1];
  return word === undefined ? undefined : word.toLowerCase() === 'yes';
}

const lastMatch = (text: string, pattern: RegExp): string | undefined =>
  [...text.matchAll(pattern)].at(-1)?.[0];

/**
 * What a judge's reply says.
 * @returns true for Yes, false for No, undefined where it says neither
 */
export function readReply(reply: string, rule: ReplyRule = 'closing'): boolean | undefined {
  if (rule === 'paper') {
    const word = lastMatch(reply, /Yes|No/g);
    return word === undefined ? undefined : word === 'Yes';
  }
  const text = withoutReasoning(reply);
  const closed = closingLine(text);
  if (closed !== undefined || rule === 'closing') return closed;
  const word = lastMatch(text, /(?<![\p{L}\p{N}])(?:yes|no)(?![\p{L}\p{N}])/giu);
  return word === undefined ? undefined : word.toLowerCase() === 'yes';
}
