import type { ServerResponse } from 'node:http';
import { AnnealError } from '../../core/errors.js';
import { JudgeError } from '../judge/chat.js';

/** What a client gets instead of verdicts: a status, and one sentence in JSON. */
export class HttpError extends Error {
  readonly status: number;
  /** Short stable code: `bad_row`, `body_too_large`, `queue_full`, … */
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** The error that a client sees for what was thrown; what is no fault of the client's says nothing of our insides. */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  // Before AnnealError, which it is too: a judge behind us that fails is no mistake of the client's.
  if (error instanceof JudgeError) return new HttpError(502, `judge_${error.failure}`, error.message);
  if (error instanceof AnnealError) return new HttpError(400, 'bad_request', error.message);
  return new HttpError(500, 'internal_error', 'the verifier failed; the server has logged why');
}

/** The body of an error, the same for a whole response and for a line of a batch. */
export const errorBody = ({ code, message }: HttpError) => ({ error: { code, message } });

/** Answers with JSON. */
export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}
