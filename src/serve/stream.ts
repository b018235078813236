import type { FinishReason, GeneratedToken, Generation } from '../generate/index.js';
import { type ApiError, toApiError } from './errors.js';
import type { Job } from './request.js';

/** Something that one of several generations did. */
export type StreamEvent =
  | { index: number; token: GeneratedToken }
  | { index: number; finishReason: FinishReason };

/** Tokens and ends of several generations, in the order in which they come. */
export async function* merge(generations: readonly Generation[]): AsyncGenerator<StreamEvent, void> {
  const iterators = generations.map((one) => one[Symbol.asyncIterator]());
  const next = async (index: number) => ({ index, result: await iterators[index]!.next() });
  const pending = new Map(generations.map((_, index) => [index, next(index)]));
  while (pending.size > 0) {
    const { index, result } = await Promise.race(pending.values());
    if (result.done) {
      pending.delete(index);
      yield { index, finishReason: (await generations[index]!.result).finishReason };
    } else {
      pending.set(index, next(index));
      yield { index, token: result.value };
    }
  }
}

/**
 * All that the generations produced, once they have ended.
 * @throws ApiError if one was cancelled
 */
export async function collect(generations: readonly Generation[], job: Job) {
  const tokens: GeneratedToken[][] = generations.map(() => []);
  for await (const event of merge(generations)) {
    if ('token' in event) tokens[event.index]!.push(event.token);
    else if (event.finishReason === 'cancelled') throw job.interruption();
  }
  const results = await Promise.all(generations.map((one) => one.result));
  return results.map(({ text, finishReason }, i) => ({ text, finishReason, tokens: tokens[i]! }));
}

const headers = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  // Proxies such as nginx otherwise collect the events.
  'x-accel-buffering': 'no',
};

/**
 * A response of server-sent events, one object each, and `[DONE]` at the end. It reads on only as the client does.
 * An error in between is sent as an event, as OpenAI's clients expect.
 */
export function eventStream(
  events: AsyncGenerator<object, void>,
  onLeave: () => void,
  onError: (error: unknown) => void,
): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const send = (data: string) => controller.enqueue(encoder.encode(`data: ${data}\n\n`));
      try {
        const { value, done } = await events.next();
        if (!done) return send(JSON.stringify(value));
        send('[DONE]');
        controller.close();
      } catch (error) {
        onError(error);
        const answer: ApiError = toApiError(error);
        // The client may have left meanwhile.
        try {
          send(JSON.stringify(answer));
          controller.close();
        } catch {}
      }
    },
    cancel: onLeave,
  });
  return new Response(body, { headers });
}
