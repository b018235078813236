import type { SyntaxNode, Tree } from '@lezer/common';
import { parser } from '@lezer/python';

/** Parses Python. The parser recovers from errors: a tree always comes back. */
export const parsePython = (source: string): Tree => parser.parse(source);

/** The children of a node, in order. */
export function children(node: SyntaxNode): SyntaxNode[] {
  const found: SyntaxNode[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) found.push(child);
  return found;
}

/** The source of a node. */
export const textOf = (node: { from: number; to: number }, source: string): string =>
  source.slice(node.from, node.to);

/** The body of a function at the top of a file: its statements, each with the source it spans. */
export function functionBody(source: string, name: string): SyntaxNode[] | undefined {
  for (const node of children(parsePython(source).topNode)) {
    if (node.name !== 'FunctionDefinition') continue;
    const named = node.getChild('VariableName');
    if (!named || textOf(named, source) !== name) continue;
    const body = node.getChild('Body');
    return body
      ? children(body).filter((one) => one.name.endsWith('Statement') || one.name.endsWith('Definition'))
      : [];
  }
  return undefined;
}
