/** What to do when a signal is aborted, by signal. */
const listeners = new WeakMap<AbortSignal, { all: Set<() => void>; listener: () => void }>();

/**
 * Calls back when a signal is aborted. However many wait, the signal has one listener: Node warns of more than ten, and
 * what `AbortSignal.any` makes is never freed in Node 20 while it has a listener and its sources live.
 * @returns stops waiting; to be called in any case
 */
export function whenAborted(signal: AbortSignal, callback: () => void): () => void {
  let entry = listeners.get(signal);
  if (!entry) {
    const all = new Set<() => void>();
    const listener = () => {
      listeners.delete(signal);
      for (const one of [...all]) one();
    };
    entry = { all, listener };
    listeners.set(signal, entry);
    signal.addEventListener('abort', listener, { once: true });
  }
  const { all, listener } = entry;
  all.add(callback);
  return () => {
    all.delete(callback);
    if (all.size > 0 || listeners.get(signal)?.all !== all) return;
    listeners.delete(signal);
    signal.removeEventListener('abort', listener);
  };
}
