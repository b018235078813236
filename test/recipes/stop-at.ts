import type { LaunchOptions } from '../../src/recipes/launch.js';

/** A signal that is aborted as soon as the run shows a text, and the stream that waits for it. */
export function stopAt(pattern: RegExp): Pick<LaunchOptions, 'signal' | 'stream'> {
  const abort = new AbortController();
  let shown = '';
  const write = (text: string) => {
    shown += text;
    if (pattern.test(shown)) abort.abort();
  };
  return { signal: abort.signal, stream: { write, isTTY: false, columns: 100 } };
}
