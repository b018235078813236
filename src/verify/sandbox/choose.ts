/**
 * Which sandboxes a machine has. Trying is the only proof: kernels, containers and distributions forbid namespaces
 * in many ways.
 */
import { bubblewrap } from './bubblewrap.js';
import { pyodide } from './pyodide.js';
import { quickjs } from './quickjs.js';
import type { Sandbox, SandboxName, Unusable } from './sandbox.js';

export interface SandboxChoiceOptions {
  /** Only these are considered, in this order; by default all, the fastest first. */
  sandboxes?: readonly SandboxName[];
}

/** What a machine has. */
export interface SandboxChoice {
  /** Usable ones, in order of preference: the first of a language is used. */
  sandboxes: Sandbox[];
  /** Why the others are not. */
  unusable: Unusable[];
}

const makers: Record<SandboxName, () => Promise<Sandbox | Unusable>> = { bubblewrap, pyodide, quickjs };

/**
 * Tries the sandboxes out, each with a real start. A sandbox that comes after a usable one of its language is not
 * tried.
 */
export async function chooseSandboxes(options: SandboxChoiceOptions = {}): Promise<SandboxChoice> {
  const choice: SandboxChoice = { sandboxes: [], unusable: [] };
  const languages: Record<SandboxName, string> = {
    bubblewrap: 'python',
    pyodide: 'python',
    quickjs: 'javascript',
  };
  for (const name of options.sandboxes ?? (Object.keys(makers) as SandboxName[])) {
    if (choice.sandboxes.some(({ language }) => language === languages[name])) continue;
    const made = await makers[name]();
    if ('boot' in made) choice.sandboxes.push(made);
    else choice.unusable.push(made);
  }
  return choice;
}
