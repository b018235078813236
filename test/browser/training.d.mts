type Library = typeof import('../../src/browser.js');

/** Losses of a small classifier, 8 -> 16 -> 3, trained by plain gradient descent for 30 steps. */
export function train(
  anneal: Pick<
    Library,
    'crossEntropy' | 'gelu' | 'grad' | 'int32' | 'program' | 'randn' | 'Rng' | 'scalar' | 'variable'
  >,
  device: string,
): Promise<number[]>;
