/**
 * The grammar of answers, upper half: lists, labels, chains of relations, sets, sums and products. It reads LaTeX
 * and what people type without it, mixed, because responses mix them; what it cannot read is unparsable rather than
 * guessed.
 */
import type { Budget } from '../verdict.js';
import { Unparsable } from './cursor.js';
import { apply, integer, isApply, isNumber, type Node, type Relation } from './node.js';
import { normalize } from './normalize.js';
import { Atoms } from './parse-atoms.js';
import { rational } from './rational.js';
import { type Commas, tokenize } from './tokens.js';
import { wordSet } from './words.js';

/**
 * Relations by sign and command. "Implies" between two equations is read as one more link of a chain, and
 * subsets as elements: answers use them so.
 */
const relations: Record<string, Relation> = {
  '=': '=',
  '<': '<',
  '>': '>',
  lt: '<',
  gt: '>',
  le: '≤',
  leq: '≤',
  leqslant: '≤',
  leqq: '≤',
  ge: '≥',
  geq: '≥',
  geqslant: '≥',
  geqq: '≥',
  ne: '≠',
  neq: '≠',
  in: '∈',
  approx: '≈',
  equiv: '≡',
  simeq: '≈',
  thickapprox: '≈',
  coloneqq: '=',
  implies: '=',
  subset: '∈',
  subseteq: '∈',
  approxeq: '≈',
  doteq: '≈',
};
/** Words and commands after which only conditions and explanations stand. */
// Words that begin a condition or an explanation: "for all n", "where k is an integer".
const trailing =
  /^(?:for|where|with|when|if|such|as|in|on|which|because|since|given|by|per|about|approximately|that|otherwise|from|of|to|at|then|is|are|modulo|mod|wherein|provided|unless|while|,)(?![a-z])/i;
// Commands of which the same is true.
const trailingCommands = wordSet(`
  forall quad text Rightarrow Longrightarrow mid because therefore iff Leftrightarrow pmod bmod to
  rightarrow implies mod
`);

/** "k ∈ ℤ". */
const isRange = (node: Node): boolean =>
  node.kind === 'relation' &&
  node.ops[0] === '∈' &&
  node.args[0]!.kind === 'symbol' &&
  ((node.args[1]!.kind === 'constant' && node.args[1]!.name !== 'empty') ||
    (node.args[1]!.kind === 'symbol' && /^[RZNQC]/.test(node.args[1]!.name)));

/** Recursive descent over the tokens of an answer; the grammar's upper half, down to powers. */
export class Parser extends Atoms {
  /** The whole answer: items that commas, semicolons, row breaks or "and" part. */
  answer(): Node {
    const items: Node[] = [];
    while (!this.isEnd()) {
      if (this.isSeparator()) {
        this.next();
        continue;
      }
      if (items.length > 0 && this.#endsHere()) break;
      items.push(this.item());
      if (this.isEnd() || this.isSeparator()) continue;
      if (this.#endsHere()) break;
      throw new Unparsable(this.token.text);
    }
    if (items.length === 0) throw new Unparsable('empty');
    // "2kπ, k ∈ ℤ": what the parameter ranges over is no item.
    const values = items.filter((one, i) => i === 0 || !isRange(one));
    return values.length === 1 ? values[0]! : { kind: 'list', items: values };
  }

  /** Whether what follows explains the answer rather than belonging to it. */
  #endsHere(): boolean {
    const { kind, text } = this.token;
    // "Minimum: 1, Maximum: 3": the label of the next item.
    if (kind === 'text' || kind === 'word') return trailing.test(text) || !this.#labels();
    // "(k ∈ Z)" after a family of solutions.
    if (kind === 'sign' && text === '(')
      return this.tokens.slice(this.at, this.at + 6).some((one) => one.text === 'in');
    return kind === 'command' && trailingCommands.has(text);
  }

  /** One item: a label, then a chain of relations, with what explains it dropped. */
  override item(): Node {
    this.#label();
    this.accept('forall', 'command');
    // A chain: a < x ≤ b is one relation of three sides.
    const args = [this.sets()];
    const ops: Relation[] = [];
    for (;;) {
      const { kind, text } = this.token;
      const isNot = kind === 'command' && text === 'not';
      const op =
        kind === 'sign' || kind === 'command'
          ? relations[isNot ? (this.tokens[this.at + 1]?.text ?? '') : text]
          : undefined;
      if (!op || (kind === 'sign' && !'=<>'.includes(text))) break;
      this.next();
      if (isNot) this.next();
      // "≤" written "< =", and an empty right side.
      if (this.token.text === '=' && (op === '<' || op === '>')) {
        this.next();
        ops.push(op === '<' ? '≤' : '≥');
      } else ops.push(isNot && op === '=' ? '≠' : op);
      args.push(this.sets());
    }
    return ops.length === 0 ? args[0]! : { kind: 'relation', ops, args };
  }

  /** "Minimum: 1", "The answer is 5", "x: 3": words before a value say what it is, not how much. */
  #label(): void {
    const value = this.#labels();
    if (value) this.at = value;
  }

  /** Where the value begins that the words here say something of; 0 where they do not. */
  #labels(): number {
    let at = this.at;
    while (
      ['word', 'text'].includes(this.tokens[at]!.kind) &&
      !/\b(?:no|not|none|never|neither)\b/i.test(this.tokens[at]!.text)
    )
      at++;
    if (at === this.at) return 0;
    const after = this.tokens[at]!;
    if (after.text === ':' || after.text === '=') return at + 1;
    const isValue =
      after.kind === 'number' ||
      (after.kind === 'command' && /^(?:d?frac|sqrt|pi|begin|[{$])$/.test(after.text)) ||
      after.text === '(';
    return isValue ? at : 0;
  }

  /** Unions, intersections and differences of sets, and ratios. */
  sets(): Node {
    let left = this.sum();
    for (;;) {
      const { kind, text } = this.token;
      const op =
        kind !== 'command'
          ? undefined
          : {
              cup: 'union',
              cupdot: 'union',
              sqcup: 'union',
              uplus: 'union',
              bigcup: 'union',
              cap: 'intersect',
              setminus: 'without',
              backslash: 'without',
            }[text];
      if (op) {
        this.next();
        left = apply(op, left, this.sum());
      } else if ((kind === 'sign' && text === ':') || (kind === 'command' && text === 'colon')) {
        this.next();
        left = isApply(left, 'ratio')
          ? apply('ratio', ...left.args, this.sum())
          : apply('ratio', left, this.sum());
      } else return left;
    }
  }

  /** Sums and differences, ± among them; left to right. */
  override sum(): Node {
    this.enter();
    let left = this.term(true);
    for (;;) {
      const { kind, text } = this.token;
      const op =
        kind === 'sign' && (text === '+' || text === '-')
          ? text
          : kind === 'command' && (text === 'pm' || text === 'mp')
            ? text
            : undefined;
      if (!op) break;
      this.next();
      const right = this.term(true);
      if (op === '+') left = apply('add', left, right);
      else if (op === '-') left = apply('add', left, apply('neg', right));
      else left = apply(op, left, right);
    }
    this.leave();
    return left;
  }

  /** Products and quotients, with signs before them and units behind. */
  term(signed: boolean): Node {
    const sign = this.token;
    if (
      signed &&
      ((sign.kind === 'sign' && (sign.text === '-' || sign.text === '+')) ||
        (sign.kind === 'command' && (sign.text === 'pm' || sign.text === 'mp')))
    ) {
      this.next();
      this.enter();
      const value = this.term(true);
      this.leave();
      return sign.text === '-'
        ? apply('neg', value)
        : sign.text === '+'
          ? value
          : apply(sign.text, integer(0), value);
    }
    // Units bind to the factor before them: 3 m · 2 m is six square metres.
    let left = this.withUnit(this.factor());
    for (;;) {
      const { kind, text } = this.token;
      const isTimes =
        (kind === 'sign' && text === '*') ||
        (kind === 'command' && (text === 'cdot' || text === 'times' || text === 'ast'));
      const isOver =
        (kind === 'sign' && text === '/') || (kind === 'command' && (text === 'div' || text === 'slash'));
      if (isTimes || isOver) {
        this.next();
        const right = this.#signedFactor();
        left = apply(isTimes ? 'mul' : 'div', left, right);
      } else if (this.startsFactor()) {
        // Side by side means a product, except for a whole number before a proper fraction.
        const mixed = this.#mixed(left);
        left = mixed ?? apply('mul', left, this.factor());
      } else break;
      left = this.withUnit(left);
    }
    return left;
  }

  /** A factor after an operator may have a sign of its own: 2 · −3. */
  #signedFactor(): Node {
    if (this.token.kind === 'sign' && this.token.text === '-') {
      this.next();
      this.enter();
      const value = apply('neg', this.#signedFactor());
      this.leave();
      return value;
    }
    return this.factor();
  }

  /** "6 \frac{1}{64}" and "6 1/64": a whole number before a proper fraction adds it. */
  #mixed(left: Node): Node | undefined {
    if (!isNumber(left) || left.decimals !== undefined || left.value.d !== 1n) return undefined;
    // If it is no mixed number, nothing of it has been read.
    const start = this.at;
    const { kind, text } = this.token;
    let fraction: Node | undefined;
    if (kind === 'command' && /^[dtc]?frac$/.test(text)) fraction = this.factor();
    else if (
      kind === 'number' &&
      this.tokens[this.at + 1]?.text === '/' &&
      this.tokens[this.at + 2]?.kind === 'number'
    ) {
      const top = this.factor();
      this.next();
      fraction = apply('div', top, this.factor());
    }
    if (isApply(fraction, 'div')) {
      const [n, d] = fraction.args;
      if (
        isNumber(n) &&
        isNumber(d) &&
        n.value.d === 1n &&
        d.value.d === 1n &&
        n.value.n > 0n &&
        n.value.n < d.value.n
      )
        return { kind: 'number', value: rational(left.value.n * d.value.n + n.value.n, d.value.n) };
    }
    this.at = start;
    return undefined;
  }
}

/** An answer as a tree; throws `Unparsable`, `TooLarge` or `LimitReached`. `text` is as written. */
export function parse(text: string, commas: Commas, budget: Budget): Node {
  budget.spend(20 + text.length / 20);
  return new Parser(tokenize(normalize(text), commas, budget), budget).answer();
}
