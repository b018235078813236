/** A mistake in the caller's code or data: one sentence that names the thing, the value and the remedy. */
export class AnnealError extends Error {
  override name = 'AnnealError';
}

/** Where user code made a tensor; formatted only when it is asked for. */
export interface Origin {
  stack?: string;
}

/** Folder that holds the library's own modules; frames from it are not the user's. */
const libraryRoot = new URL('..', import.meta.url).href;

/** Remembers the current call stack. V8 formats it lazily, so the cost is about a microsecond. */
export function captureOrigin(): Origin {
  const origin: Origin = {};
  // Frames of the library lie on top of the user's; keep enough of them to reach it.
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 24;
  (Error as { captureStackTrace?: (target: object, below?: unknown) => void }).captureStackTrace?.(
    origin,
    captureOrigin,
  );
  Error.stackTraceLimit = limit;
  return origin;
}

/** `file:line:column` of the first frame outside the library, or undefined. */
export function userFrame(origin: Origin): string | undefined {
  const libraryPath = libraryRoot.replace(/^file:\/\//, '');
  for (const line of origin.stack?.split('\n').slice(1) ?? []) {
    const place = /\(?((?:file:\/\/|\/|https?:\/\/|[A-Za-z]:\\)[^()]*:\d+:\d+)\)?$/.exec(line.trim())?.[1];
    if (!place || place.startsWith('node:') || place.includes('node:internal')) continue;
    const path = place.replace(/^file:\/\//, '');
    const isRecipe = path.startsWith(`${libraryPath}recipes/`);
    if ((place.startsWith(libraryRoot) || path.startsWith(libraryPath)) && !isRecipe) continue;
    return path;
  }
  return undefined;
}

/** ` (at file:line:column)` or the empty string. */
export function atUserFrame(origin: Origin): string {
  const frame = userFrame(origin);
  return frame ? ` (at ${frame})` : '';
}
