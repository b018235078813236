/** How often, and after what pauses, a call is tried again. */
export interface RetryOptions {
  /** Further tries after the first. Default 4. */
  retries?: number;
  /** Pause before the second try in milliseconds; doubles from try to try. Default 500. */
  firstPauseMs?: number;
  /** Longest pause. A server that asks for a longer one is given up. Default 60 000. */
  maxPauseMs?: number;
}

/**
 * Milliseconds that a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date.
 * @param now milliseconds since the epoch
 */
export function retryAfter(headers: Headers, now = Date.now()): number | undefined {
  const exact = Number(headers.get('retry-after-ms') ?? Number.NaN);
  if (Number.isFinite(exact) && exact >= 0) return exact;
  const value = headers.get('retry-after')?.trim();
  if (!value) return undefined;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/**
 * Pause before try `attempt` (1 = the second): doubled each time, of which a random half is left out, so that
 * clients who failed together do not come back together.
 */
export function backoff(
  attempt: number,
  options: RetryOptions = {},
  random: () => number = Math.random,
): number {
  const { firstPauseMs = 500, maxPauseMs = 60_000 } = options;
  const whole = Math.min(maxPauseMs, firstPauseMs * 2 ** (attempt - 1));
  return whole * (0.5 + 0.5 * random());
}

/** Waits. @throws the signal's reason if it aborts meanwhile */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', end);
      resolve();
    }, ms);
    signal?.addEventListener('abort', end, { once: true });
  });
}
