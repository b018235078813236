import { Variable } from '../core/variable.js';

/**
 * A module is any object whose properties lead to variables: there is no base class and nothing to register.
 * The path of properties that leads to a variable is its name, in checkpoints and in the optimiser's state.
 */
export type Module = object;

const isWalkable = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !(value instanceof Map);

/**
 * Every module under `root`, by path, parents before children; `root` itself has the path ''.
 * Properties are visited in the order of their creation, an object that is reached twice only the first time.
 */
export function modulesOf(root: Module): Map<string, Module> {
  const found = new Map<string, Module>();
  const seen = new Set<object>();
  const visit = (value: unknown, path: string): void => {
    if (!isWalkable(value) || value instanceof Variable || seen.has(value)) return;
    seen.add(value);
    found.set(path, value);
    for (const [key, child] of Object.entries(value)) visit(child, path === '' ? key : `${path}.${key}`);
  };
  visit(root, '');
  return found;
}

/**
 * Every variable of a module by its path, in the order of creation; a variable that is reached twice (a tied
 * head) is listed under its first path. Variables that have no name of their own yet take their path as name.
 */
export function parametersOf(root: Module): Map<string, Variable> {
  const found = new Map<string, Variable>();
  const seen = new Set<Variable>();
  for (const [path, module] of modulesOf(root)) {
    for (const [key, value] of Object.entries(module)) {
      if (!(value instanceof Variable) || seen.has(value)) continue;
      seen.add(value);
      const name = path === '' ? key : `${path}.${key}`;
      value.nameIfUnnamed(name);
      found.set(name, value);
    }
  }
  return found;
}

/** Number of elements of all variables of a module. */
export const countParameters = (root: Module): number =>
  [...parametersOf(root).values()].reduce((n, p) => n + p.size, 0);
