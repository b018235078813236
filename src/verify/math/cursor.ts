/**
 * What the classes of the grammar share: a place in the tokens, a budget, a bound on depth. The grammar is spread
 * over a chain of classes because its parts call each other.
 */
import type { Budget } from '../verdict.js';
import { TooLarge } from './rational.js';
import type { Token } from './tokens.js';
import { wordSet } from './words.js';

/** Thrown where a text is no formula of this grammar. */
export class Unparsable extends Error {}
// Deep enough for any answer that a person writes, and far from the end of the stack.
const maxDepth = 200;

/** Commands that are no value, so that nothing is multiplied with them. */
export const notValues = wordSet(`
  cdot times div ast le leq ge geq leqslant geqslant lt gt ne neq in approx equiv cup cap setminus pm mp }
  end mid forall to rightarrow Rightarrow implies rangle rfloor rceil rvert rVert colon not text iff
  Leftrightarrow subset subseteq circ degree quad simeq Longrightarrow because therefore pmod bmod mod
  choose over bigcup backslash slash % | land lor wedge vee rbrace prime hline right approxeq doteq leqq
  geqq coloneqq thickapprox
`);

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

  /** The token that is looked at; at the end it is the token `end`, for ever. */
  get token(): Token {
    return this.tokens[this.at]!;
  }

  /** Consumes the token. Every step is paid for, so that a grammar that goes back and forth ends, too. */
  next(): Token {
    const found = this.token;
    if (found.kind !== 'end') this.at++;
    this.budget.spend();
    return found;
  }

  /** One level of nesting deeper. @throws TooLarge beyond `maxDepth` */
  enter(): void {
    if (++this.#depth > maxDepth) throw new TooLarge();
  }

  /** Back up. Not in a `finally`: whoever throws abandons the whole parse. */
  leave(): void {
    this.#depth--;
  }

  /** Whether the token is this sign, or this command, word … */
  is(text: string, kind: Token['kind'] = 'sign'): boolean {
    return this.token.kind === kind && this.token.text === text;
  }

  /** The same, and consumes it. */
  accept(text: string, kind: Token['kind'] = 'sign'): boolean {
    const found = this.is(text, kind);
    if (found) this.next();
    return found;
  }

  isEnd(): boolean {
    return this.token.kind === 'end';
  }

  /**
   * What parts the items of an answer: commas (as which "and" and "or" arrive), semicolons, row breaks,
   * logical signs.
   */
  isSeparator(): boolean {
    const { kind, text } = this.token;
    return (
      kind === 'row' ||
      (kind === 'sign' && (text === ',' || text === ';' || text === '&')) ||
      (kind === 'command' && (text === 'land' || text === 'lor' || text === 'wedge' || text === 'vee'))
    );
  }

  /**
   * Whether a value can begin here: what two values side by side multiply. A bar opens only where none is
   * open.
   */
  startsFactor(): boolean {
    const { kind, text } = this.token;
    if (kind === 'number' || kind === 'letter') return true;
    if (kind === 'sign') return '([{€£¥'.includes(text) || (text === '|' && this.bars === 0);
    return kind === 'command' && !notValues.has(text) && !(text === '$' || text === 'S');
  }
}
