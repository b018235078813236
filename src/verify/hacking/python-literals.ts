/** Literals of Python as plain values, so that the literals of programs and of tests are compared by value. */
import type { SyntaxNode } from '@lezer/common';
import { children, textOf } from '../code/python-syntax.js';
import type { Wire } from '../sandbox/plain.js';

// What the parser gives besides the items of a list.
const punctuation = new Set(['(', ')', '[', ']', '{', '}', ',', ':', 'Comment']);

/** The items of a bracketed expression. */
export const itemsOf = (node: SyntaxNode): SyntaxNode[] =>
  children(node).filter(({ name }) => !punctuation.has(name));

/** Escapes of a string that are one character; numeric ones are decoded apart. */
const escapes: Record<string, string> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\n': '',
};

/** A text or bytes as they are at run time; undefined for what is only known then, such as f-strings. */
function stringValue(text: string): Wire | undefined {
  const match = /^([a-zA-Z]*)('''|"""|'|")([\s\S]*)\2$/.exec(text);
  if (!match) return undefined;
  const prefix = match[1]!.toLowerCase();
  if (prefix.includes('f')) return undefined;
  // Raw strings keep their backslashes; an unknown escape keeps its own, too, as in Python.
  const body = prefix.includes('r')
    ? match[3]!
    : match[3]!.replace(
        /\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|\n|.)/g,
        (whole, code: string) => {
          if (/^[xuU]/.test(code) && code.length > 1) {
            const point = Number.parseInt(code.slice(1), 16);
            return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
          }
          if (/^[0-7]/.test(code)) return String.fromCharCode(Number.parseInt(code, 8));
          return escapes[code] ?? whole;
        },
      );
  return prefix.includes('b') ? ['b', Buffer.from(body, 'latin1').toString('hex')] : body;
}

/** Integers of any base and length, and floats. */
function numberValue(text: string): Wire | undefined {
  const plain = text.replace(/_/g, '').toLowerCase();
  if (/^0[xob]/.test(plain)) return ['i', String(BigInt(plain))];
  if (/^\d+$/.test(plain)) return ['i', String(BigInt(plain))];
  // As written: comparing reads it as a double on either side. Imaginary numbers are left out.
  if (/^[\d.]+(e[-+]?\d+)?$/.test(plain)) return ['f', plain];
  return undefined;
}

/** Python has no negative literals: −3 is an operation on 3. */
function negated(value: Wire | undefined): Wire | undefined {
  if (!Array.isArray(value) || (value[0] !== 'i' && value[0] !== 'f')) return undefined;
  const text = value[1];
  return [value[0], text.startsWith('-') ? text.slice(1) : `-${text}`];
}

/** Calls that only change the type of a literal. */
const constructors: Record<string, 't' | 's' | 'l' | undefined> = {
  tuple: 't',
  list: 'l',
  set: 's',
  frozenset: 's',
};

/** Every node as a literal, or nothing: half a table would be another table. */
function allOf(nodes: readonly SyntaxNode[], source: string): Wire[] | undefined {
  const values = nodes.map((one) => pythonLiteral(one, source));
  return values.every((one): one is Wire => one !== undefined) ? values : undefined;
}

/** Pairs of a display `{key: value}`; one that unpacks another is no literal. */
function dictionary(node: SyntaxNode, source: string): Wire | undefined {
  const items = children(node).filter(({ name }) => !['{', '}', ',', 'Comment'].includes(name));
  const pairs: [Wire, Wire][] = [];
  for (let i = 0; i < items.length; i += 3) {
    if (items[i + 1]?.name !== ':') return undefined;
    const key = pythonLiteral(items[i]!, source);
    const value = items[i + 2] && pythonLiteral(items[i + 2]!, source);
    if (key === undefined || value === undefined) return undefined;
    pairs.push([key, value]);
  }
  return ['d', pairs];
}

/** The value of a syntax tree that is a literal through and through, `set((1, 2))` and `1 + 2j` included. */
export function pythonLiteral(node: SyntaxNode, source: string): Wire | undefined {
  const text = () => textOf(node, source);
  switch (node.name) {
    case 'Number':
      return numberValue(text());
    case 'String':
      return stringValue(text());
    // "ab" 'cd': texts side by side are one.
    case 'ContinuedString': {
      const parts = allOf(children(node), source);
      return parts?.every((one) => typeof one === 'string') ? parts.join('') : undefined;
    }
    case 'Boolean':
      return text() === 'True';
    case 'None':
      return null;
    case 'UnaryExpression':
      return node.firstChild?.name === 'ArithOp' && textOf(node.firstChild, source) === '-'
        ? negated(node.lastChild ? pythonLiteral(node.lastChild, source) : undefined)
        : undefined;
    case 'ParenthesizedExpression':
    case 'LiteralPattern':
    case 'AsPattern': {
      const [inner] = itemsOf(node);
      return inner && pythonLiteral(inner, source);
    }
    case 'ArrayExpression':
    case 'TupleExpression':
    case 'SetExpression':
    case 'SequencePattern': {
      const values = allOf(itemsOf(node), source);
      const tag = node.name === 'ArrayExpression' ? 'l' : node.name === 'SetExpression' ? 's' : 't';
      return values && [tag, values];
    }
    case 'DictionaryExpression':
      return dictionary(node, source);
    case 'CallExpression': {
      const tag = node.firstChild && constructors[textOf(node.firstChild, source)];
      const list = node.getChild('ArgList');
      const args = list ? itemsOf(list) : [];
      if (!tag || args.length > 1) return undefined;
      if (args.length === 0) return [tag, []];
      const value = pythonLiteral(args[0]!, source);
      if (!Array.isArray(value) || (value[0] !== 'l' && value[0] !== 't' && value[0] !== 's'))
        return undefined;
      return [tag, value[1]];
    }
    default:
      return undefined;
  }
}
