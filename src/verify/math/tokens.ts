/**
 * From text to tokens. What a comma, a letter or a dollar is depends on what stands around it, and is decided here
 * as far as that can be done without a grammar.
 */
import type { Budget } from '../verdict.js';
import { TooLarge } from './rational.js';
import { closing } from './scan.js';
import { functionNames, isUnit, wordSet, wordValue } from './words.js';

export type TokenKind = 'number' | 'letter' | 'command' | 'sign' | 'word' | 'text' | 'row' | 'end';

export interface Token {
  kind: TokenKind;
  /** Digits, letter, name of the command without its backslash, sign, word, text. */
  text: string;
  /** White space stood before it. */
  spaced: boolean;
}

/** Commands whose argument is set upright or bold: text where it is words, names otherwise. */
const fonts = wordSet(`
  text mathrm textbf textit mathbf operatorname mbox textrm mathit boldsymbol mathsf texttt emph
  textnormal hbox mathcal bm underline mathtt textsf operatorname* fbox boxed overrightarrow vec hat bar
  tilde
`);
// Commands that only lay out: their argument is no part of the answer.
const dropped = new Set(['phantom', 'label', 'tag', 'hspace', 'vspace', 'color', 'textcolor', 'tag*']);
// An answer has dozens; the limit keeps what follows, which looks back and ahead, within bounds.
const maxTokens = 4000;

// Sticky patterns: each is tried at one place and never searches ahead, so that cutting stays linear.
const numberPattern = /\d+(?:\.(?:\d+|(?=\\(?:overline|dot|bar))))?|\.\d+/y;
// Groups of three after one to three digits; "1,2345" and "1,234,5" are lists.
const thousandsPattern = /\d{1,3}(?:,\d{3})+(?![\d,]\d|\d)(?:\.\d+)?/y;
// The same with spaces; "2 345/6" is a mixed number.
const spacedPattern = /\d{1,3}(?: \d{3})+(?!\d| ?[\d/])(?:\.\d+)?/y;
// "1e5", and not the "e" of a product such as 3e.
const scientificPattern = /[eE][+-]?\d{1,4}(?![\w.])/y;
// A word, with its hyphens and apostrophes.
const lettersPattern = /[\p{L}\p{M}]+(?:['-][\p{L}]{2,})*/uy;
const commandPattern = /\\(?:[a-zA-Z]+\*?|[\s\S])/y;

/** What a sticky pattern matches at a place. */
function match(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

/** How commas between digits are read. */
export type Commas = 'thousands' | 'list' | 'decimal';

/** Runs of letters that mean something in a formula, and do not make its text prose. */
const isFormulaWord = (run: string) => functionNames.has(run) || isUnit(run) || wordValue(run) !== undefined;

/**
 * Cuts a text into tokens. Whether letters are names or words depends on the whole text: "abc" alone is a
 * product, in a sentence it is a word.
 */
class Lexer {
  readonly tokens: Token[] = [];
  #at = 0;
  #spaced = false;
  /** Round, square and curly brackets that are open: commas part items there. */
  #depth = 0;
  readonly #isProse: boolean;

  constructor(
    readonly text: string,
    readonly commas: Commas,
    readonly budget: Budget,
  ) {
    // Prose is looked for outside of commands and braces.
    const bare = text.replace(/\\[a-zA-Z]+/g, ' ').replace(/\{[^{}]{0,200}\}/g, ' ');
    const runs = bare.match(/\p{L}{4,}/gu) ?? [];
    // Two words side by side, or a long one.
    const isSentence = /(?:^|\s)[\p{L}']{2,}\s+[\p{L}']{2,}(?:\s|$)/u.test(bare);
    this.#isProse =
      isSentence ||
      runs.some((run) => !isFormulaWord(run.toLowerCase())) ||
      /^(?:yes|no|odd|all|any|not|none|one|two|six|ten)$/i.test(text.trim());
  }

  #push(kind: TokenKind, text: string): void {
    if (this.tokens.length >= maxTokens) throw new TooLarge();
    this.budget.spend();
    this.tokens.push({ kind, text, spaced: this.#spaced });
    this.#spaced = false;
  }

  /** All tokens, with `end` behind them, so that nobody has to look for the end of the list. */
  run(): Token[] {
    while (this.#at < this.text.length) {
      const one = this.text[this.#at]!;
      if (/\s/.test(one)) {
        this.#spaced = true;
        this.#at++;
      } else if (/[\d.]/.test(one) && this.#number()) continue;
      else if (one === '\\') this.#command();
      else if (/[\p{L}]/u.test(String.fromCodePoint(this.text.codePointAt(this.#at)!))) this.#letters();
      else this.#sign(one);
    }
    this.#spaced = false;
    this.#push('end', '');
    return this.tokens;
  }

  /** A number, if one is here. Inside of brackets commas part items, whatever they part outside. */
  #number(): boolean {
    const { text } = this;
    let found: string | undefined;
    if (this.commas === 'decimal') found = match(/\d+,\d+/y, text, this.#at)?.replace(',', '.');
    if (!found && this.commas === 'thousands' && this.#depth === 0) {
      found = match(thousandsPattern, text, this.#at);
      if (found && /^0/.test(found)) found = undefined;
    }
    found ??= match(spacedPattern, text, this.#at) ?? match(numberPattern, text, this.#at);
    if (found === undefined) return false;
    this.#at += found.length;
    // The exponent belongs to the number: "1.5e3" is no product.
    const exponent = match(scientificPattern, text, this.#at);
    if (exponent) this.#at += exponent.length;
    this.#push('number', found.replace(/[, ]/g, '') + (exponent ?? ''));
    return true;
  }

  /** A sign, of two characters where programmers write it so. */
  #sign(one: string): void {
    if ('([{'.includes(one)) this.#depth += one === '{' ? 0 : 1;
    if (')]'.includes(one)) this.#depth = Math.max(0, this.#depth - 1);
    const two = this.text.slice(this.#at, this.#at + 2);
    // What programmers write for one sign.
    const pair = { '<=': 'le', '>=': 'ge', '!=': 'ne', '=>': 'Rightarrow', '->': 'to', '==': '=' }[two];
    this.#at += pair ? 2 : 1;
    const dots = one === '.' && this.text.startsWith('..', this.#at);
    if (dots) {
      this.#at += 2;
      this.#push('command', 'ldots');
    } else if (pair && pair !== '=') this.#push('command', pair);
    else if (one === '\n') this.#spaced = true;
    else this.#push('sign', pair ?? one);
  }

  /** A command: escaped braces, fonts and layout are seen through, the rest goes to the parser. */
  #command(): void {
    const found = match(commandPattern, this.text, this.#at) ?? '\\';
    this.#at += found.length;
    const name = found.slice(1);
    if (name === '\\') this.#push('row', name);
    else if (name === '{' || name === '}') {
      this.#depth = Math.max(0, this.#depth + (name === '{' ? 1 : -1));
      this.#push('command', name);
    } else if (fonts.has(name)) this.#font(name);
    else if (dropped.has(name)) this.#argument();
    else if (name !== '' && !/^\s$/.test(name)) this.#push('command', name);
  }

  /** The braced argument that follows, consumed. */
  #argument(): string | undefined {
    while (this.text[this.#at] === ' ') this.#at++;
    if (this.text[this.#at] !== '{') return undefined;
    const close = closing(this.text, this.#at);
    if (close < 0) return undefined;
    const inner = this.text.slice(this.#at + 1, close);
    this.#at = close + 1;
    return inner;
  }

  /** The argument of a font: words become one token, everything else is read as if the font were not there. */
  #font(name: string): void {
    const start = this.#at;
    const inner = this.#argument();
    if (inner === undefined) return;
    const bare = inner.trim().replace(/^\{+|\}+$/g, '');
    if (/^[\s,]*(?:and|or)[\s,]*$/.test(inner)) this.#push('sign', ',');
    else if (/^(?:,|;)$/.test(bare)) this.#push('sign', ',');
    else if (/^\p{L}{2,}$/u.test(bare) && functionNames.has(bare)) this.#push('command', bare);
    else if (/^\p{L}$/u.test(bare) || (name !== 'text' && /^[A-Z]{2}$/.test(bare))) {
      // One letter is a name, or a unit after a number: the parser decides.
      this.#push('letter', bare);
      if (name === 'mathrm' || name === 'text')
        this.tokens.at(-1)!.kind = bare === 'e' || bare === 'i' ? 'letter' : 'text';
    } else if (
      /^[^\p{L}]*$/u.test(bare) ||
      /^[-+]?[\d.,/]+\s/.test(bare) ||
      /\\/.test(bare) ||
      /[=^_]/.test(bare)
    ) {
      // "\text{13}", "\boxed{\frac12}", "\text{ where } x": read as if it stood outside.
      this.#at = start;
      while (this.text[this.#at] === ' ') this.#at++;
    } else this.#push('text', bare);
  }

  /** A run of letters: a name, a function, a unit behind a number, a word of prose, or a product of names. */
  #letters(): void {
    const run = match(lettersPattern, this.text, this.#at) ?? this.text[this.#at]!;
    const lower = run.toLowerCase();
    const previous = this.tokens.at(-1);
    this.#at += run.length;
    if (run.length === 1) this.#push('letter', run);
    else if ((lower === 'and' || lower === 'or') && run !== 'AND') this.#push('sign', ',');
    else if (functionNames.has(run)) this.#push('command', run);
    else if (lower === 'pi' || lower === 'infty' || lower === 'infinity' || lower === 'inf' || run === 'oo')
      this.#push('command', lower === 'pi' ? 'pi' : 'infty');
    else if (lower === 'percent') this.#push('sign', '%');
    else if ((lower === 'degrees' || lower === 'degree') && previous) this.#push('command', 'degree');
    else if (
      this.#isProse ||
      run.includes('-') ||
      (isUnit(run) &&
        lower !== 'in' &&
        (previous?.kind === 'number' || previous?.text === '}' || previous?.text === ')'))
    )
      this.#push('word', run);
    else for (const letter of run) this.#push('letter', letter);
  }
}

/** Cuts a normalised text into tokens; throws `TooLarge` beyond 4000 of them. */
export const tokenize = (text: string, commas: Commas, budget: Budget): Token[] =>
  new Lexer(text, commas, budget).run();
