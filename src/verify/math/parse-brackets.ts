/**
 * The grammar of answers: brackets, bars and what they enclose. Ends of intervals may differ, so that "[0, 1)" and
 * "]0, 1[" are read.
 */
import { Cursor, Unparsable } from './cursor.js';
import { apply, type Node } from './node.js';

/** Brackets of all kinds: tuples, intervals, sets, their conditions, and absolute values. */
export abstract class Brackets extends Cursor {
  abstract sum(): Node;
  abstract item(): Node;
  abstract factor(): Node;
  protected abstract name(): Node;

  /** A value that begins with a bracket, a bar or a sign of money. */
  protected bracketed(open: string): Node {
    if (open === '{') {
      this.next();
      return this.group('{', true);
    }
    if (open === '(' || open === '[' || open === ']') {
      this.next();
      return this.group(open === ']' ? '(' : open, false);
    }
    if (open === '|') return this.absolute('|');
    if ('€£¥'.includes(open)) {
      this.next();
      return { kind: 'apply', op: 'unit', args: [this.factor()], unit: open };
    }
    throw new Unparsable(open);
  }

  /** |x|. A bar looks the same at both ends, so the cursor counts those that are open: while one is, a bar begins no factor. */
  protected absolute(bar: string): Node {
    this.next();
    this.bars++;
    const outer = this.bars;
    const value = this.sum();
    if (this.bars !== outer || !(this.accept(bar) || this.accept(bar, 'command')))
      throw new Unparsable('bars');
    this.bars--;
    return apply('abs', value);
  }

  /** Passes over separators; whether an item follows rather than the closing bracket, which must not be missing. */
  private atItem(): boolean {
    while (!this.isCloser()) {
      if (this.token.kind === 'end') throw new Unparsable('bracket');
      if (!this.isSeparator()) return true;
      this.next();
    }
    return false;
  }

  /** Items up to a closing bracket. Invisible braces hold one item, or a set written without its backslashes. */
  protected group(open: '(' | '[' | '{', isInvisible: boolean): Node {
    this.enter();
    // Inside brackets bars begin anew: in |(|x| + 1)| the inner one does not close the outer one.
    const outerBars = this.bars;
    this.bars = 0;
    const items: Node[] = [];
    while (this.atItem()) {
      if (open === '{' && (this.is('|') || this.is(':') || this.is('mid', 'command')) && items.length > 0) {
        this.next();
        const conditions = this.rest();
        this.next();
        this.leave();
        this.bars = outerBars;
        return {
          kind: 'builder',
          element: items.length === 1 ? items[0]! : { kind: 'list', items },
          condition: conditions,
        };
      } else items.push(open === '{' ? this.element() : this.item());
      if (
        !this.isCloser() &&
        !this.isSeparator() &&
        !(open === '{' && (this.is('|') || this.is(':') || this.is('mid', 'command')))
      )
        throw new Unparsable(this.token.text);
    }
    const { text: close } = this.next();
    this.leave();
    this.bars = outerBars;
    // "${1, 3}$": braces that LaTeX does not show; set or tuple, nobody knows.
    if (isInvisible && items.length > 1) return { kind: 'list', items };
    // One item in brackets is itself: (3), and [3], too; a word in square brackets stays what it is.
    if (
      items.length === 1 &&
      (isInvisible ||
        (open === '(' && close === ')') ||
        (open === '[' && close === ']' && items[0]!.kind !== 'text'))
    )
      return items[0]!;
    // "]0, 1[" has become "(0, 1)": what opens outward was read as a round bracket by `bracketed`.
    return { kind: 'group', open, close: close === '[' ? ')' : (close as ')'), items };
  }

  /** An element of a set: where a colon follows, the set's condition, not a ratio. */
  protected element(): Node {
    const ahead = this.tokens[this.at + 1];
    if (
      this.token.kind === 'letter' &&
      ahead &&
      (ahead.text === '|' || ahead.text === ':' || ahead.text === 'mid')
    )
      return this.name();
    return this.item();
  }

  /** The conditions of a set builder, up to the bracket that closes it. */
  protected rest(): Node {
    const items: Node[] = [];
    while (this.atItem()) {
      items.push(this.item());
      if (!this.isCloser() && !this.isSeparator()) throw new Unparsable(this.token.text);
    }
    return items.length === 1 ? items[0]! : { kind: 'list', items };
  }

  /** Any bracket that closes: which one it must be is the caller's affair, as the ends of intervals may differ. */
  protected isCloser(): boolean {
    const { kind, text } = this.token;
    return (
      (kind === 'sign' &&
        (text === ')' || text === ']' || text === '}' || (text === '[' && this.closesOutward()))) ||
      (kind === 'command' && (text === '}' || text === 'rangle' || text === 'rbrace'))
    );
  }

  /** "]0, 1[": the French way. */
  protected closesOutward(): boolean {
    const after = this.tokens[this.at + 1];
    return after === undefined || after.kind === 'end' || (after.kind === 'command' && after.text === 'cup');
  }
}
