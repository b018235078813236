/** Scanners over untrusted text. All of them look at each character a bounded number of times. */

/** Index of the bracket that closes the one at `open`, or −1; escaped brackets count for nothing. */
export function closing(text: string, open: number, limit = text.length): number {
  const [opener, closer] = text[open] === '[' ? '[]' : text[open] === '(' ? '()' : '{}';
  let depth = 0;
  for (let at = open; at < limit; at++) {
    const one = text[at];
    if (one === '\\') at++;
    else if (one === opener) depth++;
    else if (one === closer && --depth === 0) return at;
  }
  return -1;
}

/** Lower case of ASCII letters only: indices stay those of the text. */
export const lowerAscii = (text: string): string => text.replace(/[A-Z]+/g, (found) => found.toLowerCase());

/** Where the needles occur, from the right; at most `most` places each. */
export function lastPlaces(
  text: string,
  needles: readonly string[],
  most: number,
): { at: number; end: number }[] {
  const found: { at: number; end: number }[] = [];
  for (const needle of needles) {
    let at = text.length;
    for (let n = 0; n < most && at > 0; n++) {
      at = text.lastIndexOf(needle, at - 1);
      if (at < 0) break;
      // "unanswerable" holds no "answer".
      const end = at + needle.length;
      if (
        !(/^[a-z]/.test(needle) && /[\p{L}_]/u.test(text[at - 1] ?? '')) &&
        !(/[a-z]$/.test(needle) && /[\p{L}_]/u.test(text[end] ?? ''))
      )
        found.push({ at, end });
    }
  }
  return found.sort((a, b) => b.at - a.at);
}

const openers = ['\\[', '\\(', '$$', '$'] as const;
const closers: Record<string, string> = { '\\[': '\\]', '\\(': '\\)', $$: '$$', $: '$' };

/** A formula between delimiters. */
export interface Formula {
  /** Without the delimiters. */
  text: string;
  start: number;
  end: number;
  /** With the delimiters. */
  outerStart: number;
  outerEnd: number;
}

/** Next unescaped `needle`. */
function nextOf(text: string, needle: string, from: number): number {
  let at = text.indexOf(needle, from);
  // "\$" is a currency sign, "\\[4pt]" a line break.
  while (at > 0 && text[at - 1] === '\\') at = text.indexOf(needle, at + 1);
  return at;
}

/**
 * Formulas of a text, in order: `$…$`, `$$…$$`, `\(…\)`, `\[…\]`. A dollar before a digit that no other dollar
 * of its line follows is a currency sign.
 */
export function formulas(text: string): Formula[] {
  const found: Formula[] = [];
  let at = 0;
  while (at < text.length) {
    let start = -1;
    let opener = '';
    for (const one of openers) {
      const place = nextOf(text, one, at);
      if (place >= 0 && (start < 0 || place < start)) [start, opener] = [place, one];
    }
    if (start < 0) break;
    const from = start + opener.length;
    const end = nextOf(text, closers[opener]!, from);
    const isCrossing = opener === '$' && end >= 0 && text.slice(from, end).includes('\n\n');
    if (end < 0 || isCrossing) {
      at = from;
      // Without a partner, no later opener of this kind has one either; skip the currency sign.
      if (end < 0 && opener === '$') break;
      continue;
    }
    const outerEnd = end + closers[opener]!.length;
    if (text.slice(from, end).trim() !== '')
      found.push({ text: text.slice(from, end), start: from, end, outerStart: start, outerEnd });
    at = outerEnd;
  }
  return found;
}
