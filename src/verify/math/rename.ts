import { children, mapChildren, type Node } from './node.js';

/** Names inside of a symbol's name: f and x of "f(x)", which is read as one symbol before an equals sign. */
const parts = /[\p{L}]\w*/gu;

/** The names of a node in the order in which they are written, each once. */
function namesOf(node: Node, found = new Set<string>()): Set<string> {
  if (node.kind === 'symbol') for (const [name] of node.name.matchAll(parts)) found.add(name);
  for (const child of children(node)) namesOf(child, found);
  return found;
}

/**
 * The answer with its symbols named as the reference's are, first to first and so on: "2a + b" for "2x + y". Undefined
 * where one has more symbols than the other, or the names are the same anyway.
 */
export function renamedLike(answer: Node, reference: Node): Node | undefined {
  const [own, wanted] = [[...namesOf(answer)], [...namesOf(reference)]];
  if (own.length !== wanted.length || own.every((name, i) => name === wanted[i])) return undefined;
  // All at once: "2y + x" for "2x + y" swaps the two.
  const named = new Map(own.map((name, i) => [name, wanted[i]!]));
  const walk = (node: Node): Node =>
    node.kind === 'symbol'
      ? { ...node, name: node.name.replace(parts, (name) => named.get(name) ?? name) }
      : mapChildren(node, walk);
  return walk(answer);
}
