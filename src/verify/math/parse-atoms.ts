import type { Budget } from '../verdict.js';
import { apply, form, integer, isApply, isNumber, type Node } from './node.js';
import { environment, type Inner } from './parse-environments.js';
import { parseDecimal, type Rational, rational, TooLarge } from './rational.js';
import type { Token } from './tokens.js';
import { functionNames, isUnit, parseUnit } from './words.js';

/** Thrown where a text is no formula of this grammar. */
export class Unparsable extends Error {}

const maxDepth = 200;
const fractions = new Set(['frac', 'dfrac', 'tfrac', 'cfrac']);
const constants: Record<string, 'pi' | 'infinity' | 'empty'> = {
  pi: 'pi',
  infty: 'infinity',
  emptyset: 'empty',
  varnothing: 'empty',
};
const aliases: Record<string, string> = {
  asin: 'arcsin',
  acos: 'arccos',
  atan: 'arctan',
  tg: 'tan',
  ctg: 'cot',
  arctg: 'arctan',
};
/** Commands that are no value, so that nothing is multiplied with them. */
const notValues = new Set([
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

/** The grammar's lower half: brackets, fractions, functions, names and numbers with what is attached to them. */
export abstract class Atoms implements Inner {
  at = 0;
  #depth = 0;
  /** Bars that are open: inside, a bar closes. */
  #bars = 0;

  constructor(
    readonly tokens: readonly Token[],
    readonly budget: Budget,
  ) {}

  abstract sum(): Node;
  abstract item(): Node;

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
    if (kind === 'sign') return '([{€£¥'.includes(text) || (text === '|' && this.#bars === 0);
    return kind === 'command' && !notValues.has(text) && !(text === '$' || text === 'S');
  }

  /** A value with its exponents, factorials, percent and degree signs. */
  factor(): Node {
    this.enter();
    let value = this.#postfix(this.#atom());
    while (this.is('^')) {
      this.next();
      value = this.#postfix(this.#power(value));
    }
    this.leave();
    return value;
  }

  #postfix(start: Node): Node {
    let value = start;
    for (;;) {
      if (this.accept('!')) value = apply('factorial', value);
      else if (this.accept('%') || this.accept('%', 'command')) value = apply('percent', value);
      else if (this.accept('degree', 'command')) value = apply('degree', value);
      else if (this.is("'") && value.kind === 'symbol') {
        this.next();
        value = { kind: 'symbol', name: `${value.name}'` };
      } else return value;
    }
  }

  #power(base: Node): Node {
    // "^\circ", "^{\circ}", "^{th}", "^\prime".
    const isBraced = this.accept('{');
    const { kind, text } = this.token;
    const isMark = kind === 'command' && (text === 'circ' || text === 'degree' || text === 'prime');
    const isOrdinal =
      kind === 'text' ||
      kind === 'word' ||
      (kind === 'letter' && /^(?:th|st|nd|rd)$/.test(text + (this.tokens[this.at + 1]?.text ?? '')));
    if (isMark || isOrdinal) {
      this.next();
      while (isBraced && this.token.kind !== 'end' && !this.accept('}')) this.next();
      if (text === 'circ' || text === 'degree') {
        // "°C" is a unit.
        if (isMark && /^[CF]$/.test(this.token.text) && this.token.kind !== 'number') this.next();
        return apply('degree', base);
      }
      return text === 'prime' && base.kind === 'symbol' ? { kind: 'symbol', name: `${base.name}'` } : base;
    }
    let exponent: Node;
    if (isBraced) {
      exponent = this.sum();
      if (!this.accept('}')) throw new Unparsable('exponent');
    } else if (this.accept('-')) exponent = apply('neg', this.#postfix(this.#atom()));
    else exponent = this.#single();
    return apply('pow', base, exponent);
  }

  /** The argument of a command without braces: one digit, letter or command. */
  #single(): Node {
    const { kind, text } = this.token;
    if (kind === 'number' && /^\d{2,}$/.test(text) && !this.token.spaced) {
      // "\frac12": the first digit; the rest stays.
      const previous = this.tokens[this.at - 1];
      if (previous?.kind === 'command' && fractions.has(previous.text)) return this.#splitNumber();
    }
    return this.#atom();
  }

  #splitNumber(): Node {
    const { text } = this.token;
    (this.tokens as Token[]).splice(
      this.at,
      1,
      { kind: 'number', text: text[0]!, spaced: false },
      { kind: 'number', text: text.slice(1), spaced: false },
    );
    return this.#atom();
  }

  /** A braced group, or a single token. */
  argument(): Node {
    if (!this.accept('{')) return this.#single();
    if (this.accept('}')) throw new Unparsable('empty braces');
    const value = this.item();
    if (!this.accept('}')) throw new Unparsable('brace');
    return value;
  }

  #atom(): Node {
    const { kind, text } = this.token;
    this.budget.spend();
    if (kind === 'number') return this.#number();
    if (kind === 'letter') return this.#name();
    if (kind === 'sign') return this.#bracketed(text);
    if (kind === 'command') return this.#command(text);
    if (kind === 'text' || kind === 'word') return this.#words();
    throw new Unparsable(text);
  }

  #words(): Node {
    const words: string[] = [];
    while (this.token.kind === 'text' || this.token.kind === 'word') words.push(this.next().text);
    return { kind: 'text', text: words.join(' ') };
  }

  #number(): Node {
    const { text } = this.next();
    let value = parseDecimal(text);
    if (!value) throw new TooLarge();
    const point = text.indexOf('.');
    let decimals: number | undefined =
      point < 0 ? (/e/i.test(text) ? 0 : undefined) : text.replace(/[eE].*/, '').length - point - 1;
    // "0.\overline{3}": the digits repeat for ever.
    if (
      (this.is('overline', 'command') || this.is('dot', 'command') || this.is('bar', 'command')) &&
      point >= 0
    ) {
      const repeated = this.#repeated(value, decimals!);
      if (repeated) [value, decimals] = [repeated, undefined];
    }
    const significant = text
      .replace(/[eE].*/, '')
      .replace('.', '')
      .replace(/^0+/, '').length;
    const node: Node = { kind: 'number', value, significant, ...(decimals !== undefined && { decimals }) };
    if (!this.is('_')) return node;
    this.next();
    return apply('base', node, this.#subscript());
  }

  #repeated(start: Rational, decimals: number): Rational | undefined {
    const from = this.at;
    this.next();
    const isBraced = this.accept('{');
    const { kind, text } = this.token;
    if (kind !== 'number' || !/^\d+$/.test(text)) {
      this.at = from;
      return undefined;
    }
    this.next();
    if (isBraced) this.accept('}');
    const scale = 10n ** BigInt(decimals);
    const nines = 10n ** BigInt(text.length) - 1n;
    return rational(start.n * scale * nines + BigInt(text) * start.d, start.d * scale * nines);
  }

  /** What stands below a name: digits, letters or words, as a node. */
  #subscript(): Node {
    if (!this.accept('{')) return this.#single();
    const parts: string[] = [];
    const start = this.at;
    for (let open = 1; this.token.kind !== 'end'; ) {
      if (this.is('{')) open++;
      if (this.is('}') && --open === 0) break;
      parts.push(this.next().text);
    }
    if (!this.accept('}')) throw new Unparsable('subscript');
    const [only] = this.tokens.slice(start, start + 1);
    if (parts.length === 1 && only?.kind === 'number')
      return { kind: 'number', value: parseDecimal(only.text)! };
    return { kind: 'symbol', name: parts.join('') };
  }

  #name(): Node {
    const { text } = this.next();
    let name = text;
    if (this.accept('_')) {
      const below = this.#subscript();
      name += `_${isNumber(below) ? below.value.n : below.kind === 'symbol' ? below.name : below.kind === 'constant' ? below.name : '?'}`;
    }
    if (name === 'e' || name === 'i') return { kind: 'constant', name };
    return this.#call(name) ?? { kind: 'symbol', name };
  }

  /** f(x): a name of its own, not a product; p(0), too, but not p(x + 1), which may be one. */
  #call(name: string): Node | undefined {
    if (!/^[fgFGpqPQhH]/.test(name) || !this.is('(')) return undefined;
    const start = this.at;
    const argument = this.#atom();
    const isSimple = argument.kind === 'number' || argument.kind === 'symbol' || argument.kind === 'constant';
    if (isSimple || /^[fgFG]/.test(name)) return { kind: 'symbol', name: `${name}(${form(argument)})` };
    this.at = start;
    return undefined;
  }

  #bracketed(open: string): Node {
    if (open === '{') {
      this.next();
      return this.#group('{', true);
    }
    if (open === '(' || open === '[' || open === ']') {
      this.next();
      return this.#group(open === ']' ? '(' : open, false);
    }
    if (open === '|') return this.#bars_('|');
    if ('€£¥'.includes(open)) {
      this.next();
      return { kind: 'apply', op: 'unit', args: [this.factor()], unit: open };
    }
    throw new Unparsable(open);
  }

  #bars_(bar: string): Node {
    this.next();
    this.#bars++;
    const outer = this.#bars;
    const value = this.sum();
    if (this.#bars !== outer || !(this.accept(bar) || this.accept(bar, 'command')))
      throw new Unparsable('bars');
    this.#bars--;
    return apply('abs', value);
  }

  /** Items up to a closing bracket. Invisible braces hold one item, or a set written without its backslashes. */
  #group(open: '(' | '[' | '{', isInvisible: boolean): Node {
    this.enter();
    const outerBars = this.#bars;
    this.#bars = 0;
    const items: Node[] = [];
    while (!this.#isCloser()) {
      if (this.token.kind === 'end') throw new Unparsable('bracket');
      if (this.isSeparator()) {
        this.next();
        continue;
      }
      if (open === '{' && (this.is('|') || this.is(':') || this.is('mid', 'command')) && items.length > 0) {
        this.next();
        const conditions = this.#rest();
        this.next();
        this.leave();
        this.#bars = outerBars;
        return {
          kind: 'builder',
          element: items.length === 1 ? items[0]! : { kind: 'list', items },
          condition: conditions,
        };
      } else items.push(open === '{' ? this.#element() : this.item());
      if (
        !this.#isCloser() &&
        !this.isSeparator() &&
        !(open === '{' && (this.is('|') || this.is(':') || this.is('mid', 'command')))
      )
        throw new Unparsable(this.token.text);
    }
    const { text: close } = this.next();
    this.leave();
    this.#bars = outerBars;
    if (
      items.length === 1 &&
      (isInvisible ||
        (open === '(' && close === ')') ||
        (open === '[' && close === ']' && items[0]!.kind !== 'text'))
    )
      return items[0]!;
    return { kind: 'group', open, close: close === '[' ? ')' : (close as ')'), items };
  }

  /** An element of a set: where a colon follows, the set's condition, not a ratio. */
  #element(): Node {
    const ahead = this.tokens[this.at + 1];
    if (
      this.token.kind === 'letter' &&
      ahead &&
      (ahead.text === '|' || ahead.text === ':' || ahead.text === 'mid')
    )
      return this.#name();
    return this.item();
  }

  #rest(): Node {
    const items: Node[] = [];
    while (!this.#isCloser()) {
      if (this.token.kind === 'end') throw new Unparsable('bracket');
      if (this.isSeparator()) {
        this.next();
        continue;
      }
      items.push(this.item());
      if (!this.#isCloser() && !this.isSeparator()) throw new Unparsable(this.token.text);
    }
    return items.length === 1 ? items[0]! : { kind: 'list', items };
  }

  #isCloser(): boolean {
    const { kind, text } = this.token;
    return (
      (kind === 'sign' &&
        (text === ')' || text === ']' || text === '}' || (text === '[' && this.#closesOutward()))) ||
      (kind === 'command' && (text === '}' || text === 'rangle' || text === 'rbrace'))
    );
  }

  /** "]0, 1[": the French way. */
  #closesOutward(): boolean {
    const after = this.tokens[this.at + 1];
    return after === undefined || after.kind === 'end' || (after.kind === 'command' && after.text === 'cup');
  }

  #command(name: string): Node {
    this.next();
    if (fractions.has(name)) {
      const top = this.argument();
      return apply('div', top, this.argument());
    }
    const constant = Object.hasOwn(constants, name) ? constants[name] : undefined;
    if (constant) return { kind: 'constant', name: constant };
    if (functionNames.has(name)) return this.#function(aliases[name] ?? name);
    switch (name) {
      case '{':
      case 'lbrace':
        return this.#group('{', false);
      case 'langle':
        return this.#group('(', false);
      case '$':
        return this.#currency();
      case 'binom':
      case 'dbinom':
      case 'tbinom': {
        const top = this.argument();
        return apply('binomial', top, this.argument());
      }
      case 'lvert':
      case 'vert':
        this.at--;
        return this.#bars_(name === 'vert' ? 'vert' : 'rvert');
      case '|':
        this.at--;
        return this.#bars_('|');
      case 'lfloor':
      case 'lceil':
        return this.#between(name === 'lfloor' ? 'floor' : 'ceil', name === 'lfloor' ? 'rfloor' : 'rceil');
      case 'mathbb':
        return this.#numberSet();
      case 'begin':
        return environment(this);
      case 'overline':
      case 'widehat':
      case 'angle':
      case 'triangle':
      case 'widetilde':
        return apply(name, this.argument());
      default:
        return this.#other(name);
    }
  }

  /** Greek letters and whatever else is a name. */
  #other(name: string): Node {
    if (notValues.has(name) || name.length === 1) throw new Unparsable(`\\${name}`);
    let full = name.replace(/^var(?=[a-z])/, '');
    if (this.accept('_')) {
      const below = this.#subscript();
      full += `_${isNumber(below) ? below.value.n : below.kind === 'symbol' ? below.name : '?'}`;
    }
    return { kind: 'symbol', name: full };
  }

  #currency(): Node {
    const value = this.factor();
    return { kind: 'apply', op: 'unit', args: [value], unit: '$' };
  }

  #between(op: string, close: string): Node {
    const value = this.sum();
    if (!this.accept(close, 'command')) throw new Unparsable(close);
    return apply(op, value);
  }

  #numberSet(): Node {
    const isBraced = this.accept('{');
    const { text } = this.next();
    if (isBraced) this.accept('}');
    // ℝ⁺ and ℕ₀ are names of their own.
    let suffix = '';
    while (this.is('^') || this.is('_')) {
      suffix += this.next().text;
      if (this.accept('{')) {
        while (this.token.kind !== 'end' && !this.is('}')) suffix += this.next().text;
        this.accept('}');
      } else suffix += this.next().text;
    }
    return suffix === '' && /^[RZNQC]$/.test(text)
      ? { kind: 'constant', name: text as 'R' }
      : { kind: 'symbol', name: text + suffix };
  }

  #function(name: string): Node {
    if (name === 'sqrt') {
      let index: Node = integer(2);
      if (this.accept('[')) {
        index = this.sum();
        if (!this.accept(']')) throw new Unparsable('root');
      }
      return apply('root', this.argument(), index);
    }
    let base: Node | undefined;
    let exponent: Node | undefined;
    for (;;) {
      if (!base && this.accept('_')) base = this.argument();
      else if (!exponent && this.accept('^')) exponent = this.argument();
      else break;
    }
    const args = this.#arguments();
    let value =
      name === 'log' || name === 'lg'
        ? apply('log', ...args, ...(base ? [base] : [integer(10)]))
        : { kind: 'apply' as const, op: name, args };
    if (name === 'log' && !base) value = apply('log', ...args);
    if (!exponent) return value;
    const isInverse =
      isApply(exponent, 'neg') && isNumber(exponent.args[0]) && exponent.args[0].value.n === 1n;
    return isInverse && /^(?:sin|cos|tan)$/.test(name)
      ? apply(`arc${name}`, ...args)
      : apply('pow', value, exponent);
  }

  /** In brackets, or the factors that follow up to a sign, a dot or another function: sin 2x cos x. */
  #arguments(): Node[] {
    if (this.is('(') || this.is('[')) {
      const group = this.#atom();
      return group.kind === 'group' ? [...group.items] : [group];
    }
    if (this.accept('-')) return [apply('neg', this.factor())];
    if (!this.startsFactor()) throw new Unparsable('argument');
    let value = this.factor();
    while (
      this.startsFactor() &&
      !(this.token.kind === 'command' && functionNames.has(this.token.text)) &&
      !this.is('(') &&
      !this.is('|')
    )
      value = apply('mul', value, this.factor());
    return [value];
  }

  /** A unit or counted noun behind a value. */
  withUnit(value: Node): Node {
    const parts: string[] = [];
    const start = this.at;
    if (this.is('$', 'command') || this.is('€') || this.is('£') || this.is('¥'))
      return { kind: 'apply', op: 'unit', args: [value], unit: this.next().text };
    if (value.kind === 'text' || value.kind === 'relation') return value;
    const isWord = () =>
      this.token.kind === 'text' ||
      (this.token.kind === 'word' &&
        !/^(?:for|where|with|if|when|such|as|mod|modulo|is|are|in)$/i.test(this.token.text));
    while (isWord() || (parts.length > 0 && (this.is('/') || this.is('^')))) {
      if (
        this.token.kind === 'text' &&
        /^\s*(?:for|where|with|if|when|such|as|modulo)\b/i.test(this.token.text)
      )
        break;
      const { text } = this.next();
      parts.push(text);
      if (text === '^') {
        this.accept('{');
        parts.push(this.next().text);
        this.accept('}');
      }
    }
    if (parts.length === 0) return value;
    const unit = parts.join(' ').replace(/ ?\^ ?/g, '^');
    // "2 \text{ or } 3 ..." and sentences are no units.
    if (
      !parseUnit(unit) &&
      (/\b(?:no|not|or|and|than|but|except)\b/.test(unit) || parts.length > 6) &&
      !isUnit(unit)
    ) {
      this.at = start;
      return value;
    }
    return { kind: 'apply', op: 'unit', args: [value], unit };
  }
}
