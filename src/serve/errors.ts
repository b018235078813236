import { AnnealError } from '../core/errors.js';

/** A refusal in the shape of OpenAI's API. */
export class ApiError extends Error {
  override name = 'ApiError';

  constructor(
    readonly status: 400 | 401 | 404 | 405 | 413 | 429 | 500 | 503 | 504,
    message: string,
    /** What a program can tell the error by. */
    readonly code: string | null = null,
    /** The field of the request that is wrong. */
    readonly param: string | null = null,
    /** When to try again, for the header. */
    readonly retryAfterSeconds?: number,
  ) {
    super(message);
  }

  /** The body of the answer. */
  toJSON() {
    const { message, param, code } = this;
    return { error: { message, type: typeOf(this.status), param, code } };
  }

  toResponse(): Response {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (this.retryAfterSeconds !== undefined) headers['retry-after'] = String(this.retryAfterSeconds);
    if (this.status === 401) headers['www-authenticate'] = 'Bearer';
    return new Response(JSON.stringify(this), { status: this.status, headers });
  }
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

/** What a handler threw, as an answer: mistakes of the caller are 400, all else is ours. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof AnnealError) return new ApiError(400, error.message);
  // Internals stay in the log.
  return new ApiError(500, 'the server failed to answer this request; its log says why', 'internal_error');
}
