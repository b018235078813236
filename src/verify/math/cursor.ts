import type { Budget } from '../verdict.js';
import { TooLarge } from './rational.js';
import type { Token } from './tokens.js';

/** Thrown where a text is no formula of this grammar. */
export class Unparsable extends Error {}
const maxDepth = 200;

/** Commands that are no value, so that nothing is multiplied with them. */
export const notValues = new Set([
  'cdot',
  'times',
  'div',
  'ast',
  'le',
  'leq',
  'ge',
  'geq',
  'leqslant',
  'geqslant',
  'lt',
  'gt',
  'ne',
  'neq',
  'in',
  'approx',
  'equiv',
  'cup',
  'cap',
  'setminus',
  'pm',
  'mp',
  '}',
  'end',
  'mid',
  'forall',
  'to',
  'rightarrow',
  'Rightarrow',
  'implies',
  'rangle',
  'rfloor',
  'rceil',
  'rvert',
  'rVert',
  'colon',
  'not',
  'text',
  'iff',
  'Leftrightarrow',
  'subset',
  'subseteq',
  'circ',
  'degree',
  'quad',
  'simeq',
  'Longrightarrow',
  'because',
  'therefore',
  'pmod',
  'bmod',
  'mod',
  'choose',
  'over',
  'bigcup',
  'backslash',
  'slash',
  '%',
  '|',
  'land',
  'lor',
  'wedge',
  'vee',
  'rbrace',
  'colon',
  'prime',
  'hline',
  'right',
  'approxeq',
  'doteq',
  'leqq',
  'geqq',
  'coloneqq',
  'thickapprox',
]);

/** Walks over the tokens of an answer, within its budget and a depth of nesting. */
export abstract class Cursor {
  at = 0;
  #depth = 0;
  /** Bars that are open: inside, a bar closes. */
  protected bars = 0;

  constructor(
    readonly tokens: readonly Token[],
    readonly budget: Budget,
  ) {}

  get token(): Token {
    return this.tokens[this.at]!;
  }

  next(): Token {
    const found = this.token;
    if (found.kind !== 'end') this.at++;
    this.budget.spend();
    return found;
  }

  enter(): void {
    if (++this.#depth > maxDepth) throw new TooLarge();
  }

  leave(): void {
    this.#depth--;
  }

  is(text: string, kind: Token['kind'] = 'sign'): boolean {
    return this.token.kind === kind && this.token.text === text;
  }

  accept(text: string, kind: Token['kind'] = 'sign'): boolean {
    const found = this.is(text, kind);
    if (found) this.next();
    return found;
  }

  isEnd(): boolean {
    return this.token.kind === 'end';
  }

  isSeparator(): boolean {
    const { kind, text } = this.token;
    return (
      kind === 'row' ||
      (kind === 'sign' && (text === ',' || text === ';' || text === '&')) ||
      (kind === 'command' && (text === 'land' || text === 'lor' || text === 'wedge' || text === 'vee'))
    );
  }

  startsFactor(): boolean {
    const { kind, text } = this.token;
    if (kind === 'number' || kind === 'letter') return true;
    if (kind === 'sign') return '([{€£¥'.includes(text) || (text === '|' && this.bars === 0);
    return kind === 'command' && !notValues.has(text) && !(text === '$' || text === 'S');
  }
}
