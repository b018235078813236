/** The grammar of answers: numbers, names and words. */
import { Unparsable } from './cursor.js';
import { apply, form, isNumber, type Node } from './node.js';
import { Brackets } from './parse-brackets.js';
import { parseDecimal, type Rational, rational, TooLarge } from './rational.js';

/** Numbers, names and words, with what stands below them. */
export abstract class Names extends Brackets {
  protected abstract atom(): Node;
  protected abstract single(): Node;

  /** Words side by side are one text. */
  protected words(): Node {
    const words: string[] = [];
    while (this.token.kind === 'text' || this.token.kind === 'word') words.push(this.next().text);
    return { kind: 'text', text: words.join(' ') };
  }

  /** A number with what it says about its own precision, a repeating end, and its base. */
  protected number(): Node {
    const { text } = this.next();
    let value = parseDecimal(text);
    if (!value) throw new TooLarge();
    // How many decimals were written decides later whether a rounded value may agree; "3e5" has none, "3" is exact.
    const point = text.indexOf('.');
    let decimals: number | undefined =
      point < 0 ? (/e/i.test(text) ? 0 : undefined) : text.replace(/[eE].*/, '').length - point - 1;
    // "0.\overline{3}": the digits repeat for ever.
    if (
      (this.is('overline', 'command') || this.is('dot', 'command') || this.is('bar', 'command')) &&
      point >= 0
    ) {
      const repeated = this.repeated(value, decimals!);
      if (repeated) [value, decimals] = [repeated, undefined];
    }
    // Leading zeros say nothing of the precision: 0.05 has one significant digit.
    const significant = text
      .replace(/[eE].*/, '')
      .replace('.', '')
      .replace(/^0+/, '').length;
    const node: Node = { kind: 'number', value, significant, ...(decimals !== undefined && { decimals }) };
    // "101_2": the digits were read as decimal ones; evaluation reads them again in their base.
    if (!this.is('_')) return node;
    this.next();
    return apply('base', node, this.subscript());
  }

  /** 0.1(6) and its like as a fraction: the repeated digits over as many nines. */
  protected repeated(start: Rational, decimals: number): Rational | undefined {
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
  protected subscript(): Node {
    if (!this.accept('{')) return this.single();
    const parts: string[] = [];
    const start = this.at;
    // Not parsed as a value: "x_{i,j+1}" is a name, whatever its parts would be worth.
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

  /** A letter with its index: e and i are constants where they have none. */
  protected name(): Node {
    const { text } = this.next();
    let name = text;
    if (this.accept('_')) {
      const below = this.subscript();
      name += `_${isNumber(below) ? below.value.n : below.kind === 'symbol' ? below.name : below.kind === 'constant' ? below.name : '?'}`;
    }
    if (name === 'e' || name === 'i') return { kind: 'constant', name };
    return this.call(name) ?? { kind: 'symbol', name };
  }

  /** f(x): a name of its own, not a product; p(0), too, but not p(x + 1), which may be one. */
  protected call(name: string): Node | undefined {
    if (!/^[fgFGpqPQhH]/.test(name) || !this.is('(')) return undefined;
    const start = this.at;
    const argument = this.atom();
    const isSimple = argument.kind === 'number' || argument.kind === 'symbol' || argument.kind === 'constant';
    if (isSimple || /^[fgFG]/.test(name)) return { kind: 'symbol', name: `${name}(${form(argument)})` };
    this.at = start;
    return undefined;
  }
}
