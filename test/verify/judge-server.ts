import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a client asked. */
export interface Asked {
  path: string;
  headers: IncomingMessage['headers'];
  body: {
    model: string;
    messages: { role: string; content: string }[];
    temperature: number;
    max_tokens?: number;
    max_completion_tokens?: number;
    seed?: number;
    stream?: boolean;
    [field: string]: unknown;
  };
}

export type Answer = (response: ServerResponse, asked: Asked) => void;

/** A reply as the API sends it. */
export const reply =
  (text: string | null, finish = 'stop', more: Record<string, unknown> = {}): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(
      JSON.stringify({
        id: 'x',
        object: 'chat.completion',
        choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: finish }],
        usage: { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 },
        ...more,
      }),
    );
  };

/** A refusal as the API sends it. */
export const refuse =
  (
    status: number,
    headers: Record<string, string> = {},
    body: unknown = { error: { message: 'no' } },
  ): Answer =>
  (response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };

export const yes = reply('They agree.\nFinal Judgment: Yes');
export const no = reply('They differ.\nFinal Judgment: No');

/** A server on this machine that speaks the OpenAI API. It answers from `script` first, then as `otherwise` says. */
export class JudgeServer {
  readonly asked: Asked[] = [];
  script: Answer[] = [];
  otherwise: Answer = yes;
  /** Requests that are being answered, and the most there were at once. */
  running = 0;
  peak = 0;
  url = '';
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  reset(): void {
    this.asked.length = 0;
    this.script = [];
    this.otherwise = yes;
    this.peak = 0;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.running++;
    this.peak = Math.max(this.peak, this.running);
    response.on('close', () => this.running--);
    let text = '';
    for await (const piece of request.setEncoding('utf8')) text += piece;
    const asked = { path: request.url!, headers: request.headers, body: JSON.parse(text) } as Asked;
    this.asked.push(asked);
    (this.script.shift() ?? this.otherwise)(response, asked);
  }
}
