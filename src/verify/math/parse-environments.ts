/** The grammar of answers: matrices, cases and other environments of LaTeX. */
import type { Node } from './node.js';
import { TooLarge } from './rational.js';
import type { Token } from './tokens.js';

/** What an environment needs of the parser. */
export interface Inner {
  readonly token: Token;
  next(): Token;
  accept(text: string, kind?: Token['kind']): boolean;
  is(text: string, kind?: Token['kind']): boolean;
  item(): Node;
}

/** "{name}" after \begin or \end. */
function nameOf(parser: Inner): string {
  let name = '';
  if (parser.accept('{'))
    while (parser.token.kind !== 'end' && !parser.accept('}')) name += parser.next().text;
  return name;
}

/** "{cc|c}" after an array's name. */
function skipColumns(parser: Inner): void {
  if (!parser.accept('{')) return;
  while (parser.token.kind !== 'end' && !parser.accept('}')) parser.next();
}

/**
 * The environment that \begin opens: matrices as such; cases and aligned equations as a list of their rows, in
 * which `&` is only a mark.
 */
export function environment(parser: Inner): Node {
  const name = nameOf(parser);
  if (name.startsWith('array') || name.startsWith('tabular')) skipColumns(parser);
  const isMatrix = /matrix|array|tabular/.test(name);
  const rows: Node[][] = [[]];
  let cells = 0;
  while (!parser.is('end', 'command')) {
    if (parser.token.kind === 'end' || ++cells > 2000) throw new TooLarge();
    if (parser.token.kind === 'row') {
      parser.next();
      rows.push([]);
    } else if (
      parser.accept('hline', 'command') ||
      parser.accept('&') ||
      parser.accept(',') ||
      parser.accept(';')
    )
      continue;
    else rows.at(-1)!.push(parser.item());
  }
  parser.next();
  nameOf(parser);
  const full = rows.filter((row) => row.length > 0);
  const isSystem = !isMatrix || full.some((row) => row.some((cell) => cell.kind === 'relation'));
  return isSystem ? { kind: 'list', items: full.flat() } : { kind: 'matrix', rows: full };
}
