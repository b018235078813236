/** The grammar of answers, lower half: powers, commands, functions, units. */
import { notValues, Unparsable } from './cursor.js';
import { apply, integer, isApply, isNumber, type Node } from './node.js';
import { environment, type Inner } from './parse-environments.js';
import { Names } from './parse-names.js';
import type { Token } from './tokens.js';
import { functionNames, isUnit, parseUnit } from './words.js';

/** The sizes in which fractions are set make no difference. */
const fractions = new Set(['frac', 'dfrac', 'tfrac', 'cfrac']);
/** Commands that are constants. `e` and `i` are letters, and decided where names are. */
const constants: Record<string, 'pi' | 'infinity' | 'empty'> = {
  pi: 'pi',
  infty: 'infinity',
  emptyset: 'empty',
  varnothing: 'empty',
};
/** Other spellings of functions: those of programming languages, and those of Russian textbooks. */
const aliases: Record<string, string> = {
  asin: 'arcsin',
  acos: 'arccos',
  atan: 'arctan',
  tg: 'tan',
  ctg: 'cot',
  arctg: 'arctan',
};
/** The grammar's lower half: powers, fractions, functions and what is attached to a value. */
export abstract class Atoms extends Names implements Inner {
  /** A value with its exponents, factorials, percent and degree signs. */
  factor(): Node {
    // Depth is limited there: a response of ten thousand brackets must not overflow the stack.
    this.enter();
    let value = this.#postfix(this.atom());
    while (this.is('^')) {
      this.next();
      value = this.#postfix(this.#power(value));
    }
    this.leave();
    return value;
  }

  /** Marks behind a value, as many as there are: 5!!, 50 %, 30°, f''. */
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

  /** What stands in an exponent: a power, or a degree sign, an ordinal or a prime, which are none. */
  #power(base: Node): Node {
    // "^\circ", "^{\circ}", "^{th}", "^\prime".
    const isBraced = this.accept('{');
    const { kind, text } = this.token;
    // Decided by the first token: an exponent that is a value never begins with one of these.
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
      // Without braces a minus binds one value: x^-2y is x^(-2) · y.
    } else if (this.accept('-')) exponent = apply('neg', this.#postfix(this.atom()));
    else exponent = this.single();
    return apply('pow', base, exponent);
  }

  /** The argument of a command without braces: one digit, letter or command. */
  protected single(): Node {
    const { kind, text } = this.token;
    if (kind === 'number' && /^\d{2,}$/.test(text) && !this.token.spaced) {
      // "\frac12": the first digit; the rest stays.
      const previous = this.tokens[this.at - 1];
      if (previous?.kind === 'command' && fractions.has(previous.text)) return this.#splitNumber();
    }
    return this.atom();
  }

  /** LaTeX takes one character where no brace stands: "\frac12" is a half. */
  #splitNumber(): Node {
    const { text } = this.token;
    // The rest becomes a token of its own, which the second argument, or a product, finds in its place.
    (this.tokens as Token[]).splice(
      this.at,
      1,
      { kind: 'number', text: text[0]!, spaced: false },
      { kind: 'number', text: text.slice(1), spaced: false },
    );
    return this.atom();
  }

  /** A braced group, or a single token. */
  argument(): Node {
    if (!this.accept('{')) return this.single();
    if (this.accept('}')) throw new Unparsable('empty braces');
    const value = this.item();
    if (!this.accept('}')) throw new Unparsable('brace');
    return value;
  }

  /** One value: by the kind of its first token. */
  protected atom(): Node {
    const { kind, text } = this.token;
    this.budget.spend();
    if (kind === 'number') return this.number();
    if (kind === 'letter') return this.name();
    if (kind === 'sign') return this.bracketed(text);
    if (kind === 'command') return this.#command(text);
    if (kind === 'text' || kind === 'word') return this.words();
    throw new Unparsable(text);
  }

  /** A value that begins with a command. What is no value is unparsable here. */
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
        return this.group('{', false);
      case 'langle':
        return this.group('(', false);
      case '$':
        return this.#currency();
      case 'binom':
      case 'dbinom':
      case 'tbinom': {
        const top = this.argument();
        return apply('binomial', top, this.argument());
      }
      // Bars are read from their own token on, as for the sign.
      case 'lvert':
      case 'vert':
        this.at--;
        return this.absolute(name === 'vert' ? 'vert' : 'rvert');
      case '|':
        this.at--;
        return this.absolute('|');
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
    // \varphi is \phi: the form of a letter says nothing.
    if (notValues.has(name) || name.length === 1) throw new Unparsable(`\\${name}`);
    let full = name.replace(/^var(?=[a-z])/, '');
    if (this.accept('_')) {
      const below = this.subscript();
      full += `_${isNumber(below) ? below.value.n : below.kind === 'symbol' ? below.name : '?'}`;
    }
    return { kind: 'symbol', name: full };
  }

  /** "\$5": the unit stands before the value. */
  #currency(): Node {
    const value = this.factor();
    return { kind: 'apply', op: 'unit', args: [value], unit: '$' };
  }

  /** ⌊x⌋ and its like. */
  #between(op: string, close: string): Node {
    const value = this.sum();
    if (!this.accept(close, 'command')) throw new Unparsable(close);
    return apply(op, value);
  }

  /** ℝ, and with what hangs on it a name of its own. */
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

  /** A function with index and exponent before its argument: log_2 x, sin² x, sin⁻¹ x. */
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
    // lg is to the base ten; log without a base is left open, and the comparator tries both.
    let value =
      name === 'log' || name === 'lg'
        ? apply('log', ...args, ...(base ? [base] : [integer(10)]))
        : { kind: 'apply' as const, op: name, args };
    if (name === 'log' && !base) value = apply('log', ...args);
    if (!exponent) return value;
    // sin⁻¹ is the inverse function, sin² a square; of other functions any exponent is a power.
    const isInverse =
      isApply(exponent, 'neg') && isNumber(exponent.args[0]) && exponent.args[0].value.n === 1n;
    return isInverse && /^(?:sin|cos|tan)$/.test(name)
      ? apply(`arc${name}`, ...args)
      : apply('pow', value, exponent);
  }

  /** In brackets, or the factors that follow up to a sign, a dot or another function: sin 2x cos x. */
  #arguments(): Node[] {
    if (this.is('(') || this.is('[')) {
      const group = this.atom();
      return group.kind === 'group' ? [...group.items] : [group];
    }
    // sin −x takes the sign, but not what is added behind it.
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
    // Words that turn out to be no unit are given back, for whoever reads conditions and labels.
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
